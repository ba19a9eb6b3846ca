"""Int4 weights: storage, rounding, and every engine against the reference, to the bit."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sen_edge.errors import DataError, UsageError
from sen_edge.passes.gptq import damped_moment, round_int4, round_weights
from sen_edge.passes.quantize import to_int8, to_int8_weights
from sen_exporters.tflite.exporter import TfliteExporter
from sen_exporters.tflite.graph import TfliteOptions
from sen_runtime import format as image
from sen_runtime import integer, reference
from sen_runtime.engines import native
from sen_runtime.errors import NetworkError
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network, map_weights, stored_dtype
from sen_runtime.ir.neurons import Identity, Relu
from sen_runtime.ir.operators import Dense, Int4
from tests.support.networks import random_input, random_network

WAYS = [{"kernels": kernels, "pack": pack} for kernels in native.KERNELS for pack in (True, False)]
SEEDS = st.integers(0, 2**32 - 1)


def random_int4(rng: np.random.Generator, n_out: int, n_in: int) -> Int4:
    values = rng.integers(-8, 8, (n_out, n_in), np.int8)
    steps = rng.integers(0, 16, (n_out, -(-n_in // 64)), np.uint8)
    return Int4.from_values(values, steps, rng.uniform(0.001, 0.01, n_out).astype(np.float32))


def as_int8(network: Network) -> Network:
    """The network with its weights stored in bytes."""
    return map_weights(network, lambda leaf: Dense(leaf.w, leaf.scale) if isinstance(leaf, Int4) else leaf)


def draw(rng: np.random.Generator, **options: object) -> Network:
    """A network with a dense first layer, of up to three groups."""
    sizes = tuple(int(n) for n in rng.integers(1, 190, rng.integers(2, 5)))
    network = random_network(rng, kinds=("dense", "sparse"), sizes=sizes, **options)
    first = replace(network.layers[0], weight=Dense(rng.normal(size=sizes[1::-1]).astype(np.float32)))
    return replace(network, layers=(first, *network.layers[1:]))


def sessions(network: Network) -> Iterator[native.NativeSession]:
    data = image.dumps(network)
    return (native.load(data, **way) for way in WAYS)


@given(seed=SEEDS, n_out=st.integers(1, 9), n_in=st.sampled_from([1, 2, 63, 64, 65, 127, 128, 129, 200]))
@settings(max_examples=40, deadline=None)
def test_an_image_holds_the_same_weights(seed: int, n_out: int, n_in: int) -> None:
    weight = random_int4(np.random.default_rng(seed), n_out, n_in)
    data = image.dumps(Network((Layer(weight, None, Identity()),)))
    (read,) = image.loads(data).layers
    assert isinstance(read.weight, Int4) and data[8] == 5
    np.testing.assert_array_equal(read.weight.w, weight.w)
    np.testing.assert_array_equal(read.weight.group_steps, weight.group_steps)
    assert image.dumps(image.loads(data)) == data
    assert weight.packed.shape == (n_out, -(-n_in // 2))


@pytest.mark.parametrize(
    ("w", "steps", "message"),
    [([[9]], [[1]], "expected -8 to 7"), ([[3]], [[2]], "expected -8 to 7"), ([[0]], [[16]], "expected 0 to 15")],
)
def test_weights_without_an_int4_form_are_refused(w: list, steps: list, message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        Int4(np.array(w, np.int8), np.ones(1, np.float32), np.array(steps, np.uint8))


def test_compensated_rounding_makes_the_products_error_a_fraction() -> None:
    rng = np.random.default_rng(0)
    x = (rng.random((600, 6)) @ rng.random((6, 150)) + 0.05 * rng.random((600, 150))).astype(np.float32)
    w = rng.normal(size=(40, 150)).astype(np.float32)
    moment = damped_moment(x)
    weights = {"nearest": round_int4(w, np.diag(moment)), "compensated": round_int4(w, moment)}
    errors = {name: np.mean((x @ (each.to_dense() - w).T) ** 2) for name, each in weights.items()}
    assert errors["compensated"] < 0.2 * errors["nearest"]


def test_groups_have_steps_of_their_own() -> None:
    """A row whose groups differ 15-fold has the error of each alone."""
    rng = np.random.default_rng(1)
    alone = rng.uniform(-1, 1, (8, 64)).astype(np.float32)
    both = np.concatenate([alone, alone / 15], axis=1)
    error = np.abs(round_int4(both, None).to_dense() - both)
    assert error[:, 64:].mean() < error[:, :64].mean() / 10


@given(seed=SEEDS)
@settings(max_examples=30, deadline=None)
def test_int8_activations_equal_the_reference_in_every_kernel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    network = draw(rng)
    x = random_input(rng, network, 30)
    try:
        network = to_int8(network, x, bits=4)
    except DataError:  # a layer that gives zeros only
        return
    assert stored_dtype(network) == "int4"
    expected = integer.run(as_int8(network), x)
    np.testing.assert_array_equal(integer.run(network, x), expected)
    for session in sessions(network):
        np.testing.assert_array_equal(session.run(x), expected, err_msg=session.kernels)


@given(seed=SEEDS, spiking=st.booleans())
@settings(max_examples=30, deadline=None)
def test_float_activations_equal_those_of_int8_weights(seed: int, spiking: bool) -> None:
    rng = np.random.default_rng(seed)
    network = draw(rng, spiking=spiking)
    x = random_input(rng, network, 4)
    network = to_int8_weights(network, bits=4)
    assert stored_dtype(network) == "int4-dynamic"
    np.testing.assert_array_equal(reference.run(network, x), reference.run(as_int8(network), x))
    for session, plain in zip(sessions(network), sessions(as_int8(network)), strict=True):
        np.testing.assert_array_equal(session.run(x), plain.run(x), err_msg=session.kernels)


def test_tflite_stores_them_as_int8() -> None:
    rng = np.random.default_rng(2)
    network = to_int8(
        random_network(rng, kinds=("dense",), sizes=(70, 20, 5)), rng.random((64, 70), np.float32), bits=4
    )
    files = [TfliteExporter().export(each, TfliteOptions()).main for each in (network, as_int8(network))]
    assert files[0] == files[1]


def test_a_small_last_layer_stays_int8() -> None:
    rng = np.random.default_rng(3)
    network = to_int8_weights(random_network(rng, kinds=("dense",), sizes=(70, 20, 5)), bits=4)
    assert [type(layer.weight) for layer in network.layers] == [Int4, Dense]
    large = to_int8_weights(random_network(rng, kinds=("dense",), sizes=(70, 20, 70)), bits=4)
    assert [type(layer.weight) for layer in large.layers] == [Int4, Int4]
    single = to_int8_weights(random_network(rng, kinds=("dense",), sizes=(70, 20)), bits=4)
    assert isinstance(single.layers[0].weight, Int4)


def test_a_network_without_dense_weights_is_refused() -> None:
    network = random_network(np.random.default_rng(4), kinds=("sparse",), sizes=(70, 20, 5))
    with pytest.raises(UsageError, match="dense"):
        to_int8_weights(network, bits=4)


def test_a_row_of_zeros_has_the_scale_of_its_bias() -> None:
    w = np.zeros((2, 65), np.float32)
    layer = Layer(Dense(w), np.array([1, -2], np.float32), Relu())
    network = Network((layer, Layer(Dense(np.eye(2, dtype=np.float32)), None, Identity())))
    x = np.random.default_rng(5).random((64, 65), np.float32)
    quantized = to_int8(network, x, bits=4)
    np.testing.assert_allclose(integer.run(quantized, x), [[1, 0]] * 64, atol=0.01)
    assert round_weights(w, "channel", None)[1].tolist() == round_int4(w, None).scale.tolist()
