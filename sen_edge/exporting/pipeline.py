"""Export pipeline: load, transform, quantize, build, verify, write."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import sen_edge
from sen_edge.data.calibration import Calibration
from sen_edge.errors import OutputError, UsageError, VerificationError
from sen_edge.exporting.manifest import extend, manifest, refuse_other
from sen_edge.exporting.options import build_options
from sen_edge.exporting.request import Exported, ExportRequest, ExportResult, Subject
from sen_edge.exporting.verify.expectation import check
from sen_edge.exporting.verify.result import Verification
from sen_edge.exporting.verify.verification import LabelledData, verify
from sen_edge.model import model as models
from sen_edge.model.model import Model
from sen_edge.model.notes import compression_note
from sen_edge.overwrite import refuse_existing, write_outputs
from sen_edge.passes.materialize import precompute
from sen_edge.passes.quantize import quantization_errors, to_float16, to_int8, to_int8_weights
from sen_exporters.base import (
    Artifact,
    Exporter,
    ExportError,
    ExportOptions,
    NoFormError,
    exporter,
    exporter_names,
    usable_exporters,
)
from sen_runtime import worker
from sen_runtime.errors import EngineCrashError
from sen_runtime.ir.network import Network, stored_dtype
from sen_runtime.ir.operators import Coordinates, leaves
from sen_runtime.memory_limits import catch_allocation_errors, require_network

WEIGHTS = ("dense", "coordinates")
DTYPES = ("float32", "float16", "int8-dynamic", "int8")
#: Default targets; those without a form for a request are left out.
DEFAULT_TARGETS = ("onnx", "tflite")
#: Peak bytes per weight; measured with tiles and libraries: 33 (sen, c) to 43 (onnx).
EXPORT_BYTES = 24

Transform = Callable[[Model], tuple[Network, dict[str, Any]]]


@catch_allocation_errors()
def export(
    model: Path,
    out_dir: Path,
    request: ExportRequest,
    *,
    map_path: Path | None = None,
    expect: Path | None = None,
    data: Callable[[Network], LabelledData] | None = None,
    calibration: Callable[[Network], Calibration] | None = None,
    transform: Transform | None = None,
    force: bool = False,
) -> ExportResult:
    """Export a model to every target, verify each artifact, and write all files.

    Args:
        model: path of a checkpoint or an image.
        out_dir: output folder.
        request: options.
        map_path: TOML map of a foreign state dict.
        expect: inputs and outputs of the user's own model, compared with the source first.
        data: loads the examples for the comparison of accuracies.
        calibration: loads the inputs that int8 is fitted to.
        transform: returns the network to export and verify against, with plain values for `compression` in the
            manifest.
        force: replace existing files.

    Raises:
        CheckpointError, ImageError, NetworkError, ExportError, UsageError, DataError: invalid input or request.
        VerificationError: an artifact disagrees with the model; nothing is written.
        OutputError: a file exists and `force` is False, or is the model, or cannot be written.
    """
    _check_request(request, is_calibrated=calibration is not None)
    exporters, unusable = _select_exporters(request)
    options = _options(request, exporters)
    if request.targets is not None:
        _refuse_outputs(model, out_dir, _outputs(exporters, options), force=force)
    source = models.load(model, map_path=map_path)
    refuse_other(out_dir / _manifest_name(request), source.sha256, force=force)
    require_network(source.network, EXPORT_BYTES)
    agreement = None if expect is None else check(source, expect, model.name)
    if not source.network.is_spiking and request.snn != ExportRequest.snn:
        raise UsageError(f"--snn {request.snn} is for spiking networks; {model} is a multilayer perceptron")
    labelled = None if data is None else data(source.network)
    calibrated = None if calibration is None else calibration(source.network)
    subject = _quantize(_prepare(model, source, request, transform), request, calibrated)
    subject = replace(subject, agreement=agreement)
    exporters, formless = _split_by_form(exporters, subject.network, request, options)
    _refuse_outputs(model, out_dir, _outputs(exporters, options), force=force)
    exported = [_export_one(each, subject, request, options[each.name], labelled) for each in exporters]
    new = manifest(model, subject, request, exported, {**unusable, **formless})
    name = _manifest_name(request)
    described = extend(out_dir / name, new, force=force)
    files = {file: content for each in exported for file, content in each.artifact.files.items()}
    files[name] = (json.dumps(described, indent=2, sort_keys=True) + "\n").encode()
    write_outputs(out_dir, files, force=force, updated=[name])
    targets = tuple(each.artifact.target for each in exported)
    return ExportResult({out_dir / file: len(content) for file, content in files.items()}, described, targets)


def _check_request(request: ExportRequest, *, is_calibrated: bool) -> None:
    """Refuse unknown and contradictory options."""
    for name, value, choices in (("--weights", request.weights, WEIGHTS), ("--dtype", request.dtype, DTYPES)):
        if value not in choices:
            raise UsageError(f"{name} is {value!r}; expected one of {', '.join(choices)}")
    if request.targets is not None and not request.targets:
        raise UsageError(f"--to is empty; expected one or more of {', '.join(exporter_names())}")
    is_int8, has_int8_activations = request.dtype.startswith("int8"), request.dtype == "int8"
    if has_int8_activations and not is_calibrated:
        raise UsageError(
            "--dtype int8 requires calibration data",
            hint="add --calibration with representative inputs, or use --dtype int8-dynamic",
        )
    if is_int8 and request.weights == "coordinates":
        raise UsageError("coordinates have no int8 form", hint="use --weights dense, or --dtype float16")
    for flag, is_given, applies, dtypes in (
        ("--calibration", is_calibrated, is_int8, "int8-dynamic or int8"),
        ("--granularity", request.granularity != ExportRequest.granularity, is_int8, "int8-dynamic or int8"),
        (
            "--activation-range",
            request.activation_range != ExportRequest.activation_range,
            has_int8_activations,
            "int8",
        ),
    ):
        if is_given and not applies:
            raise UsageError(f"{flag} has no effect with --dtype {request.dtype}", hint=f"add --dtype {dtypes}")


def _options(request: ExportRequest, exporters: list[Exporter]) -> dict[str, ExportOptions]:
    """Options of each exporter, by target."""
    common = {"name": request.name, "batch_size": request.batch_size, "snn": request.snn}
    return build_options(exporters, common, request.options)


def _prepare(model: Path, source: Model, request: ExportRequest, transform: Transform | None) -> Subject:
    """Apply the transform and materialize; refuse contradictory requests."""
    baseline, compression = source, None
    if transform is not None:
        transformed, compression = transform(source)
        baseline = replace(source, network=transformed, checkpoint=None)
    network = baseline.network
    if request.weights == "coordinates":
        _check_coordinates(model, baseline)
    if request.dtype != "float32" and stored_dtype(network) == "int8-dynamic":
        raise UsageError(
            f"the weights of {model} are int8 already, and are exported as stored",
            hint=f"omit --dtype {request.dtype}, or quantize the source of the image",
        )
    if request.weights == "dense":
        network = precompute(network)
    return Subject(source, baseline, network, compression)


def _check_coordinates(model: Path, baseline: Model) -> None:
    """Refuse `--weights coordinates` if stored patterns or other operators define the weights."""
    synapses = {} if baseline.checkpoint is None else baseline.checkpoint.synapses
    if synapses:
        raise UsageError(
            f"{model}: layer {min(synapses)} has a stored pattern, which coordinates do not define",
            hint="omit --weights, or prune by distance: sen-edge compress --criterion distance",
        )
    operators = [leaf for layer in baseline.network.layers for leaf in leaves(layer.weight)]
    if not any(isinstance(leaf, Coordinates) for leaf in operators):
        raise UsageError(f"{model} has no coordinates", hint="omit --weights")


def _quantize(subject: Subject, request: ExportRequest, calibration: Calibration | None) -> Subject:
    network = subject.network
    if request.dtype == "float32":
        return subject
    if request.dtype == "float16":
        return replace(subject, network=to_float16(network))
    inputs = None if calibration is None else calibration.inputs
    if inputs is not None and request.dtype == "int8":
        after = to_int8(network, inputs, request.granularity, request.activation_range)
    else:
        after = to_int8_weights(network, request.granularity, inputs)
    judged = None if calibration is None else calibration.held_out
    errors = tuple(quantization_errors(network, after, judged))
    return replace(subject, network=after, calibration=calibration, errors=errors)


def _select_exporters(request: ExportRequest) -> tuple[list[Exporter], dict[str, str]]:
    """Return the requested exporters, and the default ones with missing packages, with the reason."""
    if request.targets is not None:
        return [exporter(target) for target in dict.fromkeys(request.targets)], {}
    found = {target: candidate for target, candidate in usable_exporters().items() if target in DEFAULT_TARGETS}
    exporters = [candidate for candidate in found.values() if not isinstance(candidate, ExportError)]
    unusable = {target: error.message for target, error in found.items() if isinstance(error, ExportError)}
    if not exporters:
        raise ExportError("; ".join(unusable.values()), hint="sen-edge doctor says what is missing")
    return exporters, unusable


def _split_by_form(
    exporters: list[Exporter], network: Network, request: ExportRequest, options: Mapping[str, ExportOptions]
) -> tuple[list[Exporter], dict[str, str]]:
    """Return the targets to export to, and the default ones without a form for the request, with the reason."""
    kept: list[Exporter] = []
    refused: dict[str, NoFormError] = {}
    for target in exporters:
        try:
            target.check(network, options[target.name])
            kept.append(target)
        except NoFormError as error:
            refused[target.name] = error
    if refused and (request.targets is not None or not kept):
        raise next(iter(refused.values()))
    return kept, {name: error.message for name, error in refused.items()}


def _export_one(
    target: Exporter, subject: Subject, request: ExportRequest, options: ExportOptions, data: LabelledData | None
) -> Exported:
    provenance = {
        "producer": f"sen-edge {sen_edge.__version__}",
        f"{subject.source.kind}_sha256": subject.source.sha256,
        "weights": ", ".join(dict.fromkeys(layer.weight.form for layer in subject.network.layers)),
        "dtype": stored_dtype(subject.network),
        "macs": str(subject.network.macs),
        "nnz": str(subject.network.nnz),
        **({} if subject.compression is None else compression_note(subject.compression)),
    }
    artifact = target.stamp(target.export(subject.network, options), provenance)
    examples = None if subject.calibration is None else subject.calibration.held_out
    with _temporary_artifact(artifact) as path:
        try:
            verification = verify(
                subject.baseline, path, target, exported=subject.network, examples=examples, data=data
            )
        except EngineCrashError as error:
            raise EngineCrashError(f"{error.message}; nothing was written", _suspect(subject.network)) from error
    missed = [sentence for each in verification for sentence in each.failures]
    if missed:
        raise VerificationError(
            f"the {target.name} file disagrees with its model; nothing was written:\n  - " + "\n  - ".join(missed),
            hint=_remedy(request, is_calibrated=subject.calibration is not None),
        )
    not_run_in = {name: error.message for name, error in worker.versions(target.engines(artifact.main))[1].items()}
    return Exported(target.stamp(artifact, _verification_metadata(verification)), options, verification, not_run_in)


@contextmanager
def _temporary_artifact(artifact: Artifact) -> Iterator[Path]:
    """Write the artifact to a temporary folder; yield the path of its main file."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = artifact.write(Path(folder))
        except OSError as error:
            raise OutputError(
                f"cannot write to {folder}, the folder for verification: {error.strerror}",
                hint="nothing was written; set the environment variable TMPDIR to another folder",
            ) from error
        yield path


