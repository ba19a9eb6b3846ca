"""Commands: results, messages, exit codes, and written files."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from sen_edge.model import checkpoint as checkpoints
from sen_edge.model.config import SpatialConfig
from tests.conftest import MLP, Outcome, make_checkpoint
from tests.model.test_checkpoint import Payload, content

Run = Callable[..., Outcome]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- export --------------------------------------------------------------------------------------


def test_export_writes_verified_files_and_a_manifest(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcome = sen_edge("export", mlp_path, "--to", "onnx,sen", "-o", out, "--name", "net")
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines() == [str(out / name) for name in ("net.onnx", "net.sen", "net.manifest.json")]
    assert "next: sen-edge verify" in outcome.err
    assert names(out) == {"net.onnx", "net.sen", "net.manifest.json"}
    manifest = json.loads((out / "net.manifest.json").read_text())
    assert manifest["input"]["sha256"] == hashlib.sha256(mlp_path.read_bytes()).hexdigest()
    for artifact in manifest["artifacts"]:
        for figures in artifact["verification"]:
            assert figures["passed"] and figures["inputs"] >= 256
            assert figures["max_rel_error"] <= 1e-4
        for name, facts in artifact["files"].items():
            data = (out / name).read_bytes()
            assert facts == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_exported_file_is_self_describing(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    sen_edge("export", mlp_path, "-o", tmp_path)
    model = onnx.load(tmp_path / "mlp.onnx")
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["producer"] == f"sen-edge {version('sen-edge')}"
    assert properties["checkpoint_sha256"] == hashlib.sha256(mlp_path.read_bytes()).hexdigest()
    assert properties["verified_inputs"] == "288"
    assert properties["verified_max_rel_error"].startswith("<= ")
    assert {"layer0/weight", "layer0/bias", "layer1/weight"} <= {tensor.name for tensor in model.graph.initializer}


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--weights", "coordinates"),
        ("--dtype", "float16"),
        ("--dtype", "float16", "--weights", "coordinates"),
        ("--opset", "13"),
        ("--opset", "21"),
        ("--batch-size", "3"),
        ("--sparse-format", "dense"),
    ],
    ids=" ".join,
)
def test_export_and_verify_a_perceptron(
    options: tuple[str, ...], sen_edge: Run, mlp_path: Path, tmp_path: Path
) -> None:
    assert sen_edge("export", mlp_path, "-o", tmp_path, *options).code == 0
    outcome = sen_edge("verify", tmp_path / "mlp.onnx", "--against", mlp_path, "--seed", 7)
    assert outcome.code == 0, outcome.err
    assert "equal decisions" in outcome.out


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "sen"])
@pytest.mark.parametrize("snn", ["unrolled", "scan", "step"])
def test_export_and_verify_a_spiking_network(
    snn: str, target: str, sen_edge: Run, snn_path: Path, tmp_path: Path
) -> None:
    assert sen_edge("export", snn_path, "-o", tmp_path, "--snn", snn, "--to", target).code == 0
    outcome = sen_edge("verify", tmp_path / f"snn.{target}", "--against", snn_path, "--json")
    assert outcome.code == 0
    for figures in json.loads(outcome.out):
        assert figures["passed"] and figures["spike_agreement"] >= 0.999


def test_a_file_is_no_folder(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    outcome = sen_edge("export", mlp_path, "-o", tmp_path / "out", "--force")
    assert outcome.code == 1 and "folder" in outcome.err
    assert (tmp_path / "out").read_text() == "mine"


def test_export_is_deterministic(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        assert sen_edge("export", mlp_path, "--to", "onnx,sen", "-o", tmp_path / folder).code == 0
    for name in names(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_json_is_the_manifest(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    outcome = sen_edge("export", mlp_path, "-o", tmp_path, "--json")
    assert json.loads(outcome.out) == json.loads((tmp_path / "mlp.manifest.json").read_text())


def test_an_existing_output_needs_force(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    (tmp_path / "mlp.onnx").write_text("mine")
    outcome = sen_edge("export", mlp_path, "-o", tmp_path)
    assert outcome.code == 1 and "mlp.onnx" in outcome.err and "--force" in outcome.err
    assert (tmp_path / "mlp.onnx").read_text() == "mine"
    assert sen_edge("export", mlp_path, "-o", tmp_path, "--force").code == 0
    assert (tmp_path / "mlp.onnx").read_bytes() != b"mine"


def write_code(path: Path) -> None:
    torch.save({**content(), "extra": Payload(path.with_name("ran"))}, path)


def write_truncated(path: Path) -> None:
    checkpoints.save(make_checkpoint(MLP), path)
    path.write_bytes(path.read_bytes()[:3000])


def write_chain(path: Path) -> None:
    wrong = content()
    wrong["tensors"]["positions.1"] = torch.zeros(7, 2)
    torch.save(wrong, path)


def write_nan(path: Path) -> None:
    wrong = content()
    wrong["tensors"]["inhibition.1"][3] = torch.nan
    torch.save(wrong, path)


def coincident() -> dict[str, Any]:
    wrong = content()
    wrong["config"]["layer_axis"], wrong["config"]["dimensions"] = "free", 2
    wrong["tensors"]["positions.2"][1] = wrong["tensors"]["positions.1"][4]
    return wrong


def write_coincident(path: Path) -> None:
    torch.save(coincident(), path)


def write_coincident_pattern(path: Path) -> None:
    """The weights that are left are computed when the file is read, so that no command can go on."""
    wrong = coincident()
    (n_in,), (n_out,) = (wrong["tensors"][f"{name}.1"].shape for name in ("inhibition", "bias"))
    wrong["tensors"]["synapses.1"] = torch.full((n_out, -(-n_in // 8)), 255, dtype=torch.uint8)
    torch.save(wrong, path)


def write_pruned(path: Path, layers: tuple[int, ...]) -> None:
    """Every second synapse of these layers of `MLP`."""
    sizes = MLP.layer_sizes
    synapses = {i: np.indices((sizes[i + 1], sizes[i])).sum(axis=0) % 2 == 0 for i in layers}
    checkpoints.save(replace(make_checkpoint(MLP), synapses=synapses), path, replace=True)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_text("not a checkpoint"), "torch"),
        (write_code, "code"),
        (write_truncated, "truncated"),
        (write_chain, "positions.1"),
        (write_nan, "inhibition.1"),
        (write_coincident, "layer 1"),
        (lambda path: None, "bad.pt"),
    ],
    ids=["text", "code", "truncated", "chain", "nan", "coincident", "absent"],
)
@pytest.mark.parametrize("command", ["export", "inspect", "verify"])
def test_a_bad_checkpoint(
    command: str, write: Callable[[Path], Any], message: str, sen_edge: Run, mlp_path: Path, tmp_path: Path
) -> None:
    path, out = tmp_path / "bad.pt", tmp_path / "out"
    write(path)
    arguments: list[object] = [command, path, "-o", out]
    if command == "inspect":
        arguments = [command, path]
    elif command == "verify":
        sen_edge("export", mlp_path, "-o", tmp_path)
        arguments = [command, tmp_path / "mlp.onnx", "--against", path]
    outcome = sen_edge(*arguments)
    if write is write_coincident and command == "inspect":  # inspect describes what export refuses
        assert outcome.code == 0 and "source neuron 4" in outcome.out
    elif command == "verify" and write is write_coincident:
        assert outcome.code == 3
    else:
        assert outcome.code == 1 and message in outcome.err
    assert not out.exists() and not (tmp_path / "ran").exists()


@pytest.mark.parametrize("command", ["export", "inspect", "verify"])
def test_a_pattern_over_coincident_neurons(command: str, sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "bad.pt", tmp_path / "out"
    write_coincident_pattern(path)
    sen_edge("export", mlp_path, "-o", tmp_path)
    arguments = {"export": (path, "-o", out), "inspect": (path,), "verify": (tmp_path / "mlp.onnx", "--against", path)}
    outcome = sen_edge(command, *arguments[command])
    message = f"error: {path}: layer 1: "
    assert outcome.code == 1 and message in outcome.err and not out.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--to", "onnx,gguf"), "'gguf'"),
        (("--to", ","), "--to"),
        (("--weights", "sparse"), "--weights"),
        (("--dtype", "int4"), "--dtype"),
        (("--opset", "12"), "opset"),
        (("--opset", "99"), "opset"),
        (("--opset", "x"), "x"),
        (("--batch-size", "0"), "--batch-size"),
        (("--batch-size", "9" * 5000), "--batch-size"),
        (("--batch-size", "many"), "--batch-size"),
        (("--snn", "rolled"), "rolled"),
        (("--snn", "scan"), "--snn"),
        (("--sparse-format", "coo"), "coo"),
        (("--name", "a/b"), "--name"),
        (("--name", ""), "--name"),
        (("--colour", "red"), "colour"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_a_wrong_option_is_a_usage_error(
    options: tuple[str, ...], message: str, sen_edge: Run, mlp_path: Path, tmp_path: Path
) -> None:
    outcome = sen_edge("export", mlp_path, "-o", tmp_path / "out", *options)
    assert outcome.code == 2 and message in outcome.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("layers", [(1,), (0, 1)], ids=["one layer", "all layers"])
def test_coordinates_do_not_give_a_pattern(
    layers: tuple[int, ...], sen_edge: Run, mlp_path: Path, tmp_path: Path
) -> None:
    write_pruned(mlp_path, layers)
    request = ("export", mlp_path, "--to", "onnx", "-o", tmp_path / "out")
    outcome = sen_edge(*request, "--weights", "coordinates")
    assert outcome.code == 2 and f"layer {layers[0]}" in outcome.err
    assert "sen-edge compress --criterion distance" in outcome.err
    assert not (tmp_path / "out").exists()
    assert sen_edge(*request).code == 0


def test_data_of_another_shape(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.zeros((5, 63), np.float32), y=np.zeros(5, np.int64))
    outcome = sen_edge("export", mlp_path, "-o", tmp_path / "out", "--data", tmp_path / "data.npz")
    assert outcome.code == 1 and "[63]" in outcome.err
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_cannot_be_written(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    outcome = sen_edge("export", mlp_path, "-o", tmp_path / "file" / "out")
    assert outcome.code == 1 and str(tmp_path / "file") in outcome.err


def test_a_file_that_disagrees_is_not_written(
    sen_edge: Run, mlp_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect in the precomputed weights of the second layer must be caught, and its layer named."""
    from sen_edge.passes import materialize

    exact = materialize.weights

    def wrong(operator: Any) -> Any:
        result = exact(operator)
        if result.shape == (10, 32):
            result[3, 5] *= 1.01
        return result

    monkeypatch.setattr(materialize, "weights", wrong)
    outcome = sen_edge("export", mlp_path, "-o", tmp_path / "out")
    assert outcome.code == 3
    assert "layer 1" in outcome.err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "sen"])
