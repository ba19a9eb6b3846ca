"""Measurement from files to record: rows, batches, modes, validity."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sen_exporters.onnx.exporter import OnnxExporter
from sen_runtime.bench import measure, memory, plan, rounds, text
from sen_runtime.bench.plan import BenchRequest
from sen_runtime.bench.rounds import Measured
from sen_runtime.memory_limits import MemoryLimitError
from tests.bench.conftest import run
from tests.conftest import INTERPRETERS
from tests.support.bench import FACTS, Machine, small_network, write

pytestmark = pytest.mark.usefixtures("short")


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
