"""Self-test of exported C on ARM, emulated Linux and bare metal."""

from pathlib import Path

import numpy as np
import pytest

from sen_edge.passes.quantize import to_float16, to_int8_weights
from sen_exporters.c.exporter import CExporter, COptions
from sen_runtime.ir.network import Network
from tests.cross import harness
from tests.cross.harness import TARGETS, Target
from tests.support.networks import KINDS, random_network
from tests.support.scalings import scaled

#: Small enough for the 16 KB of RAM of a Cortex-M0 board.
SIZES = (24, 16, 9, 5)


def _network(seed: int, **given: object) -> Network:
    return random_network(np.random.default_rng(seed), sizes=SIZES, **given)


NETWORKS = {
    "float32": _network(0, kinds=("dense", "sparse", "blocks")),
    "float16": to_float16(_network(1, kinds=("nested_sum",))),
    "int8": to_int8_weights(_network(2, kinds=KINDS[1:])),
    "coordinates": _network(3, kinds=("coordinates",)),
    "spiking": _network(4, kinds=("dense", "sparse"), spiking=True),
    "scaled": scaled(np.random.default_rng(6), _network(6, kinds=("dense", "sparse")), "softmax"),
    "scaled steps": scaled(np.random.default_rng(7), _network(7, spiking=True, input_coding="spikes"), "sigmoid"),
    "spike trains": to_int8_weights(_network(5, kinds=("sum",), spiking=True, input_coding="spikes")),
}


@pytest.fixture(scope="module", params=TARGETS)
def target(request: pytest.FixtureRequest) -> Target:
    """Each target; where its tools are missing, no test of it."""
    target = TARGETS[request.param]
    lacking = harness.missing(target)
    if lacking:
        pytest.skip(f"{target.name} needs {', '.join(lacking)}")
    return target


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_self_test(kind: str, target: Target, tmp_path: Path) -> None:
    weights = "incbin" if kind == "float32" else "array"
    options = COptions(name="net", weights=weights)
    folder = CExporter().export(NETWORKS[kind], options).write(tmp_path).parent
    sources = [*folder.glob("*.c"), *folder.glob("*.S")]
    program = harness.build(target, sources, tmp_path / "program", includes=[folder], optimize="-Os")
    done = harness.run(target, program)
    assert done.code == 0, done.stderr
    test = folder / "net_selftest.c"
    test.write_text(test.read_text().replace("y[output] - golden", "1 + y[output] - golden"))
    program = harness.build(target, sources, tmp_path / "wrong", includes=[folder], optimize="-Os")
    assert harness.run(target, program).code == 1
