"""Instructions per step of a network of the shape of SpSNN (arXiv 2512.10011).

    python benchmarks/delays.py [--write]

Exported C on Cortex-M4 and the native engine on Cortex-A72 are counted in QEMU, with delays in a table and from
positions, float32 and int8 weights. Weights are random. `--write` writes the table to docs/reference/instructions.md.
Exit code 3: a goal is missed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from arm import LOOP, PLUGIN
from c_code_size import compiler
from instruction_forms import Form
from instructions import CORES, PAGE, count, export
from numpy.typing import NDArray
from pages import write_section

from sen_edge.passes.quantize import to_int8_weights
from sen_exporters.c.budget import footprint
from sen_exporters.c.program import lower_network
from sen_exporters.c.wiring import FORMS
from sen_runtime import format as image
from sen_runtime import reference
from sen_runtime.ir.delays import SpatialDelay
from sen_runtime.ir.layer import Layer, Recurrence
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import LeakyIntegrator, RefractoryLif
from sen_runtime.ir.operators import Dense
from tests.arm.boards import AARCH64
from tests.cross.harness import TARGETS
from tests.support.clibrary import LIBRARY, cmake_library

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


#: Goals: instructions of a step with a table on both processors, times as many with coordinates, bytes of RAM with int8
#: weights, and share of the flash of a table that positions take.
MAX_STEP, MAX_A72, MAX_RATIO, MAX_RAM, MAX_SHARE = 60_000, 25_000, 2.0, 40_000, 1 / 20
#: Flags of `sen_load` by form: SEN_PACK, which stores delays in a table, and SEN_ON_THE_FLY.
FLAGS = dict(zip(FORMS, ("4", "8"), strict=True))
CALLS = 4


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


def build_a72(folder: Path) -> list[str]:
    """Build the native engine and a program that runs it in a folder; return the command of the emulator."""
    target, program, plugin = TARGETS["aarch64"], folder / "loop", folder / "count.so"
    gcc = f"{target.prefix}gcc"
    system = ("-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64")
    library = cmake_library(folder / "library", f"-DCMAKE_C_COMPILER={gcc}", *system)
    linked = [f"-I{LIBRARY / 'include'}", LOOP, library, "-lm"]
    subprocess.run([gcc, "-O2", "-static", "-o", program, *linked], check=True)
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", plugin, PLUGIN], check=True)
    options = f"{plugin},out={folder / 'counts'},marker={AARCH64.getppid}"
    return [target.emulator, "-cpu", "cortex-a72", "-plugin", options, str(program)]


def count_a72(folder: Path, command: Sequence[str], network: Network, x: FloatArray, flags: str) -> int:
    """Count the instructions of a step on Cortex-A72, a mean of inputs `[n, T, n_in]`, with what `build_a72` built."""
    (folder / "net.sen").write_bytes(image.dumps(network))
    x.tofile(folder / "x")
    n_calls = max(CALLS, len(x))
    subprocess.run([*command, folder / "net.sen", folder / "x", str(n_calls), flags], check=True)
    start, end = map(int, (folder / "counts").read_text(encoding="ascii").split())
    return round((end - start) / (n_calls * network.timesteps))


def measure_a72(networks: Mapping[str, Network], x: FloatArray) -> dict[str, int]:
    """Count the instructions of a step of the native engine on Cortex-A72, by weights and delays."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = build_a72(folder)
        return {
            f"{weights}, {form}": count_a72(folder, command, network, x, flags)
            for weights, network in networks.items()
            for form, flags in FLAGS.items()
        }


def lines_of(rows: list[Row], a72: Mapping[str, int], x: FloatArray, spikes: float) -> list[str]:
    """Table of the rows."""
    table = [
        f"| {each.name} | {each.instructions:,} | {each.delay_bytes:,} | {each.flash:,} | {each.ram:,} | "
        f"{a72[each.name]:,} |"
        for each in rows
    ]
    return [
        f"`python benchmarks/delays.py --write`, arm-none-eabi-gcc {compiler()}, -O2: a step of exported C on",
        "Cortex-M4, and of the native engine on Cortex-A72.",
        f"{N_IN} inputs, {N} recurrent neurons and {N_OUT} outputs, {SLOTS} slots; mean of {STEPS} steps with",
        f"{x.sum() / STEPS:.1f} spikes of inputs and {spikes:.1f} of neurons.",
        "",
        "| weights, delays | instructions, M4 | bytes of delays or positions | flash | RAM | instructions, A72 |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *table,
    ]


def missed(rows: list[Row], a72: Mapping[str, int]) -> list[str]:
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
            "instructions of a table on Cortex-A72": a72[table.name] <= MAX_A72,
            "instructions of coordinates on Cortex-A72": a72[coordinates.name] <= MAX_RATIO * a72[table.name],
        }
        found += [f"{weights}: {name}" for name, is_met in checks.items() if not is_met]
    return found


def main(arguments: list[str]) -> int:
    """Measure, print, and write if asked."""
    network, x = delayed()
    spikes = float(reference.trace(network, x, np.float32)[0].sum()) / STEPS
    networks = {"float32": network, "int8": to_int8_weights(network)}
    rows = [row for name, each in networks.items() for row in measure(name, each, x)]
    a72 = measure_a72(networks, x)
    lines = lines_of(rows, a72, x, spikes)
    print("\n".join(lines))
    if "--write" in arguments:
        write_section(PAGE, lines, "delays")
    found = missed(rows, a72)
    for goal in found:
        print(f"missed: {goal}", file=sys.stderr)
    return 3 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