def test_verify_refuses_a_file_of_another_checkpoint(
    target: str, sen_edge: Run, mlp_path: Path, snn_path: Path, tmp_path: Path
) -> None:
    sen_edge("export", mlp_path, "-o", tmp_path, "--to", target)
    other = tmp_path / "other.pt"
    checkpoints.save(make_checkpoint(MLP, seed=1), other)
    assert "layer 0" in sen_edge("verify", tmp_path / f"mlp.{target}", "--against", other).err
    for sizes, message in {
        (65, 32, 10): "[64]",
        (64, 31, 10): "[288, 31]",
        (64, 32, 9): "[288, 10]",
        (64, 10): "decisions",
        (64, 32, 10, 10): "layer1/activation",
    }.items():
        checkpoints.save(make_checkpoint(SpatialConfig(sizes)), other, replace=True)
        outcome = sen_edge("verify", tmp_path / f"mlp.{target}", "--against", other)
        assert outcome.code == 3 and message in outcome.err
    assert sen_edge("verify", tmp_path / f"mlp.{target}", "--against", snn_path).code == 3


@pytest.mark.parametrize(
    ("name", "data", "code", "message"),
    [
        ("model.onnx", None, 1, "model.onnx"),
        ("model.gguf", b"x", 2, "'.gguf'"),
        ("model.onnx", b"not onnx", 1, "model.onnx"),
        ("model.sen", b"not an image", 1, "model.sen"),
        ("model.tflite", b"no flatbuffer", 1, "model.tflite"),
    ],
    ids=["absent", "suffix", "damaged onnx", "damaged image", "damaged tflite"],
)
def test_verify_of_no_artifact(
    name: str, data: bytes | None, code: int, message: str, sen_edge: Run, mlp_path: Path, tmp_path: Path
) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    outcome = sen_edge("verify", tmp_path / name, "--against", mlp_path)
    assert outcome.code == code and message in outcome.err


