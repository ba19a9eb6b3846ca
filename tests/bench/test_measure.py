"""Measurement from files to record: comparison of outputs, validity, errors."""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sen_edge.passes.quantize import to_int8, to_int8_weights
from sen_edge.passes.standardization import strip_input
from sen_exporters.onnx.exporter import OnnxExporter
from sen_runtime import reference
from sen_runtime.bench import cores, judge, measure, memory, plan, record, rounds, text
from sen_runtime.bench.plan import BenchError, BenchRequest, RowPlan
from sen_runtime.bench.rounds import Measured
from sen_runtime.data import TEST_SHARE, hold_out
from sen_runtime.engines import Session
from sen_runtime.errors import DataError, EngineError, ImageError, MissingExtraError, SenError, UsageError
from sen_runtime.ir.network import Layer, Network
from sen_runtime.ir.neurons import Identity
from sen_runtime.ir.operators import Dense
from sen_runtime.ir.standardization import Standardization, metadata_of
from sen_runtime.memory_limits import MemoryLimitError
from sen_runtime.task import MULTILABEL, RECONSTRUCTION, REGRESSION
from tests.conftest import INTERPRETERS
from tests.support import records
from tests.support.bench import FACTS, Machine, small_network, write
from tests.support.networks import random_network

Made = dict[str, Any]
#: A core that this process may run on.
CORE = next(iter(cores.usable()), 0)


def run(*artifacts: Path, machine: Machine | None = None, load: Any = measure.load_session, **options: Any) -> Made:
    request = BenchRequest(artifacts, **{"seconds": 0.05, **options})
    found = measure.run(request, device=machine or Machine(), load=load).record
    record.check(found)
    return found


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts of a run that take a fixed time take less."""
    monkeypatch.setattr("sen_runtime.bench.measure.CALL_SECONDS", 0.01)
    monkeypatch.setattr(memory, "MIN_BYTES", 1 << 20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network in all formats, and one of other inputs."""
    made = tmp_path_factory.mktemp("artifacts")
    for name in ("net.sen", "net.onnx", "net.tflite"):
        write(made, name, small_network())
    write(made, "other.sen", small_network(n_in=7))
    return made


def test_a_record_of_every_engine(folder: Path) -> None:
    found = run(folder / "net.sen", folder / "net.onnx", folder / "net.tflite", command=("sen-runtime", "bench"))
    names = ["net.sen native 1", "net.onnx onnxruntime 1", *(f"net.tflite {name} 1" for name in INTERPRETERS)]
    assert [row["name"] for row in found["rows"]] == names
    assert (found["status"], found["valid"], found["invalid_because"]) == ("complete", True, [])
    first, *others = found["rows"]
    assert first["ratio"] is None and first["call_us"] is not None and found["left_out"] == []
    assert first["agreement"]["to"] == "reference" and first["agreement"]["max_error"] < 1e-4
    network = small_network()
    assert first["macs"] == network.macs == 12 * 16 + 16 * 5
    assert first["weight_bytes"] == network.nbytes and first["nnz"] == network.nbytes // 4
    assert first["arena_bytes"] > 0 and first["kernels"]
    for row in others:
        assert row["agreement"]["matches"] and row["agreement"]["to"] == names[0]
        assert row["agreement"]["inputs"] == 64 and row["agreement"]["max_error"] < 1e-4
        assert row["ratio"]["low"] <= row["ratio"]["median"] <= row["ratio"]["high"]
        assert (row["macs"], row["call_us"], row["arena_bytes"]) == (None, None, None)
    for row in found["rows"]:
        assert (row["n_in"], row["n_out"], row["timesteps"], row["step_us"]) == (12, 5, 0, None)
        assert row["load_us"] > 0 and row["first_us"] > 0
        assert row["bytes"] == (folder / row["file"]).stat().st_size
        assert row["throughput_per_s"] == pytest.approx(1e6 / row["latency_us"]["mean"])
        assert "samples_us" not in row
    assert len({len(row["turns_us"]) for row in found["rows"]}) == 1
    assert sum(found["settings"]["loads"]) == len(first["turns_us"])
    assert found["settings"]["inputs"] == "random" and found["settings"]["n_inputs"] == 64
    assert found["bandwidth"]["l2_bytes_per_ns"] > 0
    assert first["share_of_l2"] == pytest.approx(first["bytes_per_ns"] / found["bandwidth"]["l2_bytes_per_ns"])
    assert found["device"]["model"] == "A board" and found["device"]["throttled_during"] == []


