"""Names of C exports: C identifiers without a meaning to compilers, libraries and build systems."""

from __future__ import annotations

import re
from importlib.resources import files

from sen_exporters.base import ExportError

_LINES = (files(__package__) / "reserved_names.txt").read_text(encoding="utf-8").splitlines()
#: What the files, their header, and a CMake target cannot be called, in lower case.
RESERVED = frozenset(name for line in _LINES if not line.startswith("#") for name in line.split())


def identifier(stem: str) -> str:
    """The stem of a file as a C identifier: letters, digits, and `_` for all else.

    Raises:
        ExportError: the identifier is empty, or has a meaning of its own.
    """
    name = re.sub(r"[^A-Za-z0-9]+", "_", stem).strip("_")
    if re.match(r"[0-9]", name):
        name = f"net_{name}"
    hint = "give another with --name"
    if not name:
        raise ExportError(f"the name {stem!r} has no letters or digits that C takes", hint)
    if name.lower() in RESERVED or re.match(r"sen(_|$)", name.lower()):
        raise ExportError(
            f"the name {stem!r} becomes {name!r} in C, which has a meaning of its own there or in CMake", hint
        )
    return name
