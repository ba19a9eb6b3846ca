"""Training: reproducible for equal seeds, also after an interruption; errors lose no results."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sen_edge
from sen_edge.data.datasets import Dataset, load
from sen_edge.errors import CheckpointError, DataError, OutputError, UsageError
from sen_edge.model import checkpoint
from sen_edge.model.config import SpatialConfig, SpikingConfig
from sen_edge.progress import Progress
from sen_edge.training.loop import TrainingError, shift_images, state_path
from sen_edge.training.objective import Part, evaluate, objective_of
from sen_edge.training.recipe import Recipe, suggested_recipe
from sen_edge.training.request import TrainRequest
from sen_edge.training.train import suggested_spiking, train
from sen_runtime.task import ACCURACY
from tests.conftest import Outcome

Run = Callable[..., Outcome]

MLP = SpatialConfig((12, 8, 3), dimensions=4, layer_spacing=0.1, steepness=0.5, input_range=(0.0, 1.3))
SNN = replace(MLP, spiking=SpikingConfig(4, surrogate_slope=5.0))
RECIPE = Recipe(epochs=4, batch_size=16, learning_rate=0.1)


def toy(seed: int = 0) -> Dataset:
    """Three noisy prototypes: 240 training and 60 test examples, images of 3 x 4 pixels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(300) % 3
    inputs = (np.eye(3, 12)[labels] + rng.uniform(0, 0.3, (300, 12))).astype(np.float32)
    return Dataset("toy", inputs[:240], labels[:240], inputs[240:], labels[240:], (0.0, 1.3), image_shape=(3, 4))


def tensors(path: Path) -> dict[str, bytes]:
    return {name: tensor.tobytes() for name, tensor in checkpoint.load(path).tensors.items()}


class Stop(Exception):
    """Stands for whatever ends a process."""


def stop_in(epoch: int, error: type[BaseException] = Stop, epochs: int = RECIPE.epochs) -> Progress:
    def stop(stage: str, fraction: float) -> None:
        if fraction > (epoch - 1) / epochs:
            raise error

    return stop


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small only wait for a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("config", [MLP, SNN], ids=["mlp", "snn"])
def test_training_learns_and_prints_a_summary(tmp_path: Path, config: SpatialConfig) -> None:
    seen: list[float] = []
    out = tmp_path / "model.pt"
    recipe = replace(RECIPE, epochs=20)
    result = train(
        config, toy(), recipe, out=out, metadata={"note": "hi"}, progress=lambda stage, fraction: seen.append(fraction)
    )
    assert result.test_score > 90
    metadata = checkpoint.load(out).metadata
    assert metadata["note"] == "hi"
    assert (metadata["dataset"], metadata["epochs"], metadata["seed"]) == ("toy", "20", "0")
    assert metadata["test_accuracy"] == f"{result.test_score:.2f}"
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]
    assert len(result.history) == 20 and result.history[-1].loss < result.history[0].loss
    assert result.validation_score == max(epoch.validation_score for epoch in result.history)
    assert seen == sorted(seen) and 0 < seen[0] < seen[-1] == 1


def test_the_kept_epoch_is_the_best_on_held_out_training_data(tmp_path: Path) -> None:
    dataset = toy()
    wrong = replace(dataset, test_targets=(dataset.test_targets + 1) % 3)  # must not influence what is kept
    first = train(MLP, dataset, RECIPE, out=tmp_path / "a.pt")
    second = train(MLP, wrong, RECIPE, out=tmp_path / "b.pt")
    assert tensors(first.path) == tensors(second.path)
    assert second.test_score < 50
    network = checkpoint.to_module(checkpoint.load(first.path))
    scores, _ = evaluate(network, Part.whole(dataset.test), objective_of(network, dataset.training, RECIPE))
    accuracy = scores[ACCURACY]
    logits = network(torch.tensor(dataset.test_inputs)).detach().numpy()
    assert accuracy == first.test_score == pytest.approx(100 * np.mean(logits.argmax(1) == dataset.test_targets))


def test_layer_spacings_are_learned(tmp_path: Path) -> None:
    checkpoint = train(replace(MLP, layer_axis="learned"), toy(), RECIPE, out=tmp_path / "m.pt").checkpoint
    assert all(checkpoint.tensors[f"spacing.{index}"] != np.float32(0.1) for index in range(2))


def test_a_relaxed_layer_axis_is_a_free_one(tmp_path: Path) -> None:
    result = sen_edge.train("digits", tmp_path / "m.pt", hidden=[8], dims=3, layer_axis="relaxed", epochs=1)
    assert result.checkpoint.config.layer_axis == "free"
    assert result.checkpoint.metadata["relaxed_spacing"] == "0.1"


