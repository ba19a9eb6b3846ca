"""Rounding bound: accepts rounding errors, rejects others."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sen_edge.exporting.verify.error_bound import error_bounds
from sen_edge.exporting.verify.result import TOLERANCES, Verification
from sen_edge.model import checkpoint as checkpoints
from sen_edge.model.probe import constant_output, verification_inputs
from sen_runtime import format as image
from sen_runtime import reference
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif, Relu
from sen_runtime.ir.operators import Dense, LowRank, Sparse, Sum
from sen_runtime.ir.standardization import Standardization
from tests.conftest import MLP, SNN, Outcome, make_checkpoint

Run = Callable[..., Outcome]
WIDTH = 1024


def cancelling(n_in: int = WIDTH, n_hidden: int = 256) -> Network:
    """A wide network whose products are a thousand times their sums, as where all neurons are about as far apart."""
    rng = np.random.default_rng(0)
    first = rng.normal(0, 1, (n_hidden, n_in)).astype(np.float32)
    second = rng.normal(0, 1, (10, n_hidden)).astype(np.float32)
    offset = np.full(n_hidden, 3e4, np.float32)
    return Network(
        (
            Layer(Dense(first), offset, Relu()),
            Layer(Dense(second), -(second.astype(np.float64) @ offset).astype(np.float32), Identity()),
        )
    )


def bounds_of(network: Network, x: np.ndarray) -> list[np.ndarray]:
    return error_bounds(network, x, reference.trace(network, x, np.float32), is_float16=False)


def test_errors_within_the_bound_pass_and_others_do_not(verified: Callable[..., Verification]) -> None:
    network = cancelling()
    exact = reference.trace(network, verification_inputs(network), np.float32)
    scale = exact[-1].std()
    assert bounds_of(network, verification_inputs(network))[-1].max() > 10 * TOLERANCES["mlp", "float32"].output * scale

    def off(by: float, layer: int) -> Callable[[np.ndarray], list[np.ndarray]]:
        def trace(x: np.ndarray) -> list[np.ndarray]:
            values = reference.trace(network, x, np.float32)
            values[layer] = (values[layer] + by * bounds_of(network, x)[layer]).astype(np.float32)
            return values

        return trace

    passed = verified(network, off(0.9, 1))
    assert passed.passed and passed.allowed_error > passed.max_rel_error > TOLERANCES["mlp", "float32"].output
    failed = verified(network, off(1.5, 1))
    assert not failed.passed and failed.first_wrong_layer == 1 and failed.readout_agreement < 0.5
    assert verified(network, off(0.9, 0)).first_wrong_layer is None
    assert verified(network, off(3, 0)).first_wrong_layer == 0


def without(array: np.ndarray, *where: object) -> np.ndarray:
    changed = array.copy()
    changed[where] = 0
    return changed


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize(
    "sabotage",
    {
        "a column lost": lambda each: replace(each, weight=Dense(without(each.weight.w, slice(None), -1))),
        "a row lost": lambda each: replace(each, weight=Dense(without(each.weight.w, 3))),
        "weights swapped": lambda each: replace(each, weight=Dense(np.roll(each.weight.w, 1, axis=1))),
        "rows swapped": lambda each: replace(each, weight=Dense(each.weight.w[::-1].copy())),
        "a bias lost": lambda each: replace(each, bias=without(each.bias, 2)),
        "no bias": lambda each: replace(each, bias=None),
        "another activation": lambda each: replace(each, neuron=Identity() if each.neuron == Relu() else Relu()),
    }.items(),
    ids=lambda each: each[0],
)
def test_a_wrong_kernel_is_found_in_a_wide_network(
    sabotage: tuple[str, Callable[[Layer], Layer]], layer: int, verified: Callable[..., Verification]
) -> None:
    network = cancelling()
    if sabotage[0] == "another activation" and layer == 0:
        network = replace(network, layers=(replace(network.layers[0], bias=None), network.layers[1]))
    layers = list(network.layers)
    layers[layer] = sabotage[1](layers[layer])
    wrong = replace(network, layers=tuple(layers))
    result = verified(network, lambda x: reference.trace(wrong, x, np.float32))
    assert not result.passed and result.first_wrong_layer == layer


ORDERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as stored": lambda w: np.arange(w.shape[1]),
    "excitatory first": lambda w: np.argsort(-w.sum(axis=0)),
    "largest first": lambda w: np.argsort(-np.abs(w).sum(axis=0)),
    "smallest first": lambda w: np.argsort(np.abs(w).sum(axis=0)),
}


@pytest.mark.parametrize("order", ORDERS)
def test_sums_in_any_order_keep_the_bound(order: str) -> None:
    """One addition after the other, which is the worst that engines do."""
    network = cancelling()
    x = verification_inputs(network)[::24]
    values = x
    for layer, exact, bound in zip(network.layers, reference.trace(network, x), bounds_of(network, x), strict=True):
        w = layer.weight.to_dense()
        total = np.zeros((len(x), len(w)), np.float32)
        for column in ORDERS[order](w):
            total += values[:, column : column + 1] * w[:, column]
        values = total + layer.bias
        values = np.maximum(values, 0) if layer.neuron == Relu() else values
        assert (np.abs(values - exact) <= bound).all()
    assert values.dtype == np.float32


def test_every_form_of_weights_has_a_bound() -> None:
    rng = np.random.default_rng(1)
    w = rng.normal(0, 1, (6, 8)).astype(np.float32)
    low = LowRank(rng.normal(0, 1, (6, 2)).astype(np.float32), rng.normal(0, 1, (2, 8)).astype(np.float32))
    x = rng.random((4, 8), np.float32)
    found = {}
    for name, operator in {
        "dense": Dense(w),
        "sparse": Sparse.from_dense(w),
        "low": low,
        "sum": Sum(low, Dense(w)),
    }.items():
        network = Network((Layer(operator, np.ones(6, np.float32), Identity()),))
        (found[name],) = bounds_of(network, x)
        layers = reference.trace(network, x, np.float32)
        half = error_bounds(network, x, layers, is_float16=True)[0]
        assert found[name].shape == (4, 6) and (found[name] > 0).all() and (half > 100 * found[name]).all()
        error = np.abs(layers[0] - reference.run(network, x))
        assert (error <= found[name]).all()
    np.testing.assert_array_equal(found["dense"], found["sparse"])


@pytest.mark.parametrize("coding", ["direct", "spikes"])
@pytest.mark.parametrize("readout", ["mean_membrane", "last_membrane"])
def test_a_spiking_readout_has_a_bound(coding: str, readout: str) -> None:
    rng = np.random.default_rng(2)
    w = rng.normal(0, 1, (3, 200)).astype(np.float32)
    network = Network(
        (Layer(Dense(w), np.ones(3, np.float32), LeakyIntegrator(0.9)),), 12, input_coding=coding, readout=readout
    )
    x = verification_inputs(network)
    layers = reference.trace(network, x, np.float32)
    (bound,) = error_bounds(network, x, layers, is_float16=False)
    assert (np.abs(layers[0] - reference.run(network, x)) <= bound).all()
    assert 0 < bound.max() < 1e-2 * layers[0].std()


# --- outputs that depend on nothing --------------------------------------------------------------

DEAD = np.full((4, 5), -1, np.float32)
LAST = np.arange(8, dtype=np.float32).reshape(2, 4)


@pytest.mark.parametrize(
    ("network", "layer"),
    {
        "dead ReLUs": (Network((Layer(Dense(DEAD), None, Relu()), Layer(Dense(LAST), LAST[:, 1], Identity()))), 0),
        "underflow": (
            Network((Layer(Dense(DEAD * 1e-30), None, Identity()), Layer(Dense(LAST * 1e-30), None, Relu()))), 1
        ),
        "bias alone": (Network((Layer(Dense(DEAD * 1e-9), np.full(4, 100, np.float32), Identity()),)), 0),
        "no spike": (
            Network((Layer(Dense(DEAD), None, Lif(0.9, 1.0)), Layer(Dense(LAST), None, LeakyIntegrator(0.9))), 4), 0
        ),
    }.values(),
    ids=["dead ReLUs", "underflow", "bias alone", "no spike"],
)  # fmt: skip
def test_a_constant_output_is_reported(network: Network, layer: int, sen_edge: Run, tmp_path: Path) -> None:
    path = tmp_path / "net.sen"
    path.write_bytes(image.dumps(network))
    told = json.loads(sen_edge("inspect", path, "--json").out)["warnings"]
    assert len(told) == 1 and "constant" in told[0] and f"layer {layer}" in told[0]
    assert told[0] in " ".join(sen_edge("inspect", path).out.split())
    exported = sen_edge("export", path, "--to", "sen", "-o", tmp_path / "out", "--json")
    assert exported.code == 0 and json.loads(exported.out)["warnings"] == told
    assert "warning: " in sen_edge("export", path, "--to", "sen", "-o", tmp_path / "out2").err
    checked = sen_edge("verify", tmp_path / "out/net.sen", "--against", path, "--json")
    assert checked.code == 0 and json.loads(checked.out)[0]["warnings"] == told and "warning" in checked.err


@pytest.mark.parametrize("config", [MLP, SNN], ids=["mlp", "snn"])
def test_other_outputs_are_not(config: object, sen_edge: Run, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(replace(config, spiking=config.spiking and replace(config.spiking, threshold=0.1)))
    checkpoints.save(checkpoint, tmp_path / "a.pt")
    assert json.loads(sen_edge("inspect", tmp_path / "a.pt", "--json").out)["warnings"] == []


def test_equal_inputs_tell_nothing() -> None:
    network = Network((Layer(Dense(LAST), None, Identity()),))
    x = np.ones((3, 4), np.float32)
    assert constant_output(network, x, reference.trace(network, x)) is None


# --- standardization -----------------------------------------------------------------------------


@pytest.mark.parametrize("is_folded", [False, True], ids=["standardized", "folded"])
def test_standardized_inputs_and_restored_outputs_keep_the_bound(is_folded: bool) -> None:
    """Also with the means in the bias, where they cancel."""
    rng = np.random.default_rng(3)
    mean, std = rng.normal(0, 1e4, 30).astype(np.float32), rng.uniform(0.5, 2, 30).astype(np.float32)
    w = rng.normal(0, 1, (4, 30)).astype(np.float32)
    scaling, restored = Standardization(mean, std), Standardization(mean[:4], std[:4])
    network = Network(
        (Layer(Dense(w), np.ones(4, np.float32), Identity()),),
        metadata={"input_range": "-1e6 1e6"},
        input_scaling=scaling,
        output_scaling=restored,
    )
    x = verification_inputs(network)
    actual = reference.run(network, x, np.float32)
    if is_folded:
        folded = w * scaling.inverse
        bias = (1 - folded.astype(np.float64) @ mean).astype(np.float32)
        actual = restored.restore(x @ folded.T + bias)
    (bound,) = error_bounds(network, x, reference.trace(network, x, np.float32), is_float16=False)
    assert (np.abs(actual - reference.run(network, x)) <= bound).all()
    assert bound.max() < 0.1 * std.max() * np.sqrt(30)
