"""Compare results of the device with this machine and with the reference interpreter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.arm.boards import Board
from tests.arm.device import SINGLE_STRIDE
from tests.arm.host import DRAWN, INPUTS, Array, Artifact, Side


@dataclass(frozen=True)
class Limits:
    """What counts as agreement.

    Attributes:
        error: greatest error of an output, over the standard deviation of the expected outputs.
        share: least share of inputs within it.
        argmax: least share of inputs with the same greatest output.
    """

    error: float
    share: float = 1.0
    argmax: float = 1.0


#: Architecture and arithmetic: against the same engine on this machine, and against the reference interpreter.
#: Below 1 for spiking networks: summed in another order, a membrane at its threshold may spike or not.
LIMITS = {
    ("mlp", "float"): (Limits(1e-4), Limits(1e-4)),
    ("snn", "float"): (Limits(1e-4, 0.98, 0.98), Limits(1e-4, 0.98, 0.98)),
    # the engine rounds activations to int8 on the way: one may fall to the other side
    ("mlp", "rounded"): (Limits(2e-2), Limits(0.15, 1.0, 0.9)),
    ("snn", "rounded"): (Limits(2e-2, 0.98, 0.98), Limits(0.5, 0.9, 0.9)),
    # three steps of the output's grid against this machine; against the float32 network what eight bits cost
    ("mlp", "int8"): (Limits(0.1), Limits(0.5, 0.9, 0.9)),
    ("snn", "int8"): (Limits(0.1, 0.98, 0.98), Limits(0.5, 0.8, 0.8)),
}


@dataclass(frozen=True)
class Figures:
    """One comparison: the worst error over the standard deviation, and shares of inputs."""

    error: float
    share: float
    argmax: float

    def within(self, limits: Limits) -> bool:
        """Whether all three are."""
        return self.share >= limits.share and self.argmax >= limits.argmax


@dataclass(frozen=True)
class Row:
    """An artifact in an engine on the device.

    Attributes:
        here: its outputs against those of the same engine on this machine.
        reference: against the reference interpreter's.
        problem: what is wrong; empty if nothing is.
    """

    artifact: str
    engine: str
    version: str
    here: Figures | None
    reference: Figures | None
    problem: str


def compare(board: Board, artifacts: Sequence[Artifact], here: Side, there: Side) -> list[Row]:
    """A row for every artifact in every engine that runs it."""
    engines = board.architecture.engines
    return [
        _row(board, artifact, engine, here, there)
        for artifact in artifacts
        for engine in artifact.engines
        if engine in engines
    ]


def _row(board: Board, artifact: Artifact, engine: str, here: Side, there: Side) -> Row:
    name, report = artifact.name, there.reports[engine]
    version, kernels = report.get("version", "-"), report.get("kernels", {}).get(name, "")
    title = f"{engine} ({kernels})" if kernels else engine
    actual, same = there.outputs(engine, name), here.outputs(engine, name)
    expected = here.outputs("reference", artifact.reference)
    if actual is None:
        return Row(name, title, version, None, None, f"did not run on the device: {there.trouble(engine, name)}")
    if same is None or expected is None:
        silent = (engine, name) if same is None else ("reference", artifact.reference)
        problem = f"{silent[0]} did not run on this machine: {here.trouble(*silent)}"
        return Row(name, title, version, None, None, problem)
    rows = _rows(artifact)
    limits = LIMITS[artifact.architecture, artifact.arithmetic(engine)]
    figures = _figures(actual, same, limits[0]), _figures(actual[rows], expected[rows], limits[1])
    problems = [
        f"differs from {whom}: error {found.error:.2g}, {found.share:.1%} of the inputs within {limit.error:g} "
        f"(least {limit.share:.0%}), argmax {found.argmax:.1%} (least {limit.argmax:.0%})"
        for whom, found, limit in zip(("this machine", "the reference"), figures, limits, strict=True)
        if not found.within(limit)
    ]
    if report["machine"] != board.architecture.machine:
        problems.append(f"ran on {report['machine']}, which is no device")
    if version != here.reports[engine].get("version"):
        problems.append(f"this machine has version {here.reports[engine].get('version')}")
    if engine == "native" and kernels != board.kernels:
        problems.append(f"ran with the kernels {kernels}; expected {board.kernels}")
    return Row(name, title, version, *figures, "; ".join(problems))


def _rows(artifact: Artifact) -> NDArray[np.bool_]:
    """Outputs to compare with the reference: int8 ranges hold for inputs like the calibration's."""
    inputs = np.arange(INPUTS)
    compared = inputs < (DRAWN if artifact.dtype == "int8" else INPUTS)
    return np.concatenate([compared, compared[::SINGLE_STRIDE]])


def _figures(actual: Array, expected: Array, limits: Limits) -> Figures:
    if actual.shape != expected.shape:
        return Figures(float("inf"), 0.0, 0.0)
    error = np.abs(actual.astype(np.float64) - expected).max(axis=1) / float(expected.std(dtype=np.float64))
    error[~np.isfinite(actual).all(axis=1)] = np.inf
    agreement = float(np.mean(actual.argmax(1) == expected.argmax(1)))
    return Figures(float(error.max()), float(np.mean(error <= limits.error)), agreement)


def table(rows: Sequence[Row]) -> str:
    """The rows as text, and a sentence for each problem."""
    heading = ("artifact", "engine", "version", "error: x86", "reference", "argmax: x86", "reference", "")
    cells = [heading, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(heading))]
    lines = [
        "  ".join(
            text.ljust(width) if column < 3 or column == 7 else text.rjust(width) for column, (text, width) in each
        )
        for each in (enumerate(zip(line, widths, strict=True)) for line in cells)
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.problem:
            found.setdefault((row.engine, row.problem), []).append(row.artifact)
    problems = [f"{engine}: {problem}: {', '.join(names)}" for (engine, problem), names in found.items()]
    return "\n".join([*(line.rstrip() for line in lines), *([""] if problems else []), *problems])


def _cells(row: Row) -> tuple[str, ...]:
    if row.here is None or row.reference is None:
        return row.artifact, row.engine, row.version, "-", "-", "-", "-", "DID NOT RUN"
    figures = row.here, row.reference
    errors = [f"{found.error:.1e}" for found in figures]
    shares = [f"{found.argmax:.1%}" for found in figures]
    return row.artifact, row.engine, row.version, *errors, *shares, "DISAGREES" if row.problem else "agrees"