def test_training_is_deterministic_per_seed(tmp_path: Path) -> None:
    recipe = replace(RECIPE, shift=1)
    paths = [tmp_path / f"{name}.pt" for name in "abc"]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        train(MLP, toy(), replace(recipe, seed=seed), out=path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert tensors(paths[0]) != tensors(paths[2])


@pytest.mark.parametrize("config", [MLP, SNN, replace(MLP, layer_axis="learned")], ids=["mlp", "snn", "learned axis"])
@pytest.mark.parametrize("epoch", [2, 3])
def test_a_resumed_training_gives_the_same_bits(tmp_path: Path, config: SpatialConfig, epoch: int) -> None:
    recipe = replace(RECIPE, shift=1)
    whole = train(config, toy(), recipe, out=tmp_path / "whole.pt")
    out = tmp_path / "parts.pt"
    with pytest.raises(Stop):
        train(config, toy(), recipe, out=out, progress=stop_in(epoch))
    assert [path.name for path in tmp_path.iterdir() if "parts" in path.name] == ["parts.pt.resume"]
    seen: list[float] = []
    result = train(config, toy(), recipe, out=out, resume=True, progress=lambda stage, fraction: seen.append(fraction))
    assert epoch - 1 < RECIPE.epochs * seen[0] < epoch
    assert out.read_bytes() == whole.path.read_bytes()
    assert (result.best_epoch, result.test_score) == (whole.best_epoch, whole.test_score)
    assert not state_path(out).exists()


def interrupted(out: Path, config: SpatialConfig = MLP) -> Path:
    with pytest.raises(Stop):
        train(config, toy(), RECIPE, out=out, progress=stop_in(2))
    return state_path(out)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"recipe": replace(RECIPE, seed=1)}, "seed", id="seed"),
        pytest.param({"recipe": replace(RECIPE, epochs=9)}, "epochs", id="epochs"),
        pytest.param({"config": replace(MLP, steepness=2.0)}, "steepness", id="steepness"),
        pytest.param({"config": SNN}, "timesteps", id="architecture"),
        pytest.param({"dataset": toy(1)}, "dataset", id="data"),
    ],
)
def test_resuming_with_other_options_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    state = interrupted(tmp_path / "model.pt")
    before = state.read_bytes()
    arguments: dict[str, Any] = {"config": MLP, "dataset": toy(), "recipe": RECIPE, **change}
    with pytest.raises(UsageError, match=message):
        train(**arguments, out=tmp_path / "model.pt", resume=True)
    assert state.read_bytes() == before


def test_a_damaged_or_foreign_state_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "model.pt"
    whole = interrupted(out).read_bytes()
    foreign = tmp_path / "foreign.pt"
    torch.save({"format": "other", "version": 1}, foreign)
    executes = tmp_path / "executes.pt"
    torch.save({"format": Path("/tmp")}, executes)
    for data in (whole[: len(whole) // 2], b"", b"hello", foreign.read_bytes(), executes.read_bytes()):
        state_path(out).write_bytes(data)
        with pytest.raises(CheckpointError, match=r"\.resume"):
            train(MLP, toy(), RECIPE, out=out, resume=True)


def test_an_interrupted_training_is_not_overwritten_by_accident(tmp_path: Path) -> None:
    out = tmp_path / "model.pt"
    state = interrupted(out)
    with pytest.raises(OutputError, match=r"model\.pt") as caught:
        train(MLP, toy(), RECIPE, out=out)
    assert "--resume" in caught.value.hint and state.exists()
    train(MLP, toy(), RECIPE, out=out, replace=True)
    assert out.exists() and not state.exists()


def test_the_output_is_checked_before_training(tmp_path: Path) -> None:
    def fail(stage: str, fraction: float) -> None:
        raise AssertionError("training began")

    (tmp_path / "there.pt").write_bytes(b"precious")
    cases: list[tuple[str, type[Exception], str]] = [
        ("there.pt", OutputError, "there.pt"),
        ("absent/model.pt", OutputError, "absent"),
        ("model.onnx", UsageError, "'.onnx'"),
    ]
    for name, error, message in cases:
        with pytest.raises(error, match=message):
            train(MLP, toy(), RECIPE, out=tmp_path / name, progress=fail)
    assert (tmp_path / "there.pt").read_bytes() == b"precious"


def test_nonfinite_loss_keeps_the_best_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sen_edge.training import loop as module

    real = module._step
    calls = iter(range(1000))

    def step(*arguments: Any) -> float:
        loss: float = real(*arguments)
        return float("nan") if next(calls) == 30 else loss  # 13 steps an epoch: in the third

    monkeypatch.setattr(module, "_step", step)
    out = tmp_path / "model.pt"
    with pytest.raises(TrainingError, match=r"nan.*epoch 3.*\b5\b.*\b13\b") as caught:
        train(MLP, toy(), RECIPE, out=out)
    assert "learning rate" in caught.value.hint
    assert checkpoint.load(out).metadata["epochs_done"] == "2"
    assert not state_path(out).exists()


def test_nonfinite_first_loss_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="loss"):
        train(MLP, toy(), replace(RECIPE, learning_rate=1e30), out=tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": 0},
        {"epochs": True},
        {"batch_size": -1},
        {"seed": -1},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"learning_rate": float("inf")},
        {"validation": 1.0},
        {"second_moment": 1.0},
    ],
)
def test_recipes_out_of_range_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="expected"):
        Recipe(**values)


