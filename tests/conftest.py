"""Shared fixtures: small checkpoints, and the command line run in this process."""

import os
import signal
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from sen_edge.model import checkpoint as checkpoints
from sen_edge.model.config import SpatialConfig, SpikingConfig
from sen_edge.model.layers import SpatialNetwork
from sen_edge.model.model import Model
from sen_edge.model.parameters import Checkpoint
from sen_runtime.engines import missing
from sen_runtime.ir.network import Network
from sen_runtime.worker import WorkerSession
from tests.support.tools import find_command

#: tflite-runtime has no wheel after Python 3.11; CI has both interpreters.
INTERPRETERS = tuple(name for name in ("litert", "tflite-runtime") if name not in missing(("litert", "tflite-runtime")))
needs_both_interpreters = pytest.mark.skipif(len(INTERPRETERS) < 2, reason="tflite-runtime is not installed")

MLP = SpatialConfig((64, 32, 10), dimensions=3, layer_spacing=0.5)
SNN = SpatialConfig((64, 32, 10), dimensions=3, layer_spacing=0.5, spiking=SpikingConfig(6))


def make_checkpoint(config: SpatialConfig, seed: int = 0) -> Checkpoint:
    network = SpatialNetwork(config)
    network.reset_parameters(seed, position_scale=1.0)
    return checkpoints.from_module(network)


def make_network(config: SpatialConfig) -> Network:
    """As a checkpoint's start, of coordinates."""
    return checkpoints.to_network(make_checkpoint(config))


def make_model(checkpoint: Checkpoint) -> Model:
    return Model(checkpoints.to_network(checkpoint), checkpoint.sha256, checkpoint)


def pytest_configure() -> None:
    """Let signals reach the commands under test: background jobs of a shell ignore Ctrl-C, those of nohup a hang-up."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that compile for other processors."""
    for item in items:
        if item.path.parent.name == "cross":
            item.add_marker("cross")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that `needs` a command which this machine lacks."""
    missing_commands = [name for mark in item.iter_markers("needs") for name in mark.args if find_command(name) is None]
    if missing_commands:
        pytest.skip(f"not installed: {', '.join(missing_commands)}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With SEN_EDGE_NO_SKIPS=1, as in CI, a skipped test fails: all tools are there, only MNIST may be missing."""
    report = yield
    if report.skipped and os.environ.get("SEN_EDGE_NO_SKIPS") == "1" and "MNIST" not in str(report.longrepr):
        report.outcome, report.longrepr = "failed", f"not to be skipped here: {report.longrepr}"
    return report


@pytest.fixture
def mlp_path(tmp_path: Path) -> Path:
    """A checkpoint file of a small perceptron."""
    checkpoints.save(make_checkpoint(MLP), tmp_path / "mlp.pt")
    return tmp_path / "mlp.pt"


@pytest.fixture
def snn_path(tmp_path: Path) -> Path:
    """A checkpoint file of a small spiking network."""
    checkpoints.save(make_checkpoint(SNN), tmp_path / "snn.pt")
    return tmp_path / "snn.pt"


@pytest.fixture
def disturb(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have the outputs of an engine go through a function, those of all engines by default."""

    def arm(change: Callable[[np.ndarray], np.ndarray], engine: str | None = None) -> None:
        genuine = WorkerSession.run

        def run(session: WorkerSession, x: np.ndarray) -> np.ndarray:
            y = genuine(session, x)
            return change(y) if engine in (None, session.engine) else y

        monkeypatch.setattr(WorkerSession, "run", run)

    return arm


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def sen_edge(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run `sen-edge` with these arguments in this process."""
    from sen_edge.cli.main import main

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr("sys.argv", ["sen-edge", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        code = ended.value.code
        assert "Traceback" not in captured.err
        return Outcome(code if isinstance(code, int) else 0, captured.out, captured.err)

    return run