def test_raw_samples_are_those_of_the_summary(folder: Path) -> None:
    row = run(folder / "net.sen", raw=True)["rows"][0]
    assert len(row["samples_us"]) == row["n_samples"]
    assert np.median(row["samples_us"]) == row["latency_us"]["median"]


def test_one_file_twice_has_two_names(folder: Path) -> None:
    found = run(folder / "net.sen", folder / "net.sen")
    assert [row["name"] for row in found["rows"]] == ["net.sen native 1", "net.sen native 1 #2"]
    assert found["rows"][1]["agreement"]["max_error"] == 0


def test_spiking_networks_by_step_and_sample(tmp_path: Path) -> None:
    network = small_network(spiking=True, timesteps=6)
    found = run(write(tmp_path, "net.sen", network), write(tmp_path, "net.onnx", network))
    for row in found["rows"]:
        assert row["timesteps"] == 6
        assert row["step_us"] == pytest.approx(row["latency_us"]["median"] / 6)
        assert row["bytes_per_ns"] is None
    assert found["rows"][1]["agreement"]["matches"]


def test_spike_trains(tmp_path: Path) -> None:
    network = small_network(spiking=True, timesteps=6, input_coding="spikes")
    found = run(*(write(tmp_path, f"net.{kind}", network) for kind in ("sen", "onnx", "tflite")))
    assert [row["n_in"] for row in found["rows"]] == [12] * len(found["rows"])
    assert all(row["agreement"]["matches"] for row in found["rows"][1:])


def all_calls_take(us: float) -> Callable[..., Measured]:
    """In the place of `measure_rounds`: every call of every row takes so many microseconds."""

    def measured(openers: Any, *_: Any, **__: Any) -> Measured:
        found = Measured(dict.fromkeys(openers, 1), loads=[0])
        for _ in range(20):
            found.add_round({name: [round(1000 * us)] for name in openers})
        return found

    return measured


def fixed_batch(folder: Path, batch_size: int) -> Path:
    path = folder / "fixed.onnx"
    path.write_bytes(OnnxExporter().export(small_network(), OnnxExporter.Options(batch_size=batch_size)).main)
    return path


def test_batches_are_rows_with_the_latency_of_a_call(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "measure_rounds", all_calls_take(480.0))
    found = run(folder / "net.sen", folder / "net.onnx", folder / "net.tflite", batches=(1, 48), threads=(1,))
    names = ["net.sen native 1", "net.onnx onnxruntime 1", *(f"net.tflite {name} 1" for name in INTERPRETERS)]
    assert [row["name"] for row in found["rows"]] == [f"{name}{end}" for name in names for end in ("", " batch 48")]
    for row in found["rows"]:
        assert row["latency_us"]["median"] == 480 and row["turns_us"] == [480.0] * 20
        assert row["throughput_per_s"] == pytest.approx(1e6 * row["batch"] / 480)
        assert row["agreement"]["matches"] and row["agreement"]["inputs"] == 64
        if row["ratio"] is not None:
            assert row["ratio"]["median"] == pytest.approx(1 / row["batch"])
    one, many = found["rows"][:2]
    assert one["call_us"] is not None and one["bytes_per_ns"] is not None
    assert many["call_us"] is None and many["bytes_per_ns"] is None
    table = text.table(found, 200)
    assert "inputs/s" in table and "time per input" in table
    assert "inputs/s" not in text.table(run(folder / "net.sen"), 200)


@pytest.mark.parametrize("batches", [(1,), (8, 48), (48, 8)])
def test_a_file_of_a_fixed_batch_is_measured_at_that_size(
    tmp_path: Path, folder: Path, batches: tuple[int, ...]
) -> None:
    path = fixed_batch(tmp_path, 48)
    found = run(path, folder / "net.sen", batches=batches)
    row, *others = found["rows"]
    assert (row["name"], row["batch"]) == ("fixed.onnx onnxruntime 1 batch 48", 48)
    assert [other["batch"] for other in others] == list(batches)
    assert "batch" in [warning["kind"] for warning in row["warnings"]]
    assert all(other["agreement"]["matches"] for other in others)
    assert "batch" not in [warning["kind"] for row in run(path, batches=(48,))["rows"] for warning in row["warnings"]]


