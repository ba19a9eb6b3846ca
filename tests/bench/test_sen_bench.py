"""`sen_bench`, and the record that `sen-runtime record` computes from its output."""

import ctypes
import errno
import itertools
import json
import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sen_edge.passes.quantize import to_int8_weights
from sen_runtime import __version__, cli
from sen_runtime import format as image
from sen_runtime.bench import device, measure, raw
from sen_runtime.bench.compare import compare
from sen_runtime.bench.evaluate import evaluate
from sen_runtime.bench.loops import random_inputs
from sen_runtime.bench.plan import BenchRequest
from sen_runtime.bench.raw import RawError
from sen_runtime.engines import native
from sen_runtime.errors import SenError
from sen_runtime.ir.network import Network
from tests.cross import harness
from tests.support import bench_record
from tests.support.bench import Machine, await_work
from tests.support.clibrary import LIBRARY, STRICT, cmake_target, compile_c
from tests.support.images import HOSTILE
from tests.support.networks import random_input, random_network

TOOLS = LIBRARY / "tools"
SOURCES = sorted(TOOLS.glob("*.c"))
POSIX = ("-D_POSIX_C_SOURCE=200809L", "-D_FILE_OFFSET_BITS=64", "-I", LIBRARY / "include")
SANITIZERS = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
SHORT = ("--seconds", "0.1")
SIZES = (24, 16, 5)
PT_INTERP = 3
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

Bench = Callable[..., subprocess.CompletedProcess[bytes]]
Blocks = list[tuple[str, bytes]]


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """sen_bench for this machine."""
    return cmake_target("sen_bench", tmp_path_factory.mktemp("bench")) / "sen_bench"


@pytest.fixture(scope="session")
def checked_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """sen_bench under AddressSanitizer and UndefinedBehaviorSanitizer."""
    path = tmp_path_factory.mktemp("checked") / "sen_bench"
    compile_c("gcc", *STRICT, *SANITIZERS, *POSIX, *SOURCES, *sorted((LIBRARY / "src").glob("*.c")), "-lm", "-o", path)
    return path


@pytest.fixture
def bench(program: Path, tmp_path: Path) -> Bench:
    """Run sen_bench in the test's own folder, its output in `bench.raw`."""

    def run(*arguments: object, before: tuple[str, ...] = (), **others: Any) -> subprocess.CompletedProcess[bytes]:
        words = [argument if isinstance(argument, bytes) else str(argument) for argument in arguments]
        with (tmp_path / "bench.raw").open("wb") as out:
            return subprocess.run(
                [*before, program, *words], stdout=out, stderr=subprocess.PIPE, cwd=tmp_path, timeout=120, **others
            )

    return run


@pytest.fixture(scope="session")
def images() -> dict[str, Network]:
    """Networks by the name of the file, without `.sen`, that they are in."""
    rng = np.random.default_rng(0)
    mlp = random_network(rng, kinds=("dense",), sizes=SIZES)
    return {
        "mlp": mlp,
        "int8": to_int8_weights(mlp),
        "ranged": replace(mlp, metadata={"input_range": "-2.5 8", "producer": 'a "quote"'}),
        "hex": replace(mlp, metadata={"input_range": "0x1p1 0x1p2"}),  # no range in Python
        "other": random_network(rng, kinds=("dense",), sizes=SIZES),
        "wide": random_network(rng, kinds=("dense",), sizes=(25, 5)),
        "snn": random_network(rng, spiking=True, kinds=("sparse",), sizes=SIZES, timesteps=4),
        "train": random_network(rng, spiking=True, kinds=("sparse",), sizes=SIZES, input_coding="spikes"),
    }


@pytest.fixture
def models(images: dict[str, Network], tmp_path: Path) -> dict[str, Network]:
    """The same, written to the test's own folder."""
    for name, network in images.items():
        (tmp_path / f"{name}.sen").write_bytes(image.dumps(network))
    return images


