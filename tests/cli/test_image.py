"""`.sen` images as input of all commands."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from sen_edge.passes.quantize import to_float16, to_int8_weights
from sen_runtime import format as image
from sen_runtime import reference
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, Relu
from sen_runtime.ir.operators import Dense, LowRank, Sparse, Sum
from tests.conftest import Outcome
from tests.support.networks import by_source, random_input, random_network

Run = Callable[..., Outcome]
TARGETS = ("onnx", "tflite", "c", "sen")
METADATA = {"input_range": "0 1", "compression": "rank 3, near field"}


def main_file(folder: Path, name: str, target: str) -> Path:
    return folder / name / f"{name}.c" if target == "c" else folder / f"{name}.{target}"


def compressed(*, spiking: bool = False) -> Network:
    """A sum, then sparse or low-rank weights: what compression makes."""
    kinds = ("sum", "low_rank", "sparse", "blocks")
    return random_network(
        np.random.default_rng(2), spiking=spiking, kinds=kinds, sizes=(64, 32, 24, 10), metadata=METADATA
    )


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with `mlp.sen`, `snn.sen`, and forms of the first."""
    folder = tmp_path / "images"
    folder.mkdir()
    mlp = compressed()
    positions = random_network(np.random.default_rng(0), kinds=("coordinates",), sizes=(64, 32, 10), metadata=METADATA)
    for name, network in {
        "mlp": mlp,
        "snn": compressed(spiking=True),
        "half": to_float16(mlp),
        "int8": to_int8_weights(mlp),
        "sources": by_source(mlp),
        "positions": positions,
    }.items():
        image.write(network, folder / f"{name}.sen")
    return folder


