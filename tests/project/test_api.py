"""The public Python API as shown in the README."""

import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sen_edge
from sen_edge.errors import DataError, OutputError, UsageError, VerificationError
from sen_runtime.bench.record import is_wrong
from tests.support.networks import random_network

README = Path(__file__).parents[2] / "README.md"
MAX_REPR = 400


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("api") / "digits.pt"
    sen_edge.train("digits", path, epochs=2, dims=4, hidden=(16,))
    return path


@pytest.mark.slow
def test_the_example_of_the_readme_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    code = code.replace("seconds=1", "seconds=0.1")
    assert len([line for line in code.splitlines() if line]) <= 12
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 2
    assert {"small.onnx", "int8.tflite"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_results_are_short_and_plain(
    checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    model = sen_edge.load(str(checkpoint))
    small = sen_edge.compress(model, sparsity=0.5, data="digits")
    full = sen_edge.quantize(model, "int8", calibration="digits", granularity="tensor", activation_range="minmax")
    exported = sen_edge.export(full, str(tmp_path), to=["tflite"], name="full")
    checks = sen_edge.verify(tmp_path / "full.tflite", model, calibration="digits")
    measured = sen_edge.bench(tmp_path / "full.tflite", seconds=0.05)
    trained = sen_edge.train("digits", tmp_path / "again.pt", epochs=1, dims=2, hidden=[4])
    captured = capfd.readouterr()
    assert captured.out == "" and not [line for line in captured.err.splitlines() if "INFO:" not in line]
    assert {record.name.partition(".")[0] for record in caplog.records} <= {"sen_edge"}
    for result in (model, small, small.model, full, exported, *checks, measured, trained):
        assert len(repr(result)) < MAX_REPR and "\n" not in repr(result)
        assert result._repr_html_().startswith("<table>")
        json.dumps(result.to_dict(), allow_nan=False)


def test_predictions_are_those_of_the_reference(checkpoint: Path) -> None:
    model, x = sen_edge.load(checkpoint), np.random.default_rng(0).random((7, 64))
    together = model.predict(x)
    assert together.shape == (7, 10) and together.dtype == np.float32
    np.testing.assert_allclose(model.predict(x[0]), together[0], rtol=1e-5, atol=1e-6)
    assert model.predict(np.empty((0, 64))).shape == (0, 10)
    for wrong in (
        *map(np.zeros, ((63,), (2, 63), (1, 2, 64), ())),
        np.full((2, 64), np.nan),
        np.full(64, np.inf),
        x + 1j,
        "text",
    ):
        with pytest.raises(DataError):
            model.predict(wrong)


def test_a_compressed_model_is_saved_loaded_and_exported(checkpoint: Path, tmp_path: Path) -> None:
    small = sen_edge.compress(checkpoint, rank=3, calibration="digits")
    path, manifest = small.save(tmp_path / "small.sen")
    assert json.loads(manifest.read_text()) == small.to_dict()
    x = np.random.default_rng(0).random((3, 64))
    np.testing.assert_array_equal(sen_edge.load(path).predict(x), small.model.predict(x))
    exported = sen_edge.export(small, tmp_path / "out", to="onnx,sen")
    assert exported.manifest["input"]["sha256"] == small.source.sha256
    assert exported.manifest["compression"]["after"] == small.figures["after"]
    with pytest.raises(OutputError):
        small.save(path)
    with pytest.raises(UsageError):
        small.save(tmp_path / "checkpoint.pt")


def test_an_export_reports_its_progress(checkpoint: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, float]] = []
    sen_edge.export(checkpoint, tmp_path, to="sen,onnx", progress=lambda *report: seen.append(report))
    assert [stage for stage, _ in seen] == ["build", "verify", "build", "verify", "write", "write"]
    shares = [share for _, share in seen]
    assert shares == sorted(shares) and (shares[0], shares[-1]) == (0.0, 1.0)


def test_a_float16_model_is_exported_and_compressed(checkpoint: Path, tmp_path: Path) -> None:
    half = sen_edge.quantize(checkpoint, "float16")
    direct = sen_edge.export(checkpoint, tmp_path / "a", to="onnx,sen", dtype="float16")
    derived = sen_edge.export(half, tmp_path / "b", to=["onnx", "sen"])
    for name in ("digits.onnx", "digits.sen"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert direct.manifest["request"]["dtype"] == derived.manifest["request"]["dtype"] == "float16"
    sen_edge.export(sen_edge.compress(half, sparsity=0.5, calibration="digits"), tmp_path / "c", to="onnx")


def test_earlier_compressions_are_recorded(checkpoint: Path, tmp_path: Path) -> None:
    once = sen_edge.compress(checkpoint, sparsity=0.5, calibration="digits")
    once.save(tmp_path / "once.sen")
    twice = [sen_edge.compress(each, rank=2, calibration="digits") for each in (once.model, tmp_path / "once.sen")]
    notes = [each.figures["previous"] for each in twice]
    assert notes[0] == notes[1] and json.loads(notes[0])["request"]["sparsity"] == 0.5
    twice[0].save(tmp_path / "twice.sen")
    sen_edge.compress(checkpoint, rank=2, calibration="digits").save(tmp_path / "other.sen")
    measured = sen_edge.bench([tmp_path / "twice.sen", tmp_path / "other.sen"], seconds=0.05, engines="native")
    assert not any(map(is_wrong, measured.rows))
    with pytest.raises(OutputError):
        sen_edge.compress(tmp_path / "once.sen", rank=2, calibration="digits").save(tmp_path / "once.sen", force=True)


def test_a_model_is_pickled_after_a_prediction(checkpoint: Path) -> None:
    model, x = sen_edge.load(checkpoint), np.ones(64)
    expected = model.predict(x)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(x), expected)  # noqa: S301


def test_a_later_export_keeps_the_proof_of_the_source(checkpoint: Path, tmp_path: Path) -> None:
    model, x = sen_edge.load(checkpoint), np.random.default_rng(0).random((20, 64), np.float32)
    np.savez(tmp_path / "expected.npz", x=x, y=model.predict(x))
    first = sen_edge.export(model, tmp_path / "out", to="onnx", expect=tmp_path / "expected.npz")
    second = sen_edge.export(model, tmp_path / "out", to="sen")
    assert second.manifest["input"]["expect"] == first.manifest["input"]["expect"] is not None


def test_errors_are_typed_and_leave_nothing(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for error, call in (
        (UsageError, lambda: sen_edge.export(checkpoint, out, dtype="int8")),
        (UsageError, lambda: sen_edge.export(checkpoint, out, colour="red")),
        (UsageError, lambda: sen_edge.export(None, out)),
        (UsageError, lambda: sen_edge.export(checkpoint, out, to=5)),
        (UsageError, lambda: sen_edge.export(checkpoint, out, to="sen", batch_size=2)),
        (UsageError, lambda: sen_edge.export(checkpoint, out, name="a" * 300)),
        (UsageError, lambda: sen_edge.export(checkpoint, out, sparsity=0.5, weights="coordinates", data="digits")),
        (UsageError, lambda: sen_edge.export(sen_edge.load(checkpoint), out, map_path="map.toml")),
        (UsageError, lambda: sen_edge.quantize(checkpoint, "float16", granularity="tensor")),
        (UsageError, lambda: sen_edge.compress(checkpoint)),
        (UsageError, lambda: sen_edge.quantize(checkpoint, "int2")),
        (UsageError, lambda: sen_edge.train("digits", tmp_path / "x.pt", epochs=0)),
        (UsageError, lambda: sen_edge.train("digits", tmp_path / "x.pt", layer_axis="free", layer_spacing=9.0)),
        (
            UsageError,
            lambda: sen_edge.compress(checkpoint, max_accuracy_drop=5, data="digits", calibration="digits"),
        ),
        (DataError, lambda: sen_edge.train("nowhere", tmp_path / "x.pt")),
        (DataError, lambda: sen_edge.export(checkpoint, out, data="nowhere")),
    ):
        with pytest.raises(error):
            call()
    assert not list(tmp_path.iterdir())


def test_a_failed_verification_holds_the_figures(checkpoint: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    sen_edge.train("digits", other, epochs=1, dims=2, hidden=[16])
    sen_edge.export(checkpoint, tmp_path / "out", to="onnx")
    with pytest.raises(VerificationError) as raised:
        sen_edge.verify(tmp_path / "out/digits.onnx", other)
    assert [each.passed for each in raised.value.results] == [False]


def test_a_model_of_a_large_network_prints_short() -> None:
    from sen_edge.model.model import Model

    network = random_network(np.random.default_rng(0), kinds=("dense",), sizes=(300, 200, 10))
    assert len(repr(Model(network, "0" * 64))) < MAX_REPR


def test_the_import_is_light() -> None:
    code = "import sen_edge, sys; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert set(sen_edge.__all__) <= set(dir(sen_edge))
    with pytest.raises(AttributeError):
        sen_edge.nothing  # noqa: B018 - the access is the test
