"""`sen-edge export --to c` and `verify` in a build pipeline."""

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sen_edge.model import checkpoint as checkpoints
from sen_runtime import files
from tests.cli.test_export import SCRIPT
from tests.conftest import MLP, Outcome, make_checkpoint
from tests.engines.test_engine_c import IMPOSTOR, false_compiler

Run = Callable[..., Outcome]

NAMES = {
    *(
        "mlp.c",
        "mlp.h",
        "mlp.hpp",
        "mlp_selftest.c",
        "README.md",
        "CMakeLists.txt",
        "library.json",
        "library.properties",
    ),
    *("Makefile", "zephyr/module.yml", "zephyr/CMakeLists.txt", "zephyr/Kconfig"),
    *("micropython.mk", "micropython.cmake", "micropython/module.c", "examples/SelfTest/SelfTest.ino"),
}


def everything(folder: Path) -> dict[str, bytes]:
    """Name -> content of all files below a folder, hidden ones included."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_verified_folder_and_a_manifest(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcome = sen_edge("export", mlp_path, "--to", "c,sen", "-o", out)
    assert outcome.code == 0, outcome.err
    found = everything(out)
    assert set(found) == {"mlp.sen", "mlp.manifest.json", *(f"mlp/{name}" for name in NAMES)}
    assert outcome.out.splitlines()[0] == str(out / "mlp/mlp.c")
    manifest = json.loads(found["mlp.manifest.json"])
    artifact = manifest["artifacts"][0]
    assert artifact["verification"][0]["passed"] and artifact["verification"][0]["engine"].startswith("c ")
    assert artifact["footprint"]["RAM"] == 32 * 4 and artifact["footprint"]["flash"] > 4 * (64 * 32 + 32 * 10 + 42)
    assert f"{artifact['footprint']['RAM']} B" in outcome.err
    for name, facts in artifact["files"].items():
        assert facts == {"bytes": len(found[name]), "sha256": hashlib.sha256(found[name]).hexdigest()}
    assert f"checkpoint_sha256: {hashlib.sha256(mlp_path.read_bytes()).hexdigest()}" in found["mlp/mlp.c"].decode()
    outcome = sen_edge("verify", out / "mlp/mlp.c", "--against", mlp_path, "--seed", 3)
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize(
    "options",
    [
        ("--weights", "coordinates"),
        ("--dtype", "float16"),
        ("--dtype", "int8-dynamic"),
        ("-O", "c.weights=incbin"),
        ("--name", "a net"),
    ],
    ids=" ".join,
)
def test_export_and_verify_a_perceptron(
    options: tuple[str, ...], sen_edge: Run, mlp_path: Path, tmp_path: Path
) -> None:
    outcome = sen_edge("export", mlp_path, "-o", tmp_path, "--to", "c", *options)
    assert outcome.code == 0, outcome.err
    assert sen_edge("verify", outcome.out.splitlines()[0], "--against", mlp_path).code == 0


@pytest.mark.parametrize("dtype", ["float32", "int8-dynamic"])
def test_export_and_verify_a_spiking_network(dtype: str, sen_edge: Run, snn_path: Path, tmp_path: Path) -> None:
    outcome = sen_edge("export", snn_path, "-o", tmp_path, "--to", "c", "--dtype", dtype, "--json")
    assert outcome.code == 0, outcome.err
    figures = json.loads(outcome.out)["artifacts"][0]["verification"][0]
    assert figures["spike_agreement"] >= (0.999 if dtype == "float32" else 0.9)


def test_verify_refuses_the_folder_of_another_checkpoint(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    sen_edge("export", mlp_path, "--to", "c", "-o", tmp_path)
    other = tmp_path / "other.pt"
    checkpoints.save(make_checkpoint(MLP, seed=1), other)
    outcome = sen_edge("verify", tmp_path / "mlp/mlp.c", "--against", other)
    assert outcome.code == 3 and "layer 0" in outcome.err


def test_verify_of_what_is_no_export(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    (tmp_path / "alone.c").write_text("int x;\n")
    outcome = sen_edge("verify", tmp_path / "alone.c", "--against", mlp_path)
    assert outcome.code == 1 and "alone.h" in outcome.err


def test_an_export_that_exists_needs_force(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    arguments = ("export", mlp_path, "--to", "c", "-o", tmp_path / "out")
    assert sen_edge(*arguments, "-O", "c.weights=incbin").code == 0
    before = everything(tmp_path / "out")
    outcome = sen_edge(*arguments)
    assert outcome.code == 1 and "out/mlp" in outcome.err and "--force" in outcome.err
    assert everything(tmp_path / "out") == before
    assert sen_edge(*arguments, "--force").code == 0
    assert set(everything(tmp_path / "out")) == {"mlp.manifest.json", *(f"mlp/{name}" for name in NAMES)}


def test_force_deletes_no_file_of_the_user(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    arguments = ("export", mlp_path, "--to", "c", "-o", tmp_path / "out")
    assert sen_edge(*arguments).code == 0
    (tmp_path / "out/mlp/board.c").write_text("mine")
    before = everything(tmp_path / "out")
    outcome = sen_edge(*arguments, "--force")
    assert outcome.code == 1 and "board.c" in outcome.err
    assert everything(tmp_path / "out") == before


@pytest.mark.slow
@pytest.mark.parametrize("nth", [1, 5, 11])
def test_sigkill_leaves_no_partial_folder(nth: int, sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    arguments = ["export", str(mlp_path), "-o", str(tmp_path / "out"), "--to", "c"]
    run = subprocess.run([sys.executable, "-c", SCRIPT, str(nth), *arguments])
    assert run.returncode == -signal.SIGKILL
    left = [path.name for path in (tmp_path / "out").iterdir()]
    assert left and all(name.startswith(".") and name.endswith(".tmp") for name in left)
    assert sen_edge(*arguments).code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"mlp", "mlp.manifest.json"}


def test_a_disk_that_fails_keeps_the_old_folder(
    sen_edge: Run, mlp_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("export", mlp_path, "--to", "c", "-o", tmp_path / "out")
    assert sen_edge(*arguments).code == 0
    before = everything(tmp_path / "out")
    genuine = files._write_synced

    def full(path: Path, data: bytes) -> None:
        if path.name == "README.md":
            raise OSError(28, "No space left on device")
        genuine(path, data)

    monkeypatch.setattr(files, "_write_synced", full)
    outcome = sen_edge(*arguments, "--force", "--dtype", "float16")
    assert outcome.code == 1 and "No space left" in outcome.err
    assert everything(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--max-flash", "4KiB"), 3, "4096"),
        (("--max-ram", "127"), 3, "127"),
        (("--max-ram", "0.1kB", "--max-flash", "1 B"), 3, "[32, 64]"),
        (("--max-flash", "1MB", "--max-ram", "1 mib"), 0, "RAM"),
        (("--max-flash", "64 parsecs"), 2, "'64 parsecs'"),
        (("--max-ram", "-1"), 2, "max_ram"),
        (("-O", "c.max-flash=64 parsecs"), 2, "'64 parsecs'"),
        (("-O", "c.max_flash=4KiB"), 3, "4096"),
        (("-O", "max_flash=4KiB"), 2, "TARGET.OPTION=VALUE"),
        (("-O", "onnx.opset=17"), 2, "onnx.opset"),
        (("--max-ram", "9" * 5000), 2, "max_ram"),
        (("--max-flash", "64KiB", "--to", "sen"), 2, "'max_flash'"),
        (("--max-ram", "64KiB", "--to", "sen"), 2, "'max_ram'"),
        (("-O", "c.weights=array", "--to", "sen"), 2, "'c.weights'"),
        (("-O", "c.weights=flash"), 2, "'flash'"),
        (("--name", "int"), 2, "'int'"),
        (("-O", "c.simd=neon"), 2, "'neon'"),
        (("-O", "c.simd=dsp"), 2, "dsp"),
    ],
)
def test_budgets_and_wrong_requests(
    options: tuple[str, ...], code: int, message: str, sen_edge: Run, mlp_path: Path, tmp_path: Path
) -> None:
    target = () if "--to" in options else ("--to", "c")
    outcome = sen_edge("export", mlp_path, *target, "-o", tmp_path / "out", *options)
    assert outcome.code == code and message in outcome.err, outcome.err
    assert (tmp_path / "out").exists() == (code == 0)


def test_budgets_need_the_target(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    outcome = sen_edge("export", mlp_path, "-o", tmp_path / "out", "--max-ram", "1KiB")
    assert outcome.code == 2 and "--to c" in outcome.err


def test_no_compiler_is_exit_4(sen_edge: Run, mlp_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEN_EDGE_CC", "no-such-compiler")
    outcome = sen_edge("export", mlp_path, "--to", "c", "-o", tmp_path / "out")
    assert outcome.code == 4 and "no-such-compiler" in outcome.err and "SEN_EDGE_CC" in outcome.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("variable", ["CC", "SEN_EDGE_CC"])
def test_a_compiler_for_another_machine(
    variable: str, sen_edge: Run, mlp_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a shell for firmware CC names one, which is none of our business."""
    path = false_compiler(tmp_path, IMPOSTOR)
    monkeypatch.setenv(variable, str(path))
    outcome = sen_edge("export", mlp_path, "--to", "c", "-o", tmp_path / "out")
    assert outcome.code == (0 if variable == "CC" else 1), outcome.err
    if variable == "SEN_EDGE_CC":
        assert str(path) in outcome.err.replace("\n", " ")
