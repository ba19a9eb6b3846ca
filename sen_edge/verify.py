"""Does an artifact compute what its checkpoint computes? Every export passes here before it is put in place.

The artifact runs in a real engine, the checkpoint in torch, on seeded inputs that include what users'
data rarely does: dense noise, sparse inputs, zeros, the extremes of the input range.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sen_edge.checkpoint import Checkpoint, to_module
from sen_edge.config import SpatialConfig
from sen_edge.errors import VerificationError
from sen_edge.spatial import SpatialNetwork
from sen_exporters.base import Exporter
from sen_runtime.engines import Session, engine
from sen_runtime.errors import EngineError, NetworkError

FloatArray = NDArray[np.float32]

#: Rows that torch or an engine takes at once: bounds memory, not results.
CHUNK = 1000


@dataclass(frozen=True)
class Tolerance:
    """What still counts as agreement.

    Attributes:
        output: greatest error of an output, relative to the standard deviation of all outputs.
        readout: least share of inputs whose outputs all keep `output`. Below 1 only for spiking networks:
            rounding flips a spike now and then, and one spike is a whole step of the readout.
        argmax: least share of inputs with the same greatest output.
        spikes: least share of equal spike counts, over hidden neurons and inputs.
        accuracy: greatest difference of the accuracies on the user's data, in points.
    """

    output: float
    readout: float = 1.0
    argmax: float = 0.995
    spikes: float = 1.0
    accuracy: float = 0.05


TOLERANCES = {
    ("mlp", "float32"): Tolerance(output=1e-4),
    ("mlp", "float16"): Tolerance(output=2e-2, argmax=0.98, accuracy=0.5),
    ("snn", "float32"): Tolerance(output=1e-4, readout=0.98, argmax=0.98, spikes=0.999),
    ("snn", "float16"): Tolerance(output=2e-1, readout=0.9, argmax=0.9, spikes=0.98, accuracy=0.5),
}


@dataclass(frozen=True)
class DataFigures:
    """Accuracy of both sides on the user's data, in percent."""

    name: str
    samples: int
    checkpoint: float
    artifact: float


@dataclass(frozen=True)
class Verification:
    """The figures of one artifact; JSON in the manifest under these names.

    Attributes:
        engine: name and version of the engine that ran the artifact.
        inputs: number of seeded inputs.
        max_abs_error: greatest error of an output.
        max_rel_error: the same over the standard deviation of the outputs.
        readout_agreement: share of inputs whose outputs all keep the tolerance.
        argmax_agreement: share of inputs with the same greatest output.
        spike_agreement: share of equal spike counts in hidden layers; None for a perceptron.
        layer_errors: greatest error of each layer's activation over that layer's standard deviation.
        data: accuracies, where data was given.
        tolerance: what was asked.
        failures: one sentence per tolerance that was not kept; empty if verified.
    """

    engine: str
    inputs: int
    max_abs_error: float
    max_rel_error: float
    readout_agreement: float
    argmax_agreement: float
    spike_agreement: float | None
    layer_errors: tuple[float, ...]
    data: DataFigures | None
    tolerance: Tolerance
    failures: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every tolerance was kept."""
        return not self.failures

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; an error that is not finite is null."""
        values = {**asdict(self), "passed": self.passed}
        for name in ("max_abs_error", "max_rel_error"):
            values[name] = _finite(values[name])
        values["layer_errors"] = [_finite(error) for error in self.layer_errors]
        return values


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


@dataclass(frozen=True)
class LabelledData:
    """Inputs `[n, n_in]` (or `[n, T, n_in]`) with labels `[n]`."""

    name: str
    inputs: FloatArray
    labels: NDArray[np.int64]


