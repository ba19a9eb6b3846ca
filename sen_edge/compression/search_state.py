"""State file of a search: its figures, so an interrupted search resumes without measuring them again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
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
VERSION = 3
#: A search with a thousand candidates takes 0.2 MB.
MAX_BYTES = 1 << 26

Figures = tuple[float, ...]


def state_path(out: Path) -> Path:
    """Return the path of the state file of the search for `out`."""
    return out.with_name(f"{out.name}.search.json")


@dataclass
class SearchState:
    """Figures by key, of one network, data set and request; without a path they are kept in memory alone."""

    path: Path | None
    subject: Mapping[str, Any]
    figures: dict[str, Figures] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path | None, network: Network, dataset: Dataset, request: Mapping[str, Any]) -> SearchState:
        """Read the state of an interrupted search; empty without a file.

        Raises:
            UsageError: the file belongs to another search, or is damaged.
        """
        subject = {
            "network": hashlib.sha256(image.dumps(replace(network, metadata={}))).hexdigest(),
            "data": dataset.sha256,
            **json.loads(json.dumps(request)),
        }
        if path is None or not path.exists():
            return cls(path, subject)
        hint = f"remove {path} to start over"
        try:
            state = load_json(read_regular(path, MAX_BYTES), str(path))
            if (state["format"], state["version"]) != (FORMAT, VERSION):
                raise ValueError("another format")
            before = dict(state["subject"])
            figures = {name: tuple(map(float, values)) for name, values in dict(state["figures"]).items()}
        except (SenError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path} is not the state of an interrupted search: {error}", hint) from error
        if before != subject:
            names = [name for name in subject if before.get(name) != subject[name]]
            raise UsageError(f"{path} belongs to a search with another {', '.join(names)}", hint)
        return cls(path, subject, figures)

    def recall(self, key: str, compute: Callable[[], Sequence[float]]) -> Figures:
        """The figures under `key`; computed and written to the file if they are new.

        Raises:
            OutputError: the file cannot be written.
        """
        if key in self.figures:
            return self.figures[key]
        self.figures[key] = tuple(map(float, compute()))
        state = {"format": FORMAT, "version": VERSION, "subject": self.subject, "figures": self.figures}
        try:
            if self.path is not None:
                write_atomic(self.path, json.dumps(state, indent=1).encode())
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}") from error
        return self.figures[key]