def test_data_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "model.pt"
    with pytest.raises(DataError, match=r"\[12\].*\[5\]"):
        train(SpatialConfig((5, 3)), toy(), RECIPE, out=out)
    with pytest.raises(DataError, match="label 2"):
        train(SpatialConfig((12, 2), input_range=(0.0, 1.3)), toy(), RECIPE, out=out)
    with pytest.raises(DataError, match=r"\[0, 1\]"):
        train(replace(MLP, input_range=(0.0, 1.0)), toy(), RECIPE, out=out)
    with pytest.raises(UsageError, match=r"\b0\.001\b.*\b240\b"):
        train(MLP, toy(), replace(RECIPE, validation=0.001), out=out)
    with pytest.raises(UsageError, match="image"):
        train(MLP, replace(toy(), image_shape=None), replace(RECIPE, shift=1), out=out)


@pytest.mark.parametrize("total_epochs", [1, 2, 3])
def test_the_shortest_trainings_work(tmp_path: Path, total_epochs: int) -> None:
    recipe = Recipe(epochs=total_epochs, batch_size=10_000)  # one step an epoch
    train(MLP, toy(), recipe, out=tmp_path / "model.safetensors")
    assert checkpoint.load(tmp_path / "model.safetensors").config == MLP


def test_spike_trains_can_be_learned(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    rates = np.eye(3, 12)[labels][:, None] * 0.8 + 0.1
    inputs = (rng.random((300, 4, 12)) < rates).astype(np.float32)
    dataset = Dataset("trains", inputs[:240], labels[:240], inputs[240:], labels[240:], (0.0, 1.0))
    config = replace(MLP, spiking=SpikingConfig(4, input_coding="spikes", surrogate_slope=5.0))
    assert train(config, dataset, replace(RECIPE, epochs=8), out=tmp_path / "model.pt").test_score > 80


def test_shifted_images_move_each_its_own_way_and_bring_in_zeros() -> None:
    images = torch.arange(1.0, 1201).view(100, 12)
    moved = shift_images(images, (3, 4), 1, torch.Generator().manual_seed(0)).view(100, 3, 4)
    seen = set()
    for index, (before, after) in enumerate(zip(images.view(100, 3, 4), moved, strict=True)):
        # The pixel at row 1, column 1 is never lost: it says how far the image has moved.
        down, right = ((after == 12 * index + 6).nonzero()[0] - torch.tensor([1, 1])).tolist()
        seen.add((down, right))
        expected = np.zeros((5, 6))
        expected[1 + down : 4 + down, 1 + right : 5 + right] = before
        np.testing.assert_array_equal(after, expected[1:4, 1:5])
    assert seen == {(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)}


def test_the_default_networks_have_the_known_sizes() -> None:
    for dims, parameters in ((32, 42_306), (3, 4_432)):
        shapes = SpatialConfig((784, 512, 10), dims).tensor_shapes().values()
        assert sum(int(np.prod(shape)) for shape in shapes) == parameters


def test_suggestions_follow_the_data() -> None:
    plain = suggested_recipe(toy())
    assert plain == Recipe(epochs=72, batch_size=32, learning_rate=0.2)  # 7 steps an epoch
    assert suggested_recipe(toy(), 3).learning_rate == 0.1
    assert suggested_recipe(toy(), 32, 6.0) == replace(plain, learning_rate=0.01)
    assert [suggested_recipe(toy(), 3, exponent).learning_rate for exponent in (0.5, 1.0, 2.0)] == [0.1, 0.1, 0.031]
    assert suggested_recipe(toy(), 32, (1.0, 2.0), 10).learning_rate == 0.013
    large = {"train_inputs": np.ones((10_000, 256), np.float32), "test_inputs": np.ones((60, 256), np.float32)}
    many = replace(toy(), **large, train_targets=np.arange(10_000) % 3, image_shape=(16, 16))
    assert suggested_recipe(many) == Recipe(epochs=60, batch_size=256, learning_rate=0.2, shift=1)
    assert suggested_recipe(many, 3).shift == 0
    steps = {"train_inputs": np.ones((240, 7, 12), np.float32), "test_inputs": np.ones((60, 7, 12), np.float32)}
    trains = replace(toy(), **steps)
    request = TrainRequest(arch="snn")
    assert [suggested_spiking(data, request)["timesteps"] for data in (toy(), trains)] == [10, 7]


# --- the command ---------------------------------------------------------------------------------


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


def test_digits_reach_a_fair_accuracy(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    config = SpatialConfig((64, 32, 10), dimensions=8, layer_spacing=0.1, steepness=0.5)
    result = train(config, load("digits"), Recipe(epochs=3, batch_size=32, learning_rate=0.1), out=tmp_path / "m.pt")
    assert result.test_score > 60