def verification_inputs(config: SpatialConfig, seed: int = 0) -> FloatArray:
    """288 seeded inputs `[288, n_in]`, or `[288, T, n_in]` of spikes.

    128 dense, uniform over the input range; 96 sparse with 2 % to 30 % non-zero; 61 with every value at one end
    of the range; all least, all greatest, all zero.
    """
    rng = np.random.default_rng(seed)
    least, greatest = config.input_range
    shape: tuple[int, ...] = (config.layer_sizes[0],)
    if config.spiking is not None and config.spiking.input_coding == "spikes":
        shape = (config.spiking.timesteps, *shape)
    n_axes = (1,) * len(shape)
    dense: NDArray[Any] = rng.uniform(least, greatest, (128, *shape))
    density = np.linspace(0.02, 0.3, 96).reshape(96, *n_axes)
    sparse: NDArray[Any] = np.where(rng.random((96, *shape)) < density, rng.uniform(least, greatest, (96, *shape)), 0)
    extreme = np.where(rng.random((61, *shape)) < rng.random((61, *n_axes)), greatest, least)
    flat = np.stack([np.full(shape, value) for value in (least, greatest, 0.0)])
    if len(shape) == 2:  # a spike train holds 0 and 1 only, at every rate
        dense = rng.random((128, *shape)) < rng.random((128, *n_axes))
        sparse = sparse != 0
        extreme, flat = extreme == greatest, flat == greatest
    inputs: FloatArray = np.concatenate([dense, sparse, extreme, flat]).astype(np.float32)
    return inputs


def verify(
    checkpoint: Checkpoint,
    model: bytes,
    exporter: Exporter,
    *,
    data: LabelledData | None = None,
    seed: int = 0,
) -> Verification:
    """Run the artifact `model` against its checkpoint.

    Raises:
        EngineError, ImageError: the artifact does not load: damaged, or no such file.
        VerificationError: the artifact does not take the checkpoint's input at all.
        MissingExtraError: the engine is not installed.
    """
    network = to_module(checkpoint)
    inputs = verification_inputs(checkpoint.config, seed)
    name = exporter.engine
    session = engine(name).load(model)
    instrumented = engine(name).load(exporter.instrument(model))
    try:
        actual = _run(session, inputs)["output"]
        layers = _layers(instrumented, inputs, len(checkpoint.config.layer_sizes) - 1)
    except (EngineError, NetworkError) as error:
        raise VerificationError(
            f"the artifact does not run on the checkpoint's input: {error.message}",
            hint="was it made from another checkpoint, or for another batch size?",
        ) from error
    expected = trace(network, inputs)
    for index, (got, wanted) in enumerate(zip([*layers[:-1], actual], expected, strict=True)):
        if got.shape != wanted.shape:
            raise VerificationError(
                f"layer {index} of the artifact gives shape {list(got.shape)}, the checkpoint's {list(wanted.shape)}",
                hint="was it made from another checkpoint?",
            )
    dtype = exporter.properties(model).get("dtype", "float32")
    tolerance = TOLERANCES[checkpoint.config.architecture, dtype]
    figures = _compare(expected, actual, layers, tolerance, is_spiking=checkpoint.config.spiking is not None)
    result = Verification(
        engine=f"{name} {engine(name).version()}",
        inputs=len(inputs),
        data=None if data is None else _accuracies(network, session, data),
        tolerance=tolerance,
        **figures,
    )
    return _judged(result)


def trace(network: SpatialNetwork, x: FloatArray) -> list[FloatArray]:
    """What every layer of the torch network gives out, `[batch, n]` each; in chunks."""
    with torch.inference_mode():
        chunks = [
            [layer.numpy() for layer in network.trace(torch.from_numpy(x[start : start + CHUNK]))]
            for start in range(0, len(x), CHUNK)
        ]
    return [np.concatenate(parts) for parts in zip(*chunks, strict=True)]


def _run(session: Session, x: FloatArray) -> dict[str, FloatArray]:
    """All outputs of a session, in chunks of its batch size; the last chunk is padded with zeros."""
    size = session.batch_size or CHUNK
    results = []
    for start in range(0, len(x), size):
        chunk = x[start : start + size]
        rows = len(chunk)
        if session.batch_size and rows < size:
            chunk = np.concatenate([chunk, np.zeros((size - rows, *x.shape[1:]), np.float32)])
        results.append({name: value[:rows] for name, value in session.run_all(chunk).items()})
    return {name: np.concatenate([result[name] for result in results]) for name in results[0]}


