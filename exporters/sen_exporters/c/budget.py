"""What an exported network takes of a device: flash and RAM, item by item, and whether that is within a budget."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files

from sen_exporters.base import ExportError
from sen_exporters.c.library import closure
from sen_exporters.c.options import COptions
from sen_exporters.c.plan import Plan
from sen_exporters.c.source import blob
from sen_runtime.errors import EXIT_VERIFICATION

#: Bytes on Cortex-M4 with FPU, gcc -Os: of the regions of the C library, of a network's own functions, and of the
#: structures of network.h. Written by `python benchmarks/c_code_size.py --write`.
SIZES = json.loads((files(__package__) / "code_size.json").read_text(encoding="utf-8"))
#: Upper bound of the stack of an inference on Cortex-M4: compiled with optimization, and with -O0. Measured, by tests.
STACK_BYTES, STACK_BYTES_UNOPTIMIZED = 768, 1536


class BudgetError(ExportError):
    """A network that takes more than the device has to give."""

    exit_code = EXIT_VERIFICATION


@dataclass(frozen=True)
class Item:
    """One thing that takes memory."""

    what: str
    nbytes: int


@dataclass(frozen=True)
class Footprint:
    """What takes how much.

    Attributes:
        constants: weights, biases and what goes with them, exact.
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


def footprint(plan: Plan, *, is_binary: bool) -> Footprint:
    """What the network takes on a 32-bit device."""
    constants = [Item(each.meaning, each.nbytes) for each in plan.constants]
    aligned = len(blob(plan)[0]) if is_binary else sum(each.nbytes + -each.nbytes % 4 for each in plan.constants)
    if aligned > total(constants):
        constants.append(Item("alignment", aligned - total(constants)))
    structures = {
        "sen_weights": len(plan.matrices),
        "sen_term": sum(len(layer.terms) for layer in plan.layers),
        "sen_layer": len(plan.layers),
        "sen_kernels": 1,
        "sen_network": 1,
    }
    constants.append(
        Item("description of the network", sum(SIZES["structures"][name] * n for name, n in structures.items()))
    )
    code: dict[str, int] = {}
    for name, region in closure(plan.functions).items():
        code[region.file] = code.get(region.file, 0) + SIZES["code"][name]
    files = [Item(f"code of {file}", nbytes) for file, nbytes in sorted(code.items()) if nbytes]
    vectors = [Item(vector.meaning, vector.nbytes) for vector in plan.vectors]
    rest = plan.arena_bytes - total(vectors)
    padding = [Item("padding", rest)] if rest else []
    return Footprint(
        tuple(constants), (*files, Item("code of the interface", SIZES["interface"])), (*vectors, *padding)
    )


def check_budget(name: str, found: Footprint, options: COptions) -> None:
    """Refuse a network beyond `max_flash` or `max_ram`.

    Raises:
        BudgetError: with a table of what takes how much.
    """
    budgets = (("flash", found.flash_bytes, options.max_flash), ("RAM", found.ram_bytes, options.max_ram))
    missed = [
        f"{kind} {size(nbytes)}, {size(nbytes - limit)} more than the {size(limit)} allowed"
        for kind, nbytes, limit in budgets
        if limit is not None and nbytes > limit
    ]
    if not missed:
        return
    raise BudgetError(
        f"{name} takes {' and '.join(missed)}; nothing was written\n\n{table(found)}",
        hint="--dtype int8-dynamic or float16 stores weights in less, --weights coordinates stores none",
    )


def table(found: Footprint) -> str:
    """All items, the greatest first, as plain text."""
    lines = []
    for kind, items in (("flash", (*found.constants, *found.code)), ("RAM", found.ram)):
        rows = [*sorted(items, key=lambda item: -item.nbytes), Item("total", total(items))]
        lines += [f"  {kind:<6} {item.what:<58} {item.nbytes:>10} B" for item in rows]
    return "\n".join(lines)


def size(nbytes: int) -> str:
    """Bytes, or KiB from 10 KiB on."""
    return f"{nbytes} B" if nbytes < 10240 else f"{nbytes / 1024:.1f} KiB"
