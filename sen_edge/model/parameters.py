"""The learned parameters of a spatially embedded network as data, and notes about their origin for manifests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_edge.errors import CheckpointError
from sen_edge.model.config import SpatialConfig
from sen_edge.model.tensor_file import Float32Array, check_finite
from sen_runtime.errors import NetworkError
from sen_runtime.ir.neurons import Neuron
from sen_runtime.ir.standardization import Standardization
from sen_runtime.task import Metric
from sen_runtime.untrusted import listing

Synapses = NDArray[np.bool_]


@dataclass(frozen=True)
class AppliedMap:
    """Map of a foreign state dict or NIR graph; JSON in a manifest.

    Attributes:
        file: name.
        sha256: of the file.
        unused: entries of the state dict that it does not use.
        stated: constants in it.
        assumed: constants with their defaults.
    """

    file: str
    sha256: str
    unused: tuple[str, ...]
    stated: Mapping[str, Any]
    assumed: Mapping[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """A trained network as data; checked at construction.

    Attributes:
        config: shape and constants.
        tensors: float32 arrays under the names and shapes of `config.tensor_shapes()`, and any of
            `config.neuron_shapes()`.
        synapses: weight layer -> `[n_out, n_in]`, True for connected neurons; other layers are fully connected.
        metadata: text: training settings, accuracy, licence.
        sha256: of the file, or empty.
        applied_map: map of a foreign state dict; None for the native format.
    """

    config: SpatialConfig
    tensors: Mapping[str, Float32Array]
    metadata: Mapping[str, str] = field(default_factory=dict)
    sha256: str = ""
    synapses: Mapping[int, Synapses] = field(default_factory=dict)
    applied_map: AppliedMap | None = None

    def __post_init__(self) -> None:
        shapes = self.config.tensor_shapes()
        missing = [name for name in shapes if name not in self.tensors]
        if missing:
            raise CheckpointError(f"tensors are missing: {listing(missing)}")
        shapes |= {name: shape for name, shape in self.config.neuron_shapes().items() if name in self.tensors}
        unknown = [name for name in self.tensors if name not in shapes]
        if unknown:
            raise CheckpointError(f"unexpected tensors: {listing(unknown)}")
        for name, shape in shapes.items():
            tensor = self.tensors[name]
            if tensor.shape != shape:
                raise CheckpointError(f"tensor {name} has shape {list(tensor.shape)}; expected {list(shape)}")
            check_finite(name, tensor)
        self.scaling("input"), self.scaling("output"), self.neurons()  # raise
        sizes = self.config.layer_sizes
        for index, mask in self.synapses.items():
            expected = (sizes[index + 1], sizes[index]) if 0 <= index < len(sizes) - 1 else None
            if mask.shape != expected or mask.dtype != bool:
                found = f"{mask.dtype} {list(mask.shape)}"
                raise CheckpointError(f"synapses of layer {index} are {found}; expected bool {expected}")

    @property
    def n_parameters(self) -> int:
        """Number of learned parameters."""
        return self.config.n_parameters

    def neurons(self) -> tuple[Neuron, ...]:
        """Return the neurons of each weight layer."""
        try:
            return self.config.neurons(self.tensors)
        except NetworkError as error:
            raise CheckpointError(error.message) from None

    def scaling(self, end: str) -> Standardization | None:
        """Return the standardization of the "input" or of the "output", or None."""
        if f"{end}_mean" not in self.tensors:
            return None
        try:
            return Standardization(self.tensors[f"{end}_mean"], self.tensors[f"{end}_std"])
        except NetworkError as error:
            raise CheckpointError(f"{end}: {error.message}") from None


def map_note(applied: AppliedMap | None, agreement: Any = None) -> dict[str, Any]:
    """Return the entries `map` and `expect` of a manifest; null if absent.

    `agreement` is the `sen_edge.exporting.verify.expectation.Agreement` of the model with expected outputs.
    """
    return {
        "map": None if applied is None else asdict(applied),
        "expect": None if agreement is None else asdict(agreement),
    }


def compression_note(figures: Mapping[str, Any]) -> dict[str, str]:
    """Return the entry `compression` of file metadata; equal entries mean that files compute the same."""
    note = {name: figures[name] for name in ("request", "score", "previous") if name in figures}
    return {"compression": json.dumps(note or dict(figures), sort_keys=True)}


def compression_metadata(metadata: Mapping[str, str], figures: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata of a compressed model: those of the model before, with the compression and its scores.

    Scores of the model before are left out.
    """
    notes, score, training = compression_note(figures), figures.get("score"), figures.get("training")
    if score is not None:
        metric = metric_of(score)
        notes[f"test_{metric.key}"] = metric.number(score["compressed"])
        notes["test_data"] = score["data"]
        if training is not None:
            notes[f"validation_{metric.key}"] = metric.number(training["validation_score"])
    return {**without_scores(metadata), **notes}


def without_scores(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return metadata without the scores of a model before."""
    return {name: text for name, text in metadata.items() if not name.startswith(("test_", "validation_"))}


def metric_of(score: Mapping[str, Any]) -> Metric:
    """Return the metric of an entry with `metric` and `unit`."""
    return Metric(score["metric"], score["unit"])
