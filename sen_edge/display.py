"""Display of results: one line, an HTML table for notebooks, text in Markdown."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from html import escape

from sen_runtime.untrusted import MAX_MESSAGE, printable

#: Escapes of the characters with a meaning in Markdown.
MARKDOWN = {ord(mark): f"&#{ord(mark)};" if mark in "<>|&" else f"\\{mark}" for mark in "\\`*_[]<>|&"}


def to_markdown(text: str, limit: int = MAX_MESSAGE) -> str:
    """Escape text for Markdown: one line of at most `limit` characters, without control characters."""
    return printable(text, limit).translate(MARKDOWN)


class Displayed(ABC):
    """Base of results whose `repr` is one line, and whose HTML is a table of two columns."""

    @abstractmethod
    def summary(self) -> Mapping[str, object]:
        """Return what identifies the result, by name."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in self.summary().items())})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in self.summary().items()
        )
        return f"<table><caption>{type(self).__name__}</caption>{rows}</table>"
