"""`sen-edge train`: messages, options, interruption."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sen_edge.model import checkpoint
from sen_edge.training.loop import state_path
from tests.conftest import Outcome
from tests.training.conftest import toy

pytestmark = pytest.mark.usefixtures("one_thread")

Run = Callable[..., Outcome]


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    data = toy()
    names = ("train_inputs", "train_targets", "test_inputs", "test_targets")
    keys = ("x_train", "y_train", "x_test", "y_test")
    np.savez(tmp_path / "toy.npz", **{key: getattr(data, name) for key, name in zip(keys, names, strict=True)})
    return tmp_path / "toy.npz"


SMALL = ("--hidden", "8,6", "--dims", 4, "--epochs", 2)


def test_command_trains_and_names_the_next(sen_edge: Run, npz: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.pt"
    outcome = sen_edge("train", "--data", npz, *SMALL, "-o", out)
    assert outcome.code == 0, outcome.err
    assert "test accuracy" in outcome.out
    assert "epoch 2/2" in outcome.err and f"next: sen-edge export {out}" in outcome.err
    loaded = checkpoint.load(out)
    assert loaded.config.layer_sizes == (12, 8, 6, 3)
    assert loaded.metadata["command"] == f"sen-edge train --data {npz} --hidden 8,6 --dims 4 --epochs 2 -o {out}"


def test_command_prints_json_alone_on_stdout(sen_edge: Run, npz: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    spiking = (
        "--arch",
        "snn",
        "--timesteps",
        3,
        "--beta",
        0.5,
        "--reset",
        "zero",
        "--readout",
        "spike_count",
        "--no-reset-delay",
    )
    outcome = sen_edge("train", "--data", npz, *SMALL, *spiking, "--json", "-o", out)
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    assert result["output"] == str(out) and result["bytes"] == out.stat().st_size
    assert result["config"]["spiking"]["reset"] == "zero" and not result["config"]["spiking"]["reset_delay"]
    assert result["metadata"]["test_accuracy"] == f"{result['test_score']:.2f}"
    assert checkpoint.load(out).config.to_dict() == result["config"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(("--arch", "cnn"), "'cnn'", id="arch"),
        pytest.param(("--hidden", "8,x"), "'8,x'", id="hidden"),
        pytest.param(("--dims", "1"), "dimensions", id="dims"),
        pytest.param(("--dims", "many"), "'--dims'", id="dims not a number"),
        pytest.param(("--epochs", "0"), "--epochs", id="epochs"),
        pytest.param(("--learning-rate", "nan"), "--learning-rate", id="learning rate"),
        pytest.param(("--validation", "1"), "--validation", id="validation"),
        pytest.param(("--beta", "0.5"), "--beta", id="beta of an mlp"),
        pytest.param(("--arch", "snn", "--beta", "2"), "--beta", id="beta"),
        pytest.param(("--arch", "snn", "--reset", "never"), "'never'", id="reset"),
        pytest.param(("--layer-axis", "up"), "'up'", id="layer axis"),
        pytest.param(("--threads", "0"), "'--threads'", id="threads"),
        pytest.param(("--shift", "1"), "image", id="shift"),
    ],
)
def test_command_refuses_bad_options(
    sen_edge: Run, npz: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    outcome = sen_edge("train", "--data", npz, "-o", tmp_path / "model.pt", *arguments)
    assert outcome.code == 2, outcome.err
    assert message in outcome.err and outcome.out == ""
    assert {path.name for path in tmp_path.iterdir()} == {"toy.npz"}


def test_a_training_without_a_saved_state_starts(sen_edge: Run, npz: Path, tmp_path: Path) -> None:
    fresh, resumed = tmp_path / "a.pt", tmp_path / "b.pt"
    assert "resume" not in sen_edge("train", "--data", npz, *SMALL, "-o", fresh).err
    outcome = sen_edge("train", "--data", npz, *SMALL, "-o", resumed, "--resume")
    assert outcome.code == 0 and f"{resumed}.resume" in outcome.err
    first, second = checkpoint.load(fresh), checkpoint.load(resumed)
    assert all((first.tensors[name] == second.tensors[name]).all() for name in first.tensors)
    assert sen_edge("train", "--data", npz, *SMALL, "-o", resumed, "--resume").code == 1  # it is done


def test_command_needs_force_to_replace(sen_edge: Run, npz: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.pt"
    out.write_bytes(b"precious")
    outcome = sen_edge("train", "--data", npz, *SMALL, "-o", out)
    assert (outcome.code, out.read_bytes()) == (1, b"precious")
    assert "--force" in outcome.err and "epoch" not in outcome.err
    assert sen_edge("train", "--data", npz, *SMALL, "-o", out, "--force").code == 0


@pytest.mark.parametrize(("steps", "kept"), [(20, True), (5, False)], ids=["second epoch", "first epoch"])
@pytest.mark.parametrize("request_to_end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupt_prints_how_to_resume(
    sen_edge: Run,
    npz: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    steps: int,
    kept: bool,
    request_to_end: signal.Signals,
) -> None:
    from sen_edge.training import loop as module

    real, out = module._step, tmp_path / "model.pt"
    calls = iter(range(1, 1000))

    def step(*arguments: Any) -> tuple[float, int]:
        if next(calls) == steps:
            os.kill(os.getpid(), request_to_end)
        return real(*arguments)

    monkeypatch.setattr(module, "_step", step)
    command = ("train", "--data", npz, *SMALL, "--batch-size", 16, "-o", out)
    outcome = sen_edge(*command)
    assert (outcome.code, out.exists(), state_path(out).exists()) == (130, False, kept)
    if not kept:
        assert "--resume" not in outcome.err
        return
    resume = " ".join(map(str, ("sen-edge", *command, "--resume")))
    assert outcome.err.splitlines()[-1].endswith(resume)
    assert sen_edge(*command, "--resume").code == 0
    assert checkpoint.load(out).metadata["command"] == resume.removesuffix(" --resume")
    assert not state_path(out).exists()
