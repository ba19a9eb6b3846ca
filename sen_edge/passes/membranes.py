"""Int8 grids of membranes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sen_runtime.ir.checks import Array
from sen_runtime.ir.int8 import INT8_MAX, INT8_MIN, Grid
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.neurons import Lif

#: Candidates for the steps of an int8 membrane between 0 and the threshold, and examples that choose among them.
MEMBRANE_STEPS = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 120)
MEMBRANE_SAMPLE = 128

FloatArray = NDArray[np.float32]


def fits_grid(name: str, values: Array) -> bool:
    """Whether an int8 grid can contain all values `[n]` of a parameter, those of `equalize`."""
    if name != "threshold":
        return False
    multiples = values / values.min()
    return bool(np.all(multiples == np.rint(multiples)) and multiples.max() <= MEMBRANE_STEPS[-1])


def membrane_grid(layer: Layer, neuron: Lif, steps: int, x: FloatArray, values: FloatArray) -> Grid:
    """Select the grid with the min difference of spikes from those of float membranes.

    Membranes far below the threshold may be clipped: covering the whole range would waste most of the values.
    Candidates differ in the number of steps below and above the lowest threshold.
    """
    currents = layer.weight.affine(x, layer.bias).reshape(-1, len(values) // steps, values.shape[1])
    currents = np.broadcast_to(currents, (steps, *currents.shape[1:]))
    currents = currents[:, :: max(1, currents.shape[1] // MEMBRANE_SAMPLE)]
    expected, threshold = _spike_train(neuron, currents, None), float(np.min(neuron.threshold))
    top = round(float(np.max(neuron.threshold)) / threshold)
    highest = max(float(values.max()) / threshold, top)
    candidates = [
        Grid(threshold / count, max(INT8_MIN, min(INT8_MAX - 1 - count * top, INT8_MAX - round(count * above))))
        for count in MEMBRANE_STEPS
        for above in (highest, (highest + top) / 2, (highest + 3 * top) / 4)
        if count * top <= MEMBRANE_STEPS[-1]
    ]
    errors = [float(np.mean(_spike_train(neuron, currents, grid) != expected)) for grid in candidates]
    return candidates[int(np.argmin(errors))]


def _spike_train(neuron: Lif, currents: FloatArray, grid: Grid | None) -> FloatArray:
    """Compute spikes `[T, rows, n]` for currents `[T, rows, n]`, with membranes on `grid` if given."""
    membrane = np.zeros_like(currents[0])
    spikes = np.empty_like(currents)
    for t, current in enumerate(currents):
        on_grid = current if grid is None else grid.round(current)
        membrane, spikes[t] = neuron.advance(membrane, on_grid, grid)
    return spikes
