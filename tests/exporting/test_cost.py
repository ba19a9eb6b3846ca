"""The cost of a verification: fewer inputs of long sequences, one run of the model, one of the interpreter, memory."""

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sen_edge.exporting.pipeline import export
from sen_edge.exporting.request import ExportRequest
from sen_edge.exporting.verify import artifact_run
from sen_edge.exporting.verify.verification import Comparison, verify
from sen_edge.model import probe
from sen_edge.model.model import Model, load
from sen_exporters.onnx.exporter import OnnxExporter
from sen_exporters.sen.exporter import SenExporter
from sen_runtime import format as image
from sen_runtime import reference
from sen_runtime.ir.delays import ConstantDelay
from sen_runtime.ir.network import Network
from tests.support.networks import random_network


def sequences(timesteps: int, n_in: int = 6) -> Network:
    return random_network(
        np.random.default_rng(0), spiking=True, input_coding="spikes", timesteps=timesteps, sizes=(n_in, 2)
    )


@pytest.mark.parametrize(
    ("values", "n"), [(1 << 10, 288), (233_016, 288), (233_017, 287), (1 << 19, 128), (959_000, 72), (1 << 30, 72)]
)
def test_the_number_of_inputs_follows_from_their_values(values: int, n: int) -> None:
    network: Any = SimpleNamespace(input_shape=(values,))
    assert probe.n_verification_inputs(network) == n
    assert (probe.fewer_inputs(network) is None) == (n == 288)


def test_fewer_inputs_are_of_all_kinds_and_stated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    network = sequences(50)
    monkeypatch.setattr(probe, "MAX_VALUES", 100 * 50 * 6)
    x = probe.verification_inputs(network)
    assert x.shape == (100, 50, 6) and set(np.unique(x)) == {0, 1}
    assert [each.mean() for each in x[-3:]] == [0, 1, 0]
    assert 0.3 < x[:44].mean() < 0.7 and 0.1 < x[44:77].mean() < 0.22
    (tmp_path / "net.sen").write_bytes(image.dumps(network))
    for result in verify(Comparison(Model(network, "")), tmp_path / "net.sen", SenExporter()):
        assert result.passed and result.inputs == 100 and "100" in " ".join(result.warnings)


def test_the_model_runs_once_for_all_targets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[int] = []
    trace = Model.trace

    def counted(model: Model, x: np.ndarray) -> list[np.ndarray]:
        calls.append(len(x))
        return trace(model, x)

    monkeypatch.setattr(Model, "trace", counted)
    (tmp_path / "net.sen").write_bytes(image.dumps(sequences(5)))
    result = export(load(tmp_path / "net.sen"), tmp_path / "out", ExportRequest(to=("sen", "onnx")))
    assert calls == [288] and len(result.targets) == 2


def test_the_interpreter_runs_each_input_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    network = sequences(5)
    shapes: list[tuple[int, ...]] = []

    @contextmanager
    def load_artifact(*_: object) -> Any:
        def layers(x: np.ndarray, _: object) -> list[np.ndarray]:
            shapes.append(x.shape)
            return reference.trace(network, x, np.float32)

        yield SimpleNamespace(is_interpreter=True, layers=layers)

    monkeypatch.setattr("sen_edge.exporting.verify.verification.load_artifact", load_artifact)
    (tmp_path / "net.sen").write_bytes(image.dumps(network))
    for result in verify(Comparison(Model(network, "")), tmp_path / "net.sen", SenExporter()):
        assert result.passed
    assert set(shapes) == {(288, 5, 6)}


@pytest.mark.parametrize(("form", "rows"), [("unrolled", 8), ("scan", 40), ("step", 40)])
def test_a_chunk_of_an_unrolled_graph_with_delays_counts_all_steps(
    form: str, rows: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    network = sequences(5)
    network = replace(network, layers=(replace(network.layers[0], delay=ConstantDelay(1)),))
    monkeypatch.setattr(artifact_run, "CHUNK_MACS", 40 * network.macs)
    exporter, path = OnnxExporter(), tmp_path / "net.onnx"
    content = exporter.export(network, exporter.Options(snn=form)).main
    path.write_bytes(content)
    with artifact_run.load_artifact("onnxruntime", path, content, exporter, None, network) as subject:
        assert subject.rows == rows
