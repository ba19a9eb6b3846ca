"""Commands: `inspect`, `demo`, `doctor`, help."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sen_edge.model import checkpoint as checkpoints
from tests.conftest import MLP, Outcome, make_checkpoint
from tests.support.checkpoints import write_pruned

Run = Callable[..., Outcome]


def test_inspect(sen_edge: Run, mlp_path: Path) -> None:
    outcome = sen_edge("inspect", mlp_path)
    assert outcome.code == 0
    assert "mlp 64-32-10, d = 3 (layer axis fixed)" in outcome.out
    figures = json.loads(sen_edge("inspect", mlp_path, "--json").out)
    assert figures["parameters"] == (64 + 32 + 10) * 2 + 64 + 32 + 2 + 42
    assert figures["dense_parameters"] == 64 * 32 + 32 * 10 + 42
    assert figures["saved"] == pytest.approx(100 * (1 - figures["parameters"] / figures["dense_parameters"]))
    assert sum(layer["parameters"] for layer in figures["layers"]) == figures["parameters"]
    layer = figures["layers"][0]
    assert layer["excitatory"] + layer["inhibitory"] == pytest.approx(1)
    assert (layer["form"], layer["dtype"], layer["sparsity"], layer["rank"]) == ("coordinates", "float32", 0, None)
    assert (layer["n_in"], layer["n_out"], layer["macs"]) == (64, 32, 64 * 32)
    assert layer["bytes"] == 4 * ((64 + 32) * 3 + 64 + 32)
    assert (figures["kind"], figures["macs"]) == ("checkpoint", 64 * 32 + 32 * 10)
    made = checkpoints.to_network(make_checkpoint(MLP)).layers[0].weight
    weight = made.to_dense()
    np.testing.assert_allclose(layer["weight_quantiles"], np.quantile(weight, [0, 0.05, 0.5, 0.95, 1]), rtol=1e-5)
    distance = np.linalg.norm(made.source[None].astype(float) - made.target[:, None], axis=-1)
    np.testing.assert_allclose(layer["distance_quantiles"], np.quantile(distance, [0, 0.05, 0.5, 0.95, 1]), rtol=1e-5)


def test_inspect_counts_the_synapses_that_a_pattern_keeps(sen_edge: Run, tmp_path: Path) -> None:
    pruned, within = tmp_path / "pruned.pt", tmp_path / "within.pt"
    write_pruned(pruned, (0,))
    outcome = sen_edge("inspect", pruned)
    kept, every = 64 * 32 // 2 + 32 * 10, 64 * 32 + 32 * 10
    assert outcome.code == 0 and f"{kept:,} of {every:,}" in outcome.out and f"{64 * 32:,} bits" in outcome.out
    assert "replaced by coordinates" not in outcome.out
    figures = json.loads(sen_edge("inspect", pruned, "--json").out)
    assert (figures["synapses"], figures["synapse_bits"]) == (every, 64 * 32)
    assert figures["parameters"] == make_checkpoint(MLP).n_parameters  # the learned numbers, as without a pattern
    assert [layer["sparsity"] for layer in figures["layers"]] == [0.5, 0]
    start = make_checkpoint(MLP)
    checkpoints.save(replace(start, config=replace(MLP, max_distance=(2.0, 0.0))), within)
    w = checkpoints.to_network(checkpoints.load(within)).layers[0].weight.to_dense()
    left = int(np.count_nonzero(w)) + 32 * 10
    outcome = sen_edge("inspect", within)
    assert 32 * 10 < left < every
    assert f"synapses        {every:,} replaced by coordinates, {left:,} of them connected\n" in outcome.out
    assert json.loads(sen_edge("inspect", within, "--json").out)["synapse_bits"] == 0


@pytest.mark.slow
def test_demo_exports_verifies_and_measures_every_target(
    sen_edge: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sen_edge.training import train

    suggested = train.suggested_recipe
    monkeypatch.setattr(train, "suggested_recipe", lambda *given: replace(suggested(*given), epochs=12))
    outcome = sen_edge("demo", "-o", tmp_path / "demo")
    assert outcome.code == 0, outcome.err
    for name in ("dense.onnx", "dense.sen", "dense.tflite", "coordinates.onnx", "coordinates.sen", "int8.tflite"):
        assert (tmp_path / "demo" / f"digits-{name}").exists() and f"digits-{name}" in outcome.out
    for name in ("digits_dense", "digits_coordinates", "digits_int8_dynamic"):
        assert (tmp_path / "demo" / name / f"{name}.c").exists() and f"{name}.c" in outcome.out


def test_doctor_runs_every_engine(sen_edge: Run) -> None:
    outcome = sen_edge("doctor", "--json")
    findings = {finding["name"]: finding for finding in json.loads(outcome.out)}
    assert outcome.code == 0 and all(finding["works"] for finding in findings.values())
    assert {"torch", "engine onnxruntime", "target onnx", "target sen"} <= set(findings)


@pytest.mark.parametrize(("extra", "module"), [("plot", "matplotlib.figure"), ("sweep", "optuna")])
def test_doctor_tries_the_extras_which_may_be_missing(
    sen_edge: Run, monkeypatch: pytest.MonkeyPatch, extra: str, module: str
) -> None:
    findings = {finding["name"]: finding for finding in json.loads(sen_edge("doctor", "--json").out)}
    assert findings[f"extra {extra}"]["works"]
    monkeypatch.setitem(sys.modules, module, None)
    outcome = sen_edge("doctor", "--json")
    found = {finding["name"]: finding for finding in json.loads(outcome.out)}[f"extra {extra}"]
    assert outcome.code == 0 and not found["works"]
    assert found["remedy"] == f"pip install 'sen-edge[{extra}]'" and module.split(".")[0] in found["detail"]


def test_doctor_names_the_pip_line(sen_edge: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    outcome = sen_edge("doctor")
    assert outcome.code == 4 and "pip install onnxruntime" in outcome.out


def test_a_missing_engine_is_exit_4(
    sen_edge: Run, mlp_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError")
    monkeypatch.syspath_prepend(str(tmp_path))  # engines run in a process of their own, with the same import path
    outcome = sen_edge("export", mlp_path, "-o", tmp_path / "out")
    assert outcome.code == 4 and "pip install onnxruntime" in outcome.err
    assert not (tmp_path / "out").exists()


def test_help_and_version(sen_edge: Run) -> None:
    outcome = sen_edge("--help")
    assert outcome.code == 0
    for command in ("train", "inspect", "export", "verify", "demo", "doctor"):
        assert command in outcome.out
        assert sen_edge(command, "--help").code == 0
    assert sen_edge("--version").out.startswith("sen-edge ")


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['sen-edge', '--help']\n"
        "from sen_edge.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: print(sorted({'torch', 'onnx', 'onnxruntime', 'numpy'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"


def test_an_unexpected_failure_is_one_line_unless_debugging(
    sen_edge: Run, mlp_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sen_edge.exporting.pipeline.manifest", lambda *_: 1 / 0)
    outcome = sen_edge("export", mlp_path, "-o", tmp_path)
    assert outcome.code == 1 and "ZeroDivisionError" in outcome.err and "--debug" in outcome.err
    monkeypatch.setenv("SEN_EDGE_DEBUG", "1")
    from sen_edge.cli.main import main

    with pytest.raises(ZeroDivisionError):
        main()


def test_the_script_is_installed(tmp_path: Path) -> None:
    script = shutil.which("sen-edge", path=str(Path(sys.executable).parent))
    assert script is not None
    run = subprocess.run([script, "inspect", tmp_path / "none.pt"], capture_output=True, text=True)
    assert run.returncode == 1 and run.stderr.startswith("error: ") and run.stdout == ""


def test_a_target_may_be_repeated(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    outcome = sen_edge("export", mlp_path, "--to", "onnx", "--to", "sen", "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".onnx", ".sen", ".json"}