def test_files_of_a_fixed_batch_have_different_names(tmp_path: Path) -> None:
    path = fixed_batch(tmp_path, 3)
    names = [row["name"] for row in run(path, path, batches=(1, 3))["rows"]]
    assert names == ["fixed.onnx onnxruntime 1 batch 3", "fixed.onnx onnxruntime 1 batch 3 #2"]


@pytest.mark.parametrize("name", ["net.sen", "net.onnx"])
def test_a_batch_beyond_the_memory_is_refused(folder: Path, name: str) -> None:
    batch = 1 << 50
    with pytest.raises(MemoryLimitError, match=rf"{name}.*{batch:,} inputs of 12 values"):
        run(folder / name, batches=(1, batch))


class Changed:
    """A session whose outputs are spoilt."""

    def __init__(self, session: Any, spoil: Callable[[np.ndarray], np.ndarray]) -> None:
        self.session, self.spoil = session, spoil
        self.batch_size, self.input_shape = None, session.input_shape
        self.properties = getattr(session, "properties", {})

    def run(self, x: np.ndarray) -> np.ndarray:
        return self.spoil(self.session.run(x))


def spoilt(which: str, spoil: Callable[[np.ndarray], np.ndarray]) -> Callable[[RowPlan], Session]:
    def load(row: RowPlan) -> Any:
        session = measure.load_session(row)
        return Changed(session, spoil) if row.name == which else session

    return load


def test_row_with_wrong_outputs_is_marked(folder: Path) -> None:
    load = spoilt("net.onnx onnxruntime 1", lambda y: np.roll(y, 1, axis=1))
    found = run(folder / "net.sen", folder / "net.onnx", load=load)
    assert not found["rows"][1]["agreement"]["matches"] and not found["valid"]
    assert found["rows"][1]["agreement"]["argmax_percent"] < 90
    (reason,) = found["invalid_because"]
    assert reason.startswith("net.onnx onnxruntime 1: ") and "net.sen native 1" in reason


@pytest.mark.parametrize(("dtype", "is_valid"), [("float32", False), ("int8-dynamic", True)])
def test_a_small_error_counts_for_floats(folder: Path, tmp_path: Path, dtype: str, is_valid: bool) -> None:
    path = write(tmp_path, "net.onnx", small_network(), {"dtype": dtype})
    load = spoilt("net.onnx onnxruntime 1", lambda y: y + 0.005 * np.abs(y).max())
    assert run(folder / "net.sen", path, load=load)["valid"] is is_valid


@pytest.mark.parametrize("which", ["net.sen native 1", "net.onnx onnxruntime 1"])
def test_outputs_that_are_no_numbers_never_match(folder: Path, which: str) -> None:
    load = spoilt(which, lambda y: np.where(np.arange(y.shape[1]) == 2, np.nan, y))
    found = run(folder / "net.sen", folder / "net.onnx", load=load)
    row = next(row for row in found["rows"] if row["name"] == which)
    assert row["agreement"]["matches"] is False and row["agreement"]["max_error"] is None
    assert any(which in reason for reason in found["invalid_because"])


def test_outputs_of_another_number(folder: Path) -> None:
    load = spoilt("net.onnx onnxruntime 1", lambda y: y[:, :3])
    found = run(folder / "net.sen", folder / "net.onnx", load=load)
    assert not found["rows"][1]["agreement"]["matches"] and not found["valid"]


