"""What each task decides by in a verification, and its scores on data."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sen_edge.exporting.verify.result import Verification
from sen_edge.exporting.verify.scores import anomaly_threshold
from sen_edge.model.probe import verification_inputs
from sen_edge.passes.quantize import to_int8
from sen_runtime import format as image
from sen_runtime import reference
from sen_runtime.data import TEST, Examples
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network, output_grid
from sen_runtime.ir.neurons import Identity, Relu
from sen_runtime.ir.operators import Dense
from sen_runtime.ir.standardization import Standardization
from sen_runtime.task import CLASSIFICATION, MULTILABEL, RECONSTRUCTION, REGRESSION
from tests.conftest import Outcome

Run = Callable[..., Outcome]
Verify = Callable[..., Verification]
Trace = Callable[[np.ndarray], list[np.ndarray]]
N = 200


def network_of(task: str, n_in: int = 6, n_out: int = 3) -> Network:
    rng = np.random.default_rng(0)
    first, second = rng.normal(0, 1, (12, n_in)), rng.normal(0, 0.3, (n_out, 12))
    layers = (
        Layer(Dense(first.astype(np.float32)), None, Relu()),
        Layer(Dense(second.astype(np.float32)), None, Identity()),
    )
    return Network(layers, metadata={"task": task})


def examples_of(network: Network, targets: np.ndarray | None) -> Examples:
    x = np.random.default_rng(1).random((N, network.n_in), np.float32)
    return Examples("data", TEST, x, targets, task=network.task)


def outputs_on(network: Network) -> np.ndarray:
    return reference.run(network, examples_of(network, None).inputs, np.float32)


def changed(network: Network, change: Callable[[np.ndarray], np.ndarray]) -> Trace:
    """An engine whose outputs are changed; hidden layers are those of the network."""

    def trace(x: np.ndarray) -> list[np.ndarray]:
        *hidden, outputs = reference.trace(network, x, np.float32)
        return [*hidden, change(outputs).astype(np.float32)]

    return trace


def off(by: float, column: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda y: y + by * y[:, column].std() * (np.arange(y.shape[1]) == column)


def same(y: np.ndarray) -> np.ndarray:
    return y


def test_an_autoencoder_is_exported_though_its_largest_outputs_are_equal(sen_edge: Run, tmp_path: Path) -> None:
    network = network_of(RECONSTRUCTION, 6, 6)
    rows = np.ones((6, 12), np.float32)
    layers = (network.layers[0], Layer(Dense(rows * network.layers[1].weight.w[:1]), None, Identity()))
    (tmp_path / "ae.sen").write_bytes(image.dumps(replace(network, layers=layers)))
    outcome = sen_edge("export", tmp_path / "ae.sen", "--to", "onnx,sen", "-o", tmp_path / "out", "--json")
    assert outcome.code == 0, outcome.err
    figures = [each for one in json.loads(outcome.out)["artifacts"] for each in one["verification"]]
    assert {each["decision_agreement"] for each in figures} == {None} and all(each["passed"] for each in figures)


def test_labels_are_compared_one_by_one(verified: Verify) -> None:
    network = network_of(MULTILABEL)
    result = verified(network, changed(network, lambda y: y * [1, 1, -1]))
    assert result.decision_agreement == pytest.approx(2 / 3, abs=0.1)
    assert any("decisions" in failure for failure in result.failures)
    assert verified(network, changed(network, same)).decision_agreement == 1


@pytest.mark.parametrize("task", [REGRESSION, RECONSTRUCTION])
def test_continuous_outputs_are_not_decided_by_their_order(task: str, verified: Verify) -> None:
    network = network_of(task, n_out=6)
    swapped = verified(network, changed(network, lambda y: y + 1e-5 * y.std() * np.arange(6)))
    assert swapped.passed and swapped.decision_agreement is None
    assert not verified(network, changed(network, off(1e-3, 0))).passed


def test_one_output_has_no_order(verified: Verify) -> None:
    network = network_of(CLASSIFICATION, n_out=1)
    assert verified(network, changed(network, same)).decision_agreement is None
    assert not verified(network, changed(network, off(1e-3, 0))).passed


def test_the_unit_of_a_regression_is_that_of_each_output(verified: Verify) -> None:
    """An error of a small output is not hidden by a large one."""
    network = network_of(REGRESSION)
    first, last = network.layers
    scaled = Layer(Dense(last.weight.w * np.array([[1], [1000], [1]], np.float32)), None, Identity())
    network = replace(network, layers=(first, scaled))
    result = verified(network, changed(network, off(0.01, 0)))
    assert not result.passed and result.max_rel_error == pytest.approx(0.01, rel=0.1)


def test_the_offset_of_restored_outputs_is_no_scale(verified: Verify) -> None:
    scaling = Standardization(np.full(3, 500, np.float32), np.ones(3, np.float32))
    network = replace(network_of(REGRESSION), output_scaling=scaling)
    result = verified(network, changed(network, off(0.01, 0)))
    assert not result.passed and result.max_rel_error == pytest.approx(0.01, rel=0.1)


def test_probabilities_of_an_artifact_are_compared_with_those_of_the_model(verified: Verify) -> None:
    network = replace(network_of(MULTILABEL), metadata={"task": MULTILABEL, "output_activation": "sigmoid"})
    probabilities = changed(network, lambda y: reference.activate(y, "sigmoid"))
    targets = np.random.default_rng(2).integers(0, 2, (N, 3)).astype(np.float32)
    result = verified(network, probabilities, examples_of(network, targets))
    assert result.passed and result.decision_agreement == 1 and result.data.changed == 0
    assert not verified(network, changed(network, same)).passed


# --- data ----------------------------------------------------------------------------------------


def test_scores_of_labels(verified: Verify) -> None:
    network = network_of(MULTILABEL)
    targets = (outputs_on(network) > 0).astype(np.float32)
    data = examples_of(network, targets)
    figures = verified(network, changed(network, same), data).data
    assert [each.metric for each in figures.scores] == ["F1", "exact match"] and figures.scores[0].model == 100
    assert figures.changed == 0 and figures.scores[0].allowed == 0.05
    result = verified(network, changed(network, lambda y: -y), data)
    assert any("F1 on data" in failure for failure in result.failures)
    assert result.data.changed == np.count_nonzero(outputs_on(network))


def test_scores_of_a_regression(verified: Verify) -> None:
    network = network_of(REGRESSION)
    targets = outputs_on(network) + np.random.default_rng(3).normal(0, 0.05, (N, 3)).astype(np.float32)
    data = examples_of(network, targets)
    first = verified(network, changed(network, same), data).data.scores[0]
    assert first.metric == "R2" and 0.5 < first.model == first.artifact and first.allowed == pytest.approx(5e-4)
    result = verified(network, changed(network, off(0.5, 1)), data)
    assert any("R2 on data" in failure for failure in result.failures)


def test_targets_of_no_variance_have_no_score_to_compare(verified: Verify) -> None:
    network = network_of(REGRESSION)
    result = verified(network, changed(network, same), examples_of(network, np.ones((N, 3), np.float32)))
    assert result.passed and json.loads(json.dumps(result.to_dict()))["data"]["scores"][0]["model"] is None


@pytest.mark.parametrize("has_labels", [True, False])
def test_scores_of_a_reconstruction(has_labels: bool, verified: Verify) -> None:
    network = network_of(RECONSTRUCTION, n_out=6)
    network = replace(network, input_scaling=Standardization(np.full(6, 0.5, "f4"), np.full(6, 0.3, "f4")))
    labels = (np.arange(N) % 4 == 0).astype(np.int64) if has_labels else None
    data = examples_of(network, labels)
    figures = verified(network, changed(network, same), data).data
    names = ["reconstruction error", "ROC AUC"] if has_labels else ["reconstruction error"]
    assert [each.metric for each in figures.scores] == names
    kept = labels == 0 if has_labels else slice(None)
    error = np.square((outputs_on(network) - data.inputs) / 0.3)[kept].mean()
    assert figures.scores[0].model == pytest.approx(error, rel=1e-4) and figures.agreement == 1
    result = verified(network, changed(network, lambda y: -y), data)
    assert result.data.agreement < 1 and any("anomalies" in failure for failure in result.failures)
    assert any("reconstruction error on data" in failure for failure in result.failures)


def test_outputs_that_are_not_finite_fail(verified: Verify) -> None:
    network = network_of(RECONSTRUCTION, n_out=6)
    result = verified(network, changed(network, lambda y: y * np.nan), examples_of(network, None))
    assert any("reconstruction error" in failure for failure in result.failures)


def test_the_threshold_of_anomaly_scores() -> None:
    scores = np.array([1.0, 2, 3, 4, 10, 12])
    assert anomaly_threshold(scores, np.array([0, 0, 0, 0, 1, 1])) == 7
    assert anomaly_threshold(scores, np.array([0, 0, 1, 0, 1, 1])) == 7
    assert anomaly_threshold(np.arange(100.0), None) == 95.5
    assert anomaly_threshold(np.arange(100.0), np.zeros(100, np.int64)) == 95.5
    assert anomaly_threshold(np.ones(3), np.array([0, 1, 0])) == 1


def test_an_impossible_task_is_refused(sen_edge: Run, tmp_path: Path) -> None:
    for metadata, message in (({"task": "odd"}, "'odd'"), ({"task": RECONSTRUCTION}, RECONSTRUCTION)):
        (tmp_path / "net.sen").write_bytes(image.dumps(replace(network_of(CLASSIFICATION), metadata=metadata)))
        outcome = sen_edge("export", tmp_path / "net.sen", "--to", "sen", "-o", tmp_path / "out")
        assert outcome.code == 1 and message in outcome.err and not (tmp_path / "out").exists()


def test_verification_inputs_reach_both_signs_of_a_label() -> None:
    network = network_of(MULTILABEL)
    outputs = reference.run(network, verification_inputs(network))
    assert (outputs > 0).any() and (outputs < 0).any()


@pytest.mark.parametrize("target", ["sen", "tflite"])
def test_int8_values_have_a_tolerance_of_their_own(target: str, sen_edge: Run, tmp_path: Path) -> None:
    applied = []
    for task in (REGRESSION, CLASSIFICATION):
        (tmp_path / f"{task}.sen").write_bytes(image.dumps(network_of(task)))
        command = (
            "export",
            tmp_path / f"{task}.sen",
            "--to",
            target,
            "-o",
            tmp_path / "out",
            "--dtype",
            "int8-dynamic",
        )
        outcome = sen_edge(*command, "--json")
        assert outcome.code == 0, outcome.err
        applied.append(json.loads(outcome.out)["artifacts"][0]["verification"][0]["tolerance"]["output"])
    assert applied == [0.2, 0.5]


# --- tolerances of the user ----------------------------------------------------------------------


def test_tolerances_replace_the_defaults(sen_edge: Run, tmp_path: Path) -> None:
    (tmp_path / "net.sen").write_bytes(image.dumps(network_of(REGRESSION)))
    given = ("--tolerance", "output=1e-12", "--tolerance", "readout=0.25")
    outcome = sen_edge("export", tmp_path / "net.sen", "--to", "onnx", "-o", tmp_path, "--json", *given)
    applied = json.loads(outcome.out)["artifacts"][0]["verification"][0]["tolerance"]
    assert (applied["output"], applied["readout"]) == (1e-12, 0.25)
    verify = ("verify", tmp_path / "net.onnx", "--against", tmp_path / "net.sen")
    assert sen_edge(*verify, "--tolerance", "output=10").code == 0
    checked = json.loads(sen_edge(*verify, "--tolerance", "output=10", "--json").out)
    assert checked[0]["tolerance"]["output"] == 10


@pytest.mark.parametrize(
    ("given", "message"),
    {
        "odd=1": "odd",
        "output=abc": "output",
        "output=-1": "output",
        "readout=2": "readout",
        "output": "NAME=VALUE",
        "spikes=0.5": "spikes",
        "rounding=1": "rounding",
        "decisions=0.5": "decisions",
        "score=1": "score",
    }.items(),
)
def test_tolerances_without_effect_or_meaning_are_refused(
    given: str, message: str, sen_edge: Run, tmp_path: Path
) -> None:
    (tmp_path / "net.sen").write_bytes(image.dumps(network_of(REGRESSION)))
    outcome = sen_edge("export", tmp_path / "net.sen", "--to", "sen", "-o", tmp_path / "out", "--tolerance", given)
    assert outcome.code == 2 and message in outcome.err and "Traceback" not in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_step_in_hidden_layers_moves_outputs_by_some_steps() -> None:
    inputs = np.random.default_rng(1).random((N, 6), np.float32)
    network = to_int8(network_of(REGRESSION), inputs)
    exact, off_by_one = (run(network, inputs)[-1] for run in (reference.trace, reference.trace_one_step_off))
    grid = output_grid(network)
    assert grid is not None
    assert 0 < np.abs(exact - off_by_one).max() / grid.scale < 30
