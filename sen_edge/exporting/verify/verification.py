"""Verification of an artifact against its model, before an export is written.

The artifact runs in real engines, a checkpoint in torch, an image in plain numpy, on seeded inputs: dense noise, sparse
inputs, zeros, extremes of the input range.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_edge.data.calibration import load_calibration
from sen_edge.data.datasets import load_test
from sen_edge.errors import UsageError, VerificationError
from sen_edge.exporting.request import Limits, VerifyRequest
from sen_edge.exporting.verify.agreement import output_scales, same_decisions, scale_of
from sen_edge.exporting.verify.artifact_run import ArtifactRun, load_artifact
from sen_edge.exporting.verify.error_bound import error_bounds
from sen_edge.exporting.verify.result import DataFigures, Tolerance, Verification
from sen_edge.exporting.verify.scores import Outputs, compare_scores
from sen_edge.exporting.verify.tolerance import choose_tolerance
from sen_edge.model.model import Model
from sen_edge.model.probe import constant_output, fewer_inputs, n_verification_inputs, verification_inputs
from sen_edge.passes.standardization import restore_input
from sen_edge.progress import Progress, silent
from sen_exporters.base import Exporter, exporter_for
from sen_runtime import reference, worker
from sen_runtime.data import Examples
from sen_runtime.data.subsample import subsample
from sen_runtime.errors import EngineCrashError, EngineError, ImageError, NetworkError
from sen_runtime.ir.int8 import INT8_MAX, INT8_MIN
from sen_runtime.ir.network import Network, output_grid
from sen_runtime.ir.standardization import left_to_caller
from sen_runtime.memory_limits import catch_allocation_errors, require_network
from sen_runtime.scores import in_units, task_of
from sen_runtime.untrusted import open_regular, quote, read_regular

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

#: Peak bytes per weight: model, file, and two sessions.
VERIFY_BYTES = 16
#: Max user inputs compared individually; scores use all of them.
MAX_EXAMPLES = 256
#: Stride of inputs that also run alone: engines have other kernels for a single row.
SINGLE_STRIDE = 8


def verify_file(
    artifact: Path, model: Model, request: VerifyRequest, *, progress: Progress = silent
) -> tuple[Verification, ...]:
    """Run an exported file in every installed engine, and compare it with its model; the figures of each engine.

    `request.map_path` and `request.expect` have no effect on a loaded model.

    Raises:
        VerificationError: the artifact disagrees with its model; `results` has the figures.
        ExportError, EngineError, ImageError, DataError, UsageError: see `verify`.
    """
    exporter = exporter_for(artifact.suffix)
    open_regular(artifact).close()
    if request.calibration is not None:
        _require_integers(artifact, exporter)
    data = None if request.data is None else load_test(request.data, request.data_dir, model.network)
    examples = None if data is None else data.inputs
    if request.calibration is not None:
        examples = load_calibration(request.calibration, request.data_dir, model.network).held_out
    comparison = Comparison(model, examples=examples, data=data, seed=request.seed)
    with _named(artifact):
        results = verify(comparison, artifact, exporter, limits=request.tolerance, progress=progress)
    missed = [sentence for result in results for sentence in result.failures]
    if missed:
        raise VerificationError("the artifact disagrees with its model:\n  - " + "\n  - ".join(missed), results=results)
    return results


def _require_integers(artifact: Path, exporter: Exporter) -> None:
    """Reject calibration inputs for an artifact of floating-point weights, which is compared on seeded inputs."""
    with _named(artifact):
        dtype = exporter.properties(read_regular(artifact, error=EngineError)).get("dtype", "float32")
    if not dtype.startswith("int"):
        raise UsageError(
            f"--calibration has no effect with {artifact}, whose dtype is {quote(dtype)}",
            hint="omit it; --data compares scores on data",
        )


@contextmanager
def _named(artifact: Path) -> Iterator[None]:
    """Add the path to errors of a damaged artifact."""
    try:
        yield
    except (EngineError, ImageError) as error:
        if str(artifact) in error.message:
            raise
        raise type(error)(f"{artifact}: {error.message}", error.hint) from error


@dataclass(frozen=True, eq=False)
class Comparison:
    """A model, and what its artifacts are compared on; the model runs once for all of them.

    Attributes:
        model: the reference.
        exported: the network of the artifacts, which separates the cost of quantization from errors of an engine; None
            if it is not available.
        examples: inputs `[n, ...]` like the calibration data, which ranges of int8 hold for, or None.
        data: labelled examples on which scores are compared, or None.
        seed: of the inputs.
    """

    model: Model
    exported: Network | None = None
    examples: FloatArray | None = None
    data: Examples | None = None
    seed: int = 0

    @cached_property
    def inputs(self) -> FloatArray:
        """Seeded inputs, see `verification_inputs`."""
        require_network(self.model.network, VERIFY_BYTES, rows=n_verification_inputs(self.model.network))
        return verification_inputs(self.model.network, self.seed)

    @cached_property
    def chosen(self) -> FloatArray | None:
        """Examples that are compared one by one."""
        return None if self.examples is None else subsample(self.examples, MAX_EXAMPLES)

    @cached_property
    def on_inputs(self) -> list[FloatArray]:
        """Outputs `[n, n_layer]` of every layer of the model for the inputs."""
        return self.model.trace(self.inputs)

    @cached_property
    def on_chosen(self) -> list[FloatArray]:
        """Those for the chosen examples."""
        assert self.chosen is not None
        return self.model.trace(self.chosen)

    @cached_property
    def on_data(self) -> list[FloatArray]:
        """Those for the data."""
        assert self.data is not None
        return self.model.trace(self.data.rows(slice(None)))

    @cached_property
    def rounded(self) -> _Exported | None:
        """Outputs of the exported network for inputs and examples."""
        if self.exported is None:
            return None
        both = self.inputs if self.chosen is None else np.concatenate([self.inputs, self.chosen])
        return _Exported(self.exported, both, self.model.network)


@catch_allocation_errors()
def verify(
    comparison: Comparison,
    artifact: Path,
    exporter: Exporter,
    *,
    limits: Limits | None = None,
    progress: Progress = silent,
) -> tuple[Verification, ...]:
    """Compare an artifact with its model in every installed engine for its target.

    An int8 artifact needs representative inputs, the examples, because its ranges hold only for them.

    Raises:
        EngineError, ImageError: the artifact is damaged or missing.
        OSError: the artifact cannot be read.
        VerificationError: the artifact does not accept the model's input, or its dtype is unknown.
        UsageError: the artifact has int8 activations, and there are no examples.
        MissingExtraError: no engine for it is installed.
        EngineCrashError: an engine crashed on the artifact.
    """
    content, network = read_regular(artifact, error=EngineError), comparison.model.network
    properties = exporter.properties(content)
    dtype = properties.get("dtype", "float32")
    has_exported, has_data = comparison.exported is not None, comparison.data is not None
    tolerance = choose_tolerance(
        comparison.model, dtype, limits or Limits(), has_exported=has_exported, has_data=has_data
    )
    try:
        scaling = left_to_caller(properties, network.n_features)
    except NetworkError as error:
        raise EngineError(error.message, error.hint) from error
    if dtype in ("int8", "int4") and comparison.examples is None:
        raise UsageError(
            "verification of int8 activations requires inputs like the calibration data",
            hint="name labelled data with --data, or inputs with --calibration",
        )
    progress("run the model", 0.0)
    baseline = _Baseline(comparison, dtype, tolerance, properties.get("output_activation", network.output_activation))
    rounded = comparison.rounded if dtype.startswith("int") else None
    versions, missing = worker.versions(exporter.engines(content))
    if not versions:
        raise next(iter(missing.values()))
    results = []
    for number, (name, version) in enumerate(versions.items(), start=1):
        progress(f"run {name}", number / (len(versions) + 1))
        with load_artifact(name, artifact, content, exporter, scaling, network) as subject:
            results.append(_verify_in(f"{name} {version}", subject, baseline, rounded))
    return tuple(results)


class _Baseline:
    """Outputs of every layer of the model, `[batch, n]` each, for the inputs `[batch, ...]` of an artifact of a dtype.

    The last ones are probabilities if the artifact has an output activation and the model has none.
    """

    def __init__(self, comparison: Comparison, dtype: str, tolerance: Tolerance, activation: str) -> None:
        self.data, self.tolerance, self.activation = comparison.data, tolerance, activation
        self.network, self.is_integer = comparison.model.network, dtype.startswith("int")
        self.kind, self._is_float16 = task_of(self.network), dtype == "float16"
        self.inputs, layers = comparison.inputs, comparison.on_inputs
        fewer = fewer_inputs(self.network)
        if self.is_integer and comparison.chosen is not None:
            self.inputs, layers, fewer = comparison.chosen, comparison.on_chosen, None
        self.layers = self._activate(layers)
        self.scales = [np.full(layer.shape[1], scale_of(layer)) for layer in self.layers[:-1]]
        self.scales.append(output_scales(self.network, self.layers[-1]))
        constant = constant_output(self.network, self.inputs, self.layers)
        if self.data is not None:
            traced = self._activate(comparison.on_data)
            self.outputs = traced[-1]
            constant = constant and constant_output(self.network, self.data.rows(slice(None)), traced)
        self.warnings = tuple(each for each in (constant, fewer) if each is not None)

    def _activate(self, layers: list[FloatArray]) -> list[FloatArray]:
        *hidden, outputs = layers
        is_added = self.network.output_activation == "none"
        return [*hidden, reference.activate(outputs, self.activation) if is_added else outputs]

    @cached_property
    def bounds(self) -> list[DoubleArray] | None:
        """Rounding bounds of every layer; None for int8, whose tolerances are steps of its grids."""
        if self.is_integer:
            return None
        return error_bounds(self.network, self.inputs, self.layers, is_float16=self._is_float16)

    def allowed_errors(self, layer: int, error: DoubleArray) -> DoubleArray:
        """Return the allowed errors `[batch, n]` of a layer: the tolerance, or the larger rounding bound.

        The bound costs a run of the model, so it is computed only if an error exceeds the tolerance.
        """
        allowed = np.tile(self.tolerance.output * self.scales[layer], (len(error), 1))
        if (error > allowed).any() and self.bounds is not None:
            allowed = np.maximum(allowed, self.bounds[layer])
        return allowed

    def first_wrong_layer(self, errors: list[DoubleArray]) -> int | None:
        """Return the first layer with an error that is not allowed."""
        wrong = (i for i, error in enumerate(errors) if (error > self.allowed_errors(i, error)).any())
        return next(wrong, None)

    def scores(self, subject: ArtifactRun) -> DataFigures | None:
        """Compare the scores of model and artifact on the data."""
        if self.data is None:
            return None
        rows = self.data.rows(slice(None))
        scaling, activation = self.network.input_scaling, self.activation
        model, inputs = in_units(self.kind, self.outputs, rows, scaling, activation)
        artifact, _ = in_units(self.kind, subject.outputs(rows), rows, scaling, activation)
        outputs = Outputs(self.kind, model, artifact, self.data.targets, inputs)
        return compare_scores(outputs, self.data.title, self.tolerance.score)


class _Exported:
    """Outputs of the exported network in plain numpy; the unit of errors is its output grid or that of the tolerance.

    Without grids there are two correct results, and engines give either: inputs of int8 weights stay in float, or are
    rounded to eight bits. `spread` is how far a rounding of one step in hidden layers, or the choice between the two
    results, moves the outputs of each input: deep networks amplify it.
    """

    def __init__(self, network: Network, inputs: FloatArray, original: Network) -> None:
        network = restore_input(network)  # inputs are raw
        self.inputs, self.network, self.grid = inputs, network, output_grid(network)
        self.results: list[FloatArray] = [reference.run(network, inputs, np.float32)]
        self.unit, near = output_scales(original, self.results[0]), self.results[0]
        if self.grid is not None:
            scaling = network.output_scaling
            self.unit = np.full(network.n_out, self.grid.scale) * (1.0 if scaling is None else scaling.std)
        if not network.is_spiking:
            near = (reference.trace_int8 if self.grid is None else reference.trace_one_step_off)(network, inputs)[-1]
        if self.grid is None and not network.is_spiking:
            self.results.append(near)
        self.spread = (_errors(near, self.results[0]) / self.unit).max(axis=1)

    def compare(self, actual: FloatArray, tolerance: Tolerance) -> Mapping[str, Any]:
        """Compare the max error of each input to the closer result with the tolerance, in its unit, or the spread.

        Outputs of step models exceed the output grid, which clips those of the network.
        """
        if self.grid is not None and self.network.output_activation == "none":
            ends = self.grid.dequantize(np.array([INT8_MIN, INT8_MAX], np.int8))
            low, high = reference.finish(self.network, np.tile(ends[:, np.newaxis], self.network.n_out))
            actual = np.clip(actual, low, high)
        error = np.min([(_errors(actual, each) / self.unit).max(axis=1) for each in self.results], axis=0)
        allowed = max(tolerance.rounding or 0.0, float(np.quantile(self.spread, tolerance.rounding_share)))
        return {
            "tolerance": replace(tolerance, rounding=allowed),
            "rounding_error": float(error.max()),
            "rounding_agreement": float(np.mean(error <= allowed)),
        }


def _verify_in(engine: str, subject: ArtifactRun, baseline: _Baseline, exported: _Exported | None) -> Verification:
    """Compare the artifact with the baseline in one engine."""
    expected, tolerance = baseline.layers, baseline.tolerance
    try:
        layers = subject.layers(baseline.inputs, expected)
        actual, alone = layers[-1], layers[-1][::SINGLE_STRIDE]
        if not subject.is_interpreter:  # which computes outputs, layers, batches and rows alike
            actual = subject.outputs(baseline.inputs)
            alone = subject.outputs(baseline.inputs[::SINGLE_STRIDE], 1)
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
    return Verification(
        engine=engine,
        inputs=len(baseline.inputs),
        spike_agreement=_spike_agreement(expected[:-1], layers[:-1]) if baseline.network.is_spiking else None,
        layer_errors=tuple(float((e / scale).max()) for e, scale in zip(errors, baseline.scales, strict=True)),
        first_wrong_layer=baseline.first_wrong_layer(errors),
        data=baseline.scores(subject),
        warnings=baseline.warnings,
        **_compare(baseline, actual, alone),
        **({"tolerance": tolerance} if exported is None or rounded is None else exported.compare(rounded, tolerance)),
    )


def _errors(actual: FloatArray, expected: FloatArray) -> DoubleArray:
    """Compute absolute errors; infinite if the actual value is not finite."""
    return np.where(np.isfinite(actual), np.abs(actual.astype(np.float64) - expected), np.inf)


def _compare(baseline: _Baseline, together: FloatArray, alone: FloatArray) -> Mapping[str, Any]:
    """Compare the outputs of all inputs in batches, and of every `SINGLE_STRIDE`-th alone."""
    rows = np.concatenate([np.arange(len(together)), np.arange(0, len(together), SINGLE_STRIDE)])
    expected, actual = baseline.layers[-1][rows], np.concatenate([together, alone])
    error, scale = _errors(actual, expected), baseline.scales[-1]
    worst = error[: len(together)].copy()
    np.maximum.at(worst, rows[len(together) :], error[len(together) :])
    allowed = baseline.allowed_errors(-1, worst)
    margin = allowed[rows] - baseline.tolerance.output * scale
    same = same_decisions(baseline.network, expected, actual, margin, baseline.activation)
    return {
        "max_abs_error": float(error.max()),
        "max_rel_error": float((error / scale).max()),
        "allowed_error": float((allowed / scale).max()),
        "readout_agreement": float(np.mean(_is_within(error, allowed[rows], baseline))),
        "decision_agreement": None if same is None else float(np.mean(same)),
    }


def _is_within(error: DoubleArray, allowed: DoubleArray, baseline: _Baseline) -> BoolArray:
    """Return the inputs whose errors are allowed: each of them, or of int8 vectors of values their root mean square."""
    share = error / allowed
    if baseline.is_integer and baseline.kind.decide is None:
        share = np.sqrt(np.square(share).mean(axis=1, keepdims=True))
    is_within: BoolArray = (share <= 1).all(axis=1)
    return is_within


def _spike_agreement(expected: list[FloatArray], actual: list[FloatArray]) -> float:
    """Compute the share of equal spike counts, over hidden neurons and inputs."""
    if not expected:
        return 1.0
    shares = [np.mean(np.round(a) == b) for a, b in zip(actual, expected, strict=True)]
    return float(np.average(shares, weights=[layer.size for layer in expected]))
