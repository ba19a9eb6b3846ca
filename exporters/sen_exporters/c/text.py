"""Numbers and comments as C text."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Mapping

import numpy as np

from sen_exporters.c.plan import Array, Constant

#: Columns of generated text.
WIDTH = 110
_TYPES = {"float32": "float", "float16": "uint16_t", "int8": "int8_t", "int32": "int32_t", "uint16": "uint16_t"}
#: What pairs.c, on processors for which it is made, wants of int8.
_ALIGNED = "#ifdef __GNUC__\n__attribute__((aligned(4)))\n#endif\n"
_PROPERTY = re.compile(r"^ \*   (.+?): (.*)$", re.MULTILINE)


def number(value: float) -> str:
    """A float32 that reads back as the same bits."""
    return f"{np.float32(value)!s}f"


def array(constant: Constant) -> str:
    """The definition of an array, with its meaning above it."""
    values = constant.array.ravel()
    name = values.dtype.name
    kind = "float16 bits: " if name == "float16" else ""
    head = f"/* {kind}{constant.meaning} */\n{_ALIGNED if name == 'int8' else ''}"
    head += f"static const {_TYPES[name]} {constant.name}[{values.size}] = {{\n"
    return head + rows(words(values)) + "};\n"


def words(values: Array) -> Iterable[str]:
    """Each value as a C constant."""
    if values.dtype == np.float32:
        return (f"{value!s}f" for value in values)
    if values.dtype == np.float16:
        return (f"0x{bits:04x}" for bits in values.view(np.uint16).tolist())
    return map(str, values.tolist())


def rows(items: Iterable[str]) -> str:
    """Items separated by commas, in lines of `WIDTH` columns."""
    lines, line = [], ""
    for item in items:
        if len(line) + len(item) + 2 > WIDTH:
            lines.append(line)
            line = ""
        line += f"{' ' if line else '    '}{item},"
    return "".join(f"{each}\n" for each in [*lines, line])


def comment(title: Iterable[str], properties: Mapping[str, str]) -> str:
    """The comment at the head of a file: what it is, and `properties`, which `read_properties` reads."""
    shown = [f"{_escape(key)}: {_escape(value)}" for key, value in sorted(properties.items())]
    lines = [*title, "", *(f"  {line}" for line in shown)]
    return "/*\n" + "".join(f" * {line}".rstrip() + "\n" for line in lines) + " */\n"


def paragraph(text: str) -> str:
    """A comment of one or more lines."""
    return textwrap.fill(f"/* {text} */", WIDTH, subsequent_indent="   ", break_on_hyphens=False) + "\n"


def read_properties(text: str) -> dict[str, str]:
    """The properties of a file's first comment."""
    head = text[: text.find("*/")]
    return {_unescape(key): _unescape(value) for key, value in _PROPERTY.findall(head)}


def with_properties(text: str, properties: Mapping[str, str]) -> str:
    """The file with its first comment's properties replaced."""
    end = text.index("*/") + 3
    title = [line[3:] for line in text[:end].splitlines()[1:-1] if line.startswith(" * ") and line[3] != " "]
    return comment(title, properties) + text[end:]


def _escape(text: str) -> str:
    """Text that cannot end a comment, as it is or as a JSON string."""
    is_plain = text.isascii() and text.isprintable() and not re.search(r'[*/]{2}|[\\":?]|^ | $|^$', text)
    if is_plain:
        return text
    quoted = json.dumps(text)
    for character in "/?:":
        quoted = quoted.replace(character, f"\\u{ord(character):04x}")
    return quoted


def _unescape(text: str) -> str:
    return str(json.loads(text)) if text.startswith('"') else text
