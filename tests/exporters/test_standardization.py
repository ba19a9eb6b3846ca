"""Standardized inputs, restored outputs and output activations in ONNX and TFLite graphs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest

from sen_edge.passes.quantize import to_float16, to_int8, to_int8_weights
from sen_exporters.base import ExportError
from sen_exporters.onnx.exporter import OnnxExporter
from sen_exporters.onnx.graph import MAX_OPSET, MIN_OPSET
from sen_exporters.tflite.exporter import TfliteExporter
from sen_runtime import reference
from sen_runtime.engines import litert, onnxruntime, tflite_runtime
from sen_runtime.ir.checks import Array
from sen_runtime.ir.network import Network
from sen_runtime.ir.standardization import Standardization
from tests.support.networks import random_network

ACTIVATIONS = ("none", "softmax", "sigmoid")
ONNX, TFLITE = OnnxExporter(), TfliteExporter()
INTERPRETERS = (litert.ENGINE, tflite_runtime.ENGINE)


def scaling(rng: np.random.Generator, size: int) -> Standardization:
    """Scales that differ by orders of magnitude."""
    std = 10 ** rng.uniform(-2, 3, size)
    return Standardization((std * rng.normal(0, 2, size)).astype(np.float32), std.astype(np.float32))


def scaled_network(seed: int, activation: str = "none", **options: Any) -> Network:
    """5-9-4, standardized and restored."""
    rng = np.random.default_rng(seed)
    network = random_network(rng, sizes=(5, 9, 4), **options)
    restored = Standardization(rng.normal(0, 0.5, 4).astype(np.float32), rng.uniform(0.5, 2, 4).astype(np.float32))
    return replace(network, input_scaling=scaling(rng, 5), output_scaling=restored, output_activation=activation)


def raw_inputs(network: Network, seed: int = 0, batch: int = 40) -> Array:
    """Inputs `[batch, n_in]` around the mean of each feature."""
    assert network.input_scaling is not None
    z = np.random.default_rng(seed).normal(size=(batch, network.n_in))
    return network.input_scaling.restore(z).astype(np.float32)


def assert_agrees(actual: Array, expected: Array, tolerance: float = 1e-5, share: float = 1.0) -> None:
    """`share` of the inputs have outputs within `tolerance` standard deviations."""
    assert actual.shape == expected.shape
    error = np.abs(actual - expected).max(axis=1)
    assert np.mean(error <= tolerance * expected.std()) >= share, error.max()


def export_onnx(network: Network, **options: Any) -> bytes:
    return ONNX.export(network, ONNX.Options(**options)).main


def export_tflite(network: Network, **options: Any) -> bytes:
    return TFLITE.export(network, TFLITE.Options(**options)).main


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", ["dense", "coordinates", "low_rank"])
def test_onnx_perceptrons(kind: str, activation: str) -> None:
    network = scaled_network(0, activation, kinds=(kind,))
    x = raw_inputs(network)
    assert_agrees(onnxruntime.load(export_onnx(network)).run(x), reference.run(network, x))


@pytest.mark.parametrize("opset", range(MIN_OPSET, MAX_OPSET + 1))
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_onnx_operator_sets(opset: int, activation: str) -> None:
    network = scaled_network(1, activation)
    x = raw_inputs(network)
    assert_agrees(onnxruntime.load(export_onnx(network, opset=opset)).run(x), reference.run(network, x))


@pytest.mark.parametrize("quantize", [to_float16, to_int8_weights])
def test_onnx_stored_types(quantize: Any) -> None:
    network = quantize(scaled_network(2, "softmax", kinds=("dense", "sparse")))
    x = raw_inputs(network)
    assert_agrees(onnxruntime.load(export_onnx(network)).run(x), reference.run(network, x))


@pytest.mark.parametrize("readout", ["mean_membrane", "last_membrane", "spike_count"])
@pytest.mark.parametrize(
    ("target", "form"),
    [("onnx", "unrolled"), ("onnx", "scan"), ("onnx", "step"), ("tflite", "unrolled"), ("tflite", "step")],
)
def test_forms_of_spiking_networks(target: str, readout: str, form: str) -> None:
    network = scaled_network(3, spiking=True, readout=readout, kinds=("dense",))
    if readout == "spike_count" and form == "step":  # restoration does not distribute over a sum
        with pytest.raises(ExportError):
            (export_onnx if target == "onnx" else export_tflite)(network, snn=form)
        return
    x = raw_inputs(network)
    expected = reference.run(network, x)
    model = export_onnx(network, snn=form) if target == "onnx" else export_tflite(network, snn=form)
    for engine in (onnxruntime,) if target == "onnx" else INTERPRETERS:
        assert_agrees(engine.load(model).run(x), expected, 1e-4, share=0.9)


@pytest.mark.parametrize("target", [ONNX, TFLITE])
def test_a_step_has_probabilities_of_the_last_membrane_only(target: Any) -> None:
    network = replace(scaled_network(4, "softmax", spiking=True, kinds=("dense",)), readout="last_membrane")
    x = raw_inputs(network)
    model = target.export(network, target.Options(snn="step")).main
    engine = onnxruntime if target is ONNX else litert.ENGINE
    assert_agrees(engine.load(model).run(x), reference.run(network, x), 1e-4, share=0.9)
    with pytest.raises(ExportError) as caught:
        target.export(replace(network, readout="mean_membrane"), target.Options(snn="step"))
    assert "probabilities" in caught.value.hint


def test_onnx_values_have_readable_names() -> None:
    graph = onnx.load_from_string(export_onnx(scaled_network(0, "softmax"))).graph
    found = {name for node in graph.node for name in node.output} | {array.name for array in graph.initializer}
    assert {"input/mean", "input/inverse_std", "input/standardized", "output/std", "output/mean"} <= found
    assert {"output/standardized", "output/logits", "output"} <= found
    batch = graph.output[0].type.tensor_type.shape.dim[0].dim_param
    assert batch == "batch"


@pytest.mark.parametrize("batch_size", [None, 3])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("engine", INTERPRETERS, ids=lambda engine: engine.name)
def test_tflite_perceptrons(engine: Any, activation: str, batch_size: int | None) -> None:
    network = scaled_network(5, activation, kinds=("dense", "sparse", "low_rank"))
    x = raw_inputs(network, batch=3)
    assert_agrees(engine.load(export_tflite(network, batch_size=batch_size)).run(x), reference.run(network, x))


@pytest.mark.parametrize("engine", INTERPRETERS, ids=lambda engine: engine.name)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_tflite_stored_types(engine: Any, activation: str) -> None:
    network = scaled_network(6, activation, kinds=("dense",))
    x = raw_inputs(network, batch=200)
    half, dynamic, whole = to_float16(network), to_int8_weights(network), to_int8(network, x)
    assert_agrees(engine.load(export_tflite(half)).run(x), reference.run(half, x))
    assert_agrees(engine.load(export_tflite(dynamic)).run(x), reference.run(dynamic, x), 0.05)
    assert_agrees(engine.load(export_tflite(whole)).run(x), reference.run(whole, x), 0.05)


@pytest.mark.parametrize("engine", INTERPRETERS, ids=lambda engine: engine.name)
@pytest.mark.parametrize("readout", ["mean_membrane", "spike_count"])
def test_tflite_int8_spiking_networks(engine: Any, readout: str) -> None:
    network = scaled_network(7, "softmax", spiking=True, readout=readout, kinds=("dense",))
    x = raw_inputs(network, batch=200)
    quantized = to_int8(network, x)
    assert_agrees(engine.load(export_tflite(quantized)).run(x), reference.run(quantized, x), 0.3, share=0.9)


@pytest.mark.parametrize("kept", [{"input_scaling"}, {"output_scaling"}, {"output_activation"}])
def test_int8_borders_have_no_float_operators(kept: set[str]) -> None:
    network = scaled_network(8, "softmax", kinds=("dense",))
    quantized = to_int8(network, raw_inputs(network))
    plain = {"input_scaling": None, "output_scaling": None, "output_activation": "none"}
    with pytest.raises(ExportError) as caught:
        changed = replace(quantized, **{name: value for name, value in plain.items() if name not in kept})
        TFLITE.check(changed, TFLITE.Options(int8_io=True))
    assert caught.value.hint
