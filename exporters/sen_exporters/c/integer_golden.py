"""Golden vectors of networks with int8 activations: stored inputs, and the stored outputs, which are exact."""

from __future__ import annotations

from dataclasses import dataclass

from sen_exporters.c.golden import MAX_VALUES, MAX_VECTORS, draw, pack
from sen_exporters.c.integer import IntegerProgram
from sen_exporters.c.memory import Array
from sen_runtime import integer
from sen_runtime.ir.network import feature_ranges
from sen_runtime.reference import standardize


@dataclass(frozen=True)
class IntegerGolden:
    """Vectors for a self-test.

    Attributes:
        inputs: `[n, n_in]` uint8, or `[n, T, n_in]` of spikes 0 or 1.
        outputs: `[n, n_out]` uint8.
    """

    inputs: Array
    outputs: Array

    @property
    def packed(self) -> Array:
        """Spikes as bits, the first in the lowest: `[n, T, bytes]`."""
        return pack(self.inputs)


def integer_golden(program: IntegerProgram) -> IntegerGolden:
    """Seeded vectors for a network."""
    network = program.network
    assert network.input_grid is not None
    x = draw(program, *feature_ranges(network))[: min(MAX_VECTORS, max(1, MAX_VALUES // program.input_size))]
    stored = integer.quantize(network.input_grid, standardize(network, x))
    return IntegerGolden(x if network.coding.is_binary else stored, integer.run_stored(network, stored))