@pytest.mark.slow
def test_another_checkpoint_is_not_judged(tmp_path: Path) -> None:
    paths = [
        write(tmp_path, "a.sen", small_network(1), {"checkpoint_sha256": "1"}),
        write(tmp_path, "b.sen", small_network(2), {"checkpoint_sha256": "2"}),
        write(tmp_path, "b.onnx", small_network(2), {"checkpoint_sha256": "2", "dtype": "float32"}),
        write(tmp_path, "c.sen", small_network(3), {"checkpoint_sha256": "1", "compression": "half"}),
        write(tmp_path, "d.onnx", small_network(4), {"checkpoint_sha256": "4", "dtype": "float32"}),
    ]
    found = run(*paths)
    assert found["valid"]
    to = ["reference", "reference", "b.sen native 1", "reference", None]
    assert [(row["agreement"] or {}).get("to") for row in found["rows"]] == to
    assert [[each["kind"] for each in row["warnings"] if each["kind"] == "not-compared"] for row in found["rows"]] == [
        [],
        [],
        [],
        [],
        ["not-compared"],
    ]
    wrong = write(tmp_path, "b2.onnx", small_network(4), {"checkpoint_sha256": "2", "dtype": "float32"})
    assert not run(paths[1], wrong)["valid"]


def quantized(data: np.ndarray) -> tuple[Network, Network]:
    network = random_network(np.random.default_rng(0), kinds=("dense",), sizes=(12, 32, 5))
    return to_int8_weights(network), to_int8(network, data)


def test_int8_is_judged_more_loosely_and_on_data(tmp_path: Path) -> None:
    data = np.random.default_rng(1).random((200, 12), np.float32)
    network = random_network(np.random.default_rng(0), kinds=("dense",), sizes=(12, 32, 5))
    weights, full = quantized(data)
    paths = [
        write(tmp_path, "net.sen", network, {"dtype": "float32"}),
        write(tmp_path, "weights.sen", weights),
        write(tmp_path, "full.tflite", full, {"dtype": "int8"}),
    ]
    np.savez(tmp_path / "data.npz", x=data)
    found = run(*paths, data=tmp_path / "data.npz")
    assert found["valid"] and found["settings"]["inputs"] == "data" and found["settings"]["n_inputs"] == 64
    assert all(1e-4 < row["agreement"]["max_error_over_std"] < 0.5 for row in found["rows"][1:])
    found = run(*paths)
    assert found["rows"][1]["agreement"]["matches"]
    for row in found["rows"][2:]:
        assert row["agreement"] is None
        assert any("--data" in warning["message"] for warning in row["warnings"])
    load = spoilt(f"full.tflite {INTERPRETERS[0]} 1", lambda y: np.full_like(y, np.inf))
    assert not run(*paths, load=load)["valid"]


def test_argmax_of_int8_is_judged_on_data_only() -> None:
    for is_spiking in (False, True):
        for dtypes in (("float32", "int8-dynamic"), ("int8", "float16"), ("float32", "unknown")):
            assert judge.tolerance_for(dtypes, is_spiking=is_spiking, has_data=True).argmax == 0.9
            drawn = judge.tolerance_for(dtypes, is_spiking=is_spiking, has_data=False)
            assert (drawn.argmax, drawn.output) == (0, 0.5)
    assert judge.tolerance_for(("float32", "float16"), is_spiking=False, has_data=False).argmax == 0.95


def test_accuracy_on_labels(tmp_path: Path) -> None:
    network, x = small_network(), np.random.default_rng(1).random((700, 12), np.float32)
    labels = reference.run(network, x).argmax(axis=1)
    labels[:70] = (labels[:70] + 1) % 5
    np.savez(tmp_path / "data.npz", x_test=x.reshape(700, 4, 3, 1), y_test=labels[:, None])
    paths = [write(tmp_path, f"net.{kind}", network) for kind in ("sen", "onnx")]
    found = run(*paths, data=tmp_path / "data.npz")
    assert [row["accuracy_percent"] for row in found["rows"]] == [90.0, 90.0]
    assert found["settings"]["data"] == "data.npz (test part: 700)"


