"""What a measurement refuses: options, files, engines, data."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sen_runtime.bench import measure, plan, text
from sen_runtime.bench.plan import BenchError, BenchRequest
from sen_runtime.errors import DataError, EngineError, ImageError, MissingExtraError, SenError, UsageError
from tests.bench.conftest import CORE, Made, run
from tests.support.bench import Machine, small_network, write

pytestmark = pytest.mark.usefixtures("short")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"artifacts": ()}, "files", id="nothing"),
        pytest.param({"seconds": 0.0}, "--seconds", id="no time"),
        pytest.param({"seconds": -1.0}, "--seconds", id="less than no time"),
        pytest.param({"seconds": float("nan")}, "--seconds", id="no number"),
        pytest.param({"threads": (0,)}, "--threads is 0", id="no threads"),
        pytest.param({"threads": (1, 257)}, r"--threads is 257.*\b256\b", id="too many threads"),
        pytest.param({"batches": (8, 0)}, "--batch is 0", id="no inputs"),
        pytest.param({"threads": (1, 2), "cpus": (CORE, CORE)}, rf"--cpu {CORE} .*--threads 2", id="one core"),
        pytest.param({"engines": ("tensorrt",)}, r"'tensorrt'.*c, litert", id="engine"),
        pytest.param({"engines": ("litert",)}, r"litert.*\.tflite", id="engine of none"),
        pytest.param({"artifacts": (Path("a.bin"),)}, r"a\.bin", id="ending"),
        pytest.param({"artifacts": (Path("a.c"),)}, r"a\.c", id="C unasked"),
        pytest.param({"energy": Path("m.csv")}, r"\b2 rows", id="energy of two"),
        pytest.param({"cpus": (CORE, 4000)}, rf"--cpu 4000.*\b{CORE}\b", id="no such core"),
        pytest.param({"cpus": (-1,)}, "--cpu -1", id="negative core"),
        pytest.param({"cpus": "small"}, "--cpu.*'small'", id="word"),
    ],
)
def test_usage(folder: Path, tmp_path: Path, options: Made, message: str) -> None:
    (tmp_path / "a.c").write_text("")
    given = tuple(tmp_path / path for path in options.get("artifacts", ()))
    request = {"artifacts": (folder / "net.sen", folder / "net.onnx"), **options}
    if "artifacts" in options:
        request["artifacts"] = given
    with pytest.raises(UsageError, match=message) as found:
        measure.run(BenchRequest(**request), device=Machine())
    assert found.value.exit_code == 2


def test_other_widths_name_both_files(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"net\.onnx.*\[12\].*other\.sen.*\[7\]"):
        run(folder / "net.onnx", folder / "other.sen")


def test_an_engine_that_is_missing_names_its_pip_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for options in ({}, {"engines": ("onnxruntime",)}):
        with pytest.raises(MissingExtraError) as found:
            run(folder / "net.onnx", **options)
        assert (found.value.exit_code, found.value.hint) == (4, "pip install onnxruntime")


@pytest.mark.slow
@pytest.mark.parametrize("engines", [(), ("native", "litert", "onnxruntime")])
def test_engines_that_are_missing_are_left_out_unless_all_are_wanted(
    folder: Path, monkeypatch: pytest.MonkeyPatch, engines: tuple[str, ...]
) -> None:
    for module in ("ai_edge_litert", "ai_edge_litert.interpreter", "tflite_runtime", "tflite_runtime.interpreter"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    paths = [folder / f"net.{ending}" for ending in ("onnx", "sen", "tflite")]
    found = run(*paths, engines=engines)
    assert [row["name"] for row in found["rows"]] == ["net.sen native 1"]
    left_out = {(each["file"], each["engine"]): each["hint"] for each in found["left_out"]}
    assert left_out["net.onnx", "onnxruntime"] == "pip install onnxruntime"
    assert left_out["net.tflite", "litert"] == "pip install ai-edge-litert"
    shown = text.table(found)
    assert "left out: net.onnx onnxruntime" in shown and "pip install ai-edge-litert" in shown
    with pytest.raises(MissingExtraError, match="onnxruntime") as refused:
        run(*paths, engines=engines, strict=True)
    assert refused.value.exit_code == 4 and "pip install ai-edge-litert" in refused.value.hint
    assert run(paths[1], engines=("native",), strict=True)["left_out"] == []


def test_a_file_for_one_interpreter_runs_in_that_one(tmp_path: Path) -> None:
    path = write(tmp_path, "net.tflite", small_network(), {"tflite_target": "litert"})
    assert [row.engine for row in plan.plan(BenchRequest((path,)))[0]] == ["litert"]


@pytest.mark.parametrize("name", ["net.sen", "net.onnx", "net.tflite"])
@pytest.mark.parametrize("damage", ["cut", "empty", "changed", "text"])
def test_a_damaged_file_is_named(folder: Path, tmp_path: Path, name: str, damage: str) -> None:
    data = (folder / name).read_bytes()
    middle = len(data) // 2
    content = {
        "cut": data[:middle],
        "empty": b"",
        "changed": data[:8] + bytes(64) + data[72:],
        "text": b"this is no model at all, however long one looks at it" * 4,
    }[damage]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SenError, match=name) as found:
        run(path)
    assert isinstance(found.value, (BenchError, ImageError, EngineError, SenError)) and found.value.exit_code == 1


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"absent\.onnx"):
        run(tmp_path / "absent.onnx")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        pytest.param({"x": np.zeros((3, 7), np.float32)}, r"\[7\].*\[12\]", id="width"),
        pytest.param({"x": np.zeros((3, 12)), "labels": np.zeros(3, int)}, "x, labels", id="key"),
        pytest.param({"x": np.full((3, 12), 255)}, r"\[0, 1\]", id="range"),
        pytest.param({"x_test": np.zeros((3, 12)), "y_test": np.full(3, 5)}, "label 5", id="label"),
    ],
)
def test_data_that_do_not_fit(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    model = write(tmp_path, "net.sen", replace(small_network(), metadata={"input_range": "0 1"}))
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(DataError, match=message) as found:
        run(model, data=tmp_path / "data.npz")
    assert "data.npz" in found.value.message


def test_data_are_checked_against_every_range_that_a_file_states(tmp_path: Path) -> None:
    bytes_, ones = (
        write(tmp_path, name, small_network(), {"input_range": stated, "checkpoint_sha256": name})
        for name, stated in (("bytes.sen", "0 255"), ("ones.sen", "0 1"))
    )
    np.savez(tmp_path / "data.npz", x=np.full((3, 12), 255))
    assert run(bytes_, data=tmp_path / "data.npz")["valid"]
    with pytest.raises(DataError, match=r"\[0, 1\]"):
        run(bytes_, ones, data=tmp_path / "data.npz")
    unknown = run(write(tmp_path, "unknown.sen", small_network()), data=tmp_path / "data.npz")
    assert any("input range" in each["message"] for each in unknown["rows"][0]["warnings"] if each["kind"] == "data")


def test_classes_without_examples_are_a_warning(folder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x_test=np.zeros((3, 12)), y_test=np.arange(3))
    found = run(folder / "net.sen", data=tmp_path / "data.npz")
    assert any(each["kind"] == "data" and "2 of 5" in each["message"] for each in found["rows"][0]["warnings"])
