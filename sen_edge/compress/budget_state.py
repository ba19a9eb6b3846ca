"""What a search has measured so far, kept in a file, so that an interrupted one goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sen_edge.data.datasets import Dataset
from sen_edge.errors import OutputError, UsageError
from sen_runtime import format as image
from sen_runtime.errors import SenError
from sen_runtime.files import write_atomic
from sen_runtime.ir.network import Network
from sen_runtime.untrusted import load_json, read_regular

FORMAT = "sen-edge-search"
VERSION = 1
#: Of a state file; a search with a thousand candidates takes 0.2 MB.
MOST_BYTES = 1 << 26


def state_path(out: Path) -> Path:
    """Where the search for `out` keeps what it measured."""
    return out.with_name(f"{out.name}.search.json")


@dataclass
class Memory:
    """Figures by key.

    Attributes:
        path: of the file; None to keep nothing.
        subject: what they are figures of.
        values: by key.
    """

    path: Path | None
    subject: Mapping[str, Any]
    values: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path | None, network: Network, dataset: Dataset, request: Mapping[str, Any]) -> Memory:
        """What was kept of a search for the same thing; empty where there is nothing.

        Raises:
            UsageError: the file belongs to another search, or is none.
        """
        subject = {
            "network": hashlib.sha256(image.dumps(replace(network, metadata={}))).hexdigest(),
            "data": dataset.sha256,
            **{name: list(value) if isinstance(value, tuple) else value for name, value in request.items()},
        }
        if path is None or not path.exists():
            return cls(path, subject)
        hint = f"remove {path} to search anew"
        try:
            state = load_json(read_regular(path, MOST_BYTES), str(path))
            if (state["format"], state["version"]) != (FORMAT, VERSION):
                raise ValueError("another format")
            before, values = dict(state["subject"]), dict(state["values"])
            model = values.pop("cost model", None)
            values = {name: float(value) for name, value in values.items()}
            values |= {} if model is None else {"cost model": dict(model)}
        except (SenError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path} is not the state of an interrupted search: {error}", hint) from error
        if before != subject:
            names = [name for name in subject if before.get(name) != subject[name]]
            raise UsageError(f"{path} belongs to a search with another {', '.join(names)}", hint)
        return cls(path, subject, values)

    def recall(self, key: str, find: Callable[[], float]) -> float:
        """The figure under `key`, found and kept if it is not known yet."""
        if key not in self.values:
            self.keep(key, find())
        return float(self.values[key])

    def keep(self, key: str, value: Any) -> None:
        """Keep a value that JSON can hold.

        Raises:
            OutputError: the file cannot be written.
        """
        self.values[key] = value
        if self.path is None:
            return
        state = {"format": FORMAT, "version": VERSION, "subject": dict(self.subject), "values": self.values}
        try:
            write_atomic(self.path, json.dumps(state, indent=1).encode())
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}") from error
