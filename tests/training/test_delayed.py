"""Training of spiking networks with delays."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sen_edge
from sen_edge.data.datasets import Dataset
from sen_edge.errors import DataError, OutputError, UsageError
from sen_edge.model.delayed.network import DelayedNetwork
from sen_edge.schema import SchemaError
from sen_edge.training.delayed import DelayedTrainRequest, config_of, start, train
from sen_runtime import reference
from sen_runtime.errors import NetworkError
from sen_runtime.ir.delays import SpatialDelay
from sen_runtime.ir.operators import Coordinates

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = {"hidden": (8,), "beta": 0.3, "batch_size": 32, "learning_rate": 0.02}
SHORT = {"max_delay": 8, "position_scale": 2.0}


def intervals(n: int = 320) -> Dataset:
    """Spikes of two channels; the class is their interval of 1, 3 or 5 steps, which a short memory cannot bridge."""
    rng = np.random.default_rng(0)
    labels, start = np.arange(n) % 3, rng.integers(0, 6, n)
    x = np.zeros((n, 16, 2), np.float32)
    x[np.arange(n), start, 0] = x[np.arange(n), start + 1 + 2 * labels, 1] = 1
    return Dataset("intervals", x[:240], labels[:240], x[240:], labels[240:], (0.0, 1.0))


def request(**options: Any) -> DelayedTrainRequest:
    forms = {options.get("weights"), options.get("delays", "positions")}
    return DelayedTrainRequest(**{**SMALL, **(SHORT if "positions" in forms else {}), "epochs": 2, **options})


def test_delays_from_positions_are_learned_and_saved(tmp_path: Path) -> None:
    training = request(hidden=(16,), dims=8, epochs=30, position_rate=0.1)
    result = train(training, intervals(), out=tmp_path / "model.sen")
    assert result.test_score > 90
    model, data = sen_edge.load(tmp_path / "model.sen"), intervals()
    assert isinstance(model.network.layers[0].delay, SpatialDelay)
    outputs = reference.run(model.network, data.test_inputs)
    assert 100 * (outputs.argmax(1) == data.test_targets).mean() == pytest.approx(result.test_score)
    assert model.network.metadata["test_accuracy"] == result.metric.number(result.test_score)
    assert len(result.history) == 30 and 1 <= result.best_epoch <= 30
    assert result.n_parameters == 16 * 2 + 3 * 16 + 16 + 3 + 8 * (2 + 16) + 1
    assert len(repr(result)) < 400 and result.to_dict()["parameters"] == result.n_parameters


@pytest.mark.parametrize(
    "options",
    [
        {"delays": "none"},
        {"delays": "free", "recurrent": True, "synapse": 0.5, "max_delay": 8},
        {"weights": "positions", "recurrent": True, "hidden": (6, 5), "dims": 8},
        {"input_coding": "delta", "delta": 0.5, "reset": "subtract", "readout": "last_membrane"},
    ],
)
def test_forms_are_trained_and_the_same_seed_gives_the_same_image(options: dict[str, Any], tmp_path: Path) -> None:
    first, second = (train(request(**options), intervals(), out=tmp_path / name) for name in ("a.sen", "b.sen"))
    assert first.path.read_bytes() == second.path.read_bytes()
    is_spatial = options.get("weights") == "positions"
    assert isinstance(first.network.layers[-1].weight, Coordinates) == is_spatial


def test_the_longest_synapses_are_pruned_during_training(tmp_path: Path) -> None:
    result = train(request(epochs=4, sparsity=0.75), intervals(), out=tmp_path / "model.sen")
    assert result.network.layers[0].weight.nnz == 4 and result.best_epoch > 2


def test_a_wiring_cost_shortens_delays(tmp_path: Path) -> None:
    means = []
    for cost in (0.0, 1.0):
        result = train(request(epochs=10, wiring_cost=cost), intervals(), out=tmp_path / f"{cost}.sen")
        delay = result.network.layers[0].delay
        assert isinstance(delay, SpatialDelay)
        means.append(float((delay.distances() * delay.scale).mean()))
    assert means[1] < 0.8 * means[0]


def test_training_batches_are_augmented(tmp_path: Path) -> None:
    shapes = []

    def augment(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        shapes.append(tuple(x.shape))
        return x * (torch.rand(x.shape, generator=generator) < 0.9)

    train(request(), intervals(), out=tmp_path / "model.sen", augment=augment)
    assert shapes == [(32, 16, 2)] * 12


def test_an_image_from_a_file_of_sequences(tmp_path: Path) -> None:
    data = intervals()
    np.savez(
        tmp_path / "data.npz",
        x_train=data.train_inputs,
        y_train=data.train_targets,
        x_test=data.test_inputs,
        y_test=data.test_targets,
    )
    result = sen_edge.train_delayed(tmp_path / "data.npz", tmp_path / "model.sen", epochs=1, **SMALL, **SHORT)
    assert result.network.input_shape == (16, 2) and result.path == tmp_path / "model.sen"


def test_delays_longer_than_the_input_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="sen_edge"):
        train(request(max_delay=16), intervals(), out=tmp_path / "model.sen")
        assert any("16 steps" in record.message for record in caplog.records)
        caplog.clear()
        train(request(max_delay=15), intervals(), out=tmp_path / "other.sen")
    assert not any("lose spikes" in record.message for record in caplog.records)


def test_delays_beyond_the_ring_are_an_error_if_asked(tmp_path: Path) -> None:
    options = request(overflow="error", position_scale=50.0, position_rate=1e-6, max_delay=4)
    with pytest.raises(NetworkError, match="source neuron 0 to target neuron"):
        train(options, intervals(), out=tmp_path / "model.sen")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("options", "rate"), [({}, 0.2 / 8), ({"scale_rate": 0.5}, 0.5)])
def test_a_scale_moves_the_longest_delay_as_much_as_positions_unless_told(options: dict[str, Any], rate: float) -> None:
    made = request(position_rate=0.2, **options)
    network = DelayedNetwork(config_of(made, intervals()))
    scale = network.connections()[0].log_scale
    groups = start(network, 10, made).optimizer.param_groups
    assert [group["max_lr"] for group in groups if any(each is scale for each in group["params"])] == [rate]


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"max_delay": 0}, "max_delay"),
        ({"max_delay": 3.5}, "max_delay"),
        ({"dims": 0}, "dims"),
        ({"beta": float("nan")}, "beta"),
        ({"synapse": 1.0}, "synapse"),
        ({"hidden": ()}, "hidden"),
        ({"sparsity": 1.0}, "sparsity"),
        ({"sparsity": 0.5, "delays": "free"}, "sparsity"),
        ({"scale_rate": 0.01, "delays": "free"}, "scale_rate"),
        ({"exponent": 2.0}, "exponent"),
        ({"delays": "none", "dims": 4}, "dims"),
        ({"delays": "none", "max_delay": 4}, "max_delay"),
        ({"delays": "none", "delay_sigma": 1.0}, "delay_sigma"),
        ({"delay_sigma": 0.1}, "delay_sigma"),
        ({"delay_sigma": 1e9}, "delay_sigma"),
        ({"min_rate": 5.0, "max_rate": 4.0}, "min_rate"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], key: str) -> None:
    with pytest.raises(SchemaError) as caught:
        DelayedTrainRequest(**options)
    assert caught.value.key == key


def test_data_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    data = intervals()
    flat = Dataset(
        "flat", data.train_inputs[:, 0], data.train_targets, data.test_inputs[:, 0], data.test_targets, (0, 1)
    )
    half = Dataset("half", data.train_inputs / 2, data.train_targets, data.test_inputs / 2, data.test_targets, (0, 1))
    for wrong in (flat, half):
        with pytest.raises(DataError, match=wrong.name):
            train(request(), wrong, out=tmp_path / "model.sen")
    x = data.train_inputs.copy()
    x[3, 2, 1] = np.nan
    np.savez(tmp_path / "nan.npz", x=x, y=data.train_targets)
    with pytest.raises(DataError):
        sen_edge.train_delayed(tmp_path / "nan.npz", tmp_path / "model.sen")


def test_invalid_outputs_are_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.pt"):
        train(request(), intervals(), out=tmp_path / "model.pt")
    (tmp_path / "model.sen").write_bytes(b"kept")
    with pytest.raises(OutputError):
        train(request(), intervals(), out=tmp_path / "model.sen")
    with pytest.raises(OutputError):
        train(request(), intervals(), out=tmp_path / "missing" / "model.sen")
    assert (tmp_path / "model.sen").read_bytes() == b"kept"
    train(request(), intervals(), out=tmp_path / "model.sen", force=True)
    assert sen_edge.load(tmp_path / "model.sen").network.timesteps == 16
