"""What a folder holds that a report can be about: told by the files' content, not by their names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sen_edge.errors import UsageError
from sen_edge.model.checkpoint import SUFFIXES
from sen_edge.model.model import IMAGE_SUFFIX
from sen_runtime.bench import record
from sen_runtime.errors import SenError
from sen_runtime.untrusted import load_json, read_regular

#: No file of JSON that is reported on is larger; a record with all samples may be, and is left out.
MOST_BYTES = 32 << 20


@dataclass(frozen=True)
class RunFolder:
    """A folder, read; all by file name, in the order of the names.

    Attributes:
        path: of the folder.
        models: checkpoints and images.
        exports: manifests of `sen-edge export`.
        compressions: manifests of `sen-edge compress`.
        records: of benchmarks.
        others: bytes of every file that is none of these.
        notes: files that could not be read, in sentences.
    """

    path: Path
    models: Mapping[str, Path]
    exports: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    compressions: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    records: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    others: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_folder(path: Path) -> RunFolder:
    """Read a folder; folders in it are not looked at.

    Raises:
        UsageError: it is none, or there is nothing in it to report on.
    """
    if not path.is_dir():
        raise UsageError(f"{path} is a file; expected a folder" if path.exists() else f"{path} does not exist")
    models: dict[str, Path] = {}
    others: dict[str, int] = {}
    notes: list[str] = []
    found: dict[str, dict[str, dict[str, Any]]] = {"export": {}, "compression": {}, "record": {}}
    for file in sorted(each for each in path.iterdir() if each.is_file() and not each.name.startswith(".")):
        if file.suffix in (*SUFFIXES, IMAGE_SUFFIX):
            models[file.name] = file
            continue
        try:
            kind, value = _json(file) if file.suffix == ".json" else ("", {})
        except SenError as error:
            notes.append(error.message)
            kind, value = "", {}
        if kind:
            found[kind][file.name] = value
        else:
            others[file.name] = file.stat().st_size
    if not models and not any(found.values()):
        raise UsageError(
            f"{path} holds nothing to report on",
            hint="expected models, manifests, or records of sen-runtime bench --json",
        )
    return RunFolder(path, models, found["export"], found["compression"], found["record"], others, tuple(notes))


def _json(file: Path) -> tuple[str, dict[str, Any]]:
    """What kind of JSON it is, and its content; an empty kind for what is not ours.

    Raises:
        FileError: it is too large, or no JSON.
        RecordError: a record that contradicts itself.
    """
    value = load_json(read_regular(file, MOST_BYTES), file.name)
    if not isinstance(value, dict):
        return "", {}
    if value.get("schema") == record.SCHEMA:
        return "record", record.read(file)
    if isinstance(value.get("artifacts"), list) and "manifest_version" in value:
        return "export", value
    if all(isinstance(value.get(name), dict) for name in ("before", "after", "request")):
        return "compression", value
    return "", {}