@pytest.mark.parametrize(
    ("task", "name", "value"),
    [(MULTILABEL, "F1", 100.0), (REGRESSION, "R2", 1.0), (RECONSTRUCTION, "reconstruction error", None)],
)
def test_scores_are_those_of_the_task(task: str, name: str, value: float | None, tmp_path: Path) -> None:
    network = replace(small_network(), metadata={"task": task})
    if task == RECONSTRUCTION:
        scaling = Standardization(np.full(5, 0.5, np.float32), np.full(5, 0.3, np.float32))
        layer = Layer(Dense(np.eye(5, dtype=np.float32)), np.full(5, 0.1, np.float32), Identity())
        network = Network((layer,), metadata={"task": task, **metadata_of(scaling)}, input_scaling=scaling)
    x = np.random.default_rng(1).random((100, network.n_in), np.float32)
    y = reference.run(network, x, np.float32)
    targets = {MULTILABEL: {"y_test": y > 0}, REGRESSION: {"y_test": y}, RECONSTRUCTION: {}}[task]
    np.savez(tmp_path / "data.npz", x_test=x, **targets)
    found = run(write(tmp_path, "net.sen", network), data=tmp_path / "data.npz")
    (row,) = found["rows"]
    if value is None:  # in units of the standardization
        value = np.square((y - x) / 0.3).mean()
    assert row["score"]["name"] == name and row["score"]["value"] == pytest.approx(value, rel=1e-4)
    assert row["accuracy_percent"] is None and name in text.table(found, 400)


def test_reconstructions_of_another_shape_are_refused(tmp_path: Path) -> None:
    network = replace(small_network(), metadata={"task": RECONSTRUCTION})
    np.savez(tmp_path / "data.npz", x_test=np.zeros((8, network.n_in), np.float32))
    with pytest.raises(DataError, match="reconstruction"):
        run(write(tmp_path, "net.sen", network), data=tmp_path / "data.npz")


def test_continuous_outputs_are_judged_without_their_order() -> None:
    expected = np.random.default_rng(0).normal(0, 1, (50, 3)) * [1, 1000, 1]
    tolerance = judge.tolerance_for(("float32", "float32"), is_spiking=False, has_data=True)
    swapped = expected + np.array([0, 0, 0.01])
    assert judge.compare(swapped, expected, "a", tolerance)["matches"]
    found = judge.compare(swapped, expected, "a", tolerance, REGRESSION)
    assert not found["matches"] and found["argmax_percent"] is None
    labels = judge.compare(-expected, expected, "a", tolerance, MULTILABEL)
    assert labels["labels_percent"] == 0 and not labels["matches"]
    likely = np.where(expected > 0, 0.9, 0.1)
    assert judge.compare(1 - likely, likely, "a", tolerance, MULTILABEL, 0.5)["labels_percent"] == 0
    close = np.full((50, 3), 1.0) + np.arange(3) * 1e-7
    assert judge.compare(close[:, ::-1], close, "a", tolerance, RECONSTRUCTION)["matches"]


def test_probabilities_are_not_compared_with_other_outputs() -> None:
    source = {"checkpoint_sha256": "ab"}
    assert judge.origin(source) != judge.origin({**source, "output_activation": "sigmoid"})


def test_records_without_scores_get_that_of_the_accuracy() -> None:
    made = records.record()
    for row in made["rows"]:
        del row["score"]
    read = record.loads(record.dumps(made))
    assert [row["score"]["value"] for row in read["rows"]] == [row["accuracy_percent"] for row in made["rows"]]


def test_files_for_standardized_inputs_get_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    scaling = Standardization(np.full(12, 50, np.float32), np.full(12, 20, np.float32))
    network = replace(small_network(), input_scaling=scaling, metadata={"input_range": "-100 200"})
    x = rng.normal(50, 20, (700, 12)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x_test=x, y_test=reference.run(network, x).argmax(axis=1))
    stripped = write(tmp_path, "stripped.onnx", strip_input(network))
    (row,) = run(stripped, data=tmp_path / "data.npz")["rows"]
    assert row["accuracy_percent"] == 100
    with pytest.raises(UsageError) as caught:
        run(stripped, write(tmp_path, "raw.onnx", network))
    assert "separate runs" in caught.value.hint


@pytest.mark.parametrize("mean", ["", "[1, 2]"])
def test_damaged_constants_are_refused(mean: str, tmp_path: Path) -> None:
    metadata = {"preprocess": "none", "input_mean": mean, "input_std": "[1, 2]"}
    with pytest.raises(UsageError):
        run(write(tmp_path, "net.onnx", replace(small_network(), metadata=metadata)))


