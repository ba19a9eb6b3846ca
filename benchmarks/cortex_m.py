"""Instructions of one inference of exported C on Cortex-M, and claims about them.

    python benchmarks/cortex_m.py [--write | --check]

Networks with random weights are exported as C, built with arm-none-eabi-gcc -O2 and run in QEMU, whose counts are
deterministic; code size is measured at -Os. `--write` writes the table to docs/reference/cortex-m.md and
benchmarks/cortex_m.json. `--check` compares the counts with that file if the compiler is the same. Exit code 3: a claim
fails, or a count exceeds the file's by more than 3 %. Exit code 1: `--check` without the required tools.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from networks import SIZES, SPIKING_SIZES, TIMESTEPS, dense, low_rank, perceptron, sparse
from numpy.typing import NDArray
from pages import write_section

from sen_edge.passes.quantize import to_int8_weights
from sen_exporters.c.exporter import CExporter, COptions
from sen_runtime import reference
from sen_runtime.ir.network import Layer, Network
from sen_runtime.ir.neurons import LeakyIntegrator, Lif
from sen_runtime.ir.operators import Coordinates

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # tests is not an installed package

from tests.cross import harness  # noqa: E402
from tests.cross.harness import TARGETS, Target  # noqa: E402

FloatArray = NDArray[np.float32]

PAGE, TABLE = ROOT / "docs/reference/cortex-m.md", Path(__file__).with_suffix(".json")
SMALL = (64, 48, 10)
#: Max ratio of a count to the file's.
SLACK = 1.03
#: Cases that fit the 256 KB of flash and 16 KB of RAM of the Cortex-M0 board.
SMALL_CASES = ("dense float32, small", "dense int8, small", "coordinates, small")
#: Max error of an output relative to the max output.
MAX_FLOAT_ERROR, MAX_INT8_ERROR = 1e-4, 0.05


@dataclass(frozen=True)
class Measurement:
    """Measurement of one network on one processor.

    Attributes:
        instructions: of one inference.
        arena_bytes: RAM.
        code_bytes: flash without weights.
    """

    instructions: int
    arena_bytes: int
    code_bytes: int


@dataclass(frozen=True)
class Claim:
    """Upper limit of an attribute of a `Measurement` on Cortex-M4."""

    case: str
    attribute: str
    max_value: int


INT8_CASES = ("rank 32 int8", "unstructured int8", "1x4 blocks int8")
CLAIMS = (
    *(Claim(case, "instructions", n) for case, n in zip(INT8_CASES, (120_000, 230_000, 130_000), strict=True)),
    *(Claim(case, "code_bytes", 8192) for case in INT8_CASES),
    *(Claim(case, "arena_bytes", 8192) for case in INT8_CASES),
)


def _coordinates(rng: np.random.Generator, n_out: int, n_in: int) -> Coordinates:
    source, target = (2 * rng.random((n, 3), np.float32) - 1 for n in (n_in, n_out))
    source[:, 2], target[:, 2] = 0, 2  # two planes, so that no two neurons coincide
    return Coordinates(source, target, 2 * rng.random(n_in, np.float32) - 1, gain=4 * n_in**-0.5, exponent=2.0)


def _spiking(rng: np.random.Generator) -> Network:
    (n_in, n_hidden, n_out) = SPIKING_SIZES
    hidden = Layer(dense(rng, n_hidden, n_in), rng.random(n_hidden, np.float32), Lif(0.9))
    return Network((hidden, Layer(dense(rng, n_out, n_hidden), None, LeakyIntegrator(0.9))), TIMESTEPS)


def networks() -> Mapping[str, Network]:
    """Build the measured networks, by case."""
    rng = np.random.default_rng(0)
    full, factors = perceptron(rng, SIZES, dense), perceptron(rng, SIZES, low_rank)
    single, blocks = (perceptron(rng, SIZES, partial(sparse, block=block)) for block in ((1, 1), (1, 4)))
    small = perceptron(rng, SMALL, dense)
    return {
        "dense float32": full,
        "dense int8": to_int8_weights(full),
        "rank 32 float32": factors,
        "rank 32 int8": to_int8_weights(factors),
        "unstructured float32": single,
        "unstructured int8": to_int8_weights(single),
        "1x4 blocks int8": to_int8_weights(blocks),
        "spiking float32": _spiking(rng),
        "dense float32, small": small,
        "dense int8, small": to_int8_weights(small),
        "coordinates, small": perceptron(rng, SMALL, _coordinates),
    }


def _floats(name: str, values: FloatArray) -> str:
    return f"static const float {name}[] = {{{','.join(f'{float(value).hex()}f' for value in values.ravel())}}};\n"


def _export(network: Network, folder: Path, error: float) -> None:
    """Export the network as C with a separate weight file, and an input with its outputs for count_exported.c.

    Args:
        network: network to export.
        folder: output folder.
        error: max error of an output relative to the max output.
    """
    main = CExporter().export(network, COptions(name="net", weights="incbin")).write(folder)
    x = np.random.default_rng(1).random((1, network.n_in), np.float32)
    y = reference.run(network, x)
    tolerance = error * np.abs(y).max()
    (main.parent / "exported_case.h").write_text(
        '#include "net.h"\n#define CASE_TYPE net_arena\n#define CASE_RUN net_run\n'
        f"#define CASE_TOLERANCE {float(tolerance).hex()}f\n" + _floats("case_x", x) + _floats("case_y", y)
    )


def measure(target: Target, folder: Path) -> Measurement:
    """Build and count the network that `_export` wrote to `folder`."""
    build = folder / target.name
    build.mkdir()
    sources = [folder / "net.c", folder / "net_weights.S"]
    sources += [harness.HERE / "count_exported.c", harness.HERE / "markers.c"]
    program = harness.build(target, sources, build / "count", includes=[folder])
    arena = re.search(r"^#define NET_ARENA_BYTES (\d+)", (folder / "net.h").read_text(), re.MULTILINE)
    assert arena is not None
    return Measurement(
        harness.count(target, program),
        int(arena[1]),
        harness.text_bytes(target, [folder / "net.c"], build / "code", includes=[folder]),
    )


def measure_all() -> dict[str, dict[str, Measurement]]:
    """Measure every case on every processor with enough memory."""
    boards = [target for target in TARGETS.values() if target.memory]
    found: dict[str, dict[str, Measurement]] = {}
    with tempfile.TemporaryDirectory() as root:
        for number, (case, network) in enumerate(networks().items()):
            folder = Path(root, str(number))
            _export(network, folder, MAX_INT8_ERROR if "int8" in case else MAX_FLOAT_ERROR)
            fitting = [target for target in boards if target.name != "cortex-m0" or case in SMALL_CASES]
            found[case] = {target.name: measure(target, folder / "net") for target in fitting}
            print(case, {name: each.instructions for name, each in found[case].items()}, file=sys.stderr)
    return found


def compiler() -> str:
    """Return the compiler version."""
    done = subprocess.run(["arm-none-eabi-gcc", "-dumpfullversion"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def report(found: Mapping[str, Mapping[str, Measurement]]) -> tuple[list[str], bool]:
    """Format tables as Markdown lines; return them and whether every claim holds."""
    boards = [target.name for target in TARGETS.values() if target.memory]
    counts = {
        case: " | ".join(f"{row[name].instructions:,}" if name in row else "" for name in boards)
        for case, row in found.items()
    }
    lines = [
        f"`python benchmarks/cortex_m.py --write`, arm-none-eabi-gcc {compiler()}. Instructions of one inference at",
        "-O2, bytes of RAM, bytes of code for Cortex-M4 at -Os. Large networks are 784-512-256-10; sparse ones have",
        "90 % zeros in the weights of the hidden layers. Small networks are 64-48-10. The spiking network is",
        "784-256-10 with 25 time steps.",
        "",
        f"| network | {' | '.join(boards)} | RAM | code |",
        f"| --- |{' ---: |' * (len(boards) + 2)}",
        *(
            f"| {case} | {counts[case]} | {row['cortex-m4'].arena_bytes:,} | {row['cortex-m4'].code_bytes:,} |"
            for case, row in found.items()
        ),
        "",
        "| claim, Cortex-M4 | measured | result |",
        "| --- | ---: | --- |",
    ]
    holds = True
    for claim in CLAIMS:
        value = getattr(found[claim.case]["cortex-m4"], claim.attribute)
        holds &= value <= claim.max_value
        result = "pass" if value <= claim.max_value else "FAIL"
        attribute = {"arena_bytes": "bytes of RAM", "code_bytes": "bytes of code"}.get(claim.attribute, claim.attribute)
        lines.append(f"| {claim.case}: at most {claim.max_value:,} {attribute} | {value:,} | {result} |")
    return lines, holds


def as_table(found: Mapping[str, Mapping[str, Measurement]]) -> dict[str, object]:
    """Return the content of benchmarks/cortex_m.json."""
    rows = {case: {name: asdict(each) for name, each in row.items()} for case, row in found.items()}
    return {"compiler": compiler(), "measured": rows}


def increases(found: Mapping[str, Mapping[str, Measurement]]) -> list[str]:
    """List counts above `SLACK` times the file's, if the file is from the same compiler."""
    table = json.loads(TABLE.read_text())
    if table["compiler"] != compiler():
        print(f"not compared: {TABLE.name} was measured with gcc {table['compiler']}, installed is {compiler()}")
        return []
    before = {(case, name): each for case, row in table["measured"].items() for name, each in row.items()}
    return [
        f"{case} on {name}: {now.instructions:,}; {TABLE.name}: {before.get((case, name), {}).get('instructions')}"
        for case, row in found.items()
        for name, now in row.items()
        if now.instructions > SLACK * before.get((case, name), {}).get("instructions", 0)
    ]


def main(arguments: list[str]) -> int:
    """Measure, print, and write or compare on request."""
    missing = harness.missing(TARGETS["cortex-m4"])
    if missing:
        print(f"not measured: requires {', '.join(missing)}")
        return 1 if arguments == ["--check"] else 0
    found = measure_all()
    lines, holds = report(found)
    print("\n".join(lines))
    if arguments == ["--check"]:
        increased = increases(found)
        print("\n".join(increased))
        return 0 if holds and not increased else 3
    if arguments == ["--write"]:
        write_section(PAGE, lines)
        TABLE.write_text(json.dumps(as_table(found), indent=1) + "\n")
    return 0 if holds else 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
