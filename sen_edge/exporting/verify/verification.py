"""Verification of an artifact against its model, before an export is written.

The artifact runs in real engines, a checkpoint in torch, an image in plain numpy, on seeded inputs: dense noise, sparse
inputs, zeros, extremes of the input range.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_edge.data.subsample import subsample
from sen_edge.errors import UsageError, VerificationError
from sen_edge.exporting.verify.error_bound import error_bounds
from sen_edge.exporting.verify.result import DataFigures, Verification, failures
from sen_edge.exporting.verify.run import ArtifactRun, load_artifact
from sen_edge.exporting.verify.tolerance import TOLERANCES, Tolerance
from sen_edge.model.model import Model
from sen_edge.model.probe import constant_output, verification_inputs
from sen_exporters.base import Exporter
from sen_runtime import reference, worker
from sen_runtime.accuracy import correct
from sen_runtime.data import Examples
from sen_runtime.errors import EngineCrashError, EngineError, NetworkError
from sen_runtime.ir.network import Network, output_grid
from sen_runtime.memory_limits import catch_allocation_errors, require_network
from sen_runtime.untrusted import listing, quote, read_regular

FloatArray = NDArray[np.float32]

#: Peak bytes per weight: model, file, and two sessions.
VERIFY_BYTES = 16
#: Max user inputs compared individually; accuracy uses all of them.
MAX_EXAMPLES = 256
#: Stride of inputs that also run alone: engines have other kernels for a single row.
SINGLE_STRIDE = 8
#: Outputs that vary less than this share of the largest have no scale; rounding is relative to size.
MIN_VARIATION = 1e-2


@catch_allocation_errors()
def verify(
    model: Model,
    artifact: Path,
    exporter: Exporter,
    *,
    exported: Network | None = None,
    examples: FloatArray | None = None,
    data: Examples | None = None,
    seed: int = 0,
) -> tuple[Verification, ...]:
    """Compare an artifact with its model in every installed engine for its target.

    Args:
        model: source of the artifact.
        artifact: path of the main file, next to its other files.
        exporter: exporter of its target.
        exported: exported network, if available: separates the cost of quantization from errors of an engine.
        examples: representative inputs. Required to compare an int8 artifact, because its ranges hold only for them.
        data: labelled data to compare accuracies on.
        seed: seed of the inputs.

    Raises:
        EngineError, ImageError: the artifact is damaged or missing.
        OSError: the artifact cannot be read.
        VerificationError: the artifact does not accept the model's input, or its dtype is unknown.
        UsageError: the artifact has int8 activations, and there are no examples.
        MissingExtraError: no engine for it is installed.
        EngineCrashError: an engine crashed on the artifact.
    """
    content = read_regular(artifact, error=EngineError)
    dtype = exporter.properties(content).get("dtype", "float32")
    tolerance = TOLERANCES.get((model.architecture, dtype))
    if tolerance is None:
        dtypes = dict.fromkeys(known for _, known in TOLERANCES)
        raise VerificationError(f"the artifact's dtype is {quote(dtype)}; expected one of {listing(dtypes)}")
    require_network(model.network, VERIFY_BYTES, rows=288)
    inputs = verification_inputs(model.network, seed)
    examples = None if examples is None else subsample(examples, MAX_EXAMPLES)
    if dtype == "int8" and examples is None:
        raise UsageError(
            "verification of int8 activations requires inputs like the calibration data",
            hint="name labelled data with --data, or inputs with --calibration",
        )
    is_int8 = dtype.startswith("int8")
    baseline = _Baseline(model, inputs if examples is None or not is_int8 else examples, data, dtype)
    rounded = None
    if exported is not None and is_int8:
        rounded = _Exported(exported, inputs if examples is None else np.concatenate([inputs, examples]))
    versions, missing = worker.versions(exporter.engines(content))
    if not versions:
        raise next(iter(missing.values()))
    results = []
    for name, version in versions.items():
        with load_artifact(name, artifact, content, exporter) as subject:
            results.append(_verify_in(f"{name} {version}", subject, baseline, rounded, tolerance))
    return tuple(results)


class _Baseline:
    """Outputs of the model.

    Attributes:
        inputs: `[batch, ...]`.
        data: labelled data, or None.
        layers: values of every layer, `[batch, n]` each.
        is_spiking: whether the model is spiking.
        correct: `[n]`, whether the model classifies an example of the data correctly.
        warning: constant output, or None.
    """

    def __init__(self, model: Model, inputs: FloatArray, data: Examples | None, dtype: str) -> None:
        self.inputs, self.data = inputs, data
        self.layers = model.trace(inputs)
        self.is_spiking = model.network.is_spiking
        self.correct: NDArray[np.bool_] | None = None
        self.warning = constant_output(model.network, inputs, self.layers)
        self._model, self._dtype = model, dtype
        if data is not None:
            traced = model.trace(data.inputs)
            self.correct = correct(traced[-1], data.labelled)
            self.warning = self.warning and constant_output(model.network, data.inputs, traced)

    @cached_property
    def bounds(self) -> list[NDArray[np.float64]] | None:
        """Rounding bounds of every layer; None for int8, whose tolerances are steps of its grids."""
        if self._dtype.startswith("int8"):
            return None
        return error_bounds(self._model.network, self.inputs, self.layers, is_float16=self._dtype == "float16")

    def allowed_errors(self, layer: int, error: NDArray[np.float64], tolerance: float) -> NDArray[np.float64]:
        """Return the allowed errors `[batch, n]` of a layer: the tolerance, or the larger rounding bound.

        The bound costs a run of the model, so it is computed only if an error exceeds the tolerance.
        """
        allowed = np.full(self.layers[layer].shape, tolerance * _scale(self.layers[layer]))
        if (error > allowed).any() and self.bounds is not None:
            allowed = np.maximum(allowed, self.bounds[layer])
        return allowed


class _Exported:
    """Outputs of the exported network in plain numpy; the unit of errors is its output grid or standard deviation.

    Without grids there are two correct results, and engines give either: inputs of int8 weights stay in float, or are
    rounded to eight bits.
    """

    def __init__(self, network: Network, inputs: FloatArray) -> None:
        self.inputs, self.grid = inputs, output_grid(network)
        self.results: list[FloatArray] = [reference.run(network, inputs, np.float32)]
        if self.grid is None and not network.is_spiking:
            self.results.append(reference.trace_int8(network, inputs)[-1])

    def errors(self, actual: FloatArray, unit: str) -> NDArray[np.float64]:
        """Return the max error of each input to the closer result, in steps or standard deviations."""
        grid = self.grid if unit == "step" else None
        scale = _scale(self.results[0]) if grid is None else grid.scale
        error: NDArray[np.float64] = np.min([_errors(actual, each).max(axis=1) for each in self.results], axis=0)
        return error / scale


def _verify_in(
    engine: str,
    subject: ArtifactRun,
    baseline: _Baseline,
    exported: _Exported | None,
    tolerance: Tolerance,
) -> Verification:
    """Compare the artifact with the baseline in one engine."""
    expected, singles = baseline.layers, slice(None, None, SINGLE_STRIDE)
    try:
        actual = subject.outputs(baseline.inputs)
        alone = subject.outputs(baseline.inputs[singles], 1)
        layers = subject.layers(baseline.inputs, len(expected))
        rounded = None if exported is None else subject.outputs(exported.inputs)
    except EngineCrashError:
        raise
    except (EngineError, NetworkError) as error:
        raise VerificationError(
            f"the artifact does not run on the model's input: {error.message}",
            hint="check that it was exported from this model with this batch size",
        ) from error
    for index, (got, wanted) in enumerate(zip([*layers[:-1], actual], expected, strict=True)):
        if got.shape != wanted.shape:
            raise VerificationError(
                f"layer {index} of the artifact has shape {list(got.shape)}; expected {list(wanted.shape)}",
                hint="check that it was exported from this model",
            )
    errors = [_errors(got, wanted) for got, wanted in zip(layers, expected, strict=True)]
    result = Verification(
        engine=engine,
        inputs=len(baseline.inputs),
        spike_agreement=_spike_agreement(expected[:-1], layers[:-1]) if baseline.is_spiking else None,
        layer_errors=tuple(float(error.max() / _scale(wanted)) for error, wanted in zip(errors, expected, strict=True)),
        first_wrong_layer=_first_wrong(errors, baseline, tolerance),
        data=_accuracies(baseline, subject),
        tolerance=tolerance,
        warnings=() if baseline.warning is None else (baseline.warning,),
        **_compare(baseline, actual, alone, tolerance),
        **_rounding(exported, rounded, tolerance),
    )
    return replace(result, failures=failures(result))


def _first_wrong(errors: list[NDArray[np.float64]], baseline: _Baseline, tolerance: Tolerance) -> int | None:
    for index, error in enumerate(errors):
        if (error > baseline.allowed_errors(index, error, tolerance.output)).any():
            return index
    return None


def _errors(actual: FloatArray, expected: FloatArray) -> NDArray[np.float64]:
    """Compute absolute errors; infinite if the actual value is not finite."""
    error: NDArray[np.float64] = np.abs(actual.astype(np.float64) - expected)
    error[~np.isfinite(actual)] = np.inf
    return error


def _compare(baseline: _Baseline, together: FloatArray, alone: FloatArray, tolerance: Tolerance) -> Mapping[str, Any]:
    """Compare the outputs of all inputs in batches, and of every `SINGLE_STRIDE`-th alone."""
    rows = np.concatenate([np.arange(len(together)), np.arange(0, len(together), SINGLE_STRIDE)])
    expected, actual = baseline.layers[-1][rows], np.concatenate([together, alone])
    error, scale = _errors(actual, expected), _scale(baseline.layers[-1])
    worst = error[: len(together)].copy()
    np.maximum.at(worst, rows[len(together) :], error[len(together) :])
    allowed = baseline.allowed_errors(-1, worst, tolerance.output)
    return {
        "max_abs_error": float(error.max()),
        "max_rel_error": float(error.max() / scale),
        "allowed_error": float(allowed.max() / scale),
        "readout_agreement": float(np.mean((error <= allowed[rows]).all(axis=1))),
        "argmax_agreement": float(np.mean(_same_argmax(expected, actual, allowed[rows] - tolerance.output * scale))),
    }


def _same_argmax(expected: FloatArray, actual: FloatArray, margin: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the inputs with the same largest output, or two whose order rounding beyond the tolerance may change.

    Args:
        expected: outputs of the model, `[batch, n_out]`.
        actual: outputs of the artifact.
        margin: excess of the rounding bound over the tolerance, or 0.
    """
    rows, wanted, got = np.arange(len(expected)), expected.argmax(1), actual.argmax(1)
    lead = expected[rows, wanted].astype(np.float64) - expected[rows, got]
    is_same: NDArray[np.bool_] = (wanted == got) | (lead < margin[rows, wanted] + margin[rows, got])
    return is_same


def _spike_agreement(expected: list[FloatArray], actual: list[FloatArray]) -> float:
    """Compute the share of equal spike counts, over hidden neurons and inputs."""
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
    """Compute the standard deviation of a layer, at least `MIN_VARIATION` of its largest value; 1 if all are 0."""
    largest = float(np.abs(values).max())
    return max(float(values.std(dtype=np.float64)), MIN_VARIATION * largest) or 1.0


def _accuracies(baseline: _Baseline, subject: ArtifactRun) -> DataFigures | None:
    data = baseline.data
    if data is None or baseline.correct is None:
        return None
    is_correct = correct(subject.outputs(data.inputs), data.labelled)
    return DataFigures(
        name=data.title,
        samples=len(data.labelled),
        model=float(100 * np.mean(baseline.correct)),
        artifact=float(100 * np.mean(is_correct)),
        changed=int(np.sum(is_correct != baseline.correct)),
    )
