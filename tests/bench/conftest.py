"""Measurements of small networks, which take a short time; `sen_bench`, and files that it wrote."""

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sen_edge.passes.quantize import to_int8_weights
from sen_runtime import format as image
from sen_runtime.bench import cores, measure, memory, record
from sen_runtime.bench.plan import BenchRequest
from sen_runtime.ir.network import Network
from tests.support.bench import Machine, small_network, write
from tests.support.clibrary import cmake_target
from tests.support.networks import random_network
from tests.support.sen_bench import SHORT, Bench

Made = dict[str, Any]
#: A core that this process may run on.
CORE = next(iter(cores.usable()), 0)
#: Of the networks that `sen_bench` measures.
SIZES = (24, 16, 5)


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


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """sen_bench for this machine."""
    return cmake_target("sen_bench", tmp_path_factory.mktemp("bench")) / "sen_bench"


@pytest.fixture
def bench(program: Path, tmp_path: Path) -> Bench:
    """Run sen_bench in the test's own folder, its output in `bench.raw`."""

    def run(*arguments: object, before: tuple[str, ...] = (), **others: Any) -> subprocess.CompletedProcess[bytes]:
        words = [argument if isinstance(argument, bytes) else str(argument) for argument in arguments]
        with (tmp_path / "bench.raw").open("wb") as out:
            return subprocess.run(
                [*before, program, *words], stdout=out, stderr=subprocess.PIPE, cwd=tmp_path, timeout=120, **others
            )

    return run


@pytest.fixture(scope="session")
def images() -> dict[str, Network]:
    """Networks by the name of the file, without `.sen`, that they are in."""
    rng = np.random.default_rng(0)
    mlp = random_network(rng, kinds=("dense",), sizes=SIZES)
    return {
        "mlp": mlp,
        "int8": to_int8_weights(mlp),
        "ranged": replace(mlp, metadata={"input_range": "-2.5 8", "producer": 'a "quote"'}),
        "hex": replace(mlp, metadata={"input_range": "0x1p1 0x1p2"}),  # no range in Python
        "other": random_network(rng, kinds=("dense",), sizes=SIZES),
        "wide": random_network(rng, kinds=("dense",), sizes=(25, 5)),
        "snn": random_network(rng, spiking=True, kinds=("sparse",), sizes=SIZES, timesteps=4),
        "train": random_network(rng, spiking=True, kinds=("sparse",), sizes=SIZES, input_coding="spikes"),
    }


@pytest.fixture
def models(images: dict[str, Network], tmp_path: Path) -> dict[str, Network]:
    """The same, written to the test's own folder."""
    for name, network in images.items():
        (tmp_path / f"{name}.sen").write_bytes(image.dumps(network))
    return images


@pytest.fixture(scope="session")
def recording_path(program: Path, images: dict[str, Network], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of two rows."""
    folder = tmp_path_factory.mktemp("recording")
    for name in ("mlp", "int8"):
        (folder / f"{name}.sen").write_bytes(image.dumps(images[name]))
    with (folder / "bench.raw").open("wb") as out:
        subprocess.run([program, "mlp.sen", "int8.sen", *SHORT], cwd=folder, check=True, stdout=out)
    return folder / "bench.raw"


@pytest.fixture(scope="session")
def recording(recording_path: Path) -> bytes:
    """Its bytes."""
    return recording_path.read_bytes()
