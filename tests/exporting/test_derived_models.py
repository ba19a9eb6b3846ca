"""Export of models whose network was derived from a checkpoint's, such as compressed ones."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sen_edge.errors import UsageError, VerificationError
from sen_edge.exporting.pipeline import export
from sen_edge.exporting.request import ExportRequest
from sen_edge.model.model import Model, load
from sen_edge.passes.quantize import to_int8_weights
from sen_runtime import format as image
from sen_runtime.ir.operators import Sparse


def halved(path: Path) -> Model:
    """A model without every second weight: nothing that the checkpoint's outputs would survive."""
    model = load(path)
    layers = []
    for layer in model.network.layers:
        w = layer.weight.to_dense()
        w.flat[::2] = 0
        layers.append(replace(layer, weight=Sparse.from_dense(w)))
    return model.derive(replace(model.network, layers=tuple(layers)), compression={"kept": 0.5})


def test_a_derived_model_is_exported_and_is_its_own_reference(mlp_path: Path, tmp_path: Path) -> None:
    result = export(halved(mlp_path), tmp_path, ExportRequest(to=("onnx", "sen"), name="half"))
    manifest = result.manifest
    assert manifest["compression"] == {"kept": 0.5}
    assert manifest["input"]["sha256"] == hashlib.sha256(mlp_path.read_bytes()).hexdigest()
    assert manifest["input"]["config"]["layer_sizes"] == [64, 32, 10]
    assert [layer["form"] for layer in manifest["network"]["layers"]] == ["sparse 1x1", "sparse 1x1"]
    assert [layer["sparsity"] for layer in manifest["network"]["layers"]] == [0.5, 0.5]
    for artifact in manifest["artifacts"]:
        assert all(figures["passed"] for figures in artifact["verification"])
    stored = image.read(tmp_path / "half.sen")
    assert stored.metadata["checkpoint_sha256"] == manifest["input"]["sha256"]
    assert stored.metadata["weights"] == "sparse 1x1"


def test_a_derived_model_may_store_int8(mlp_path: Path, tmp_path: Path) -> None:
    model = halved(mlp_path)
    model = model.derive(to_int8_weights(model.network))
    request = ExportRequest(to=("sen",), name="small")
    result = export(model, tmp_path, request)
    assert image.read(tmp_path / "small.sen").metadata["dtype"] == "int8-dynamic"
    assert {layer["dtype"] for layer in result.manifest["network"]["layers"]} == {"int8"}
    with pytest.raises(UsageError, match="int8"):
        export(model, tmp_path, replace(request, dtype="int8-dynamic", force=True))


def test_a_derived_model_may_keep_coordinates(mlp_path: Path, tmp_path: Path) -> None:
    source, model = load(mlp_path), halved(mlp_path)
    mixed = replace(model.network, layers=(model.network.layers[0], source.network.layers[1]))
    for weights in ("dense", "coordinates"):
        result = export(model.derive(mixed), tmp_path, ExportRequest(to=("onnx",), weights=weights, name=weights))
        assert [layer["form"] for layer in result.manifest["network"]["layers"]] == ["sparse 1x1", weights]
    with pytest.raises(UsageError, match="coordinates"):
        export(model, tmp_path, ExportRequest(weights="coordinates"))


def test_an_artifact_is_held_to_the_derived_network(
    mlp_path: Path, tmp_path: Path, disturb: Callable[..., None]
) -> None:
    disturb(lambda y: y * np.float32(1.001), "native")
    with pytest.raises(VerificationError):
        export(halved(mlp_path), tmp_path / "out", ExportRequest(to=("sen",)))
    assert not (tmp_path / "out").exists()
