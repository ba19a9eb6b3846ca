"""Untrusted files: bounded reading and parsing, and safe quotation in messages.

Every reader of files starts here: regular files only, documents of bounded depth, numbers within float64, encodable
text. Quoted content is short, on one line, and without control characters. Functions raise the subclass of `SenError`
that the caller names as `error`.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
import sys
from collections.abc import Iterable, Mapping, Sequence
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import Any

from sen_runtime.errors import SenError

#: Max depth of a document; no format needs ten levels.
MAX_DEPTH = 64
#: Max digits of an integer literal; float64 ends at 309.
MAX_DIGITS = 400
#: Max characters of a message line.
MAX_MESSAGE = 2000
#: Max lines of a message.
MAX_LINES = 100
#: Max depth and items of a quoted value.
QUOTED_DEPTH, QUOTED_ITEMS = 3, 4

#: Kinds of files by the first character of their mode.
_KINDS = {"d": "a folder", "p": "a pipe", "s": "a socket", "c": "a device", "b": "a device"}


class FileError(SenError):
    """A file cannot be read or parsed."""


# --- files ---------------------------------------------------------------------------------------


def open_regular(path: Path, *, error: type[SenError] = FileError) -> BufferedReader:
    """Open a regular file for reading; refuses a folder, pipe, socket or device, and never blocks."""
    try:
        _check_kind(path, path.stat().st_mode, error)  # before opening, which can affect a device
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise error(f"{path} does not exist") from None
    except OSError as problem:
        raise error(f"cannot read {path}: {problem.strerror}") from problem
    except ValueError:  # a null character in the name
        raise error(f"{quote(str(path))} is not a file name") from None
    file = os.fdopen(descriptor, "rb")
    try:
        _check_kind(path, os.fstat(descriptor).st_mode, error)
    except BaseException:
        file.close()
        raise
    return file


def read_regular(path: Path, limit: int | None = None, *, error: type[SenError] = FileError) -> bytes:
    """Read a regular file of at most `limit` bytes."""
    with open_regular(path, error=error) as file:
        try:
            data = file.read() if limit is None else file.read(limit + 1)
        except OSError as problem:
            raise error(f"cannot read {path}: {problem.strerror}") from problem
    if limit is not None and len(data) > limit:
        raise error(f"{path} has more than {limit:,} bytes, the limit for this kind of file")
    return data


def _check_kind(path: Path, mode: int, error: type[SenError]) -> None:
    if not stat.S_ISREG(mode):
        raise error(f"{path} is {_KINDS.get(stat.filemode(mode)[0], 'not a regular file')}; expected a file")


# --- documents -----------------------------------------------------------------------------------


def decode(content: str | bytes, where: str, *, error: type[SenError] = FileError) -> str:
    """Decode UTF-8 text without surrogates; strip a byte order mark. Messages begin with `where`."""
    try:
        if isinstance(content, bytes):
            return content.decode("utf-8-sig")
        content.encode()
    except UnicodeDecodeError as problem:
        raise error(f"{where} is not UTF-8 text: byte {problem.start} is 0x{content[problem.start]:02x}") from None
    except UnicodeEncodeError as problem:
        raise error(f"{where} is not Unicode text: character {problem.start} is a surrogate") from None
    return content.removeprefix("\ufeff")


def load_json(content: str | bytes, where: str, *, error: type[SenError] = FileError) -> Any:
    """Parse JSON (RFC 8259) without NaN or duplicate keys, within the bounds of `check_document`; see `decode`."""
    text = decode(content, where, error=error)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_constant,
            parse_float=finite_float,
            parse_int=_integer,
        )
    except RecursionError:
        raise error(f"{where}: nested too deep; expected at most {MAX_DEPTH} levels") from None
    except ValueError as problem:
        raise error(f"{where} is not JSON: {problem}") from None
    check_document(value, where, error=error)
    return value


def check_document(value: Any, where: str, *, error: type[SenError] = FileError) -> None:
    """Refuse a parsed document of more than `MAX_DEPTH` levels, with an integer beyond float64, or with a surrogate."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        for item in level:
            _check_scalar(item, where, error)
        level = [child for item in level for child in _children(item)]
        if not level:
            return
    raise error(f"{where}: nested too deep; expected at most {MAX_DEPTH} levels")


def finite_float(text: str) -> float:
    """Parse a float literal; raises ValueError if it is not finite."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{quote(text, 40)} is not a finite number")
    return value


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list) else ()


def _check_scalar(value: Any, where: str, error: type[SenError]) -> None:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise error(f"{where}: {quote(value)} is not Unicode text") from None
    elif isinstance(value, int) and abs(value) > sys.float_info.max:
        raise error(f"{where}: {quote(value)} is beyond the range of numbers")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {quote(max(names, key=names.count))} occurs twice in one object")
    return found


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"an integer of {len(text):,} digits is beyond the range of numbers")
    return int(text)


def _constant(text: str) -> float:
    raise ValueError(f"{text} is not a JSON number")


# --- messages ------------------------------------------------------------------------------------


def quote(value: object, limit: int = 80) -> str:
    """Quote a value of a file: one line, at most `limit` characters, no control characters.

    Only the start of a structure is read, at any size.
    """
    text = _render(value, limit, QUOTED_DEPTH)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def listing(names: Iterable[object], limit: int = 8) -> str:
    """Join the first `limit` names of a file for a message, with the number of others; "nothing" for none."""
    found = list(names)
    first = ", ".join(printable(name, 60) if isinstance(name, str) else quote(name) for name in found[:limit])
    return (f"{first} and {len(found) - limit:,} more" if len(found) > limit else first) or "nothing"


def printable(text: str, limit: int | None = MAX_MESSAGE, *, keep_lines: bool = False) -> str:
    """Escape text for a terminal: one bounded line without control characters.

    With `keep_lines`, line breaks before an indent of two spaces are kept.
    """
    if keep_lines:
        return "\n  ".join(printable(line, limit) for line in text.split("\n  ")[:MAX_LINES])
    line = re.sub(r"\s*[\n\t]\s*", " ", text[:limit])
    if not line.isprintable():
        line = "".join(character if character.isprintable() else repr(character)[1:-1] for character in line)
    return line if limit is None or len(text) <= limit else f"{line}..."


def _render(value: object, limit: int, depth: int) -> str:
    if value is None or isinstance(value, (bool, float)):
        return repr(value)
    if isinstance(value, int):
        return repr(value) if value.bit_length() <= 256 else f"an integer of {value.bit_length():,} bits"
    if isinstance(value, (str, bytes)):
        return repr(value[:limit]) + ("..." if len(value) > limit else "")
    if isinstance(value, Mapping):
        pairs = ((_render(key, limit, 0), _render(item, limit, depth - 1)) for key, item in value.items())
        return _render_items("{", (f"{key}: {item}" for key, item in pairs), "}", len(value), depth)
    if isinstance(value, Sequence):
        return _render_items("[", (_render(item, limit, depth - 1) for item in value), "]", len(value), depth)
    return f"<{type(value).__name__}>"


def _render_items(start: str, items: Iterable[str], end: str, count: int, depth: int) -> str:
    if count and depth <= 0:
        return f"{start}...{end}"
    more = ", ..." if count > QUOTED_ITEMS else ""
    return f"{start}{', '.join(islice(items, QUOTED_ITEMS))}{more}{end}"
