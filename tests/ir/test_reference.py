"""The reference interpreter compared with the equations in Python floats."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sen_runtime import reference
from sen_runtime.errors import NetworkError
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import READOUTS, Network
from sen_runtime.ir.neurons import RESETS, Identity, LeakyIntegrator, Lif, Relu
from sen_runtime.ir.operators import Coordinates, Dense, LowRank, Sparse, Sum
from tests.support.networks import KINDS, random_input, random_network, random_operator, read_out

SPIKING = list(product(("direct", "spikes"), READOUTS, RESETS, ("delay", "no delay")))

# The equations in loops over Python floats, which are float64. Nothing of sen_runtime but the stored numbers.


def coordinate_weight(operator, j, i):
    squares = [(float(p) - float(q)) ** 2 for p, q in zip(operator.source[i], operator.target[j], strict=True)]
    if sum(squares) ** 0.5 > operator.max_distance:
        return 0.0
    distance = max(sum(squares) ** 0.5, operator.min_distance)
    weight = operator.gain * float(operator.mask[i]) / distance**operator.exponent
    return float(np.float32(weight))  # stored weights are rounded once


def sparse_weights(operator):
    (n_out, n_in), (rows, columns) = operator.shape, operator.block
    w = [[0.0] * n_in for _ in range(n_out)]
    for block_row in range(len(operator.row_starts) - 1):
        for k in range(operator.row_starts[block_row], operator.row_starts[block_row + 1]):
            for r, c in product(range(rows), range(columns)):
                j, i = block_row * rows + r, int(operator.columns[k]) * columns + c
                if j < n_out and i < n_in:
                    w[j][i] = float(operator.values[k, r * columns + c])
    return w


def scalar_product(operator, x):
    """[n_out] for x [n_in], lists of floats."""
    if isinstance(operator, Sum):
        pair = scalar_product(operator.a, x), scalar_product(operator.b, x)
        return [a + b for a, b in zip(*pair, strict=True)]
    if isinstance(operator, LowRank):
        inner = scalar_product(Dense(operator.right), x)
        return scalar_product(Dense(operator.left), inner)
    n_out, n_in = operator.shape
    if isinstance(operator, Sparse):
        w = sparse_weights(operator)
    elif isinstance(operator, Coordinates):
        w = [[coordinate_weight(operator, j, i) for i in range(n_in)] for j in range(n_out)]
    else:
        w = [[float(operator.w[j, i]) for i in range(n_in)] for j in range(n_out)]
    return [sum(w[j][i] * x[i] for i in range(n_in)) for j in range(n_out)]


def scalar_current(layer, x):
    y = scalar_product(layer.weight, x)
    return y if layer.bias is None else [value + float(b) for value, b in zip(y, layer.bias, strict=True)]


def scalar_mlp(network, x):
    """One list per layer, for one example x [n_in]."""
    outputs = []
    for layer in network.layers:
        y = scalar_current(layer, x)
        x = [max(value, 0.0) for value in y] if isinstance(layer.neuron, Relu) else y
        outputs.append(x)
    return outputs


def spiking_options(words):
    """Keywords of `random_network` for one entry of `SPIKING`."""
    coding, readout, reset, delay = words
    return {"input_coding": coding, "readout": readout, "reset": reset, "reset_delay": delay == "delay"}


def scalar_neuron(neuron, u, fired, y):
    """Membrane and spike of one neuron after one step."""
    if isinstance(neuron, LeakyIntegrator):
        return neuron.beta * u + y, 0.0
    if not fired:
        u = neuron.beta * u + y
    elif neuron.reset == "zero":
        u = y
    elif neuron.reset_delay:
        u = neuron.beta * u + y - neuron.threshold
    else:
        u = neuron.beta * (u - neuron.threshold) + y
    return u, 1.0 if u > neuron.threshold else 0.0


def scalar_snn(network, x):
    """One list per layer, for one example x [n_in] or [T][n_in]: spike counts, then the readout."""
    sizes = [layer.weight.shape[0] for layer in network.layers]
    membranes, spikes, counts = ([[0.0] * n for n in sizes] for _ in range(3))
    history = []
    for t in range(network.timesteps):
        value = x[t] if network.input_coding == "spikes" else x
        for index, layer in enumerate(network.layers):
            y = scalar_current(layer, value)
            for j in range(sizes[index]):
                membranes[index][j], spikes[index][j] = scalar_neuron(
                    layer.neuron, membranes[index][j], spikes[index][j], y[j]
                )
                counts[index][j] += spikes[index][j]
            value = spikes[index]
        history.append(list(membranes[-1]))
    if network.readout == "last_membrane":
        counts[-1] = history[-1]
    elif network.readout == "mean_membrane":
        counts[-1] = [sum(step[j] for step in history) / len(history) for j in range(sizes[-1])]
    return counts


def assert_follows(network, x, dtype=np.float64):
    scalar = scalar_snn if network.is_spiking else scalar_mlp
    expected = [scalar(network, example) for example in np.asarray(x, np.float64).tolist()]
    actual = reference.trace(network, x, dtype)
    assert len(actual) == len(network.layers)
    for index, layer in enumerate(actual):
        assert layer.dtype == dtype
        tolerance = 1e-11 if dtype == np.float64 else 2e-5
        np.testing.assert_allclose(layer, [e[index] for e in expected], rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(reference.run(network, x, dtype), actual[-1])


# Against the equations


@pytest.mark.parametrize("dtype", [np.float32, np.float16], ids=["float32", "float16"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_operator_follows_its_equation(kind, dtype):
    rng = np.random.default_rng(1)
    network = random_network(rng, kinds=(kind,), sizes=(7, 18, 5), dtype=dtype)
    assert_follows(network, random_input(rng, network))


@pytest.mark.parametrize("kind", KINDS)
def test_multiply_is_the_product_with_the_dense_form(kind):
    rng = np.random.default_rng(2)
    operator = random_operator(rng, 6, 9, kind)
    x = rng.normal(size=(2, 3, 9))
    expected = np.einsum("oi,bti->bto", operator.to_dense().astype(np.float64), x)
    np.testing.assert_allclose(operator.affine(x), expected, rtol=1e-5, atol=1e-6)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_any_multilayer_perceptron_follows_the_equations(seed):
    rng = np.random.default_rng(seed)
    network = random_network(rng)
    assert_follows(network, random_input(rng, network))


@pytest.mark.parametrize("words", SPIKING, ids=["-".join(words) for words in SPIKING])
def test_spiking_networks_follow_the_equations(words):
    rng = np.random.default_rng(3)
    network = random_network(rng, spiking=True, sizes=(6, 12, 9, 4), timesteps=9, **spiking_options(words))
    x = random_input(rng, network, batch=4)
    assert_follows(network, x)
    spikes = reference.trace(network, x)[0]
    assert 0 < spikes.mean() < 9, "the test says nothing where all neurons are silent, or none"


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), words=st.sampled_from(SPIKING), timesteps=st.integers(1, 7))
def test_any_spiking_network_follows_the_equations(seed, words, timesteps):
    rng = np.random.default_rng(seed)
    network = random_network(rng, spiking=True, timesteps=timesteps, **spiking_options(words))
    assert_follows(network, random_input(rng, network))


def test_float32_stays_float32_and_near():
    rng = np.random.default_rng(4)
    network = random_network(rng, kinds=("dense", "coordinates", "low_rank"), sizes=(20, 16, 5))
    assert_follows(network, random_input(rng, network), np.float32)


# By hand: beta 1/2, threshold 1, a current of 3/4 in each step; every number is exact

BY_HAND = {
    "subtract": ([0.75, 1.125, 0.3125, 0.90625, 1.203125], [0, 1, 0, 0, 1]),
    "zero": ([0.75, 1.125, 0.75, 1.125, 0.75], [0, 1, 0, 1, 0]),
    "subtract, no delay": ([0.75, 1.125, 0.8125, 1.15625, 0.828125], [0, 1, 0, 1, 0]),
    "zero, no delay": ([0.75, 1.125, 0.75, 1.125, 0.75], [0, 1, 0, 1, 0]),
}


@pytest.mark.parametrize("words", BY_HAND)
def test_membrane_of_one_neuron_by_hand(words):
    reset, *no_delay = words.split(", ")
    neuron = Layer(Dense(np.ones((1, 1), np.float32)), None, Lif(0.5, 1.0, reset, not no_delay))
    network = Network((neuron,), 5, "direct", "spike_count")
    membranes, spikes = BY_HAND[words]
    state = reference.initial_state(network, 1)
    for u, s in zip(membranes, spikes, strict=True):
        state, fired = reference.step(network, state, np.array([[0.75]]))
        assert (state[0].membrane.item(), fired[0].item()) == (u, s)
    assert reference.run(network, np.array([[0.75]])).item() == sum(spikes)


def test_a_membrane_at_the_threshold_does_not_spike():
    layer = Layer(Dense(np.ones((1, 1), np.float32)), None, Lif(0.0, 1.0))
    network = Network((layer,), 1, "direct", "spike_count")
    x = np.array([[1.0], [np.nextafter(1.0, 2.0)]])
    np.testing.assert_array_equal(reference.run(network, x), [[0], [1]])


@pytest.mark.parametrize(("readout", "expected"), [("mean_membrane", 1.25), ("last_membrane", 2.25)])
def test_leaky_integrator_by_hand(readout, expected):
    layer = Layer(Dense(np.full((1, 1), 1.5, np.float32)), None, LeakyIntegrator(0.5))
    network = Network((layer,), 3, "spikes", readout)
    np.testing.assert_array_equal(reference.run(network, np.array([[[0.0], [1.0], [1.0]]])), [[expected]])


# Steps


@pytest.mark.parametrize("words", SPIKING, ids=["-".join(words) for words in SPIKING])
def test_steps_add_up_to_run(words):
    rng = np.random.default_rng(5)
    coding, readout, *_ = words
    network = random_network(rng, spiking=True, sizes=(5, 8, 3), timesteps=6, **spiking_options(words))
    x = random_input(rng, network).astype(np.float64)
    state = reference.initial_state(network, 3)
    assert [each.membrane.shape for each in state] == [(3, 8), (3, 3)]
    outputs, hidden = [], 0
    for t in range(6):
        before = [each.membrane.copy() for each in state]
        after, spikes = reference.step(network, state, x[:, t] if coding == "spikes" else x)
        for kept, each in zip(before, state, strict=True):
            np.testing.assert_array_equal(kept, each.membrane, err_msg="step changed the membranes it was given")
        state, hidden = after, hidden + spikes[0]
        outputs.append(spikes[-1] if readout == "spike_count" else state[-1].membrane)
    expected = read_out(network, outputs)
    np.testing.assert_allclose(reference.run(network, x), expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(reference.trace(network, x)[0], hidden)


# Inputs


def mlp():
    return random_network(np.random.default_rng(6), sizes=(4, 2))


def snn():
    return random_network(np.random.default_rng(6), spiking=True, sizes=(4, 2), timesteps=3, input_coding="spikes")


@pytest.mark.parametrize(
    ("network", "shape", "expected"),
    [
        pytest.param(mlp(), (4,), r"\[4\].*\[batch, 4\]", id="no batch"),
        pytest.param(mlp(), (1, 5), r"\[1, 5\].*\[batch, 4\]", id="too wide"),
        pytest.param(mlp(), (1, 3, 4), r"\[1, 3, 4\].*\[batch, 4\]", id="time of a perceptron"),
        pytest.param(snn(), (1, 4), r"\[1, 4\].*\[batch, 3, 4\]", id="no time"),
        pytest.param(snn(), (1, 2, 4), r"\[1, 2, 4\].*\[batch, 3, 4\]", id="too few steps"),
    ],
)
def test_inputs_of_another_shape_are_refused(network, shape, expected):
    with pytest.raises(NetworkError, match=expected):
        reference.run(network, np.zeros(shape))


@pytest.mark.parametrize("network", [mlp(), snn()], ids=["mlp", "snn"])
def test_an_empty_batch_gives_no_rows(network):
    shape = (0, 3, 4) if network.is_spiking else (0, 4)
    assert reference.run(network, np.zeros(shape, np.float32)).shape == (0, 2)


def test_a_row_does_not_depend_on_its_batch():
    rng = np.random.default_rng(7)
    network = random_network(rng, spiking=True, sizes=(6, 10, 3))
    x = random_input(rng, network, batch=5)
    whole = reference.run(network, x)
    for row in range(5):
        np.testing.assert_allclose(reference.run(network, x[row : row + 1]), whole[row : row + 1], rtol=1e-12)


def test_overflow_is_infinite_as_on_a_device():
    layer = Layer(Dense(np.full((1, 1), 3e38, np.float32)), None, Identity())
    assert reference.run(Network((layer,)), np.array([[10.0]]), np.float32).item() == np.inf


def test_neurons_at_one_point_are_named_with_their_layer():
    at = np.zeros((1, 2), np.float32)
    layers = (
        Layer(Dense(np.ones((1, 1), np.float32)), None, Relu()),
        Layer(Coordinates(at, at, np.ones(1, np.float32)), None, Identity()),
    )
    with pytest.raises(NetworkError, match=r"layer 1.*neuron 0.*neuron 0"):
        reference.run(Network(layers), np.ones((1, 1)))


def test_expanding_keeps_factors_and_writes_out_the_rest():
    rng = np.random.default_rng(8)
    layers = (
        Layer(random_operator(rng, 4, 3, "coordinates"), None, Relu()),
        Layer(random_operator(rng, 2, 4, "sum"), None, Identity()),
    )
    expanded = reference.expand(Network(layers))
    assert isinstance(expanded.layers[0].weight, Dense)
    assert isinstance(expanded.layers[1].weight, Sum)
    assert isinstance(expanded.layers[1].weight.a, LowRank)
    assert isinstance(expanded.layers[1].weight.b, Dense)
