"""Compression of a model: a request in; a network or a checkpoint and all figures out, and their files."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sen_edge.compression.budget import search
from sen_edge.compression.far_field import factorize_coordinates
from sen_edge.compression.finetune import distil, finetune, finetune_recipe, free_recipe
from sen_edge.compression.hierarchical import hierarchical
from sen_edge.compression.lowrank import factorize, rank_layers
from sen_edge.compression.moments import CompressionWarning, Inputs
from sen_edge.compression.prune import prune
from sen_edge.compression.request import CompressRequest
from sen_edge.data.calibration import Calibration, load_calibration
from sen_edge.data.datasets import Dataset, check_dataset, load_for
from sen_edge.display import Displayed
from sen_edge.errors import OutputError, UsageError
from sen_edge.model import checkpoint as checkpoints
from sen_edge.model.model import SUFFIXES, Model, to_bytes
from sen_edge.model.parameters import Checkpoint, compression_note, map_note, metric_of
from sen_edge.model.statistics import MAX_WRITTEN_OUT, layer_figures
from sen_edge.overwrite import refuse_existing, write_outputs
from sen_edge.passes.materialize import materialize
from sen_edge.passes.quantize import to_float16
from sen_edge.progress import Progress, silent
from sen_edge.training.recipe import suggested_recipe
from sen_runtime import __version__
from sen_runtime.data.subsample import subsample
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network, stored_dtype
from sen_runtime.ir.operators import Coordinates
from sen_runtime.memory_limits import catch_allocation_errors, require_network
from sen_runtime.scores import network_scores, task_of

#: Live at once for each weight: the measured peak of pruning is 48.
COMPRESS_BYTES = 24
#: Calibration inputs; of a spiking network fewer, because each has several steps.
MAX_INPUTS, MAX_SPIKING_INPUTS = 20_000, 4096
IMAGE_HINT = "write a .sen image instead"


@dataclass(frozen=True, repr=False)
class Compressed(Displayed):
    """Compressed model.

    Attributes:
        network: as it is stored.
        checkpoint: of the same network, where it is still a SEN and one was requested; else None.
        figures: everything measured, plain values for JSON.
        source: the model before.
    """

    network: Network
    checkpoint: Checkpoint | None
    figures: Mapping[str, Any]
    source: Model

    def summary(self) -> Mapping[str, object]:
        """Return MACs, bytes and the metric of the task, each with the value before."""
        before, after, score = self.figures["before"], self.figures["after"], self.figures["score"]
        figures = {
            "macs": f"{after['macs']:,} (was {before['macs']:,})",
            "weight_bytes": f"{after['weight_bytes']:,} (was {before['weight_bytes']:,})",
        }
        if score is not None:
            compressed, original = (metric_of(score).text(score[of]) for of in ("compressed", "original"))
            figures[score["metric"]] = f"{compressed} (was {original})"
        return figures

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest."""
        return self.manifest

    @property
    def model(self) -> Model:
        """The compressed network, derived from the source."""
        figures = dict(self.figures)
        return self.source.derive(self.network, checkpoint=self.checkpoint, compression=figures, quantization=None)

    @property
    def manifest(self) -> dict[str, Any]:
        """Figures with the version of sen-edge and the source; plain values for JSON."""
        source = {"input": self.source.name, "map": map_note(self.source.origin.applied_map)["map"]}
        return {"sen_edge": __version__, **source, **self.figures}

    def save(self, path: str | Path, *, force: bool = False) -> list[Path]:
        """Write model and manifest atomically.

        Args:
            path: `.sen`, or `.pt` or `.safetensors` for a checkpoint; the manifest is PATH's stem with the suffix
                `.manifest.json`.
            force: replace existing files.

        Returns:
            Paths of both files.

        Raises:
            UsageError: another suffix; or that of a checkpoint, and there is none.
            OutputError: a file exists, is the source, or cannot be written.
        """
        path = Path(path)
        check_output(path, self.source.path, force=force)
        data = to_bytes(self.model, path.suffix)
        manifest = manifest_path(path)
        text = json.dumps(self.manifest, indent=2, sort_keys=True) + "\n"
        write_outputs(path.parent, {path.name: data, manifest.name: text.encode()}, force=force)
        return [path, manifest]


def manifest_path(path: Path) -> Path:
    """Path of the manifest of a compressed model."""
    return path.with_name(f"{path.stem}.manifest.json")


def check_output(path: Path, source: Path | None, *, force: bool) -> None:
    """Reject a path that `Compressed.save` would reject for a model with the file `source`."""
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path}: suffix is {path.suffix!r}; expected one of {', '.join(SUFFIXES)}")
    refuse_existing(path.parent, [path.name, manifest_path(path).name], force=force)
    if source is not None and path.exists() and source.exists() and path.samefile(source):
        raise OutputError(f"{path} is the model itself", hint="choose another file")


