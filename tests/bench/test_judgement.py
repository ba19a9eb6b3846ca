"""Comparison of outputs, and scores, in the record of a measurement."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sen_edge.passes.quantize import to_int8, to_int8_weights
from sen_edge.passes.standardization import strip_input
from sen_runtime import reference
from sen_runtime.bench import judge, measure, record, text
from sen_runtime.bench.plan import RowPlan
from sen_runtime.data import TEST_SHARE, hold_out
from sen_runtime.engines import Session
from sen_runtime.errors import DataError, UsageError
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity
from sen_runtime.ir.operators import Dense
from sen_runtime.ir.standardization import Standardization
from sen_runtime.task import MULTILABEL, RECONSTRUCTION, REGRESSION
from tests.bench.conftest import run
from tests.conftest import INTERPRETERS
from tests.support import records
from tests.support.bench import small_network, write
from tests.support.networks import random_network

pytestmark = pytest.mark.usefixtures("short")


class Changed:
    """A session whose outputs are spoilt."""

    def __init__(self, session: Any, spoil: Callable[[np.ndarray], np.ndarray]) -> None:
        self.session, self.spoil = session, spoil
        self.batch_size, self.input_shape = None, session.input_shape
        self.properties = getattr(session, "properties", {})

    def run(self, x: np.ndarray) -> np.ndarray:
        return self.spoil(self.session.run(x))


def spoilt(which: str, spoil: Callable[[np.ndarray], np.ndarray]) -> Callable[[RowPlan], Session]:
    def load(row: RowPlan) -> Any:
        session = measure.load_session(row)
        return Changed(session, spoil) if row.name == which else session

    return load


def test_row_with_wrong_outputs_is_marked(folder: Path) -> None:
    load = spoilt("net.onnx onnxruntime 1", lambda y: np.roll(y, 1, axis=1))
    found = run(folder / "net.sen", folder / "net.onnx", load=load)
    assert not found["rows"][1]["agreement"]["matches"] and not found["valid"]
    assert found["rows"][1]["agreement"]["argmax_percent"] < 90
    (reason,) = found["invalid_because"]
    assert reason.startswith("net.onnx onnxruntime 1: ") and "net.sen native 1" in reason


@pytest.mark.parametrize(("dtype", "is_valid"), [("float32", False), ("int8-dynamic", True)])
def test_a_small_error_counts_for_floats(folder: Path, tmp_path: Path, dtype: str, is_valid: bool) -> None:
    path = write(tmp_path, "net.onnx", small_network(), {"dtype": dtype})
    load = spoilt("net.onnx onnxruntime 1", lambda y: y + 0.005 * np.abs(y).max())
    assert run(folder / "net.sen", path, load=load)["valid"] is is_valid


@pytest.mark.parametrize("which", ["net.sen native 1", "net.onnx onnxruntime 1"])
def test_outputs_that_are_no_numbers_never_match(folder: Path, which: str) -> None:
    load = spoilt(which, lambda y: np.where(np.arange(y.shape[1]) == 2, np.nan, y))
    found = run(folder / "net.sen", folder / "net.onnx", load=load)
    row = next(row for row in found["rows"] if row["name"] == which)
    assert row["agreement"]["matches"] is False and row["agreement"]["max_error"] is None
    assert any(which in reason for reason in found["invalid_because"])


def test_outputs_of_another_number(folder: Path) -> None:
    load = spoilt("net.onnx onnxruntime 1", lambda y: y[:, :3])
    found = run(folder / "net.sen", folder / "net.onnx", load=load)
    assert not found["rows"][1]["agreement"]["matches"] and not found["valid"]


@pytest.mark.slow
def test_another_checkpoint_is_not_judged(tmp_path: Path) -> None:
    paths = [
        write(tmp_path, "a.sen", small_network(1), {"checkpoint_sha256": "1"}),
        write(tmp_path, "b.sen", small_network(2), {"checkpoint_sha256": "2"}),
        write(tmp_path, "b.onnx", small_network(2), {"checkpoint_sha256": "2", "dtype": "float32"}),
        write(tmp_path, "c.sen", small_network(3), {"checkpoint_sha256": "1", "compression": "half"}),
        write(tmp_path, "d.onnx", small_network(4), {"checkpoint_sha256": "4", "dtype": "float32"}),
    ]
    found = run(*paths)
    assert found["valid"]
    to = ["reference", "reference", "b.sen native 1", "reference", None]
    assert [(row["agreement"] or {}).get("to") for row in found["rows"]] == to
    assert [[each["kind"] for each in row["warnings"] if each["kind"] == "not-compared"] for row in found["rows"]] == [
        [],
        [],
        [],
        [],
        ["not-compared"],
    ]
    wrong = write(tmp_path, "b2.onnx", small_network(4), {"checkpoint_sha256": "2", "dtype": "float32"})
    assert not run(paths[1], wrong)["valid"]


def quantized(data: np.ndarray) -> tuple[Network, Network]:
    network = random_network(np.random.default_rng(0), kinds=("dense",), sizes=(12, 32, 5))
    return to_int8_weights(network), to_int8(network, data)


def test_int8_is_judged_more_loosely_and_on_data(tmp_path: Path) -> None:
    data = np.random.default_rng(1).random((200, 12), np.float32)
    network = random_network(np.random.default_rng(0), kinds=("dense",), sizes=(12, 32, 5))
    weights, full = quantized(data)
    paths = [
        write(tmp_path, "net.sen", network, {"dtype": "float32"}),
        write(tmp_path, "weights.sen", weights),
        write(tmp_path, "full.tflite", full, {"dtype": "int8"}),
    ]
    np.savez(tmp_path / "data.npz", x=data)
    found = run(*paths, data=tmp_path / "data.npz")
    assert found["valid"] and found["settings"]["inputs"] == "data" and found["settings"]["n_inputs"] == 64
    assert all(1e-4 < row["agreement"]["max_error_over_std"] < 0.5 for row in found["rows"][1:])
    found = run(*paths)
    assert found["rows"][1]["agreement"]["matches"]
    for row in found["rows"][2:]:
        assert row["agreement"] is None
        assert any("--data" in warning["message"] for warning in row["warnings"])
    load = spoilt(f"full.tflite {INTERPRETERS[0]} 1", lambda y: np.full_like(y, np.inf))
    assert not run(*paths, load=load)["valid"]


def test_argmax_of_int8_is_judged_on_data_only() -> None:
    for is_spiking in (False, True):
        for dtypes in (("float32", "int8-dynamic"), ("int8", "float16"), ("float32", "unknown")):
            assert judge.tolerance_for(dtypes, is_spiking=is_spiking, has_data=True).argmax == 0.9
            drawn = judge.tolerance_for(dtypes, is_spiking=is_spiking, has_data=False)
            assert (drawn.argmax, drawn.output) == (0, 0.5)
    assert judge.tolerance_for(("float32", "float16"), is_spiking=False, has_data=False).argmax == 0.95


def test_accuracy_on_labels(tmp_path: Path) -> None:
    network, x = small_network(), np.random.default_rng(1).random((700, 12), np.float32)
    labels = reference.run(network, x).argmax(axis=1)
    labels[:70] = (labels[:70] + 1) % 5
    np.savez(tmp_path / "data.npz", x_test=x.reshape(700, 4, 3, 1), y_test=labels[:, None])
    paths = [write(tmp_path, f"net.{kind}", network) for kind in ("sen", "onnx")]
    found = run(*paths, data=tmp_path / "data.npz")
    assert [row["accuracy_percent"] for row in found["rows"]] == [90.0, 90.0]
    assert found["settings"]["data"] == "data.npz (test part: 700)"


@pytest.mark.parametrize(
    ("task", "name", "value"),
    [(MULTILABEL, "F1", 100.0), (REGRESSION, "R2", 1.0), (RECONSTRUCTION, "reconstruction error", None)],
)
def test_scores_are_those_of_the_task(task: str, name: str, value: float | None, tmp_path: Path) -> None:
    network = replace(small_network(), metadata={"task": task})
    if task == RECONSTRUCTION:
        scaling = Standardization(np.full(5, 0.5, np.float32), np.full(5, 0.3, np.float32))
        layer = Layer(Dense(np.eye(5, dtype=np.float32)), np.full(5, 0.1, np.float32), Identity())
        network = Network((layer,), metadata={"task": task}, input_scaling=scaling)
    x = np.random.default_rng(1).random((100, network.n_in), np.float32)
    y = reference.run(network, x, np.float32)
    targets = {MULTILABEL: {"y_test": y > 0}, REGRESSION: {"y_test": y}, RECONSTRUCTION: {}}[task]
    np.savez(tmp_path / "data.npz", x_test=x, **targets)
    found = run(write(tmp_path, "net.sen", network), data=tmp_path / "data.npz")
    (row,) = found["rows"]
    if value is None:  # in units of the standardization
        value = np.square((y - x) / 0.3).mean()
    assert row["score"]["name"] == name and row["score"]["value"] == pytest.approx(value, rel=1e-4)
    assert row["accuracy_percent"] is None and name in text.table(found, 400)


def test_reconstructions_of_another_shape_are_refused(tmp_path: Path) -> None:
    network = replace(small_network(), metadata={"task": RECONSTRUCTION})
    np.savez(tmp_path / "data.npz", x_test=np.zeros((8, network.n_in), np.float32))
    with pytest.raises(DataError, match="reconstruction"):
        run(write(tmp_path, "net.sen", network), data=tmp_path / "data.npz")


def test_continuous_outputs_are_judged_without_their_order() -> None:
    expected = np.random.default_rng(0).normal(0, 1, (50, 3)) * [1, 1000, 1]
    tolerance = judge.tolerance_for(("float32", "float32"), is_spiking=False, has_data=True)
    swapped = expected + np.array([0, 0, 0.01])
    assert judge.compare(swapped, expected, "a", tolerance)["matches"]
    found = judge.compare(swapped, expected, "a", tolerance, REGRESSION)
    assert not found["matches"] and found["argmax_percent"] is None
    labels = judge.compare(-expected, expected, "a", tolerance, MULTILABEL)
    assert labels["labels_percent"] == 0 and not labels["matches"]
    likely = np.where(expected > 0, 0.9, 0.1)
    assert judge.compare(1 - likely, likely, "a", tolerance, MULTILABEL, 0.5)["labels_percent"] == 0
    close = np.full((50, 3), 1.0) + np.arange(3) * 1e-7
    assert judge.compare(close[:, ::-1], close, "a", tolerance, RECONSTRUCTION)["matches"]


def test_probabilities_are_not_compared_with_other_outputs() -> None:
    source = {"checkpoint_sha256": "ab"}
    assert judge.origin(source) != judge.origin({**source, "output_activation": "sigmoid"})


def test_records_without_scores_get_that_of_the_accuracy() -> None:
    made = records.record()
    for row in made["rows"]:
        del row["score"]
    read = record.loads(record.dumps(made))
    assert [row["score"]["value"] for row in read["rows"]] == [row["accuracy_percent"] for row in made["rows"]]


def test_files_for_standardized_inputs_get_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    scaling = Standardization(np.full(12, 50, np.float32), np.full(12, 20, np.float32))
    network = replace(small_network(), input_scaling=scaling, metadata={"input_range": "-100 200"})
    x = rng.normal(50, 20, (700, 12)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x_test=x, y_test=reference.run(network, x).argmax(axis=1))
    stripped = write(tmp_path, "stripped.onnx", strip_input(network))
    (row,) = run(stripped, data=tmp_path / "data.npz")["rows"]
    assert row["accuracy_percent"] == 100
    with pytest.raises(UsageError) as caught:
        run(stripped, write(tmp_path, "raw.onnx", network))
    assert "separate runs" in caught.value.hint


@pytest.mark.parametrize("mean", ["", "[1, 2]"])
def test_damaged_constants_are_refused(mean: str, tmp_path: Path) -> None:
    metadata = {"preprocess": "none", "input_mean": mean, "input_std": "[1, 2]"}
    with pytest.raises(UsageError):
        run(write(tmp_path, "net.onnx", replace(small_network(), metadata=metadata)))


def test_data_without_a_split_give_their_test_part(tmp_path: Path) -> None:
    network, x = small_network(), np.random.default_rng(1).random((700, 12), np.float32)
    labels = reference.run(network, x).argmax(axis=1)
    labels[::7] = (labels[::7] + 1) % 5
    _, held = hold_out(labels, TEST_SHARE, seed=0)
    right = 100 * np.mean(reference.run(network, x[held]).argmax(axis=1) == labels[held])
    np.savez(tmp_path / "data.npz", x=x, y=labels)
    found = run(write(tmp_path, "net.sen", network), data=tmp_path / "data.npz")
    assert found["rows"][0]["accuracy_percent"] == right
    assert found["settings"]["data"] == f"data.npz (test part: {len(held)} of 700)"
