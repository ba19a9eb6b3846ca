"""Distillation and fine-tuning schedule: loss, sparsity by epoch, early stopping."""

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch

from sen_edge.compression.finetune import distil, finetune
from sen_edge.compression.lowrank import factorize
from sen_edge.compression.prune import prune
from sen_edge.compression.request import CompressRequest, Tuning
from sen_edge.data.datasets import Dataset
from sen_edge.model import checkpoint as checkpoints
from sen_edge.model.config import SpatialConfig, SpikingConfig
from sen_edge.model.dynamics import LayeredNetwork
from sen_edge.model.free import FreeNetwork
from sen_edge.model.parameters import Checkpoint
from sen_edge.passes.materialize import materialize
from sen_edge.training import loop
from sen_edge.training.loop import prepare
from sen_edge.training.objective import Objective, Part, evaluate, objective_of
from sen_edge.training.recipe import Recipe
from sen_edge.training.train import train
from sen_runtime import task
from sen_runtime.errors import NetworkError
from sen_runtime.ir.network import Network
from sen_runtime.ir.operators import LowRank, Sparse
from sen_runtime.task import ACCURACY
from tests.conftest import make_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore::sen_edge.compression.moments.CompressionWarning")

module = import_module("sen_edge.compression.finetune")  # the function of that name hides it in its package

MLP = SpatialConfig((12, 16, 3), dimensions=3, layer_spacing=0.5)
SNN = replace(MLP, spiking=SpikingConfig(4, surrogate_slope=5.0))
RECIPE = Recipe(epochs=8, batch_size=32, learning_rate=0.05)
FREE = replace(RECIPE, learning_rate=3e-3, second_moment=0.999)


def toy(seed: int = 0) -> Dataset:
    """Three clouds that overlap."""
    rng = np.random.default_rng(seed)
    labels = np.arange(300) % 3
    x = np.clip(np.eye(3, 12)[labels] * 0.4 + rng.uniform(0, 0.6, (300, 12)), 0, 1).astype(np.float32)
    return Dataset("toy", x[:240], labels[:240], x[240:], labels[240:], (0.0, 1.0))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small only wait for a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoint]:
    """A perceptron and a spiking network that know the toy."""
    folder, recipe = tmp_path_factory.mktemp("trained"), replace(RECIPE, epochs=15, learning_rate=0.1)
    torch.set_num_threads(1)
    for name, config in (("mlp", MLP), ("snn", SNN)):
        train(config, toy(), recipe, out=folder / f"{name}.pt")
    return {name: checkpoints.load(folder / f"{name}.pt") for name in ("mlp", "snn")}


def divergence(network: Network, original: Network, temperature: float = 2.0) -> float:
    """Mean of sum p (log p - log q) over the training inputs, written out."""
    x = torch.from_numpy(toy().train_inputs)
    with torch.no_grad():
        log_q, log_p = (
            np.log(torch.softmax(FreeNetwork(each)(x).double() / temperature, 1).numpy())
            for each in (network, original)
        )
    return float(np.mean(np.sum(np.exp(log_p) * (log_p - log_q), axis=1)))


def held_accuracy(network: LayeredNetwork, recipe: Recipe = RECIPE) -> float:
    held = prepare(toy(), recipe).held
    return evaluate(network, held, objective_of(network, held.examples, recipe))[0][ACCURACY]


# --- distillation --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mlp", "snn"])
@pytest.mark.parametrize("method", ["magnitude", "rank", "near"])
def test_distillation_comes_nearer_to_the_original_under_the_same_form(
    trained: dict[str, Checkpoint], kind: str, method: str
) -> None:
    original = materialize(checkpoints.to_network(trained[kind]))
    if method == "magnitude":
        network = prune(original, sparsity=0.6, criterion="magnitude")
    else:
        near = 0.2 if method == "near" else 0.0
        # inputs that are none: the factors are poor ones, and there is something to learn
        noise = np.random.default_rng(0).random((60, 12), np.float32) ** 8
        network = factorize(original, rank=1, near=near, layers=[0], calibration=noise)
    tuned = distil(network, original, toy(), FREE)
    assert len(tuned.history) == 8 and tuned.history[-1].loss < tuned.history[0].loss
    if kind == "mlp":  # the epoch is chosen by the labels, and of the spiking network not always the nearest
        assert tuned.best_epoch > 0 and divergence(tuned.network, original) < divergence(network, original)
    assert tuned.validation_score == held_accuracy(FreeNetwork(tuned.network))
    assert tuned.validation_score >= held_accuracy(FreeNetwork(network))
    assert tuned.original_score == held_accuracy(FreeNetwork(original))
    for before, after in zip(network.layers, tuned.network.layers, strict=True):
        assert type(after.weight) is type(before.weight) and after.weight.nbytes == before.weight.nbytes
        if isinstance(before.weight, Sparse):
            assert not after.weight.to_dense()[before.weight.to_dense() == 0].any()
        if isinstance(before.weight, LowRank) and isinstance(after.weight, LowRank):
            assert after.weight.rank == before.weight.rank


