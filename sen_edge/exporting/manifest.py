"""Manifest of an export: source, options, artifacts and verification figures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sen_edge
from sen_edge.errors import OutputError
from sen_edge.model.parameters import map_note
from sen_edge.model.statistics import layer_figures
from sen_runtime.errors import SenError
from sen_runtime.ir.int8 import Grid
from sen_runtime.ir.network import output_grid
from sen_runtime.untrusted import load_json, read_regular

if TYPE_CHECKING:
    from sen_edge.exporting.request import ExportRequest
    from sen_edge.exporting.result import Exported
    from sen_edge.exporting.verify.expectation import Agreement
    from sen_edge.model.model import Model

MANIFEST_VERSION = 3
#: Shared entries of all artifacts of a manifest, in the manifest and in its `input`.
SAME = ("sen_edge", "compression", "network", "quantization")
SAME_INPUT = ("config", "map")
#: Max bytes of a manifest; real ones have a few kB.
MAX_BYTES = 1 << 26


def manifest(
    model: Model,
    request: ExportRequest,
    exported: Sequence[Exported],
    agreement: Agreement | None,
    left_out: Mapping[str, str],
) -> dict[str, Any]:
    """Return the manifest as plain values, without a time stamp, so it is reproducible.

    Args:
        model: exported model.
        request: options of the export.
        exported: verified artifacts.
        agreement: agreement with outputs of the user's model, or None.
        left_out: skipped default targets with the reason.
    """
    origin, network = model.origin, model.network
    config = None if origin.checkpoint is None else origin.checkpoint.config.to_dict()
    dtype = request.dtype if model.quantization is None else model.quantization.dtype
    asked = {**{name: getattr(request, name) for name in ("weights", "name", "batch_size", "snn")}, "dtype": dtype}
    return {
        "manifest_version": MANIFEST_VERSION,
        "sen_edge": sen_edge.__version__,
        "input": {
            "file": model.name,
            "sha256": origin.sha256,
            "config": config,
            **map_note(origin.applied_map, agreement),
        },
        "request": {**asked, "targets": [each.artifact.target for each in exported]},
        "compression": None if model.compression is None else dict(model.compression),
        "network": {
            "layer_sizes": list(network.layer_sizes),
            "parameters": origin.n_parameters,
            "macs": network.macs,
            "weight_bytes": network.nbytes,
            "layers": [asdict(figures) for figures in layer_figures(network)],
        },
        "quantization": _quantization(model),
        "left_out": dict(left_out),
        "warnings": list(
            dict.fromkeys(line for each in exported for one in each.verification for line in one.warnings)
        ),
        "artifacts": [{**_artifact(each), "request": {**asked, "options": asdict(each.options)}} for each in exported],
    }


def refuse_other(path: Path, sha256: str, *, force: bool) -> None:
    """Raise if a path is anything but a manifest of the model with this hash.

    Raises:
        OutputError: another file at `path` and `force` is False; or a folder.
    """
    if not path.exists():
        return
    earlier = None if path.is_dir() else _read(path)
    if path.is_dir() or (not force and (earlier is None or earlier["input"]["sha256"] != sha256)):
        raise OutputError(f"{path} exists", hint="pass --force to replace it, or change -o or --name")


def extend(path: Path, described: Mapping[str, Any], *, force: bool) -> dict[str, Any]:
    """Merge a new manifest with the artifacts of other targets in the existing one.

    Artifacts whose files are missing or changed are dropped.

    Args:
        path: path of the manifest.
        described: new manifest.
        force: replace a manifest with different shared entries.

    Raises:
        OutputError: another file at `path`; or a manifest of another model, or of a different export of this model.
    """
    new: dict[str, Any] = json.loads(json.dumps(described))
    if not path.exists():
        return new
    refuse_other(path, new["input"]["sha256"], force=force)
    earlier = _read(path)
    if earlier is None or earlier["input"]["sha256"] != new["input"]["sha256"]:
        return new
    if not force:
        new["input"]["expect"] = new["input"]["expect"] or earlier["input"].get("expect")
    targets = {artifact["target"] for artifact in new["artifacts"]}
    kept = [each for each in earlier["artifacts"] if each["target"] not in targets and _is_unchanged(path.parent, each)]
    different = [key for key in SAME if earlier.get(key) != new[key]]
    different += [key for key in SAME_INPUT if earlier["input"].get(key) != new["input"][key]]
    if kept and different:
        if force:
            return new
        raise OutputError(
            f"{path} describes an export of the same model with another {' and '.join(different)}",
            hint="export under another --name, or pass --force to replace the manifest",
        )
    new["artifacts"] = [*kept, *new["artifacts"]]
    targets = {artifact["target"] for artifact in new["artifacts"]}
    new["request"]["targets"] = [artifact["target"] for artifact in new["artifacts"]]
    if kept:
        new["left_out"] = {**earlier["left_out"], **new["left_out"]}
        new["warnings"] = list(dict.fromkeys([*earlier["warnings"], *new["warnings"]]))
    new["left_out"] = {target: reason for target, reason in new["left_out"].items() if target not in targets}
    return new


def _read(path: Path) -> dict[str, Any] | None:
    """Read a manifest of this version; None for anything else."""
    try:
        found = load_json(read_regular(path, MAX_BYTES), str(path))
        if found["manifest_version"] != MANIFEST_VERSION:
            return None
        for artifact in found["artifacts"]:
            str(artifact["target"]), dict(artifact["files"])
        str(found["input"]["sha256"]), dict(found["left_out"]), list(found["warnings"])
    except (SenError, KeyError, TypeError, ValueError):
        return None
    manifest: dict[str, Any] = found
    return manifest


def _is_unchanged(folder: Path, artifact: Mapping[str, Any]) -> bool:
    """Return whether the files of an artifact match their hashes."""
    try:
        return all(
            hashlib.sha256(read_regular(folder / name)).hexdigest() == facts["sha256"]
            for name, facts in artifact["files"].items()
        )
    except (SenError, KeyError, TypeError):
        return False


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


def _quantization(model: Model) -> dict[str, Any] | None:
    """Return calibration, grids and errors of int8 layers; None without int8."""
    quantization, network = model.quantization, model.network
    if quantization is None or not quantization.errors:
        return None
    calibration = quantization.calibration
    return {
        "granularity": quantization.granularity,
        "activation_range": quantization.activation_range if quantization.dtype == "int8" else None,
        "calibration": None
        if calibration is None
        else {
            "data": calibration.name,
            "sha256": calibration.sha256,
            "samples": len(calibration.inputs),
            "held_out": len(calibration.held_out),
        },
        "input_grid": _grid_entry(network.input_grid),
        "output_grid": _grid_entry(output_grid(network)),
        "layers": [
            {**asdict(error), "grid": _grid_entry(layer.grid)}
            for error, layer in zip(quantization.errors, network.layers, strict=True)
        ],
    }


def _grid_entry(grid: Grid | None) -> dict[str, Any] | None:
    return None if grid is None else asdict(grid)
