"""`sen-edge export` and `verify` for TFLite and int8."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sen_edge.data.datasets import load
from sen_edge.exporting.verify import verification as verification
from sen_edge.model.config import SpatialConfig, SpikingConfig
from sen_runtime import worker
from sen_runtime.engines import engine, missing, tflite_runtime
from sen_runtime.errors import MissingExtraError
from tests.conftest import INTERPRETERS, Outcome

Run = Callable[..., Outcome]
INT8 = ("--dtype", "int8", "--calibration", "digits")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that has learned something: int8 is judged by its decisions."""
    from sen_edge.training.recipe import Recipe
    from sen_edge.training.train import train

    path = tmp_path_factory.mktemp("trained") / "digits.pt"
    config = SpatialConfig((64, 48, 10), dimensions=8, layer_spacing=0.1)
    train(config, load("digits"), Recipe(epochs=15, learning_rate=0.02), out=path)
    return path


@pytest.fixture(scope="module")
def trained_snn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sen_edge.training.recipe import Recipe
    from sen_edge.training.train import train

    path = tmp_path_factory.mktemp("trained") / "spikes.pt"
    config = SpatialConfig((64, 48, 10), dimensions=8, layer_spacing=0.1, spiking=SpikingConfig(6))
    train(config, load("digits"), Recipe(epochs=15, learning_rate=0.02), out=path)
    return path


def test_onnx_and_tflite_are_written_by_default(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    outcome = sen_edge("export", mlp_path, "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".onnx", ".tflite", ".json"}
    manifest = json.loads((tmp_path / "out/mlp.manifest.json").read_text())
    assert manifest["request"]["targets"] == ["onnx", "tflite"] and manifest["quantization"] is None
    engines = [figures["engine"].split()[0] for figures in manifest["artifacts"][1]["verification"]]
    assert engines == list(INTERPRETERS)


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--dtype", "float16"),
        ("--dtype", "int8-dynamic"),
        ("--dtype", "int8-dynamic", "--calibration", "digits"),
        ("--dtype", "int8-dynamic", "--tflite-target", "litert"),
        ("--dtype", "int8-dynamic", "--tflite-target", INTERPRETERS[-1]),
        INT8,
        (*INT8, "--int8-io", "--batch-size", "1"),
    ],
    ids=" ".join,
)
def test_export_and_verify_a_perceptron(options: tuple[str, ...], sen_edge: Run, trained: Path, tmp_path: Path) -> None:
    outcome = sen_edge("export", trained, "--to", "tflite", "-o", tmp_path, "--data", "digits", *options)
    assert outcome.code == 0, outcome.err
    assert "INFO:" not in outcome.err
    again = sen_edge("verify", tmp_path / "digits.tflite", "--against", trained, "--data", "digits", "--seed", 3)
    assert again.code == 0, again.err


