"""TOML files that users write: sweep files, maps of foreign checkpoints, inventories of hosts."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from sen_runtime.errors import SenError
from sen_runtime.untrusted import MAX_DEPTH, FileError, check_document, decode, finite_float, read_regular

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: Bytes of a file.
MAX_BYTES = 64 << 10
#: A dotted key of more than `MAX_DEPTH` parts; the parsers take time quadratic in their number.
DEEP_KEY = re.compile(rf"""(?<![\w-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){{{MAX_DEPTH}}}""")


def read_toml(path: Path, *, error: type[SenError] = FileError) -> dict[str, Any]:
    """Read a TOML file; a byte order mark is accepted.

    Raises:
        SenError (`error`): the file cannot be read, is larger than `MAX_BYTES`, or is not TOML.
    """
    return load_toml(read_regular(path, MAX_BYTES, error=error), str(path), error=error)


def load_toml(content: bytes, where: str, *, error: type[SenError] = FileError) -> dict[str, Any]:
    """Parse TOML; numbers are finite, see `sen_runtime.untrusted.check_document` for the other bounds.

    Args:
        content: UTF-8 text.
        where: start of each message, such as the path.
        error: class of the errors.

    Raises:
        SenError (`error`): the content is not such a document.
    """
    text = decode(content, where, error=error)
    too_deep = f"{where}: nested too deep; expected at most {MAX_DEPTH} levels"
    if DEEP_KEY.search(text):
        raise error(too_deep)
    try:
        document = tomllib.loads(text, parse_float=finite_float)
    except RecursionError:
        raise error(too_deep) from None
    except ValueError as problem:  # of the parser, or of int() for a literal of thousands of digits
        raise error(f"{where} is not TOML: {problem}") from None
    check_document(document, where, error=error)
    return document
