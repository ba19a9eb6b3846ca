"""Step models, whose state is inputs and outputs: one time step, and all of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sen_runtime.engines.session import Array, Float32Array, Session
from sen_runtime.errors import EngineError
from sen_runtime.ir.codings import CODINGS, Coding
from sen_runtime.ir.network import MAX_TIMESTEPS, readout_weights
from sen_runtime.untrusted import listing, quote


class GraphSession(Session):
    """A graph of named inputs and outputs.

    A step model computes one time step per call: its inputs besides `input` are its state, such as membranes, and each
    has an output of the same name with `_next`. `run` runs all time steps, from a state of zeros.

    Attributes:
        properties: the metadata of the file.
    """

    def __init__(
        self, declared: Sequence[object], membranes: Mapping[str, int], properties: Mapping[str, str], **options: bool
    ) -> None:
        """Open a session.

        Args:
            declared: shape of the input without the batch axis; of one time step, for a step model.
            membranes: name of each value of the state, and its number of columns.
            properties: metadata of the file.
            options: of `Session`.
        """
        self._membranes, self.properties = membranes, properties
        row_shape = tuple(size if isinstance(size, int) and size > 0 else None for size in declared)
        if membranes:
            missing = [name for name in ("timesteps", "readout", "input_coding") if name not in properties]
            if missing:
                raise EngineError(
                    f"the model has inputs besides `input`, and its metadata lack {missing[0]}",
                    "only step models of sen-edge run",
                )
            self.timesteps = timesteps_of(properties)
            if _coding(properties).has_steps:
                row_shape = (self.timesteps, *row_shape)
        super().__init__(row_shape, **options)
        self._state = self._zeros(1)

    @abstractmethod
    def _call(self, feeds: dict[str, Array]) -> dict[str, Array]:
        """Outputs by name for inputs by name."""

    @abstractmethod
    def _bare_call(self, x: Float32Array) -> Callable[[], Array]:
        """The library's own call on `x [rows, ...]`, whose shape it is ready for."""

    def bare_call(self, x: Array) -> Callable[[], Array]:
        """The library's own call on `x [rows, ...]`, without checks and conversions; for measurements.

        No other thread may use the session meanwhile.
        """
        if self._membranes:
            raise EngineError("a step model has no call of its own for all steps")
        self.run(x)  # checks the shape
        return self._bare_call(np.ascontiguousarray(x, np.float32))

    def _run(self, rows: Float32Array) -> Array:
        return self._run_all(rows)["output"]

    def _run_all(self, rows: Float32Array) -> dict[str, Array]:
        """Every output of the graph; for a step model the readout and the spike counts over all steps."""
        if not self._membranes:
            return self._call({"input": rows})
        is_train = _coding(self.properties).has_steps
        state, totals = self._zeros(len(rows)), dict[str, Array]()
        for t, weight in enumerate(readout_weights(_readout_decay(self.properties), self.timesteps)):
            values, state = self._advance(np.ascontiguousarray(rows[:, t]) if is_train else rows, state)
            if weight != 1:
                values["output"] = values["output"] * np.float32(weight)
            totals = {name: totals.get(name, 0) + value for name, value in values.items()}
        if self.properties["readout"] == "mean_membrane":
            totals["output"] = totals["output"] / np.float32(self.timesteps)
        elif self.properties["readout"] == "last_membrane":
            totals["output"] = values["output"]
        return totals

    def _step(self, row: Float32Array) -> Array:
        values, self._state = self._advance(row[np.newaxis], self._state)
        output: Array = values["output"][0]
        return output

    def _reset(self) -> None:
        self._state = self._zeros(1)

    def _zeros(self, batch: int) -> dict[str, Array]:
        return {name: np.zeros((batch, size), np.float32) for name, size in self._membranes.items()}

    def _advance(self, x: Array, state: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
        """One time step: the outputs, and the next membranes."""
        values = self._call({"input": x, **state})
        lacking = [name for name in ("output", *(f"{name}_next" for name in state)) if name not in values]
        if lacking:
            raise EngineError(f"the model has no output {listing(lacking)}", "only step models of sen-edge run")
        following = {name: values.pop(f"{name}_next") for name in state}
        return values, following


def _coding(properties: Mapping[str, str]) -> Coding:
    name = properties["input_coding"]
    if name not in CODINGS:
        raise EngineError(f"the model's input coding is {quote(name)}; expected {', '.join(CODINGS)}")
    return CODINGS[name]


def _readout_decay(properties: Mapping[str, str]) -> float:
    """Factor from the weight of a step in the mean of the membranes to that of the next."""
    found = properties.get("readout_decay", "1")
    try:
        decay = float(found)
    except ValueError:
        decay = 0.0
    if not 0 < decay <= 1:
        raise EngineError(f"the model's readout_decay is {quote(found)}; expected a number in (0, 1]")
    return decay


def timesteps_of(properties: Mapping[str, str]) -> int:
    """Time steps in the metadata of a file; 0 for a multilayer perceptron."""
    found = properties.get("timesteps", "0")
    steps = int(found) if found.isdecimal() and len(found) <= len(str(MAX_TIMESTEPS)) else -1
    if not 0 <= steps <= MAX_TIMESTEPS:
        raise EngineError(f"the model's timesteps are {quote(found)}; expected a number up to {MAX_TIMESTEPS}")
    return steps