@pytest.mark.parametrize("form", ["unrolled", "step"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8-dynamic"])
def test_export_and_verify_a_spiking_network(
    form: str, dtype: str, sen_edge: Run, snn_path: Path, tmp_path: Path
) -> None:
    outcome = sen_edge("export", snn_path, "--to", "tflite", "--snn", form, "--dtype", dtype, "-o", tmp_path)
    assert outcome.code == 0, outcome.err
    assert sen_edge("verify", tmp_path / "snn.tflite", "--against", snn_path).code == 0


def test_int8_reports_the_error_of_each_layer(sen_edge: Run, trained: Path, tmp_path: Path) -> None:
    outcome = sen_edge("export", trained, "-o", tmp_path, *INT8)
    assert "rms" in outcome.err and "1259" in outcome.err
    assert "onnx" in outcome.err
    assert " step " in outcome.err
    assert not (tmp_path / "digits.onnx").exists()
    manifest = json.loads((tmp_path / "digits.manifest.json").read_text())
    quantization = manifest["quantization"]
    assert quantization["calibration"]["samples"] == 1259 and len(quantization["calibration"]["sha256"]) == 64
    assert [layer["layer"] for layer in quantization["layers"]] == [0, 1]
    for layer in quantization["layers"]:
        assert 0 < layer["weights"] < 0.1 and 0 < layer["output"] < 0.1 and layer["grid"]["scale"] > 0
    assert quantization["output_grid"] == quantization["layers"][-1]["grid"]
    assert manifest["left_out"] == {"onnx": "the ONNX export has no int8 activations"}
    figures = manifest["artifacts"][0]["verification"][0]
    assert figures["inputs"] == quantization["calibration"]["held_out"] == 179
    assert figures["rounding_error"] <= 3 and figures["tolerance"]["rounding_unit"] == "step"


@pytest.mark.parametrize("name", ["digits.tflite", "digits.sen", "digits/digits.c"])
def test_a_full_int8_file_is_verified_on_data_like_its_calibration(
    name: str, sen_edge: Run, trained: Path, tmp_path: Path
) -> None:
    file = tmp_path / name
    assert sen_edge("export", trained, "-o", tmp_path, "--to", file.suffix[1:], *INT8).code == 0
    outcome = sen_edge("verify", file, "--against", trained)
    assert outcome.code == 2 and "--data" in outcome.err and "--calibration" in outcome.err
    outcome = sen_edge("verify", file, "--against", trained, "--calibration", "digits")
    assert outcome.code == 0, outcome.err


def test_output_of_a_skipped_target_is_kept(sen_edge: Run, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "digits.onnx").write_bytes(b"mine")
    outcome = sen_edge("export", trained, "--sparsity", "0.2", *INT8, "-o", tmp_path)
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "digits.onnx").read_bytes() == b"mine" and (tmp_path / "digits.tflite").exists()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_verify_rejects_calibration_of_float_weights(dtype: str, sen_edge: Run, trained: Path, tmp_path: Path) -> None:
    assert sen_edge("export", trained, "-o", tmp_path, "--to", "tflite", "--dtype", dtype).code == 0
    request = ("verify", tmp_path / "digits.tflite", "--against", trained)
    outcome = sen_edge(*request, "--calibration", "digits")
    assert (outcome.code, outcome.out) == (2, "") and "--calibration has no effect" in outcome.err
    assert sen_edge(*request, "--data", "digits").code == 0


def test_a_calibration_that_is_unlike_the_data_is_found_by_the_data(
    sen_edge: Run, trained: Path, tmp_path: Path
) -> None:
    digits = load("digits")
    np.savez(tmp_path / "zeros.npz", x=0.2 * digits.train_inputs[digits.train_targets == 0])
    options = ("--dtype", "int8", "--calibration", tmp_path / "zeros.npz", "--data", "digits")
    outcome = sen_edge("export", trained, "-o", tmp_path / "out", *options)
    assert outcome.code == 3 and "digits" in outcome.err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("io", [(), ("--int8-io", "--batch-size", "1")], ids=["float io", "int8 io"])
def test_int8_membranes_that_keep_the_decisions_are_written(
    io: tuple[str, ...], sen_edge: Run, trained_snn: Path, tmp_path: Path
) -> None:
    outcome = sen_edge("export", trained_snn, "--to", "tflite", "-o", tmp_path, "--data", "digits", *INT8, *io)
    assert outcome.code == 0, outcome.err
    again = sen_edge("verify", tmp_path / "spikes.tflite", "--against", trained_snn, "--data", "digits")
    assert again.code == 0, again.err


def test_int8_membranes_that_lose_them_are_not(sen_edge: Run, trained_snn: Path, tmp_path: Path) -> None:
    """Ranges of faint inputs cut off those of the data."""
    np.savez(tmp_path / "faint.npz", x=0.1 * load("digits").train_inputs)
    options = ("--dtype", "int8", "--calibration", tmp_path / "faint.npz", "--data", "digits")
    outcome = sen_edge("export", trained_snn, "--to", "tflite", "-o", tmp_path / "out", *options)
    assert outcome.code == 3 and "--dtype float16" in outcome.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--dtype", "int8"), 2, "--dtype"),
        (("--dtype", "int8", "--calibration", "nowhere"), 1, "'nowhere'"),
        (("--dtype", "int8", "--calibration", "mnist.npz"), 1, "mnist.npz"),
        (("--dtype", "int2"), 2, "--dtype"),
        (("--calibration", "digits"), 2, "--calibration"),
        (("--dtype", "int8-dynamic", "--int8-io"), 2, "int8"),
        (("--dtype", "int8-dynamic", "--weights", "coordinates"), 2, "--weights"),
        (("--to", "tflite", "--weights", "coordinates"), 2, "400"),
        (("--to", "tflite", "--sparse-format", "block"), 2, "sparse"),
        (("--batch-size", "99999999999"), 2, "batch_size"),
        (("--name", "a\udcff"), 2, "--name"),
        (("--tflite-target", "coral"), 2, "tflite_target"),
        ((*INT8, "--to", "onnx"), 2, "int8"),
    ],
)  # fmt: skip
def test_wrong_requests(
    options: tuple[str, ...], code: int, message: str, sen_edge: Run, mlp_path: Path, tmp_path: Path
) -> None:
    outcome = sen_edge("export", mlp_path, "-o", tmp_path / "out", *options)
    assert outcome.code == code and message in outcome.err, outcome.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.random.default_rng(0).random((8, 63)), "[63]"),
        (np.zeros((0, 64)), "[0, 64]"),
        (np.where(np.eye(64) > 0, np.nan, 0.5), "nan"),
        (np.random.default_rng(0).random((63, 64)), "63"),
        (np.full((8, 64), 0.25), "0.25"),
    ],
    ids=["width", "empty", "nan", "few", "constant"],
)
def test_wrong_calibration_inputs(
    inputs: np.ndarray, message: str, sen_edge: Run, mlp_path: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "data.npz", x=inputs)
    outcome = sen_edge(
        "export", mlp_path, "-o", tmp_path / "out", "--dtype", "int8", "--calibration", tmp_path / "data.npz"
    )
    assert outcome.code == 1 and message in outcome.err
    assert not (tmp_path / "out").exists()


