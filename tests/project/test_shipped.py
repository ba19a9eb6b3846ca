"""Shipped checkpoints, on MNIST if available: claims of the README."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import sen_edge as api
from sen_edge.data.datasets import load
from sen_edge.errors import DataError
from sen_edge.exporting.verify.result import TOLERANCES
from sen_runtime import format as image
from sen_runtime import reference
from sen_runtime.engines import native
from tests.conftest import INTERPRETERS, Outcome

Run = Callable[..., Outcome]

FOLDER = Path(__file__).parents[2] / "examples" / "checkpoints"
SHIPPED = sorted(path for path in FOLDER.iterdir() if path.suffix == ".pt")


@pytest.fixture(scope="module")
def data() -> tuple[str, ...]:
    """`--data mnist`, or nothing where MNIST is not on this machine."""
    from sen_edge.data import mnist

    try:
        mnist.locate()
    except DataError:
        return ()
    return ("--data", "mnist")


def test_the_checkpoints_take_less_than_a_megabyte() -> None:
    assert {path.name for path in SHIPPED} == {
        "mnist-mlp-d3.pt",
        "mnist-mlp-d32.pt",
        "mnist-mlp-d32-e6.pt",
        "mnist-snn-d32.pt",
        "mnist-snn-d32-e6.pt",
    }
    assert sum(path.stat().st_size for path in SHIPPED) < 1_000_000
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(path.name in page for path in SHIPPED)


def test_the_smallest_form_takes_30_kb_and_half_a_point(data: tuple[str, ...], sen_edge: Run) -> None:
    path = FOLDER / "mnist-mlp-d32-e6-16x1.sen"
    assert path.stat().st_size <= 30_000
    if data:
        mnist = load("mnist")
        with native.load(path) as session:
            accuracy = 100 * np.mean(session.run(mnist.test_inputs).argmax(axis=1) == mnist.test_targets)
        inspected = sen_edge("inspect", FOLDER / "mnist-mlp-d32-e6.pt", "--json").out
        assert float(json.loads(inspected)["metadata"]["test_accuracy"]) - accuracy <= 0.5


@pytest.mark.slow
@pytest.mark.parametrize("model", SHIPPED, ids=lambda path: path.stem)
@pytest.mark.parametrize("weights", ["dense", "coordinates"])
def test_an_export_has_the_accuracy_of_the_checkpoint(
    model: Path, weights: str, data: tuple[str, ...], sen_edge: Run, tmp_path: Path
) -> None:
    outcome = sen_edge("export", model, "-o", tmp_path, "--weights", weights, "--json", *data)
    assert outcome.code == 0, outcome.err
    artifacts = json.loads(outcome.out)["artifacts"]
    assert [artifact["target"] for artifact in artifacts] == ["onnx", "tflite"][: 1 if weights == "coordinates" else 2]
    verified = [figures for artifact in artifacts for figures in artifact["verification"]]
    assert len(verified) == (1 if weights == "coordinates" else 1 + len(INTERPRETERS))
    promised = float(json.loads(sen_edge("inspect", model, "--json").out)["metadata"]["test_accuracy"])
    for figures in verified:
        if "mlp" in model.name:
            assert figures["max_rel_error"] <= 1e-4
        if not data:
            continue
        assert figures["data"]["samples"] == 10_000
        accuracy, *_ = figures["data"]["scores"]
        assert abs(accuracy["artifact"] - accuracy["model"]) <= 0.05
        assert abs(accuracy["model"] - promised) <= 0.02  # rounding of the machine it was trained on


def test_coordinates_of_the_smallest_are_under_40_kb(sen_edge: Run, tmp_path: Path) -> None:
    model = FOLDER / "mnist-mlp-d3.pt"
    assert sen_edge("export", model, "-o", tmp_path, "--weights", "coordinates").code == 0
    path = tmp_path / "mnist-mlp-d3.onnx"
    assert path.stat().st_size < 40_000
    assert not any("weight" in tensor.name for tensor in onnx.load(path).graph.initializer)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8-dynamic", "int8"])
@pytest.mark.parametrize("model", [path for path in SHIPPED if "mlp" in path.name], ids=lambda path: path.stem)
def test_a_tflite_file_is_its_weights_and_at_most_8_kib(
    model: Path, dtype: str, data: tuple[str, ...], sen_edge: Run, tmp_path: Path
) -> None:
    if dtype == "int8" and not data:
        pytest.skip("no MNIST on this machine to calibrate with")
    calibration = ("--calibration", "mnist") if dtype == "int8" else ()
    outcome = sen_edge(
        "export", model, "--to", "tflite", "-o", tmp_path, "--dtype", dtype, "--json", *data, *calibration
    )
    assert outcome.code == 0, outcome.err
    manifest = json.loads(outcome.out)
    (artifact,) = manifest["artifacts"]
    (size,) = (facts["bytes"] for facts in artifact["files"].values())
    assert size <= manifest["network"]["weight_bytes"] + 8192
    if data and "d32" in model.name and calibration:
        for figures in artifact["verification"]:
            accuracy, *_ = figures["data"]["scores"]
            assert abs(accuracy["artifact"] - accuracy["model"]) <= 0.2


def test_an_engine_that_rounds_inputs_to_eight_bits_is_right(
    sen_edge: Run, tmp_path: Path, disturb: Callable[..., None]
) -> None:
    """A high exponent gives weights of very different sizes, and rounded inputs cost more than the tolerance."""
    sparse = api.compress(FOLDER / "mnist-mlp-d32-e6.pt", sparsity=0.9, pattern="16x1", criterion="magnitude")
    sparse.save(tmp_path / "mnist-mlp-d32-e6.sen")
    command = ("export", tmp_path / "mnist-mlp-d32-e6.sen", "--to", "sen", "--dtype", "int8-dynamic", "--json")
    outcome = sen_edge(*command, "-o", tmp_path / "a")
    assert outcome.code == 0, outcome.err
    verified = {each["engine"].split()[0]: each for each in json.loads(outcome.out)["artifacts"][0]["verification"]}
    assert verified["native"]["rounding_error"] == verified["reference"]["rounding_error"] == 0
    network, x = image.read(tmp_path / "a/mnist-mlp-d32-e6.sen"), np.random.default_rng(0).random((64, 784), np.float32)
    floats, rounded = reference.run(network, x, np.float32), reference.trace_int8(network, x)[-1]
    assert np.abs(floats - rounded).max() / floats.std() > TOLERANCES["mlp", "int8-dynamic"].rounding
    disturb(lambda y: 1.1 * y, "native")
    outcome = sen_edge(*command, "-o", tmp_path / "b")
    assert outcome.code == 3 and "(native" in outcome.err
    assert not (tmp_path / "b").exists()
