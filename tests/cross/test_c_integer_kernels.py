"""Integer-only kernels on the processors that they are written for: every product equals the reference to the bit."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sen_edge.passes.quantize import to_int8
from sen_exporters.c.exporter import CExporter, COptions
from sen_exporters.c.integer import lower_integers
from sen_runtime.ir.int8 import Grid
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, Relu
from sen_runtime.ir.operators import Dense, LowRank, Sparse, WeightOperator
from tests.cross import forms, harness
from tests.cross.harness import EXPORTED_ONLY, HERE, TARGETS

#: Thumb-1, Thumb-2 without and with DSP, Helium, Thumb-2 below Linux, and none of them.
PROCESSORS = {
    name: {**TARGETS, **EXPORTED_ONLY}[name]
    for name in ("cortex-m0", "cortex-m3", "cortex-m4", "cortex-m33", "cortex-m55", "armhf", "rv32imc")
}
#: More inputs than a list of nonzero ones holds, more rows than a segment, and no multiples of vectors.
N_IN, N_HIDDEN, N_OUT = 300, 262, 6


def _drawn(rng: np.random.Generator, shape: tuple[int, int], density: float = 1.0) -> np.ndarray:
    w = rng.normal(0, shape[1] ** -0.5, shape) * (rng.random(shape) < density)
    w[:, 0] = 0.1  # an input that no row leaves out
    return w.astype(np.float32)


def _network(rng: np.random.Generator, weight: WeightOperator, low: float) -> Network:
    """A layer of `weight`, ReLU and a dense layer, quantized for inputs from `low` to 1, half of them at `low`."""
    bias = rng.normal(0, 0.1, N_HIDDEN).astype(np.float32)
    last = Layer(Dense(_drawn(rng, (N_OUT, N_HIDDEN))), None, Identity())
    x = rng.uniform(low, 1, (64, N_IN)) * (rng.random((64, N_IN)) < 0.5)
    metadata = {"input_range": f"{low} 1"}
    return to_int8(Network((Layer(weight, bias, Relu()), last), metadata=metadata), x.astype(np.float32))


def _plain(network: Network) -> Network:
    """The same with outputs of ReLU whose smallest value is not stored as 0."""
    grids = (Grid(layer.grid.scale, -100) for layer in network.layers if layer.grid)
    layers = (replace(layer, neuron=Relu(), grid=grid) for layer, grid in zip(network.layers, grids, strict=True))
    return replace(network, layers=tuple(layers))


def networks() -> Mapping[str, tuple[Network, str]]:
    """Networks by name, with the option `simd`; together they use every kernel."""
    rng = np.random.default_rng(0)
    shape = N_HIDDEN, N_IN
    blocks = _network(rng, Sparse.from_dense(_drawn(rng, shape, 0.02), (1, 4)), 0)
    low_rank = LowRank(_drawn(rng, (N_HIDDEN, 9)), _drawn(rng, (9, N_IN)))
    return {
        "columns": (_network(rng, Dense(_drawn(rng, (N_HIDDEN, N_IN))), 0), "none"),
        "source": (_network(rng, Sparse.from_dense(_drawn(rng, shape, 0.1)), 0), "none"),
        "blocks": (blocks, "none"),
        "gather": (blocks, "mve"),
        "low_rank": (_network(rng, low_rank, -1), "dsp"),
        "plain": (_plain(_network(rng, Sparse.from_dense(_drawn(rng, shape, 0.02)), 0)), "none"),
    }


def test_the_networks_use_every_kernel() -> None:
    programs = [lower_integers(network, "net", simd=simd) for network, simd in networks().values()]
    kernels = {weights.kernel.removeprefix("sen_integer_") for each in programs for weights in each.weights}
    assert kernels == {"columns", "pairs", "source", "source4", "gather", "dense", "sparse"}


@pytest.mark.cross
@pytest.mark.parametrize("name", PROCESSORS)
def test_the_self_tests(name: str, tmp_path: Path) -> None:
    """Self-tests compare all outputs exactly; those of the same sources without assembly must agree too."""
    target = PROCESSORS[name]
    if lacking := harness.missing(target):
        pytest.skip(f"{name} needs {', '.join(lacking)}")
    folders = [
        CExporter().export(network, COptions(name=f"net_{kind}", simd=simd)).write(tmp_path).parent
        for kind, (network, simd) in networks().items()
    ]
    includes = "".join(f'#include "{folder.name}.h"\n' for folder in folders)
    calls = " + ".join(f"({folder.name}_selftest() != 0)" for folder in folders)
    (tmp_path / "selftests.h").write_text(f"{includes}static int run_selftests(void)\n{{\n    return {calls};\n}}\n")
    sources = [source for folder in folders for source in forms.sources(folder)]
    for defines, optimize in (((), "-O2"), ((), "-Os"), ((), "-O0"), (("SEN_NO_ASSEMBLY",), "-O2")):
        program = harness.build(
            target,
            [*sources, HERE / "selftests_main.c"],
            tmp_path / "program",
            includes=[tmp_path, *folders],
            defines=["SEN_SELFTEST_NO_MAIN", *defines],
            optimize=optimize,
        )
        assert harness.run(target, program).code == 0, (defines, optimize)
