"""The harness of MLPerf Tiny on the serial line of boards."""

from pathlib import Path

import numpy as np
import pytest

from sen_edge.passes.quantize import to_int8
from sen_runtime import integer
from tests.cross import harness
from tests.cross.harness import EXPORTED_ONLY, HERE, TARGETS
from tests.cross.test_c_processors import with_tools
from tests.exporters.test_c_harness import NETWORKS, check_session, export
from tests.support.mlperf_tiny import Runner
from tests.support.networks import random_input, random_network

BENCHMARKS = HERE.parents[1] / "benchmarks"


def test_a_session_on_the_serial_line_of_a_board(tmp_path: Path) -> None:
    target = with_tools(TARGETS["cortex-m4"])
    folder = export(NETWORKS["float32"], tmp_path)
    sources = [folder / "net.c", folder / "net_harness.c", HERE / "uart.c"]
    program = harness.build(
        target, sources, tmp_path / "program", includes=[folder], defines=["SEN_HARNESS_PORT"], optimize="-Os"
    )
    with harness.serial(target, program) as process:
        assert process.stdin and process.stdout
        check_session(Runner(process.stdout.fileno(), process.stdin.fileno()), NETWORKS["float32"])


@pytest.mark.parametrize("core", ["M4", "M55"])
def test_the_benchmark_measures_a_microsecond_for_thousand_instructions(
    core: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_tools(EXPORTED_ONLY["cortex-m55"])
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import instructions as counted  # type: ignore[import-not-found]
    import mlperf_tiny  # type: ignore[import-not-found]
    from instruction_forms import Form  # type: ignore[import-not-found]

    network = random_network(np.random.default_rng(5), kinds=("dense",), sizes=(256, 64, 10))
    x = random_input(np.random.default_rng(6), network, 64)
    network = to_int8(network, x)
    form = Form("256-64-10", "dense, int8", network, x[:2])
    folder = counted.export(form, tmp_path, "none")
    expected = counted.count(counted.CORES[core], folder)[0] / len(form.inputs)
    session = mlperf_tiny.run(form, core, integer.quantize(network.input_grid, x[:3]), tmp_path / "session")
    assert 1000 * session.microseconds == pytest.approx(expected, rel=0.01)
    np.testing.assert_allclose(session.results, integer.run(network, x[:3]), rtol=1e-5, atol=2e-5)
