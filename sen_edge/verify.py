"""Does an artifact compute what its model computes? Every export passes here before it is put in place.

The artifact runs in a real engine, a checkpoint in torch, an image in plain numpy, on seeded inputs that include
what users' data rarely does: dense noise, sparse inputs, zeros, the extremes of the input range.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_edge.errors import UsageError, VerificationError
from sen_edge.model import CHUNK, Model
from sen_edge.tolerance import TOLERANCES, Tolerance, failures
from sen_exporters.base import Exporter
from sen_runtime import reference
from sen_runtime.engines import Session, engine, installed
from sen_runtime.errors import EngineError, NetworkError
from sen_runtime.memory_limits import reported, require, require_network
from sen_runtime.network import Network, output_grid
from sen_runtime.untrusted import quote, read_regular

FloatArray = NDArray[np.float32]

#: Live at once for each weight: of the model, of the file, and of the two sessions that run it.
VERIFY_BYTES = 16
#: Of the user's own inputs, at most so many are compared one by one, besides the accuracy on all of them.
MAX_EXAMPLES = 256
#: Every so many inputs one is run alone as well: engines have other kernels for a single row.
SINGLE_STRIDE = 8
#: Outputs that vary less than this share of the greatest have no scale of their own; rounding is relative to size.
LEAST_VARIATION = 1e-2


@dataclass(frozen=True)
class DataFigures:
    """Accuracy of both sides on the user's data.

    Attributes:
        name: of the data.
        samples: number of examples.
        model: accuracy of the model, in percent.
        artifact: accuracy of the artifact, in percent.
        changed: number of examples that one side has right and the other wrong.
    """

    name: str
    samples: int
    model: float
    artifact: float
    changed: int

    @property
    def chance(self) -> float:
        """Two standard errors of the difference of the accuracies, in points."""
        return 200 * float(np.sqrt(self.changed)) / self.samples


@dataclass(frozen=True)
class Verification:
    """The figures of one artifact in one engine; JSON in the manifest under these names.

    Attributes:
        engine: name and version of the engine that ran the artifact.
        inputs: number of inputs.
        max_abs_error: greatest error of an output.
        max_rel_error: the same over the standard deviation of the outputs.
        readout_agreement: share of inputs whose outputs all keep the tolerance.
        argmax_agreement: share of inputs with the same greatest output.
        spike_agreement: share of equal spike counts in hidden layers; None for a perceptron.
        layer_errors: greatest error of each layer's activation over that layer's standard deviation.
        rounding_error: greatest error against the exported network in plain numpy, in the tolerance's unit; None
            where it is not judged.
        rounding_agreement: share of inputs whose outputs all keep that tolerance.
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
    rounding_error: float | None
    rounding_agreement: float | None
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
        for name in ("max_abs_error", "max_rel_error", "rounding_error"):
            values[name] = _finite(values[name])
        values["layer_errors"] = [_finite(error) for error in self.layer_errors]
        return values


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


@dataclass(frozen=True)
class LabelledData:
    """Inputs `[n, n_in]` (or `[n, T, n_in]`) with labels `[n]`."""

    name: str
    inputs: FloatArray
    labels: NDArray[np.int64]


def verification_inputs(network: Network, seed: int = 0) -> FloatArray:
    """288 seeded inputs `[288, n_in]`, or `[288, T, n_in]` of spikes.

    128 dense, uniform over the input range; 96 sparse with 2 % to 30 % non-zero; 61 with every value at one end
    of the range; all least, all greatest, all zero.
    """
    rng = np.random.default_rng(seed)
    least, greatest = network.input_range
    shape = network.input_shape
    require(8 * 288 * math.prod(shape), f"288 inputs of {' x '.join(f'{length:,}' for length in shape)} values")
    n_axes = (1,) * len(shape)
    dense: NDArray[Any] = rng.uniform(least, greatest, (128, *shape))
    density = np.linspace(0.02, 0.3, 96).reshape(96, *n_axes)
    sparse: NDArray[Any] = np.where(rng.random((96, *shape)) < density, rng.uniform(least, greatest, (96, *shape)), 0)
    extreme = np.where(rng.random((61, *shape)) < rng.random((61, *n_axes)), greatest, least)
    flat = np.stack([np.full(shape, value) for value in (least, greatest, 0.0)])
    if network.input_coding == "spikes":  # a spike train holds 0 and 1 only, at every rate
        dense = rng.random((128, *shape)) < rng.random((128, *n_axes))
        sparse = sparse != 0
        extreme, flat = extreme == greatest, flat == greatest
    inputs: FloatArray = np.concatenate([dense, sparse, extreme, flat]).astype(np.float32)
    return inputs