SCRIPT = """
import os, signal, sys
from sen_runtime import files
written, nth = [], int(sys.argv[1])
def half_then_killed(path, data):
    written.append(path)
    path.write_bytes(data[: len(data) // 2])
    if len(written) == nth:
        os.kill(os.getpid(), signal.SIGKILL)
    path.write_bytes(data)
files._write_synced = half_then_killed
sys.argv = ["sen-edge", *sys.argv[2:]]
from sen_edge.cli.main import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_sigkill_leaves_no_partial_file(nth: int, sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["export", str(mlp_path), "-o", str(out), "--to", "onnx,sen"]
    run = subprocess.run([sys.executable, "-c", SCRIPT, str(nth), *arguments])
    assert run.returncode == -signal.SIGKILL
    assert all(name.startswith(".") and name.endswith(".tmp") for name in names(out))
    assert sen_edge(*arguments).code == 0
    assert names(out) == {"mlp.onnx", "mlp.sen", "mlp.manifest.json"}  # and the leftovers are gone


FULL_DISK = """
import resource, sys
from sen_runtime import files
genuine = files._write_synced
def full(path, data):
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
    genuine(path, data)
if sys.argv[1] == "output":
    files._write_synced = full
else:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
sys.argv = ["sen-edge", *sys.argv[2:]]
from sen_edge.cli.main import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("disk", ["output", "temporary"])
def test_a_full_disk_leaves_no_file(disk: str, mlp_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, disk, "export", mlp_path, "-o", out], capture_output=True, text=True
    )
    assert run.returncode == 1 and "error: " in run.stderr and "Traceback" not in run.stderr
    assert not out.exists() or names(out) == set()


# --- inspect, doctor, help -----------------------------------------------------------------------


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
