"""Results of an export, and its manifest: source, options, artifacts and verification figures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sen_edge
from sen_edge import manifest_file
from sen_edge.display import Displayed
from sen_edge.errors import OutputError
from sen_edge.exporting.verify.result import Verification
from sen_edge.model.parameters import map_note
from sen_edge.model.statistics import layer_figures
from sen_edge.model.wiring_figures import late_warning
from sen_exporters.base import Artifact, ExportOptions, exporter
from sen_runtime.figures import size
from sen_runtime.ir.network import output_grid, stored_dtype

if TYPE_CHECKING:
    from sen_edge.exporting.request import ExportRequest
    from sen_edge.exporting.verify.expectation import Agreement
    from sen_edge.model.model import Model

#: Shared entries of all artifacts of a manifest, in the manifest and in its `input`.
SAME = ("sen_edge", "compression", "network", "quantization")
SAME_INPUT = ("config", "map")


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


@dataclass(frozen=True, repr=False)
class ExportResult(Displayed):
    """Written files of an export.

    Attributes:
        files: path -> size in bytes, the manifest last.
        manifest: content of the manifest, which may include earlier exports of the model.
        targets: targets of this export.
        verification: figures of each artifact in each engine.
    """

    files: Mapping[Path, int]
    manifest: Mapping[str, Any]
    targets: tuple[str, ...]
    verification: tuple[Verification, ...]

    @property
    def artifacts(self) -> list[Mapping[str, Any]]:
        """Manifest entries of this export."""
        return [artifact for artifact in self.manifest["artifacts"] if artifact["target"] in self.targets]

    def summary(self) -> Mapping[str, object]:
        """Return the main file of each target with the size of all its files, and the engines that verified them."""
        return {
            **{
                next(iter(each["files"])): size(sum(file["bytes"] for file in each["files"].values()))
                for each in self.artifacts
            },
            "verified in": ", ".join(dict.fromkeys(each.engine for each in self.verification)),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest."""
        return dict(self.manifest)


def manifest(
    model: Model,
    request: ExportRequest,
    exported: Sequence[Exported],
    agreement: Agreement | None,
    left_out: Mapping[str, str],
) -> dict[str, Any]:
    """Return the manifest as plain values, without a time stamp, so it is reproducible.

    `agreement` is that with the outputs of the user's model; `left_out` maps skipped default targets to reasons.
    """
    origin, network = model.origin, model.network
    config = None if origin.checkpoint is None else origin.checkpoint.config.to_dict()
    dtype = request.dtype if model.quantization is None else model.quantization.dtype
    placed = {} if "preprocess" not in network.metadata else {"preprocess": network.metadata["preprocess"]}
    if network.output_activation != "none":
        placed["output_activation"] = network.output_activation
    asked = {
        **placed,
        **{name: getattr(request, name) for name in ("weights", "name", "batch_size", "snn")},
        "dtype": dtype,
    }
    return {
        "manifest_version": manifest_file.VERSION,
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
            "task": network.task,
            **{kind: list(names) for kind in ("feature_names", "output_names") if (names := network.names(kind))},
        },
        "quantization": _quantization(model),
        "left_out": dict(left_out),
        "warnings": list(
            dict.fromkeys(
                [
                    *([late] if (late := late_warning(network)) else []),
                    *_storage_warnings(stored_dtype(network), [each.artifact.target for each in exported]),
                    *(line for each in exported for one in each.verification for line in one.warnings),
                ]
            )
        ),
        "artifacts": [{**_artifact(each), "request": {**asked, "options": asdict(each.options)}} for each in exported],
    }


def read_earlier(path: Path, sha256: str, *, force: bool) -> dict[str, Any] | None:
    """Return the manifest at a path if it is of the model with this hash.

    Raises:
        OutputError: anything else is there and `force` is False; or a folder.
    """
    if not path.exists():
        return None
    earlier = None if path.is_dir() else manifest_file.read(path)
    if earlier is not None and earlier["input"]["sha256"] == sha256:
        return earlier
    if path.is_dir() or not force:
        raise OutputError(f"{path} exists", hint="pass --force to replace it, or change -o or --name")
    return None


