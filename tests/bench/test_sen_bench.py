"""`sen_bench`, and the record that `sen-runtime record` computes from its output."""

import errno
import itertools
import json
import os
import re
import resource
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from sen_edge.passes.quantize import to_int8_weights
from sen_runtime import cli
from sen_runtime import format as image
from sen_runtime.bench import device, measure, raw
from sen_runtime.bench.compare import compare
from sen_runtime.bench.loops import random_inputs
from sen_runtime.bench.plan import BenchRequest
from sen_runtime.bench.raw import RawError
from sen_runtime.engines import native
from sen_runtime.ir.network import Network
from tests.support.bench import Machine, await_work
from tests.support.networks import random_input
from tests.support.sen_bench import SHORT, Bench, blocks_of, record_of, recorded

#: `vcgencmd` of a board that slows down during the run.
SLOWING = """#!/bin/sh
case "$1" in
get_throttled)
    count=$(cat {counter} 2>/dev/null || echo 0)
    echo $((count + 1)) > {counter}
    [ "$count" = 0 ] && echo throttled=0x10000 || echo throttled=0x50000;;
measure_clock) echo "frequency(48)=1500398464";;
esac
"""


@pytest.mark.slow
def test_the_record_is_that_of_a_run_in_python(bench: Bench, models: dict[str, Network], tmp_path: Path) -> None:
    paths = tuple(tmp_path / f"{name}.sen" for name in ("mlp", "int8", "mlp"))
    python = measure.run(BenchRequest(paths, seconds=0.1, seed=7), device=Machine()).record
    found = recorded(bench, tmp_path, *paths, "--seed", 7)
    assert found["tool"] == {"name": "sen_bench", "version": "0.1.0"} and found["command"][0] == "sen_bench"
    assert found["status"] == "complete" and found["left_out"] == []
    assert {key: set(found[key]) for key in ("settings", "clock", "device")} == {
        key: set(python[key]) for key in ("settings", "clock", "device")
    }
    same = (
        *("name", "file", "sha256", "bytes", "engine", "engine_version", "kernels", "threads", "n_in", "n_out"),
        *("timesteps", "macs", "nnz", "weight_bytes", "arena_bytes"),
    )
    for ours, theirs in zip(found["rows"], python["rows"], strict=True):
        assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}
        assert set(ours) == set(theirs)
        here, there = ours["agreement"], theirs["agreement"]
        assert [here[key] for key in ("to", "inputs", "matches")] == [there[key] for key in ("to", "inputs", "matches")]
        assert here["max_error"] == pytest.approx(there["max_error"], rel=1e-3, abs=1e-5)
        assert ours["load_us"] > 0 and ours["first_us"] > 0 and ours["rss_growth_bytes"] is not None
    names = [row.name for row in compare(python, found, allow_different=True).rows]
    assert names == ["mlp.sen native 1", "int8.sen native 1", "mlp.sen native 1 #2"]


def test_samples_are_those_of_the_file(recording: bytes, tmp_path: Path) -> None:
    (tmp_path / "bench.raw").write_bytes(recording)
    blocks = [
        (kind, np.frombuffer(data, "<i8"))
        for kind, data in blocks_of(recording)
        if kind in ("calibration", "round", "load")
    ]
    calls, samples = zip(*(data for kind, data in blocks if kind == "calibration"), strict=True)
    rounds = [np.split(data, np.cumsum(samples)[:-1]) for kind, data in blocks if kind == "round"]
    loads = sum(kind == "load" for kind, _ in blocks)
    found, measured = record_of(tmp_path / "bench.raw"), raw.read(tmp_path / "bench.raw").measured
    assert sum(found["settings"]["loads"]) == len(rounds) and len(found["settings"]["loads"]) == loads
    for index, row in enumerate(found["rows"]):
        expected = np.concatenate([turns[index] for turns in rounds]) / (1000 * calls[index])
        np.testing.assert_allclose(measured.samples(row["name"]), expected)
        assert row["n_samples"] == len(expected) and row["latency_us"]["median"] == pytest.approx(np.median(expected))
        assert row["calls_per_sample"] * 1000 * row["latency_us"]["median"] > 64 * found["clock"]["timer_ns"]