def test_target_without_a_wheel_for_this_python(
    sen_edge: Run, mlp_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def versions(names: tuple[str, ...]) -> tuple[dict[str, str], dict[str, MissingExtraError]]:
        absent = missing(names)
        return {name: engine(name).version() for name in names if name not in absent}, absent

    monkeypatch.setattr(worker, "versions", versions)  # in this process, whose Python changes its version
    monkeypatch.setattr(tflite_runtime.sys, "version_info", (3, 13, 0, "final", 0))
    out = tmp_path / "out"
    outcome = sen_edge("export", mlp_path, "--to", "tflite", "--tflite-target", "tflite-runtime", "-o", out)
    assert outcome.code == 4 and "Python 3.13" in outcome.err and "--tflite-target any" in outcome.err
    assert not out.exists()
    outcome = sen_edge("export", mlp_path, "--to", "tflite", "-o", out)
    assert outcome.code == 0 and "tflite-runtime" in outcome.err
    manifest = json.loads((out / "mlp.manifest.json").read_text())
    assert [each["engine"].split()[0] for each in manifest["artifacts"][0]["verification"]] == ["litert"]


def test_engine_with_wrong_outputs_is_detected(
    sen_edge: Run, trained: Path, tmp_path: Path, disturb: Callable[..., None]
) -> None:
    """int8 tolerances against the checkpoint are wide; against the exported network they are not."""
    assert sen_edge("export", trained, "-o", tmp_path / "a", *INT8).code == 0
    manifest = json.loads((tmp_path / "a/digits.manifest.json").read_text())
    step = manifest["quantization"]["output_grid"]["scale"]
    disturb(lambda y: y + np.float32(4.1 * step))
    outcome = sen_edge("export", trained, "-o", tmp_path / "b", *INT8)
    assert outcome.code == 3 and "litert" in outcome.err
    assert "decisions" not in outcome.err and "outputs:" not in outcome.err
    assert not (tmp_path / "b").exists()


def test_a_single_row_is_verified_too(
    sen_edge: Run, mlp_path: Path, tmp_path: Path, disturb: Callable[..., None]
) -> None:
    """Engines have kernels of their own for one row."""
    disturb(lambda y: y * (1.5 if len(y) == 1 else 1))
    assert verification.SINGLE_STRIDE > 1
    outcome = sen_edge("export", mlp_path, "--to", "tflite", "-o", tmp_path / "out")
    assert outcome.code == 3 and "outputs:" in outcome.err