def test_nothing_is_changed_where_training_only_harms(trained: dict[str, Checkpoint]) -> None:
    original = materialize(checkpoints.to_network(trained["mlp"]))
    tuned = distil(original, original, toy(), replace(FREE, epochs=1, learning_rate=5.0))
    assert tuned.network is original and tuned.best_epoch == 0 and len(tuned.history) == 1
    assert tuned.validation_score == tuned.original_score


def test_labels_are_not_learned_from(trained: dict[str, Checkpoint], monkeypatch: pytest.MonkeyPatch) -> None:
    """With the whole loss on the original's outputs, other labels change nothing but the epoch that is chosen."""
    original = materialize(checkpoints.to_network(trained["mlp"]))
    network = prune(original, sparsity=0.5, criterion="magnitude")
    losses: dict[str, list[float]] = {}
    right = prepare(toy(), FREE)
    targets = right.training.examples.require_targets()
    others = replace(right.training.examples, targets=(targets + 1) % 3)
    wrong = replace(right, training=Part(others, right.training.indices), held=Part(others, right.held.indices))
    for name, examples in (("right", right), ("wrong", wrong)):
        monkeypatch.setattr(module, "prepare", lambda *_, examples=examples: examples)
        losses[name] = [epoch.loss for epoch in distil(network, original, toy(), FREE).history]
    assert losses["right"] == losses["wrong"] and losses["right"][-1] < losses["right"][0]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_loss_is_a_mixture(share: float, temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits, aims, labels = rng.normal(size=(9, 4)), rng.normal(size=(9, 4)), rng.integers(0, 4, 9)

    def softmax(z: np.ndarray) -> np.ndarray:
        return np.exp(z) / np.exp(z).sum(1, keepdims=True)

    p, q = softmax(aims / temperature), softmax(logits / temperature)
    soft = temperature**2 * np.mean(np.sum(p * np.log(p / q), axis=1))
    hard = -np.mean(np.log(softmax(logits)[np.arange(9), labels]))

    class Teacher(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    objective = Objective(task.of("classification"), lambda _, y, t: torch.nn.functional.cross_entropy(y, t))
    loss = module._loss(Teacher(), Tuning(distillation=share, temperature=temperature), objective)
    found = loss(*(torch.from_numpy(each) for each in (aims, logits, labels)))
    assert float(found) == pytest.approx(share * soft + (1 - share) * hard)


def test_coordinates_are_written_out_before_distillation() -> None:
    network = checkpoints.to_network(make_checkpoint(MLP))
    for pair in ((network, materialize(network)), (materialize(network), network)):
        with pytest.raises(NetworkError, match="parameters"):
            distil(*pair, toy(), FREE)


# --- schedule ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ramp", "shares"),
    [
        (0.0, [1.0]),
        (0.125, [1.0]),
        (0.25, [1 - (1 / 2) ** 3, 1.0]),
        (0.5, [1 - (3 / 4) ** 3, 1 - (2 / 4) ** 3, 1 - (1 / 4) ** 3, 1.0]),
    ],
)
def test_the_sparsity_rises_with_the_third_power(
    trained: dict[str, Checkpoint], monkeypatch: pytest.MonkeyPatch, ramp: float, shares: list[float]
) -> None:
    seen: list[float] = []
    real = module.choose_masks

    def choose(network: Network, request: CompressRequest, *others: object) -> dict[int, np.ndarray]:
        seen.append(request.sparsity or 0.0)
        return real(network, request, *others)

    falling = iter(range(99, 0, -1))
    monkeypatch.setattr(module, "choose_masks", choose)
    monkeypatch.setattr(loop, "evaluate", lambda *_: ({ACCURACY: float(next(falling))}, 1.0))
    tuned = finetune(trained["mlp"], toy(), CompressRequest(0.6), RECIPE, Tuning(ramp=ramp))
    assert seen == pytest.approx([0.6 * share for share in shares])
    assert tuned.best_epoch == len(shares)  # earlier epochs are better, but had fewer zeros


@pytest.mark.parametrize("criterion", ["second-order", "magnitude"])
@pytest.mark.parametrize("kind", ["mlp", "snn"])
def test_a_fresh_pattern_has_the_sparsity_exactly(trained: dict[str, Checkpoint], kind: str, criterion: str) -> None:
    tuned = finetune(trained[kind], toy(), CompressRequest(0.7, criterion=criterion), replace(RECIPE, epochs=2))
    assert tuned.checkpoint is not None
    total = 12 * 16 + 16 * 3
    assert sum(int(mask.sum()) for mask in tuned.checkpoint.synapses.values()) == round(0.3 * total)
    assert tuned.validation_score == held_accuracy(checkpoints.to_module(tuned.checkpoint))
    assert tuned.original_score == held_accuracy(checkpoints.to_module(trained[kind]))
    assert tuned.checkpoint.metadata == trained[kind].metadata
    for index, mask in tuned.checkpoint.synapses.items():
        assert np.array_equal(tuned.network.layers[index].weight.to_dense() != 0, mask)


def test_fine_tuning_regains_what_pruning_cost(trained: dict[str, Checkpoint]) -> None:
    request = CompressRequest(0.8, criterion="magnitude")
    cut = prune(checkpoints.to_network(trained["mlp"]), sparsity=0.8, criterion="magnitude")
    tuned = finetune(trained["mlp"], toy(), request, replace(RECIPE, epochs=12))
    assert tuned.validation_score > held_accuracy(FreeNetwork(materialize(cut)))


def test_layers_that_are_not_named_keep_all_synapses(trained: dict[str, Checkpoint]) -> None:
    tuned = finetune(trained["mlp"], toy(), CompressRequest(0.5, layers=(0,)), replace(RECIPE, epochs=2))
    assert tuned.checkpoint is not None and list(tuned.checkpoint.synapses) == [0]
    radius = finetune(trained["mlp"], toy(), CompressRequest(0.5, criterion="distance", layers=(1,)), RECIPE)
    assert radius.checkpoint is not None
    first, second = radius.checkpoint.config.max_distance
    assert first == 0 and second > 0
    assert np.mean(radius.network.layers[1].weight.to_dense() != 0) > 0.3
    assert radius.validation_score == held_accuracy(checkpoints.to_module(radius.checkpoint))
    assert np.mean(radius.network.layers[1].weight.to_dense() == 0) > 0.3


@pytest.mark.parametrize("patience", [0, 1, 3])
def test_patience_counts_epochs_since_the_best(trained: dict[str, Checkpoint], patience: int) -> None:
    recipe = replace(RECIPE, epochs=25, learning_rate=1.0)  # too high a rate for anything to last
    tuned = finetune(
        trained["mlp"],
        toy(),
        CompressRequest(0.5),
        recipe,
        Tuning(ramp=0.0, patience=patience),
    )
    assert tuned.validation_score == max(epoch.validation_score for epoch in tuned.history)
    assert len(tuned.history) == (25 if patience == 0 else tuned.best_epoch + patience) or len(tuned.history) == 25
    assert (len(tuned.history) < 25) == (patience > 0)


def test_the_same_seed_gives_the_same_bits_and_test_data_are_not_touched(trained: dict[str, Checkpoint]) -> None:
    recipe = replace(RECIPE, epochs=3)
    other = replace(toy(), test_inputs=np.zeros_like(toy().test_inputs), test_targets=toy().test_targets[::-1])
    found = [finetune(trained["mlp"], dataset, CompressRequest(0.5), recipe).checkpoint for dataset in (toy(), other)]
    assert found[0] is not None and found[1] is not None
    for name, tensor in found[0].tensors.items():
        assert tensor.tobytes() == found[1].tensors[name].tobytes(), name
    assert all(np.array_equal(found[0].synapses[i], found[1].synapses[i]) for i in (0, 1))
