"""Quantization passes: storage, error, rejected requests."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sen_edge.errors import DataError, UsageError
from sen_edge.passes import gptq
from sen_edge.passes.gptq import SHRINKS, choose_scale, damped_moment, round_weights
from sen_edge.passes.quantize import quantization_errors, to_int8, to_int8_weights
from sen_runtime import format as image
from sen_runtime import reference
from sen_runtime.errors import NetworkError
from sen_runtime.ir.delays import ConstantDelay
from sen_runtime.ir.int8 import SPIKES, Grid
from sen_runtime.ir.layer import Layer, Recurrence
from sen_runtime.ir.network import Network, readout_factors, readout_grid
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif, Relu
from sen_runtime.ir.operators import Dense, LowRank, Sparse, Sum
from tests.support.networks import KINDS, random_input, random_network, random_operator

WITHOUT_COORDINATES = tuple(kind for kind in KINDS if kind != "coordinates")


def correlated(rng, rows, n):
    """Inputs that are far from independent, as pixels are."""
    return (rng.random((rows, 4)) @ rng.random((4, n)) + 0.05 * rng.random((rows, n))).astype(np.float32)


# --- rounding ------------------------------------------------------------------------------------


@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    seed=st.integers(0, 99),
    granularity=st.sampled_from(["channel", "tensor"]),
)
@settings(max_examples=50, deadline=None)
def test_rounding_to_the_nearest_is_within_half_a_step(rows, columns, seed, granularity):
    w = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
    stored, scale = round_weights(w, granularity, None)
    assert stored.dtype == np.int8 and scale.dtype == np.float32
    assert scale.shape == ((rows,) if granularity == "channel" else (1,))
    assert np.abs(stored).max() <= 127
    assert np.all(np.abs(stored * scale[:, None] - w) <= 0.5001 * scale[:, None])


def test_rows_of_zeros_and_of_tiny_values_have_a_scale():
    w = np.array([[0, 0], [1e-44, 0], [1, -1]], np.float32)
    stored, scale = round_weights(w, "channel", None)
    assert np.all(scale > 0) and np.all(np.isfinite(scale))
    np.testing.assert_array_equal(stored, [[0, 0], [0, 0], [127, -127]])


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_compensated_rounding_makes_the_products_error_a_fraction(granularity):
    rng = np.random.default_rng(0)
    x, w = correlated(rng, 500, 96), rng.normal(size=(40, 96)).astype(np.float32)
    errors = {}
    for name, moment in (("nearest", None), ("compensated", damped_moment(x))):
        stored, scale = round_weights(w, granularity, moment)
        errors[name] = np.sqrt(np.mean((x @ (stored * scale[:, None] - w).T) ** 2))
    assert errors["compensated"] < 0.4 * errors["nearest"]


def test_blocks_of_columns_change_nothing(monkeypatch):

    rng = np.random.default_rng(1)
    w, moment = rng.normal(size=(7, 150)).astype(np.float32), damped_moment(correlated(rng, 300, 150))
    stored = {}
    for columns in (1, 64, 1000):
        monkeypatch.setattr(gptq, "BLOCK_COLUMNS", columns)
        stored[columns] = round_weights(w, "channel", moment)[0]
    np.testing.assert_array_equal(stored[1], stored[64])
    np.testing.assert_array_equal(stored[1], stored[1000])


def test_beyond_the_limit_only_the_diagonal_is_used(monkeypatch):

    x = correlated(np.random.default_rng(0), 50, 20)
    full = damped_moment(x)
    monkeypatch.setattr(gptq, "MAX_COMPENSATED_INPUTS", 10)
    diagonal = damped_moment(x)
    assert (full.shape, diagonal.shape) == ((20, 20), (20,))
    np.testing.assert_allclose(diagonal, np.diag(full))
    w = np.random.default_rng(1).normal(size=(3, 20)).astype(np.float32)
    assert round_weights(w, "channel", diagonal)[0].shape == w.shape


def test_an_unimportant_outlier_does_not_set_the_scale():
    w = np.full((1, 50), 0.01)
    w[0, 0] = 1.0
    importance = np.ones(50)
    importance[0] = 1e-9
    least = float(choose_scale(w, "channel", importance, 0.0)[0])
    assert least < 0.1 / 127 and least >= SHRINKS[-1] / 127 * 0.999
    assert float(choose_scale(w, "channel", None, 0.0)[0]) == pytest.approx(1 / 127)
    assert float(choose_scale(w, "channel", importance, 0.5)[0]) == 0.5


# --- passes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WITHOUT_COORDINATES)
@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("calibrated", [False, True])
def test_int8_weights_are_near_and_a_quarter_of_the_size(kind, granularity, calibrated):
    rng = np.random.default_rng(0)
    operator = random_operator(rng, 48, 64, kind)
    network = Network((Layer(operator, np.zeros(48, np.float32), Identity()),))
    x = rng.random((200, 64), np.float32)
    after = to_int8_weights(network, granularity, x if calibrated else None)
    expected, actual = reference.run(network, x), reference.run(after, x)
    assert np.sqrt(np.mean((actual - expected) ** 2)) < 0.02 * expected.std() + 1e-6
    if kind == "dense":
        assert after.nbytes < 0.4 * network.nbytes
    restored = image.loads(image.dumps(after))
    np.testing.assert_array_equal(reference.run(restored, x), actual)


def test_a_sparse_pattern_stays_as_it_is():
    operator = random_operator(np.random.default_rng(0), 20, 30, "blocks")
    network = Network((Layer(operator, None, Identity()),))
    after = to_int8_weights(network, calibration=np.random.default_rng(1).random((50, 30), np.float32)).layers[0].weight
    assert isinstance(after, Sparse) and after.values.dtype == np.int8
    np.testing.assert_array_equal(after.columns, operator.columns)
    np.testing.assert_array_equal(after.row_starts, operator.row_starts)


def test_biases_take_up_the_mean_error():
    rng = np.random.default_rng(0)
    x = correlated(rng, 400, 30)
    network = Network((Layer(Dense(rng.normal(size=(8, 30)).astype(np.float32)), np.zeros(8, np.float32), Identity()),))
    after = to_int8_weights(network, "tensor", x)
    mean = np.mean(reference.run(after, x) - reference.run(network, x), axis=0)
    assert np.abs(mean).max() < 1e-6


@pytest.mark.parametrize("kind", WITHOUT_COORDINATES)
@pytest.mark.parametrize("activation_range", ["minmax", "percentile", "mse"])
def test_int8_activations_are_near(kind, activation_range):
    rng = np.random.default_rng(0)
    network = random_network(rng, kinds=(kind,), sizes=(40, 30, 20))
    x = random_input(rng, network, 300)
    after = to_int8(network, x, activation_range=activation_range)
    grids = [after.input_grid, *(layer.grid for layer in after.layers)]
    assert all(isinstance(grid, Grid) for grid in grids)
    expected, actual = reference.run(network, x), reference.run(after, x)
    assert np.sqrt(np.mean((actual - expected) ** 2)) < 0.06 * expected.std()
    np.testing.assert_array_equal(after.layers[-1].grid.round(actual), actual)
    np.testing.assert_allclose(reference.run(after, x, np.float32), actual, atol=1.01 * after.layers[-1].grid.scale)


def test_ranges_are_what_they_say():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 1)).astype(np.float32)
    x[0] = 100.0
    network = Network((Layer(Dense(np.ones((1, 1), np.float32)), None, Identity()),))
    reach = {
        name: to_int8(network, x, activation_range=name).input_grid.dequantize(np.int8(127))
        for name in ("minmax", "percentile", "mse")
    }
    assert reach["minmax"] == pytest.approx(100, rel=0.01)
    assert 3 < reach["percentile"] < 6
    assert reach["percentile"] < reach["mse"] < reach["minmax"]  # to clip the outlier would cost more than it saves


def test_a_percentile_that_would_leave_nothing_takes_all():
    x = np.zeros((30_000, 1), np.float32)
    x[7] = 1.0
    network = Network((Layer(Dense(np.ones((1, 1), np.float32)), None, Identity()),))
    assert to_int8(network, x, activation_range="percentile").input_grid.dequantize(np.int8(127)) == pytest.approx(1)


def test_bias_with_tiny_weights_fits_32_bits():
    network = Network((Layer(Dense(np.full((1, 2), 1e-12, np.float32)), np.full(1, 1e3, np.float32), Identity()),))
    x = np.random.default_rng(0).random((20, 2), np.float32)
    after = to_int8(network, x)
    steps = 1e3 / (float(after.layers[0].weight.scale[0]) * after.input_grid.scale)
    assert steps <= 2**30 * 1.001
    np.testing.assert_allclose(reference.run(after, x), 1e3, rtol=1e-2)


# --- spiking networks ----------------------------------------------------------------------------


@pytest.mark.parametrize("reset_delay", [True, False])
@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize("coding", ["direct", "spikes"])
@pytest.mark.parametrize("readout", ["mean_membrane", "last_membrane", "spike_count"])
def test_int8_membranes_spike_like_float_ones(reset, reset_delay, coding, readout):
    rng = np.random.default_rng(1)
    network = random_network(
        rng,
        spiking=True,
        kinds=("dense",),
        sizes=(40, 30, 10),
        timesteps=8,
        reset=reset,
        reset_delay=reset_delay,
        input_coding=coding,
        readout=readout,
    )
    x = random_input(rng, network, 100)
    after = to_int8(network, x)
    assert after.input_grid == (SPIKES if coding == "spikes" else after.input_grid)
    expected, actual = reference.trace(network, x), reference.trace(after, x)
    assert np.mean(expected[0] == actual[0]) > 0.9
    assert np.sqrt(np.mean((actual[1] - expected[1]) ** 2)) < 0.35 * expected[1].std()


def test_the_threshold_lies_on_the_membranes_grid():
    rng = np.random.default_rng(0)
    network = random_network(rng, spiking=True, kinds=("dense",), sizes=(20, 15, 5))
    layer = to_int8(network, random_input(rng, network, 64)).layers[0]
    threshold = np.array([layer.neuron.threshold], np.float32)
    np.testing.assert_allclose(layer.grid.round(threshold), threshold, rtol=1e-6)
    assert layer.grid.dequantize(np.int8(127)) > layer.neuron.threshold
    with pytest.raises(NetworkError, match=r"threshold.*grid"):
        off = Layer(layer.weight, None, Lif(0.9, layer.neuron.threshold * 1.01), layer.grid)
        last = Layer(Dense(np.ones((2, 15), np.float32)), None, LeakyIntegrator(0.9), Grid(1.0, 0))
        Network((off, last), timesteps=3, input_grid=SPIKES)


def test_membranes_far_below_the_threshold_do_not_cost_resolution():
    """One neuron that sinks to -100 while the threshold is 1."""
    w = np.concatenate([np.full((1, 10), -1.0), np.random.default_rng(0).random((20, 10)) * 0.3]).astype(np.float32)
    network = Network(
        (
            Layer(Dense(w), None, Lif(0.95, 1.0)),
            Layer(Dense(np.random.default_rng(1).normal(size=(3, 21)).astype(np.float32)), None, LeakyIntegrator(0.9)),
        ),
        timesteps=20,
    )
    x = np.random.default_rng(2).random((64, 10), np.float32)
    after = to_int8(network, x)
    assert after.layers[0].grid.scale <= 1 / 16
    assert np.mean(reference.trace(after, x)[0] == reference.trace(network, x)[0]) > 0.7


# --- errors --------------------------------------------------------------------------------------


def test_errors_per_layer():
    rng = np.random.default_rng(0)
    network = random_network(rng, kinds=("dense",), sizes=(20, 15, 5))
    x = random_input(rng, network, 50)
    without = quantization_errors(network, to_int8_weights(network), None)
    assert [(error.layer, error.output) for error in without] == [(0, None), (1, None)]
    assert all(0 < error.weights < 0.02 for error in without)
    same = quantization_errors(network, network, x)
    assert all(error.weights == error.output == 0 for error in same)


TINY = Network(
    (
        Layer(Dense(np.ones((2, 3), np.float32)), None, Relu()),
        Layer(Dense(np.ones((1, 2), np.float32)), None, Identity()),
    )
)
INPUTS = np.random.default_rng(0).random((20, 3), np.float32)


def test_what_is_unknown_or_has_no_int8_form_is_refused():
    with pytest.raises(UsageError, match=r"--granularity.*'row'.*channel, tensor"):
        to_int8_weights(TINY, "row")
    with pytest.raises(UsageError, match=r"--activation-range.*'kl'.*percentile, minmax, mse"):
        to_int8(TINY, INPUTS, activation_range="kl")
    coordinates = random_network(np.random.default_rng(0), kinds=("coordinates",), sizes=(3, 2))
    with pytest.raises(NetworkError, match=r"layer 0.*coordinates"):
        to_int8_weights(coordinates)
    with pytest.raises(NetworkError, match=r"layer 0.*weights.*int8"):
        to_int8_weights(to_int8_weights(TINY))
    counting = random_network(
        np.random.default_rng(0), spiking=True, kinds=("dense",), sizes=(3, 2), timesteps=256, readout="spike_count"
    )
    with pytest.raises(UsageError, match=r"\b256\b.*\b255\b"):
        to_int8(counting, random_input(np.random.default_rng(0), counting))


def test_a_layer_that_calibration_leaves_dead_is_refused():
    with pytest.raises(DataError, match=r"layer 0.*calibration"):
        to_int8(TINY, -INPUTS)
    dead = LowRank(np.ones((2, 1), np.float32), np.zeros((1, 3), np.float32))
    with pytest.raises(DataError, match=r"layer 0.*right factor"):
        to_int8(Network((Layer(dead, None, Identity()),)), INPUTS)
    half_dead = Sum(TINY.layers[0].weight, Dense(np.zeros((2, 3), np.float32)))
    with pytest.raises(DataError, match=r"layer 0.*second operand"):
        to_int8(Network((Layer(half_dead, None, Identity()),)), INPUTS)


def test_grids_are_everywhere_or_nowhere():
    quantized = to_int8(TINY, INPUTS)
    with pytest.raises(NetworkError, match="layer 1"):
        Network((quantized.layers[0], TINY.layers[1]), input_grid=quantized.input_grid)
    with pytest.raises(NetworkError, match="layer 0"):
        Network(quantized.layers)


@pytest.mark.parametrize(("least", "greatest"), [(0, 1), (-1, 0), (-3, 5), (2, 7), (-1e-3, 1e3)], ids=str)
def test_a_covering_grid_reaches_both_ends_and_holds_zero(least, greatest):
    grid = Grid.covering(least, greatest)
    assert grid.round(np.zeros(1))[0] == 0
    assert grid.dequantize(np.int8(-128)) <= min(least, 0) + 0.51 * grid.scale
    assert grid.dequantize(np.int8(127)) >= max(greatest, 0) - 0.51 * grid.scale


@pytest.mark.parametrize(("scale", "zero_point"), [(0.0, 0), (-1.0, 0), (np.nan, 0), (1.0, 128), (1.0, -129)])
def test_invalid_grid_is_rejected(scale, zero_point):
    with pytest.raises(NetworkError):
        Grid(scale, zero_point)


def test_bias_of_a_sum_is_not_clipped() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((300, 12)).astype(np.float32)
    far, near = (Dense((rng.normal(size=(4, 12)) * scale).astype(np.float32)) for scale in (0.3, 0.1))
    for bias in (5.0, -5.0):
        network = Network((Layer(Sum(far, near), np.full(4, bias, np.float32), Identity()),))
        np.testing.assert_allclose(to_int8(network, x).layers[0].bias, bias, atol=0.01)


@pytest.mark.parametrize("readout", ["mean_membrane", "last_membrane"])
@pytest.mark.parametrize(("beta", "steps"), [(0.95, 25), (0.9, 200), (1.0, 400), (0.1, 50)])
def test_the_int8_readout_of_many_steps_has_no_gain_of_its_own(readout: str, beta: float, steps: int) -> None:
    layers = (
        Layer(Dense(np.eye(3, dtype=np.float32)), None, Lif(0.5, 0.9)),
        Layer(Dense(np.eye(3, dtype=np.float32)), None, LeakyIntegrator(beta)),
    )
    network = Network(layers, timesteps=steps, readout=readout)
    grid = readout_grid(network, SPIKES)
    exact, rounded = readout_factors(network), readout_factors(network, grid)
    np.testing.assert_allclose(rounded / grid.scale, np.rint(rounded / grid.scale), atol=1e-6)
    assert np.abs(np.cumsum(rounded) - np.cumsum(exact)).max() <= 0.51 * grid.scale
    always = np.full((64, 3), 2.0, np.float32) * np.random.default_rng(0).uniform(0.99, 1, (64, 3)).astype(np.float32)
    after = to_int8(network, always)
    expected, actual = reference.run(network, always), reference.run(after, always)
    np.testing.assert_allclose(actual, expected, rtol=0.02)


def test_a_neuron_without_weights_keeps_its_bias() -> None:
    w = np.array([[0.0, 0.0], [1.0, -1.0]], np.float32)
    network = Network((Layer(Dense(w), np.array([1.5, 0.0], np.float32), Identity()),))
    after = to_int8(network, np.random.default_rng(0).random((64, 2), np.float32) * 1000)
    step = float(after.layers[0].weight.scale[0]) * after.input_grid.scale
    assert step < 1e-6 and 1.5 / step <= 2**30 * 1.001


def test_both_connections_of_a_recurrent_layer_with_delays_have_the_same_scales() -> None:
    rng = np.random.default_rng(0)
    weights = [Dense(rng.normal(size=(5, n)).astype(np.float32)) for n in (7, 5)]
    hidden = Layer(
        weights[0],
        None,
        Lif(0.5),
        delay=ConstantDelay(2),
        recurrent=Recurrence(weights[1], ConstantDelay(1)),
        synapse=0.5,
    )
    readout = Layer(Dense(rng.normal(size=(3, 5)).astype(np.float32)), None, LeakyIntegrator(0.5))
    network = Network((hidden, readout), 6, "spikes")
    quantized = to_int8_weights(network)
    own = [weight for weight, _ in quantized.layers[0].connections]
    assert all(weight.stored_matrix().dtype == np.int8 for weight in own)
    np.testing.assert_array_equal(own[0].scale, own[1].scale)
    for before, after in zip(weights, own, strict=True):
        assert np.abs(before.to_dense() - after.to_dense()).max() <= 0.51 * after.scale.max()
    with pytest.raises(UsageError) as caught:
        to_int8_weights(network, bits=4)
    assert caught.value.hint
    with pytest.raises(UsageError):
        to_int8(network, (rng.random((4, 6, 7)) < 0.5).astype(np.float32))
