"""Training of spiking networks with delays.

Adam with a cosine schedule after a warm-up, with a learning rate for each kind of parameter; the best epoch by held-out
training data. The loss is the cross-entropy and penalties of spike rates, delays beyond the ring, and wiring length.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Lt, MinLen
from torch import Tensor, nn
from torch.nn import functional

import sen_edge
from sen_edge.data.datasets import Dataset, check_dataset
from sen_edge.display import Displayed
from sen_edge.errors import DataError
from sen_edge.model.config import Decay, Size, SpikingConfig
from sen_edge.model.delayed.config import DelayedConfig, DelayForm, Sigma, Steps, SynapseDecay, WeightForm
from sen_edge.model.delayed.network import DelayedNetwork
from sen_edge.overwrite import refuse_file, write_outputs
from sen_edge.progress import Progress, silent
from sen_edge.schema import Count, NonNegative, OpenShare, Positive, Schema, SchemaError, Whole
from sen_edge.training.loop import Augment, Best, Epoch, Run, fit, prepare, steps_per_epoch
from sen_edge.training.objective import Objective, Part, evaluate, objective_of
from sen_edge.training.recipe import Recipe
from sen_edge.training.scaling import collapse_warnings
from sen_runtime import format as image
from sen_runtime.ir.network import Network
from sen_runtime.memory_limits import catch_allocation_errors
from sen_runtime.task import CLASSIFICATION, Metric

LOG = logging.getLogger(__name__)
#: Fields of a request that those of a configuration and of its neurons are copied from.
SPIKING_FIELDS = ("threshold", "reset", "input_coding", "readout", "surrogate_slope", "delta")
NETWORK_FIELDS = ("weights", "delays", "max_delay", "overflow", "recurrent", "synapse", "exponent", "delay_sigma")
#: Share of the steps with a rising learning rate; decay of the squared gradient in Adam.
WARM_UP, SECOND_MOMENT = 0.05, 0.99
#: Weight of the mean excess of delays over the ring in the loss.
EXCESS_COST = 0.2
#: Examples for the calibration of initial weights.
CALIBRATION = 256
#: Share of the epochs until the pruned share is reached.
PRUNED_BY = 0.5


@dataclass(frozen=True)
class DelayedTrainRequest(Schema):
    """Network and schedule of a training with delays.

    Attributes:
        hidden: neurons of each hidden layer.
        weights: "free", or "positions".
        delays: of hidden layers: "none", "free", or "positions".
        dims: coordinates per position.
        max_delay: longest delay in steps.
        overflow: longer delays of the trained network are clamped, or an error.
        recurrent: whether hidden neurons have synapses from their own layer.
        synapse: decay of the synaptic current of hidden layers per step.
        beta: decay of the membrane of hidden neurons per step.
        readout_beta: decay of the membrane of the readout per step.
        threshold: membrane above which a neuron spikes.
        reset: membrane after a spike.
        readout: output of the last layer.
        input_coding: how sequences `[n, T, c]` arrive: spikes, current or delta.
        delta: min change that spikes, of input coding "delta".
        surrogate_slope: slope of the surrogate gradient.
        exponent: power of the distance in weights from positions.
        position_scale: initial positions are uniform in [-scale, scale], in steps.
        epochs: passes over the training data.
        batch_size: examples per step.
        learning_rate: peak rate of free weights, masks, logarithms of gains, and biases.
        position_rate: peak rate of positions and free delays, in steps.
        delay_sigma: standard deviation, in steps, of the Gaussian that smooths the loss in the gradient of a delay.
        scale_rate: peak rate of logarithms of scales of delays; by default position_rate / max_delay.
        label_smoothing: share of the target that is spread over all classes.
        min_rate: mean spikes per neuron and inference below which a neuron is penalized.
        max_rate: mean spikes per neuron and inference above which a neuron is penalized.
        rate_cost: weight of these penalties in the loss.
        wiring_cost: weight of the mean delay in steps in the loss, which shortens the wiring.
        sparsity: share of the synapses that are removed, the longest ones, of free weights with delays from positions.
        validation: share of the training data that is held out to select the epoch.
        seed: of initial parameters, held-out examples, batch order and augmentation.
    """

    hidden: Annotated[tuple[Size, ...], MinLen(1)] = (64,)
    weights: WeightForm = "free"
    delays: DelayForm = "positions"
    dims: Size = 3
    max_delay: Steps = 24
    overflow: Literal["clamp", "error"] = "clamp"
    recurrent: bool = False
    synapse: SynapseDecay = 0.0
    beta: Decay = 0.9
    readout_beta: Decay = 0.95
    threshold: Positive = 1.0
    reset: Literal["subtract", "zero"] = "zero"
    readout: Literal["mean_membrane", "last_membrane"] = "mean_membrane"
    input_coding: Literal["spikes", "current", "delta"] = "spikes"
    delta: Positive | None = None
    surrogate_slope: Positive = 5.0
    exponent: Positive = 1.0
    position_scale: Positive = 5.0
    epochs: Count = 60
    batch_size: Count = 64
    learning_rate: Positive = 4e-3
    position_rate: Positive = 0.03
    delay_sigma: Sigma = 2.0
    scale_rate: Positive | None = None
    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.05
    min_rate: NonNegative = 0.1
    max_rate: Positive = 12.0
    rate_cost: NonNegative = 0.05
    wiring_cost: NonNegative = 0.0
    sparsity: Annotated[float, Ge(0), Lt(1)] = 0.0
    validation: OpenShare = 1 / 12
    seed: Whole = 0

    def check(self) -> None:
        """Refuse options without effect."""
        self.require("positions" in (self.weights, self.delays), "positions", "dims", "position_scale")
        self.require(self.weights == "positions", "weights positions", "exponent")
        self.require(self.delays != "none", "delays", "max_delay", "overflow", "wiring_cost", "delay_sigma")
        self.require(self.delays == "positions", "delays positions", "scale_rate")
        can_prune = (self.weights, self.delays) == ("free", "positions")
        self.require(can_prune, "weights free and delays positions", "sparsity")
        if self.min_rate > self.max_rate:
            raise SchemaError(f"is {self.min_rate:g}; expected at most max_rate {self.max_rate:g}", key="min_rate")


@dataclass(frozen=True, repr=False)
class DelayedResult(Displayed):
    """Result of a training.

    Attributes:
        network: of the best epoch.
        path: of its image.
        n_parameters: learned numbers.
        best_epoch: with the best validation score, from 1.
        metric: of the task; scores are in its unit.
        validation_score: of that epoch on held-out training data.
        test_score: of that epoch on the test data.
        history: loss and validation score of each epoch.
    """

    network: Network
    path: Path
    n_parameters: int
    best_epoch: int
    metric: Metric
    validation_score: float
    test_score: float
    history: tuple[Epoch, ...]

    def summary(self) -> Mapping[str, object]:
        """Return file, layers, parameters, scores and best epoch."""
        return {
            "path": self.path,
            "layers": "-".join(map(str, self.network.layer_sizes)),
            "parameters": self.n_parameters,
            f"test {self.metric.name}": self.metric.text(self.test_score),
            f"validation {self.metric.name}": self.metric.text(self.validation_score),
            "best_epoch": self.best_epoch,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "output": str(self.path),
            "layers": list(self.network.layer_sizes),
            "parameters": self.n_parameters,
            "metric": asdict(self.metric),
            "test_score": self.test_score,
            "validation_score": self.validation_score,
            "best_epoch": self.best_epoch,
        }


def config_of(request: DelayedTrainRequest, dataset: Dataset) -> DelayedConfig:
    """Return the configuration of a request for these data."""
    if dataset.task != CLASSIFICATION or dataset.train_inputs.ndim != 3:
        found = f"a {dataset.task} of inputs {list(dataset.train_inputs.shape[1:])}"
        raise DataError(f"{dataset.name}: got {found}; expected classes of sequences [n, T, c]")
    channels, n_hidden = 2 if request.input_coding == "delta" else 1, len(request.hidden)
    spiking = SpikingConfig(
        timesteps=dataset.train_inputs.shape[1],
        beta=(*(request.beta,) * n_hidden, request.readout_beta),
        **{name: getattr(request, name) for name in SPIKING_FIELDS},
    )
    return DelayedConfig(
        layer_sizes=(channels * dataset.n_in, *request.hidden, dataset.n_out),
        spiking=spiking,
        dimensions=request.dims,
        input_range=dataset.input_range,
        **{name: getattr(request, name) for name in NETWORK_FIELDS},
    )


@catch_allocation_errors()
def train(
    request: DelayedTrainRequest,
    dataset: Dataset,
    *,
    out: Path,
    force: bool = False,
    augment: Augment | None = None,
    progress: Progress = silent,
) -> DelayedResult:
    """Train a network and write the image of the best epoch.

    `augment` changes the inputs of each training batch, with a generator of the seed.

    Raises:
        DataError: the data are no classes of sequences, or do not fit the input coding.
        OutputError: `out` exists or cannot be written.
        UsageError: `out` is no `.sen`.
        NetworkError: a delay is longer than `max_delay`, and `overflow` is "error".
        TrainingError: the loss is not finite.
    """
    refuse_file(out, (".sen",), force=force)
    config = config_of(request, dataset)
    check_dataset(dataset, config)
    longest = config.max_delay if config.delays != "none" else 0
    if config.spiking.timesteps <= longest:
        LOG.warning(
            "%s has %d steps; delays of up to %d steps lose spikes", dataset.name, config.spiking.timesteps, longest
        )
    for warning in dataset.warnings():
        LOG.warning(warning)
    network = DelayedNetwork(config)
    best, run, objective = _fit(network, request, dataset, augment, progress)
    score = evaluate(network, Part.whole(dataset.test), objective)[0][objective.metric]
    for warning in collapse_warnings(dataset, network, score):
        LOG.warning(warning)
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    metadata = {
        "input_range": f"{dataset.input_range[0]:.9g} {dataset.input_range[1]:.9g}",
        "dataset": dataset.name,
        "training": json.dumps(asdict(request)),
        f"validation_{objective.metric.key}": objective.metric.number(best.score),
        f"test_{objective.metric.key}": objective.metric.number(score),
        "sen_edge_version": sen_edge.__version__,
    }
    if dataset.output_names:
        metadata["output_names"] = json.dumps(dataset.output_names, ensure_ascii=False)
    found = replace(network.to_network(), metadata=metadata)
    write_outputs(out.parent, {out.name: image.dumps(found)}, force=force)
    return DelayedResult(found, out, n_parameters, best.epoch, objective.metric, best.score, score, tuple(run.history))


def _fit(
    network: DelayedNetwork, request: DelayedTrainRequest, dataset: Dataset, augment: Augment | None, progress: Progress
) -> tuple[Best, Run, Objective]:
    recipe = Recipe(
        epochs=request.epochs, batch_size=request.batch_size, seed=request.seed, validation=request.validation
    )
    examples, objective = prepare(dataset, recipe, augment), objective_of(network, dataset.training, recipe)
    network.reset_parameters(request.seed, request.position_scale)
    network.calibrate(examples.training.batch(slice(CALIBRATION))[0])
    run = start(network, request.epochs * steps_per_epoch(examples, recipe), request)
    n_pruning = round(PRUNED_BY * request.epochs) if request.sparsity else 0

    def prune(epoch: int) -> None:
        if request.sparsity and epoch <= n_pruning:
            rest = 1 - epoch / n_pruning if n_pruning else 0.0
            for connection in network.delayed():
                connection.prune(request.sparsity * (1 - rest**3))

    loss = partial(loss_of, network, request)
    best = fit(run, examples, recipe, objective, loss=loss, before=prune, first=n_pruning, progress=progress)
    return best, run, objective


def loss_of(
    network: DelayedNetwork, request: DelayedTrainRequest, _: Tensor, outputs: Tensor, targets: Tensor
) -> Tensor:
    """Compute the loss of the last pass of the network, which gave `outputs`."""
    value = functional.cross_entropy(outputs, targets, label_smoothing=request.label_smoothing)
    for rates in network.rates:
        low, high = functional.relu(request.min_rate - rates), functional.relu(rates - request.max_rate)
        value = value + request.rate_cost * (low.square() + high.square()).mean()
    for each in network.delayed():
        value = value + EXCESS_COST * each.excess()
        if request.wiring_cost and (delay := each.delay()) is not None:
            value = value + request.wiring_cost * delay.mean()
    return value


def start(network: DelayedNetwork, n_steps: int, request: DelayedTrainRequest) -> Run:
    """Create a run with a learning rate for each kind of parameter."""
    rate = request.position_rate
    rates = {"positions": rate, "steps": rate, "log_scale": request.scale_rate or rate / request.max_delay}
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        kinds = set(rates).intersection(name.split("."))
        groups.setdefault(rates[kinds.pop()] if kinds else request.learning_rate, []).append(parameter)
    optimizer = torch.optim.Adam(
        [{"params": found, "lr": rate} for rate, found in groups.items()], betas=(0.9, SECOND_MOMENT)
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, list(groups), total_steps=n_steps, pct_start=WARM_UP, cycle_momentum=False
    )
    return Run(network, optimizer, schedule, torch.Generator().manual_seed(request.seed))