def test_data_without_a_split_give_their_test_part(tmp_path: Path) -> None:
    network, x = small_network(), np.random.default_rng(1).random((700, 12), np.float32)
    labels = reference.run(network, x).argmax(axis=1)
    labels[::7] = (labels[::7] + 1) % 5
    _, held = hold_out(labels, TEST_SHARE, seed=0)
    right = 100 * np.mean(reference.run(network, x[held]).argmax(axis=1) == labels[held])
    np.savez(tmp_path / "data.npz", x=x, y=labels)
    found = run(write(tmp_path, "net.sen", network), data=tmp_path / "data.npz")
    assert found["rows"][0]["accuracy_percent"] == right
    assert found["settings"]["data"] == f"data.npz (test part: {len(held)} of 700)"


def test_throttling_makes_a_run_invalid(folder: Path) -> None:
    found = run(folder / "net.sen", machine=Machine(later={"throttled": "0x40004"}))
    assert not found["valid"] and "bit 2" in found["invalid_because"][0]
    assert found["device"]["throttled_during"] == found["invalid_because"]


def test_sustained_mode_notes_each_second(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "WATCH_S", 0.0)
    machine = Machine()
    found = run(folder / "net.sen", machine=machine, sustained=True)
    assert len(found["sustained"]) >= 2
    for sample in found["sustained"]:
        assert sample["mhz"] == 1800.0 and sample["celsius"] == 48.3
        assert sample["latency_us"]["net.sen native 1"] > 0
    assert machine.n_states == 2 + len(found["sustained"])
    assert run(folder / "net.sen")["sustained"] is None


def test_a_cold_cache_wants_single_calls(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(1).random((20, 12), np.float32))
    found = run(folder / "net.sen", folder / "net.onnx", cold_cache=True, data=tmp_path / "data.npz")
    settings = found["settings"]
    assert (settings["inputs"], settings["n_inputs"], settings["data"]) == ("cold-cache", 20, "data.npz (all 20)")
    assert [row["calls_per_sample"] for row in found["rows"]] == [1, 1]
    assert "cold-cache-small" not in [warning["kind"] for row in found["rows"] for warning in row["warnings"]]
    overheads = [each["message"] for each in found["rows"][0]["warnings"] if each["kind"] == "overhead"]
    assert all("clock" in message for message in overheads)  # none where a call takes long
    monkeypatch.setattr(memory, "MAX_COLD_BYTES", 1 << 18)
    small = run(folder / "net.sen", cold_cache=True)
    assert "cold-cache-small" in [each["kind"] for each in small["rows"][0]["warnings"]]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="not on this system")
def test_the_core_is_set_verified_and_given_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.sched_getaffinity(0)
    cpu = max(before)
    found = run(folder / "net.sen", cpus=(cpu,))
    assert (found["settings"]["cpus"], found["settings"]["cpus_verified"]) == ([cpu], True)
    assert os.sched_getaffinity(0) == before
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cpus: None)
    if len(before) > 1:
        assert not run(folder / "net.sen", cpus=(cpu,))["settings"]["cpus_verified"]


def test_spans_are_for_energy(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "meter.csv").write_text("timestamp,watts\n")
    request = BenchRequest((folder / "net.sen",), seconds=0.05, energy=tmp_path / "meter.csv")
    found = measure.run(request, device=Machine())
    assert len(found.spans) == sum(found.record["settings"]["loads"])
    assert all(end > start and inferences >= 1 for start, end, inferences in found.spans)


def test_an_interrupted_run_is_marked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true_round, seen = rounds.one_round, []

    def one_round(*arguments: Any) -> Any:
        seen.append(1)
        if len(seen) == 200:
            os.kill(os.getpid(), signal.SIGINT)
        return true_round(*arguments)

    monkeypatch.setattr(rounds, "one_round", one_round)
    monkeypatch.setattr(rounds, "MAX_WARM_UP_S", 0.05)
    found = run(folder / "net.sen", folder / "net.onnx", seconds=60.0)
    assert found["status"] == "interrupted" and found["valid"]
    assert found["rows"][0]["n_samples"] > 0 and found["rows"][0]["call_us"] is None


