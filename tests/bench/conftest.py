"""Measurements of small networks, which take a short time."""

from pathlib import Path
from typing import Any

import pytest

from sen_runtime.bench import cores, measure, memory, record
from sen_runtime.bench.plan import BenchRequest
from tests.support.bench import Machine, small_network, write

Made = dict[str, Any]
#: A core that this process may run on.
CORE = next(iter(cores.usable()), 0)


def run(*artifacts: Path, machine: Machine | None = None, load: Any = measure.load_session, **options: Any) -> Made:
    request = BenchRequest(artifacts, **{"seconds": 0.05, **options})
    found = measure.run(request, device=machine or Machine(), load=load).record
    record.check(found)
    return found


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts of a run that take a fixed time take less."""
    monkeypatch.setattr("sen_runtime.bench.measure.CALL_SECONDS", 0.01)
    monkeypatch.setattr(memory, "MIN_BYTES", 1 << 20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network in all formats, and one of other inputs."""
    made = tmp_path_factory.mktemp("artifacts")
    for name in ("net.sen", "net.onnx", "net.tflite"):
        write(made, name, small_network())
    write(made, "other.sen", small_network(n_in=7))
    return made
