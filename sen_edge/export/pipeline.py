"""A model in, verified files out: the way of the data in one function."""

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
from sen_edge.export.manifest import compression_note, extend, manifest, refuse_other
from sen_edge.export.options import build_options
from sen_edge.export.overwrite import put_in_place, refuse_existing
from sen_edge.export.request import Exported, ExportRequest, ExportResult, Subject
from sen_edge.export.verify.expectation import check
from sen_edge.export.verify.result import Verification
from sen_edge.export.verify.verification import LabelledData, verify
from sen_edge.model import model as models
from sen_edge.model.model import Model
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
#: What is written where no target is named; those that have no form for a request are left out of it.
DEFAULT_TARGETS = ("onnx", "tflite")
#: Live at once for each weight: measured peaks are 33 (sen, c) to 43 (onnx), of which tiles and libraries are a part.
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
    """Export the model at `model` to every target, verify each, then put all files in place.

    Args:
        model: path of a checkpoint or an image.
        out_dir: where the files go.
        request: what to export, and how.
        map_path: TOML map of a foreign state dict.
        expect: inputs and outputs of the user's own model, with which the source is compared before anything else.
        data: gives, for the model's network, the examples on which accuracies are compared.
        calibration: the same, the inputs to which int8 is fitted.
        transform: makes of the model the network that is exported, and that artifacts are compared with. What it says
            of it, plain values, is `compression` in the manifest.
        force: existing files may be replaced.

    Raises:
        CheckpointError, ImageError, NetworkError, ExportError, UsageError, DataError: the input or the request is
            wrong.
        VerificationError: an artifact disagrees with the model; nothing is written.
        OutputError: a file exists and `force` is False, or is the model, or cannot be written.
    """
    _check_request(request, is_calibrated=calibration is not None)
    chosen, unusable = _chosen(request)
    options = _options(request, chosen)
    if request.targets is not None:
        _refuse_outputs(model, out_dir, _outputs(chosen, options), force=force)
    source = models.load(model, map_path=map_path)
    refuse_other(out_dir / _manifest_name(request), source.sha256, force=force)
    require_network(source.network, EXPORT_BYTES)
    agreement = None if expect is None else check(source, expect, model.name)
    if not source.network.is_spiking and request.snn != ExportRequest.snn:
        raise UsageError(f"--snn {request.snn} is for spiking networks; {model} is a multilayer perceptron")
    labelled = None if data is None else data(source.network)
    calibrated = None if calibration is None else calibration(source.network)
    subject = _quantized(_subject(model, source, request, transform), request, calibrated)
    subject = replace(subject, agreement=agreement)
    chosen, formless = _with_form(chosen, subject.network, request, options)
    _refuse_outputs(model, out_dir, _outputs(chosen, options), force=force)
    exported = [_export_one(each, subject, request, options[each.name], labelled) for each in chosen]
    new = manifest(model, subject, request, exported, {**unusable, **formless})
    name = _manifest_name(request)
    described = extend(out_dir / name, new, force=force)
    files = {file: content for each in exported for file, content in each.artifact.files.items()}
    files[name] = (json.dumps(described, indent=2, sort_keys=True) + "\n").encode()
    put_in_place(out_dir, files, force=force, updated=[name])
    targets = tuple(each.artifact.target for each in exported)
    return ExportResult({out_dir / file: len(content) for file, content in files.items()}, described, targets)


def _check_request(request: ExportRequest, *, is_calibrated: bool) -> None:
    """Options that are unknown, or contradict each other."""
    for name, value, choices in (("--weights", request.weights, WEIGHTS), ("--dtype", request.dtype, DTYPES)):
        if value not in choices:
            raise UsageError(f"{name} is {value!r}; expected one of {', '.join(choices)}")
    if request.targets is not None and not request.targets:
        raise UsageError(f"--to names no target; expected one or more of {', '.join(exporter_names())}")
    is_int8, has_int8_activations = request.dtype.startswith("int8"), request.dtype == "int8"
    if has_int8_activations and not is_calibrated:
        raise UsageError(
            "--dtype int8 needs the range of every activation, and none is invented",
            hint="name inputs like those the network will see with --calibration, or take --dtype int8-dynamic",
        )
    if is_int8 and request.weights == "coordinates":
        raise UsageError("coordinates have no int8 form", hint="take --weights dense, or --dtype float16")
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
            raise UsageError(f"{flag} has no use with --dtype {request.dtype}", hint=f"add --dtype {dtypes}")


def _options(request: ExportRequest, chosen: list[Exporter]) -> dict[str, ExportOptions]:
    """Options of each exporter, by target."""
    common = {"name": request.name, "batch_size": request.batch_size, "snn": request.snn}
    return build_options(chosen, common, request.options)


def _subject(model: Path, source: Model, request: ExportRequest, transform: Transform | None) -> Subject:
    """What is exported, before it is quantized."""
    truth, compression = source, None
    if transform is not None:
        transformed, compression = transform(source)
        truth = replace(source, network=transformed, checkpoint=None)
    network = truth.network
    if request.weights == "coordinates":
        _check_coordinates(model, truth)
    if request.dtype != "float32" and stored_dtype(network) == "int8-dynamic":
        raise UsageError(
            f"weights of {model} are int8 already, and are exported as they are stored",
            hint=f"leave --dtype {request.dtype} out, or quantize the model that it was made from",
        )
    if request.weights == "dense":
        network = precompute(network)
    return Subject(source, truth, network, compression)


