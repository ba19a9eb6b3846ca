"""Flash and RAM of an exported network, item by item, and the check of budgets."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from sen_exporters.base import ExportError
from sen_exporters.c.library import closure
from sen_exporters.c.memory import binary
from sen_exporters.c.program import Program
from sen_exporters.c.wiring import FORMS
from sen_runtime.errors import EXIT_VERIFICATION

#: Bytes on Cortex-M4 with FPU, gcc -Os: of the regions of the C library, of a network's own functions, and of the
#: structures of network.h. Written by `python benchmarks/c_code_size.py --write`.
SIZES = json.loads((files(__package__) / "code_size.json").read_text(encoding="utf-8"))
#: Upper bound of the stack of an inference on Cortex-M4, with optimization and with -O0; tests measure it.
STACK_BYTES, STACK_BYTES_UNOPTIMIZED = 768, 1536


class BudgetError(ExportError):
    """A network that exceeds `max_flash` or `max_ram`."""

    exit_code = EXIT_VERIFICATION


@dataclass(frozen=True)
class Footprint:
    """Memory on a 32-bit device, as labels and bytes.

    Attributes:
        flash: constants, exact, and code by file of the C library, an upper estimate.
        ram: the arena, exact.
    """

    flash: tuple[tuple[str, int], ...]
    ram: tuple[tuple[str, int], ...]

    @property
    def flash_bytes(self) -> int:
        """Constants and code."""
        return sum(nbytes for _, nbytes in self.flash)

    @property
    def ram_bytes(self) -> int:
        """The arena."""
        return sum(nbytes for _, nbytes in self.ram)


def footprint(program: Program) -> Footprint:
    """Memory that the network takes."""
    constants = [(each.comment, each.nbytes) for each in program.constants]
    nbytes = [each.nbytes for each in program.constants]
    aligned = len(binary(program.constants)) if program.is_binary else sum(each + -each % 4 for each in nbytes)
    options = SIZES["options"] if program.macros else {}
    structures = sum(options.get(name, SIZES["structures"][name]) * count for name, count in program.structures.items())
    code: Counter[str] = Counter({"code of the public functions": SIZES[program.interface]})
    for name, region in closure(program.functions).items():
        code[f"code of {region.file}"] += options.get(name, SIZES["code"][name])
    vectors = program.arena.vectors
    padding = program.arena_bytes - sum(nbytes for _, nbytes in vectors)
    flash = [*constants, ("alignment", aligned - sum(nbytes)), ("structures", structures), *sorted(code.items())]
    return Footprint(
        tuple(item for item in flash if item[1]), tuple(item for item in (*vectors, ("padding", padding)) if item[1])
    )


def choose(name: str, forms: Sequence[Footprint], max_flash: int | None, max_ram: int | None) -> int:
    """Index of the first form of a network that exceeds neither `max_flash` nor `max_ram`.

    Raises:
        BudgetError: none does; with a table of all items of each.
    """
    exceeded = [_exceeded(found, max_flash, max_ram) for found in forms]
    for index, each in enumerate(exceeded):
        if not each:
            return index
    tables = [_table(found) for found in forms]
    hint = "--dtype int4, int8 or float16 stores weights in fewer bytes, --weights coordinates stores none"
    if len(forms) > 1:
        hint = "--dtype int8-dynamic stores weights and currents under way in fewer bytes"
        takes = "; ".join(
            f"with delays as {form} {' and '.join(each)}" for form, each in zip(FORMS, exceeded, strict=True)
        )
        tables = [f"  delays as {form}\n{table}" for form, table in zip(FORMS, tables, strict=True)]
    else:
        takes = " and ".join(exceeded[0])
    raise BudgetError(
        f"{name} takes {takes}; nothing was written\n\n" + "\n\n".join(tables),
        hint=hint,
    )


def _exceeded(found: Footprint, max_flash: int | None, max_ram: int | None) -> list[str]:
    budgets = (("flash", found.flash_bytes, max_flash), ("RAM", found.ram_bytes, max_ram))
    return [
        f"{kind} {nbytes} B, {nbytes - limit} B more than the {limit} B allowed"
        for kind, nbytes, limit in budgets
        if limit is not None and nbytes > limit
    ]


def _table(found: Footprint) -> str:
    """All items as plain text, the largest first."""
    lines = []
    for kind, items, total in (("flash", found.flash, found.flash_bytes), ("RAM", found.ram, found.ram_bytes)):
        rows = [*sorted(items, key=lambda item: -item[1]), ("total", total)]
        lines += [f"  {kind:<6} {label:<58} {nbytes:>10} B" for label, nbytes in rows]
    return "\n".join(lines)
