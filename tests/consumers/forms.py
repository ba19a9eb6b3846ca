"""Forms of exported files, with inputs, and the outputs that every tool must give."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

import sen_edge
from sen_edge.model.model import Model
from sen_runtime import reference
from sen_runtime.ir.delays import ConstantDelay, StoredDelay
from sen_runtime.ir.layer import Recurrence
from sen_runtime.ir.operators import Dense
from sen_runtime.ir.standardization import Standardization

SIZES, STEPS, ROWS = (64, 48, 10), 8, 16
#: Max error of a right output, over the mean standard deviation of an output: float32; int8 activations, some
#: of which a library rounds to another step; spikes that differ for it. Wrong outputs are off by 3 and more.
FLOAT_LIMIT, INT8_LIMIT, INT8_SPIKING_LIMIT = 1e-4, 0.1, 0.3


@dataclass(frozen=True)
class Form:
    """One way to export a network.

    Attributes:
        name: in the table.
        target: "onnx" or "tflite".
        model: draws the network.
        options: of `sen_edge.export`; `options` are those of the exporter.
        dtype: of the weights; a model that is quantized already is exported as it is.
        limit: max error of a right output, over the mean standard deviation of an output.
        batch_size: of the file, or None for that of the tool.
    """

    name: str
    target: str
    model: Callable[[], Model]
    options: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    limit: float = FLOAT_LIMIT
    batch_size: int | None = None

    def export(self, folder: Path, batch_size: int | None) -> tuple[Path, np.ndarray]:
        """Write the file as a user would; returns its path, and the outputs for `inputs()` in float64.

        Those are the outputs of the exported network, with its weights as rounded, pruned or factorized.
        """
        model, options = self.model(), dict(self.options)
        if batch_size is not None:
            options["batch_size"] = batch_size
        name = f"{self.target}-{re.sub(r'[^a-z0-9]+', '-', self.name.lower())}-{batch_size or 'any'}"
        path = folder / f"{name}.{self.target}"
        if model.quantization is not None:
            sen_edge.export(model, folder, to=self.target, name=name, force=True, **options)
            return path, reference.run(model.network, inputs())
        if self.dtype.startswith("int8"):
            options["calibration"] = _calibration(folder)
        sen_edge.export(model, folder, to=(self.target, "sen"), name=name, force=True, dtype=self.dtype, **options)
        return path, reference.run(sen_edge.load(folder / f"{name}.sen").network, inputs())


@cache
def inputs() -> np.ndarray:
    """Inputs of every form, `[ROWS, 64]`."""
    return np.random.default_rng(1).uniform(0, 1, (ROWS, SIZES[0])).astype(np.float32)


def _calibration(folder: Path) -> str:
    path = folder / "calibration.npz"
    np.savez(path, x=np.random.default_rng(2).uniform(0, 1, (256, SIZES[0])).astype(np.float32))
    return str(path)


def _draw(shift: float = 0.0, task: str = "regression", **config: Any) -> Model:
    """Clouds on parallel planes, `shift` away from the origin; rows of the weights differ in scale."""
    rng = np.random.default_rng(0)
    clouds = [rng.normal(0, 1, (size, 3)) * np.exp(rng.normal(0, 1, (size, 1))) for size in SIZES]
    for index, cloud in enumerate(clouds):
        cloud[:, -1] = index
    return sen_edge.build(
        [(cloud + shift).astype(np.float32) for cloud in clouds],
        [rng.normal(0, 2, n).astype(np.float32) for n in SIZES[:-1]],
        bias=[rng.normal(0, 0.3, n).astype(np.float32) for n in SIZES[1:]],
        task=task,
        **config,
    )


@cache
def _quantized(draw: Callable[[], Model]) -> Model:
    """int8 with one scale per matrix, and so a threshold per spiking neuron, which a `.sen` image cannot store."""
    with tempfile.TemporaryDirectory() as folder:
        return sen_edge.quantize(draw(), "int8", calibration=_calibration(Path(folder)), granularity="tensor")


def _standardized() -> Model:
    model = _draw(input_range=(-10, 10))
    rng = np.random.default_rng(3)
    mean, std = rng.uniform(0.4, 0.6, SIZES[0]), rng.uniform(0.2, 0.4, SIZES[0])
    scaling = Standardization(mean.astype(np.float32), std.astype(np.float32))
    return model.derive(replace(model.network, input_scaling=scaling))


def _delayed() -> Model:
    """Delays of single synapses, recurrent synapses and synaptic currents."""
    model, rng = SNN(), np.random.default_rng(4)
    hidden, readout = model.network.layers
    n, n_in = hidden.weight.shape
    recurrent = Recurrence(Dense(rng.normal(0, 0.3, (n, n)).astype(np.float32)), _stored(rng, n, n, 1))
    hidden = replace(hidden, delay=_stored(rng, n, n_in, 0), recurrent=recurrent, synapse=0.5)
    readout = replace(readout, delay=ConstantDelay(1), synapse=0.5)
    return model.derive(replace(model.network, layers=(hidden, readout)))


def _stored(rng: np.random.Generator, n_out: int, n_in: int, shortest: int) -> StoredDelay:
    return StoredDelay(rng.integers(shortest, 5, (n_out, n_in)).astype(np.uint8))


@cache
def _pruned(pattern: str) -> Model:
    with tempfile.TemporaryDirectory() as folder:
        calibration = _calibration(Path(folder))
        return sen_edge.compress(_draw(), sparsity=0.9, pattern=pattern, scope="layer", calibration=calibration).model


SPIKING = {"timesteps": STEPS, "beta": 0.9, "threshold": 2.0, "reset_delay": True}
MLP, SNN, SHIFTED = _draw, partial(_draw, spiking=SPIKING), partial(_draw, 100.0)
SPARSE, BLOCKS = partial(_pruned, "unstructured"), partial(_pruned, "1x4")

#: Of both targets.
COMMON: tuple[tuple[str, Callable[[], Model], Mapping[str, Any]], ...] = (
    ("dense", MLP, {}),
    ("low rank", MLP, {"rank": 8}),
    ("sparse 90 %", SPARSE, {}),
    ("blocks 1x4", BLOCKS, {}),
    ("blocks 16x1", partial(_pruned, "16x1"), {}),
    ("standardized inputs", _standardized, {"preprocess": "node"}),
    ("probabilities", partial(_draw, task="classification"), {"probabilities": True}),
    ("spiking, unrolled", SNN, {}),
    ("spiking, step", SNN, {"snn": "step"}),
    ("delays, unrolled", _delayed, {}),
    ("delays, step", _delayed, {"snn": "step"}),
)
MICRO_SNN = partial(_quantized, SNN)
INT8_IO = {"options": {"int8_io": True}}
MICRO = {"options": {"tflite_target": "micro"}}

FORMS = (
    *[Form(name, "onnx", model, options) for name, model, options in COMMON],
    Form("dense, batch 1", "onnx", MLP, batch_size=1),
    Form("float16", "onnx", MLP, dtype="float16"),
    Form("int8-dynamic", "onnx", MLP, dtype="int8-dynamic"),
    Form("spiking, scan", "onnx", SNN, {"snn": "scan"}),
    Form("delays, scan", "onnx", _delayed, {"snn": "scan"}),
    Form("coordinates", "onnx", MLP, {"weights": "coordinates"}),
    Form("coordinates, shifted by 100", "onnx", SHIFTED, {"weights": "coordinates"}),
    *[Form(name, "tflite", model, options) for name, model, options in COMMON],
    Form("dense, batch 1", "tflite", MLP, batch_size=1),
    Form("float16", "tflite", MLP, dtype="float16"),
    Form("blocks 1x4, block format", "tflite", BLOCKS, {"options": {"sparse_format": "block"}}),
    Form("int8-dynamic", "tflite", MLP, {}, "int8-dynamic", INT8_LIMIT),
    *[
        Form(
            name,
            "tflite",
            model,
            options,
            "int8",
            INT8_SPIKING_LIMIT if "spiking" in name else INT8_LIMIT,
            batch_size=1 if "micro" in name else None,
        )
        for name, model, options in (
            ("int8", MLP, {}),
            ("int8, int8 I/O", MLP, INT8_IO),
            ("int8 low rank, int8 I/O", MLP, {**INT8_IO, "rank": 8}),
            ("int8 sparse, int8 I/O", SPARSE, INT8_IO),
            ("int8 spiking, unrolled, int8 I/O", SNN, INT8_IO),
            ("micro", MLP, MICRO),
            ("micro, low rank", MLP, {**MICRO, "rank": 8}),
            ("micro, sparse 90 %", SPARSE, MICRO),
            ("micro, spiking, unrolled", MICRO_SNN, MICRO),
            ("micro, spiking, step", MICRO_SNN, {**MICRO, "snn": "step"}),
        )
    ],
)
