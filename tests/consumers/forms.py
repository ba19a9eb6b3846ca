"""Forms of exported files, with inputs, and the outputs that every tool must give."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

import sen_edge
from sen_edge.model.model import Model
from sen_runtime import reference
from sen_runtime.ir.standardization import Standardization

SIZES, STEPS, ROWS = (64, 48, 10), 8, 16
#: Max error of a right output, over the mean standard deviation of an output: float32 arithmetic; int8 activations, of
#: which a step is about a third.
FLOAT_LIMIT, INT8_LIMIT = 1e-4, 0.1


@dataclass(frozen=True)
class Form:
    """One way to export a network.

    Attributes:
        name: in the table.
        target: "onnx" or "tflite".
        model: draws the network.
        options: of `sen_edge.export`; `options` are those of the exporter.
        limit: max error of a right output, over the mean standard deviation of an output.
        batch_size: of the file, or None for that of the tool.
    """

    name: str
    target: str
    model: Callable[[], Model]
    options: Mapping[str, Any] = field(default_factory=dict)
    limit: float = FLOAT_LIMIT
    batch_size: int | None = None

    @property
    def dtype(self) -> str:
        """Of the weights."""
        return str(self.options.get("dtype", "float32"))

    def export(self, folder: Path, batch_size: int | None) -> tuple[Path, np.ndarray]:
        """Write the file as a user would; returns its path, and the outputs for `inputs()` in float64.

        Those are the outputs of the exported network, with its weights as rounded, pruned or factorized.
        """
        model, options = self.model(), dict(self.options)
        if self.dtype.startswith("int8"):
            options["calibration"] = _calibration(folder)
        stem = f"{self.target}-{re.sub(r'[^a-z0-9]+', '-', self.name.lower())}-{batch_size or 'any'}"
        fixed = {} if batch_size is None else {"batch_size": batch_size}
        sen_edge.export(model, folder, to=self.target, name=stem, force=True, **options, **fixed)
        same = {name: value for name, value in options.items() if name not in ("options", "snn")}
        sen_edge.export(model, folder, to="sen", name=f"{stem}-network", force=True, **same)
        network = sen_edge.load(folder / f"{stem}-network.sen").network
        return folder / f"{stem}.{self.target}", reference.run(network, inputs())


@cache
def inputs() -> np.ndarray:
    """Inputs of every form, `[ROWS, 64]`."""
    return np.random.default_rng(1).uniform(0, 1, (ROWS, SIZES[0])).astype(np.float32)


def _calibration(folder: Path) -> str:
    path = folder / "calibration.npz"
    np.savez(path, x=np.random.default_rng(2).uniform(0, 1, (256, SIZES[0])).astype(np.float32))
    return str(path)


def _draw(shift: float = 0.0, **config: Any) -> Model:
    """Clouds on parallel planes, `shift` away from the origin; the rows of the weights differ in scale."""
    rng = np.random.default_rng(0)
    clouds = [rng.normal(0, 1, (size, 3)) * np.exp(rng.normal(0, 1, (size, 1))) for size in SIZES]
    for index, cloud in enumerate(clouds):
        cloud[:, -1] = index
    return sen_edge.build(
        [(cloud + shift).astype(np.float32) for cloud in clouds],
        [rng.normal(0, 2, n).astype(np.float32) for n in SIZES[:-1]],
        bias=[rng.normal(0, 0.3, n).astype(np.float32) for n in SIZES[1:]],
        **config,
    )


def _standardized() -> Model:
    model = _draw(input_range=(-10, 10))
    rng = np.random.default_rng(3)
    mean, std = rng.uniform(0.4, 0.6, SIZES[0]), rng.uniform(0.2, 0.4, SIZES[0])
    scaling = Standardization(mean.astype(np.float32), std.astype(np.float32))
    return model.derive(replace(model.network, input_scaling=scaling))


def _pruned(pattern: str) -> Model:
    return sen_edge.compress(_draw(), sparsity=0.9, pattern=pattern, criterion="magnitude", scope="layer").model


SPIKING = {"timesteps": STEPS, "beta": 0.9, "threshold": 1.0, "reset_delay": True}
MLP, SNN, SHIFTED = _draw, partial(_draw, spiking=SPIKING), partial(_draw, 100.0)
SPARSE = partial(_pruned, "unstructured")

#: Of both targets.
COMMON: tuple[tuple[str, Callable[[], Model], Mapping[str, Any]], ...] = (
    ("dense", MLP, {}),
    ("float16", MLP, {"dtype": "float16"}),
    ("low rank", MLP, {"rank": 8}),
    ("sparse 90 %", SPARSE, {}),
    ("blocks 1x4", partial(_pruned, "1x4"), {}),
    ("blocks 16x1", partial(_pruned, "16x1"), {}),
    ("standardized inputs", _standardized, {"preprocess": "node"}),
    ("probabilities", MLP, {"probabilities": True}),
    ("spiking, unrolled", SNN, {}),
    ("spiking, step", SNN, {"snn": "step"}),
)
DYNAMIC = {"dtype": "int8-dynamic"}
INT8 = {"dtype": "int8"}
INT8_IO = {"dtype": "int8", "options": {"int8_io": True}}

FORMS = (
    *[Form(name, "onnx", model, options) for name, model, options in COMMON],
    Form("dense, batch 1", "onnx", MLP, batch_size=1),
    Form("int8-dynamic", "onnx", MLP, DYNAMIC),
    Form("spiking, scan", "onnx", SNN, {"snn": "scan"}),
    Form("coordinates", "onnx", MLP, {"weights": "coordinates"}),
    Form("coordinates, shifted by 100", "onnx", SHIFTED, {"weights": "coordinates"}),
    *[Form(name, "tflite", model, options) for name, model, options in COMMON],
    Form("dense, batch 1", "tflite", MLP, batch_size=1),
    Form("blocks 1x4, block format", "tflite", partial(_pruned, "1x4"), {"options": {"sparse_format": "block"}}),
    Form("int8-dynamic", "tflite", MLP, DYNAMIC, INT8_LIMIT),
    Form("int8", "tflite", MLP, INT8, INT8_LIMIT),
    Form("int8, int8 I/O", "tflite", MLP, INT8_IO, INT8_LIMIT),
    Form("int8 low rank, int8 I/O", "tflite", MLP, {**INT8_IO, "rank": 8}, INT8_LIMIT),
    Form("int8 sparse, int8 I/O", "tflite", SPARSE, INT8_IO, INT8_LIMIT),
    Form("int8 spiking, unrolled, int8 I/O", "tflite", SNN, INT8_IO, INT8_LIMIT),
)