@pytest.mark.parametrize("name", ["mlp", "ranged", "hex", "snn", "train"])
def test_random_inputs_are_those_of_python(bench: Bench, models: dict[str, Network], tmp_path: Path, name: str) -> None:
    found = recorded(bench, tmp_path, f"{name}.sen", "--seed", 3)
    agreement = found["rows"][0]["agreement"]
    assert agreement["to"] == "reference" and agreement["inputs"] == 64 and agreement["max_error_over_std"] < 1e-4
    assert found["rows"][0]["timesteps"] == models[name].timesteps
    low, high = models[name].input_range
    expected = random_inputs(models[name].input_shape, 64, 3, low, high)
    np.testing.assert_array_equal(raw.read(tmp_path / "bench.raw").inputs, expected)


@pytest.mark.parametrize("name", ["ranged", "train"])
def test_inputs_of_a_file(bench: Bench, models: dict[str, Network], tmp_path: Path, name: str) -> None:
    network = models[name]
    (tmp_path / "int8.sen").write_bytes(image.dumps(to_int8_weights(network)))
    x = random_input(np.random.default_rng(1), network, batch=70)
    x.tofile(tmp_path / "x.f32")
    found = recorded(bench, tmp_path, f"{name}.sen", "int8.sen", "--inputs", "x.f32")
    assert (found["settings"]["inputs"], found["settings"]["n_inputs"]) == ("data", 64)
    assert found["settings"]["data"] == "x.f32"
    expected, actual = (native.load(tmp_path / f"{file}.sen").run(x[:64]) for file in (name, "int8"))
    worst = np.abs(actual.astype(float) - expected).max()  # of a batch, whose sums may be rounded in another order
    assert found["rows"][1]["agreement"]["max_error"] == pytest.approx(worst, rel=1e-3)
    (x + 100).astype(np.float32).tofile(tmp_path / "x.f32")
    assert bench("ranged.sen", "--inputs", "x.f32", *SHORT).returncode == 0 or name == "train"
    if name == "ranged":
        with pytest.raises(RawError):
            raw.read(tmp_path / "bench.raw")


def test_settings(bench: Bench, models: dict[str, Network], tmp_path: Path) -> None:
    cpu = max(os.sched_getaffinity(0))
    arguments, before = ("mlp.sen", "--cold-cache", "--kernels", "portable"), ("taskset", "-c", str(cpu))
    found = recorded(bench, tmp_path, *arguments, before=before)
    assert found["settings"]["inputs"] == "cold-cache" and found["rows"][0]["calls_per_sample"] == 1
    assert (found["settings"]["cpus"], found["settings"]["cpus_verified"]) == ([cpu], True)
    assert found["rows"][0]["kernels"] == "portable"


def test_the_machine_is_parsed_as_by_python(recording: bytes, tmp_path: Path) -> None:
    (tmp_path / "bench.raw").write_bytes(recording)
    found, here = record_of(tmp_path / "bench.raw")["device"], device.describe()
    others = ("python", "libraries", "compiler")
    assert {key: found[key] for key in here if key not in others} == {
        key: value for key, value in here.items() if key not in others
    }
    kinds = [kind for kind, _ in blocks_of(recording)]
    for event, parse in (("facts", device.parse_facts), ("state", device.parse_state)):
        patterns: list[str] = []

        def read(pattern: str, patterns: list[str] = patterns) -> dict[str, bytes]:
            patterns.append(pattern)
            return {}

        parse(read)
        first = kinds.index(event) + 1
        names = set(itertools.takewhile(lambda kind: kind not in raw.EVENTS, kinds[first:]))
        paths = {str(path) for pattern in patterns for path in Path("/").glob(pattern) if path.is_file()}
        assert {name for name in names if "/" in name} == paths


