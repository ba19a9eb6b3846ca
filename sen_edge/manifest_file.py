"""Manifest of an export as a file, and the files that it lists; entries: docs/reference/verification.md."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from sen_edge.errors import OutputError
from sen_runtime.errors import SenError
from sen_runtime.untrusted import load_json, quote, read_regular

VERSION = 4
SUFFIX = ".manifest.json"
#: Max bytes of a manifest; real ones have a few kB.
MAX_BYTES = 1 << 26


def read(path: Path) -> dict[str, Any] | None:
    """Read a manifest of this version; None for anything else."""
    try:
        found = load_json(read_regular(path, MAX_BYTES), str(path))
        if found["manifest_version"] != VERSION:
            return None
        for artifact in found["artifacts"]:
            str(artifact["target"])
            for facts in artifact["files"].values():
                int(facts["bytes"]), str(facts["sha256"])
        str(found["input"]["sha256"]), dict(found["left_out"]), list(found["warnings"])
    except (SenError, KeyError, TypeError, ValueError, AttributeError):
        return None
    return dict(found)


def read_files(folder: Path, artifact: Mapping[str, Any]) -> dict[str, bytes]:
    """Read the files of an artifact by their names relative to the folder of the manifest.

    Raises:
        OutputError: a file is missing, is not the one that was exported, or lies outside the folder.
    """
    return {name: _read_file(folder, name, facts["sha256"]) for name, facts in artifact["files"].items()}


def is_unchanged(folder: Path, artifact: Mapping[str, Any]) -> bool:
    """Return whether the files of an artifact match their hashes."""
    try:
        read_files(folder, artifact)
    except SenError:
        return False
    return True


def _read_file(folder: Path, name: str, sha256: str) -> bytes:
    path = folder / name
    parts = PurePath(name).parts
    if not parts or ".." in parts or PurePath(name).is_absolute():
        raise OutputError(f"{folder}: the manifest lists {quote(name)}; expected a file of this folder")
    data = read_regular(path, error=OutputError)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise OutputError(f"{path} is a link out of {folder}", hint="copy the file there")
    if hashlib.sha256(data).hexdigest() != sha256:
        raise OutputError(f"{path} is not the file that its manifest describes", hint="export it again")
    return data
