"""Short text and an HTML table of results, for the console and notebooks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from html import escape


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
