"""Flash and RAM of an exported network, item by item, and the check of budgets."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from importlib.resources import files

from sen_exporters.base import ExportError
from sen_exporters.c.library import closure
from sen_exporters.c.memory import binary
from sen_exporters.c.program import Program
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


def check_budget(name: str, found: Footprint, max_flash: int | None, max_ram: int | None) -> None:
    """Refuse a network that exceeds `max_flash` or `max_ram`.

    Raises:
        BudgetError: with a table of all items.
    """
    budgets = (("flash", found.flash_bytes, max_flash), ("RAM", found.ram_bytes, max_ram))
    exceeded = [
        f"{kind} {nbytes} B, {nbytes - limit} B more than the {limit} B allowed"
        for kind, nbytes, limit in budgets
        if limit is not None and nbytes > limit
    ]
    if exceeded:
        raise BudgetError(
            f"{name} takes {' and '.join(exceeded)}; nothing was written\n\n{_table(found)}",
            hint="--dtype int4, int8 or float16 stores weights in fewer bytes, --weights coordinates stores none",
        )


def _table(found: Footprint) -> str:
    """All items as plain text, the largest first."""
    lines = []
    for kind, items, total in (("flash", found.flash, found.flash_bytes), ("RAM", found.ram, found.ram_bytes)):
        rows = [*sorted(items, key=lambda item: -item[1]), ("total", total)]
        lines += [f"  {kind:<6} {label:<58} {nbytes:>10} B" for label, nbytes in rows]
    return "\n".join(lines)
