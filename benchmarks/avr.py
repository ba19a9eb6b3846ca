"""Measure flash, RAM and cycles of exported C on an ATmega2560.

    python -m benchmarks.avr [--write]

Networks of random weights are built with avr-gcc -Os and run in simavr, whose counts are deterministic. `--write`
writes the table to docs/how-to/firmware.md. Requires avr-gcc and simavr.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.networks import Hidden, dense, perceptron, sparse
from benchmarks.pages import write_section
from sen_edge.passes.quantize import to_int8, to_int8_weights
from sen_exporters.c.exporter import CExporter, COptions
from sen_runtime.ir.network import Network
from sen_runtime.ir.operators import Coordinates
from tests.cross import harness
from tests.cross.harness import AVR

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/how-to/firmware.md"
SIZES = (64, 48, 10)
HERTZ = 16e6
#: `-Wconversion` finds too much in avr-libc's headers.
WARNINGS = ("-Wall", "-Wextra", "-Werror")
_SECTION = re.compile(r"^\.(text|progmem|rodata|data)\S* +(\d+)", re.MULTILINE)


def networks() -> dict[str, Network]:
    """Return the networks by name."""

    def random(hidden: Hidden) -> Network:
        return perceptron(np.random.default_rng(0), SIZES, hidden)

    x = np.random.default_rng(1).random((64, SIZES[0]), np.float32)
    plain, thin = random(dense), random(partial(sparse, block=(1, 1)))
    return {
        "dense, float32": plain,
        "dense, int8 weights": to_int8_weights(plain),
        "dense, int8": to_int8(plain, x),
        "sparse 10 %, float32": thin,
        "sparse 10 %, int8": to_int8(thin, x),
        "coordinates": random(_coordinates),
    }


def _coordinates(rng: np.random.Generator, n_out: int, n_in: int) -> Coordinates:
    source, target = (rng.standard_normal((n, 3), np.float32) for n in (n_in, n_out))
    target[:, 2] += 3
    return Coordinates(source, target, rng.uniform(-1, 1, n_in).astype(np.float32))


def measure(network: Network, folder: Path) -> tuple[int, int, int, int, int]:
    """Return bytes of constants and of the program, of structures and of the arena, and cycles of an inference."""
    artifact = CExporter().export(network, COptions(name="net", weights="array"))
    path = artifact.write(folder)
    is_integer = network.input_grid is not None
    case = {
        "HEADER": '"net.h"',
        "ARENA": "net_arena",
        "RUN": "net_run_u8" if is_integer else "net_run",
        "VALUE": "uint8_t" if is_integer else "float",
        "ONE": "255L" if is_integer else "1.0f",
        "INPUTS": "NET_INPUTS",
        "OUTPUTS": "NET_OUTPUTS",
    }
    program = harness.build(
        AVR,
        [path, Path(__file__).with_name("avr_cycles.c")],
        folder / "program.elf",
        includes=[path.parent],
        defines=[f"CASE_{name}={value}" for name, value in case.items()],
        optimize="-Os",
        warnings=WARNINGS,
    )
    (built,) = harness.build_objects(AVR, [path], folder, includes=[path.parent], optimize="-Os", warnings=WARNINGS)
    own, whole = _sections(built), _sections(program)
    cycles = int(re.search(r"cycles (\d+)", harness.run_avr(program))[1])  # type: ignore[index]
    flash = whole["text"] + whole["data"]
    return own["progmem"], flash, own["rodata"] + own["data"], artifact.footprint["RAM"], cycles


def _sections(path: Path) -> dict[str, int]:
    table = subprocess.run(["avr-size", "-A", path], check=True, capture_output=True, text=True).stdout
    sizes = dict.fromkeys(("text", "progmem", "rodata", "data"), 0)
    for name, nbytes in _SECTION.findall(table):
        sizes[name] += int(nbytes)
    return sizes


def table() -> Iterable[str]:
    """Yield the lines of the table."""
    version = subprocess.run(["avr-gcc", "-dumpversion"], check=True, capture_output=True, text=True).stdout.strip()
    sizes = "-".join(map(str, SIZES))
    yield f"One inference of {sizes} without inputs of 0, avr-gcc {version} -Os; `python -m benchmarks.avr`:"
    yield ""
    yield "| network | constants | flash of the program | RAM: structures | RAM: arena | cycles | ms at 16 MHz |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for name, network in networks().items():
        with tempfile.TemporaryDirectory() as folder:
            *sizes_in_bytes, cycles = measure(network, Path(folder))
        cells = [name, *(f"{size:,}" for size in (*sizes_in_bytes, cycles)), f"{1000 * cycles / HERTZ:.1f}"]
        yield f"| {' | '.join(cells)} |"


def main(arguments: list[str]) -> int:
    """Print or write the table."""
    lines = list(table())
    if arguments == ["--write"]:
        write_section(PAGE, lines, "avr")
    else:
        print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