@pytest.mark.parametrize("name", ["mlp", "snn", "sources"])
@pytest.mark.parametrize("target", TARGETS)
def test_export_and_verify(name: str, target: str, sen_edge: Run, images: Path, tmp_path: Path) -> None:
    model = images / f"{name}.sen"
    outcome = sen_edge("export", model, "--to", target, "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert "checkpoint" not in outcome.err
    manifest = json.loads((tmp_path / f"out/{name}.manifest.json").read_text())
    assert manifest["manifest_version"] == 4
    assert manifest["input"] == {
        "file": model.name,
        "sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "config": None,
        "map": None,
        "expect": None,
    }
    assert manifest["compression"] is None and manifest["quantization"] is None
    network = image.read(model)
    layers = manifest["network"]["layers"]
    assert [layer["macs"] for layer in layers] == [layer.weight.macs for layer in network.layers]
    assert sum(layer["bytes"] for layer in layers) == manifest["network"]["weight_bytes"] == network.nbytes
    for figures in manifest["artifacts"][0]["verification"]:
        assert figures["passed"] and figures["inputs"] == 288
    again = sen_edge("verify", main_file(tmp_path / "out", name, target), "--against", model, "--seed", 5)
    assert again.code == 0, again.err


@pytest.mark.parametrize(
    "options",
    [
        ("--to", "onnx,tflite", "--snn", "step"),
        ("--to", "onnx", "--snn", "scan"),
        ("--to", "onnx,tflite,c", "--dtype", "float16"),
        ("--to", "onnx,tflite,c", "--dtype", "int8-dynamic"),
    ],
    ids=" ".join,
)
def test_export_of_a_spiking_image(options: tuple[str, ...], sen_edge: Run, images: Path, tmp_path: Path) -> None:
    outcome = sen_edge("export", images / "snn.sen", "-o", tmp_path / "out", *options)
    assert outcome.code == 0, outcome.err


def test_weights_stay_what_they_are(sen_edge: Run, images: Path, tmp_path: Path) -> None:
    assert sen_edge("export", images / "mlp.sen", "--to", "sen", "-o", tmp_path / "out").code == 0
    before, after = image.read(images / "mlp.sen"), image.read(tmp_path / "out/mlp.sen")
    assert [type(layer.weight) for layer in after.layers] == [type(layer.weight) for layer in before.layers]
    x = random_input(np.random.default_rng(0), before, 5)
    np.testing.assert_array_equal(reference.run(after, x), reference.run(before, x))


def test_sparse_weights_are_exported_by_source(sen_edge: Run, images: Path, tmp_path: Path) -> None:
    for name, options in (("mlp", ("--sparse-order", "sources")), ("sources", ())):
        outcome = sen_edge("export", images / f"{name}.sen", "--to", "sen", "-o", tmp_path, *options)
        assert outcome.code == 0, outcome.err
        layers = json.loads(sen_edge("inspect", tmp_path / f"{name}.sen", "--json").out)["layers"]
        assert [layer["form"] for layer in layers if "sparse" in layer["form"]] == [
            f"{layer.weight.form} by source" for layer in compressed().layers if "sparse" in layer.weight.form
        ]
        manifest = json.loads((tmp_path / f"{name}.manifest.json").read_text())
        asked = manifest["artifacts"][0]["request"]["options"]["sparse_order"]
        assert asked == (options[1] if options else None)


def test_exported_file_records_its_source(sen_edge: Run, mlp_path: Path, images: Path, tmp_path: Path) -> None:
    """Through an image back to the checkpoint."""
    sen_edge("export", mlp_path, "--to", "sen", "-o", tmp_path / "a")
    assert sen_edge("export", tmp_path / "a/mlp.sen", "--to", "onnx", "-o", tmp_path / "b").code == 0
    found = {entry.key: entry.value for entry in onnx.load(tmp_path / "b/mlp.onnx").metadata_props}
    assert found["checkpoint_sha256"] == hashlib.sha256(mlp_path.read_bytes()).hexdigest()
    assert found["image_sha256"] == hashlib.sha256((tmp_path / "a/mlp.sen").read_bytes()).hexdigest()
    assert (found["weights"], found["dtype"], found["input_range"]) == ("dense", "float32", "0 1")
    sen_edge("export", images / "mlp.sen", "--to", "onnx", "-o", tmp_path / "c")
    found = {entry.key: entry.value for entry in onnx.load(tmp_path / "c/mlp.onnx").metadata_props}
    assert found["compression"] == METADATA["compression"] and "checkpoint_sha256" not in found
    assert "rank" in found["weights"] and "sparse" in found["weights"] and "dense" not in found["weights"]


@pytest.mark.parametrize(
    ("name", "dtype", "stored"), [("half", "float16", "float16"), ("int8", "int8-dynamic", "int8")]
)
def test_weights_are_exported_as_they_are_stored(
    name: str, dtype: str, stored: str, sen_edge: Run, images: Path, tmp_path: Path
) -> None:
    model = images / f"{name}.sen"
    outcome = sen_edge("export", model, "--to", "onnx,tflite,c,sen", "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert f"{name}.sen" in outcome.err and stored in outcome.err
    for target in TARGETS:
        assert sen_edge("verify", main_file(tmp_path / "out", name, target), "--against", model).code == 0
    exported = image.read(tmp_path / f"out/{name}.sen")
    assert exported.metadata["dtype"] == dtype and exported.nbytes == image.read(model).nbytes
    manifest = json.loads((tmp_path / f"out/{name}.manifest.json").read_text())
    assert {layer["dtype"] for layer in manifest["network"]["layers"]} == {stored}
    assert manifest["quantization"] is None


@pytest.mark.parametrize("options", [(), ("--weights", "coordinates")], ids=["dense", "coordinates"])
def test_an_image_of_positions(options: tuple[str, ...], sen_edge: Run, images: Path, tmp_path: Path) -> None:
    model = images / "positions.sen"
    outcome = sen_edge("export", model, "--to", "onnx,sen,c", "-o", tmp_path / "out", *options, "--json")
    assert outcome.code == 0, outcome.err
    forms = {layer["form"] for layer in json.loads(outcome.out)["network"]["layers"]}
    assert forms == {"coordinates" if options else "dense"}


def test_int8_of_an_image(sen_edge: Run, images: Path, tmp_path: Path) -> None:
    calibration = tmp_path / "inputs.npz"
    np.savez(calibration, x=np.random.default_rng(0).random((200, 64)).astype(np.float32))
    options = ("--dtype", "int8", "--calibration", calibration, "-o", tmp_path / "out")
    outcome = sen_edge("export", images / "mlp.sen", *options)
    assert outcome.code == 0, outcome.err
    assert "rms" in outcome.err
    arguments = ("verify", tmp_path / "out/mlp.tflite", "--against", images / "mlp.sen")
    assert sen_edge(*arguments).code == 2
    assert sen_edge(*arguments, "--calibration", calibration).code == 0


def test_accuracies_are_those_of_the_model_and_the_artifact(sen_edge: Run, images: Path, tmp_path: Path) -> None:
    model = images / "mlp.sen"
    outcome = sen_edge("export", model, "--to", "onnx", "-o", tmp_path, "--data", "digits")
    assert outcome.code == 0 and "accuracy (model)" in outcome.err, outcome.err
    data = json.loads((tmp_path / "mlp.manifest.json").read_text())["artifacts"][0]["verification"][0]["data"]
    assert all(score["model"] == score["artifact"] for score in data["scores"]) and data["changed"] == 0
    outcome = sen_edge("verify", tmp_path / "mlp.onnx", "--against", model, "--data", "digits")
    assert "accuracy of the model, digits (test part: 359 of 1,797)" in outcome.out and "checkpoint" not in outcome.out


def test_data_that_does_not_fit_an_image(sen_edge: Run, images: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.zeros((5, 63), np.float32), y=np.zeros(5, np.int64))
    outcome = sen_edge("export", images / "mlp.sen", "-o", tmp_path / "out", "--data", tmp_path / "data.npz")
    assert outcome.code == 1 and "[63]" in outcome.err
    np.savez(tmp_path / "data.npz", x_test=np.zeros((5, 64), np.float32), y_test=np.arange(5) + 6)
    outcome = sen_edge("export", images / "mlp.sen", "-o", tmp_path / "out", "--data", tmp_path / "data.npz")
    assert outcome.code == 1 and "label 10" in outcome.err
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).random((99, 64)) * 255)
    options = ("--dtype", "int8", "--calibration", tmp_path / "data.npz")
    outcome = sen_edge("export", images / "mlp.sen", "-o", tmp_path / "out", *options)
    assert outcome.code == 1 and "[0, 1]" in outcome.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "options", "code", "message"),
    [
        ("mlp", ("--weights", "coordinates"), 2, "{}"),
        ("mlp", ("--map", "map.toml"), 2, "--map"),
        ("mlp", ("--snn", "step"), 2, "--snn"),
        ("mlp", ("--sparse-order", "sources"), 2, "--to sen"),
        ("mlp", ("--to", "sen", "--sparse-order", "columns"), 2, "columns"),
        ("positions", ("--to", "sen", "--sparse-order", "sources"), 2, "no layer has sparse weights"),
        ("int8", ("--dtype", "int8-dynamic"), 2, "int8"),
        ("int8", ("--dtype", "float16"), 2, "--dtype float16"),
        ("int8", ("--dtype", "int8", "--calibration", "digits"), 2, "int8"),
        ("mlp", ("--calibration", "digits"), 2, "--calibration"),
        ("positions", ("--dtype", "int8-dynamic", "--weights", "coordinates"), 2, "--weights"),
        ("none", (), 1, "{}"),
    ],
)
def test_wrong_requests(
    name: str, options: tuple[str, ...], code: int, message: str, sen_edge: Run, images: Path, tmp_path: Path
) -> None:
    model = images / f"{name}.sen"
    outcome = sen_edge("export", model, "-o", tmp_path / "out", *options)
    assert outcome.code == code and message.format(model) in outcome.err, outcome.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-1], "header"),
        (lambda data: data[:10], "10"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "checksum"),
        (lambda data: b"PK" + data[2:], "image"),
        (lambda data: b"", "0"),
    ],
    ids=["cut off", "a stump", "a flipped bit", "another format", "empty"],
)
@pytest.mark.parametrize("command", ["export", "inspect", "verify"])
def test_a_damaged_image(
    command: str, damage: Callable[[bytes], bytes], message: str, sen_edge: Run, images: Path, tmp_path: Path
) -> None:
    bad, out = tmp_path / "bad.sen", tmp_path / "out"
    bad.write_bytes(damage((images / "mlp.sen").read_bytes()))
    arguments = {
        "export": ("export", bad, "-o", out),
        "inspect": ("inspect", bad),
        "verify": ("verify", images / "mlp.sen", "--against", bad),
    }
    outcome = sen_edge(*arguments[command])
    assert outcome.code == 1 and f"error: {bad}: " in outcome.err and message in outcome.err
    assert not out.exists()


