"""Instructions of one inference of exported C on microcontrollers, and goals for them.

    python benchmarks/instructions.py [--write | --check]

Networks are exported as C, built with -O2 and run in QEMU, whose counts are deterministic; code is measured at -Os. The
mean of all inputs is counted. `--write` writes the tables to docs/reference/instructions.md and
benchmarks/instructions.json, and requires MNIST. `--check` compares with that file if the compilers are the same. Exit
code 3: a goal is missed; with `--check` one that the file meets, or a number of instructions, or bytes of code or RAM,
exceed the file's by more than 3 %. Exit code 1: `--check` without the required tools, or `--write` without MNIST.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from instruction_forms import MNIST, Form, forms
from instruction_table import Measurement, lines_of, missed
from numpy.typing import NDArray
from pages import write_section

from sen_exporters.c.exporter import CExporter, COptions
from sen_exporters.c.integer_matrix import Simd
from sen_runtime import integer, reference

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # tests is not an installed package

from tests.cross import harness  # noqa: E402
from tests.cross.harness import EXPORTED_ONLY, MPS2, TARGETS, Target  # noqa: E402

Array = NDArray[Any]

PAGE, TABLE = ROOT / "docs/reference/instructions.md", Path(__file__).with_suffix(".json")
#: Code of Cortex-M0 runs on the larger board of Cortex-M3, which has the same instructions and more.
CORES = {
    "M0": replace(TARGETS["cortex-m0"], machine=TARGETS["cortex-m3"].machine, memory=MPS2),
    "M3": TARGETS["cortex-m3"],
    "M4": TARGETS["cortex-m4"],
    "M55": EXPORTED_ONLY["cortex-m55"],
    "RV32IMC": EXPORTED_ONLY["rv32imc"],
}
#: Orders of integer weights that are made for a core.
SIMD: dict[str, Simd] = {"M4": "dsp", "M55": "mve"}
#: Cores whose code size is in the table.
SIZED = ("M0", "M4")
#: Max ratio of a number to the file's.
SLACK = 1.03
#: Max error of an output relative to the max output. The order of a sum can flip a spike.
MAX_FLOAT_ERROR, MAX_SPIKING_ERROR, MAX_INT8_ERROR = 1e-4, 1e-2, 0.05


@dataclass(frozen=True)
class Case:
    """Inputs and expected outputs `[rows, n]`, and the function of an exported network that gets them."""

    function: str
    x: Array
    y: Array
    tolerance: float


def case_of(form: Form) -> Case:
    """Return the inputs of the interface for firmware without float, or those in float."""
    network, x = form.network, form.inputs
    if form.is_integer:
        grid = network.input_grid
        assert grid is not None
        stored = integer.quantize(grid, x)
        return Case("net_run_u8", stored, integer.run_stored(network, stored), 0.0)
    y = reference.run(network, x)
    is_int8 = any(each.scale is not None for layer in network.layers for each in layer.weight.factors)
    error = MAX_INT8_ERROR if is_int8 else MAX_SPIKING_ERROR if network.is_spiking else MAX_FLOAT_ERROR
    return Case("net_run", x, y.astype(np.float32), error * float(np.abs(y).max()))


def _definition(name: str, values: Array) -> str:
    is_float = values.dtype == np.float32
    rows = ",".join(
        "{" + ",".join(f"{float(each).hex()}f" if is_float else str(each) for each in row) + "}" for row in values
    )
    return f"static const {'float' if is_float else 'uint8_t'} {name}[][{values.shape[1]}] = {{{rows}}};\n"


def export(form: Form, folder: Path, simd: Simd, max_flash: int | None = None) -> Path:
    """Export the network as C with a separate weight file, and its inputs and outputs for count_exported.c."""
    options = COptions(
        name="net", weights="incbin", simd=simd, harness=True, max_flash=max_flash
    )  # the harness is for mlperf_tiny.py
    main = CExporter().export(form.network, options).write(folder)
    case = case_of(form)
    output = "float" if case.y.dtype == np.float32 else "uint8_t"
    (main.parent / "exported_case.h").write_text(
        f'#include "net.h"\n#define CASE_ARENA net_arena\n#define CASE_RUN {case.function}\n'
        f"#define CASE_OUTPUT {output}\n#define CASE_TOLERANCE {case.tolerance.hex()}f\n"
        + _definition("case_x", case.x.reshape(len(case.x), -1))
        + _definition("case_y", case.y)
    )
    return main.parent


def count(target: Target, folder: Path) -> tuple[int, ...]:
    """Instructions of all inputs of the network in `folder`; on Cortex-M3 also min and max cycles."""
    sources = [
        folder / "net.c",
        folder / "net_weights.S",
        harness.HERE / "count_exported.c",
        harness.HERE / "markers.c",
    ]
    program = harness.build(target, sources, folder / f"count-{target.name}", includes=[folder])
    if target.name == "cortex-m3":
        return harness.count_cycles(target, program)
    return (harness.count(target, program),)


def measure(form: Form, folder: Path) -> Measurement:
    """Measure a form on every core."""
    rows, net = len(form.inputs), export(form, folder / "none", "none")
    exports = dict.fromkeys(CORES, net)
    if form.is_integer:
        exports |= {core: export(form, folder / simd, simd) for core, simd in SIMD.items()}
    counts = {core: count(target, exports[core]) for core, target in CORES.items()}
    arena = re.search(r"^#define NET_ARENA_BYTES (\d+)", (net / "net.h").read_text(), re.MULTILINE)
    assert arena is not None
    code = {
        core: harness.text_bytes(
            CORES[core], [exports[core] / "net.c"], folder / f"code-{core}", includes=[exports[core]]
        )
        for core in SIZED
    }
    return Measurement(
        instructions={core: round(found[0] / rows) for core, found in counts.items()},
        m3_cycles=[round(each / rows) for each in counts["M3"][1:]],
        weight_bytes=(net / "net_weights.bin").stat().st_size,
        arena_bytes=int(arena[1]),
        code_bytes=code,
    )


def measure_all() -> dict[str, dict[str, Measurement]]:
    """Measure every form on every core; by shape and name."""
    found: dict[str, dict[str, Measurement]] = {}
    with tempfile.TemporaryDirectory() as root:
        for number, form in enumerate(forms()):
            measured = measure(form, Path(root, str(number)))
            found.setdefault(form.shape, {})[form.name] = measured
            print(form.shape, form.name, measured.instructions, file=sys.stderr)
    return found


def compilers() -> dict[str, str]:
    """Return the versions of the compilers."""
    names = sorted({f"{target.prefix}gcc" for target in CORES.values()})
    done = [subprocess.run([name, "-dumpfullversion"], capture_output=True, text=True, check=True) for name in names]
    return {name: each.stdout.strip() for name, each in zip(names, done, strict=True)}


def counts(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Iterator[tuple[tuple[str, str, str], int]]:
    """Yield instructions, bytes of code and bytes of RAM in a table by shape, form and column."""
    for shape, rows in found.items():
        for name, row in rows.items():
            for core, instructions in row["instructions"].items():
                yield (shape, name, core), instructions
            for core, code_bytes in row["code_bytes"].items():
                yield (shape, name, f"code, {core}"), code_bytes
            yield (shape, name, "RAM"), row["arena_bytes"]


def missed_now(content: Mapping[str, Any]) -> list[str]:
    """List goals that are missed, but met in the file."""
    now, before = (
        missed({shape: {name: Measurement(**row) for name, row in rows.items()} for shape, rows in each.items()})
        for each in (content["measured"], json.loads(TABLE.read_text())["measured"])
    )
    return [f"{', '.join(key)}: missed; {TABLE.name}: met" for key in sorted(now - before)]


def increases(content: Mapping[str, Any]) -> list[str]:
    """List numbers above `SLACK` times the file's, if the file is from the same compilers."""
    table = json.loads(TABLE.read_text())
    if table["compilers"] != content["compilers"]:
        print(f"not compared: {TABLE.name} was measured with {table['compilers']}, not {content['compilers']}")
        return []
    before = dict(counts(table["measured"]))
    return [
        f"{', '.join(key)}: {now:,}; {TABLE.name}: {before.get(key)}"
        for key, now in counts(content["measured"])
        if now > SLACK * before.get(key, 0)
    ]


def main(arguments: list[str]) -> int:
    """Measure, print, and write or compare on request."""
    missing = {tool for target in CORES.values() for tool in harness.missing(target)}
    if missing:
        print(f"not measured: requires {', '.join(sorted(missing))}")
        return 1 if arguments == ["--check"] else 0
    found = measure_all()
    rows = {shape: {name: asdict(each) for name, each in forms.items()} for shape, forms in found.items()}
    content = {"compilers": compilers(), "measured": rows}
    lines = lines_of(found, content["compilers"])
    print("\n".join(lines))
    if arguments == ["--check"]:
        worse = [*increases(content), *missed_now(content)]
        print("\n".join(worse))
        return 3 if worse else 0
    if arguments == ["--write"]:
        if MNIST not in found:
            print("not written: requires MNIST, in the folder SEN_EDGE_DATA")
            return 1
        write_section(PAGE, lines)
        TABLE.write_text(json.dumps(content, indent=1) + "\n")
    return 3 if missed(found) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