@catch_allocation_errors()
def compress(
    model: Model,
    request: CompressRequest,
    *,
    calibration: Calibration | None = None,
    dataset: Dataset | None = None,
    as_checkpoint: bool = False,
    state: Path | None = None,
    progress: Progress = silent,
) -> Compressed:
    """Compress a checkpoint or an image with floating-point weights.

    Labelled data are for training and a search; the score is measured on their test part, once. By default, their
    training inputs calibrate. With `as_checkpoint` the result is a SEN again. An interrupted search resumes from the
    file `state`.

    Raises:
        UsageError: the request asks for nothing, or contradicts the model.
        DataError: data are missing or do not fit.
        BudgetError: nothing keeps the score.
        NetworkError, TrainingError: see the passes.
    """
    _check(model, request, dataset, as_checkpoint=as_checkpoint)
    if request.task == "search" and calibration is not None:
        raise UsageError("calibration has no effect on a search", hint="a search is calibrated on --data")
    if calibration is None and dataset is not None:
        inputs = subsample(dataset.train_inputs, _max_inputs(model.network))
        calibration = Calibration(dataset.training.title, inputs, inputs[:0], dataset.sha256)
    if request.task in ("prune", "search") or (request.task == "factorize" and calibration is not None):
        require_network(model.network, COMPRESS_BYTES)
    given = None if calibration is None else calibration.inputs
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CompressionWarning)
        network, checkpoint, details = _run(model, request, given, dataset, as_checkpoint, state, progress)
    if checkpoint is None and request.task != "search" and stored_dtype(model.network) == "float16":
        network = to_float16(network)
    messages = [] if dataset is None else dataset.training.warnings(network.n_out)
    messages += [str(each.message) for each in caught if issubclass(each.category, CompressionWarning)]
    before = _materialize_small(model.network)
    samples = None
    if calibration is not None:
        samples = {"data": calibration.name, "sha256": calibration.sha256, "samples": len(calibration.inputs)}
    previous = model.network.metadata.get("compression")
    if model.compression is not None:
        previous = compression_note(model.compression)["compression"]
    figures = {
        **details,
        "request": asdict(request),
        **({} if previous is None else {"previous": previous}),
        "input_sha256": model.sha256,
        "before": {"macs": before.macs, "weight_bytes": before.nbytes},
        "after": {"macs": _materialize_small(network).macs, "weight_bytes": network.nbytes},
        "layers": [asdict(each) for each in layer_figures(network)],
        "calibration": samples,
        "score": None if dataset is None else _score(model, network, dataset),
        "warnings": list(dict.fromkeys(messages)),
    }
    return Compressed(network, checkpoint, json.loads(json.dumps(figures)), model)


def load_inputs(
    model: Model, calibration: str | None, data: str | None, data_dir: Path | None
) -> tuple[Calibration | None, Dataset | None]:
    """Load the calibration inputs and the labelled data of a compression, each by name of a data set or by path."""
    network = model.network
    inputs = None if calibration is None else load_calibration(calibration, data_dir, network, _max_inputs(network))
    dataset = None if data is None else load_for(data, data_dir, network)
    return inputs, dataset


def _max_inputs(network: Network) -> int:
    return MAX_SPIKING_INPUTS if network.is_spiking else MAX_INPUTS


def _check(model: Model, request: CompressRequest, dataset: Dataset | None, *, as_checkpoint: bool) -> None:
    network = model.network
    if request.task is None:
        raise UsageError("nothing to do", hint="name --sparsity, --rank, --macs, --error, --max-drop or --max-flash")
    if not network.is_instant:
        raise UsageError("networks with delays, recurrent synapses or synaptic currents are not compressed")
    stored = stored_dtype(network).removesuffix("-dynamic")
    if stored.startswith("int"):
        raise UsageError(f"the weights are {stored} already", hint="compress the network before its quantization")
    task = "a search" if request.task == "search" else "training" if request.epochs else None
    if task and dataset is None:
        raise UsageError(f"{task} needs labelled data", hint="name them with --data")
    if dataset is not None:
        if dataset.task != network.task:
            raise UsageError(f"{dataset.name} is for {dataset.task}, the network for {network.task}")
        check_dataset(dataset, network)
    if request.max_drop is not None and request.max_drop >= 100 and task_of(network).metric.unit:
        raise UsageError(f"--max-drop is {request.max_drop:g}; expected less than 100 points")
    if not as_checkpoint:
        return
    if model.checkpoint is None:
        raise UsageError("an image has no coordinates, which a checkpoint needs", IMAGE_HINT)
    if request.task != "prune" or request.pattern == "neurons":
        raise UsageError("the result is not given by the coordinates of a checkpoint", IMAGE_HINT)
    if request.criterion == "second-order" and not request.epochs:
        raise UsageError(
            "second-order pruning changes the remaining weights, and a checkpoint holds coordinates",
            hint=f"train these under the pattern with --epochs 20, or {IMAGE_HINT}",
        )


