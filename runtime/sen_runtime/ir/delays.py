"""Synaptic delays in whole time steps: one for all synapses of a connection, one for each, or from positions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sen_runtime.errors import NetworkError
from sen_runtime.ir.checks import Array, check_array, check_choice, is_positive, require, store_float32

#: Longest delay, such that 16 bits contain every delay.
MAX_DELAY = (1 << 16) - 1
#: Scaled distances of overflow "wrap" are below this, so that float32 holds half steps.
MAX_WRAPPED = float(1 << 22)
#: What happens to distances beyond the longest delay: an error, that delay, or the remainder of a ring's slots.
OVERFLOWS = ("error", "clamp", "wrap")

Steps = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Delay(ABC):
    """Delays of a connection; a subclass is a frozen dataclass.

    A spike of step t arrives in step t + delay.

    Attributes:
        kind: name in reports.
        is_varied: whether synapses may differ.
    """

    kind: ClassVar[str]
    is_varied: ClassVar[bool] = True

    @abstractmethod
    def steps(self, shape: tuple[int, int]) -> Steps:
        """Delays `[n_out, n_in]` in time steps: the plain reference."""

    @property
    @abstractmethod
    def bounds(self) -> tuple[int, int]:
        """Lower and upper bound of the delays in steps, without computing each of them."""

    @property
    def arrays(self) -> list[Array]:
        """Stored arrays."""
        return [value for value in vars(self).values() if isinstance(value, np.ndarray)]

    @property
    def nbytes(self) -> int:
        """Bytes of the stored arrays."""
        return sum(int(array.nbytes) for array in self.arrays)

    @abstractmethod
    def check_shape(self, shape: tuple[int, int]) -> None:
        """Raise a `NetworkError` unless the delays are those of weights `[n_out, n_in]`."""


@dataclass(frozen=True, eq=False)
class ConstantDelay(Delay):
    """The same delay for every synapse, in steps."""

    value: int

    kind = "constant"
    is_varied = False

    def __post_init__(self) -> None:
        is_whole = isinstance(self.value, (int, np.integer)) and not isinstance(self.value, bool)
        is_delay = is_whole and 0 <= self.value <= MAX_DELAY
        require(is_delay, f"delay is {self.value!r}; expected a whole number of steps from 0 to {MAX_DELAY}")

    @property
    def bounds(self) -> tuple[int, int]:
        """See `Delay`."""
        return self.value, self.value

    def check_shape(self, shape: tuple[int, int]) -> None:
        """See `Delay`; one delay is that of all weights."""

    def steps(self, shape: tuple[int, int]) -> Steps:
        """See `Delay`."""
        return np.full(shape, self.value, np.int32)


@dataclass(frozen=True, eq=False)
class StoredDelay(Delay):
    """A delay for each synapse: `values [n_out, n_in]` in steps, uint8 or uint16."""

    values: Array

    kind = "stored"

    def __post_init__(self) -> None:
        found = self.values.dtype if isinstance(self.values, np.ndarray) else type(self.values).__name__
        require(found in (np.dtype(np.uint8), np.dtype(np.uint16)), f"delays: got {found}; expected uint8 or uint16")
        is_matrix = self.values.ndim == 2 and self.values.size
        require(is_matrix, f"delays: shape is {list(self.values.shape)}; expected 2 axes, none of them empty")

    @property
    def bounds(self) -> tuple[int, int]:
        """See `Delay`."""
        return int(self.values.min()), int(self.values.max())

    def check_shape(self, shape: tuple[int, int]) -> None:
        """See `Delay`."""
        found = self.values.shape
        require(found == shape, f"delays have the shape {list(found)}; expected that of the weights, {list(shape)}")

    def steps(self, shape: tuple[int, int]) -> Steps:
        """See `Delay`."""
        self.check_shape(shape)
        return self.values.astype(np.int32)


@dataclass(frozen=True, eq=False)
class SpatialDelay(Delay):
    """Delays from positions; O(n) storage.

        k[j, i] = rint(scale * sqrt(|| source[i] - target[j] ||^2 + softening))
        delay   = shift + k,  min(k, limit) (clamp),  or k modulo (limit + 1) (wrap, k < MAX_WRAPPED)

    All arithmetic is float32 in this order, squares of the coordinates added from the first on, without fused
    operations, so that every processor gives the same delays. `rint` rounds halves to even.

    Attributes:
        source: `[n_in, d]` positions of the presynaptic neurons, float32.
        target: `[n_out, d]` positions of the postsynaptic neurons, float32.
        scale: steps per unit of length, > 0.
        softening: added to the squared distance, >= 0.
        limit: longest delay before the shift, in steps.
        overflow: "error" (a longer distance is an error), "clamp" or "wrap", as a ring of limit + 1 slots does.
        shift: steps added to each delay.

    Source: arXiv 2512.10011 (softening 0.01, wrap) and 2511.01632 (clamp).
    """

    source: Array
    target: Array
    scale: float = 1.0
    softening: float = 0.0
    limit: int = MAX_DELAY
    overflow: str = "error"
    shift: int = 0

    kind = "positions"

    def __post_init__(self) -> None:
        check_array(self.source, "source positions", 2)
        check_array(self.target, "target positions", 2)
        source, target = self.source.shape[1], self.target.shape[1]
        require(
            source == target,
            f"source positions have {source} coordinates, target positions have {target}; both need the same number",
        )
        store_float32(self, "scale", "> 0", is_positive)
        store_float32(self, "softening", ">= 0", lambda value: value >= 0)
        check_choice(self.overflow, "overflow", OVERFLOWS)
        is_bounded = self.limit >= 0 and self.shift >= 0 and self.limit + self.shift <= MAX_DELAY
        require(is_bounded, f"limit is {self.limit} and shift {self.shift}; expected a sum from 0 to {MAX_DELAY}")

    @property
    def shape(self) -> tuple[int, int]:
        """`(n_out, n_in)`."""
        return self.target.shape[0], self.source.shape[0]

    @property
    def bounds(self) -> tuple[int, int]:
        """See `Delay`."""
        shortest = float(np.rint(np.float32(self.scale) * np.sqrt(np.float32(self.softening))))
        return self.shift + int(min(shortest, self.limit) * (self.overflow != "wrap")), self.shift + self.limit

    def check_shape(self, shape: tuple[int, int]) -> None:
        """See `Delay`."""
        require(
            self.shape == shape,
            f"positions are those of {self.shape[1]} source and {self.shape[0]} target neurons; expected {shape[1]} "
            f"and {shape[0]}, as the weights have",
        )

    def steps(self, shape: tuple[int, int]) -> Steps:
        """See `Delay`.

        Raises:
            NetworkError: a distance is beyond the limit, for overflow "error", or beyond `MAX_WRAPPED` for "wrap".
        """
        self.check_shape(shape)
        rounded = self.unlimited()
        limit = {"wrap": MAX_WRAPPED - 1, "clamp": np.inf, "error": self.limit}[self.overflow]
        if (longest := float(rounded.max())) > limit:
            j, i = np.unravel_index(int(rounded.argmax()), shape)
            raise NetworkError(
                f"the delay from source neuron {i} to target neuron {j} is {longest:.0f} steps; expected at most "
                f"{limit:.0f}",
                hint="train with a shorter wiring length, or clamp",
            )
        if self.overflow == "wrap":
            rounded = np.fmod(rounded, np.float32(self.limit + 1))
        rounded = np.minimum(rounded, np.float32(self.limit))
        steps: Steps = rounded.astype(np.int32) + np.int32(self.shift)
        return steps

    def unlimited(self) -> NDArray[np.float32]:
        """Delays `[n_out, n_in]` in whole steps without limit and shift; inf where float32 overflows."""
        with np.errstate(over="ignore"):
            rounded: NDArray[np.float32] = np.rint(self.distances() * np.float32(self.scale))
        return rounded

    def distances(self) -> NDArray[np.float32]:
        """Softened distances `[n_out, n_in]`."""
        source, target = self.source.astype(np.float32), self.target.astype(np.float32)
        squared = np.zeros(self.shape, np.float32)
        with np.errstate(over="ignore"):  # an infinite distance is beyond every limit
            for axis in range(source.shape[1]):
                difference = source[np.newaxis, :, axis] - target[:, np.newaxis, axis]
                squared = squared + difference * difference
            distance: NDArray[np.float32] = np.sqrt(squared + np.float32(self.softening))
        return distance
