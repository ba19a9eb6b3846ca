"""Models: checkpoints, images, and figures of their networks."""

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sen_edge.errors import CheckpointError, UsageError
from sen_edge.model import checkpoint as checkpoints
from sen_edge.model import model as models
from sen_edge.model.config import SpatialConfig, SpikingConfig
from sen_edge.model.model import Model, count_stored_numbers
from sen_edge.model.statistics import layer_figures, summarize
from sen_edge.passes.quantize import to_float16, to_int8, to_int8_weights
from sen_runtime import format as image
from sen_runtime import reference
from sen_runtime.errors import ImageError, NetworkError
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network, stored_dtype
from sen_runtime.ir.neurons import Identity
from sen_runtime.ir.operators import Coordinates, Dense, LowRank, Sparse, Sum
from tests.conftest import MLP, SNN, make_checkpoint, make_network
from tests.support.networks import random_input, random_network


def test_a_checkpoint_runs_in_torch(mlp_path: Path) -> None:
    loaded = models.load(mlp_path)
    assert loaded.kind == "checkpoint" and loaded.architecture == "mlp"
    assert loaded.sha256 == hashlib.sha256(mlp_path.read_bytes()).hexdigest()
    assert loaded.n_parameters == make_checkpoint(MLP).n_parameters
    x = np.random.default_rng(0).random((1007, 64)).astype(np.float32)  # more than a chunk
    layers = loaded.trace(x)
    assert [layer.shape for layer in layers] == [(1007, 32), (1007, 10)]
    with torch.inference_mode():
        expected = checkpoints.to_module(make_checkpoint(MLP))(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(layers[-1], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("spiking", [False, True], ids=["mlp", "snn"])
def test_an_image_runs_in_the_reference(spiking: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    network = random_network(rng, spiking=spiking, kinds=("sum",), sizes=(12, 9, 3), input_coding="direct")
    image.write(network, tmp_path / "net.sen")
    loaded = models.load(tmp_path / "net.sen")
    assert loaded.kind == "image" and loaded.checkpoint is None
    assert loaded.architecture == ("snn" if spiking else "mlp")
    assert loaded.sha256 == hashlib.sha256((tmp_path / "net.sen").read_bytes()).hexdigest()
    x = random_input(rng, network, 1003)
    for actual, expected in zip(loaded.trace(x), reference.trace(network, x, np.float32), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)  # BLAS rounds by the size of a chunk


def test_each_source_has_its_own_reference(mlp_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint is judged by torch alone, and an image needs none."""
    x = np.ones((1, 64), np.float32)
    image.write(make_network(MLP), tmp_path / "net.sen")
    checkpoint, stored = models.load(mlp_path), models.load(tmp_path / "net.sen")
    with monkeypatch.context() as without:
        without.setattr(reference, "trace", None)
        expected = checkpoint.trace(x)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "torch", None)
        np.testing.assert_allclose(stored.trace(x)[-1], expected[-1], rtol=1e-4, atol=1e-4)


def test_what_cannot_be_loaded(mlp_path: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"net\.gguf.*'\.gguf'.*\.pt.*\.sen"):
        models.load(tmp_path / "net.gguf")
    with pytest.raises(ImageError, match=r"none\.sen"):
        models.load(tmp_path / "none.sen")
    (tmp_path / "folder.sen").mkdir()
    with pytest.raises(CheckpointError, match=r"folder\.sen"):
        models.load(tmp_path / "folder.sen")
    mlp_path.rename(tmp_path / "mlp.sen")
    with pytest.raises(ImageError, match=r"mlp\.sen"):
        models.load(tmp_path / "mlp.sen")
    with pytest.raises(UsageError, match="--map"):
        models.load(tmp_path / "mlp.sen", map_path=tmp_path / "map.toml")


def test_image_with_coincident_neurons_lists_them() -> None:
    points = np.zeros((2, 1), np.float32)
    layer = Layer(Coordinates(points, points, np.ones(2, np.float32)), None, Identity())
    with pytest.raises(NetworkError, match=r"layer 0.*neuron 0.*neuron 0"):
        Model(Network((layer,)), "").trace(np.ones((1, 2), np.float32))


def test_the_input_of_a_network() -> None:
    spikes = SpatialConfig((6, 4, 2), spiking=SpikingConfig(3, input_coding="spikes"))
    assert make_network(MLP).input_shape == make_network(SNN).input_shape == (64,)
    assert make_network(spikes).input_shape == (3, 6)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("-1 2.5", (-1, 2.5)),
        ("0 1e18", (0, 1e18)),
        (None, (0, 1)),
        ("", (0, 1)),
        ("1", (0, 1)),
        ("1 2 3", (0, 1)),
        ("2 1", (0, 1)),
        ("1 1", (0, 1)),
        ("nan 2", (0, 1)),
        ("0 1e300", (0, 1)),
        ("least greatest", (0, 1)),
    ],
)
def test_the_input_range_is_what_the_metadata_says(given: str | None, expected: tuple[float, float]) -> None:
    network = make_network(MLP)
    metadata = {} if given is None else {"input_range": given}
    assert replace(network, metadata=metadata).input_range == expected


@pytest.mark.parametrize("given", [(-1.0, 2.0), (1000000.0, 1000001.0), (0.1, 0.30000001192092896)])
def test_the_input_range_of_a_checkpoint_comes_through(given: tuple[float, float], tmp_path: Path) -> None:
    network = make_network(SpatialConfig((3, 2), input_range=given))
    image.write(network, tmp_path / "net.sen")
    found = np.float32(models.load(tmp_path / "net.sen").network.input_range)
    np.testing.assert_array_equal(found, np.float32(given))


def test_numbers_are_counted_as_they_are_stored(tmp_path: Path) -> None:
    sparse = Sparse.from_dense(np.eye(4, 6, dtype=np.float32), (1, 2))
    factors = LowRank(np.ones((4, 2), np.float32), np.ones((2, 6), np.float32))
    bias = np.ones(4, np.float32)
    layers = (
        Layer(Sum(factors, sparse), bias, Identity()),
        Layer(Dense(np.ones((3, 4), np.int8), np.ones(3, np.float32)), None, Identity()),
    )
    assert count_stored_numbers(Network(layers)) == (8 + 12 + 8 + 4, 12)
    shared = make_network(MLP)  # the hidden layer's positions are in both layers, and once in the file
    image.write(shared, tmp_path / "net.sen")
    loaded = models.load(tmp_path / "net.sen")
    assert count_stored_numbers(loaded.network) == (64 * 3 + 32 * 3 + 64 + 32, 10 * 3 + 32 + 10)
    assert loaded.n_parameters == sum(count_stored_numbers(loaded.network))


def test_how_numbers_are_stored() -> None:
    rng = np.random.default_rng(0)
    network = random_network(rng, kinds=("sum", "dense"), sizes=(12, 9, 3))
    int8 = to_int8_weights(network)
    mixed = replace(network, layers=(network.layers[0], int8.layers[1]))
    full = to_int8(network, random_input(rng, network, 64))
    cases = {"float32": network, "float16": to_float16(network), "int8-dynamic": int8, "int8": full}
    assert {name: stored_dtype(case) for name, case in cases.items()} == {name: name for name in cases}
    assert stored_dtype(mixed) == "int8-dynamic"
    assert [layer.dtype for layer in layer_figures(mixed)] == ["float32", "int8"]


def test_figures_of_every_form() -> None:
    rng = np.random.default_rng(0)
    w = rng.normal(size=(16, 8)).astype(np.float32)
    w[:, :3] = 0
    blocks, csr = Sparse.from_dense(w, (16, 1)), Sparse.from_dense(w)
    factors = LowRank(w[:, 3:5].copy(), np.eye(2, 8, dtype=np.float32))
    points = Coordinates(
        rng.random((8, 2)).astype(np.float32), 2 + rng.random((16, 2)).astype(np.float32), np.ones(8, np.float32)
    )
    expected = {
        "coordinates": (points, 0.0, None, 128),
        "dense": (Dense(w), 3 / 8, None, 128),
        "sparse 16x1": (blocks, 3 / 8, None, 80),
        "sparse 1x1": (csr, 3 / 8, None, 80),
        "rank 2": (factors, 6 / 8, 2, 48),
        "rank 2 + sparse 16x1": (Sum(factors, blocks), 1 / 8, 2, 128),
        "rank 2 + rank 2 + dense": (Sum(Sum(factors, factors), Dense(w)), 1 / 8, 4, 224),
    }
    bias = np.zeros(16, np.float32)
    for name, (operator, sparsity, rank, macs) in expected.items():
        (figures,) = layer_figures(Network((Layer(operator, bias, Identity()),)))
        assert operator.form == figures.form == name
        assert (figures.n_in, figures.n_out, figures.dtype) == (8, 16, "float32")
        assert (figures.sparsity, figures.rank, figures.macs) == (sparsity, rank, macs)
        assert figures.bytes == operator.nbytes + 64


def test_a_sum_of_two_dtypes_names_both() -> None:
    near = Sparse.from_dense(np.eye(4, dtype=np.float32))
    far = LowRank(np.ones((4, 1), np.int8), np.ones((1, 4), np.int8), np.ones(1, np.float32), np.ones(1, np.float32))
    (figures,) = layer_figures(Network((Layer(Sum(far, near), None, Identity()),)))
    assert figures.dtype == "int8 + float32"


def test_signs_of_an_images_neurons_are_those_of_its_weights() -> None:
    w = np.array([[1, -2, 0, 3, 1], [2, 0, 0, -1, 0]], np.float32)
    summary = summarize(Model(Network((Layer(Dense(w), None, Identity()),)), "ab"))
    (layer,) = summary.layers
    assert (layer.excitatory, layer.inhibitory, layer.distance_quantiles) == (0.4, 0.2, None)
    assert (summary.kind, summary.config, summary.dimensions, summary.sha256) == ("image", None, None, "ab")
    assert (summary.parameters, summary.dense_parameters, summary.saved) == (10, 10, 0)


def test_a_sum_whose_coordinates_coincide_is_described() -> None:
    points = np.zeros((2, 1), np.float32)
    operator = Sum(Coordinates(points, points, np.ones(2, np.float32)), Dense(np.ones((2, 2), np.float32)))
    (layer,) = summarize(Model(Network((Layer(operator, None, Identity()),)), "")).layers
    assert layer.form == "coordinates + dense" and layer.sparsity is None
    assert (layer.excitatory, layer.inhibitory, layer.weight_quantiles) == (None, None, None)
    assert "sit at the same point" in layer.problem


def test_a_pattern_over_coincident_neurons_names_file_and_layer(tmp_path: Path) -> None:
    start = make_checkpoint(MLP)
    tensors = {**start.tensors, "positions.0": start.tensors["positions.0"].copy()}
    config = replace(MLP, layer_axis="free", dimensions=2)
    tensors["positions.0"][5] = tensors["positions.1"][7]
    checkpoints.save(
        replace(start, config=config, tensors=tensors, synapses={0: np.ones((32, 64), bool)}), tmp_path / "a.pt"
    )
    with pytest.raises(NetworkError, match=r"a\.pt: layer 0.*neuron 5.*neuron 7"):
        models.load(tmp_path / "a.pt")
