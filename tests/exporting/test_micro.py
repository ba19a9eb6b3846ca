"""Exports for TFLite Micro: equalized and verified, or refused where one scale per matrix is too coarse."""

from pathlib import Path

import numpy as np
import pytest

import sen_edge
from sen_edge.errors import UsageError, VerificationError
from sen_edge.model.model import Model
from sen_exporters.base import ExportError
from sen_exporters.tflite.exporter import TfliteExporter
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif, Relu
from sen_runtime.ir.operators import Dense

MICRO = {"tflite_target": "micro"}


def draw(hidden: np.ndarray, outputs: np.ndarray, *, spiking: bool = False, task: str = "classification") -> Model:
    """40-60-5, whose hidden and output rows have these scales."""
    rng = np.random.default_rng(0)
    first = rng.normal(size=(60, 40)) * 40**-0.5 * hidden[:, None]
    second = rng.normal(size=(5, 60)) * 60**-0.5 * outputs[:, None] / (1 if spiking else hidden)
    neurons = (Lif(0.9, 0.3), LeakyIntegrator(0.9)) if spiking else (Relu(), Identity())
    weights = (Dense(first.astype(np.float32)), Dense(second.astype(np.float32)))
    layers = tuple(Layer(weight, None, neuron) for weight, neuron in zip(weights, neurons, strict=True))
    return Model(Network(layers, 6 if spiking else 0, metadata={"task": task}), "00")


@pytest.fixture
def calibration(tmp_path: Path) -> str:
    path = tmp_path / "calibration.npz"
    np.savez(path, x=np.random.default_rng(1).random((512, 40), np.float32))
    return str(path)


UNEQUAL = 2.0 ** np.random.default_rng(2).uniform(-4, 4, 60)
EVEN = np.ones(5)


@pytest.mark.parametrize(("spiking", "snn"), [(False, "unrolled"), (True, "unrolled"), (True, "step")])
def test_unequal_hidden_rows_are_no_obstacle(spiking: bool, snn: str, calibration: str, tmp_path: Path) -> None:
    model, request = draw(UNEQUAL, EVEN, spiking=spiking), {"dtype": "int8", "calibration": calibration, "snn": snn}
    result = sen_edge.export(model, tmp_path, to="tflite", options=MICRO, **request)
    for each in result.verification:
        assert each.passed
        assert spiking or each.layer_errors[0] < 1  # hidden activations are compared in the scales of the model
    properties = TfliteExporter().properties((tmp_path / "model.tflite").read_bytes())
    assert (properties["tflite_target"], properties["dtype"]) == ("micro", "int8")
    assert ("hidden_activations" in properties) != spiking


def test_unequal_output_rows_are_refused_with_figures(calibration: str, tmp_path: Path) -> None:
    model = draw(UNEQUAL, 2.0 ** -np.arange(0, 15, 3), task="multilabel")
    with pytest.raises(VerificationError) as raised:
        sen_edge.export(model, tmp_path, to="tflite", dtype="int8", calibration=calibration, options=MICRO)
    assert "--tflite-target" in raised.value.hint
    assert all(each.decision_agreement < each.tolerance.decisions for each in raised.value.results)
    assert not list(tmp_path.glob("*.tflite"))


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8-dynamic"])
def test_other_dtypes_are_refused(dtype: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="int8"):
        sen_edge.export(draw(UNEQUAL, EVEN), tmp_path, to="tflite", dtype=dtype, options=MICRO)


def test_int8_needs_calibration(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="calibration"):
        sen_edge.export(draw(UNEQUAL, EVEN), tmp_path, to="tflite", dtype="int8", options=MICRO)
