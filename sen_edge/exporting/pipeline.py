"""Export pipeline: compress, materialize, quantize, build, verify, write."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np

import sen_edge
from sen_edge.compression.pipeline import compress, load_inputs
from sen_edge.compression.request import CompressRequest
from sen_edge.data.calibration import Calibration, FloatArray, load_calibration
from sen_edge.data.datasets import load_test
from sen_edge.errors import OutputError, UsageError, VerificationError
from sen_edge.exporting import preprocessing
from sen_edge.exporting.manifest import Exported, ExportResult, extend, manifest, read_earlier, refuse_uncompressed
from sen_edge.exporting.options import build_options
from sen_edge.exporting.quantization import quantize
from sen_edge.exporting.request import ExportRequest
from sen_edge.exporting.verify.expectation import check
from sen_edge.exporting.verify.result import Verification
from sen_edge.exporting.verify.verification import Comparison, verify
from sen_edge.model.model import Model
from sen_edge.model.parameters import compression_note
from sen_edge.overwrite import refuse_existing, write_outputs
from sen_edge.passes.materialize import materialize
from sen_edge.passes.quantize import to_float16
from sen_edge.progress import Progress, silent
from sen_exporters.base import Exporter, ExportError, ExportOptions, NoFormError, exporter, usable_exporters
from sen_runtime import worker
from sen_runtime.data import Examples
from sen_runtime.errors import EngineCrashError
from sen_runtime.ir.network import Network, stored_dtype
from sen_runtime.ir.operators import Coordinates, leaves
from sen_runtime.memory_limits import catch_allocation_errors, require_network
from sen_runtime.task import CLASSIFICATION

LOG = logging.getLogger(__name__)

#: Default targets; those that do not support a request are skipped.
DEFAULT_TARGETS = ("onnx", "tflite")
#: Peak bytes per weight; measured with tiles and libraries: 33 (sen, c) to 43 (onnx).
EXPORT_BYTES = 24


@catch_allocation_errors()
def export(model: Model, out_dir: Path, request: ExportRequest, *, progress: Progress = silent) -> ExportResult:
    """Export a model to every target, verify each artifact, and write all files.

    `request.map_path` has no effect on a loaded model. The stages after those of compression are "build" and "verify",
    per target, and "write".

    Raises:
        NetworkError, ExportError, UsageError, DataError: invalid model, request or data.
        VerificationError: an artifact disagrees with the model; nothing is written.
        OutputError: a file exists and `force` is False, or is the model, or cannot be written.
    """
    if request.name is None:
        request = replace(request, name=model.stem)
    exporters, unusable = _select_exporters(request)
    common = {"name": request.name, "batch_size": request.batch_size, "snn": request.snn}
    options = build_options(exporters, common, request.options)
    if request.to is not None:
        _refuse_outputs(model, out_dir, exporters, options, force=request.force)
    path = out_dir / f"{request.name}.manifest.json"
    earlier = read_earlier(path, model.origin.sha256, force=request.force)
    if request.is_compressed and not request.force:
        refuse_uncompressed(path, earlier, options)
    require_network(model.network, EXPORT_BYTES)
    agreement = None if request.expect is None else check(model.origin, request.expect, model.name)
    if not model.network.is_spiking and request.snn != ExportRequest.snn:
        raise UsageError(f"--snn {request.snn} is for spiking networks; {model.where} is a multilayer perceptron")
    data = None if request.data is None else load_test(request.data, request.data_dir, model.network)
    calibration = _calibration(model, request)
    if request.is_compressed:
        _refuse_default_outputs(model, out_dir, exporters, options, request, calibration)
    model = _compress(model, request, progress)
    baseline = model if model.quantization is None else model.quantization.baseline
    model = _lower(model, request, calibration, options)
    exporters, formless = _split_by_form(exporters, model.network, request, options)
    _refuse_outputs(model, out_dir, exporters, options, force=request.force)
    numbers, n_stages = count(), 2 * len(exporters) + 1

    def report(stage: str) -> None:
        progress(stage, next(numbers) / n_stages)

    examples = _examples(model, calibration, data)
    check_file = partial(verify, Comparison(baseline, model.network, examples, data), limits=request.tolerance)
    exported = [_export_one(each, model, options[each.name], check_file, report) for each in exporters]
    report("write")
    new = manifest(model, request, exported, agreement, {**unusable, **formless})
    described = extend(path, new, force=request.force)
    files = {file: content for each in exported for file, content in each.artifact.files.items()}
    files[path.name] = (json.dumps(described, indent=2, sort_keys=True) + "\n").encode()
    write_outputs(out_dir, files, force=request.force, updated=[path.name])
    report("write")
    for warning in described["warnings"]:
        LOG.warning(warning)
    return ExportResult(
        {out_dir / file: len(content) for file, content in files.items()},
        described,
        tuple(each.artifact.target for each in exported),
        tuple(each for one in exported for each in one.verification),
    )


def _calibration(model: Model, request: ExportRequest) -> Calibration | None:
    """Load the calibration inputs of integers; those of a compression alone are loaded with it."""
    if request.calibration is None:
        return None
    if request.dtype.startswith("int") or stored_dtype(model.network).startswith("int"):
        return load_calibration(request.calibration, request.data_dir, model.network)
    if not request.is_compressed:
        raise UsageError(
            f"--calibration has no effect with --dtype {request.dtype}", hint="add --dtype int8-dynamic or int8"
        )
    return None


def _examples(model: Model, calibration: Calibration | None, data: Examples | None) -> FloatArray | None:
    """Return inputs `[n, ...]` for the verification of integers: those held out of calibration, else those of data."""
    quantization = model.quantization
    if quantization is not None:
        calibration = quantization.calibration
    if calibration is not None:
        return calibration.held_out
    is_stored = quantization is None and stored_dtype(model.network).startswith("int")
    return data.inputs if is_stored and data is not None else None


def _compress(model: Model, request: ExportRequest, progress: Progress) -> Model:
    wanted = CompressRequest(sparsity=request.sparsity, rank=request.rank, max_drop=request.max_drop)
    if wanted.task == "search" and request.dtype != "float32":  # quantized afterwards
        wanted = replace(wanted, dtypes=("float32",))
    if wanted.task is None:
        return model
    calibration = None if wanted.task == "search" else request.calibration
    inputs, dataset = load_inputs(model, calibration, request.data, request.data_dir)
    return compress(model, wanted, calibration=inputs, dataset=dataset, progress=progress).model


def _lower(
    model: Model, request: ExportRequest, calibration: Calibration | None, options: Mapping[str, ExportOptions]
) -> Model:
    """Materialize, place the standardization, and quantize; reject contradictory requests."""
    quantization = model.quantization
    if request.weights == "coordinates":
        _check_coordinates(model)
    elif quantization is not None and quantization.dtype == "float16":  # weights are rounded, not coordinates
        model = model.derive(to_float16(materialize(quantization.baseline.network)))
    else:
        model = _derive(model, materialize(model.network))
    model = _derive(model, preprocessing.fold_scalings(model.network, request))
    if request.dtype != "float32":
        is_per_matrix = request.dtype == "int8" and any(each.granularity == "tensor" for each in options.values())
        granularity = "tensor" if is_per_matrix else "channel"
        model = quantize(model, request.dtype, calibration, granularity=granularity)
    return _derive(model, preprocessing.finish(model.network, request))


def _derive(model: Model, network: Network) -> Model:
    return model if network is model.network else model.derive(network)


def _check_coordinates(model: Model) -> None:
    """Reject `--weights coordinates` if stored patterns or other operators define the weights."""
    synapses = {} if model.checkpoint is None else model.checkpoint.synapses
    if synapses:
        raise UsageError(
            f"{model.where}: layer {min(synapses)} has a stored pattern, which coordinates do not define",
            hint="omit --weights, or prune by distance: sen-edge compress --criterion distance",
        )
    operators = [leaf for layer in model.network.layers for leaf in leaves(layer.weight)]
    if not any(isinstance(leaf, Coordinates) for leaf in operators):
        raise UsageError(f"{model.where} has no coordinates", hint="omit --weights")


def _select_exporters(request: ExportRequest) -> tuple[list[Exporter], dict[str, str]]:
    """Return the requested exporters, and skipped default ones with the missing package."""
    if request.to is not None:
        return [exporter(target) for target in dict.fromkeys(request.to)], {}
    found = {target: candidate for target, candidate in usable_exporters().items() if target in DEFAULT_TARGETS}
    exporters = [candidate for candidate in found.values() if not isinstance(candidate, ExportError)]
    unusable = {target: error.message for target, error in found.items() if isinstance(error, ExportError)}
    if not exporters:
        raise ExportError("; ".join(unusable.values()), hint="sen-edge doctor lists missing packages")
    return exporters, unusable


def _split_by_form(
    exporters: list[Exporter], network: Network, request: ExportRequest, options: Mapping[str, ExportOptions]
) -> tuple[list[Exporter], dict[str, str]]:
    """Return the targets to export to, and skipped default ones with the reason."""
    refused: dict[str, NoFormError] = {}
    for target in exporters:
        try:
            target.check(network, options[target.name])
        except NoFormError as error:
            refused[target.name] = error
    if refused and (request.to is not None or len(refused) == len(exporters)):
        raise next(iter(refused.values()))
    kept = [target for target in exporters if target.name not in refused]
    return kept, {name: error.message for name, error in refused.items()}


def _export_one(
    target: Exporter,
    model: Model,
    options: ExportOptions,
    check_file: Callable[..., tuple[Verification, ...]],
    report: Callable[[str], None],
) -> Exported:
    report("build")
    provenance = {
        "producer": f"sen-edge {sen_edge.__version__}",
        f"{model.origin.kind}_sha256": model.origin.sha256,
        "weights": ", ".join(dict.fromkeys(layer.weight.form for layer in model.network.layers)),
        "dtype": stored_dtype(model.network),
        "macs": str(model.network.macs),
        "nnz": str(model.network.nnz),
        **({} if model.compression is None else compression_note(model.compression)),
    }
    artifact = target.stamp(target.export(model.network, options), provenance)
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = artifact.write(Path(folder))
        except OSError as error:
            raise OutputError(
                f"cannot write to {folder}, the folder for verification: {error.strerror}",
                hint="nothing was written; set the environment variable TMPDIR to another folder",
            ) from error
        report("verify")
        try:
            verification = check_file(path, target)
        except EngineCrashError as error:
            raise EngineCrashError(f"{error.message}; nothing was written", _suspect(model.network)) from error
    missed = [sentence for each in verification for sentence in each.failures]
    if missed:
        raise VerificationError(
            f"the {target.name} file disagrees with its model; nothing was written:\n  - " + "\n  - ".join(missed),
            hint=_remedy(model, verification),
            results=verification,
        )
    not_run_in = {name: error.message for name, error in worker.versions(target.engines(artifact.main))[1].items()}
    return Exported(
        target.stamp(artifact, _verification_metadata(model.network.task, verification)),
        options,
        verification,
        not_run_in,
    )


def _remedy(model: Model, verification: tuple[Verification, ...]) -> str:
    """Return the next step after a failed verification."""
    quantization = model.quantization
    if "task" not in model.network.metadata and all(each.differs_in_decisions_alone for each in verification):
        return "if the outputs are values, not classes, state the task: regression, multilabel or reconstruction"
    if quantization is None or quantization.dtype == "float16":
        return "this is a defect of sen-edge, unless --dtype float16 was requested for a network that needs float32"
    if quantization.granularity == "tensor":
        return (
            "one scale per matrix is too coarse for this network: use granularity channel, or another --tflite-target"
        )
    if quantization.calibration is None:
        return "add --calibration with representative inputs"
    if quantization.dtype.startswith("int4"):
        return "this network needs more than four bits: use --dtype int8 or int8-dynamic"
    return "this network needs more than eight bits: use --dtype float16" + (
        " or int8-dynamic" if quantization.dtype == "int8" else ""
    )


def _suspect(network: Network) -> str:
    """Return the likely cause of an engine crash: the smallest int8 step, if any."""
    steps = {index: layer.grid.scale for index, layer in enumerate(network.layers) if layer.grid is not None}
    if not steps:
        return "omit this target from --to, or report the crash to the authors of the engine"
    layer = min(steps, key=steps.__getitem__)
    return f"the smallest int8 step is {steps[layer]:.3g}, in layer {layer}; export with another --dtype or target"


def _verification_metadata(task: str, verification: tuple[Verification, ...]) -> dict[str, str]:
    """Return figures for the metadata of the file: bounds, so bytes do not depend on the rounding of a machine."""
    error = max(each.max_rel_error for each in verification)
    bound = 0.0 if error == 0 else 10.0 ** np.ceil(np.log10(error))
    decided = [each.decision_agreement for each in verification if each.decision_agreement is not None]
    what = "argmax" if task == CLASSIFICATION else "label"
    return {
        "verified_inputs": str(verification[0].inputs),
        "verified_max_rel_error": f"<= {bound:.0e}",
        **({f"verified_{what}_agreement": f">= {np.floor(100 * min(decided)):.0f} %"} if decided else {}),
    }


def _refuse_outputs(
    model: Model, out_dir: Path, exporters: list[Exporter], options: Mapping[str, ExportOptions], *, force: bool
) -> None:
    """Reject existing outputs; `force` never replaces the model, which may be an image."""
    parts = [each.main_file(options[each.name]).partition("/") for each in exporters]
    names = [f"{first}{slash}" for first, slash, _ in parts]  # folders end in `/`
    for path in (out_dir / name for name in names):
        if model.path is not None and path.exists() and model.path.exists() and path.samefile(model.path):
            raise OutputError(f"{path} is the model", hint="choose another output with -o or --name")
    refuse_existing(out_dir, names, force=force)


def _refuse_default_outputs(
    model: Model,
    out_dir: Path,
    exporters: list[Exporter],
    options: Mapping[str, ExportOptions],
    request: ExportRequest,
    calibration: Calibration | None,
) -> None:
    """Reject existing outputs before the compression, except those of targets that refuse the uncompressed network.

    Such default targets may be skipped, so that nothing replaces their outputs.
    """
    try:
        _refuse_outputs(model, out_dir, exporters, options, force=request.force)
    except OutputError:
        network, accepting = _lower(model, request, calibration, options).network, []
        for target in exporters:
            with suppress(ExportError):
                target.check(network, options[target.name])
                accepting.append(target)
        _refuse_outputs(model, out_dir, accepting, options, force=request.force)
