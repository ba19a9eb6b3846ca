"""Observations of a run: rows, samples, and the state of the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_runtime.bench.coldstart import ColdStart
from sen_runtime.bench.plan import BenchRequest, LeftOut, RowPlan
from sen_runtime.bench.rounds import Measured
from sen_runtime.ir.network import input_range_of, stored_dtype

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Row:
    """A row that was loaded.

    Attributes:
        input_shape: `[n_in]`, or `[T, n_in]` of spike trains.
        properties: metadata of the file.
        timesteps: of a spiking network; else 0.
        kernels, arena_bytes: of the native engine.
        rows_per_call: batch size of the model.
        has_c_loop: whether the loop over the calls is in C.
        outputs: of the common inputs `[n, n_out]`, once they were computed.
        call_us: duration of a call through Python, beyond the engine's own loop.
        accuracy_percent: on labelled data.
    """

    plan: RowPlan
    input_shape: tuple[int, ...]
    n_out: int
    properties: Mapping[str, str]
    timesteps: int
    cold: ColdStart
    kernels: str | None = None
    arena_bytes: int | None = None
    rows_per_call: int = 1
    has_c_loop: bool = True
    outputs: FloatArray = field(default_factory=lambda: np.empty((0, 0), np.float32))
    call_us: float | None = None
    accuracy_percent: float | None = None

    @property
    def name(self) -> str:
        """Unique in the run."""
        return self.plan.name

    @property
    def dtype(self) -> str:
        """Type of the stored weights."""
        network = self.plan.artifact.network
        return self.properties.get("dtype", "unknown" if network is None else stored_dtype(network))


@dataclass(frozen=True, eq=False)
class Observations:
    """Everything that was seen in a run, in this process or by `sen_bench`.

    Attributes:
        tool: name and version of the program that measured.
        created: begin of the run, UTC.
        cpus_verified: whether the system confirmed `request.cpu`; True without one.
        inputs: that took turns `[n, ...]`.
        data: title of the user's data; None for random inputs.
        rows: the first is the baseline.
        clock: resolution and costs of the clock, and of the loop.
        bandwidth: see `memory.bandwidth`.
        states: before, during (any number) and after the run.
        cores: usable by the process.
        swept_bytes: max size of the buffer that emptied the caches.
        sustained: see docs/reference/bench.md; None where not asked for.
        warnings: of the first row.
    """

    tool: tuple[str, str]
    request: BenchRequest
    created: datetime
    cpus_verified: bool
    inputs: FloatArray
    data: str | None
    rows: Sequence[Row]
    measured: Measured
    clock: Mapping[str, float]
    bandwidth: Mapping[str, float | None]
    device: Mapping[str, Any]
    states: Sequence[Mapping[str, Any]]
    cores: int
    swept_bytes: int
    left_out: Sequence[LeftOut] = ()
    sustained: list[dict[str, Any]] | None = None
    warnings: Sequence[dict[str, str]] = ()


def input_ranges(rows: Sequence[Row]) -> list[tuple[float, float]]:
    """Different input ranges that the files state."""
    return list(dict.fromkeys(input_range_of(row.properties) for row in rows if "input_range" in row.properties))
