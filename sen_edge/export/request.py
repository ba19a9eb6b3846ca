"""Export requests and results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sen_edge.data.calibration import Calibration
from sen_edge.export.verify.expectation import Agreement
from sen_edge.export.verify.result import Verification
from sen_edge.model.model import Model
from sen_edge.passes.quantize import LayerError
from sen_exporters.base import Artifact, ExportOptions
from sen_runtime.ir.network import Network


@dataclass(frozen=True)
class ExportRequest:
    """What to export, and how.

    Attributes:
        targets: names of exporters; None for those of `DEFAULT_TARGETS` that have a form for the rest.
        weights: those that coordinates stand for: "dense" (computed before export) or "coordinates" (left to the
            engine). Others keep their form.
        dtype: "float32" (weights as the model stores them); "float16" or "int8-dynamic" (weights stored so); "int8"
            (activations too).
        granularity: of int8 weights, a scale per "channel" (row) or per "tensor".
        activation_range: of int8 activations, "percentile", "minmax" or "mse"; see `sen_edge.passes.quantize.to_int8`.
        name: stem of the files.
        batch_size: fixed batch, or None for a dynamic one.
        snn: form of a spiking network: "unrolled", "scan" or "step".
        options: of exporters, by `NAME` or `TARGET.NAME`; see `sen_edge.export.options`.
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
    """One artifact in memory, verified in every installed engine that it is for.

    Attributes:
        artifact: the files.
        options: of its exporter.
        verification: figures of each engine that ran it.
        not_run_in: engine -> why it did not run.
    """

    artifact: Artifact
    options: ExportOptions
    verification: tuple[Verification, ...]
    not_run_in: Mapping[str, str]


@dataclass(frozen=True)
class Subject:
    """What is exported.

    Attributes:
        source: the model that was loaded.
        truth: what artifacts are compared with: the source, or what a transform made of it.
        network: in the form that the exporters get.
        compression: what the transform says of what it did; None without one.
        calibration: inputs that int8 was fitted to; None for other types, and for int8 weights without them.
        errors: what quantization did to each layer; empty for floating point.
        agreement: of the source with the outputs of the user's own model; None where none were given.
    """

    source: Model
    truth: Model
    network: Network
    compression: Mapping[str, Any] | None = None
    calibration: Calibration | None = None
    errors: tuple[LayerError, ...] = ()
    agreement: Agreement | None = None


@dataclass(frozen=True)
class ExportResult:
    """What was written.

    Attributes:
        files: path -> size in bytes, the manifest last.
        manifest: the content of the manifest.
        targets: what was exported now; the manifest may describe earlier exports of the model as well.
    """

    files: Mapping[Path, int]
    manifest: Mapping[str, Any]
    targets: tuple[str, ...]

    @property
    def artifacts(self) -> list[Mapping[str, Any]]:
        """What the manifest says of the files that were exported now."""
        return [artifact for artifact in self.manifest["artifacts"] if artifact["target"] in self.targets]
