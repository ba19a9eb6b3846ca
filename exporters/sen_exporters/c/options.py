"""Options of the C exporter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Unit, doc

from sen_exporters.base import ExportOptions


@dataclass(frozen=True)
class COptions(ExportOptions):
    """Options of the C exporter.

    Attributes:
        max_flash: bytes of flash that code and constants may take; None for any number.
        max_ram: bytes of RAM that the arena may take; None for any number.
        weights: "array" (C text) or "incbin" (a binary file that the assembler includes); None is by size.
    """

    max_flash: Annotated[
        int | None, Ge(0), Unit("B"), doc("Max size of code and constants, e.g. 64KiB; exit code 3 if exceeded.")
    ] = None
    max_ram: Annotated[
        int | None, Ge(0), Unit("B"), doc("Max size of the arena, e.g. 16KiB; exit code 3 if exceeded.")
    ] = None
    weights: Literal["array", "incbin"] | None = None