def refuse_uncompressed(path: Path, earlier: Mapping[str, Any] | None, targets: Collection[str]) -> None:
    """Reject an earlier export without compression, before a compression; `extend` would reject it afterwards.

    Raises:
        OutputError: the manifest has artifacts of other targets than `targets`.
    """
    if earlier is not None and earlier.get("compression") is None and _others(path, earlier, targets):
        raise _another(path, ["compression"])


def extend(path: Path, described: Mapping[str, Any], *, force: bool) -> dict[str, Any]:
    """Merge a new manifest with the artifacts of other targets in the existing one.

    Artifacts whose files are missing or changed are dropped; `force` replaces a manifest with different shared entries.

    Raises:
        OutputError: another file at `path`; or a manifest of another model, or of a different export of this model.
    """
    new: dict[str, Any] = json.loads(json.dumps(described))
    earlier = read_earlier(path, new["input"]["sha256"], force=force)
    if earlier is None:
        return new
    if not force:
        new["input"]["expect"] = new["input"]["expect"] or earlier["input"].get("expect")
    targets = {artifact["target"] for artifact in new["artifacts"]}
    kept = _others(path, earlier, targets)
    different = [key for key in SAME if earlier.get(key) != new[key]]
    different += [key for key in SAME_INPUT if earlier["input"].get(key) != new["input"][key]]
    if kept and different:
        if force:
            return new
        raise _another(path, different)
    new["artifacts"] = [*kept, *new["artifacts"]]
    new["request"]["targets"] = [artifact["target"] for artifact in new["artifacts"]]
    if kept:
        new["left_out"] = {**earlier["left_out"], **new["left_out"]}
        new["warnings"] = list(dict.fromkeys([*earlier["warnings"], *new["warnings"]]))
    for target in new["request"]["targets"]:
        new["left_out"].pop(target, None)
    return new


def _others(path: Path, earlier: Mapping[str, Any], targets: Collection[str]) -> list[Any]:
    """Return the unchanged artifacts of other targets."""
    return [
        each
        for each in earlier["artifacts"]
        if each["target"] not in targets and manifest_file.is_unchanged(path.parent, each)
    ]


def _another(path: Path, different: Sequence[str]) -> OutputError:
    return OutputError(
        f"{path} describes an export of the same model with another {' and '.join(different)}",
        hint="export under another --name, or pass --force to replace the manifest",
    )


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


def _storage_warnings(dtype: str, targets: list[str]) -> list[str]:
    """Return a line for each target without a form for int4 weights."""
    if not dtype.startswith("int4"):
        return []
    wider = [target for target in targets if dtype not in getattr(exporter(target), "int4_dtypes", ())]
    return [f"{target}: int4 weights are stored as int8: the same results in twice the bytes" for target in wider]


def _quantization(model: Model) -> dict[str, Any] | None:
    """Return calibration, grids and errors of int8 layers; None without int8."""
    quantization, network = model.quantization, model.network
    if quantization is None or not quantization.errors:
        return None
    calibration, described = quantization.calibration, None
    if calibration is not None:
        described = {
            "data": calibration.name,
            "sha256": calibration.sha256,
            "samples": len(calibration.inputs),
            "held_out": len(calibration.held_out),
        }
    input_, output, *grids = (
        None if grid is None else asdict(grid)
        for grid in (network.input_grid, output_grid(network), *(layer.grid for layer in network.layers))
    )
    return {
        "granularity": quantization.granularity,
        "activation_range": quantization.activation_range if quantization.dtype in ("int8", "int4") else None,
        "calibration": described,
        "input_grid": input_,
        "output_grid": output,
        "layers": [{**asdict(error), "grid": grid} for error, grid in zip(quantization.errors, grids, strict=True)],
    }
