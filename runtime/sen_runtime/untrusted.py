"""Content of files that somebody else wrote: reading, parsing and quoting it.

Every reader of a file passes here first. What it gets is bounded and plain: regular files only, documents that are not
nested beyond reason, numbers that float64 can hold, text that can be encoded. What a message repeats of a file is
short, one line, and free of control characters.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from sen_runtime.errors import SenError

#: Nesting of a document: none of the formats needs ten levels.
MAX_DEPTH = 64
#: Digits of an integer literal: float64 ends at 309.
MAX_DIGITS = 400
#: Characters of a message.
MAX_MESSAGE = 2000
#: Lines of a message: of one that lists several hosts, or tolerances.
MAX_LINES = 100
#: Nesting and items of a value that a message shows.
SHOWN_DEPTH, SHOWN_ITEMS = 3, 4

#: Of Unicode: C0 but for tab and newline, DEL and C1; what reorders or isolates text.
_CONTROLS = dict.fromkeys(
    [*range(9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd"
)
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class FileError(SenError):
    """A file that cannot be read or parsed."""


# --- files ---------------------------------------------------------------------------------------


def open_regular(path: Path, *, error: type[SenError] = FileError) -> BinaryIO:
    """Open a regular file for reading; never blocks.

    Raises:
        SenError (`error`): the path is absent, not readable, or a folder, pipe, socket or device.
    """
    try:
        _check_kind(path, path.stat().st_mode, error)  # before it is opened: opening a device can have effects
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
    """Content of a regular file.

    Args:
        path: of the file.
        limit: bytes that it may have; None for any number.
        error: class of the errors.

    Raises:
        SenError (`error`): see `open_regular`; the file is larger than `limit`, or cannot be read to its end.
    """
    with open_regular(path, error=error) as file:
        try:
            data = file.read() if limit is None else file.read(limit + 1)
        except OSError as problem:
            raise error(f"cannot read {path}: {problem.strerror}") from problem
    if limit is not None and len(data) > limit:
        raise error(f"{path} has more than {limit:,} bytes, the limit for such a file")
    return data


def _check_kind(path: Path, mode: int, error: type[SenError]) -> None:
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "no regular file")
        raise error(f"{path} is {kind}; expected a file")


# --- documents -----------------------------------------------------------------------------------


def decode(content: str | bytes, where: str, *, error: type[SenError] = FileError) -> str:
    """UTF-8 text, without a byte order mark.

    Raises:
        SenError (`error`): the content is not UTF-8, or holds surrogates.
    """
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
    """Parse JSON as RFC 8259 has it: no NaN, no key twice in one object; see `check_document` for the bounds.

    Args:
        content: text, or its bytes in UTF-8.
        where: start of each message, such as the path.
        error: class of the errors.

    Raises:
        SenError (`error`): the content is not such a document.
    """
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
    """Bound a parsed document: nesting, the range of integers, text that can be encoded.

    Raises:
        SenError (`error`): more than `MAX_DEPTH` levels, an integer beyond float64, or a surrogate.
    """
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        for item in level:
            _check_scalar(item, where, error)
        level = [child for item in level for child in _children(item)]
        if not level:
            return
    raise error(f"{where}: nested too deep; expected at most {MAX_DEPTH} levels")


def finite_float(text: str) -> float:
    """A float literal; ValueError where it is not finite in float64."""
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
    """A value from a file as a message shows it: one line, at most `limit` characters, no control characters.

    Of a structure only the start is looked at, whatever its size.
    """
    text = _rendered(value, limit, SHOWN_DEPTH)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def listing(names: Iterable[object], most: int = 8) -> str:
    """Names from a file for a message: the first `most`, and how many more there are; "nothing" for none."""
    found = list(names)
    shown = ", ".join(printable(name, 60) if isinstance(name, str) else quote(name) for name in found[:most])
    return (f"{shown} and {len(found) - most:,} more" if len(found) > most else shown) or "nothing"


def printable(text: str, limit: int | None = MAX_MESSAGE) -> str:
    """Text for a terminal: one line, bounded, control characters and all else that is not printable as escapes."""
    line = re.sub(r"\s*[\n\t]\s*", " ", text[:limit])
    if not line.isprintable():
        line = "".join(character if character.isprintable() else repr(character)[1:-1] for character in line)
    return line if limit is None or len(text) <= limit else f"{line}..."


def printable_page(text: str) -> str:
    """A text of many lines, such as HTML, with control characters and bidirectional overrides replaced by U+FFFD."""
    return text.translate(_CONTROLS)


def printable_message(text: str) -> str:
    """A message for a terminal: lines that are indented continue it, each as `printable` has it."""
    return "\n  ".join(map(printable, text.split("\n  ")[:MAX_LINES]))


def _rendered(value: object, limit: int, depth: int) -> str:
    if value is None or isinstance(value, (bool, float)):
        return repr(value)
    if isinstance(value, int):
        return repr(value) if value.bit_length() <= 256 else f"an integer of {value.bit_length():,} bits"
    if isinstance(value, (str, bytes)):
        return repr(value[:limit]) + ("..." if len(value) > limit else "")
    if isinstance(value, Mapping):
        pairs = ((_rendered(key, limit, 0), _rendered(item, limit, depth - 1)) for key, item in value.items())
        return _rendered_items("{", (f"{key}: {item}" for key, item in pairs), "}", len(value), depth)
    if isinstance(value, Sequence):
        return _rendered_items("[", (_rendered(item, limit, depth - 1) for item in value), "]", len(value), depth)
    return f"<{type(value).__name__}>"


def _rendered_items(start: str, items: Iterable[str], end: str, count: int, depth: int) -> str:
    if count and depth <= 0:
        return f"{start}...{end}"
    more = ", ..." if count > SHOWN_ITEMS else ""
    return f"{start}{', '.join(islice(items, SHOWN_ITEMS))}{more}{end}"