@reported()
def verify(
    model: Model,
    artifact: Path,
    exporter: Exporter,
    *,
    exported: Network | None = None,
    examples: FloatArray | None = None,
    data: LabelledData | None = None,
    seed: int = 0,
) -> tuple[Verification, ...]:
    """Run the file `artifact` against its model, in every engine that is installed of those it was made for.

    Args:
        model: what it was made from.
        artifact: path of the file an engine loads; others that belong to it lie beside it.
        exporter: of its target.
        exported: the network that was exported, if it is at hand: tells what quantization cost from what an engine
            gets wrong.
        examples: inputs like those the network is for. An int8 artifact is compared on them, because its ranges hold
            for no others.
        data: compares accuracies as well.
        seed: of the inputs.

    Raises:
        EngineError, ImageError: the artifact does not load: damaged, or no such file.
        OSError: it cannot be read.
        VerificationError: the artifact does not take the model's input at all, or names a dtype that is unknown.
        UsageError: the artifact has int8 activations, and there are no examples.
        MissingExtraError: no engine for it is installed.
    """
    content = read_regular(artifact, error=EngineError)
    dtype = exporter.properties(content).get("dtype", "float32")
    tolerance = TOLERANCES.get((model.architecture, dtype))
    if tolerance is None:
        raise VerificationError(f"the artifact's dtype is {quote(dtype)}; no tolerance is known for that")
    require_network(model.network, VERIFY_BYTES, rows=288)
    inputs = verification_inputs(model.network, seed)
    examples = None if examples is None else examples[:: max(1, -(-len(examples) // MAX_EXAMPLES))]
    if dtype == "int8" and examples is None:
        raise UsageError(
            "the file's int8 ranges hold for inputs like those it was calibrated with, so it is compared on such",
            hint="name labelled data with --data, or inputs alone with --calibration",
        )
    is_int8 = dtype.startswith("int8")
    truth = _Truth(model, inputs if examples is None or not is_int8 else examples, data)
    rounded = None
    if exported is not None and is_int8:
        rounded = _Exported(exported, inputs if examples is None else np.concatenate([inputs, examples]))
    return tuple(
        _verify_in(name, *_sessions(name, artifact, content, exporter), truth, rounded, tolerance)
        for name in installed(exporter.engines(content))
    )


class _Truth:
    """What the model gives for the inputs."""

    def __init__(self, model: Model, inputs: FloatArray, data: LabelledData | None) -> None:
        self.inputs, self.data = inputs, data
        self.layers = model.trace(inputs)
        self.is_spiking = model.network.is_spiking
        self.correct = None
        if data is not None:
            self.correct = model.trace(data.inputs)[-1].argmax(1) == data.labels


class _Exported:
    """What the exported network gives in plain numpy, and the unit of errors: its output's int8 grid or deviation.

    Without grids there are two right answers, and engines give either: what int8 weights are multiplied with stays in
    floats, or is rounded to eight bits.
    """

    def __init__(self, network: Network, inputs: FloatArray) -> None:
        self.inputs, self.grid = inputs, output_grid(network)
        self.answers: list[FloatArray] = [reference.run(network, inputs, np.float32)]
        if self.grid is None and not network.is_spiking:
            self.answers.append(reference.trace_int8(network, inputs)[-1])

    def errors(self, actual: FloatArray, unit: str) -> NDArray[np.float64]:
        """Of each input the greatest error of an output from the nearer answer, in steps or standard deviations."""
        grid = self.grid if unit == "step" else None
        scale = _scale(self.answers[0]) if grid is None else grid.scale
        error: NDArray[np.float64] = np.min([_errors(actual, each).max(axis=1) for each in self.answers], axis=0)
        return error / scale


def _sessions(name: str, artifact: Path, content: bytes, exporter: Exporter) -> tuple[Session, Session]:
    """The artifact in an engine, and one that shows its activations too: the same, where it does that anyway."""
    session, instrumented = engine(name).load(artifact), exporter.instrument(content)
    return session, session if instrumented == content else engine(name).load(instrumented)


def _verify_in(
    name: str,
    session: Session,
    instrumented: Session,
    truth: _Truth,
    exported: _Exported | None,
    tolerance: Tolerance,
) -> Verification:
    """The figures of the artifact in one engine."""
    expected, singles = truth.layers, slice(None, None, SINGLE_STRIDE)
    try:
        actual = _outputs(session, truth.inputs)
        alone = _outputs(session, truth.inputs[singles], 1)
        layers = _layers(instrumented, truth.inputs, len(expected))
        rounded = None if exported is None else _outputs(session, exported.inputs)
    except (EngineError, NetworkError) as error:
        raise VerificationError(
            f"the artifact does not run on the model's input: {error.message}",
            hint="was it made from another model, or for another batch size?",
        ) from error
    for index, (got, wanted) in enumerate(zip([*layers[:-1], actual], expected, strict=True)):
        if got.shape != wanted.shape:
            raise VerificationError(
                f"layer {index} of the artifact gives shape {list(got.shape)}, the model's {list(wanted.shape)}",
                hint="was it made from another model?",
            )
    outputs = np.concatenate([expected[-1], expected[-1][singles]])
    figures = _compare(outputs, np.concatenate([actual, alone]), tolerance)
    result = Verification(
        engine=f"{name} {engine(name).version()}",
        inputs=len(truth.inputs),
        spike_agreement=_spike_agreement(expected[:-1], layers[:-1]) if truth.is_spiking else None,
        layer_errors=tuple(
            float(_errors(got, wanted).max() / _scale(wanted)) for got, wanted in zip(layers, expected, strict=True)
        ),
        data=_accuracies(truth, session),
        tolerance=tolerance,
        **figures,
        **_rounding(exported, rounded, tolerance),
    )
    return replace(result, failures=failures(result))


def _chunks(session: Session, x: FloatArray, rows: int = CHUNK) -> Iterator[tuple[FloatArray, int]]:
    """Chunks of a session's batch size, else of `rows`, and how many rows count: the last is filled up with zeros."""
    size = session.batch_size or rows
    for start in range(0, len(x), size):
        chunk = x[start : start + size]
        kept = len(chunk)
        if session.batch_size and kept < size:
            chunk = np.concatenate([chunk, np.zeros((size - kept, *x.shape[1:]), np.float32)])
        yield chunk, kept


def _outputs(session: Session, x: FloatArray, rows: int = CHUNK) -> FloatArray:
    """Outputs of a session `[batch, n_out]`, at most `rows` at once."""
    return np.concatenate([session.run(chunk)[:kept] for chunk, kept in _chunks(session, x, rows)])


def _layers(session: Session, x: FloatArray, n_layers: int) -> list[FloatArray]:
    """Activations of the layers an instrumented model shows, the outputs last."""
    results = [(session.run_all(chunk), kept) for chunk, kept in _chunks(session, x)]
    names = [*(f"layer{i}/activation" for i in range(n_layers - 1)), "output"]
    missing = [name for name in names if name not in results[0][0]]
    if missing:
        raise EngineError(f"it has no value {missing[0]}")
    return [np.concatenate([values[name][:kept] for values, kept in results]) for name in names]


def _errors(actual: FloatArray, expected: FloatArray) -> NDArray[np.float64]:
    """Absolute errors, infinite where the actual value is not finite."""
    error: NDArray[np.float64] = np.abs(actual.astype(np.float64) - expected)
    error[~np.isfinite(actual)] = np.inf
    return error


def _compare(expected: FloatArray, actual: FloatArray, tolerance: Tolerance) -> Mapping[str, Any]:
    error, scale = _errors(actual, expected), _scale(expected)
    return {
        "max_abs_error": float(error.max()),
        "max_rel_error": float(error.max() / scale),
        "readout_agreement": float(np.mean(error.max(axis=1) <= tolerance.output * scale)),
        "argmax_agreement": float(np.mean(actual.argmax(1) == expected.argmax(1))),
    }


def _spike_agreement(expected: list[FloatArray], actual: list[FloatArray]) -> float:
    """Share of equal spike counts, over all hidden neurons and inputs."""
    if not expected:
        return 1.0
    shares = [np.mean(np.round(a) == b) for a, b in zip(actual, expected, strict=True)]
    return float(np.average(shares, weights=[layer.size for layer in expected]))


def _rounding(exported: _Exported | None, actual: FloatArray | None, tolerance: Tolerance) -> Mapping[str, Any]:
    if exported is None or actual is None or tolerance.rounding is None:
        return {"rounding_error": None, "rounding_agreement": None}
    error = exported.errors(actual, tolerance.rounding_unit)
    return {
        "rounding_error": float(error.max()),
        "rounding_agreement": float(np.mean(error <= tolerance.rounding)),
    }


def _scale(values: FloatArray) -> float:
    """Standard deviation of a layer's values, or what a value that all share has for rounding; 1 where all are 0."""
    greatest = float(np.abs(values).max())
    return max(float(values.std(dtype=np.float64)), LEAST_VARIATION * greatest) or 1.0


def _accuracies(truth: _Truth, session: Session) -> DataFigures | None:
    data = truth.data
    if data is None or truth.correct is None:
        return None
    correct = _outputs(session, data.inputs).argmax(1) == data.labels
    return DataFigures(
        name=data.name,
        samples=len(data.labels),
        model=float(100 * np.mean(truth.correct)),
        artifact=float(100 * np.mean(correct)),
        changed=int(np.sum(correct != truth.correct)),
    )