def _run(
    model: Model,
    request: CompressRequest,
    inputs: Inputs | None,
    dataset: Dataset | None,
    as_checkpoint: bool,
    state: Path | None,
    progress: Progress,
) -> tuple[Network, Checkpoint | None, dict[str, Any]]:
    """The network, its checkpoint, and figures of the method."""
    if request.task == "search":
        assert dataset is not None  # checked before; for mypy
        found = search(model.network, dataset, request, state=state, progress=progress)
        return found.network, None, {"search": found.to_dict()}
    checkpoint = model.checkpoint if as_checkpoint else None
    if not request.epochs:
        if checkpoint is None:
            return _compress_once(model.network, request, inputs), None, {}
        pruned = _prune_checkpoint(checkpoint, model.network, request, inputs)
        return checkpoints.to_network(pruned), pruned, {}
    assert dataset is not None  # as above
    if checkpoint is not None:
        config = checkpoint.config
        suggested = suggested_recipe(dataset, config.dimensions, config.exponent, len(config.layer_sizes) - 1)
        recipe = finetune_recipe(suggested)
        recipe = replace(recipe, epochs=request.epochs, seed=request.seed)
        tuned = finetune(checkpoint, dataset, request, recipe, request.tuning(0.0), progress=progress)
    else:
        network, original = _compress_once(model.network, request, inputs), materialize(model.network)
        recipe = free_recipe(dataset, request.epochs, request.seed)
        tuned = distil(network, original, dataset, recipe, request.tuning(1.0), progress=progress)
    training = {
        "best_epoch": tuned.best_epoch,
        "epochs": len(tuned.history),
        "validation_score": tuned.validation_score,
        "original_validation_score": tuned.original_score,
    }
    return tuned.network, tuned.checkpoint, {"training": training}


def _compress_once(network: Network, request: CompressRequest, inputs: Inputs | None) -> Network:
    if request.task == "prune":
        return prune(network, request, calibration=inputs)
    if request.task == "factorize" and inputs is not None:
        return factorize(network, request, calibration=inputs)
    return _compress_coordinates(network, request)


def _compress_coordinates(network: Network, request: CompressRequest) -> Network:
    """Hierarchical or low-rank form of the weights themselves, without inputs; no matrix is formed.

    Layers that would not become smaller, often the last, stay as they are.
    """
    if request.macs is not None or request.near:
        raise UsageError("a share of the MACs and a near field need calibration inputs", "name them with --calibration")
    chosen = range(len(network.layers)) if request.task == "hierarchical" else rank_layers(request, network)
    layers: list[Layer] = []
    reason = UsageError("no requested layer has coordinates", "calibration inputs make them unnecessary")
    for index, layer in enumerate(network.layers):
        try:
            layers += _compress_layer(layer, request) if index in chosen else (layer,)
        except UsageError as error:
            reason = UsageError(f"layer {index}: {error.message}", error.hint)
            layers.append(layer)
    if all(layer in network.layers for layer in layers):
        raise reason
    return replace(network, layers=tuple(layers))


def _compress_layer(layer: Layer, request: CompressRequest) -> tuple[Layer, ...]:
    if request.hierarchical is not None:
        return hierarchical(layer, tolerance=request.hierarchical, seed=request.seed)[0]
    if not isinstance(layer.weight, Coordinates):
        return (layer,)
    factors, _ = factorize_coordinates(layer.weight, tolerance=request.error, rank=request.rank, seed=request.seed)
    if factors.macs >= layer.weight.macs:
        raise UsageError(f"rank {request.rank} takes as many MACs as the weights", hint="request a lower rank")
    return (replace(layer, weight=factors),)


def _prune_checkpoint(
    checkpoint: Checkpoint, network: Network, request: CompressRequest, inputs: Inputs | None
) -> Checkpoint:
    """Return the checkpoint with the radii or synapses of the pruned network, and its biases if there are any."""
    pruned = prune(network, request, calibration=inputs)
    config = checkpoint.config
    tensors, synapses, radii = dict(checkpoint.tensors), dict(checkpoint.synapses), [0.0] * len(pruned.layers)
    for index, layer in enumerate(pruned.layers):
        if isinstance(layer.weight, Coordinates):
            radii[index] = layer.weight.max_distance if layer.weight.has_max_distance else 0.0
        else:
            synapses[index] = layer.weight.to_dense() != 0
        if config.bias and layer.bias is not None:
            tensors[f"bias.{index}"] = layer.bias
    if any(radii):
        config = replace(config, max_distance=tuple(radii))
    return Checkpoint(config, tensors, checkpoint.metadata, synapses=synapses)


def _materialize_small(network: Network) -> Network:
    """Materialize the weights, unless a layer is too large for that."""
    largest = max(layer.weight.shape[0] * layer.weight.shape[1] for layer in network.layers)
    return materialize(network) if largest <= MAX_WRITTEN_OUT else network


def _score(model: Model, network: Network, dataset: Dataset) -> dict[str, Any]:
    """Metric of the task on the test data, before and after."""
    metric = task_of(model.network).metric
    return {
        "metric": metric.name,
        "unit": metric.unit,
        "data": dataset.test.title,
        "samples": len(dataset.test.inputs),
        "original": network_scores(materialize(model.network), dataset.test)[metric],
        "compressed": network_scores(materialize(network), dataset.test)[metric],
    }
