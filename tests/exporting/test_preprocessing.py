"""Exports with `--preprocess` and `--probabilities`, verified with raw inputs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sen_edge.api import bench
from sen_edge.data import datasets
from sen_edge.errors import UsageError, VerificationError
from sen_edge.exporting.manifest import ExportResult
from sen_edge.exporting.pipeline import export
from sen_edge.exporting.request import ExportRequest, VerifyRequest
from sen_edge.exporting.verify.verification import verify_file
from sen_edge.model import checkpoint as checkpoints
from sen_edge.model.config import SpatialConfig, SpikingConfig
from sen_edge.model.layers import SpatialNetwork
from sen_edge.model.model import Model, load
from sen_edge.report.contents import read
from sen_edge.report.report import render
from sen_exporters.base import Artifact, ExportError
from sen_exporters.onnx.exporter import OnnxExporter
from sen_exporters.tflite.exporter import TfliteExporter
from sen_runtime.engines import onnxruntime
from sen_runtime.errors import EngineError
from sen_runtime.ir.standardization import Standardization
from sen_runtime.scores import network_scores
from sen_runtime.task import ERROR

FEATURES = ("temperature", "pressure", "humidity", "wind", "light")
MEAN, STD = [20.0, 1e5, 0.5, 3.0, 400.0], [8.0, 2e4, 0.2, 2.0, 300.0]
CLASSES = ("low", "mid", "high")
EXPORTERS = {".onnx": OnnxExporter(), ".tflite": TfliteExporter()}


def make_model(
    folder: Path, mean: list[float] = MEAN, std: list[float] = STD, *, restored: int = 0, **config: Any
) -> Model:
    """5-16-3, standardized, saved as `model.safetensors`; the first outputs are restored."""
    sizes = {"layer_sizes": (5, 16, 3), "feature_names": FEATURES, "output_names": CLASSES, "input_range": (-10, 2e5)}
    settings = SpatialConfig(**{**sizes, "input_scaling": True, "output_scaling": restored > 0, **config})
    module = SpatialNetwork(settings)
    module.reset_parameters(0, position_scale=1.0)
    module.input_scaling = Standardization(np.array(mean, np.float32), np.array(std, np.float32))
    if restored:
        module.output_scaling = Standardization(np.full(restored, 10, np.float32), np.full(restored, 5, np.float32))
    path = folder / "model.safetensors"
    checkpoints.save(checkpoints.from_module(module), path)
    return load(path)


def write_data(folder: Path, model: Model, n: int = 400) -> Path:
    """Raw inputs around the means, labelled by the model."""
    scaling = model.network.input_scaling
    assert scaling is not None
    x = scaling.restore(np.random.default_rng(0).normal(size=(n, 5))).astype(np.float32)
    np.savez(folder / "data.npz", x=x, y=model.predict(x).argmax(axis=1))
    return folder / "data.npz"


def run(model: Model, folder: Path, **options: Any) -> ExportResult:
    return export(model, folder, ExportRequest(**{"to": ("onnx", "tflite"), **options}))


def properties(result: ExportResult) -> list[dict[str, str]]:
    paths = [path for path in result.files if path.suffix in EXPORTERS]
    return [dict(EXPORTERS[path.suffix].properties(path.read_bytes())) for path in paths]


def operators(path: Path) -> list[str]:
    import onnx

    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize("choice", ["fold", "node", "none"])
def test_benchmarks_score_every_reconstruction_in_units_of_the_standardization(choice: Any, tmp_path: Path) -> None:
    model = make_model(tmp_path, restored=5, task="reconstruction", layer_sizes=(5, 16, 5), output_names=())
    data = tmp_path / "normal.npz"
    np.savez(data, x=np.load(write_data(tmp_path, model))["x"])
    result = run(model, tmp_path / "out", to=("onnx", "tflite", "sen"), preprocess=choice)
    expected = network_scores(model.network, datasets.load(str(data), task="reconstruction").test)[ERROR]
    paths = [path for path in result.files if path.suffix in (".onnx", ".tflite", ".sen")]
    scores = [row["score"]["value"] for row in bench(paths, data=data, seconds=0.1).rows]
    assert scores == pytest.approx([expected] * len(scores), rel=1e-3)


@pytest.mark.parametrize("choice", ["fold", "node", "none", None])
def test_every_choice_is_verified_on_raw_inputs(choice: Any, tmp_path: Path) -> None:
    model = make_model(tmp_path)
    result = run(model, tmp_path / "out", preprocess=choice, data=str(write_data(tmp_path, model)))
    chosen = choice or "fold"
    for found in properties(result):
        assert found["preprocess"] == chosen
        assert ("input_mean" in found) == (chosen == "none")
        assert json.loads(found["feature_names"]) == list(FEATURES)
        assert json.loads(found["output_names"]) == list(CLASSES)
    assert {artifact["request"]["preprocess"] for artifact in result.artifacts} == {chosen}
    for each in result.verification:
        assert each.max_rel_error < 1e-4
        assert each.data is not None and each.data.scores[0].artifact == 100
    assert ("Sub" in operators(tmp_path / "out" / "model.onnx")) == (chosen == "node")


def test_constants_in_the_metadata_standardize_inputs(tmp_path: Path) -> None:
    model = make_model(tmp_path)
    found, _ = properties(run(model, tmp_path, preprocess="none"))
    mean, std = (np.array(json.loads(found[name])) for name in ("input_mean", "input_std"))
    x = np.load(write_data(tmp_path, model))["x"]
    session = onnxruntime.load((tmp_path / "model.onnx").read_bytes())
    given = ((x - mean) / std).astype(np.float32)
    np.testing.assert_allclose(session.run(given), model.predict(x), rtol=1e-3, atol=1e-4)


def test_names_and_confusion_in_the_manifest(tmp_path: Path) -> None:
    model = make_model(tmp_path)
    result = run(model, tmp_path, to=("onnx",), data=str(write_data(tmp_path, model)))
    assert result.manifest["network"]["output_names"] == list(CLASSES)
    assert result.manifest["network"]["feature_names"] == list(FEATURES)
    data = result.artifacts[0]["verification"][0]["data"]
    confusion = np.array(data["confusion"])
    assert confusion.sum() == data["samples"]
    assert np.array_equal(confusion, np.diag(confusion.diagonal()))  # the model made the labels
    page = render(read([tmp_path]), "html", lambda note: None).decode()
    assert ">mid<" in page


@pytest.mark.parametrize("dtype", ["float16", "int8-dynamic", "int8"])
@pytest.mark.parametrize("choice", [None, "none"])
def test_quantized_exports(dtype: Any, choice: Any, tmp_path: Path) -> None:
    model = make_model(tmp_path)
    calibration = str(write_data(tmp_path, model)) if dtype == "int8" else None
    result = run(model, tmp_path, to=("tflite",), dtype=dtype, calibration=calibration, preprocess=choice)
    (found,) = properties(result)
    assert found["preprocess"] == (choice or "node")  # a standard deviation of 2e4 leaves the range of float16


def test_one_scale_folds_into_int8_inputs(tmp_path: Path) -> None:
    model = make_model(tmp_path, [100.0] * 5, [80.0] * 5)
    options = {"to": ("tflite",), "dtype": "int8", "calibration": str(write_data(tmp_path, model))}
    result = run(model, tmp_path, options={"int8_io": True}, **options)
    assert properties(result)[0]["preprocess"] == "fold"


def test_many_scales_have_no_int8_input(tmp_path: Path) -> None:
    model = make_model(tmp_path)
    options = {"to": ("tflite",), "dtype": "int8", "calibration": str(write_data(tmp_path, model))}
    with pytest.raises(ExportError) as caught:
        run(model, tmp_path / "a", options={"int8_io": True}, **options)
    assert "--preprocess none" in caught.value.hint
    result = run(model, tmp_path / "b", options={"int8_io": True}, preprocess="none", **options)
    assert properties(result)[0]["preprocess"] == "none"


@pytest.mark.parametrize("choice", ["fold", "node", "none"])
@pytest.mark.parametrize("snn", ["unrolled", "step"])
def test_spiking_networks(choice: Any, snn: Any, tmp_path: Path) -> None:
    model = make_model(tmp_path, spiking=SpikingConfig(5), restored=3, task="regression", output_names=("a", "b", "c"))
    result = run(model, tmp_path, preprocess=choice, snn=snn)
    assert {found["preprocess"] for found in properties(result)} == {choice}


@pytest.mark.parametrize("choice", ["fold", "node", "none"])
def test_restored_outputs(choice: Any, tmp_path: Path) -> None:
    model = make_model(tmp_path, restored=3, task="regression", output_names=("a", "b", "c"))
    run(model, tmp_path, preprocess=choice)
    assert ("Mul" in operators(tmp_path / "model.onnx")) == (choice == "node")


def test_a_file_for_standardized_inputs_is_verified_again(tmp_path: Path) -> None:
    model = make_model(tmp_path)
    data = str(write_data(tmp_path, model))
    run(model, tmp_path, preprocess="none")
    for result in verify_file(tmp_path / "model.onnx", model, VerifyRequest(data=data)):
        assert result.data is not None and result.data.scores[0].artifact == 100


@pytest.mark.parametrize(
    ("mean", "error"), [("[0, 0, 0, 0, 0]", VerificationError), ("[0, 0]", EngineError), ("", EngineError)]
)
def test_wrong_constants_are_detected(mean: str, error: Any, tmp_path: Path) -> None:
    model, exporter = make_model(tmp_path), EXPORTERS[".onnx"]
    run(model, tmp_path, to=("onnx",), preprocess="none")
    path = tmp_path / "model.onnx"
    artifact = Artifact("onnx", {path.name: path.read_bytes()})
    path.write_bytes(exporter.stamp(artifact, {"input_mean": mean}).main)
    with pytest.raises(error):
        verify_file(path, model, VerifyRequest())


def test_an_image_for_standardized_inputs_is_a_model_of_raw_inputs(tmp_path: Path) -> None:
    model = make_model(tmp_path)
    export(model, tmp_path, ExportRequest(to=("sen",), preprocess="none"))
    image = load(tmp_path / "model.sen")
    x = np.load(write_data(tmp_path, model))["x"]
    np.testing.assert_allclose(image.predict(x), model.predict(x), rtol=1e-4, atol=1e-4)
    result = run(image, tmp_path / "again", to=("onnx",), preprocess="node")
    assert properties(result)[0]["preprocess"] == "node"
    assert "input_mean" not in properties(result)[0]


@pytest.mark.parametrize(
    ("changes", "request_"),
    [
        ({"mean": [9e9] * 5}, {"preprocess": "fold"}),
        ({}, {"preprocess": "fold", "weights": "coordinates", "to": ("onnx",)}),
        ({}, {"preprocess": "fold", "dtype": "int8-dynamic"}),
        ({}, {"preprocess": "fold", "dtype": "float16"}),
    ],
    ids=["far from 0", "coordinates", "int8", "float16"],
)
def test_what_is_not_exact_is_not_folded(changes: Any, request_: Any, tmp_path: Path) -> None:
    model = make_model(tmp_path, **changes)
    with pytest.raises(UsageError) as caught:
        run(model, tmp_path / "out", **request_)
    assert "node" in caught.value.hint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("choice", ["fold", "node", "none"])
def test_a_network_of_standardized_inputs_has_no_choice(choice: Any, tmp_path: Path) -> None:
    model = make_model(tmp_path)
    plain = model.derive(replace(model.network, input_scaling=None))
    with pytest.raises(UsageError) as caught:
        run(plain, tmp_path / "out", preprocess=choice)
    assert "--standardize" in caught.value.hint


def test_probabilities(tmp_path: Path) -> None:
    model = make_model(tmp_path)
    result = run(model, tmp_path, probabilities=True, data=str(write_data(tmp_path, model)))
    assert {found["output_activation"] for found in properties(result)} == {"softmax"}
    assert {artifact["request"]["output_activation"] for artifact in result.artifacts} == {"softmax"}
    x = np.load(tmp_path / "data.npz")["x"]
    y = onnxruntime.load((tmp_path / "model.onnx").read_bytes()).run(x)
    np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(y.argmax(axis=1), model.predict(x).argmax(axis=1))


def test_probabilities_of_labels(tmp_path: Path) -> None:
    result = run(make_model(tmp_path, task="multilabel"), tmp_path, probabilities=True)
    assert operators(tmp_path / "model.onnx")[-1] == "Sigmoid"
    assert all(each.passed for each in result.verification)


@pytest.mark.parametrize(
    "config",
    [
        {"task": "regression"},
        {"task": "reconstruction", "layer_sizes": (5, 16, 5), "output_names": ()},
        {"layer_sizes": (5, 16, 1), "output_names": ()},
    ],
    ids=["regression", "reconstruction", "one class"],
)
def test_values_have_no_probabilities(config: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        run(make_model(tmp_path, **config), tmp_path / "out", probabilities=True)
    assert not (tmp_path / "out").exists()