# What is refused.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"artifacts": ()}, "files", id="nothing"),
        pytest.param({"seconds": 0.0}, "--seconds", id="no time"),
        pytest.param({"seconds": -1.0}, "--seconds", id="less than no time"),
        pytest.param({"seconds": float("nan")}, "--seconds", id="no number"),
        pytest.param({"threads": (0,)}, "--threads is 0", id="no threads"),
        pytest.param({"threads": (1, 257)}, r"--threads is 257.*\b256\b", id="too many threads"),
        pytest.param({"batches": (8, 0)}, "--batch is 0", id="no inputs"),
        pytest.param({"threads": (1, 2), "cpus": (CORE, CORE)}, rf"--cpu {CORE} .*--threads 2", id="one core"),
        pytest.param({"engines": ("tensorrt",)}, r"'tensorrt'.*c, litert", id="engine"),
        pytest.param({"engines": ("litert",)}, r"litert.*\.tflite", id="engine of none"),
        pytest.param({"artifacts": (Path("a.bin"),)}, r"a\.bin", id="ending"),
        pytest.param({"artifacts": (Path("a.c"),)}, r"a\.c", id="C unasked"),
        pytest.param({"energy": Path("m.csv")}, r"\b2 rows", id="energy of two"),
        pytest.param({"cpus": (CORE, 4000)}, rf"--cpu 4000.*\b{CORE}\b", id="no such core"),
        pytest.param({"cpus": (-1,)}, "--cpu -1", id="negative core"),
        pytest.param({"cpus": "small"}, "--cpu.*'small'", id="word"),
    ],
)
def test_usage(folder: Path, tmp_path: Path, options: Made, message: str) -> None:
    (tmp_path / "a.c").write_text("")
    given = tuple(tmp_path / path for path in options.get("artifacts", ()))
    request = {"artifacts": (folder / "net.sen", folder / "net.onnx"), **options}
    if "artifacts" in options:
        request["artifacts"] = given
    with pytest.raises(UsageError, match=message) as found:
        measure.run(BenchRequest(**request), device=Machine())
    assert found.value.exit_code == 2


def test_other_widths_name_both_files(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"net\.onnx.*\[12\].*other\.sen.*\[7\]"):
        run(folder / "net.onnx", folder / "other.sen")


def test_an_engine_that_is_missing_names_its_pip_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for options in ({}, {"engines": ("onnxruntime",)}):
        with pytest.raises(MissingExtraError) as found:
            run(folder / "net.onnx", **options)
        assert (found.value.exit_code, found.value.hint) == (4, "pip install onnxruntime")


