"""HTML pages: one file each that loads nothing, prints, and can be read aloud. All text is escaped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sen_edge.report import drawing
from sen_edge.report.document import WRONG, Chart, Heading, Note, Part
from sen_runtime.errors import MissingExtraError

#: Bytes of a page; parts that do not fit are left out and named.
MAX_BYTES = 5_000_000
#: Replaced by U+FFFD: C0 except tab and newline, DEL, C1, and bidirectional controls.
CONTROLS = dict.fromkeys(
    [*range(9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd"
)


def page(
    title: str, parts: Sequence[Part], note: Callable[[str], None], template: str = "page.html", **values: object
) -> str:
    """Fill a template of the folder `templates`; control characters are replaced.

    Args:
        title: of the page.
        parts: its content.
        note: receives the names of parts that are left out.
        template: page.html, or one that extends it.
        values: those that it takes as well.
    """
    links = [part.title for part in parts if isinstance(part, Heading) and part.level == 2]
    values = {"title": title, "links": links, "style": resource("style.css"), "parts": _markups(parts, note), **values}
    return _environment().get_template(template).render(values).translate(CONTROLS)


def resource(name: str) -> Markup:
    """A style sheet or script of the folder `templates`."""
    return Markup(files(__package__).joinpath("templates", name).read_text(encoding="utf-8"))


def _markups(parts: Sequence[Part], note: Callable[[str], None]) -> list[Markup]:
    """HTML of each part, up to `MAX_BYTES`."""
    try:
        drawing.check_matplotlib()
    except MissingExtraError as error:
        if any(isinstance(part, Chart) for part in parts):
            note(f"charts are left out: {error.message}; {error.hint}")
            parts = [Note(f"Charts are left out: {error.message}", [error.hint], "warn"), *parts]
        parts = [part for part in parts if not isinstance(part, Chart)]
    module: Any = _environment().get_template("parts.html").module
    markups: list[Markup] = []
    room = MAX_BYTES
    for index, part in enumerate(parts):
        svg = Markup(drawing.to_svg(part, f"c{index}")) if isinstance(part, Chart) else ""
        markup = module.part(part, svg, WRONG)
        if len(markup) > room:
            sentence = f"{_name(part)} is left out: a page takes at most {MAX_BYTES / 1e6:g} MB"
            note(sentence)
            markup = module.part(Note(sentence, tone="warn"), "", WRONG)
        room -= len(markup)
        markups.append(markup)
    return markups


def _name(part: Part) -> str:
    names = (getattr(part, field, "") for field in ("caption", "summary", "title"))
    return next((name for name in names if name), part.kind)


@cache
def _environment() -> Environment:
    loader = PackageLoader(__package__)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