def test_an_export_does_not_replace_its_model(
    sen_edge: Run, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images)
    before = (images / "mlp.sen").read_bytes()
    for options in ((), ("--force",)):
        outcome = sen_edge("export", "mlp.sen", "--to", "sen", *options)
        assert outcome.code == 1 and "mlp.sen" in outcome.err and "--name" in outcome.err
    assert (images / "mlp.sen").read_bytes() == before
    assert sen_edge("export", "mlp.sen", "--to", "sen", "--name", "copy").code == 0


def test_verify_finds_the_file_of_another_image(sen_edge: Run, images: Path, tmp_path: Path) -> None:
    sen_edge("export", images / "mlp.sen", "--to", "onnx,sen", "-o", tmp_path)
    other = random_network(np.random.default_rng(5), kinds=("sum",), sizes=(64, 32, 24, 10), metadata=METADATA)
    image.write(other, tmp_path / "other.sen")
    for target in ("onnx", "sen"):
        outcome = sen_edge("verify", tmp_path / f"mlp.{target}", "--against", tmp_path / "other.sen")
        assert outcome.code == 3 and "layer 0" in outcome.err
    assert sen_edge("verify", tmp_path / "mlp.onnx", "--against", images / "positions.sen").code == 3


def test_engine_with_wrong_outputs_is_detected(
    sen_edge: Run, images: Path, tmp_path: Path, disturb: Callable[..., None]
) -> None:
    disturb(lambda y: y * np.float32(1.001), "native")
    outcome = sen_edge("export", images / "mlp.sen", "--to", "sen", "-o", tmp_path / "out")
    assert outcome.code == 3 and "error: " in outcome.err
    assert "(native " in outcome.err and "(reference " not in outcome.err
    assert not (tmp_path / "out").exists()


