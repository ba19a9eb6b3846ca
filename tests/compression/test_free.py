"""Networks with free weights in torch: parity with the reference, round trip."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from sen_edge.model.free import FreeNetwork
from sen_edge.passes.materialize import materialize
from sen_edge.passes.quantize import to_int8_weights
from sen_runtime import reference
from sen_runtime.errors import NetworkError
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity
from sen_runtime.ir.operators import Dense, Sparse, Sum, WeightOperator, leaves
from tests.support.networks import random_input, random_network, random_operator

RNG = np.random.default_rng
KINDS = ("dense", "sparse", "blocks", "low_rank", "sum", "nested_sum")
TIMES = [
    pytest.param({}, id="perceptron"),
    *(
        pytest.param(
            {"spiking": True, "readout": r, "input_coding": c, "reset": z, "reset_delay": d}, id=f"{r}-{c}-{z}-{d}"
        )
        for r in ("mean_membrane", "last_membrane", "spike_count")
        for c in ("direct", "spikes")
        for z, d in (("subtract", True), ("subtract", False), ("zero", True))
    ),
]


def same(a: WeightOperator, b: WeightOperator) -> bool:
    """The same form with the same bits."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Sum) and isinstance(b, Sum):
        return same(a.a, b.a) and same(a.b, b.b)
    pairs = [(getattr(a, field.name), getattr(b, field.name)) for field in fields(a)]
    return all(np.array_equal(x, y) if isinstance(x, np.ndarray) else x == y for x, y in pairs)


def one_layer(kind: str, bias: bool, seed: int = 0) -> Network:
    rng = RNG(seed)
    values = rng.normal(size=7).astype(np.float32) if bias else None
    return Network((Layer(random_operator(rng, 7, 9, kind), values, Identity()),))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [True, False])
def test_every_form_multiplies_as_it_is_stored(kind: str, bias: bool) -> None:
    network = one_layer(kind, bias)
    module, x = FreeNetwork(network), RNG(1).normal(size=(4, 9)).astype(np.float32)
    with torch.no_grad():
        found = module(torch.from_numpy(x)).numpy()
    assert np.allclose(found, reference.run(network, x), atol=1e-5)
    assert sum(layer.bias is not None for layer in module.free_layers) == bias
    again = module.to_network().layers[0]
    assert same(again.weight, network.layers[0].weight)
    assert (again.bias is None) == (not bias) and (not bias or np.array_equal(again.bias, network.layers[0].bias))


@pytest.mark.parametrize("options", TIMES)
@pytest.mark.parametrize("seed", range(3))
def test_traces_are_the_references(options: dict, seed: int) -> None:
    rng = RNG(seed)
    network = random_network(rng, kinds=KINDS, sizes=(8, 11, 7, 4), metadata={"note": "kept"}, **options)
    x = random_input(rng, network, 6)
    module = FreeNetwork(network)
    with torch.no_grad():
        found = module.trace(torch.from_numpy(x))
    expected = reference.trace(network, x)
    assert len(found) == len(expected) == 3
    for actual, exact in zip(found, expected, strict=True):
        assert np.allclose(actual.numpy(), exact, atol=1e-4)
    assert network.is_spiking is False or any(np.any(each > 0) for each in expected[:-1])  # there were spikes
    again = module.to_network()
    assert all(same(a.weight, b.weight) for a, b in zip(again.layers, network.layers, strict=True))
    for name in ("timesteps", "input_coding", "readout", "metadata"):
        assert getattr(again, name) == getattr(network, name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_of_training_changes_weights_and_no_zeros(kind: str) -> None:
    network = one_layer(kind, True)
    module = FreeNetwork(network)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    module(torch.ones(3, 9)).square().sum().backward()
    optimizer.step()
    after = module.to_network().layers[0]
    for before, now in zip(leaves(network.layers[0].weight), leaves(after.weight), strict=True):
        assert now.nbytes == before.nbytes and not np.array_equal(now.to_dense(), before.to_dense())
        if isinstance(before, Sparse) and isinstance(now, Sparse):
            assert np.array_equal(now.columns, before.columns) and now.block == before.block
    assert not np.array_equal(after.bias, network.layers[0].bias)
    x = RNG(1).normal(size=(4, 9)).astype(np.float32)
    with torch.no_grad():
        assert np.allclose(module(torch.from_numpy(x)), reference.run(module.to_network(), x), atol=1e-4)


def test_stored_zeros_inside_a_block_are_trained() -> None:
    w = np.zeros((4, 8), np.float32)
    w[0, 0] = 1
    network = Network((Layer(Sparse.from_dense(w, (1, 4)), None, Identity()),))
    module = FreeNetwork(network)
    module(torch.ones(1, 8)).sum().backward()
    (gradient,) = [parameter.grad for parameter in module.parameters()]
    assert gradient is not None and gradient.numpy().tolist() == [[1.0] * 4 + [0.0] * 4] + [[0.0] * 8] * 3


def test_training_leaves_the_network_it_began_with_alone() -> None:
    network = one_layer("dense", True)
    weight, bias = network.layers[0].weight.to_dense().copy(), network.layers[0].bias.copy()
    module = FreeNetwork(network)
    stored = module.to_network()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(7)
    for each in (network, stored):
        assert np.array_equal(each.layers[0].weight.to_dense(), weight)
        assert np.array_equal(each.layers[0].bias, bias)


def test_half_precision_is_trained_in_single() -> None:
    network = random_network(RNG(0), kinds=("dense",), sizes=(6, 5, 3), dtype=np.float16)
    x = random_input(RNG(1), network)
    stored = FreeNetwork(network).to_network()
    assert all(isinstance(layer.weight, Dense) and layer.weight.w.dtype == np.float32 for layer in stored.layers)
    assert np.array_equal(reference.run(stored, x), reference.run(network, x))


@pytest.mark.parametrize("kind", ["dense", "sparse", "low_rank", "sum"])
def test_eight_bits_are_refused(kind: str) -> None:
    quantized = to_int8_weights(one_layer(kind, True))
    with pytest.raises(NetworkError, match="parameters") as caught:
        FreeNetwork(quantized)
    assert "quantization" in caught.value.hint


def test_coordinates_are_refused_until_they_are_written_out() -> None:
    network = one_layer("coordinates", False)
    with pytest.raises(NetworkError, match="Coordinates"):
        FreeNetwork(network)
    FreeNetwork(materialize(network))
