"""Profiles: time of each layer, in C and by the profiler of onnxruntime, and hardware counters."""

import ctypes
import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sen_runtime import cli
from sen_runtime import format as image
from sen_runtime.bench import measure, memory, perf, profile, record
from sen_runtime.engines import engine, native
from sen_runtime.engines.onnxruntime import layer_times
from sen_runtime.errors import EngineError
from sen_runtime.ir.network import READOUTS
from tests.support.bench import small_network, write
from tests.support.networks import random_input, random_network

SIZES = (12, 16, 10, 5)
KINDS = ("dense", "sparse")
READINGS = 0


@ctypes.CFUNCTYPE(ctypes.c_uint64)
def counting_clock() -> int:
    """Each reading takes 1."""
    global READINGS
    READINGS += 1
    return READINGS


def profiled(session: native.NativeSession, x: np.ndarray) -> tuple[np.ndarray, list[int], int]:
    """Output, ticks of each layer, and status."""
    ticks, y = np.zeros(session._n_layers, np.uint64), np.full(len(session.output), 7, np.float32)
    call = native._library()["sen_profile"]
    call.argtypes = [ctypes.c_void_p] * 5
    clock = ctypes.cast(counting_clock, ctypes.c_void_p)
    status = call(session._model, x.ctypes.data, y.ctypes.data, clock, ticks.ctypes.data)
    return y, ticks.tolist(), status


def test_a_profile_computes_what_a_run_does() -> None:
    network = random_network(np.random.default_rng(1), sizes=SIZES)
    x = random_input(np.random.default_rng(2), network, 1)
    with native.load(image.dumps(network)) as session:
        y, ticks, status = profiled(session, x)
        assert status == 0 and np.array_equal(y, session.run(x)[0])
        assert ticks == [1, 1, 1]
        x[0, 3] = np.nan
        y, ticks, status = profiled(session, x)
        assert (status, ticks) == (20, [0, 0, 0]) and np.all(y == 7)


@pytest.mark.parametrize("coding", ["direct", "spikes"])
@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("sizes", [SIZES, SIZES[1:], SIZES[2:]], ids=["three layers", "two", "one"])
def test_a_profile_of_a_spiking_network(sizes: tuple[int, ...], readout: str, coding: str) -> None:
    network = random_network(
        np.random.default_rng(1),
        spiking=True,
        sizes=sizes,
        kinds=KINDS,
        timesteps=4,
        input_coding=coding,
        readout=readout,
    )
    x = random_input(np.random.default_rng(2), network, 1)
    with native.load(image.dumps(network)) as session:
        y, ticks, status = profiled(session, x)
        assert status == 0 and np.array_equal(y, session.run(x)[0])
    spiking = len(sizes) - 1 - (readout != "spike_count")
    steps = 1 if spiking == 1 and coding == "direct" else 4
    assert ticks == [steps] * spiking + [1] * (len(sizes) - 1 - spiking)


def test_layers_of_an_image(tmp_path: Path) -> None:
    network = small_network()
    path = write(tmp_path, "net.sen", network)
    found = native.profile(path, np.zeros((3, 12), np.float32))
    assert [(each.name, each.macs) for each in found] == [("layer0", 12 * 16), ("layer1", 16 * 5)]
    assert sum(each.weight_bytes or 0 for each in found) == network.nbytes
    assert all(each.us > 0 and each.reads_weights_once for each in found)


def test_several_threads_are_not_profiled_in_c(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="2"):
        native.profile(write(tmp_path, "net.sen", small_network()), np.zeros((3, 12), np.float32), 2)


def node(name: str, us: int, op: str = "Gemm", inputs: tuple[int, ...] = (1, 4), n_out: int = 3) -> dict[str, Any]:
    shapes = {"input_type_shape": [{"float": [*inputs]}], "output_type_shape": [{"float": [1, n_out]}]}
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": us, "args": {"op_name": op, **shapes}}


def test_events_of_onnxruntime() -> None:
    call = [
        node("fused layer0/preactivation", 5),
        node("layer1/loop", 90, op="Scan"),
        *[node("layer1/step", 2, op="Add")] * 3,
        node("output", 1, op="DynamicQuantizeMatMul"),
        {"cat": "Session", "name": "model_run", "dur": 100, "args": {}},
    ]
    slow = [{**event, "dur": 1000} for event in call]
    found = layer_times([*slow, *call * 3], runs=4, rows=1)
    assert [(each.name, each.us) for each in found] == [("layer0", 5), ("layer1", 6), ("output", 1)]
    assert [each.macs for each in found] == [12, None, 12]
    assert [each.weight_bytes for each in found] == [48, None, 12]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[int, tuple[int, int, int]]], None]:
    """A kernel whose counters read so; an event without an entry does not exist."""

    def install(counts: dict[int, tuple[int, int, int]]) -> None:
        def system_call(number: int, attributes: bytes, *rest: int) -> int:
            event = perf.ATTRIBUTES.unpack(attributes)[2]
            if event not in counts:
                ctypes.set_errno(errno.ENOENT)
                return -1
            with tempfile.TemporaryFile() as file:
                file.write(perf.COUNTS.pack(*counts[event]))
                file.seek(0)
                return os.dup(file.fileno())

        monkeypatch.setattr(perf, "SYSCALLS", dict.fromkeys(perf.SYSCALLS, 0) | {perf_machine(): 0})
        monkeypatch.setattr(perf.sys, "platform", "linux")
        monkeypatch.setattr(perf, "_system_call", system_call)
        monkeypatch.setattr(perf, "_control", lambda file, request: None)

    return install


