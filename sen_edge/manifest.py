"""The manifest of an export: everything needed to know, later, what its files are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sen_edge
from sen_edge.summary import layer_figures
from sen_runtime.int8 import Grid
from sen_runtime.network import output_grid

if TYPE_CHECKING:
    from sen_edge.checkpoint import AppliedMap
    from sen_edge.expectation import Agreement
    from sen_edge.export import Exported, ExportRequest, Subject

MANIFEST_VERSION = 3


def manifest(
    model: Path, subject: Subject, request: ExportRequest, exported: Sequence[Exported], left_out: Mapping[str, str]
) -> dict[str, Any]:
    """Plain values for JSON; no time stamp, so that it is reproducible.

    Args:
        model: path of what was exported.
        subject: what it became.
        request: what was asked.
        exported: the artifacts, verified.
        left_out: default targets that were not exported to, with the reason.
    """
    checkpoint, network = subject.source.checkpoint, subject.network
    config = None if checkpoint is None else checkpoint.config.to_dict()
    return {
        "manifest_version": MANIFEST_VERSION,
        "sen_edge": sen_edge.__version__,
        "input": {
            "file": model.name,
            "sha256": subject.source.sha256,
            "config": config,
            **map_note(subject.source.applied_map, subject.agreement),
        },
        "request": {**asdict(request), "targets": [each.artifact.target for each in exported]},
        "compression": subject.compression,
        "network": {
            "layer_sizes": list(network.layer_sizes),
            "parameters": subject.source.n_parameters,
            "macs": network.macs,
            "weight_bytes": network.nbytes,
            "layers": [asdict(figures) for figures in layer_figures(network)],
        },
        "quantization": _quantization(subject),
        "left_out": dict(left_out),
        "warnings": list(
            dict.fromkeys(line for each in exported for one in each.verification for line in one.warnings)
        ),
        "artifacts": [_artifact(each) for each in exported],
    }


def map_note(applied: AppliedMap | None, agreement: Agreement | None) -> dict[str, Any]:
    """How a foreign checkpoint was read, and what it was compared with: null where there is none."""
    return {
        "map": None if applied is None else asdict(applied),
        "expect": None if agreement is None else asdict(agreement),
    }


def compression_note(figures: Mapping[str, Any]) -> dict[str, str]:
    """What a file's metadata say of its compression: files that say the same should compute the same."""
    said = {name: figures[name] for name in ("request", "accuracy") if name in figures}
    return {"compression": json.dumps(said or dict(figures), sort_keys=True)}


def _artifact(exported: Exported) -> dict[str, Any]:
    artifact = exported.artifact
    return {
        "target": artifact.target,
        "files": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in artifact.files.items()
        },
        "footprint": None if artifact.footprint is None else dict(artifact.footprint),
        "verification": [engine.to_dict() for engine in exported.verification],
        "not_run_in": dict(exported.not_run_in),
    }


def _quantization(subject: Subject) -> dict[str, Any] | None:
    """What int8 did to each layer, and to which inputs it was fitted; None where no layer was quantized."""
    if not subject.errors:
        return None
    calibration, network = subject.calibration, subject.network
    return {
        "calibration": None
        if calibration is None
        else {
            "data": calibration.name,
            "sha256": calibration.sha256,
            "samples": len(calibration.inputs),
            "held_out": len(calibration.held_out),
        },
        "input_grid": _as_dict(network.input_grid),
        "output_grid": _as_dict(output_grid(network)),
        "layers": [
            {**asdict(error), "grid": _as_dict(layer.grid)}
            for error, layer in zip(subject.errors, network.layers, strict=True)
        ],
    }


def _as_dict(grid: Grid | None) -> dict[str, Any] | None:
    return None if grid is None else asdict(grid)
