"""Parity of torch, reference, image round trip and ONNX, for random shapes and operators."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sen_edge.exporting.verify.verification import Comparison, verify
from sen_edge.model import checkpoint as checkpoints
from sen_edge.model.config import SpatialConfig, SpikingConfig
from sen_edge.model.layers import SpatialNetwork
from sen_edge.passes.materialize import materialize
from sen_edge.passes.quantize import to_float16
from sen_exporters.base import exporter
from sen_exporters.onnx.exporter import OnnxExporter
from sen_runtime import format as image
from sen_runtime import reference
from sen_runtime.engines import onnxruntime
from sen_runtime.errors import NetworkError
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, Lif, Relu
from sen_runtime.ir.operators import Dense, LowRank, Sparse, Sum, WeightOperator
from tests.conftest import make_model
from tests.support.networks import KINDS, random_input, random_network, random_operator, read_out


def torch_product(operator: WeightOperator, x: torch.Tensor) -> torch.Tensor:
    if isinstance(operator, Sum):
        return torch_product(operator.a, x) + torch_product(operator.b, x)
    if isinstance(operator, LowRank):
        return x @ torch.from_numpy(operator.right).T @ torch.from_numpy(operator.left).T
    return x @ torch.from_numpy(operator.to_dense()).T


def torch_run(network: Network, x: np.ndarray) -> np.ndarray:
    """The equations in torch, float32, for any operator."""
    if not network.is_spiking:
        value = torch.from_numpy(x)
        for layer in network.layers:
            value = torch_product(layer.weight, value)
            value = value if layer.bias is None else value + torch.from_numpy(layer.bias)
            value = torch.relu(value) if isinstance(layer.neuron, Relu) else value
        return value.numpy()
    membranes = [torch.zeros(len(x), layer.weight.shape[0]) for layer in network.layers]
    spikes = [torch.zeros_like(u) for u in membranes]
    outputs = []
    for t in range(network.timesteps):
        value = torch.from_numpy(x[:, t] if network.input_coding == "spikes" else x)
        for i, layer in enumerate(network.layers):
            value = torch_product(layer.weight, value)
            value = value if layer.bias is None else value + torch.from_numpy(layer.bias)
            keep = 1 - spikes[i] if getattr(layer.neuron, "reset", "") == "zero" else 1
            membranes[i] = layer.neuron.beta * membranes[i] * keep + value
            if isinstance(layer.neuron, Lif):
                if layer.neuron.reset == "subtract":
                    decay = 1 if layer.neuron.reset_delay else layer.neuron.beta
                    membranes[i] = membranes[i] - decay * layer.neuron.threshold * spikes[i]
                spikes[i] = (membranes[i] > layer.neuron.threshold).float()
            value = spikes[i] if isinstance(layer.neuron, Lif) else membranes[i]
        outputs.append(value)
    return read_out(network, torch.stack(outputs).numpy())


def agree(actual: np.ndarray, expected: np.ndarray, *, spiking: bool) -> None:
    """Within float32 rounding; of a spiking network all but a tenth of the inputs, whose spikes may flip."""
    error = np.abs(actual - expected).max(axis=1)
    close = error <= 1e-4 * max(float(np.abs(expected).max()), 1e-3)
    assert close.mean() >= (0.9 if spiking else 1.0), error.max()


@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(KINDS))
@settings(max_examples=60, deadline=None)
def test_perceptrons(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    network = random_network(rng, kinds=(kind, "dense"))
    x = random_input(rng, network, 5)
    expected = reference.run(network, x)
    agree(torch_run(network, x), expected, spiking=False)
    restored = image.loads(image.dumps(network))
    np.testing.assert_array_equal(reference.run(restored, x), expected)
    agree(reference.run(materialize(network), x), expected, spiking=False)
    for sparse_format in ("densify", "dense"):
        model = OnnxExporter().export(network, OnnxExporter.Options(sparse_format=sparse_format)).main
        agree(onnxruntime.load(model).run(x), expected, spiking=False)


@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(KINDS),
    readout=st.sampled_from(["mean_membrane", "last_membrane", "spike_count"]),
    reset=st.sampled_from(["subtract", "zero"]),
    delay=st.booleans(),
    coding=st.sampled_from(["direct", "spikes"]),
    form=st.sampled_from(["unrolled", "scan", "step"]),
)
@settings(max_examples=60, deadline=None)
def test_spiking_networks(seed: int, kind: str, readout: str, reset: str, delay: bool, coding: str, form: str) -> None:
    rng = np.random.default_rng(seed)
    network = random_network(
        rng,
        spiking=True,
        kinds=(kind, "dense"),
        readout=readout,
        reset=reset,
        reset_delay=delay,
        input_coding=coding,
    )
    x = random_input(rng, network, 20)
    expected = reference.run(network, x)
    agree(torch_run(network, x), expected, spiking=True)
    np.testing.assert_array_equal(reference.run(image.loads(image.dumps(network)), x), expected)
    model = OnnxExporter().export(network, OnnxExporter.Options(snn=form)).main
    agree(onnxruntime.load(model).run(x), expected, spiking=True)


@pytest.mark.slow
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(1, 30), min_size=2, max_size=4),
    d=st.integers(2, 12),
    axis=st.sampled_from(["fixed", "free"]),
    exponent=st.sampled_from([1.0, 2.0]),
    timesteps=st.sampled_from([0, 1, 6]),
    weights=st.sampled_from(["dense", "coordinates"]),
    target=st.sampled_from(["c", "onnx", "sen", "tflite"]),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_checkpoints_of_any_shape_verify(
    seed: int, sizes: list[int], d: int, axis: str, exponent: float, timesteps: int, weights: str, target: str
) -> None:
    """The whole line, from the torch module to the engine."""
    config = SpatialConfig(
        tuple(sizes),
        dimensions=d,
        layer_axis=axis,
        exponent=exponent,
        spiking=SpikingConfig(timesteps) if timesteps else None,
    )
    module = SpatialNetwork(config)
    module.reset_parameters(seed % 2**31, position_scale=1.0)
    checkpoint = checkpoints.from_module(module)
    network = checkpoints.to_network(checkpoint)
    network = materialize(network) if weights == "dense" or target == "tflite" else network
    artifact = exporter(target).export(network, exporter(target).Options())
    with TemporaryDirectory() as folder:
        results = verify(Comparison(make_model(checkpoint)), artifact.write(Path(folder)), exporter(target))
    for result in results:
        if not timesteps:
            assert result.passed, result.failures
        assert np.isfinite(result.max_abs_error)


@pytest.mark.parametrize("kind", KINDS)
def test_float16_rounds_every_operator_once(kind: str) -> None:
    rng = np.random.default_rng(0)
    operator = random_operator(rng, 12, 9, kind)
    network = Network((Layer(operator, None, Identity()),))
    half = to_float16(network)
    assert half.nbytes < network.nbytes
    np.testing.assert_allclose(half.layers[0].weight.to_dense(), operator.to_dense(), rtol=5e-3, atol=2e-3)
    restored = image.loads(image.dumps(half))
    np.testing.assert_array_equal(restored.layers[0].weight.to_dense(), half.layers[0].weight.to_dense())


@pytest.mark.parametrize(
    "operator",
    [
        Dense(np.array([[70000.0]], np.float32)),
        Sparse.from_dense(np.array([[70000.0]], np.float32)),
        LowRank(np.array([[70000.0]], np.float32), np.ones((1, 1), np.float32)),
    ],
    ids=lambda operator: type(operator).__name__,
)
def test_what_float16_cannot_hold_is_refused(operator: WeightOperator) -> None:
    with pytest.raises(NetworkError, match=r"layer 0.*\b70000\b.*float16"):
        to_float16(Network((Layer(operator, None, Identity()),)))
