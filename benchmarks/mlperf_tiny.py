"""Latency and results of integer-only networks under the protocol of MLPerf Tiny, on emulated Cortex-M boards.

    python benchmarks/mlperf_tiny.py [--write]

Networks of `instructions.py` are exported with their harness, built with the same flags, and run on a serial line of
QEMU, which the runner of the tests drives. Time is virtual: an instruction takes 1 ns. `--write` writes the table to
docs/reference/instructions.md, and requires MNIST. Exit code 3: a latency differs from the instructions of
benchmarks/instructions.json by more than 1 %, or an output from that of the reference. Exit code 1: `--write` without
the required tools or MNIST. With either, nothing is written.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from instruction_forms import ANOMALY, CALIBRATION, IMAGES, MNIST, STROKES, Form, digits, forms
from instructions import CORES, PAGE, SIMD, TABLE, export
from numpy.typing import NDArray
from pages import write_section
from sklearn.datasets import load_digits

from sen_edge.data.datasets import load_test
from sen_runtime import integer
from tests.cross import harness
from tests.support.mlperf_tiny import Runner

Array = NDArray[Any]

NAME = "mlperf_tiny"
#: Cores whose boards have the serial port of uart.c; networks, in the order of the table.
BOARDS = ("M0", "M3", "M4", "M55")
MEASURED = {STROKES: ("dense, int8",), MNIST: ("dense, int8",), ANOMALY: None}
#: Inferences between two timestamps; images whose class is compared.
INFERENCES, SCORED = 100, 500
#: Max difference of virtual time and instructions.
TOLERANCE = 0.01


@dataclass(frozen=True)
class Session:
    """A network on a board.

    Attributes:
        microseconds: virtual time of one inference, the mean of the inputs that `instructions.py` counts.
        results: `[rows, n_out]`, as th_results prints them.
    """

    microseconds: float
    results: Array


@dataclass(frozen=True)
class Row:
    """Row of the table.

    Attributes:
        line: in Markdown.
        difference: of virtual time and instructions, relative; max of the cores.
        unequal: results that differ from those of the reference, on all cores.
    """

    line: str
    difference: float
    unequal: int


def is_measured(form: Form) -> bool:
    """Whether the form is a row of the table."""
    names = MEASURED.get(form.shape, ())
    return form.is_integer and (names is None or form.name in names)


def scored(form: Form) -> tuple[Array, Array | None]:
    """Inputs `[rows, n_in]` of a form, those that are counted first, and their classes."""
    if form.shape == MNIST:
        test = load_test("mnist", None, form.network)
        assert test.targets is not None
        return np.asarray(test.inputs[:SCORED]), np.asarray(test.targets[:SCORED])
    if form.shape == STROKES:
        rows = np.r_[:IMAGES, IMAGES + CALIBRATION : SCORED + CALIBRATION]  # those between them calibrate
        return digits(SCORED + CALIBRATION)[rows], load_digits().target[rows]
    return form.inputs, None


def run(form: Form, core: str, x: Array, folder: Path) -> Session:
    """Run a session with stored inputs on a board."""
    net = export(form, folder, SIMD.get(core, "none"))
    sources = [net / "net.c", net / "net_weights.S", net / "net_harness.c", harness.HERE / "uart.c"]
    program = harness.build(CORES[core], sources, folder / "program", includes=[net], defines=["SEN_HARNESS_PORT"])
    counted, elapsed, results = len(form.inputs), 0, []
    with harness.serial(CORES[core], program) as process:
        assert process.stdin and process.stdout
        runner = Runner(process.stdout.fileno(), process.stdin.fileno())
        for row, each in enumerate(x):
            runner.load(each.tobytes())
            y, microseconds = runner.infer(INFERENCES if row < counted else 1, 0)
            results.append(y)
            elapsed += microseconds if row < counted else 0
    return Session(elapsed / (INFERENCES * counted), np.array(results))


def measure(form: Form, instructions: Mapping[str, int]) -> Row:
    """Measure a form on every board; `instructions` of one inference by core."""
    network, (x, classes) = form.network, scored(form)
    assert network.input_grid is not None and network.layers[-1].grid is not None
    stored, expected = integer.quantize(network.input_grid, x), integer.run(network, x)
    cells, difference, unequal = [], 0.0, 0
    for core in BOARDS:
        with tempfile.TemporaryDirectory() as folder:
            session = run(form, core, stored, Path(folder))
        cells.append(f"{session.microseconds:,.1f}")
        difference = max(difference, abs(1000 * session.microseconds / instructions[core] - 1))
        is_equal = np.abs(session.results - expected) < network.layers[-1].grid.scale / 2
        unequal += int((~is_equal).any(axis=1).sum())
    if classes is not None:
        cells.append(f"{(session.results.argmax(axis=1) == classes).sum()} of {len(x)} correct")
    else:
        cells.append(f"mean squared error {np.square(session.results - x).mean():.3f}")
    return Row(f"| {form.shape}: {form.name} | {' | '.join(cells)} |", difference, unequal)


def lines_of(rows: Sequence[Row]) -> list[str]:
    """Format the table as Markdown lines."""
    difference = max(row.difference for row in rows)
    return [
        "`python benchmarks/mlperf_tiny.py --write`: microseconds of virtual time of one inference, which differ from",
        f"the thousands of instructions above by at most {100 * difference:.2f} %, and results: right classes, or the",
        "difference of output and input.",
        "",
        f"| network | {' | '.join(BOARDS)} | results |",
        f"| --- |{' ---: |' * (len(BOARDS) + 1)}",
        *(row.line for row in rows),
    ]


def main(arguments: list[str]) -> int:
    """Measure, print, and write on request."""
    missing = {tool for core in BOARDS for tool in harness.missing(CORES[core])}
    if missing:
        print(f"not measured: requires {', '.join(sorted(missing))}")
        return 1 if arguments == ["--write"] else 0
    measured = json.loads(TABLE.read_text())["measured"]
    rows = []
    for form in filter(is_measured, forms()):
        rows.append(measure(form, measured[form.shape][form.name]["instructions"]))
        print(rows[-1], file=sys.stderr)
    lines = lines_of(rows)
    print("\n".join(lines))
    if wrong := [row for row in rows if row.difference > TOLERANCE or row.unequal]:
        print("\n".join(["wrong:", *map(str, wrong)]))
        return 3
    if arguments == ["--write"]:
        if not any(MNIST in row.line for row in rows):
            print("not written: requires MNIST, in the folder SEN_EDGE_DATA")
            return 1
        write_section(PAGE, lines, NAME)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
