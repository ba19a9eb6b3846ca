"""Evaluation of candidates on a small network: figures, latency by engine, interruption, one real search."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sen_edge.compression import budget
from sen_edge.compression import evaluator as evaluators
from sen_edge.compression.budget import BudgetError, Search, search
from sen_edge.compression.evaluator import DENSE, Figures, Form, NetworkEvaluator, Plan, image_bytes
from sen_edge.compression.patterns import Pattern
from sen_edge.compression.request import CompressRequest
from sen_edge.data.datasets import Dataset
from sen_edge.passes.quantize import to_int8_weights
from sen_edge.training.recipe import Recipe
from sen_exporters.tflite.exporter import TfliteExporter
from sen_exporters.tflite.graph import TfliteOptions
from sen_runtime import engines, reference
from sen_runtime import format as image
from sen_runtime.bench.interleaved import Latencies, Loop
from sen_runtime.data import hold_out
from sen_runtime.errors import MissingExtraError
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, Relu
from sen_runtime.ir.operators import Dense, Sparse
from sen_runtime.scores import network_scores
from sen_runtime.task import ACCURACY
from tests.support.networks import random_input, random_network

ENGINES = ("native", "onnxruntime", "litert")
REQUEST = CompressRequest(max_drop=3.0, objective="macs", methods=("low-rank",))
RANK_8 = Plan((Form(8), DENSE))


def _clouds() -> Dataset:
    """Ten classes that overlap, so that a network that loses much gets worse."""
    rng = np.random.default_rng(0)
    centres, labels = rng.random((10, 64)), np.arange(900) % 10
    x = np.clip(centres[labels] + 0.6 * rng.normal(size=(900, 64)), 0, 1).astype(np.float32)
    return Dataset("clouds", x[:800], labels[:800], x[800:], labels[800:], (0.0, 1.0))


DATA = _clouds()


@pytest.fixture(scope="module")
def network() -> Network:
    """Random features, and the readout that is best for them: trained in closed form."""
    rng = np.random.default_rng(1)
    w = (rng.standard_normal((72, 64)) / 8).astype(np.float32)
    b = -w @ DATA.train_inputs.mean(axis=0)
    hidden = np.c_[np.maximum(DATA.train_inputs @ w.T + b, 0), np.ones(len(DATA.train_targets))].astype(np.float64)
    readout = np.linalg.solve(hidden.T @ hidden + np.eye(73), hidden.T @ np.eye(10)[DATA.train_targets])
    weight = np.ascontiguousarray(readout[:-1].T, np.float32)
    return Network(
        (Layer(Dense(w), b, Relu()), Layer(Dense(weight), readout[-1].astype(np.float32), Identity())),
        metadata={"input_range": "0 1"},
    )


def contents(evaluator: NetworkEvaluator, plan: Plan) -> bytes:
    return image.dumps(evaluator.network(plan))


# --- figures -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "plan", [RANK_8, replace(RANK_8, dtype="int8-dynamic"), Plan((Form(0, 0.1), DENSE)), Plan((DENSE, DENSE))], ids=str
)
def test_figures_are_those_of_the_network_on_held_out_examples(network: Network, plan: Plan) -> None:
    evaluator = NetworkEvaluator(network, DATA, REQUEST)
    _, held = hold_out(DATA.train_targets, Recipe().validation, 0)
    assert evaluator.samples == len(held) and evaluator.shapes == [(72, 64), (10, 72)]
    found = evaluator.network(plan)
    accuracy = network_scores(found, DATA.training, held)[ACCURACY]
    assert evaluator.figures(plan) == Figures(accuracy, found.macs, image_bytes(found))
    assert contents(NetworkEvaluator(network, DATA, REQUEST), plan) == contents(evaluator, plan)


def test_the_dense_plan_is_the_network(network: Network) -> None:
    assert contents(NetworkEvaluator(network, DATA, REQUEST), Plan((DENSE, DENSE))) == image.dumps(network)


def test_test_data_make_no_difference(network: Network) -> None:
    other = replace(DATA, test_inputs=DATA.test_inputs[::-1] * 0, test_targets=(DATA.test_targets + 1) % 10)
    first, second = (NetworkEvaluator(network, data, REQUEST) for data in (DATA, other))
    assert first.figures(RANK_8) == second.figures(RANK_8) and contents(first, RANK_8) == contents(second, RANK_8)


def test_distillation_trains_the_compressed_weights(network: Network) -> None:
    evaluator, plan = NetworkEvaluator(network, DATA, REQUEST), Plan((Form(4), DENSE))
    trained = replace(plan, epochs=3)
    assert evaluator.figures(trained).macs == evaluator.figures(plan).macs
    assert evaluator.figures(trained).score > evaluator.figures(plan).score
    assert contents(evaluator, trained) != contents(evaluator, plan)


def test_image_bytes_leave_metadata_out(network: Network) -> None:
    assert image_bytes(replace(network, metadata={"text": "x" * 1000})) == len(
        image.dumps(replace(network, metadata={}))
    )


# --- interruption --------------------------------------------------------------------------------


def test_an_interrupted_search_resumes(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Network] = []
    real = NetworkEvaluator._evaluate

    def evaluate(self: NetworkEvaluator, network: Network) -> tuple[float, float, float]:
        calls.append(network)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, network)

    whole = search(network, DATA, REQUEST)
    monkeypatch.setattr(NetworkEvaluator, "_evaluate", evaluate)
    with pytest.raises(KeyboardInterrupt):
        search(network, DATA, REQUEST, state=tmp_path / "state")
    found = search(network, DATA, REQUEST, state=tmp_path / "state")
    assert len(calls) == 1 + 1 + len(found.candidates)  # the interrupted one twice, and the original
    assert found.to_dict() == whole.to_dict() and image.dumps(found.network) == image.dumps(whole.network)


def test_figures_hold_for_another_drop(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = search(network, DATA, REQUEST, state=tmp_path / "state")
    monkeypatch.setattr(Form, "error", None)
    monkeypatch.setattr(NetworkEvaluator, "_evaluate", None)
    again = search(network, DATA, replace(REQUEST, max_drop=3.5), state=tmp_path / "state")
    assert again.chosen == first.chosen
    assert set(json.loads((tmp_path / "state").read_text())["figures"]) >= {str(first.chosen.plan), "error 0 rank 8"}


# --- latency -------------------------------------------------------------------------------------


@pytest.fixture
def loops(monkeypatch: pytest.MonkeyPatch) -> dict[str, Loop]:
    """What would be timed."""
    found: dict[str, Loop] = {}

    def side_by_side(loops: Mapping[str, Loop], seconds: float, seed: int) -> Latencies:
        found.update(loops)
        return Latencies({name: np.full(3, 1.0 + number) for number, name in enumerate(loops)})

    monkeypatch.setattr(evaluators, "side_by_side", side_by_side)
    return found


@pytest.mark.parametrize("engine", ENGINES)
def test_plans_are_measured_side_by_side(engine: Any, network: Network, loops: dict[str, Loop]) -> None:
    plans = [Plan((DENSE, DENSE)), RANK_8, replace(RANK_8, dtype="int8-dynamic")]
    evaluator = NetworkEvaluator(network, DATA, CompressRequest(max_drop=3.0, engine=engine))
    assert evaluator.latencies_us(plans) == [1.0, 2.0, 3.0]
    assert len(loops) == 3
    for loop in loops.values():
        loop(3)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("spiking", "coding"), [(False, "direct"), (True, "direct"), (True, "spikes")])
def test_engines_run_what_is_measured(engine: str, spiking: bool, coding: str) -> None:
    rng = np.random.default_rng(0)
    network = random_network(rng, spiking=spiking, kinds=("dense",), sizes=(32, 48, 10), input_coding=coding)
    x = random_input(rng, network, 5)
    session = engines.engine(engine).load(evaluators._export(network, engines.engine(engine)))
    np.testing.assert_allclose(session.run(x[:1]), reference.run(network, x[:1]), rtol=1e-4, atol=1e-5)
    assert evaluators.measure({"a": network, "b": to_int8_weights(network)}, engine, x, 0.01).median_us("a") > 0


@pytest.mark.parametrize(("pattern", "sparse_format"), [("1x4", "block"), ("unstructured", None)])
def test_litert_gets_blocks_where_it_has_kernels(network: Network, pattern: str, sparse_format: Any) -> None:
    mask = Pattern.parse(pattern).select(np.random.default_rng(0).random((72, 64)), 460)
    weight = Sparse.from_dense(network.layers[0].weight.to_dense() * mask, Pattern.parse(pattern).block)
    sparse = replace(network, layers=(replace(network.layers[0], weight=weight), network.layers[1]))
    options = TfliteOptions(tflite_target="litert", sparse_format=sparse_format)
    assert evaluators._export(sparse, engines.engine("litert")) == TfliteExporter().export(sparse, options).main


def test_a_missing_engine_is_reported_first(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    def version() -> str:
        raise MissingExtraError("the engine onnxruntime", "pip install onnxruntime")

    absent = replace(engines.engine("onnxruntime"), version=version)
    monkeypatch.setattr(engines, "engine", lambda name: absent)
    monkeypatch.setattr(budget, "NetworkEvaluator", None)
    with pytest.raises(MissingExtraError):
        search(network, DATA, CompressRequest(max_drop=3.0, engine="onnxruntime"))


# --- whole searches ------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::sen_edge.compression.moments.CompressionWarning")
def test_a_spiking_network_is_searched_too() -> None:
    spiking = random_network(np.random.default_rng(0), spiking=True, kinds=("dense",), sizes=(64, 72, 10))
    found = search(spiking, DATA, CompressRequest(max_drop=99.0, objective="macs", methods=("low-rank",)))
    assert found.network.is_spiking and found.network.timesteps == spiking.timesteps
    assert found.network.macs == found.chosen.figures.macs < spiking.macs


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_search_as_it_is(network: Network, engine: Any) -> None:
    """All methods, trained candidates, real latencies."""
    request = CompressRequest(max_drop=3.0, engine=engine, epochs=2, seconds=1.0)
    evaluator = NetworkEvaluator(network, DATA, request)
    try:
        found = Search(evaluator, request).run()
    except BudgetError as error:  # on a busy machine the original may be the fastest
        assert error.best.drop <= 3.0 and error.best.latency_us is not None
        return
    latencies = [each.latency_us for each in found.candidates if each.latency_us is not None]
    assert found.chosen.latency_us == min(latencies) and found.chosen.drop <= 3.0
    assert found.original.latency_us is not None and found.original.latency_us > found.chosen.latency_us
    assert evaluator.figures(found.chosen.plan) == found.chosen.figures
