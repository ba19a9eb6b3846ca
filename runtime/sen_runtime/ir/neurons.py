"""Neuron models: functions of the current `y = W x + b` of the neurons of a layer."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sen_runtime.errors import NetworkError
from sen_runtime.ir.checks import Array, Parameter, check_choice, is_positive, require, store_parameter
from sen_runtime.ir.int8 import Grid, on_grid

RESETS = ("subtract", "zero")


@dataclass(frozen=True, eq=False)
class Neuron:
    """A neuron model; a subclass is a frozen dataclass.

    Attributes:
        role: "activation" (layers of a multilayer perceptron, which implement `activate`), "spiking" (hidden layers of
            a spiking network, and the last one if its spikes are counted) or "readout" (the last layer otherwise, whose
            membrane is linear in its inputs). The latter two implement `advance`.
    """

    role: ClassVar[str]

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and all(
            np.array_equal(getattr(self, each.name), getattr(other, each.name)) for each in fields(self)
        )

    def __hash__(self) -> int:
        return hash(type(self))

    @property
    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Parameters with a value `[n]` for each neuron, by name."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}

    def check_size(self, size: int) -> None:
        """Raise a `NetworkError` unless parameters with a value for each neuron have `size` of them."""
        for name, values in self.arrays.items():
            require(len(values) == size, f"{name} has {len(values)} values; expected {size}, one per neuron")

    def check_grid(self, grid: Grid) -> None:
        """Raise a `NetworkError` for an int8 grid of the layer's values that the model cannot use."""
        for name in self.arrays:
            raise NetworkError(
                f"{name} has a value for each neuron; int8 membranes need one number for all",
                "take --dtype int8-dynamic or float16",
            )

    def activate(self, current: Array) -> Array:
        """Output `[..., n]` for the current, of a model without state."""
        raise NotImplementedError

    def advance(self, membrane: Array, current: Array, grid: Grid | None = None) -> tuple[Array, Array]:
        """One time step, all `[..., n]`: the next membrane and the output; membranes are on `grid` if they are int8."""
        raise NotImplementedError

    def response(self, steps: int) -> NDArray[np.float64]:
        """Membrane from the step of a unit current on, of a model of role "readout".

        `[steps]`, or `[steps, n]` where the neurons differ.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Identity(Neuron):
    """x = y: the readout of a multilayer perceptron."""

    role = "activation"

    def activate(self, current: Array) -> Array:
        """See `Neuron`."""
        return current


@dataclass(frozen=True)
class Relu(Neuron):
    """x = max(y, 0)."""

    role = "activation"

    def activate(self, current: Array) -> Array:
        """See `Neuron`."""
        activation: Array = np.maximum(current, 0)
        return activation


@dataclass(frozen=True, eq=False)
class Lif(Neuron):
    """Leaky integrate-and-fire neuron, in discrete time.

        s[t] = 1 if u[t] > threshold else 0
        subtract, reset_delay:     u[t] = beta * u[t-1] + y[t] - threshold * s[t-1]
        subtract, no reset_delay:  u[t] = beta * (u[t-1] - threshold * s[t-1]) + y[t]
        zero:                      u[t] = beta * u[t-1] * (1 - s[t-1]) + y[t]

    with u[0] = y[0]. The membrane u is the one before its own reset; the spike is a function of it, so it is the
    whole state. A membrane that is set to zero gives the same u whether it decays before or after.

    Attributes:
        beta: decay of the membrane per step, in [0, 1]; a number, or float32 `[n]` with one for each neuron.
        threshold: membrane above which the neuron spikes, > 0; likewise.
        reset: "subtract" or "zero".
        reset_delay: whether the reset acts after the decay of the next step (snnTorch's default) instead of in the
            step of the spike (SpikingJelly). Both values give the same spikes for the reset "zero".
    """

    beta: Parameter
    threshold: Parameter = 1.0
    reset: str = "subtract"
    reset_delay: bool = True

    role = "spiking"

    def __post_init__(self) -> None:
        _store_beta(self)
        store_parameter(self, "threshold", "> 0", is_positive)
        check_choice(self.reset, "reset", RESETS)
        is_bool = isinstance(self.reset_delay, bool)
        require(is_bool, f"reset_delay is {self.reset_delay!r}; expected true or false")

    def check_grid(self, grid: Grid) -> None:
        """See `Neuron`; every threshold lies on the grid."""
        if "beta" in self.arrays:
            super().check_grid(grid)
        threshold = np.atleast_1d(np.float32(self.threshold))
        is_off_grid = ~np.isclose(grid.round(threshold), threshold, rtol=1e-6, atol=0)
        worst = float(threshold[is_off_grid.argmax()])
        require(not is_off_grid.any(), f"the threshold {worst:g} does not lie on the grid of its membranes")

    @property
    def subtracts_before_decay(self) -> bool:
        """Whether the threshold is subtracted before the membrane decays."""
        return self.reset == "subtract" and not self.reset_delay

    def advance(self, membrane: Array, current: Array, grid: Grid | None = None) -> tuple[Array, Array]:
        """See `Neuron`; the output is 1 for a spike, else 0."""
        threshold = on_grid(np.asarray(self.threshold, membrane.dtype), grid)
        before = (membrane > threshold).astype(membrane.dtype)
        if self.subtracts_before_decay:
            membrane = on_grid(membrane - threshold * before, grid)
        after = on_grid(np.asarray(self.beta, membrane.dtype) * membrane, grid)
        if self.subtracts_before_decay:
            after = on_grid(after + current, grid)
        elif self.reset == "subtract":
            after = on_grid(on_grid(after + current, grid) - threshold * before, grid)
        else:
            after = on_grid(after * (1 - before) + current, grid)
        return after, (after > threshold).astype(membrane.dtype)


@dataclass(frozen=True, eq=False)
class RefractoryLif(Neuron):
    """Leaky integrate-and-fire neuron whose membrane stays 0 in the step after its spike.

        u[t] = 0 if s[t-1] else beta * u[t-1] + y[t]
        s[t] = 1 if u[t] > threshold else 0

    The current of that step is lost, unlike for the reset "zero" of a `Lif`.

    Attributes:
        beta: decay of the membrane per step, in [0, 1]; a number, or float32 `[n]` with one for each neuron.
        threshold: membrane above which the neuron spikes, > 0; likewise.

    Source: arXiv 2512.10011.
    """

    beta: Parameter
    threshold: Parameter = 1.0

    role = "spiking"

    def __post_init__(self) -> None:
        _store_beta(self)
        store_parameter(self, "threshold", "> 0", is_positive)

    def check_grid(self, grid: Grid) -> None:
        """See `Neuron`; there is no integer form."""
        del grid
        raise NetworkError("neurons with a refractory step have no int8 membranes")

    def advance(self, membrane: Array, current: Array, grid: Grid | None = None) -> tuple[Array, Array]:
        """See `Neuron`; the output is 1 for a spike, else 0."""
        del grid
        threshold = np.asarray(self.threshold, membrane.dtype)
        after = np.asarray(self.beta, membrane.dtype) * membrane + current
        after = np.where(membrane > threshold, membrane.dtype.type(0), after)
        return after, (after > threshold).astype(membrane.dtype)


@dataclass(frozen=True, eq=False)
class LeakyIntegrator(Neuron):
    """u[t] = beta * u[t-1] + y[t]: the membrane readout of a spiking network; it never spikes.

    Attributes:
        beta: decay of the membrane per step, in [0, 1]; a number, or float32 `[n]` with one for each neuron.
    """

    beta: Parameter

    role = "readout"

    def __post_init__(self) -> None:
        _store_beta(self)

    def advance(self, membrane: Array, current: Array, grid: Grid | None = None) -> tuple[Array, Array]:
        """See `Neuron`; the output is the membrane."""
        after: Array = np.asarray(self.beta, current.dtype) * membrane + current
        return after, after

    def response(self, steps: int) -> NDArray[np.float64]:
        """See `Neuron`."""
        exponents = np.arange(steps, dtype=np.float64)
        powers: NDArray[np.float64] = np.asarray(self.beta, np.float64) ** (
            exponents[:, np.newaxis] if self.arrays else exponents
        )
        return powers


def _store_beta(neuron: Lif | RefractoryLif | LeakyIntegrator) -> None:
    store_parameter(neuron, "beta", "in [0, 1]", lambda beta: (beta >= 0) & (beta <= 1))
