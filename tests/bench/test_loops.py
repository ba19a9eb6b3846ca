"""Timed loop of a session, in every engine."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sen_exporters.onnx.exporter import OnnxExporter
from sen_exporters.tflite.exporter import TfliteExporter
from sen_runtime import format as image
from sen_runtime import reference
from sen_runtime.bench import loops
from sen_runtime.bench.loops import random_inputs
from sen_runtime.engines import Session, engine, native, onnxruntime
from sen_runtime.errors import EngineError
from tests.conftest import INTERPRETERS
from tests.support.bench import small_network, write
from tests.support.networks import random_input


def session_of(network: Any, name: str, **options: Any) -> Session:
    if name in ("native", "reference"):
        return engine(name).load(image.dumps(network))
    exporter = OnnxExporter() if name == "onnxruntime" else TfliteExporter()
    return engine(name).load(exporter.export(network, exporter.Options(**options)).main)


ENGINES = ("native", "reference", "onnxruntime", *INTERPRETERS)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("coding", ["perceptron", "direct", "spikes"])
def test_every_session_knows_the_shape_of_a_row(name: str, coding: str) -> None:
    spiking = {} if coding == "perceptron" else {"spiking": True, "timesteps": 4, "input_coding": coding}
    network = small_network(**spiking)
    assert session_of(network, name).input_shape == network.input_shape
    if name not in ("native", "reference") and spiking:
        assert session_of(network, name, snn="step").input_shape == network.input_shape


def test_exported_c_knows_it_too(tmp_path: Path) -> None:
    from sen_exporters.c.exporter import CExporter

    network = small_network(spiking=True, timesteps=4, input_coding="spikes")
    path = CExporter().export(network, CExporter.Options(name="net")).write(tmp_path)
    assert engine("c").load(path).input_shape == network.input_shape


def test_an_open_size_is_an_error() -> None:
    import onnx
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", "n"]) for name in ("input", "output")]
    graph = helper.make_graph([helper.make_node("Relu", ["input"], ["output"])], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.load(onnx.ModelProto.SerializeToString(model))
    with pytest.raises(EngineError, match=r"\[\?\]"):
        _ = session.input_shape


@pytest.mark.parametrize("calls", [[1], [5], [3, 4], [64], [0, 2], [130]])
def test_the_loop_in_c_takes_rows_in_turn(calls: list[int]) -> None:
    network = small_network()
    session = native.load(image.dumps(network))
    x = random_inputs((12,), 64, 0, 0.0, 1.0)
    loop = session.bare_loop(x)
    for n in calls:
        loop(n)
    last = x[(sum(calls) - 1) % 64]
    np.testing.assert_allclose(session.layer_output(0), reference.trace(network, last[None])[0][0], rtol=1e-5)


def test_the_loop_in_c_keeps_its_session() -> None:
    network = small_network()
    loop = native.load(image.dumps(network)).bare_loop(random_inputs((12,), 3, 0, 0.0, 1.0))
    import gc

    gc.collect()
    for _ in range(100):
        loop(1000)


def test_the_loop_in_c_refuses_other_inputs() -> None:
    with pytest.raises(EngineError, match="shape"):
        native.load(image.dumps(small_network())).bare_loop(np.zeros((4, 13), np.float32))


@pytest.mark.parametrize("name", ["native", "onnxruntime", *INTERPRETERS])
@pytest.mark.parametrize("snn", [None, "unrolled", "step"])
@pytest.mark.parametrize("batch", [1, 5])
def test_the_call_that_is_timed_computes_what_run_does(name: str, snn: str | None, batch: int) -> None:
    network = small_network(**({} if snn is None else {"spiking": True, "timesteps": 4}))
    session = session_of(network, name, **({} if snn is None or name == "native" else {"snn": snn}))
    x = random_input(np.random.default_rng(3), network, batch)
    found: Any = loops.call_of(session, x)()
    output = found[0] if isinstance(found, list) else found
    np.testing.assert_allclose(output, session.run(x))


class Noted:
    """A session that notes what it is given."""

    def __init__(self) -> None:
        self.batch_size, self.input_shape = None, (1,)
        self.seen: list[list[float]] = []

    def run(self, x: np.ndarray) -> np.ndarray:
        self.seen.append(x[:, 0].tolist())
        return 10 * x


INPUTS = np.arange(5, dtype=np.float32)[:, None]


@pytest.mark.parametrize(
    ("batch", "seen"),
    [
        (1, [[0], [1], [2], [3], [4], [0]]),
        (2, [[0, 1], [2, 3], [4, 0]] * 2),
        (12, [[0, 1, 2, 3, 4] * 2 + [0, 1]] * 6),
    ],
)
def test_inputs_take_turns(batch: int, seen: list[list[float]]) -> None:
    session: Any = Noted()
    loops.loop_over(session, INPUTS, batch)(6)
    assert session.seen == seen
    assert loops.outputs(session, INPUTS, batch)[:, 0].tolist() == [0, 10, 20, 30, 40]


def test_small_inputs_are_laid_out_for_long_calls() -> None:
    class Loop(Noted):
        def bare_loop(self, x: np.ndarray) -> Any:
            self.given = x
            return lambda n: None

    session: Any = Loop()
    loops.loop_over(session, INPUTS)
    assert session.given.shape == (1020, 1) and session.given[:6, 0].tolist() == [0, 1, 2, 3, 4, 0]
    loops.loop_over(session, np.zeros((64, 784), np.float32))
    assert session.given.shape == (64, 784)


def test_invalid_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "net.onnx", small_network(), {"timesteps": "many"})
    from sen_runtime.bench.measure import run
    from sen_runtime.bench.plan import BenchRequest
    from tests.support.bench import Machine

    with pytest.raises(EngineError, match=r"net\.onnx.*timesteps.*'many'"):
        run(BenchRequest((path,), seconds=0.05), device=Machine())