def perf_machine() -> tuple[str, int]:
    return perf.platform.machine(), 8 * perf.struct.calcsize("P")


def test_counters_are_scaled_to_the_time_they_ran(counted: Callable[..., None]) -> None:
    counted({1: (1000, 10, 10), 0: (300, 10, 5), 3: (7, 10, 0)})
    calls = []
    assert perf.count(lambda: calls.append(1)) == {
        "instructions": 1000,
        "cycles": 600,
        "cache_misses": None,
        "branch_misses": None,
    }
    assert calls == [1]


@pytest.mark.parametrize(
    ("code", "token"),
    [
        (errno.EACCES, "kernel.perf_event_paranoid"),
        (errno.EPERM, "kernel.perf_event_paranoid"),
        (errno.ENOENT, "virtual"),
        (errno.ENOSYS, "perf_event_open"),
        (errno.EMFILE, os.strerror(errno.EMFILE)),
    ],
)
def test_a_kernel_without_counters(monkeypatch: pytest.MonkeyPatch, code: int, token: str) -> None:
    def refuse(*_: object) -> int:
        ctypes.set_errno(code)
        return -1

    monkeypatch.setattr(perf, "SYSCALLS", {perf_machine(): 0})
    monkeypatch.setattr(perf.sys, "platform", "linux")
    monkeypatch.setattr(perf, "_system_call", refuse)
    with pytest.raises(perf.CountersError, match=token):
        perf.count(lambda: pytest.fail("nothing is counted"))


def test_an_unknown_machine_has_no_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perf, "SYSCALLS", {})
    with pytest.raises(perf.CountersError, match="perf_event_open"):
        perf.count(lambda: pytest.fail("nothing is counted"))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.setattr("sen_runtime.bench.measure.CALL_SECONDS", 0.01)
    monkeypatch.setattr(memory, "MIN_BYTES", 1 << 20)
    monkeypatch.setattr(profile, "COUNTED_US", 100)
    for name in ("native", "onnxruntime"):
        monkeypatch.setattr(f"sen_runtime.engines.{name}.SECONDS", 0.01)
    return lambda *words: cli.main(["bench", *map(str, words), "--seconds", "0.05", "--profile", "--allow-throttled"])


def test_profiles_in_the_record(run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [write(tmp_path, f"net.{suffix}", small_network()) for suffix in ("sen", "onnx", "tflite")]
    assert run(*files, "--json", tmp_path / "a.json") == 0
    native_row, onnx_row, *others = record.read(tmp_path / "a.json")["rows"]
    assert [layer["name"] for layer in native_row["profile"]["layers"]] == ["layer0", "layer1"]
    assert [layer["macs"] for layer in onnx_row["profile"]["layers"]] == [12 * 16, 16 * 5]
    for row in (native_row, onnx_row):
        assert row["profile"]["unavailable"] is None
        assert sum(layer["share"] for layer in row["profile"]["layers"]) == pytest.approx(1)
        assert set(row["profile"]["counters"]) == {"unavailable", *perf.EVENTS}
    assert others
    for row in others:
        assert row["engine"] in row["profile"]["unavailable"] and row["profile"]["layers"] == []
    shown = capsys.readouterr().out
    assert "layer1" in shown and f"profile of {others[0]['name']}: unavailable" in shown


def test_an_engine_without_profiler_is_refused_where_it_is_named(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert engine("reference").profile is None
    assert run(write(tmp_path, "net.sen", small_network()), "--engine", "reference") == 2
    message = capsys.readouterr().err
    assert "--profile" in message and "reference" in message and "native" in message


def test_an_interrupt_of_the_profile_keeps_the_latencies(
    run: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(profile, "_counters", interrupt)
    assert run(write(tmp_path, "net.sen", small_network()), "--json", tmp_path / "a.json") == 130
    found = record.read(tmp_path / "a.json")
    assert found["status"] == "interrupted" and "profile" not in found["rows"][0]
    assert found["rows"][0]["latency_us"]["median"] > 0


def test_a_row_with_threads_has_no_counters(tmp_path: Path) -> None:
    request = measure.BenchRequest(
        (write(tmp_path, "net.onnx", small_network()),), threads=(2,), seconds=0.05, profile=True
    )
    (row,) = measure.run(request).record["rows"]
    assert "2" in row["profile"]["counters"]["unavailable"]
