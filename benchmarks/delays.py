"""Instructions per step of a network of the shape of SpSNN (arXiv 2512.10011) in exported C on Cortex-M4.

    python benchmarks/delays.py [--write]

Weights are random, delays follow from positions in three dimensions. Both forms of delays are counted in QEMU, with
float32 and int8 weights. `--write` writes the table to docs/reference/instructions.md. Exit code 3: a goal is missed.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from c_code_size import compiler
from instruction_forms import Form
from instructions import CORES, PAGE, count, export
from numpy.typing import NDArray
from pages import write_section

from sen_edge.passes.quantize import to_int8_weights
from sen_exporters.c.budget import footprint
from sen_exporters.c.program import lower_network
from sen_exporters.c.wiring import FORMS
from sen_runtime import reference
from sen_runtime.ir.delays import SpatialDelay
from sen_runtime.ir.layer import Layer, Recurrence
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import LeakyIntegrator, RefractoryLif
from sen_runtime.ir.operators import Dense

FloatArray = NDArray[np.float32]

#: Inputs, recurrent neurons and outputs; steps, of 0.5 ms; slots of the ring.
N_IN, N, N_OUT, STEPS, STEP_MS, SLOTS = 700, 300, 20, 40, 0.5, 42
#: Share of the inputs that spike in a step; about the same share of the neurons does with these weights.
ACTIVE = 0.01
#: Standard deviation of positions, in ms: delays of up to 42 steps.
SPREAD_MS = 2.6
INPUT_GAIN, RECURRENT_GAIN = 0.025, 0.01


def delayed() -> tuple[Network, FloatArray]:
    """The network, and one input `[1, STEPS, N_IN]`."""
    rng = np.random.default_rng(0)
    inputs, own = (SPREAD_MS * rng.standard_normal((n, 3), np.float32) for n in (N_IN, N))
    scale, softening, longest = 1 / STEP_MS, 0.01, SLOTS - 1

    def weights(n_in: int, gain: float) -> Dense:
        return Dense(gain * rng.standard_normal((N, n_in), np.float32))

    hidden = Layer(
        weights(N_IN, INPUT_GAIN),
        None,
        RefractoryLif(float(np.exp(-STEP_MS / 10))),
        delay=SpatialDelay(inputs, own, scale, softening, longest, "clamp"),
        recurrent=Recurrence(weights(N, RECURRENT_GAIN), SpatialDelay(own, own, scale, softening, longest, "clamp", 1)),
        synapse=float(np.exp(-STEP_MS / 2)),
    )
    readout = Layer(Dense(0.1 * rng.standard_normal((N_OUT, N), np.float32)), None, LeakyIntegrator(1.0))
    x = (rng.random((1, STEPS, N_IN)) < ACTIVE).astype(np.float32)
    return Network((hidden, readout), STEPS, "spikes", "last_membrane"), x


#: Goals: instructions of a step with a table, times as many with coordinates, bytes of RAM with int8 weights, and
#: share of the flash of a table that positions take.
MAX_STEP, MAX_RATIO, MAX_RAM, MAX_SHARE = 60_000, 2.0, 40_000, 1 / 20


@dataclass(frozen=True)
class Row:
    """A form: instructions of a step, bytes of delays or positions, flash and RAM."""

    name: str
    instructions: int
    delay_bytes: int
    flash: int
    ram: int


def measure(name: str, network: Network, x: FloatArray) -> Iterator[Row]:
    """Measure both forms of a network."""
    for form in FORMS:
        program = lower_network(network, "net", "incbin", form)
        found = footprint(program)
        own = sum(each.nbytes for each in program.constants if "positions" in each.comment or "delays" in each.comment)
        with tempfile.TemporaryDirectory() as folder:
            built = export(Form(name, form, network, x), Path(folder), "none", max_flash=found.flash_bytes)
            instructions = count(CORES["M4"], built)[0] / STEPS
        yield Row(f"{name}, {form}", round(instructions), own, found.flash_bytes, found.ram_bytes)


def lines_of(rows: list[Row], x: FloatArray, spikes: float) -> list[str]:
    """Table of the rows."""
    table = [
        f"| {each.name} | {each.instructions:,} | {each.delay_bytes:,} | {each.flash:,} | {each.ram:,} |"
        for each in rows
    ]
    return [
        f"`python benchmarks/delays.py --write`, arm-none-eabi-gcc {compiler()}, -O2: a step on Cortex-M4.",
        f"{N_IN} inputs, {N} recurrent neurons and {N_OUT} outputs, {SLOTS} slots; mean of {STEPS} steps with",
        f"{x.sum() / STEPS:.1f} spikes of inputs and {spikes:.1f} of neurons.",
        "",
        "| weights, delays | instructions | bytes of delays or positions | flash | RAM |",
        "| --- | ---: | ---: | ---: | ---: |",
        *table,
    ]


def missed(rows: list[Row]) -> list[str]:
    """Goals that are missed."""
    by_name = {row.name: row for row in rows}
    found = []
    for weights in ("float32", "int8"):
        table, coordinates = (by_name[f"{weights}, {form}"] for form in FORMS)
        checks = {
            "instructions of a table": table.instructions <= MAX_STEP,
            "instructions of coordinates": coordinates.instructions <= MAX_RATIO * table.instructions,
            "flash of coordinates": coordinates.delay_bytes <= MAX_SHARE * table.delay_bytes,
            "RAM": weights != "int8" or table.ram <= MAX_RAM,
        }
        found += [f"{weights}: {name}" for name, is_met in checks.items() if not is_met]
    return found


def main(arguments: list[str]) -> int:
    """Measure, print, and write if asked."""
    network, x = delayed()
    spikes = float(reference.trace(network, x, np.float32)[0].sum()) / STEPS
    rows = [*measure("float32", network, x), *measure("int8", to_int8_weights(network), x)]
    lines = lines_of(rows, x, spikes)
    print("\n".join(lines))
    if "--write" in arguments:
        write_section(PAGE, lines, "delays")
    found = missed(rows)
    for goal in found:
        print(f"missed: {goal}", file=sys.stderr)
    return 3 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
