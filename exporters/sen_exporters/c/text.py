"""Generated text: templates, and the comment at the top of NAME.c."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Mapping
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from sen_exporters.c.memory import WIDTH, Constant, definition, literals, number, placed, rows
from sen_exporters.c.program import Program
from sen_exporters.c.weights import Member

_PROPERTY = re.compile(r"^ \*   (.+?): (.*)$", re.MULTILINE)


def comment(title: Iterable[str], properties: Mapping[str, str]) -> str:
    """The comment at the top of a file: a title, and `properties`, which `read_properties` reads."""
    entries = [f"{_escape(key)}: {_escape(value)}" for key, value in sorted(properties.items())]
    lines = [*title, "", *(f"  {line}" for line in entries)]
    return "/*\n" + "".join(f" * {line}".rstrip() + "\n" for line in lines) + " */\n"


def render(template: str, program: Program, **values: object) -> str:
    """Fill the template of that name in the folder `templates`."""
    found = _templates().get_template(f"{template}.jinja")
    return found.render(program=program, name=program.name, macro=program.macro, network=program.network, **values)


@cache
def _templates() -> Environment:
    found = Environment(
        loader=PackageLoader("sen_exporters.c"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters |= {
        "comment": _wrapped,
        "definition": definition,
        "literal": _literal,
        "number": number,
        "placed": placed,
        "rows": lambda array: rows(literals(array.ravel())),
    }
    return found


def _literal(value: Member) -> str:
    if isinstance(value, Constant):
        return value.symbol if value.array.size else "NULL"
    return number(value) if isinstance(value, float) else str(value)


def _wrapped(text: str) -> str:
    return textwrap.fill(f"/* {text} */", WIDTH, subsequent_indent="   ", break_on_hyphens=False)


def read_properties(text: str) -> dict[str, str]:
    """Properties in the first comment of a file."""
    head = text[: text.find("*/")]
    return {_unescape(key): _unescape(value) for key, value in _PROPERTY.findall(head)}


def with_properties(text: str, properties: Mapping[str, str]) -> str:
    """The file with the properties of its first comment replaced."""
    end = text.index("*/") + 3
    title = [line[3:] for line in text[:end].splitlines()[1:-1] if line.startswith(" * ") and line[3] != " "]
    return comment(title, properties) + text[end:]


def _escape(text: str) -> str:
    """Text that cannot end a comment: plain, or as a JSON string."""
    is_plain = text.isascii() and text.isprintable() and not re.search(r'[*/]{2}|[\\":?]|^ | $|^$', text)
    if is_plain:
        return text
    quoted = json.dumps(text)
    for character in "/?:":
        quoted = quoted.replace(character, f"\\u{ord(character):04x}")
    return quoted


def _unescape(text: str) -> str:
    try:
        return str(json.loads(text)) if text.startswith('"') else text
    except ValueError:  # not written by `with_properties`
        return text
