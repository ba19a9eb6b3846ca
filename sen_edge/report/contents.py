"""Contents of a report: models, manifests, records and histories, given as files or in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sen_edge.errors import UsageError
from sen_edge.model.model import SUFFIXES
from sen_runtime.bench import history, record
from sen_runtime.errors import SenError
from sen_runtime.untrusted import load_json, read_regular

#: Bytes of a JSON file; larger ones, such as records with all samples, are not reported.
MAX_BYTES = 32 << 20
EXPECTED = "expected a folder, a model, a manifest, a record of `bench --json`, or a history of `bench --history`"

Kind = Literal["model", "export", "compression", "record", "history", "other"]


@dataclass(frozen=True)
class Item:
    """A file, or one record of a file with several.

    Attributes:
        name: file name, or the path if several paths are reported; unique.
        path: of the file.
        kind: of the content.
        value: parsed JSON; a `History` of a history; None of models and other files.
    """

    name: str
    path: Path
    kind: Kind
    value: Any = None


@dataclass(frozen=True)
class Contents:
    """Items in the order of the paths and, in folders, of the names; notes name unreadable files."""

    items: tuple[Item, ...]
    paths: tuple[Path, ...]
    notes: tuple[str, ...] = ()

    def of(self, kind: Kind) -> list[Item]:
        """Items of one kind."""
        return [item for item in self.items if item.kind == kind]


def read(paths: Sequence[Path]) -> Contents:
    """Read files, and the files of folders without their subfolders.

    A damaged file in a folder becomes a note and an item of the kind "other".

    Raises:
        UsageError: a path does not exist or is of no known kind; a folder holds nothing to report.
        SenError: a given file is damaged.
    """
    items: list[Item] = []
    notes: list[str] = []
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path} does not exist", hint=EXPECTED)
        found: list[Item] = [] if path.is_dir() else _read_file(path, str(path))
        for each in sorted(path.iterdir()) if path.is_dir() else ():
            if not each.is_file() or each.name.startswith("."):
                continue
            name = each.name if len(paths) == 1 else str(each)
            try:
                found += _read_file(each, name)
            except SenError as error:
                notes.append(error.message)
                found.append(Item(name, each, "other"))
        if all(item.kind == "other" for item in found):
            raise UsageError(f"{path} holds nothing to report on", hint=EXPECTED)
        items += found
    return Contents(tuple(items), tuple(paths), tuple(notes))


def _read_file(path: Path, name: str) -> list[Item]:
    """Items of a file: several for a list of records, else one.

    Raises:
        SenError: it is damaged.
    """
    if path.suffix in SUFFIXES:
        return [Item(name, path, "model")]
    if path.suffix == ".jsonl":
        return [Item(name, path, "history", history.read(path))]
    value = load_json(read_regular(path, MAX_BYTES), str(path)) if path.suffix == ".json" else None
    if isinstance(value, list) and value and all(map(_is_record, value)):
        records = [record.parse(each, f"{path}: record {index}") for index, each in enumerate(value)]
        return [Item(f"{name}: {_host(each) or index}", path, "record", each) for index, each in enumerate(records)]
    if _is_record(value):
        return [Item(name, path, "record", record.parse(value, str(path)))]
    kind: Kind = "other"
    if isinstance(value, dict):
        if isinstance(value.get("artifacts"), list) and "manifest_version" in value:
            kind = "export"
        elif all(isinstance(value.get(key), dict) for key in ("before", "after", "request")):
            kind = "compression"
    return [Item(name, path, kind, value)]


def _is_record(value: Any) -> bool:
    return isinstance(value, dict) and value.get("schema") == record.SCHEMA


def _host(each: dict[str, Any]) -> str:
    """Host of a record of `sen-edge bench --host`, or nothing."""
    last = each["command"][-1] if each["command"] else ""
    return str(last.removeprefix("--host=")) if last.startswith("--host=") else ""
