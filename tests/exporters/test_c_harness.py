"""The harness of MLPerf Tiny, over a pseudo-terminal."""

import os
import pty
import subprocess
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sen_edge.passes.quantize import to_int8
from sen_exporters.c.exporter import CExporter, COptions
from sen_runtime import integer, reference
from sen_runtime.ir.network import Network
from tests.support.mlperf_tiny import Runner
from tests.support.networks import random_input, random_network

FloatArray = NDArray[np.float32]


def _integers() -> Network:
    network = random_network(np.random.default_rng(3), kinds=("dense",), sizes=(40, 6, 3))
    return to_int8(network, random_input(np.random.default_rng(4), network, 64))


NETWORKS = {
    "float32": random_network(np.random.default_rng(0), kinds=("dense",), sizes=(40, 6, 3)),
    "spike trains": random_network(np.random.default_rng(1), spiking=True, input_coding="spikes"),
    "int8": _integers(),
}


def export(network: Network, folder: Path) -> Path:
    """Export with the harness; the folder."""
    return CExporter().export(network, COptions("net", harness=True)).write(folder).parent


def as_floats(x: FloatArray) -> bytes:
    """Data of the command `db`."""
    return x.astype("<f4").tobytes()


def check_session(runner: Runner, network: Network, data_of: Callable[[FloatArray], bytes] = as_floats) -> None:
    """What the benchmark does with a device: name, profile, an input, inferences, results."""
    assert runner.greeting[0] == "m-timestamp-mode-performance" and runner.greeting[-1] == "m-init-done"
    assert runner.command("name") == ["m-name-dut-[sen-edge]"]
    profile, model = runner.command("profile")
    assert profile.startswith("m-profile-[") and model == "m-model-[net]"
    assert runner.command("timestamp")[0].startswith("m-lap-us-")
    run = reference.run if network.input_grid is None else integer.run
    for x in random_input(np.random.default_rng(2), network)[:2]:
        data = data_of(x)
        assert runner.load(data) == ["m-load-done"]
        shown = "".join(line.removeprefix("m-buffer-") for line in runner.command("db print"))
        assert bytes.fromhex(shown.replace("-", "")) == data
        y, elapsed = runner.infer(3, 1)
        np.testing.assert_allclose(y, run(network, x[None])[0], rtol=1e-5, atol=2e-5)
        assert elapsed >= 0


@contextmanager
def session(folder: Path, *defines: str) -> Iterator[Runner]:
    """A program of an exported folder on a pseudo-terminal."""
    program = folder / "harness"
    sources = [*folder.glob("net.c"), folder / "net_harness.c"]
    flags = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wpedantic", "-Werror"]
    subprocess.run(["cc", *flags, *defines, "-I", folder, *sources, "-lm", "-o", program], check=True)
    control, device = pty.openpty()
    tty.setraw(device)
    with subprocess.Popen([program], stdin=device, stdout=device) as process:
        os.close(device)
        try:
            yield Runner(control, control)
        finally:
            process.kill()
            os.close(control)


@pytest.mark.needs("cc")
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_session(kind: str, tmp_path: Path) -> None:
    with session(export(NETWORKS[kind], tmp_path), "-DNET_FLOAT") as runner:
        check_session(runner, NETWORKS[kind])


@pytest.mark.needs("cc")
def test_stored_values_are_the_input_of_integers(tmp_path: Path) -> None:
    network = NETWORKS["int8"]
    grid = network.input_grid
    assert grid is not None
    with session(export(network, tmp_path)) as runner:
        check_session(runner, network, lambda x: integer.quantize(grid, x).tobytes())
        assert runner.command(f"db load {4 * network.n_in}")[0].startswith("e-[")


@pytest.mark.needs("cc")
def test_wrong_commands_get_an_error_and_the_session_continues(tmp_path: Path) -> None:
    network = NETWORKS["float32"]
    with session(export(network, tmp_path)) as runner:
        commands = ["", "unknown", "db", "db 00", "db load 3", "db load", "infer 0", "infer 1 -1", "x" * 100]
        answers = {command: runner.command(command) for command in commands}
        assert answers.pop("") == []
        assert [len(answer) for answer in answers.values()] == [1] * len(answers)
        assert all(answer[0].startswith("e-[") for answer in answers.values())
        assert runner.command(f"db load {4 * network.n_in}")[0].startswith("m-[")
        assert runner.command("db 0g")[0].startswith("e-[") and runner.command("db 0")[0].startswith("e-[")
        runner.load(np.full(network.n_in, np.nan, "<f4").tobytes())
        assert any(line.startswith("e-[") for line in runner.command("infer 1 0"))
        check_session(runner, network)


def test_only_on_request() -> None:
    files = CExporter().export(NETWORKS["float32"], COptions("net")).files
    assert "net/net_harness.c" not in files
    files = CExporter().export(NETWORKS["float32"], COptions("net", harness=True)).files
    assert b"net_harness.c" in files["net/library.json"]
