"""Public Python API: one function per step, from training to measurement.

    model = sen_edge.load("model.pt")
    small = sen_edge.compress(model, sparsity=0.9, data="digits")
    sen_edge.export(small, "out", to="onnx", data="digits")

Models are paths or loaded models; data are names of data sets, or paths. Functions print
nothing: warnings go to the logger `sen_edge`, progress to a callback. Errors are subclasses of
`sen_runtime.errors.SenError`.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from torch.utils.data import Dataset as TorchDataset

from sen_edge.compression import pipeline
from sen_edge.compression.pipeline import Compressed
from sen_edge.compression.request import CompressRequest
from sen_edge.data import datasets, torch_dataset
from sen_edge.data.calibration import load_calibration
from sen_edge.display import Displayed
from sen_edge.errors import UsageError
from sen_edge.exporting import pipeline as export_pipeline
from sen_edge.exporting import quantization
from sen_edge.exporting.manifest import ExportResult
from sen_edge.exporting.request import ExportRequest, VerifyRequest
from sen_edge.exporting.torch_module import TorchLayer, from_torch  # noqa: F401 (public)
from sen_edge.exporting.verify.expectation import check
from sen_edge.exporting.verify.result import Verification
from sen_edge.exporting.verify.verification import verify_file
from sen_edge.model.build import build  # noqa: F401 (public)
from sen_edge.model.model import Model, load
from sen_edge.progress import Progress, silent
from sen_edge.schema import Schema, fields_of, parse, split
from sen_edge.training import delayed
from sen_edge.training import train as training
from sen_edge.training.delayed import DelayedResult, DelayedTrainRequest
from sen_edge.training.loop import Augment
from sen_edge.training.request import TrainRequest
from sen_edge.training.train import TrainResult
from sen_runtime.bench import measure
from sen_runtime.bench.plan import BenchRequest
from sen_runtime.task import CLASSIFICATION

LOG = logging.getLogger(__name__)
StrPath = str | Path
KEYWORD_ONLY = inspect.Parameter.KEYWORD_ONLY
Function = TypeVar("Function", bound=Callable[..., Any])


def _takes(schema: type[Schema]) -> Callable[[Function], Function]:
    """List the fields of a schema in the signature of a function instead of `**options`."""

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function, eval_str=True)
        own = [each for each in signature.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
        defaults = {each.name: each.default for each in dataclasses.fields(schema)}  # type: ignore[arg-type]  # subclasses
        fields = []
        for name, kind in fields_of(schema).items():
            if name not in {each.name for each in own}:
                default = {} if defaults[name] is dataclasses.MISSING else defaults[name]
                base = split(kind)[0]
                annotation = base if default is not None else base | None
                fields.append(inspect.Parameter(name, KEYWORD_ONLY, default=default, annotation=annotation))
        function.__signature__ = signature.replace(parameters=[*own, *fields])  # type: ignore[attr-defined]
        function.schema = schema  # type: ignore[attr-defined]
        return function

    return decorate


def _model(model: Model | Compressed | StrPath, map_path: StrPath | None = None) -> Model:
    """Return a loaded model; load a path."""
    if isinstance(model, (str, Path)):
        return load(model, map_path=map_path)
    if not isinstance(model, (Model, Compressed)):
        raise UsageError(f"model is {type(model).__name__}; expected a path, a Model or a Compressed")
    if map_path is not None:
        raise UsageError("map_path has no effect on a loaded model", hint="pass it to sen_edge.load")
    return model.model if isinstance(model, Compressed) else model


def _log(warnings: Iterable[str]) -> None:
    for warning in warnings:
        LOG.warning(warning)


def _folder(data_dir: StrPath | None) -> Path | None:
    return None if data_dir is None else Path(data_dir)


@_takes(TrainRequest)
def train(
    data: StrPath | TorchDataset[Any] | tuple[TorchDataset[Any], TorchDataset[Any]],
    output: StrPath = "model.pt",
    *,
    data_dir: StrPath | None = None,
    force: bool = False,
    resume: bool = False,
    progress: Progress = silent,
    **options: Any,
) -> TrainResult:
    """Train a network and write a checkpoint of the best epoch on held-out training data.

    Args:
        data: `mnist`, `digits`, or a file or folder, see docs/reference/data.md; or a map-style torch dataset of
            (input, target) items, or a pair of them for training and test.
        output: `.pt` or `.safetensors`.
        data_dir: folder of the data sets.
        force: replace the output and an interrupted run.
        resume: resume an interrupted run, if there is one.
        progress: receives the stage and the completed share.
        options: fields of `sen_edge.training.request.TrainRequest`, such as `arch`, `hidden`, `dims`, `epochs`, `seed`.

    Returns:
        Path, scores and the checkpoint.

    Raises:
        DataError, UsageError, OutputError, TrainingError: see `sen_edge.training.train.train`.
    """
    request = parse(TrainRequest, options, "")
    if isinstance(data, (str, Path)):
        dataset = datasets.load(
            str(data), _folder(data_dir), task=request.task, target=request.target, has_steps=request.has_steps
        )
    else:
        dataset = torch_dataset.to_dataset(data, task=request.task, has_steps=request.has_steps)
    return training.train(
        training.config_of(request, dataset),
        dataset,
        training.recipe_of(request, dataset),
        out=Path(output),
        replace=force,
        resume=resume,
        progress=progress,
    )


@_takes(DelayedTrainRequest)
def train_delayed(
    data: StrPath | TorchDataset[Any] | tuple[TorchDataset[Any], TorchDataset[Any]],
    output: StrPath = "model.sen",
    *,
    data_dir: StrPath | None = None,
    force: bool = False,
    augment: Augment | None = None,
    progress: Progress = silent,
    **options: Any,
) -> DelayedResult:
    """Train a spiking network with delays and write an image of the best epoch on held-out training data.

    Args:
        data: file or folder with classes of sequences `[n, T, c]`, see docs/reference/data.md; or a map-style torch
            dataset of (input, target) items, or a pair of them for training and test.
        output: `.sen`.
        data_dir: folder of the data sets.
        force: replace the output.
        augment: function of the inputs `[batch, T, c]` of a training batch and a generator, which returns inputs.
        progress: receives the stage and the completed share.
        options: fields of `sen_edge.training.delayed.DelayedTrainRequest`, such as `hidden`, `delays`, `max_delay`.

    Returns:
        Path, scores and the network; `sen_edge.load` reads the image.

    Raises:
        DataError, UsageError, OutputError, NetworkError, TrainingError: see `sen_edge.training.delayed.train`.
    """
    request = parse(DelayedTrainRequest, options, "")
    if isinstance(data, (str, Path)):
        dataset = datasets.load(str(data), _folder(data_dir), task=CLASSIFICATION, has_steps=True)
    else:
        dataset = torch_dataset.to_dataset(data, task=CLASSIFICATION, has_steps=True)
    return delayed.train(request, dataset, out=Path(output), force=force, augment=augment, progress=progress)


@_takes(CompressRequest)
def compress(
    model: Model | StrPath,
    *,
    data: StrPath | None = None,
    calibration: StrPath | None = None,
    data_dir: StrPath | None = None,
    as_checkpoint: bool = False,
    progress: Progress = silent,
    **options: Any,
) -> Compressed:
    """Prune or factorize a model, or search for the best network within a budget of the task's metric.

    Args:
        model: model with floating-point weights.
        data: labelled data for training, search and scores.
        calibration: unlabelled inputs; by default the training inputs of `data`.
        data_dir: folder of the data sets.
        as_checkpoint: train coordinates under the pattern; the result is a checkpoint.
        progress: receives the stage and the completed share.
        options: fields of `sen_edge.compression.request.CompressRequest`; one of `sparsity`, `threshold`, `rank`,
            `macs`, `error`, `hierarchical`, `max_drop` and `max_flash` selects the method.

    Returns:
        Compressed network and figures; see `Compressed.save` and `Compressed.model`.

    Raises:
        DataError, UsageError, BudgetError, NetworkError, TrainingError: see `sen_edge.compression.pipeline.compress`.
    """
    loaded, request = _model(model), parse(CompressRequest, options, "")
    calibrated, dataset = pipeline.load_inputs(
        loaded,
        None if calibration is None else str(calibration),
        None if data is None else str(data),
        _folder(data_dir),
    )
    result = pipeline.compress(
        loaded, request, calibration=calibrated, dataset=dataset, as_checkpoint=as_checkpoint, progress=progress
    )
    _log(result.figures["warnings"])
    return result


def quantize(
    model: Model | Compressed | StrPath,
    dtype: quantization.Dtype = "int8",
    *,
    calibration: StrPath | None = None,
    data_dir: StrPath | None = None,
    granularity: str = "channel",
    activation_range: str = "percentile",
) -> Model:
    """Quantize a model.

    Args:
        model: model with floating-point weights.
        dtype: "float16", "int8-dynamic" or "int4-dynamic" (weights), or "int8" or "int4" (weights, and activations in
            int8).
        calibration: calibration inputs; required for "int8" and "int4".
        data_dir: folder of the data sets.
        granularity: one scale of int8 weights per "channel" (row) or "tensor".
        activation_range: range of int8 activations: "percentile", "minmax" or "mse".

    Returns:
        Quantized model; `export` does not quantize it again.

    Raises:
        UsageError, DataError: see `sen_edge.exporting.quantization.quantize`.
    """
    loaded = _model(model)
    inputs_ = None if calibration is None else load_calibration(str(calibration), _folder(data_dir), loaded.network)
    return quantization.quantize(loaded, dtype, inputs_, granularity=granularity, activation_range=activation_range)


@_takes(ExportRequest)
def export(
    model: Model | Compressed | StrPath,
    output_dir: StrPath = ".",
    *,
    to: str | Sequence[str] | None = None,
    progress: Progress = silent,
    **options: Any,
) -> ExportResult:
    """Export a model, verify every file against it, and write files and manifest.

    Args:
        model: model to export.
        output_dir: output folder.
        to: one or more targets; None for ONNX and TFLite.
        progress: receives the stage and the completed share: stages of compression, then "build" and "verify" for
            each target, and "write".
        options: fields of `sen_edge.exporting.request.ExportRequest`, such as `dtype`, `weights`, `data`, `name`,
            `calibration`, `force`; options of exporters are passed as `options={"opset": 17}`.

    Returns:
        Paths with sizes, manifest, and verification figures.

    Raises:
        ExportError, UsageError, DataError, NetworkError: invalid model, request or data.
        VerificationError: a file disagrees with the model; nothing is written.
        OutputError: a file exists, or cannot be written.
    """
    names = [to] if isinstance(to, str) else to
    if isinstance(names, Sequence) and all(isinstance(each, str) for each in names):
        names = [part.strip() for part in ",".join(names).split(",") if part.strip()]
    if names is not None:
        options["to"] = names
    request = parse(ExportRequest, options, "")
    result = export_pipeline.export(_model(model, request.map_path), Path(output_dir), request, progress=progress)
    if request.is_compressed:
        _log(result.manifest["compression"]["warnings"])
    return result


@_takes(VerifyRequest)
def verify(artifact: StrPath, against: Model | Compressed | StrPath, **options: Any) -> tuple[Verification, ...]:
    """Run an exported file in all installed engines and compare it with its model.

    Args:
        artifact: main file of an export.
        against: model that was exported.
        options: fields of `sen_edge.exporting.request.VerifyRequest`: `data`, `calibration`, `data_dir`, `seed`,
            `expect`, `map_path`.

    Returns:
        Figures by engine.

    Raises:
        VerificationError: disagreement; `results` contains the figures.
        ExportError, EngineError, ImageError, DataError, UsageError: invalid file, data or options.
    """
    request = parse(VerifyRequest, options, "")
    model = _model(against, request.map_path)
    if request.expect is not None:
        check(model.origin, request.expect, model.name)
    results = verify_file(Path(artifact), model, request)
    _log(dict.fromkeys(warning for each in results for warning in each.warnings))
    return results


@dataclasses.dataclass(frozen=True, repr=False)
class Benchmark(Displayed):
    """Result of a benchmark.

    Attributes:
        record: content of the file that `sen-runtime bench --json` writes; see docs/reference/bench.md.
    """

    record: Mapping[str, Any]

    @property
    def rows(self) -> list[Mapping[str, Any]]:
        """Figures by file, engine and number of threads."""
        return list(self.record["rows"])

    def summary(self) -> Mapping[str, object]:
        """Return the median latency of each row."""
        reasons = {} if self.record["valid"] else {"not valid": "; ".join(self.record["invalid_because"])}
        return {**reasons, **{row["name"]: f"{row['latency_us']['median']:.4g} us" for row in self.rows}}

    def to_dict(self) -> dict[str, Any]:
        """Return the record."""
        return dict(self.record)


def bench(
    artifacts: StrPath | Sequence[StrPath],
    *,
    data: StrPath | None = None,
    engines: str | Sequence[str] = (),
    threads: int | Sequence[int] = 1,
    batch: int | Sequence[int] = 1,
    seconds: float = 10.0,
    cpu: int | Sequence[int] | Literal["big"] | None = None,
    rate: float | None = None,
    seed: int = 0,
) -> Benchmark:
    """Measure the latency of exported files in one interleaved run on this machine.

    Args:
        artifacts: files; the first is the baseline.
        data: file or folder with inputs and, for scores, targets; None for random inputs.
        engines: one or more names; empty for all installed engines.
        threads: number of threads, or several, one row each.
        batch: number of inputs in a call, or several, one row each.
        seconds: duration without loading and warm-up.
        cpu: cores to pin the process to, "big" for those of the highest capacity; None for any.
        rate: queries per second of a load test of each row, after the latencies; None for no load test.
        seed: seed of the order, of random inputs and of arrivals.

    Raises:
        BenchError, UsageError, EngineError, DataError: invalid files or options; see `sen_runtime.bench.measure.run`.
    """
    paths = [artifacts] if isinstance(artifacts, (str, Path)) else artifacts
    request = BenchRequest(
        tuple(map(Path, paths)),
        (engines,) if isinstance(engines, str) else tuple(engines),
        (threads,) if isinstance(threads, int) else tuple(threads),
        seconds,
        batches=(batch,) if isinstance(batch, int) else tuple(batch),
        data=None if data is None else Path(data),
        cpus=(cpu,) if isinstance(cpu, int) else cpu if cpu is None or isinstance(cpu, str) else tuple(cpu),
        rate=rate,
        seed=seed,
        command=("sen_edge.bench",),
    )
    return Benchmark(measure.run(request).record)
