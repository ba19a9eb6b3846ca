"""What an exported network takes of a device: flash and RAM, item by item, and whether that is within a budget."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sen_exporters.base import ExportError
from sen_exporters.c.library import needed
from sen_exporters.c.options import COptions
from sen_exporters.c.plan import Plan
from sen_exporters.c.source import blob
from sen_runtime.errors import EXIT_VERIFICATION

#: Bytes of code for Cortex-M4 with FPU, gcc 12 -Os; `python benchmarks/c_code_size.py` measures them again. Functions
#: that the compiler makes part of their callers have none of their own.
CODE_BYTES = {
    "from_half": 36,
    "sen_value": 36,
    "half_power": 148,
    "sen_coordinates": 124,
    "sen_finish": 38,
    "sen_weight": 180,
    "sen_columns": 240,
    "sen_dense_events": 120,
    "sen_dense_f32": 620,
    "sen_dense_reference": 114,
    "sen_fused": 10,
    "sen_scale": 24,
    "sen_nonzero": 38,
    "sen_panel_width": 16,
    "sen_panels": 156,
    "add_block_rows": 222,
    "add_gap_rows": 324,
    "add_rows": 366,
    "add_two_block_rows": 196,
    "differences": 52,
    "dot_row": 110,
    "dot_rows": 126,
    "dot_two_rows": 222,
    "finish": 572,
    "in_order": 52,
    "sen_dense_pairs": 90,
    "sen_eights_are_finite": 86,
    "sen_greatest_of_fours": 90,
    "sen_magnitude": 10,
    "sen_quantize_pairs": 224,
    "sen_sparse4_pairs": 98,
    "sen_sparse_pairs": 104,
    "sen_stream4_pairs": 104,
    "sen_stream_pairs": 104,
    "carry_of": 14,
    "sen_is_finite": 46,
    "greatest_magnitude": 56,
    "sen_dense_int8": 4,
    "sen_dense_int8_reference": 98,
    "sen_finish_int8": 46,
    "sen_quantize": 106,
    "sen_quantized": 24,
    "block_column": 18,
    "sen_sparse_events": 228,
    "sen_sparse_f32": 304,
    "sen_sparse_reference": 204,
    "sen_sparse4_int8": 4,
    "sen_sparse_int8": 4,
    "sen_sparse_int8_reference": 194,
    "sen_stream4_int8": 4,
    "sen_stream_int8": 4,
    "membrane_after": 116,
    "sen_integrate": 72,
    "sen_integrate_constant": 100,
    "advance": 106,
    "apply": 214,
    "bias_of": 80,
    "charge": 56,
    "prepare": 100,
    "run_perceptron": 102,
    "run_spiking": 160,
    "run_steps": 214,
    "sen_network_reset": 52,
    "sen_network_run": 18,
    "sen_network_step": 112,
}
#: Code of the public functions of one network.
INTERFACE_BYTES = 96
#: Upper bound of the stack of an inference on Cortex-M4: compiled with optimization, and with -O0. Measured, by tests.
STACK_BYTES, STACK_BYTES_UNOPTIMIZED = 768, 1536
#: Structures of network.h on a 32-bit device.
STRUCT_BYTES = {"sen_weights": 96, "sen_term": 8, "sen_layer": 56, "sen_kernels": 20, "sen_network": 48}


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
    constants.append(Item("description of the network", sum(STRUCT_BYTES[name] * n for name, n in structures.items())))
    code: dict[str, int] = {}
    for piece in needed(plan.functions):
        code[piece.file] = code.get(piece.file, 0) + sum(CODE_BYTES.get(name, 0) for name in piece.defines)
    files = [Item(f"code of {file}", nbytes) for file, nbytes in sorted(code.items()) if nbytes]
    vectors = [Item(vector.meaning, vector.nbytes) for vector in plan.vectors]
    rest = plan.arena_bytes - total(vectors)
    padding = [Item("padding", rest)] if rest else []
    return Footprint(tuple(constants), (*files, Item("code of the interface", INTERFACE_BYTES)), (*vectors, *padding))


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
