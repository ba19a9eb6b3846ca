"""Moments of calibration inputs: chunks, derivatives of the outputs, errors."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from sen_edge.compression import moments as module
from sen_edge.compression.moments import (
    COMMON,
    CompressionWarning,
    check_calibration,
    moments,
    sensitivities,
    warn_of_rank,
)
from sen_edge.errors import DataError
from sen_runtime import reference
from sen_runtime.data.subsample import subsample
from sen_runtime.errors import NetworkError
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif, Relu
from sen_runtime.ir.operators import Dense
from tests.support.networks import random_input, random_network

RNG = np.random.default_rng
KINDS = ("dense", "sparse", "low_rank", "sum")


def perceptron(seed: int = 0) -> Network:
    return random_network(RNG(seed), kinds=KINDS, sizes=(7, 9, 6, 4))


def shifted(network: Network) -> Network:
    """Another first bias: every layer then gets other inputs, but for the first."""
    first = network.layers[0]
    bias = np.linspace(-0.5, 0.5, first.weight.shape[0], dtype=np.float32)
    return replace(network, layers=(replace(first, bias=bias), *network.layers[1:]))


def metric(n: int) -> np.ndarray:
    """All outputs count alike, but what they share only the share COMMON."""
    return np.eye(n) - (1 - COMMON) / n


# --- moments -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_moments_of_one_network_are_those_of_its_inputs(seed: int) -> None:
    network = perceptron(seed)
    x = random_input(RNG(seed), network, 57)
    for found, rows in zip(moments(network, network, x), reference.layer_inputs(network, x)[0], strict=True):
        rows = rows.astype(np.float64)
        centred = rows - rows.mean(axis=0)
        assert np.allclose(found.mean, rows.mean(axis=0)) and np.array_equal(found.mean, found.compressed_mean)
        assert np.allclose(found.covariance, centred.T @ centred / 57, atol=1e-12)
        assert not found.lost.any() and found.rows == 57


def test_what_is_lost_is_the_covariance_of_the_difference() -> None:
    network = perceptron()
    other, x = shifted(network), random_input(RNG(1), network, 80)
    before, after = (reference.layer_inputs(each, x)[0] for each in (network, other))
    found = moments(network, other, x)
    assert not found[0].lost.any()  # the same inputs arrive there
    for one, a, b in zip(found[1:], before[1:], after[1:], strict=True):
        difference, z = a.astype(np.float64) - b, b.astype(np.float64)
        expected = np.mean([np.outer(d, row - z.mean(0)) for d, row in zip(difference, z, strict=True)], axis=0)
        assert np.abs(expected).max() > 1e-4
        assert np.allclose(one.lost, expected, atol=1e-9)
        assert np.allclose(one.mean - one.compressed_mean, difference.mean(0))


@pytest.mark.parametrize("chunk", [1, 7, 50])
def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    network = perceptron(2)
    other, x = shifted(network), random_input(RNG(1), network, 50)
    whole = moments(network, other, x), sensitivities(network, x)
    monkeypatch.setattr(module, "CHUNK", chunk)
    for a, b in zip(whole[0], moments(network, other, x), strict=True):
        assert a.rows == b.rows
        for name in ("mean", "compressed_mean", "covariance", "lost"):
            assert np.allclose(getattr(a, name), getattr(b, name), atol=1e-12), name
    for a, b in zip(whole[1], sensitivities(network, x), strict=True):
        assert np.allclose(a, b, atol=1e-6)


def test_a_large_offset_costs_no_digits() -> None:
    network = Network((Layer(Dense(np.ones((2, 3), np.float32)), None, Identity()),))
    spread = RNG(0).normal(size=(300, 3))
    x = (1e4 + spread).astype(np.float32)
    (found,) = moments(network, network, x)
    assert np.allclose(found.covariance, np.cov(x.T.astype(np.float64), bias=True), rtol=1e-9)
    constant = moments(network, network, np.full((9, 3), 0.1, np.float32))[0]
    assert np.all(np.diag(constant.covariance) >= 0) and constant.rank == 0


def test_beyond_the_limit_only_variances_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    network = perceptron()
    other, x = shifted(network), random_input(RNG(1), network, 40)
    whole = moments(network, other, x)
    monkeypatch.setattr(module, "MAX_NEURONS", 6)
    for full, found in zip(whole, moments(network, other, x), strict=True):
        if len(full.mean) > 6:
            assert found.covariance.shape == found.lost.shape == full.mean.shape
            assert np.allclose(found.covariance, np.diag(full.covariance))
            assert np.allclose(found.lost, np.diag(full.lost), atol=1e-12)
        else:
            assert np.allclose(found.covariance, full.covariance)


@pytest.mark.parametrize(("coding", "first_rows"), [("direct", 20), ("spikes", 100)])
def test_rows_of_a_spiking_network(coding: str, first_rows: int) -> None:
    network = random_network(RNG(3), spiking=True, kinds=("dense",), sizes=(6, 8, 5, 3), input_coding=coding)
    found = moments(network, network, random_input(RNG(1), network, 20))
    # a step is a row between spiking neurons; what arrives at the leaky integrator is summed over the steps
    assert [each.rows for each in found] == [first_rows, 100, 20]


# --- derivatives ---------------------------------------------------------------------------------


def finite_difference(network: Network, index: int, x: np.ndarray, step: float = 1e-3) -> np.ndarray:
    """Mean of J^T M J, `[n_out, n_out]`, of outputs by what layer `index` gives its neurons."""

    def outputs(change: np.ndarray) -> np.ndarray:
        a = x.astype(np.float64)
        for i, layer in enumerate(network.layers):
            a = layer.weight.affine(a, layer.bias) + (change if i == index else 0)
            a = np.maximum(a, 0) if isinstance(layer.neuron, Relu) else a
        return a

    n = network.layers[index].weight.shape[0]
    columns = [(outputs(step * e) - outputs(-step * e)) / (2 * step) for e in np.eye(n)]
    jacobian = np.stack(columns, axis=2)  # [batch, outputs, n]
    return np.einsum("boi,op,bpj->ij", jacobian, metric(network.n_out), jacobian) / len(x)


@pytest.mark.parametrize("seed", range(3))
def test_sensitivities_are_finite_differences(seed: int) -> None:
    network = perceptron(seed)
    x = random_input(RNG(seed), network, 30)
    for index, found in enumerate(sensitivities(network, x)):
        expected = finite_difference(network, index, x, 1e-5)
        assert np.abs(found - expected).max() < 2e-3 * np.abs(expected).max(), index


def test_what_all_outputs_share_counts_less() -> None:
    network = Network((Layer(Dense(np.eye(5, dtype=np.float32)), None, Identity()),))
    (found,) = sensitivities(network, np.ones((4, 5), np.float32))
    ones, other = np.ones(5) / 5**0.5, np.array([1, -1, 0, 0, 0]) / 2**0.5
    assert ones @ found @ ones == pytest.approx(COMMON) and other @ found @ other == pytest.approx(1)
    assert COMMON == 0.1


def test_random_mixtures_stand_for_many_outputs() -> None:
    network = random_network(RNG(4), kinds=("dense",), sizes=(6, 8, 33))
    x = random_input(RNG(1), network, 60)
    exact = finite_difference(network, 0, x, 1e-5)
    found = [sensitivities(network, x, seed)[0] for seed in range(40)]
    assert np.linalg.norm(np.mean(found, axis=0) - exact) < 0.1 * np.linalg.norm(exact)
    assert np.array_equal(found[0], sensitivities(network, x, 0)[0]) and not np.allclose(found[0], found[1])


def test_derivatives_are_taken_at_a_part_of_many_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    network = perceptron()
    x = random_input(RNG(1), network, 90)
    monkeypatch.setattr(module, "DERIVATIVE_INPUTS", 30)
    some = sensitivities(network, x)
    monkeypatch.undo()
    for a, b in zip(some, sensitivities(network, subsample(x, 30)), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("readout", ["mean_membrane", "last_membrane", "spike_count"])
@pytest.mark.parametrize("coding", ["direct", "spikes"])
def test_every_layer_of_a_spiking_network_has_a_sensitivity(readout: str, coding: str) -> None:
    network = random_network(
        RNG(5), spiking=True, kinds=("dense",), sizes=(6, 8, 5, 4), readout=readout, input_coding=coding
    )
    found = sensitivities(network, random_input(RNG(1), network, 20))
    assert [each.shape for each in found] == [(8, 8), (5, 5), (4, 4)]
    for each in found:
        assert np.allclose(each, each.T) and np.linalg.eigvalsh(each).min() > -1e-6 and each.any()
    assert np.allclose(found[-1], metric(4), atol=1e-6) == (readout != "spike_count")


def test_a_spiking_layers_derivative_is_summed_over_the_steps() -> None:
    """One hidden neuron in front of a readout: the surrogate derivative, written out."""
    steps, threshold, slope, w = 3, 0.9, 5.0, 2.0
    hidden, last = Lif(0.0, threshold), LeakyIntegrator(0.0)
    network = Network(
        (
            Layer(Dense(np.ones((1, 1), np.float32)), None, hidden),
            Layer(Dense(np.array([[w], [-w]], np.float32)), None, last),
        ),
        steps,
    )
    x = 0.4  # below the threshold: no spike, and without decay each step is the same
    derivative = 1 / (1 + slope * abs(x - threshold)) ** 2
    jacobian = np.array([w, -w]) * derivative  # a mean over the steps of what each of them gives
    (found, _) = sensitivities(network, np.full((2, 1), x, np.float32))
    # the reset takes the threshold off the next membrane, and with it the derivative of the spike before
    chain = [1.0]
    for _ in range(steps - 1):
        chain.append(1 - threshold * derivative * chain[-1])
    assert found.item() == pytest.approx((jacobian @ metric(2) @ jacobian) * np.mean(chain) ** 2, rel=1e-5)


# --- what is said and refused --------------------------------------------------------------------


def test_inputs_that_leave_directions_open_are_named() -> None:
    network = Network((Layer(Dense(np.ones((2, 5), np.float32)), None, Identity()),))
    few = random_input(RNG(0), network, 3)  # three points span two directions
    (found,) = moments(network, network, few)
    assert found.rank == 2
    with pytest.warns(CompressionWarning, match=r"layer 7.*\b3\b.*\b2\b.*\b5\b"):
        warn_of_rank(7, found)
    (full,) = moments(network, network, random_input(RNG(0), network, 30))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_rank(0, full)
    assert full.rank == 5


@pytest.mark.parametrize(
    ("calibration", "kind", "message"),
    [
        (None, DataError, "calibration"),
        (np.ones((3, 6), np.float32), NetworkError, r"\[3, 6\].*\[batch, 7\]"),
        (np.ones((3, 5, 7), np.float32), NetworkError, r"\[3, 5, 7\]"),
        (np.ones(7, np.float32), DataError, r"float32 \[7\]"),
        (np.ones((0, 7), np.float32), DataError, r"float32 \[0, 7\]"),
        (np.full((3, 7), "a"), DataError, "<U1"),
        (np.full((3, 7), 1j), DataError, "complex128"),
        (np.full((3, 7), None), DataError, "object"),
        (np.full((3, 7), np.nan), DataError, r"input 0.*nan"),
    ],
)
def test_useless_inputs_are_refused(calibration: np.ndarray | None, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        check_calibration(perceptron(), calibration)


def test_the_input_that_is_not_finite_is_named() -> None:
    x = np.ones((9, 7), np.float32)
    x[4, 2] = np.inf
    with pytest.raises(DataError, match=r"input 4.*inf"):
        check_calibration(perceptron(), x)


def test_numbers_of_other_types_are_taken() -> None:
    for dtype in (np.uint8, np.int64, bool, np.float64, np.float16):
        found = check_calibration(perceptron(), np.ones((3, 7), dtype))
        assert found.dtype == np.float32 and found.all()
