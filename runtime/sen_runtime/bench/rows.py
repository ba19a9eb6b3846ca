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
from sen_runtime.errors import NetworkError, UsageError
from sen_runtime.ir.network import input_range_of, stored_dtype
from sen_runtime.ir.standardization import CONSTANTS, LEFT_TO_CALLER, Standardization, scaling_of
from sen_runtime.task import CLASSIFICATION, Metric

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Row:
    """A row that was loaded."""

    plan: RowPlan
    input_shape: tuple[int, ...]  # [n_in], or [T, n_in] of spike trains
    n_out: int
    properties: Mapping[str, str]  # metadata of the file
    timesteps: int  # of a spiking network, else 0
    cold: ColdStart
    kernels: str | None = None  # of the native engine, as the arena
    arena_bytes: int | None = None
    is_batch_fixed: bool = False  # by the file
    has_c_loop: bool = True  # the loop over the calls is in C
    outputs: FloatArray = field(default_factory=lambda: np.empty((0, 0), np.float32))  # [n, n_out] of the common inputs
    call_us: float | None = None  # of a call through Python, beyond the engine's own loop
    score: tuple[Metric, float] | None = None  # of the task, on the data

    @property
    def name(self) -> str:
        """Unique in the run."""
        return self.plan.name

    @property
    def batch(self) -> int:
        """Inputs of one call."""
        return self.plan.batch

    @property
    def task(self) -> str:
        """Task of the network."""
        return self.properties.get("task", CLASSIFICATION)

    @property
    def dtype(self) -> str:
        """Type of the stored weights."""
        network = self.plan.artifact.network
        return self.properties.get("dtype", "unknown" if network is None else stored_dtype(network))


@dataclass(frozen=True, eq=False)
class Observations:
    """Everything that was seen in a run, in this process or by `sen_bench`."""

    tool: tuple[str, str]  # name and version of the program that measured
    request: BenchRequest
    created: datetime  # begin of the run, UTC
    inputs: FloatArray  # that took turns [n, ...]
    data: str | None  # title of the user's data; None for random inputs
    rows: Sequence[Row]  # the first is the baseline
    measured: Measured
    clock: Mapping[str, float]  # resolution and costs of the clock, and of the loop
    bandwidth: Mapping[str, float | None]  # see `memory.bandwidth`
    device: Mapping[str, Any]
    states: Sequence[Mapping[str, Any]]  # before, during (any number) and after the run
    cores: int  # usable by the process
    swept_bytes: int  # max size of the buffer that emptied the caches
    left_out: Sequence[LeftOut] = ()
    sustained: list[dict[str, Any]] | None = None  # see docs/reference/bench.md; None where not asked for
    warnings: Sequence[dict[str, str]] = ()  # of the first row
    servers: Mapping[str, dict[str, Any]] = field(default_factory=dict)  # results of load tests by name of the row
    cpus_verified: bool = True  # the system confirmed `request.cpus`; True without


def input_ranges(rows: Sequence[Row]) -> list[tuple[float, float]]:
    """Different input ranges that the files state."""
    return list(dict.fromkeys(input_range_of(row.properties) for row in rows if "input_range" in row.properties))


def caller_scaling(rows: Sequence[Row]) -> Standardization | None:
    """Standardization that the common inputs of all rows need first; None for inputs as they are.

    Raises:
        UsageError: the files need different inputs, or the constants of a file are damaged.
    """
    stated: dict[tuple[str, ...], Row] = {}
    for row in rows:
        texts = {name: row.properties.get(name, "") for name in CONSTANTS}
        is_left = row.properties.get("preprocess") == LEFT_TO_CALLER
        stated.setdefault(tuple(texts.values()) if is_left else (), row)
    if len(stated) > 1:
        first, other = list(stated.values())[:2]
        raise UsageError(
            f"{first.plan.artifact.path.name} and {other.plan.artifact.path.name} take inputs of different "
            "standardization (preprocess in their metadata)",
            "measure them in separate runs",
        )
    return stated_scaling(rows[0]) if rows[0].properties.get("preprocess") == LEFT_TO_CALLER else None


def stated_scaling(row: Row) -> Standardization | None:
    """Standardization in the metadata of a file; None without.

    Raises:
        UsageError: its constants are damaged.
    """
    try:
        return scaling_of(row.properties, row.input_shape[-1])
    except NetworkError as error:
        raise UsageError(f"{row.plan.artifact.path}: {error.message}", error.hint) from error