def _remedy(request: ExportRequest, *, is_calibrated: bool) -> str:
    """Return the next step after a failed verification."""
    if request.dtype.startswith("int8"):
        if request.granularity == "tensor":
            return "one scale for all weights is too coarse for this network: omit --granularity"
        if not is_calibrated:
            return "add --calibration with representative inputs"
        return "this network needs more than eight bits: use --dtype float16" + (
            " or int8-dynamic" if request.dtype == "int8" else ""
        )
    return "this is a defect of sen-edge, unless --dtype float16 was requested for a network that needs float32"


def _suspect(network: Network) -> str:
    """Return the likely cause of an engine crash: the smallest int8 step, if any."""
    steps = {index: layer.grid.scale for index, layer in enumerate(network.layers) if layer.grid is not None}
    if not steps:
        return "omit this target from --to, or report the crash to the authors of the engine"
    layer = min(steps, key=steps.__getitem__)
    return f"the smallest int8 step is {steps[layer]:.3g}, in layer {layer}; export with another --dtype or target"


def _verification_metadata(verification: tuple[Verification, ...]) -> dict[str, str]:
    """Return figures for the metadata of the file: bounds, so bytes do not depend on the rounding of a machine."""
    error = max(each.max_rel_error for each in verification)
    bound = 0.0 if error == 0 else 10.0 ** np.ceil(np.log10(error))
    agreement = min(each.argmax_agreement for each in verification)
    return {
        "verified_inputs": str(verification[0].inputs),
        "verified_max_rel_error": f"<= {bound:.0e}",
        "verified_argmax_agreement": f">= {np.floor(100 * agreement):.0f} %",
    }


def _outputs(exporters: list[Exporter], options: Mapping[str, ExportOptions]) -> list[str]:
    """Return the names of the outputs without the manifest; folders end in `/`."""
    parts = [each.main_file(options[each.name]).partition("/") for each in exporters]
    return [f"{first}{slash}" for first, slash, _ in parts]


def _refuse_outputs(model: Path, out_dir: Path, names: list[str], *, force: bool) -> None:
    """Refuse existing outputs; `force` never replaces the model, which may be an image."""
    for path in (out_dir / name for name in names):
        if path.exists() and model.exists() and path.samefile(model):
            raise OutputError(f"{path} is the model", hint="choose another output with -o or --name")
    refuse_existing(out_dir, names, force=force)


def _manifest_name(request: ExportRequest) -> str:
    return f"{request.name}.manifest.json"
