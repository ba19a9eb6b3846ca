"""Instructions of CMSIS-NN for the dense and low-rank int8 networks of `instructions.py`, next to those of exported C.

    python benchmarks/cmsis_nn.py DIR [--write]

DIR is a checkout of https://github.com/ARM-software/CMSIS-NN, of which no file is part of this repository. Every
matrix, and each factor of a low-rank one, is a call of arm_fully_connected_per_channel_s8; code is built with the same
flags. `--write` writes the table with the commit to docs/reference/instructions.md; the counts of exported C are
those of benchmarks/instructions.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from instruction_forms import Form, forms
from instructions import CORES, PAGE, TABLE
from numpy.typing import NDArray
from pages import write_section

from sen_runtime import integer
from sen_runtime.integer import Factor, zero_of
from sen_runtime.ir.int8 import Grid
from sen_runtime.ir.network import Network
from sen_runtime.ir.operators import Dense, LowRank
from tests.cross import harness
from tests.cross.harness import Target

Array = NDArray[Any]

NAME, MAIN = "cmsis", Path(__file__).with_suffix(".c")
SOURCES = (
    "Source/FullyConnectedFunctions/arm_fully_connected_per_channel_s8.c",
    "Source/FullyConnectedFunctions/arm_vector_sum_s8.c",
    "Source/NNSupportFunctions/arm_nn_vec_mat_mult_t_per_ch_s8.c",
)
#: Steps by which outputs may differ: it rounds twice, and sen-edge and TFLite once.
TOLERANCE = 12
#: Bias, multiplier and shift, int32 each.
BYTES_PER_ROW = 12
STRUCTURE = """\
typedef struct case_layer {
    int32_t n_in, n_out, input_offset, output_offset, min;
    const int8_t *weights;
    const int32_t *bias, *multiplier, *shift;
} case_layer;
"""


@dataclass(frozen=True)
class Product:
    """A matrix `[n_out, n_in]` between two grids, with the parameters of CMSIS-NN."""

    weights: Array
    bias: Array
    multiplier: Array
    shift: Array
    before: Grid
    after: Grid
    is_rectified: bool


def products(network: Network) -> Iterator[Product]:
    """Yield the products of a network of dense and low-rank layers."""
    grid = network.input_grid
    for layer in network.layers:
        assert grid is not None and layer.grid is not None
        is_rectified = layer.neuron.role == "activation" and layer is not network.layers[-1]
        if isinstance(layer.weight, LowRank):
            right, left = layer.weight.factors
            assert layer.weight.inner is not None
            yield _product(right, None, grid, layer.weight.inner, is_rectified=False)
            yield _product(left, layer.bias, layer.weight.inner, layer.grid, is_rectified=is_rectified)
        else:
            assert isinstance(layer.weight, Dense)
            yield _product(layer.weight, layer.bias, grid, layer.grid, is_rectified=is_rectified)
        grid = layer.grid


def _product(matrix: Dense, bias: Array | None, before: Grid, after: Grid, *, is_rectified: bool) -> Product:
    assert matrix.scale is not None
    rows = matrix.shape[0]
    step = np.broadcast_to(np.float64(before.scale) * matrix.scale.astype(np.float64), rows)
    factor = Factor.of(step / np.float64(after.scale))
    added = np.zeros(rows) if bias is None else np.rint(bias.astype(np.float64) / step)
    return Product(matrix.stored_matrix(), added, factor.multiplier, 31 - factor.shift, before, after, is_rectified)


def write_case(form: Form, folder: Path) -> None:
    """Write cmsis_case.h: layers, inputs and outputs."""
    network = form.network
    found = list(products(network))
    assert network.input_grid is not None
    stored = integer.quantize(network.input_grid, form.inputs)
    y = integer.run_stored(network, stored)
    width = max(size for each in found for size in each.weights.shape)
    lines = [f"#define CASE_TOLERANCE {TOLERANCE}", f"#define CASE_WIDTH {width}", STRUCTURE]
    layers = []
    for index, each in enumerate(found):
        names = []
        for kind, values in (
            ("int8_t", each.weights),
            *(("int32_t", row) for row in (each.bias, each.multiplier, each.shift)),
        ):
            names.append(f"case_{index}_{len(names)}")
            lines.append(_definition(kind, names[-1], values.ravel()))
        zeros = [zero_of(grid) - 128 for grid in (each.before, each.after)]
        low = zeros[1] if each.is_rectified else -128
        rows, columns = each.weights.shape
        layers.append(f"{{{columns}, {rows}, {-zeros[0]}, {zeros[1]}, {low}, {', '.join(names)}}}")
    lines.append(f"static const case_layer layers[] = {{{', '.join(layers)}}};")
    for name, rows in (("case_x", stored), ("case_y", y)):
        signed = (rows.astype(np.int16) - 128).astype(np.int8)
        content = ", ".join("{" + ",".join(map(str, row)) + "}" for row in signed)
        lines.append(f"static const int8_t {name}[][{signed.shape[1]}] = {{{content}}};")
    (folder / "cmsis_case.h").write_text("\n".join(lines) + "\n")


def _definition(kind: str, name: str, values: Array) -> str:
    return f"static const {kind} {name}[] = {{{','.join(str(int(each)) for each in values)}}};"


def count(target: Target, checkout: Path, folder: Path, rows: int) -> int:
    """Instructions of one inference of the case in `folder`."""
    includes = [folder, checkout / "Include", harness.HERE]
    sources = [MAIN, *(checkout / each for each in SOURCES), harness.HERE / "markers.c"]
    program = harness.build(target, sources, folder / target.name, includes=includes, warnings=(), optimize="-O2")
    return round(harness.count(target, program) / rows)


def is_measured(form: Form) -> bool:
    """Whether CMSIS-NN has functions for all layers of a form, whose int4 weights have no scales of groups."""
    is_spiking, layers = form.network.is_spiking, form.network.layers
    is_int8 = form.name.endswith("int8") and form.is_integer
    return is_int8 and not is_spiking and all(isinstance(each.weight, (Dense, LowRank)) for each in layers)


def row_of(form: Form, ours: Mapping[str, int], checkout: Path, code_bytes: int) -> str:
    """A row of the table; `ours` are instructions of exported C by core."""
    with tempfile.TemporaryDirectory() as folder:
        write_case(form, Path(folder))
        counts = {core: count(target, checkout, Path(folder), len(form.inputs)) for core, target in CORES.items()}
    cells = [f"{found:,} ({found / ours[core]:.1f}x)" for core, found in counts.items()]
    nbytes = sum(each.weights.size + BYTES_PER_ROW * len(each.weights) for each in products(form.network))
    return f"| {form.shape}: {form.name} | {' | '.join(cells)} | {nbytes:,} | {code_bytes:,} |"


def main(arguments: list[str]) -> int:
    """Measure, print, and write on request."""
    if not arguments or not all(Path(arguments[0], each).is_file() for each in SOURCES):
        print("usage: cmsis_nn.py DIR [--write], where DIR is a checkout of CMSIS-NN", file=sys.stderr)
        return 2
    checkout = Path(arguments[0]).resolve()
    git = ["git", "-C", str(checkout), "show", "--no-patch", "--format=%h of %cs", "HEAD"]
    commit = subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        sources, includes = [checkout / each for each in SOURCES], [checkout / "Include"]
        code_bytes = harness.text_bytes(CORES["M4"], sources, Path(folder), includes=includes, warnings=())
    measured = json.loads(TABLE.read_text())["measured"]
    lines = [
        f"`python benchmarks/cmsis_nn.py DIR --write`, CMSIS-NN {commit}: instructions, and their ratio to those of",
        "exported C with the same weights, inputs and flags; bytes of weights, and of code at -Os.",
        "",
        f"| network | {' | '.join(CORES)} | weights | code, M4 |",
        f"| --- |{' ---: |' * (len(CORES) + 2)}",
    ]
    for form in filter(is_measured, forms()):
        lines.append(row_of(form, measured[form.shape][form.name]["instructions"], checkout, code_bytes))
        print(lines[-1], file=sys.stderr)
    print("\n".join(lines))
    if "--write" in arguments:
        write_section(PAGE, lines, NAME)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
