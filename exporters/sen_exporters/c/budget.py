"""Flash and RAM of an exported network, item by item, and the check of budgets."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files

from sen_exporters.base import ExportError
from sen_exporters.c.flash import binary
from sen_exporters.c.library import closure
from sen_exporters.c.options import COptions
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
class Item:
    """Memory that one thing takes."""

    label: str
    nbytes: int


@dataclass(frozen=True)
class Footprint:
    """Memory on a 32-bit device.

    Attributes:
        constants: in flash, exact.
        code: by file of the C library, an upper estimate.
        ram: the arena, exact.
    """

    constants: tuple[Item, ...]
    code: tuple[Item, ...]
    ram: tuple[Item, ...]

    @property
    def flash_bytes(self) -> int:
        """Code and constants."""
        return total(self.constants) + total(self.code)

    @property
    def ram_bytes(self) -> int:
        """The arena."""
        return total(self.ram)


def total(items: Iterable[Item]) -> int:
    """Bytes of all items."""
    return sum(item.nbytes for item in items)


def footprint(program: Program) -> Footprint:
    """Memory that the network takes."""
    constants = [Item(each.comment, each.nbytes) for each in program.constants]
    nbytes = [each.nbytes for each in program.constants]
    aligned = len(binary(program.constants)) if program.is_binary else sum(each + -each % 4 for each in nbytes)
    counts = {
        "sen_weights": len(program.weights),
        "sen_term": sum(len(layer.terms) for layer in program.layers),
        "sen_layer": len(program.layers),
        "sen_kernels": 1,
        "sen_network": 1,
    }
    structures = sum(SIZES["structures"][name] * count for name, count in counts.items())
    code: Counter[str] = Counter()
    for name, region in closure(program.functions).items():
        code[f"code of {region.file}"] += SIZES["code"][name]
    code["code of the public functions"] = SIZES["interface"]
    ram = [Item(vector.comment, vector.nbytes) for vector in program.arena.vectors]
    return Footprint(
        _without_zeros(*constants, Item("alignment", aligned - sum(nbytes)), Item("structures", structures)),
        _without_zeros(*(Item(label, count) for label, count in sorted(code.items()))),
        _without_zeros(*ram, Item("padding", program.arena_bytes - total(ram))),
    )


def _without_zeros(*items: Item) -> tuple[Item, ...]:
    return tuple(item for item in items if item.nbytes)


def check_budget(name: str, found: Footprint, options: COptions) -> None:
    """Refuse a network that exceeds `max_flash` or `max_ram`.

    Raises:
        BudgetError: with a table of all items.
    """
    budgets = (("flash", found.flash_bytes, options.max_flash), ("RAM", found.ram_bytes, options.max_ram))
    exceeded = [
        f"{kind} {nbytes} B, {nbytes - limit} B more than the {limit} B allowed"
        for kind, nbytes, limit in budgets
        if limit is not None and nbytes > limit
    ]
    if exceeded:
        raise BudgetError(
            f"{name} takes {' and '.join(exceeded)}; nothing was written\n\n{_table(found)}",
            hint="--dtype int8-dynamic or float16 stores weights in fewer bytes, --weights coordinates stores none",
        )


def _table(found: Footprint) -> str:
    """All items as plain text, the largest first."""
    lines = []
    for kind, items in (("flash", (*found.constants, *found.code)), ("RAM", found.ram)):
        rows = [*sorted(items, key=lambda item: -item.nbytes), Item("total", total(items))]
        lines += [f"  {kind:<6} {item.label:<58} {item.nbytes:>10} B" for item in rows]
    return "\n".join(lines)