def _layers(session: Session, x: FloatArray, n_layers: int) -> list[FloatArray]:
    """Activations of the layers an instrumented model shows, the outputs last."""
    outputs = _run(session, x)
    names = [*(f"layer{i}/activation" for i in range(n_layers - 1)), "output"]
    missing = [name for name in names if name not in outputs]
    if missing:
        raise EngineError(f"it has no value {missing[0]}")
    return [outputs[name] for name in names]


def _compare(
    expected: list[FloatArray], actual: FloatArray, layers: list[FloatArray], tolerance: Tolerance, *, is_spiking: bool
) -> Mapping[str, Any]:
    error = np.abs(actual.astype(np.float64) - expected[-1])
    error[~np.isfinite(actual)] = np.inf
    scale = _scale(expected[-1])
    agreement = None
    if is_spiking:
        hidden = [np.mean(np.round(a) == b) for a, b in zip(layers[:-1], expected[:-1], strict=True)]
        weights = [layer.size for layer in expected[:-1]]
        agreement = float(np.average(hidden, weights=weights)) if hidden else 1.0
    return {
        "max_abs_error": float(error.max()),
        "max_rel_error": float(error.max() / scale),
        "readout_agreement": float(np.mean(error.max(axis=1) <= tolerance.output * scale)),
        "argmax_agreement": float(np.mean(actual.argmax(1) == expected[-1].argmax(1))),
        "spike_agreement": agreement,
        "layer_errors": tuple(
            float(np.max(np.nan_to_num(np.abs(a.astype(np.float64) - b), nan=np.inf)) / _scale(b))
            for a, b in zip(layers, expected, strict=True)
        ),
    }


def _scale(values: FloatArray) -> float:
    """Standard deviation of a layer's values; 1 where they are all equal."""
    return float(values.std(dtype=np.float64)) or 1.0


def _accuracies(network: SpatialNetwork, session: Session, data: LabelledData) -> DataFigures:
    expected = trace(network, data.inputs)[-1].argmax(1)
    actual = _run(session, data.inputs)["output"].argmax(1)
    return DataFigures(
        name=data.name,
        samples=len(data.labels),
        checkpoint=float(100 * np.mean(expected == data.labels)),
        artifact=float(100 * np.mean(actual == data.labels)),
    )


def _judged(result: Verification) -> Verification:
    """The figures with one sentence for each tolerance that was not kept."""
    tolerance, failures = result.tolerance, []
    if result.readout_agreement < tolerance.readout:
        failures.append(
            f"outputs: {100 * (1 - result.readout_agreement):.3g} % of the inputs are off by more than "
            f"{tolerance.output:g} standard deviations (worst {result.max_rel_error:.3g}); "
            f"allowed {100 * (1 - tolerance.readout):.3g} %; {_worst_layer(result)}"
        )
    if result.argmax_agreement < tolerance.argmax:
        failures.append(f"argmax: {result.argmax_agreement:.2%} agree; expected at least {tolerance.argmax:.2%}")
    if result.spike_agreement is not None and result.spike_agreement < tolerance.spikes:
        failures.append(f"spike counts: {result.spike_agreement:.3%} agree; expected at least {tolerance.spikes:.3%}")
    if result.data is not None and abs(result.data.checkpoint - result.data.artifact) > tolerance.accuracy + 1e-9:
        failures.append(
            f"accuracy on {result.data.name}: {result.data.artifact:.2f} %, the checkpoint has "
            f"{result.data.checkpoint:.2f} %; expected within {tolerance.accuracy:g} points"
        )
    return replace(result, failures=tuple(failures))


def _worst_layer(result: Verification) -> str:
    """Where the disagreement starts, and where it is greatest."""
    errors = result.layer_errors
    worst = int(np.argmax(errors))
    first = next((i for i, error in enumerate(errors) if error > result.tolerance.output), worst)
    return f"it starts in layer {first} (error {errors[first]:.3g}), the worst is layer {worst} ({errors[worst]:.3g})"