def test_a_board_that_slows_down(
    bench: Bench, models: dict[str, Network], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tool = tmp_path / "vcgencmd"
    tool.write_text(SLOWING.format(counter=tmp_path / "counter"))
    tool.chmod(0o755)
    bench("mlp.sen", *SHORT, env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"})
    path = str(tmp_path / "bench.raw")
    assert cli.main(["record", path, "--json", str(tmp_path / "r.json")]) == 3
    assert cli.main(["record", path, "--json", "-", "--allow-throttled"]) == 0
    found = json.loads(capsys.readouterr().out[-(tmp_path / "r.json").stat().st_size :])
    assert found == json.loads((tmp_path / "r.json").read_text()) and not found["valid"]
    assert found["device"]["throttled_during"] == found["invalid_because"] and "bit 2" in found["invalid_because"][0]
    assert (found["device"]["before"]["throttled"], found["device"]["after"]["throttled"]) == ("0x10000", "0x50000")
    assert found["device"]["before"]["arm_clock_mhz"] == 1500.398464


def test_wrong_outputs_end_with_3(bench: Bench, models: dict[str, Network], tmp_path: Path) -> None:
    found = recorded(bench, tmp_path, "mlp.sen", "other.sen")
    assert not found["valid"] and not found["rows"][1]["agreement"]["matches"]
    assert cli.main(["record", str(tmp_path / "bench.raw"), "--allow-throttled"]) == 3


FAILURES = [
    pytest.param([], 2, id="nothing"),
    pytest.param(["mlp.sen", "--bogus"], 2, id="option"),
    pytest.param(["mlp.sen", "--seed"], 2, id="no-value"),
    pytest.param(["mlp.sen", "--seconds", "0"], 2, id="zero"),
    pytest.param(["mlp.sen", "--seconds", "nan"], 2, id="nan"),
    pytest.param(["mlp.sen", "--seed", "-1"], 2, id="seed"),
    pytest.param(["mlp.sen", "--seed", "99999999999999999999"], 2, id="large-seed"),
    pytest.param(["mlp.sen", "--kernels", "slow"], 2, id="kernels"),
    pytest.param(["mlp.sen", "wide.sen"], 2, id="inputs"),
    pytest.param(["mlp.sen", "train.sen"], 2, id="train"),
    pytest.param(["mlp.sen", "--inputs", "short.f32"], 2, id="size"),
    pytest.param(["mlp.sen", "--inputs", "nan.f32"], 2, id="nan-input"),
    pytest.param(["mlp.sen", "--inputs", "no.f32"], 2, id="no-inputs"),
    pytest.param(["no.sen"], 1, id="no-file"),
    pytest.param(["."], 1, id="folder"),
    pytest.param(["pipe"], 1, id="pipe"),
    pytest.param(["empty.sen"], 1, id="empty"),
    pytest.param(["--", "-bad\n.sen"], 1, id="changed"),
]


@pytest.mark.parametrize(("arguments", "code"), FAILURES)
def test_failures(bench: Bench, models: dict[str, Network], tmp_path: Path, arguments: list[str], code: int) -> None:
    (tmp_path / "short.f32").write_bytes(bytes(100))
    np.array([0] * 26 + [np.nan] + [0] * 21, "<f4").tofile(tmp_path / "nan.f32")
    (tmp_path / "empty.sen").touch()
    content = (tmp_path / "mlp.sen").read_bytes()
    (tmp_path / "-bad\n.sen").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.mkfifo(tmp_path / "pipe")
    done = bench(*arguments)
    assert done.returncode == code and re.fullmatch(rb"error: [^\n]+\n", done.stderr)
    with pytest.raises(RawError):
        raw.read(tmp_path / "bench.raw")


def test_the_reason_why_a_file_does_not_open_is_given(bench: Bench) -> None:
    assert os.strerror(errno.ENOENT).encode() in bench("no.sen").stderr


def test_a_terminal_is_refused(program: Path, models: dict[str, Network], tmp_path: Path) -> None:
    first, second = os.openpty()
    try:
        done = subprocess.run([program, "mlp.sen", *SHORT], stdout=second, stderr=subprocess.PIPE, cwd=tmp_path)
    finally:
        os.close(second)
        os.close(first)
    assert done.returncode == 2 and re.fullmatch(rb"error: [^\n]+\n", done.stderr)


def test_a_file_larger_than_memory_is_refused(bench: Bench, tmp_path: Path) -> None:
    with (tmp_path / "large.sen").open("wb") as file:
        file.truncate(1 << 30)
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))  # noqa: E731
    assert bench("large.sen", preexec_fn=limit).returncode == 1


