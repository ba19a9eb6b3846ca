"""Does an artifact compute what its model computes? Every export passes here before it is put in place.

The artifact runs in a real engine, a checkpoint in torch, an image in plain numpy, on seeded inputs that include
what users' data rarely does: dense noise, sparse inputs, zeros, the extremes of the input range.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_edge.data.subsample import subsample
from sen_edge.errors import UsageError, VerificationError
from sen_edge.export.verify.error_bound import error_bounds
from sen_edge.export.verify.result import DataFigures, Verification, failures
from sen_edge.export.verify.run import Running, running
from sen_edge.export.verify.tolerance import TOLERANCES, Tolerance
from sen_edge.model.model import Model
from sen_edge.model.probe import constant_output, verification_inputs
from sen_exporters.base import Exporter
from sen_runtime import reference, worker
from sen_runtime.accuracy import correct
from sen_runtime.errors import EngineCrashError, EngineError, NetworkError
from sen_runtime.ir.network import Network, output_grid
from sen_runtime.memory_limits import catch_allocation_errors, require_network
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
class LabelledData:
    """Inputs `[n, n_in]` (or `[n, T, n_in]`) with labels `[n]`."""

    name: str
    inputs: FloatArray
    labels: NDArray[np.int64]


@catch_allocation_errors()
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
        EngineCrashError: an engine ended its process when it loaded or ran the artifact.
    """
    content = read_regular(artifact, error=EngineError)
    dtype = exporter.properties(content).get("dtype", "float32")
    tolerance = TOLERANCES.get((model.architecture, dtype))
    if tolerance is None:
        raise VerificationError(f"the artifact's dtype is {quote(dtype)}; no tolerance is known for that")
    require_network(model.network, VERIFY_BYTES, rows=288)
    inputs = verification_inputs(model.network, seed)
    examples = None if examples is None else subsample(examples, MAX_EXAMPLES)
    if dtype == "int8" and examples is None:
        raise UsageError(
            "the file's int8 ranges hold for inputs like those it was calibrated with, so it is compared on such",
            hint="name labelled data with --data, or inputs alone with --calibration",
        )
    is_int8 = dtype.startswith("int8")
    truth = _Truth(model, inputs if examples is None or not is_int8 else examples, data, dtype)
    rounded = None
    if exported is not None and is_int8:
        rounded = _Exported(exported, inputs if examples is None else np.concatenate([inputs, examples]))
    versions, missing = worker.versions(exporter.engines(content))
    if not versions:
        raise next(iter(missing.values()))
    results = []
    for name, version in versions.items():
        with running(name, artifact, content, exporter) as subject:
            results.append(_verify_in(f"{name} {version}", subject, truth, rounded, tolerance))
    return tuple(results)


class _Truth:
    """What the model gives for the inputs.

    Attributes:
        inputs: `[batch, ...]`.
        data: of the user; None without.
        layers: values of every layer, `[batch, n]` each.
        is_spiking: whether the model is.
        correct: which examples of the data the model has right, `[n]`.
        warning: that the output is constant, if it is.
    """

    def __init__(self, model: Model, inputs: FloatArray, data: LabelledData | None, dtype: str) -> None:
        self.inputs, self.data = inputs, data
        self.layers = model.trace(inputs)
        self.is_spiking = model.network.is_spiking
        self.correct: NDArray[np.bool_] | None = None
        self.warning = constant_output(model.network, inputs, self.layers)
        self._model, self._dtype = model, dtype
        if data is not None:
            traced = model.trace(data.inputs)
            self.correct = correct(traced[-1], data.labels)
            self.warning = self.warning and constant_output(model.network, data.inputs, traced)

    @cached_property
    def bounds(self) -> list[NDArray[np.float64]] | None:
        """Rounding bounds of every layer; None for int8, whose tolerances are steps of its grids."""
        if self._dtype.startswith("int8"):
            return None
        return error_bounds(self._model.network, self.inputs, self.layers, is_float16=self._dtype == "float16")

    def allowed(self, layer: int, error: NDArray[np.float64], tolerance: float) -> NDArray[np.float64]:
        """Errors `[batch, n]` allowed in a layer: the tolerance; the bound as well, where an error is beyond that.

        The bound takes as long as another run of the model.
        """
        allowed = np.full(self.layers[layer].shape, tolerance * _scale(self.layers[layer]))
        if (error > allowed).any() and self.bounds is not None:
            allowed = np.maximum(allowed, self.bounds[layer])
        return allowed


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


