"""Export requests and results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sen_edge.data.calibration import Calibration
from sen_edge.exporting.verify.expectation import Agreement
from sen_edge.exporting.verify.result import Verification
from sen_edge.model.model import Model
from sen_edge.passes.quantize import LayerError
from sen_exporters.base import Artifact, ExportOptions
from sen_runtime.ir.network import Network


@dataclass(frozen=True)
class ExportRequest:
    """Options of an export.

    Attributes:
        targets: names of exporters; None for those of `DEFAULT_TARGETS` with a form for the request.
        weights: "dense" (materialize coordinates) or "coordinates" (the engine computes weights at load).
        dtype: "float32" (weights as stored in the model); "float16" or "int8-dynamic" (weights); "int8" (weights and
            activations).
        granularity: scale of int8 weights per "channel" (row) or per "tensor".
        activation_range: range of int8 activations: "percentile", "minmax" or "mse"; see
            `sen_edge.passes.quantize.to_int8`.
        name: stem of the files.
        batch_size: fixed batch, or None for a dynamic one.
        snn: form of a spiking network: "unrolled", "scan" or "step".
        options: of exporters, by `NAME` or `TARGET.NAME`; see `sen_edge.exporting.options`.
    """

    targets: tuple[str, ...] | None = None
    weights: str = "dense"
    dtype: str = "float32"
    granularity: str = "channel"
    activation_range: str = "percentile"
    name: str = "model"
    batch_size: int | None = None
    snn: str = "unrolled"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Exported:
    """One verified artifact in memory.

    Attributes:
        artifact: the files.
        options: of its exporter.
        verification: figures of each engine.
        not_run_in: missing engine -> reason.
    """

    artifact: Artifact
    options: ExportOptions
    verification: tuple[Verification, ...]
    not_run_in: Mapping[str, str]


@dataclass(frozen=True)
class Subject:
    """A model in preparation for the exporters.

    Attributes:
        source: the loaded model.
        baseline: model for verification: the source, or the result of a transform.
        network: input of the exporters.
        compression: plain values of the transform, or None.
        calibration: inputs that int8 was fitted to, or None.
        errors: quantization error of each layer; empty for floating point.
        agreement: of the source with outputs of the user's own model, or None.
    """

    source: Model
    baseline: Model
    network: Network
    compression: Mapping[str, Any] | None = None
    calibration: Calibration | None = None
    errors: tuple[LayerError, ...] = ()
    agreement: Agreement | None = None


@dataclass(frozen=True)
class ExportResult:
    """Written files of an export.

    Attributes:
        files: path -> size in bytes, the manifest last.
        manifest: content of the manifest, which may include earlier exports of the model.
        targets: targets of this export.
    """

    files: Mapping[Path, int]
    manifest: Mapping[str, Any]
    targets: tuple[str, ...]

    @property
    def artifacts(self) -> list[Mapping[str, Any]]:
        """Manifest entries of this export."""
        return [artifact for artifact in self.manifest["artifacts"] if artifact["target"] in self.targets]
