"""From observations to a record: judge outputs and machine, and work out the figures.

The observations come from a run in this process (`measure.py`), or from a file of `sen_bench` (`raw.py`). The record is
described in docs/reference/bench.md and in record.schema.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_runtime.bench import throttle
from sen_runtime.bench.inputs import N_INPUTS
from sen_runtime.bench.interleaved import TURN_NS
from sen_runtime.bench.judge import judge, wrong
from sen_runtime.bench.plan import LeftOut
from sen_runtime.bench.record import SCHEMA, is_wrong
from sen_runtime.bench.rounds import Measured
from sen_runtime.bench.rows import Context, Row, figures


@dataclass(frozen=True, eq=False)
class Observations:
    """Everything that was seen in a run.

    Attributes:
        tool: name and version of the program that measured.
        command: words of its command line.
        created: begin of the run, UTC.
        seconds, seed, cold_cache, cpu: settings.
        cpus_verified: whether the system confirmed `cpu`; True without one.
        inputs: that took turns `[n, ...]`.
        data: title of the user's data; None for random inputs.
        rows: the first is the baseline.
        measured: their samples.
        clock: resolution and costs of the clock, and of the loop.
        bandwidth: see `memory.bandwidth`.
        device: facts about the machine.
        states: before, during (any number) and after the run.
        cores: usable by the process.
        left_out: rows that could not be measured.
        sustained: see docs/reference/bench.md; None where not asked for.
        raw: keep all samples in the record.
        warnings: of the first row.
    """

    tool: tuple[str, str]
    command: Sequence[str]
    created: datetime
    seconds: float
    seed: int
    cold_cache: bool
    cpu: int | None
    cpus_verified: bool
    inputs: NDArray[np.float32]
    data: str | None
    rows: Sequence[Row]
    measured: Measured
    clock: Mapping[str, float]
    bandwidth: Mapping[str, float | None]
    device: Mapping[str, Any]
    states: Sequence[Mapping[str, Any]]
    cores: int
    left_out: Sequence[LeftOut] = ()
    sustained: list[dict[str, Any]] | None = None
    raw: bool = False
    warnings: Sequence[dict[str, str]] = ()


def evaluate(seen: Observations) -> dict[str, Any]:
    """Return the record of a run."""
    before, *during, after = seen.states
    throttled = throttle.changes(before, after, during)
    rows = _rows(seen)
    reasons = [wrong(row) for row in rows if is_wrong(row)] + throttled
    return {
        "schema": SCHEMA,
        "created": seen.created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "tool": dict(zip(("name", "version"), seen.tool)),
        "command": list(seen.command),
        "status": "complete" if seen.measured.is_complete else "interrupted",
        "valid": not reasons,
        "invalid_because": reasons,
        "settings": _settings(seen),
        "clock": dict(seen.clock),
        "device": {**seen.device, "before": before, "after": after, "throttled_during": throttled},
        "bandwidth": dict(seen.bandwidth),
        "left_out": [asdict(each) for each in seen.left_out],
        "rows": rows,
        "sustained": seen.sustained,
        "energy": None,
    }


def _rows(seen: Observations) -> list[dict[str, Any]]:
    context = Context(
        seen.measured,
        seen.rows[0],
        seen.clock["loop_ns"],
        seen.bandwidth,
        seen.device,
        seen.cores,
        seen.seed,
        seen.cold_cache,
        seen.raw,
    )
    rows = [figures(row, context) for row in seen.rows]
    judged = judge(seen.rows, seen.inputs[:N_INPUTS], has_data=seen.data is not None)
    for row, (agreement, warnings) in zip(rows, judged):
        row.update(agreement=agreement, warnings=[*warnings, *row["warnings"]])
    rows[0]["warnings"] += seen.warnings
    return rows


def _settings(seen: Observations) -> dict[str, Any]:
    return {
        "seconds": float(seen.seconds),
        "seed": seen.seed,
        "inputs": "cold-cache" if seen.cold_cache else "random" if seen.data is None else "data",
        "n_inputs": len(seen.inputs),
        "data": seen.data,
        "cpus": None if seen.cpu is None else [seen.cpu],
        "cpus_verified": seen.cpus_verified,
        "turn_ns": TURN_NS,
        "loads": list(seen.measured.loads),
    }
