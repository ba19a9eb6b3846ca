"""Training: learning, reproducibility, resume, bad input."""

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
from sen_edge.training.loop import TrainingError, shift_images, state_path
from sen_edge.training.objective import Part, evaluate, objective_of
from sen_edge.training.recipe import Recipe, suggested_recipe
from sen_edge.training.request import TrainRequest
from sen_edge.training.train import suggested_spiking, train
from sen_runtime.task import ACCURACY
from tests.training.conftest import MLP, RECIPE, SNN, Stop, stop_in, tensors, toy

pytestmark = pytest.mark.usefixtures("one_thread")


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
    moved = shift_images(images, torch.Generator().manual_seed(0), (3, 4), 1).view(100, 3, 4)
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


def test_digits_reach_a_fair_accuracy(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    config = SpatialConfig((64, 32, 10), dimensions=8, layer_spacing=0.1, steepness=0.5)
    result = train(config, load("digits"), Recipe(epochs=3, batch_size=32, learning_rate=0.1), out=tmp_path / "m.pt")
    assert result.test_score > 60