@pytest.mark.slow
@pytest.mark.parametrize("engines", [(), ("native", "litert", "onnxruntime")])
def test_engines_that_are_missing_are_left_out_unless_all_are_wanted(
    folder: Path, monkeypatch: pytest.MonkeyPatch, engines: tuple[str, ...]
) -> None:
    for module in ("ai_edge_litert", "ai_edge_litert.interpreter", "tflite_runtime", "tflite_runtime.interpreter"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    paths = [folder / f"net.{ending}" for ending in ("onnx", "sen", "tflite")]
    found = run(*paths, engines=engines)
    assert [row["name"] for row in found["rows"]] == ["net.sen native 1"]
    left_out = {(each["file"], each["engine"]): each["hint"] for each in found["left_out"]}
    assert left_out["net.onnx", "onnxruntime"] == "pip install onnxruntime"
    assert left_out["net.tflite", "litert"] == "pip install ai-edge-litert"
    shown = text.table(found)
    assert "left out: net.onnx onnxruntime" in shown and "pip install ai-edge-litert" in shown
    with pytest.raises(MissingExtraError, match="onnxruntime") as refused:
        run(*paths, engines=engines, strict=True)
    assert refused.value.exit_code == 4 and "pip install ai-edge-litert" in refused.value.hint
    assert run(paths[1], engines=("native",), strict=True)["left_out"] == []


def test_engine_with_one_thread_gives_a_note(folder: Path) -> None:
    request = BenchRequest((folder / "net.sen",), engines=("native", "reference"), threads=(1, 2))
    assert plan.notes(request) == ["reference has one thread"]
    assert plan.notes(replace(request, threads=(1,))) == []


def test_more_threads_than_cores_are_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sen_runtime.bench.measure._usable_cores", lambda: 2)
    found = run(folder / "net.onnx", threads=(2, 3))
    assert [
        [warning["kind"] for warning in row["warnings"] if warning["kind"] == "threads"] for row in found["rows"]
    ] == [[], ["threads"]]


def test_threads_are_rows_where_an_engine_has_them(folder: Path) -> None:
    rows = plan.plan(BenchRequest((folder / "net.sen",), engines=("native", "reference"), threads=(1, 2, 1)))[0]
    assert [row.name for row in rows] == ["net.sen native 1", "net.sen native 2", "net.sen reference 1"]


def test_a_file_for_one_interpreter_runs_in_that_one(tmp_path: Path) -> None:
    path = write(tmp_path, "net.tflite", small_network(), {"tflite_target": "litert"})
    assert [row.engine for row in plan.plan(BenchRequest((path,)))[0]] == ["litert"]


@pytest.mark.parametrize("name", ["net.sen", "net.onnx", "net.tflite"])
@pytest.mark.parametrize("damage", ["cut", "empty", "changed", "text"])
def test_a_damaged_file_is_named(folder: Path, tmp_path: Path, name: str, damage: str) -> None:
    data = (folder / name).read_bytes()
    middle = len(data) // 2
    content = {
        "cut": data[:middle],
        "empty": b"",
        "changed": data[:8] + bytes(64) + data[72:],
        "text": b"this is no model at all, however long one looks at it" * 4,
    }[damage]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SenError, match=name) as found:
        run(path)
    assert isinstance(found.value, (BenchError, ImageError, EngineError, SenError)) and found.value.exit_code == 1


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"absent\.onnx"):
        run(tmp_path / "absent.onnx")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        pytest.param({"x": np.zeros((3, 7), np.float32)}, r"\[7\].*\[12\]", id="width"),
        pytest.param({"x": np.zeros((3, 12)), "labels": np.zeros(3, int)}, "x, labels", id="key"),
        pytest.param({"x": np.full((3, 12), 255)}, r"\[0, 1\]", id="range"),
        pytest.param({"x_test": np.zeros((3, 12)), "y_test": np.full(3, 5)}, "label 5", id="label"),
    ],
)
def test_data_that_do_not_fit(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    model = write(tmp_path, "net.sen", replace(small_network(), metadata={"input_range": "0 1"}))
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(DataError, match=message) as found:
        run(model, data=tmp_path / "data.npz")
    assert "data.npz" in found.value.message


def test_data_are_checked_against_every_range_that_a_file_states(tmp_path: Path) -> None:
    bytes_, ones = (
        write(tmp_path, name, small_network(), {"input_range": stated, "checkpoint_sha256": name})
        for name, stated in (("bytes.sen", "0 255"), ("ones.sen", "0 1"))
    )
    np.savez(tmp_path / "data.npz", x=np.full((3, 12), 255))
    assert run(bytes_, data=tmp_path / "data.npz")["valid"]
    with pytest.raises(DataError, match=r"\[0, 1\]"):
        run(bytes_, ones, data=tmp_path / "data.npz")
    unknown = run(write(tmp_path, "unknown.sen", small_network()), data=tmp_path / "data.npz")
    assert any("input range" in each["message"] for each in unknown["rows"][0]["warnings"] if each["kind"] == "data")


def test_classes_without_examples_are_a_warning(folder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x_test=np.zeros((3, 12)), y_test=np.arange(3))
    found = run(folder / "net.sen", data=tmp_path / "data.npz")
    assert any(each["kind"] == "data" and "2 of 5" in each["message"] for each in found["rows"][0]["warnings"])


def test_peak_memory_is_none_without_status(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "STATUS", tmp_path / "status")
    assert memory.peak_bytes() is None
    (tmp_path / "status").write_text("Name:\tpython\nVmHWM:\t   12345 kB\n")
    assert memory.peak_bytes() == 12345 * 1024


def test_the_memory_of_a_board() -> None:
    assert memory.bandwidth({**FACTS, "caches": "unavailable"}) == {
        "l2_bytes_per_ns": None,
        "memory_bytes_per_ns": None,
    }
    huge = {"l1d": None, "l2": 1 << 18, "l3": 1 << 30}
    found = memory.bandwidth({**FACTS, "caches": huge})
    assert found["l2_bytes_per_ns"] and found["memory_bytes_per_ns"] is None
    assert memory.bandwidth({**FACTS, "ram_bytes": "unavailable"})["memory_bytes_per_ns"] is None