@pytest.fixture(scope="session")
def recording_path(program: Path, images: dict[str, Network], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of two rows."""
    folder = tmp_path_factory.mktemp("recording")
    for name in ("mlp", "int8"):
        (folder / f"{name}.sen").write_bytes(image.dumps(images[name]))
    with (folder / "bench.raw").open("wb") as out:
        subprocess.run([program, "mlp.sen", "int8.sen", *SHORT], cwd=folder, check=True, stdout=out)
    return folder / "bench.raw"


@pytest.fixture(scope="session")
def recording(recording_path: Path) -> bytes:
    """Its bytes."""
    return recording_path.read_bytes()


def blocks_of(content: bytes) -> Blocks:
    """Kind and bytes of each block of a file."""
    found, at = [], content.index(b"\n") + 1
    while at < len(content):
        start = content.index(b"\n", at) + 1
        size, kind = content[at : start - 1].decode().split(" ", 1)
        at = start + int(size) + 1
        found.append((kind, content[start : at - 1]))
    return found


def file_of(blocks: Blocks) -> bytes:
    return raw.FORMAT + b"".join(b"%d %s\n%s\n" % (len(data), kind.encode(), data) for kind, data in blocks)


def record_of(path: Path) -> dict[str, Any]:
    """The record of a file, whose names and types are right."""
    found = evaluate(raw.read(path))
    bench_record.check(found)
    return found


def recorded(bench: Bench, folder: Path, *arguments: object, before: tuple[str, ...] = ()) -> dict[str, Any]:
    done = bench(*arguments, *SHORT, before=before)
    assert done.returncode == 0, done.stderr.decode()
    return record_of(folder / "bench.raw")


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_no_warnings(compiler: str, source: Path, tmp_path: Path) -> None:
    compile_c(compiler, *STRICT, *POSIX, "-O2", "-c", source, "-o", tmp_path / "object.o")


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


# --- files that sen_bench did not write ---------------------------------------------------------


def test_a_file_that_is_cut_off(recording: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bench.raw"
    first = recording.index(b" round\n")
    second = recording.index(b" round\n", first + 1) + len(" round\n")  # the first is complete where the second begins
    for size in (0, 10, len(raw.FORMAT), first - 1, first + 10):
        path.write_bytes(recording[:size])
        with pytest.raises(RawError):
            raw.read(path)
    third = recording.index(b" round\n", second) + len(" round\n")
    fourth = recording.index(b" round\n", third) + len(" round\n")
    for size in (fourth, fourth + 10, len(recording) - 1):
        path.write_bytes(recording[:size])
        assert record_of(path)["status"] == "interrupted"


def test_a_file_of_another_version(recording: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bench.raw"
    for head in (b'{"event": "start", "format": "sen-edge/raw/1"}\n', b"sen-edge/raw/3\n"):
        path.write_bytes(head + recording[len(raw.FORMAT) :])
        with pytest.raises(RawError, match="sen-edge/raw/2"):
            raw.read(path)


def integers(*values: int) -> bytes:
    return np.array(values, "<i8").tobytes()


#: Kind of a block, and what is in its place; None for no block.
DAMAGE = [
    pytest.param("start", None, id="no start"),
    pytest.param("start", integers(0, 10**8, -1, 0), id="seed"),
    pytest.param("start", integers(0, -1, 0, 0), id="seconds"),
    pytest.param("start", integers(10**15, 10**8, 0, 0), id="time"),
    pytest.param("start", integers(0, 10**8), id="settings"),
    pytest.param("start", b"a\n", id="text"),
    pytest.param("version", None, id="no version"),
    pytest.param("calibration", None, id="no calibration"),
    pytest.param("calibration", integers(0, 1), id="calls"),
    pytest.param("calibration", integers(1, 10**15), id="samples"),
    pytest.param("round", integers(0), id="short round"),
    pytest.param("round", b"", id="empty round"),
    pytest.param("image", b"A", id="image"),
    pytest.param("outputs", bytes(12), id="outputs"),
    pytest.param("before", None, id="cold start"),
    pytest.param("figures", integers(1, 2), id="figures"),
    pytest.param("bandwidth", integers(1), id="bandwidth"),
    pytest.param("load", None, id="no load"),
    pytest.param("clock", None, id="no clock"),
    pytest.param("clock", integers(1, 2), id="few readings"),
    pytest.param("state", None, id="no state"),
    pytest.param("inputs", None, id="no inputs"),
    pytest.param("inputs", bytes(10), id="inputs"),
    pytest.param("row", None, id="no row"),
]


@pytest.mark.parametrize(("kind", "data"), DAMAGE)
def test_a_damaged_file_is_one_clear_error(
    recording: bytes, tmp_path: Path, kind: str, data: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = blocks_of(recording)
    assert file_of(blocks) == recording
    at = next(index for index, (each, _) in enumerate(blocks) if each == kind)
    blocks = [block for block in blocks if block[0] != kind] if data is None else blocks
    blocks[at : at + (data is not None)] = [] if data is None else [(kind, data)]
    (tmp_path / "bench.raw").write_bytes(file_of(blocks))
    assert cli.main(["record", str(tmp_path / "bench.raw"), "--json", str(tmp_path / "r.json")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "bench.raw" in error and "unexpectedly" not in error
    assert not (tmp_path / "r.json").exists()


@pytest.mark.parametrize("head", [b"12 a\n", b"x start\n", b"99999999999 start\n", b"\x00\n", b"1" * 300])
def test_a_damaged_block_is_one_clear_error(recording: bytes, tmp_path: Path, head: bytes) -> None:
    (tmp_path / "bench.raw").write_bytes(recording.replace(b" start\n", b" start\n" + head, 1))
    with pytest.raises(RawError, match=r"bench\.raw"):
        raw.read(tmp_path / "bench.raw")


NUMBERS = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4).map(lambda values: integers(*values))


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 200), kind=st.sampled_from(["", *raw.EVENTS, "data"]), junk=st.none() | st.binary() | NUMBERS)
def test_no_file_is_an_unexpected_error(
    recording_path: Path, tmp_path_factory: pytest.TempPathFactory, at: int, kind: str, junk: bytes | None
) -> None:
    """Another kind, or other content, of one block."""
    blocks = blocks_of(recording_path.read_bytes())
    blocks = blocks[: [each for each, _ in blocks].index("round") + 4]
    true_kind, data = blocks[at % len(blocks)]
    blocks[at % len(blocks)] = kind or true_kind, data if junk is None else junk
    path = tmp_path_factory.getbasetemp() / "damaged.raw"
    path.write_bytes(file_of(blocks))
    with suppress(SenError):
        bench_record.check(evaluate(raw.read(path)))


def test_mistakes_with_files(recording: bytes, tmp_path: Path) -> None:
    path, there = tmp_path / "bench.raw", tmp_path / "there.json"
    assert cli.main(["record", str(path)]) == 1
    path.write_bytes(recording)
    there.write_text("mine")
    assert cli.main(["record", str(path), "--json", str(there)]) == 1
    assert cli.main(["record", str(path), "--json", str(path), "--force"]) == 2
    assert there.read_text() == "mine" and path.read_bytes() == recording


# --- builds -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_sanitizers(checked_program: Path, models: dict[str, Network], tmp_path: Path) -> None:
    (tmp_path / "x.f32").write_bytes(bytes(96 * 3))
    for arguments, code in (
        (["mlp.sen", "int8.sen", "--inputs", "x.f32"], 0),
        (["train.sen", "--cold-cache"], 0),
        (["mlp.sen", "wide.sen"], 2),
    ):
        done = subprocess.run([checked_program, *arguments, *SHORT], capture_output=True, cwd=tmp_path)
        assert done.returncode == code and b"Sanitizer" not in done.stderr, done.stderr.decode()


@pytest.mark.slow
def test_hostile_images_are_refused(checked_program: Path, tmp_path: Path) -> None:
    for number, (data, _) in enumerate(HOSTILE.values()):
        (tmp_path / f"{number}.sen").write_bytes(data)
        command = [checked_program, f"{number}.sen", "--seconds", "0.01"]
        done = subprocess.run(command, capture_output=True, cwd=tmp_path)
        assert done.returncode in (0, 1) and b"Sanitizer" not in done.stderr, done.stderr.decode()
        assert (done.returncode == 1) == done.stderr.startswith(b"error: ")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["aarch64", "armhf"])
def test_one_file_that_runs_on_arm(name: str, models: dict[str, Network], tmp_path: Path) -> None:
    target = harness.TARGETS[name]
    lacking = harness.missing(target)
    if lacking:
        pytest.skip(f"{name} needs {', '.join(lacking)}")
    cross = [f"-DCMAKE_C_COMPILER={target.prefix}gcc", "-DCMAKE_SYSTEM_NAME=Linux", f"-DCMAKE_SYSTEM_PROCESSOR={name}"]
    program = cmake_target("sen_bench", tmp_path / "build", *cross) / "sen_bench"
    assert not has_interpreter(program.read_bytes())
    command = [target.emulator, program, "mlp.sen", "int8.sen", "mlp.sen", *SHORT]
    with (tmp_path / "bench.raw").open("wb") as out:
        subprocess.run(command, stdout=out, stderr=subprocess.PIPE, cwd=tmp_path, timeout=300, check=True)
    found = record_of(tmp_path / "bench.raw")
    first, int8, same = found["rows"]
    assert found["device"]["userland_bits"] == {"aarch64": 64, "armhf": 32}[name]
    assert first["kernels"] == {"aarch64": "neon_dotprod", "armhf": "neon"}[name]
    assert first["agreement"]["matches"] and same["agreement"]["max_error"] == 0 and int8["agreement"]["matches"]


def has_interpreter(elf: bytes) -> bool:
    """Whether an ELF file asks for a dynamic loader."""
    is_64 = elf[4] == 2
    at = struct.unpack_from("<Q", elf, 32)[0] if is_64 else struct.unpack_from("<I", elf, 28)[0]
    size, count = struct.unpack_from("<HH", elf, 54 if is_64 else 42)
    return any(struct.unpack_from("<I", elf, at + size * row)[0] == PT_INTERP for row in range(count))


def test_it_needs_no_other_file(program: Path) -> None:
    assert not has_interpreter(program.read_bytes())
    assert has_interpreter(Path(sys.executable).resolve().read_bytes())


def test_the_python_package_is_built_without_it(tmp_path: Path) -> None:
    targets = []
    for options in ([], ["-DSKBUILD=2"]):
        folder = tmp_path / str(len(targets))
        subprocess.run(["cmake", "-S", LIBRARY, "-B", folder, *options], check=True, capture_output=True)
        listed = subprocess.run(["cmake", "--build", folder, "--target", "help"], check=True, capture_output=True)
        targets.append("sen_bench" in listed.stdout.decode())
    assert targets == [True, False]


def test_version_and_help(program: Path) -> None:
    version, text = (subprocess.check_output([program, word]).decode() for word in ("--version", "--help"))
    assert version == f"sen_bench {__version__}\n"
    listed = re.findall(r"^  (--[a-z-]+)", text, re.MULTILINE)
    page = (LIBRARY.parents[2] / "docs/how-to/benchmark-without-python.md").read_text()
    assert len(listed) == 6 and not [option for option in listed if f"`{option}" not in page]


def test_bandwidth_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "part.so"
    compile_c("gcc", *STRICT, *POSIX, "-O2", "-shared", "-fPIC", TOOLS / "bandwidth.c", "-o", path)
    library = ctypes.CDLL(str(path))
    library.sen_bench_bandwidth.restype = ctypes.c_double
    library.sen_bench_read.restype = ctypes.c_uint32
    data = np.random.default_rng(0).integers(0, 2**32, 1 << 16, np.uint32)
    start, size = ctypes.c_void_p(data.ctypes.data), ctypes.c_size_t(data.nbytes)
    assert library.sen_bench_read(start, size, 3) == 3 * int(data.sum(dtype=np.uint64)) % 2**32
    assert 0 < library.sen_bench_bandwidth(start, size, ctypes.c_double(0.01)) < 10_000
