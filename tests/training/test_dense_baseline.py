"""Dense baselines: trained and pruned like spatially embedded networks."""

from dataclasses import replace

import numpy as np
import pytest

from sen_edge.compression.finetune import finetune
from sen_edge.compression.prune import prune
from sen_edge.compression.request import CompressRequest, Tuning
from sen_edge.errors import DataError, UsageError
from sen_edge.model.config import SpatialConfig
from sen_edge.model.free import FreeNetwork
from sen_edge.passes.materialize import materialize
from sen_edge.training import loop
from sen_edge.training.loop import TrainingError
from sen_edge.training.train import conventional_recipe, initial, train_conventional
from sen_runtime import reference
from sen_runtime.errors import NetworkError
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif, Relu
from sen_runtime.ir.operators import Dense
from sen_runtime.task import ACCURACY
from tests.compression.test_finetune import MLP, RECIPE, SNN, make_checkpoint, toy
from tests.conftest import make_model

pytestmark = pytest.mark.filterwarnings("ignore::sen_edge.compression.moments.CompressionWarning")

LEARNING = replace(RECIPE, epochs=12)


def accuracy(network: Network) -> float:
    found = reference.run(network, toy().test_inputs, np.float32).argmax(1)
    return float(100 * np.mean(found == toy().test_targets))


@pytest.mark.parametrize(
    ("config", "kinds"), [(MLP, (Relu, Identity)), (SNN, (Lif, LeakyIntegrator))], ids=["mlp", "snn"]
)
def test_layers_and_neurons_are_those_of_the_configuration(config: SpatialConfig, kinds: tuple[type, ...]) -> None:
    network, spatial = initial(config, 3), make_model(make_checkpoint(config)).network
    assert network.layer_sizes == spatial.layer_sizes == config.layer_sizes
    assert tuple(type(layer.neuron) for layer in network.layers) == kinds
    assert (network.timesteps, network.readout) == (spatial.timesteps, spatial.readout)
    assert network.layers[0].weight.to_dense().var() == pytest.approx(2 / 12, rel=0.3)
    without = initial(replace(config, bias=False), 3)
    assert all(layer.bias is None for layer in without.layers)
    assert np.array_equal(without.layers[0].weight.to_dense(), network.layers[0].weight.to_dense())
    assert not np.array_equal(initial(config, 4).layers[0].weight.to_dense(), network.layers[0].weight.to_dense())


@pytest.mark.parametrize("config", [MLP, SNN], ids=["mlp", "snn"])
def test_it_learns_and_keeps_the_best_epoch(config: SpatialConfig) -> None:
    trained = train_conventional(config, toy(), replace(LEARNING, learning_rate=0.01))
    assert accuracy(trained.network) > 90 > accuracy(initial(config, 0))
    validation = [epoch.validation_score for epoch in trained.history]
    assert trained.validation_score == max(validation) == validation[trained.best_epoch - 1]
    again = train_conventional(config, toy(), replace(LEARNING, learning_rate=0.01))
    for one, other in zip(trained.network.layers, again.network.layers, strict=True):
        assert np.array_equal(one.weight.to_dense(), other.weight.to_dense())


def test_the_recipe_differs_in_the_optimizer_alone() -> None:
    recipe = conventional_recipe(RECIPE)
    assert (recipe.learning_rate, recipe.second_moment) == (4e-3, 0.999)
    assert replace(recipe, learning_rate=0.05, second_moment=RECIPE.second_moment) == RECIPE


def test_data_of_another_size_are_refused() -> None:
    with pytest.raises(DataError):
        train_conventional(replace(MLP, layer_sizes=(13, 16, 3)), toy(), RECIPE)


@pytest.mark.parametrize("config", [MLP, SNN], ids=["mlp", "snn"])
@pytest.mark.parametrize("options", [{}, {"criterion": "magnitude"}, {"pattern": "4x1"}])
def test_weights_are_trained_under_the_pattern(config: SpatialConfig, options: dict) -> None:
    start = initial(config, 0)
    recipe = replace(LEARNING, learning_rate=0.01)
    tuned = finetune(start, toy(), CompressRequest(0.5, **options), recipe, Tuning(ramp=0.5))
    assert tuned.checkpoint is None and len(tuned.history) == 12 and 6 <= tuned.best_epoch <= 12
    weights = [layer.weight.to_dense() for layer in tuned.network.layers]
    left = sum(np.count_nonzero(w) for w in weights) / sum(w.size for w in weights)
    assert left == pytest.approx(0.5, abs=0.08 if "pattern" in options else 0)  # blocks reach beyond three outputs
    assert accuracy(tuned.network) > 85
    assert np.array_equal(start.layers[0].weight.to_dense(), initial(config, 0).layers[0].weight.to_dense())


def test_nothing_cut_is_plain_training() -> None:
    tuned = finetune(initial(MLP, 0), toy(), CompressRequest(0.0), RECIPE, Tuning(ramp=0.0))
    plain = train_conventional(MLP, toy(), RECIPE)
    for one, other in zip(tuned.network.layers, plain.network.layers, strict=True):
        assert isinstance(one.weight, Dense) and np.array_equal(one.weight.w, other.weight.to_dense())


def test_the_slope_of_the_surrogate_counts() -> None:
    pruned = [finetune(initial(SNN, 0), toy(), CompressRequest(0.5), RECIPE, surrogate_slope=k) for k in (5.0, 9.0)]
    first, second = (each.network.layers[0].weight.to_dense() for each in pruned)
    assert not np.array_equal(first, second)
    default = finetune(initial(SNN, 0), toy(), CompressRequest(0.5), RECIPE).network
    assert np.array_equal(first, default.layers[0].weight.to_dense())


def test_masks_are_for_dense_weights() -> None:
    module = FreeNetwork(prune(initial(MLP, 0), sparsity=0.9, criterion="magnitude"))
    with pytest.raises(NetworkError, match=r"layer 0.*Sparse"):
        module.restrict({})


@pytest.mark.parametrize(
    "request_", [CompressRequest(0.5, criterion="distance"), CompressRequest(0.5, pattern="neurons")]
)
def test_requests_that_free_weights_cannot_follow(request_: CompressRequest) -> None:
    with pytest.raises(UsageError):
        finetune(initial(MLP, 0), toy(), request_, RECIPE)


def test_coordinates_are_no_free_weights() -> None:
    model = make_model(make_checkpoint(MLP))
    with pytest.raises(UsageError, match="dense"):
        finetune(model.network, toy(), CompressRequest(0.5), RECIPE)
    finetune(materialize(model.network), toy(), CompressRequest(0.5), replace(RECIPE, epochs=1))


def test_outputs_that_are_never_finite_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "evaluate", lambda *_: ({ACCURACY: 50.0}, float("nan")))
    with pytest.raises(TrainingError, match="finite"):
        train_conventional(MLP, toy(), RECIPE)
