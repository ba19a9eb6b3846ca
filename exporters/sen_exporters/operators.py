"""Operators that a target provides for the graphs of `sen_exporters.lowering` and `sen_exporters.wiring`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from sen_runtime.ir.checks import Parameter
from sen_runtime.ir.delays import Steps
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, Neuron, Relu
from sen_runtime.ir.operators import WeightOperator

V = TypeVar("V")
Activation = Literal["", "Relu"]
#: Functions of neurons without state; the identity is empty.
ACTIVATIONS: Mapping[type[Neuron], Activation] = {Identity: "", Relu: "Relu"}


@dataclass(frozen=True)
class State(Generic[V]):
    """A value `[rows, size]` that a step passes to the next one."""

    before: V
    after: V
    size: int


class Operators(Protocol[V]):
    """Operators of a target; each adds a value `[rows, n]` called `name`, and returns it."""

    def affine(self, layer: Layer, index: int, x: V, name: str, activation: Activation = "") -> V:
        """`f(W x + b)` of layer `index`, f the identity or an activation."""

    def matrix(self, weight: WeightOperator, index: int, prefix: str) -> V:
        """All weights of an operator of layer `index` in float32, for `multiply` and `gather`."""

    def multiply(self, x: V, matrix: V, name: str) -> V:
        """`W x`."""

    def offsets(self, delays: Steps, prefix: str, like: V) -> V:
        """Where each synapse reads a line, for `gather`, from delays `[n_out, n_in]`; the line has the rows of `like`.

        A line `[rows, steps * n_in]` is what left the neurons in one step after the other.
        """

    def gather(self, line: V, offsets: V, matrix: V, shape: tuple[int, int], name: str) -> V:
        """`sum_i W[j, i] line[delays[j, i], i]`: what arrives through synapses of different delays, `[rows, n_out]`.

        `shape` is that of the weights.
        """

    def binary(self, operator: Literal["Add", "Sub", "Mul"], a: V, b: V, name: str) -> V:
        """`a + b`, `a - b` or `a * b` in each neuron, in the type of `a`."""

    def vector(self, name: str, values: NDArray[np.float32]) -> V:
        """A stored vector `[n]`."""

    def activate(self, activation: str, x: V, name: str) -> V:
        """`x` after a "softmax" over its neurons, or a "sigmoid" of each."""

    def scale(self, x: V, factor: Parameter, constant: str, name: str, like: V) -> V:
        """`x` times the stored number or row `constant`, in the type of `like`; `x` itself where that is the same."""

    def silence(self, x: V, spikes: V, name: str) -> V:
        """`x`, 0 for neurons that spike."""

    def spikes(self, membrane: V, threshold: Parameter, layer: str, prefix: str) -> V:
        """`prefix/spikes`: 1 where the membrane is above the threshold, else 0."""

    def membrane(self, name: str, size: int, x: V) -> V:
        """Membrane `[rows, size]` that a caller provides, with the rows of `x`."""

    def time_first(self, x: V, network: Network, name: str) -> V:
        """Sequences `[batch, T, n]` in the layout of `join`."""

    def floor(self, x: V, name: str) -> V:
        """The largest integers up to `x`."""

    def join_columns(self, parts: Sequence[V], name: str) -> V:
        """Columns of `parts`, one part after the other."""

    def columns(self, x: V, start: int, stop: int, name: str) -> V:
        """Columns `start` to `stop` of `x [rows, n]`."""

    def join(self, parts: Sequence[V], name: str) -> V:
        """Values of all steps as one, by a layout of the format: `[T * batch, n]` or `[batch, T, n]`."""

    def split(self, joined: V, names: Sequence[str]) -> list[V]:
        """The inverse of `join`."""

    def total(self, network: Network, train: Sequence[V]) -> V:
        """Sum over time: the output of a spike count, or of a readout from weighted currents."""

    def read_out(self, network: Network, x: V, train: Sequence[V]) -> V:
        """Output of the last layer from its inputs in each step, or where `train` is empty from the network's."""