def _verify_in(
    engine: str,
    subject: Running,
    truth: _Truth,
    exported: _Exported | None,
    tolerance: Tolerance,
) -> Verification:
    """The figures of the artifact in one engine."""
    expected, singles = truth.layers, slice(None, None, SINGLE_STRIDE)
    try:
        actual = subject.outputs(truth.inputs)
        alone = subject.outputs(truth.inputs[singles], 1)
        layers = subject.layers(truth.inputs, len(expected))
        rounded = None if exported is None else subject.outputs(exported.inputs)
    except EngineCrashError:
        raise
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
    errors = [_errors(got, wanted) for got, wanted in zip(layers, expected, strict=True)]
    result = Verification(
        engine=engine,
        inputs=len(truth.inputs),
        spike_agreement=_spike_agreement(expected[:-1], layers[:-1]) if truth.is_spiking else None,
        layer_errors=tuple(float(error.max() / _scale(wanted)) for error, wanted in zip(errors, expected, strict=True)),
        first_wrong_layer=_first_wrong(errors, truth, tolerance),
        data=_accuracies(truth, subject),
        tolerance=tolerance,
        warnings=() if truth.warning is None else (truth.warning,),
        **_compare(truth, actual, alone, tolerance),
        **_rounding(exported, rounded, tolerance),
    )
    return replace(result, failures=failures(result))


def _first_wrong(errors: list[NDArray[np.float64]], truth: _Truth, tolerance: Tolerance) -> int | None:
    for index, error in enumerate(errors):
        if (error > truth.allowed(index, error, tolerance.output)).any():
            return index
    return None


def _errors(actual: FloatArray, expected: FloatArray) -> NDArray[np.float64]:
    """Absolute errors, infinite where the actual value is not finite."""
    error: NDArray[np.float64] = np.abs(actual.astype(np.float64) - expected)
    error[~np.isfinite(actual)] = np.inf
    return error


def _compare(truth: _Truth, together: FloatArray, alone: FloatArray, tolerance: Tolerance) -> Mapping[str, Any]:
    """Figures of the outputs of all inputs together, and of every `SINGLE_STRIDE`-th alone."""
    rows = np.concatenate([np.arange(len(together)), np.arange(0, len(together), SINGLE_STRIDE)])
    expected, actual = truth.layers[-1][rows], np.concatenate([together, alone])
    error, scale = _errors(actual, expected), _scale(truth.layers[-1])
    worst = error[: len(together)].copy()
    np.maximum.at(worst, rows[len(together) :], error[len(together) :])
    allowed = truth.allowed(-1, worst, tolerance.output)
    return {
        "max_abs_error": float(error.max()),
        "max_rel_error": float(error.max() / scale),
        "allowed_error": float(allowed.max() / scale),
        "readout_agreement": float(np.mean((error <= allowed[rows]).all(axis=1))),
        "argmax_agreement": float(np.mean(_same_argmax(expected, actual, allowed[rows] - tolerance.output * scale))),
    }


def _same_argmax(expected: FloatArray, actual: FloatArray, margin: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which inputs have the same largest output, or two that rounding beyond the tolerance may exchange.

    Args:
        expected: outputs of the model, `[batch, n_out]`.
        actual: outputs of the artifact.
        margin: what the rounding bound allows beyond the tolerance; 0 where it is smaller.
    """
    rows, wanted, got = np.arange(len(expected)), expected.argmax(1), actual.argmax(1)
    lead = expected[rows, wanted].astype(np.float64) - expected[rows, got]
    is_same: NDArray[np.bool_] = (wanted == got) | (lead < margin[rows, wanted] + margin[rows, got])
    return is_same


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


def _accuracies(truth: _Truth, subject: Running) -> DataFigures | None:
    data = truth.data
    if data is None or truth.correct is None:
        return None
    is_correct = correct(subject.outputs(data.inputs), data.labels)
    return DataFigures(
        name=data.name,
        samples=len(data.labels),
        model=float(100 * np.mean(truth.correct)),
        artifact=float(100 * np.mean(is_correct)),
        changed=int(np.sum(is_correct != truth.correct)),
    )
