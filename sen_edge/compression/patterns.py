"""Patterns of zeros: single synapses, blocks, N of every M inputs, or whole neurons."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from sen_edge.errors import UsageError
from sen_edge.passes.materialize import Mask

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Pattern:
    """Synapses that are kept or cut together: blocks of outputs and inputs, or whole hidden neurons.

    Of a group `(N, M)`, N of every M successive inputs of an output are kept.
    """

    block: tuple[int, int] = (1, 1)
    group: tuple[int, int] | None = None
    neurons: bool = False

    @staticmethod
    @cache
    def parse(text: str) -> Pattern:
        """Pattern by name; a `UsageError` for another."""
        if text in ("unstructured", "neurons"):
            return Pattern(neurons=text == "neurons")
        match = re.fullmatch(r"([1-9]\d{0,3})([x:])([1-9]\d{0,3})", text, re.ASCII)
        first, second = (int(match[1]), int(match[3])) if match else (0, 0)
        if match and match[2] == "x":
            return Pattern(block=(first, second))
        if first >= second:
            raise UsageError(f"pattern is {text!r}; expected unstructured, neurons, BLOCKxBLOCK or N:M with N < M")
        return Pattern(group=(first, second))

    def __str__(self) -> str:
        if self.neurons:
            return "neurons"
        if self.group is not None:
            return "{}:{}".format(*self.group)
        return "unstructured" if self.block == (1, 1) else "{}x{}".format(*self.block)

    def block_sums(self, energy: FloatArray) -> FloatArray:
        """Sums `[block rows, block columns]` of `energy [n_out, n_in]` over each block."""
        rows, columns = self.block
        if self.block == (1, 1):
            return energy
        padded = np.pad(energy, ((0, -energy.shape[0] % rows), (0, -energy.shape[1] % columns)))
        tiles = padded.reshape(len(padded) // rows, rows, padded.shape[1] // columns, columns)
        sums: FloatArray = tiles.sum(axis=(1, 3))
        return sums

    def block_sizes(self, shape: tuple[int, ...]) -> FloatArray:
        """Synapses `[block rows, block columns]` of each block of a layer `[n_out, n_in]`: fewer at an edge."""
        return self.block_sums(np.ones(shape))

    def select(self, energy: FloatArray, count: int) -> Mask:
        """Mask `[n_out, n_in]` of about `count` synapses with the largest energy.

        Blocks are kept whole; N:M determines the number by itself.
        """
        if self.group is not None:
            return self._select_in_groups(energy, *self.group)
        sizes = None if self.block == (1, 1) else self.block_sizes(energy.shape)
        return self._expand(select_largest(self.block_sums(energy), count, sizes), energy.shape)

    def select_above(self, energy: FloatArray, threshold: float) -> Mask:
        """Mask `[n_out, n_in]` of the blocks whose mean energy is at least `threshold`."""
        return self._expand(self.block_sums(energy) / self.block_sizes(energy.shape) >= threshold, energy.shape)

    def _expand(self, blocks: Mask, shape: tuple[int, ...]) -> Mask:
        if self.block == (1, 1):
            return blocks
        rows, columns = self.block
        mask = np.repeat(np.repeat(blocks, rows, axis=0), columns, axis=1)
        return np.ascontiguousarray(mask[: shape[0], : shape[1]])

    def _select_in_groups(self, energy: FloatArray, n: int, m: int) -> Mask:
        n_out, n_in = energy.shape
        groups = np.pad(energy, ((0, 0), (0, -n_in % m)), constant_values=-1).reshape(n_out, -1, m)
        order = np.argsort(-groups, axis=2, kind="stable")
        mask = np.zeros(groups.shape, bool)
        np.put_along_axis(mask, order[:, :, :n], values=True, axis=2)
        return np.ascontiguousarray(mask.reshape(n_out, -1)[:, :n_in])


UNSTRUCTURED = Pattern()


def select_largest(values: FloatArray, count: int, sizes: FloatArray | None = None) -> Mask:
    """Mask of the largest values that together count nearly `count`, each for its size; of equal ones the first."""
    mask = np.zeros(values.size, bool)
    if sizes is not None and sizes.min() < sizes.max():
        order = np.argsort(-values, axis=None, kind="stable")
        totals = np.concatenate(([0.0], np.cumsum(sizes.ravel()[order])))
        mask[order[: int(np.argmin(np.abs(totals - count)))]] = True
        return mask.reshape(values.shape)
    size = 1.0 if sizes is None else float(sizes.flat[0])
    count = min(max(round(count / size), 0), values.size)
    if count:
        flat = values.ravel()
        threshold = np.partition(flat, -count)[-count]
        mask = flat > threshold
        mask[np.flatnonzero(flat == threshold)[: count - int(mask.sum())]] = True
    return mask.reshape(values.shape)