def _check_coordinates(model: Path, truth: Model) -> None:
    """Refuse to leave weights to coordinates that do not give them, as they do not give a checkpoint's patterns."""
    synapses = {} if truth.checkpoint is None else truth.checkpoint.synapses
    if synapses:
        raise UsageError(
            f"{model}: the pattern of layer {min(synapses)}, its synapses, is not given by its coordinates",
            hint="leave --weights out, or prune by distance: sen-edge compress --criterion distance",
        )
    operators = [leaf for layer in truth.network.layers for leaf in leaves(layer.weight)]
    if not any(isinstance(leaf, Coordinates) for leaf in operators):
        raise UsageError(f"no weights of {model} are given by coordinates", hint="leave --weights out")


def _quantized(subject: Subject, request: ExportRequest, calibration: Calibration | None) -> Subject:
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


def _chosen(request: ExportRequest) -> tuple[list[Exporter], dict[str, str]]:
    """The exporters asked for, and those default ones that this machine lacks packages for, with the reason."""
    if request.targets is not None:
        return [exporter(target) for target in dict.fromkeys(request.targets)], {}
    found = {target: candidate for target, candidate in usable_exporters().items() if target in DEFAULT_TARGETS}
    chosen = [candidate for candidate in found.values() if not isinstance(candidate, ExportError)]
    unusable = {target: error.message for target, error in found.items() if isinstance(error, ExportError)}
    if not chosen:
        raise ExportError("; ".join(unusable.values()), hint="sen-edge doctor says what is missing")
    return chosen, unusable


def _with_form(
    chosen: list[Exporter], network: Network, request: ExportRequest, options: Mapping[str, ExportOptions]
) -> tuple[list[Exporter], dict[str, str]]:
    """The targets to export to, and the default ones that have no form for the request, with the reason."""
    kept: list[Exporter] = []
    refused: dict[str, NoFormError] = {}
    for target in chosen:
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
    with _in_a_folder(artifact) as path:
        try:
            verification = verify(subject.truth, path, target, exported=subject.network, examples=examples, data=data)
        except EngineCrashError as error:
            raise EngineCrashError(f"{error.message}; nothing was written", _suspect(subject.network)) from error
    missed = [sentence for each in verification for sentence in each.failures]
    if missed:
        raise VerificationError(
            f"the {target.name} file does not agree with its model, so nothing was written:\n  - "
            + "\n  - ".join(missed),
            hint=_remedy(request, is_calibrated=subject.calibration is not None),
        )
    not_run_in = {name: error.message for name, error in worker.versions(target.engines(artifact.main))[1].items()}
    return Exported(target.stamp(artifact, _stamped_figures(verification)), options, verification, not_run_in)


@contextmanager
def _in_a_folder(artifact: Artifact) -> Iterator[Path]:
    """The artifact on the disk, as long as an engine needs it: path of the file to load."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = artifact.write(Path(folder))
        except OSError as error:
            raise OutputError(
                f"cannot write to {folder}, where the artifact is verified: {error.strerror}",
                hint="nothing was written; the environment variable TMPDIR names another folder",
            ) from error
        yield path


def _remedy(request: ExportRequest, *, is_calibrated: bool) -> str:
    """What may help where a file disagrees with its model."""
    if request.dtype.startswith("int8"):
        if request.granularity == "tensor":
            return "one scale for all weights is too coarse for this network: leave --granularity out"
        if not is_calibrated:
            return "name inputs like those the network will see with --calibration"
        return "this network needs more than eight bits: take --dtype float16" + (
            " or int8-dynamic" if request.dtype == "int8" else ""
        )
    return (
        "an export that fails here is a defect of sen-edge unless --dtype float16 was asked of a network "
        "that needs float32"
    )


def _suspect(network: Network) -> str:
    """What a crash of an engine may result from: the smallest int8 step, if there is one."""
    steps = {index: layer.grid.scale for index, layer in enumerate(network.layers) if layer.grid is not None}
    if not steps:
        return "leave this target out of --to, or report the crash to the engine's authors"
    layer = min(steps, key=steps.__getitem__)
    return f"the smallest int8 step is {steps[layer]:.3g}, in layer {layer}; export with another --dtype or target"


def _stamped_figures(verification: tuple[Verification, ...]) -> dict[str, str]:
    """Figures for the file's own metadata: bounds, so that bytes do not follow a machine's rounding."""
    error = max(each.max_rel_error for each in verification)
    bound = 0.0 if error == 0 else 10.0 ** np.ceil(np.log10(error))
    agreement = min(each.argmax_agreement for each in verification)
    return {
        "verified_inputs": str(verification[0].inputs),
        "verified_max_rel_error": f"<= {bound:.0e}",
        "verified_argmax_agreement": f">= {np.floor(100 * agreement):.0f} %",
    }


def _outputs(chosen: list[Exporter], options: Mapping[str, ExportOptions]) -> list[str]:
    """Names of the files and folders to be written, without the manifest; those of folders end in `/`."""
    parts = [each.main_file(options[each.name]).partition("/") for each in chosen]
    return [f"{first}{slash}" for first, slash, _ in parts]


def _refuse_outputs(model: Path, out_dir: Path, names: list[str], *, force: bool) -> None:
    """As `refuse_existing`; and `force` does not reach the model itself, which may be an image."""
    for path in (out_dir / name for name in names):
        if path.exists() and model.exists() and path.samefile(model):
            raise OutputError(f"{path} is the model", hint="choose another place with -o or --name")
    refuse_existing(out_dir, names, force=force)


def _manifest_name(request: ExportRequest) -> str:
    return f"{request.name}.manifest.json"
