"""A checkpoint in, verified files out: the way of the data in one function."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import sen_edge
from sen_edge import checkpoint as checkpoints
from sen_edge.config import SpatialConfig
from sen_edge.errors import OutputError, UsageError, VerificationError
from sen_edge.precompute import precompute
from sen_edge.quantize import to_float16
from sen_edge.verify import LabelledData, Verification, verify
from sen_exporters.base import Artifact, Exporter, ExportOptions, exporter, exporter_names
from sen_runtime.files import write_all
from sen_runtime.network import Network

WEIGHTS = ("dense", "coordinates")
DTYPES = ("float32", "float16")
MANIFEST_VERSION = 1


@dataclass(frozen=True)
class ExportRequest:
    """What to export, and how.

    Attributes:
        targets: names of exporters.
        weights: "dense" (computed before export) or "coordinates" (left to the engine).
        dtype: storage of the weights, "float32" or "float16".
        options: what the exporters themselves take.
    """

    targets: tuple[str, ...] = ("onnx",)
    weights: str = "dense"
    dtype: str = "float32"
    options: ExportOptions = field(default_factory=ExportOptions)


@dataclass(frozen=True)
class Exported:
    """One verified artifact in memory."""

    artifact: Artifact
    verification: Verification


@dataclass(frozen=True)
class ExportResult:
    """What was written.

    Attributes:
        files: path -> size in bytes, the manifest last.
        manifest: the content of the manifest.
    """

    files: Mapping[Path, int]
    manifest: Mapping[str, Any]


def export(
    model: Path,
    out_dir: Path,
    request: ExportRequest,
    *,
    map_path: Path | None = None,
    data: Callable[[SpatialConfig], LabelledData] | None = None,
    force: bool = False,
) -> ExportResult:
    """Export the checkpoint at `model` to every target, verify each, then put all files in place.

    `data`, called with the checkpoint's configuration, gives the examples on which accuracies are compared.

    Raises:
        CheckpointError, NetworkError, ExportError, UsageError: the input or the request is wrong.
        VerificationError: an artifact disagrees with the checkpoint; nothing is written.
        OutputError: a file exists and `force` is False, or cannot be written.
    """
    chosen = _targets(request)
    _refuse_existing(out_dir, request, chosen, force=force)
    checkpoint = checkpoints.load(model, map_path=map_path)
    network = checkpoints.to_network(checkpoint)
    if not network.is_spiking and request.options.snn != ExportOptions.snn:
        raise UsageError(f"--snn {request.options.snn} is for spiking networks; {model} is a multilayer perceptron")
    labelled = None if data is None else data(checkpoint.config)
    if request.weights == "dense":
        network = precompute(network)
    if request.dtype == "float16":
        network = to_float16(network)
    exported = [_export_one(each, network, checkpoint, request, labelled) for each in chosen]
    manifest = _manifest(model, checkpoint, network, request, exported)
    files = {out_dir / name: content for each in exported for name, content in each.artifact.files.items()}
    files[_manifest_path(out_dir, request)] = (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode()
    _put_in_place(out_dir, files, force=force)
    return ExportResult({path: len(content) for path, content in files.items()}, manifest)


def _export_one(
    target: Exporter,
    network: Network,
    checkpoint: checkpoints.Checkpoint,
    request: ExportRequest,
    data: LabelledData | None,
) -> Exported:
    target.check(network, request.options)
    provenance = {
        "producer": "sen-edge",
        "version": sen_edge.__version__,
        "checkpoint_sha256": checkpoint.sha256,
        "weights": request.weights,
        "dtype": request.dtype,
    }
    artifact = target.stamp(target.export(network, request.options), provenance)
    verification = verify(checkpoint, artifact.main, target, data=data)
    if not verification.passed:
        raise VerificationError(
            f"the {target.name} file does not agree with its checkpoint, so nothing was written:\n  - "
            + "\n  - ".join(verification.failures),
            hint="an export that fails here is a defect of sen-edge unless --dtype float16 was asked of a network "
            "that needs float32",
        )
    return Exported(target.stamp(artifact, _stamped_figures(verification)), verification)


def _stamped_figures(verification: Verification) -> dict[str, str]:
    """Figures for the file's own metadata: bounds, so that bytes do not follow a machine's rounding."""
    error = verification.max_rel_error
    bound = 0.0 if error == 0 else 10.0 ** np.ceil(np.log10(error))
    return {
        "verified_inputs": str(verification.inputs),
        "verified_max_rel_error": f"<= {bound:.0e}",
        "verified_argmax_agreement": f">= {np.floor(100 * verification.argmax_agreement):.0f} %",
    }


def _targets(request: ExportRequest) -> list[Exporter]:
    for name, value, choices in (("--weights", request.weights, WEIGHTS), ("--dtype", request.dtype, DTYPES)):
        if value not in choices:
            raise UsageError(f"{name} is {value!r}; expected one of {', '.join(choices)}")
    if not request.targets:
        raise UsageError(f"--to names no target; expected one or more of {', '.join(exporter_names())}")
    return [exporter(target) for target in dict.fromkeys(request.targets)]


def _manifest_path(out_dir: Path, request: ExportRequest) -> Path:
    return out_dir / f"{request.options.name}.manifest.json"


def _refuse_existing(out_dir: Path, request: ExportRequest, chosen: list[Exporter], *, force: bool) -> None:
    """Before any work: an output that exists is an error the user wants to hear at once."""
    if force:
        return
    names = [f"{request.options.name}{each.suffixes[0]}" for each in chosen]
    for path in (*(out_dir / name for name in names), _manifest_path(out_dir, request)):
        if path.exists():
            raise OutputError(f"{path} exists", hint="pass --force to replace it, or -o / --name for another place")


def _put_in_place(out_dir: Path, files: Mapping[Path, bytes], *, force: bool) -> None:
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        write_all(files, replace=force)
    except FileExistsError as error:
        raise OutputError(f"{error.filename} exists", hint="pass --force to replace it") from None
    except OSError as error:
        raise OutputError(
            f"cannot write to {out_dir}: {error.strerror}", hint="nothing was written; choose another folder with -o"
        ) from error


def _manifest(
    model: Path,
    checkpoint: checkpoints.Checkpoint,
    network: Network,
    request: ExportRequest,
    exported: list[Exported],
) -> dict[str, Any]:
    """Everything needed to know, later, what these files are; no time stamp, so that it is reproducible."""
    return {
        "manifest_version": MANIFEST_VERSION,
        "sen_edge": sen_edge.__version__,
        "input": {"file": model.name, "sha256": checkpoint.sha256, "config": checkpoint.config.to_dict()},
        "request": asdict(request),
        "network": {
            "layer_sizes": list(network.layer_sizes),
            "parameters": checkpoint.n_parameters,
            "macs": network.macs,
            "weight_bytes": network.nbytes,
        },
        "artifacts": [
            {
                "target": each.artifact.target,
                "files": {
                    name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                    for name, content in each.artifact.files.items()
                },
                "verification": each.verification.to_dict(),
            }
            for each in exported
        ],
    }