def test_full_disk_is_reported(bench: Bench, models: dict[str, Network], tmp_path: Path) -> None:
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # noqa: E731
    done = bench("mlp.sen", *SHORT, preexec_fn=limit, restore_signals=False)
    assert done.returncode == 1 and b"File too large" in done.stderr


@pytest.mark.parametrize("streams", [">bench.raw 2>&- <&-", ">bench.raw 2>/dev/full", "2>&1 >bench.raw | true"])
def test_messages_that_cannot_be_written_do_not_cost_the_file(
    models: dict[str, Network], program: Path, tmp_path: Path, streams: str
) -> None:
    line = f"{{ {program} mlp.sen {' '.join(SHORT)}; echo $? >code; }} {streams}"
    subprocess.run(["sh", "-c", line], cwd=tmp_path, check=False, capture_output=True)
    assert record_of(tmp_path / "bench.raw")["status"] == "complete"
    assert int((tmp_path / "code").read_text()) == 0


def started(program: Path, folder: Path) -> subprocess.Popen[bytes]:
    """sen_bench once it has begun to measure."""
    command = [program, "mlp.sen", "int8.sen", "--seconds", "60"]
    with (folder / "bench.raw").open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, cwd=folder)
    assert process.stderr is not None and process.stderr.readline().startswith(b"measuring")
    return process


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_keeps_what_was_recorded(
    program: Path, models: dict[str, Network], tmp_path: Path, number: signal.Signals
) -> None:
    process = started(program, tmp_path)
    await_work(process.pid, 2.0)  # of which a second is the warm-up
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and b"interrupted" in error
    found = record_of(tmp_path / "bench.raw")
    assert found["status"] == "interrupted" and found["rows"][1]["ratio"] is not None
    assert cli.main(["record", str(tmp_path / "bench.raw")]) == 130


def test_what_a_killed_program_wrote_is_interrupted(program: Path, models: dict[str, Network], tmp_path: Path) -> None:
    process = started(program, tmp_path)
    while b" round\n" not in (tmp_path / "bench.raw").read_bytes():  # written about each second
        await_work(process.pid, 0.2)
    process.kill()
    process.communicate(timeout=60)
    assert record_of(tmp_path / "bench.raw")["status"] == "interrupted"


def test_an_interrupt_before_the_first_round(program: Path, models: dict[str, Network], tmp_path: Path) -> None:
    process = started(program, tmp_path)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    with pytest.raises(RawError):
        raw.read(tmp_path / "bench.raw")


def test_names_hold_anything(bench: Bench, models: dict[str, Network], tmp_path: Path) -> None:
    name = b'a"\\\n\x01\xc3\xa9\xff\xed\xa0\x80\xf0\x9f\x98\x80\xc3.sen'
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes((tmp_path / "mlp.sen").read_bytes())
    assert recorded(bench, tmp_path, name)["rows"][0]["file"] == name.decode(errors="replace")
