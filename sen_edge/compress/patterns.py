"""Which synapses are kept or cut together: each for itself, in blocks, N of every M, or whole neurons."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sen_edge.errors import UsageError

FloatArray = NDArray[np.float64]
Mask = NDArray[np.bool_]

EXPECTED = "unstructured, blocks such as 16x1 (outputs x inputs) or 1x4, N:M such as 2:4, or neurons"


@dataclass(frozen=True)
class Pattern:
    """Synapses that are kept or cut together.

    Attributes:
        block: outputs and inputs of a block; `(1, 1)` is unstructured.
        group: `(N, M)`: of every M successive inputs of an output N are kept; None for blocks.
        neurons: whole hidden neurons: a column of the layer behind them, and the row before them.
    """

    block: tuple[int, int] = (1, 1)
    group: tuple[int, int] | None = None
    neurons: bool = False

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """A pattern by name.

        Raises:
            UsageError: there is no such pattern.
        """
        if text == "unstructured":
            return cls()
        if text == "neurons":
            return cls(neurons=True)
        found = re.fullmatch(r"([1-9]\d{0,3})([x:])([1-9]\d{0,3})", text, re.ASCII)
        if found is None:
            raise UsageError(f"pattern is {text!r}; expected {EXPECTED}")
        first, second = int(found[1]), int(found[3])
        if found[2] == "x":
            return cls(block=(first, second))
        if first >= second:
            raise UsageError(f"pattern {text} keeps {first} of every {second}; expected fewer than all")
        return cls(group=(first, second))

    def __str__(self) -> str:
        if self.neurons:
            return "neurons"
        if self.group is not None:
            return f"{self.group[0]}:{self.group[1]}"
        return "unstructured" if self.block == (1, 1) else f"{self.block[0]}x{self.block[1]}"

    def energies(self, energy: FloatArray) -> FloatArray:
        """Sums `[block rows, block columns]` of `energy [n_out, n_in]` over each block."""
        rows, columns = self.block
        n_out, n_in = energy.shape
        if self.block == (1, 1):
            return energy
        padded = np.pad(energy, ((0, -n_out % rows), (0, -n_in % columns)))
        tiles = padded.reshape(len(padded) // rows, rows, padded.shape[1] // columns, columns)
        result: FloatArray = tiles.sum(axis=(1, 3))
        return result

    def sizes(self, shape: tuple[int, ...]) -> FloatArray:
        """Synapses `[block rows, block columns]` in each block of a layer `[n_out, n_in]`: fewer at an edge."""
        return self.energies(np.ones(shape))

    def select(self, energy: FloatArray, kept: int) -> Mask:
        """The mask `[n_out, n_in]` that keeps about `kept` synapses, those of the greatest energy.

        Blocks are kept whole, so the number is rounded to them; N:M decides by itself how many it keeps.
        """
        if self.group is not None:
            return self._select_in_groups(energy)
        sizes = None if self.block == (1, 1) else self.sizes(energy.shape)
        return self.spread(greatest(self.energies(energy), kept, sizes), energy.shape)

    def above(self, energy: FloatArray, threshold: float) -> Mask:
        """The mask `[n_out, n_in]` of the blocks whose mean energy is at least `threshold`."""
        return self.spread(self.energies(energy) / self.sizes(energy.shape) >= threshold, energy.shape)

    def spread(self, blocks: Mask, shape: tuple[int, ...]) -> Mask:
        """The mask of synapses `[n_out, n_in]` for one of blocks."""
        if self.block == (1, 1):
            return blocks
        rows, columns = self.block
        whole = np.repeat(np.repeat(blocks, rows, axis=0), columns, axis=1)
        return np.ascontiguousarray(whole[: shape[0], : shape[1]])

    def _select_in_groups(self, energy: FloatArray) -> Mask:
        assert self.group is not None  # whoever asks has looked; this is for mypy
        n, m = self.group
        n_out, n_in = energy.shape
        groups = np.pad(energy, ((0, 0), (0, -n_in % m)), constant_values=-1).reshape(n_out, -1, m)
        order = np.argsort(-groups, axis=2, kind="stable")
        mask = np.zeros(groups.shape, bool)
        np.put_along_axis(mask, order[:, :, :n], values=True, axis=2)
        return np.ascontiguousarray(mask.reshape(n_out, -1)[:, :n_in])


UNSTRUCTURED = Pattern()


def greatest(values: FloatArray, count: int, sizes: FloatArray | None = None) -> Mask:
    """The greatest values that together count as nearly `count`; of equal ones the first, so that the number is exact.

    Args:
        values: any shape.
        count: how many to keep; of blocks, how many synapses.
        sizes: what each value counts for, of the same shape; None for 1.
    """
    count = min(max(count, 0), values.size if sizes is None else int(sizes.sum()))
    if sizes is not None and sizes.min() < sizes.max():
        order = np.argsort(-values, axis=None, kind="stable")
        totals = np.concatenate(([0.0], np.cumsum(sizes.ravel()[order])))
        mask = np.zeros(values.size, bool)
        mask[order[: int(np.argmin(np.abs(totals - count)))]] = True
        return mask.reshape(values.shape)
    if sizes is not None:
        count = round(count / float(sizes.flat[0]))
    mask = np.zeros(values.size, bool)
    if count:
        flat = values.ravel()
        threshold = np.partition(flat, -count)[-count]
        mask = flat > threshold
        equal = np.flatnonzero(flat == threshold)
        mask[equal[: count - int(mask.sum())]] = True
    return mask.reshape(values.shape)