def test_unknown_dtype(sen_edge: Run, images: Path, tmp_path: Path) -> None:
    strange = replace(image.read(images / "mlp.sen"), metadata={**METADATA, "dtype": "int2"})
    image.write(strange, tmp_path / "strange.sen")
    outcome = sen_edge("verify", tmp_path / "strange.sen", "--against", images / "mlp.sen")
    assert outcome.code == 3 and "'int2'" in outcome.err
    assert sen_edge("export", tmp_path / "strange.sen", "-o", tmp_path / "out").code == 0


# --- inspect -------------------------------------------------------------------------------------


def test_inspect_shows_the_form_of_an_image(sen_edge: Run, tmp_path: Path) -> None:
    w = np.random.default_rng(0).normal(size=(32, 64)).astype(np.float32)
    w[:, ::2] = 0
    far = LowRank(w[:, 1:4].copy(), np.zeros((3, 64), np.float32))
    layers = (
        Layer(Sum(far, Sparse.from_dense(w, (16, 1))), np.zeros(32, np.float32), Relu()),
        Layer(
            to_int8_weights(Network((Layer(Dense(w[:, 1:33].copy()), None, Identity()),))).layers[0].weight,
            None,
            Identity(),
        ),
    )
    network = Network(layers, metadata=METADATA)
    image.write(network, tmp_path / "net.sen")
    outcome = sen_edge("inspect", tmp_path / "net.sen")
    assert outcome.code == 0
    assert "net.sen: mlp 64-32-32" in outcome.out and "rank 3 + sparse 16x1   float32      50.0%" in outcome.out
    assert "compression     rank 3, near field\n" in outcome.out and "replaced by coordinates" not in outcome.out
    figures = json.loads(sen_edge("inspect", tmp_path / "net.sen", "--json").out)
    assert figures["kind"] == "image" and figures["config"] is None and figures["metadata"] == METADATA
    assert figures["sha256"] == hashlib.sha256((tmp_path / "net.sen").read_bytes()).hexdigest()
    assert figures["macs"] == network.macs and figures["weight_bytes"] == network.nbytes
    first, second = figures["layers"]
    assert (first["form"], first["rank"], first["sparsity"]) == ("rank 3 + sparse 16x1", 3, 0.5)
    assert (second["form"], second["rank"], second["dtype"]) == ("dense", None, "int8")
    assert first["parameters"] == 32 * 3 + 3 * 64 + 32 * 32 + 32 and second["parameters"] == 32 * 32
    assert figures["parameters"] == first["parameters"] + second["parameters"]
    assert figures["dense_parameters"] == 64 * 32 + 32 * 32 + 32


def test_inspect_tells_time_of_a_spiking_image(sen_edge: Run, images: Path) -> None:
    outcome = sen_edge("inspect", images / "snn.sen")
    assert "snn.sen: snn 64-32-24-10, T = 5, input direct, mean_membrane" in outcome.out
    assert "in each time step" in outcome.out
    figures = json.loads(sen_edge("inspect", images / "snn.sen", "--json").out)
    assert (figures["timesteps"], figures["input_coding"], figures["readout"]) == (5, "direct", "mean_membrane")


def test_inspect_shows_distances_of_positions(sen_edge: Run, images: Path) -> None:
    (operator, *_) = [layer.weight for layer in image.read(images / "positions.sen").layers]
    layer = json.loads(sen_edge("inspect", images / "positions.sen", "--json").out)["layers"][0]
    distance = np.linalg.norm(operator.source[None].astype(float) - operator.target[:, None], axis=-1)
    np.testing.assert_allclose(layer["distance_quantiles"], np.quantile(distance, [0, 0.05, 0.5, 0.95, 1]), rtol=1e-5)
    assert layer["form"] == "coordinates"
