"""The benchmark in C: one program for devices without Python, with the record that `sen-runtime bench` writes."""

import ctypes
import hashlib
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
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sen_edge.passes.quantize import to_int8_weights
from sen_runtime import format as image
from sen_runtime.engines import native
from sen_runtime.ir.network import Identity, Layer, Network
from sen_runtime.ir.operators import Dense
from tests.cross import harness
from tests.support import bench_record
from tests.support.bench import await_work
from tests.support.clibrary import LIBRARY, STRICT, cmake_target, compile_c
from tests.support.images import HOSTILE
from tests.support.networks import random_input, random_network

BENCH = LIBRARY / "bench"
SOURCES = sorted(BENCH.glob("*.c"))
POSIX = ("-D_POSIX_C_SOURCE=200809L", "-D_FILE_OFFSET_BITS=64", "-I", LIBRARY / "include")
SANITIZERS = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
#: What the machine's clock does meanwhile, and how much fits into the time, is not what these tests are about.
SHORT = ("--seconds", "0.1", "--allow-throttled")
SIZES = (24, 16, 5)
PT_INTERP = 3
#: `vcgencmd` of a board that slows down: a bit that tells of the time since boot is set once the run is on.
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


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """sen_bench for this machine."""
    return cmake_target("sen_bench", tmp_path_factory.mktemp("bench")) / "sen_bench"


@pytest.fixture(scope="session")
def checked_program(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """sen_bench under AddressSanitizer and UndefinedBehaviorSanitizer, and the `vcgencmd` that it asks."""
    folder = tmp_path_factory.mktemp("checked")
    tool = f'-DSEN_VCGENCMD="{folder / "vcgencmd"}"'
    library = sorted((LIBRARY / "src").glob("*.c"))
    compile_c("gcc", *STRICT, *SANITIZERS, *POSIX, tool, *SOURCES, *library, "-lm", "-o", folder / "sen_bench")
    return folder / "sen_bench", folder / "vcgencmd"


@pytest.fixture
def bench(program: Path, tmp_path: Path) -> Bench:
    """Run sen_bench in the test's own folder."""

    def run(*arguments: object, **settings: Any) -> subprocess.CompletedProcess[bytes]:
        words = [argument if isinstance(argument, bytes) else str(argument) for argument in arguments]
        return subprocess.run([program, *words], capture_output=True, cwd=tmp_path, timeout=120, **settings)

    return run


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Network]:
    """Networks by the name of the file, without `.sen`, that they are in."""
    rng = np.random.default_rng(0)
    mlp = random_network(rng, kinds=("dense",), sizes=SIZES)
    found = {
        "mlp": mlp,
        "int8": to_int8_weights(mlp),
        "other": random_network(rng, kinds=("dense",), sizes=SIZES),
        "wide": random_network(rng, kinds=("dense",), sizes=(25, 5)),
        "deep": random_network(rng, kinds=("dense",), sizes=(24, 6)),
        "snn": random_network(rng, spiking=True, kinds=("sparse",), sizes=SIZES, timesteps=4),
        "train": random_network(rng, spiking=True, kinds=("sparse",), sizes=SIZES, input_coding="spikes"),
        "infinite": Network((Layer(Dense(np.full((5, 24), 3e38, np.float32)), None, Identity()),)),
    }
    for name, network in found.items():
        (tmp_path / f"{name}.sen").write_bytes(image.dumps(network))
    return found


def measured(done: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    """The record on stdout, whose names and types are right."""
    assert done.stdout, done.stderr.decode()
    record: dict[str, Any] = json.loads(done.stdout)
    bench_record.check(record)
    return record


def doubts(row: dict[str, Any]) -> set[str]:
    """Kinds of the warnings of a row."""
    return {warning["kind"] for warning in row["warnings"]}


def shared(folder: Path, *names: str) -> ctypes.CDLL:
    """Files of sen_bench as a library."""
    path = folder / "part.so"
    compile_c("gcc", *STRICT, *POSIX, "-O2", "-shared", "-fPIC", *(BENCH / name for name in names), "-lm", "-o", path)
    return ctypes.CDLL(str(path))


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_no_warnings(compiler: str, source: Path, tmp_path: Path) -> None:
    compile_c(compiler, *STRICT, *POSIX, "-O2", "-c", source, "-o", tmp_path / "object.o")


def test_record_of_one_network_in_two_forms(bench: Bench, models: dict[str, Network], tmp_path: Path) -> None:
    done = bench("mlp.sen", "int8.sen", "mlp.sen", *SHORT, "--seed", "7", "--raw", "--json", "-")
    record = measured(done)
    assert (done.returncode, record["status"]) == (0, "complete")
    assert record["tool"] == {"name": "sen_bench", "version": "0.1.0"}
    assert record["command"][1:4] == ["mlp.sen", "int8.sen", "mlp.sen"]
    assert record["settings"]["seed"] == 7 and record["settings"]["n_inputs"] == 64
    assert sum(record["settings"]["loads"]) >= len(record["rows"][0]["turns_us"]) > 0
    assert [row["name"] for row in record["rows"]] == ["mlp.sen native 1", "int8.sen native 1", "mlp.sen native 1 #2"]
    for row in record["rows"]:
        session = native.load(tmp_path / row["file"])
        assert (row["n_in"], row["n_out"], row["timesteps"]) == (24, 5, 0)
        assert row["kernels"] == session.kernels and row["arena_bytes"] == session.arena_bytes
        content = (tmp_path / row["file"]).read_bytes()
        assert row["bytes"] == len(content) and row["sha256"] == hashlib.sha256(content).hexdigest()
        assert row["step_us"] is None and row["load_us"] > 0 and row["first_us"] > 0
    first, int8, same = record["rows"]
    assert first["ratio"] is None and first["agreement"]["to"] == "reference"
    assert all(row["agreement"]["matches"] for row in record["rows"])
    assert int8["agreement"]["to"] == first["name"] and int8["agreement"]["max_error"] > 0
    assert same["agreement"]["max_error"] == 0 and same["agreement"]["argmax_percent"] == 100


def test_figures_are_those_of_the_samples(bench: Bench, models: dict[str, Network]) -> None:
    first, second = measured(bench("mlp.sen", "int8.sen", *SHORT, "--raw", "--json", "-"))["rows"]
    for row in (first, second):
        samples, latency = np.array(row["samples_us"]), row["latency_us"]
        assert samples.size == row["n_samples"] > 0
        expected = {
            "min": samples.min(),
            "median": np.median(samples),
            "mean": samples.mean(),
            "mad": np.median(np.abs(samples - np.median(samples))),
            **{
                f"p{name}": np.percentile(samples, float(name.replace("_", "."))) for name in ("90", "95", "99", "99_9")
            },
        }
        assert latency == pytest.approx(expected, rel=1e-9)
        assert row["throughput_per_s"] == pytest.approx(1e6 / latency["mean"])
        edges, counts = np.array(row["histogram"]["edges_us"]), row["histogram"]["counts"]
        assert min(abs(edges[-1] / np.percentile(samples, [99.5, 99, 95, 90]) - 1)) < 1e-9
        assert sum(counts) == np.count_nonzero(samples <= edges[-1])
        assert {"few-samples"} & doubts(row) == (
            {"few-samples"} if samples.size < 1000 or len(row["turns_us"]) < 50 else set()
        )
    ratio = second["ratio"]
    assert ratio["median"] == pytest.approx(np.median(np.array(second["turns_us"]) / first["turns_us"]))
    assert ratio["low"] <= ratio["median"] <= ratio["high"] and ratio["confidence"] == 0.95


def test_a_sample_takes_a_hundred_times_what_the_clock_takes(bench: Bench, models: dict[str, Network]) -> None:
    record = measured(bench("mlp.sen", *SHORT, "--json", "-"))
    row = record["rows"][0]
    assert row["calls_per_sample"] * 1000 * row["latency_us"]["median"] > 64 * record["clock"]["timer_ns"]


@pytest.mark.parametrize("kernels", ["reference", "portable"])
def test_kernels_can_be_chosen(bench: Bench, models: dict[str, Network], kernels: str) -> None:
    record = measured(bench("mlp.sen", *SHORT, "--kernels", kernels, "--json", "-"))
    assert record["rows"][0]["kernels"] == kernels


@pytest.mark.parametrize("name", ["snn", "train"])
def test_spiking_networks(bench: Bench, models: dict[str, Network], name: str) -> None:
    row = measured(bench(f"{name}.sen", *SHORT, "--json", "-"))["rows"][0]
    steps = models[name].timesteps
    assert row["timesteps"] == steps and row["step_us"] == pytest.approx(row["latency_us"]["median"] / steps)


@pytest.mark.parametrize("name", ["mlp", "train"])
def test_inputs_of_a_file(bench: Bench, models: dict[str, Network], tmp_path: Path, name: str) -> None:
    network = models[name]
    (tmp_path / "int8.sen").write_bytes(image.dumps(to_int8_weights(network)))
    x = random_input(np.random.default_rng(1), network, batch=70)
    x.tofile(tmp_path / "x.f32")
    record = measured(bench(f"{name}.sen", "int8.sen", *SHORT, "--inputs", "x.f32", "--json", "-"))
    assert record["settings"]["inputs"] == "data" and record["settings"]["n_inputs"] == 64
    expected, actual = (native.load(tmp_path / f"{file}.sen").run(x[:64]) for file in (name, "int8"))
    found = record["rows"][1]["agreement"]
    assert found["inputs"] == 64
    assert found["max_error"] == pytest.approx(np.abs(actual.astype(float) - expected).max())
    assert found["max_error_over_std"] == pytest.approx(found["max_error"] / expected.std(dtype=float), rel=1e-6)
    assert found["argmax_percent"] == 100 * np.mean(actual.argmax(1) == expected.argmax(1))


def test_cold_cache(bench: Bench, models: dict[str, Network]) -> None:
    record = measured(bench("mlp.sen", *SHORT, "--cold-cache", "--json", "-"))
    assert record["settings"]["inputs"] == "cold-cache" and record["rows"][0]["calls_per_sample"] == 1
    assert ("few-loads" in doubts(record["rows"][0])) == (len(record["settings"]["loads"]) < 8)


def test_the_core_is_chosen_and_verified(bench: Bench, models: dict[str, Network]) -> None:
    cpu = max(os.sched_getaffinity(0))
    settings = measured(bench("mlp.sen", *SHORT, "--cpu", cpu, "--json", "-"))["settings"]
    assert settings["cpus"] == [cpu] and settings["cpus_verified"] is True


@pytest.mark.parametrize("name", ["other", "infinite"])
def test_a_row_with_other_outputs_is_marked(bench: Bench, models: dict[str, Network], name: str) -> None:
    done = bench("mlp.sen", f"{name}.sen", *SHORT, "--json", "-")
    record = measured(done)
    found = record["rows"][1]["agreement"]
    assert (done.returncode, record["valid"], found["matches"]) == (3, False, False)
    assert f"{name}.sen native 1" in record["invalid_because"][0]
    assert (found["max_error"] is None) == (name == "infinite")
    table = bench("mlp.sen", f"{name}.sen", *SHORT)
    assert table.returncode == 3 and table.stdout.count(b"WRONG OUTPUTS") == 1


def test_float32_may_not_differ_as_int8_may(bench: Bench, models: dict[str, Network], tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    noisy = Network(
        tuple(
            replace(layer, weight=Dense(w + 0.02 * w.std() * rng.standard_normal(w.shape, np.float32)))
            for layer in models["mlp"].layers
            for w in [layer.weight.to_dense()]
        )
    )
    (tmp_path / "noisy.sen").write_bytes(image.dumps(noisy))
    codes = {}
    for names in (("mlp", "int8"), ("int8", "noisy"), ("mlp", "noisy")):
        done = bench(*(f"{name}.sen" for name in names), *SHORT, "--json", "-")
        assert 1e-3 < measured(done)["rows"][1]["agreement"]["max_error_over_std"] < 0.5
        codes[names] = done.returncode
    assert codes == {("mlp", "int8"): 0, ("int8", "noisy"): 0, ("mlp", "noisy"): 3}


def test_a_first_row_without_finite_outputs_is_wrong(bench: Bench, models: dict[str, Network]) -> None:
    done = bench("infinite.sen", *SHORT, "--json", "-")
    assert done.returncode == 3 and measured(done)["rows"][0]["agreement"]["matches"] is False


def write_of(folder: Path, name: str, network: Network, **metadata: str) -> str:
    """The network as an image that tells what it was made from."""
    (folder / name).write_bytes(image.dumps(replace(network, metadata=metadata)))
    return name


def test_rows_of_another_model_are_not_compared_with_the_first(
    bench: Bench, models: dict[str, Network], tmp_path: Path
) -> None:
    mlp, other = models["mlp"], models["other"]
    names = [
        write_of(tmp_path, "a.sen", mlp, checkpoint_sha256="1"),
        write_of(tmp_path, "a8.sen", to_int8_weights(mlp), checkpoint_sha256="1", dtype="int8-dynamic"),
        write_of(tmp_path, "small.sen", other, checkpoint_sha256="1", compression='{"rank": "\\"4\\""}'),
        write_of(tmp_path, "same.sen", other, checkpoint_sha256="1", compression='{"rank": "\\"4\\""}', producer="x"),
        write_of(tmp_path, "foreign.sen", other, image_sha256="2"),
    ]
    done = bench(*names, *SHORT, "--json", "-")
    rows = measured(done)["rows"]
    assert done.returncode == 0 and all(row["agreement"]["matches"] for row in rows)
    to = [row["agreement"]["to"] for row in rows]
    assert to == ["reference", "a.sen native 1", "reference", "small.sen native 1", "reference"]
    wrong = write_of(tmp_path, "wrong.sen", other, checkpoint_sha256="1")
    done = bench("a.sen", wrong, "small.sen", *SHORT, "--json", "-")
    assert done.returncode == 3 and [row["agreement"]["matches"] for row in measured(done)["rows"]] == [
        True,
        False,
        True,
    ]


def test_a_table_without_json(bench: Bench, models: dict[str, Network]) -> None:
    done = bench("mlp.sen", "int8.sen", *SHORT)
    heading, first, second = done.stdout.decode().splitlines()[:3]
    assert done.returncode == 0 and heading.startswith("row") and "median" in heading
    assert re.match(r"mlp\.sen native 1 +[0-9.]{5} ns ", first) and re.search(r" \([0-9.]+ to [0-9.]+\) ", second)


FAILURES = [
    pytest.param([], 2, "no file was named", id="nothing"),
    pytest.param(["mlp.sen", "--bogus"], 2, "there is no option --bogus", id="option"),
    pytest.param(["mlp.sen", "--json"], 2, "--json has no value", id="no-value"),
    pytest.param(["mlp.sen", "--json="], 2, "--json is empty", id="empty-value"),
    pytest.param(["mlp.sen", "--seconds", "0"], 2, "--seconds is 0; expected seconds, more than 0", id="zero"),
    pytest.param(["mlp.sen", "--seconds", "nan"], 2, "--seconds is nan", id="nan"),
    pytest.param(["mlp.sen", "--seed", "-1"], 2, "--seed is -1; expected a whole number", id="seed"),
    pytest.param(["mlp.sen", "--seed", "99999999999999999999"], 2, "--seed is 9", id="large-seed"),
    pytest.param(["mlp.sen", "--cpu", "9999"], 2, "there is no core 9999 for this process; expected", id="cpu"),
    pytest.param(["mlp.sen", "--kernels", "slow"], 2, "--kernels is slow; expected fastest, reference", id="kernels"),
    pytest.param(["mlp.sen", "wide.sen"], 2, "wide.sen takes inputs of shape [25], mlp.sen of [24]", id="inputs"),
    pytest.param(["mlp.sen", "train.sen"], 2, "train.sen takes inputs of shape [5, 24], mlp.sen of", id="train"),
    pytest.param(["mlp.sen", "deep.sen"], 2, "deep.sen gives 6 outputs, mlp.sen gives 5", id="outputs"),
    pytest.param(["mlp.sen", "--inputs", "short.f32"], 2, "has 100 bytes; expected a multiple of 96", id="size"),
    pytest.param(["mlp.sen", "--inputs", "nan.f32"], 2, "value 2 of input 1 is not finite", id="nan-input"),
    pytest.param(["mlp.sen", "--inputs", "no.f32"], 1, "cannot read no.f32: No such file", id="no-inputs"),
    pytest.param(["no.sen"], 1, "cannot read no.sen: No such file", id="no-file"),
    pytest.param(["."], 1, ". is no file", id="folder"),
    pytest.param(["pipe"], 1, "pipe is no file", id="pipe"),
    pytest.param(["empty.sen"], 1, "empty.sen: ", id="empty"),
    pytest.param(["--", "-bad\n.sen"], 1, "-bad?.sen: the image was changed", id="changed"),
    pytest.param(["mlp.sen", "--json", "no/r.json"], 1, "cannot write no/r.json: No such file", id="no-folder"),
    pytest.param(["mlp.sen", "--json", "empty.sen"], 1, "empty.sen exists", id="exists"),
    pytest.param(["mlp.sen", "--json", "./mlp.sen", "--force"], 2, "./mlp.sen is measured", id="a-model"),
    pytest.param(["mlp.sen", "--inputs", "x.f32", "--json", "x.f32", "--force"], 2, "x.f32 is measured", id="data"),
    pytest.param(["mlp.sen", "--json", "/dev/null", "--force"], 1, "/dev/null is no file", id="device"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), FAILURES)
def test_failures(
    bench: Bench, models: dict[str, Network], tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    (tmp_path / "short.f32").write_bytes(bytes(100))
    (tmp_path / "x.f32").write_bytes(bytes(96))
    np.array([0] * 26 + [np.nan] + [0] * 21, "<f4").tofile(tmp_path / "nan.f32")
    (tmp_path / "empty.sen").touch()
    content = (tmp_path / "mlp.sen").read_bytes()
    (tmp_path / "-bad\n.sen").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.mkfifo(tmp_path / "pipe")
    before = sorted(path.name for path in tmp_path.iterdir())
    done = bench(*arguments)
    error = done.stderr.decode()
    assert done.returncode == code and done.stdout == b"", error
    assert error.startswith("error: ") and message in error and "measuring" not in error
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (tmp_path / "mlp.sen").read_bytes() == content


def test_a_file_is_written_whole_and_replaced_only_if_asked(
    bench: Bench, models: dict[str, Network], tmp_path: Path
) -> None:
    assert bench("mlp.sen", *SHORT, "--json", "r.json").returncode == 0
    first = (tmp_path / "r.json").read_text()
    bench_record.check(json.loads(first))
    assert bench("mlp.sen", *SHORT, "--json", "r.json").returncode == 1
    assert (tmp_path / "r.json").read_text() == first
    assert bench("mlp.sen", *SHORT, "--json", "r.json", "--force").returncode == 0
    assert (tmp_path / "r.json").read_text() != first
    assert not list(tmp_path.glob(".*"))


def test_a_full_disk_is_told(bench: Bench, models: dict[str, Network], program: Path, tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        command = [program, "mlp.sen", *SHORT, "--json", "-"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, cwd=tmp_path)
    assert done.returncode == 1 and b"error: cannot write to stdout: No space left" in done.stderr
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # noqa: E731
    done = bench("mlp.sen", *SHORT, "--json", "r.json", preexec_fn=limit, restore_signals=False)
    assert done.returncode == 1 and b"error: cannot write r.json: File too large" in done.stderr
    assert b"mlp.sen native 1" in done.stdout and not list(tmp_path.glob("*.json*"))


@pytest.mark.parametrize(
    "streams", [">/dev/full", "| true", ">&-", ">&- 2>&- <&-", "2>/dev/full", "2>&-", "2>&1 | true"]
)
def test_a_stream_that_cannot_be_written_does_not_cost_the_record(
    models: dict[str, Network], program: Path, tmp_path: Path, streams: str
) -> None:
    line = f"{{ {program} mlp.sen {' '.join(SHORT)} --json r.json; echo $? >code; }} {streams}"
    subprocess.run(["sh", "-c", line], cwd=tmp_path, check=False, capture_output=True)
    bench_record.check(json.loads((tmp_path / "r.json").read_text()))
    assert int((tmp_path / "code").read_text()) == (1 if streams == ">/dev/full" else 0)


def test_a_file_larger_than_memory_is_refused(bench: Bench, tmp_path: Path) -> None:
    with (tmp_path / "large.sen").open("wb") as file:
        file.truncate(1 << 30)
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))  # noqa: E731
    done = bench("large.sen", preexec_fn=limit)
    assert (
        done.returncode == 1 and b"large.sen: needs 1073741824 bytes of memory that this process cannot" in done.stderr
    )


def started(program: Path, folder: Path, *arguments: str, until: bytes = b"measuring") -> subprocess.Popen[bytes]:
    """sen_bench once it has begun to measure."""
    command = [program, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder)
    assert process.stderr is not None
    while not process.stderr.readline().startswith(until):
        assert process.poll() is None
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_keeps_what_was_measured(
    program: Path, models: dict[str, Network], tmp_path: Path, number: signal.Signals
) -> None:
    process = started(program, tmp_path, "mlp.sen", "int8.sen", "--seconds", "60", "--json", "-")
    await_work(process.pid, 0.2)  # a round takes some thousandths of a second
    process.send_signal(number)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 130 and b"interrupted: what was measured" in error
    record = json.loads(out)
    bench_record.check(record)
    assert record["status"] == "interrupted" and record["rows"][1]["ratio"] is not None


def test_an_interrupt_before_the_first_round_keeps_nothing(
    program: Path, models: dict[str, Network], tmp_path: Path
) -> None:
    process = started(program, tmp_path, "mlp.sen", "--seconds", "60", "--json", "r.json", until=b"warming up")
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 130 and b"interrupted" in error
    assert (b"nothing was measured" in error) == (not (tmp_path / "r.json").exists()) == (out == b"")


def test_a_file_that_changes_is_told(program: Path, models: dict[str, Network], tmp_path: Path) -> None:
    process = started(program, tmp_path, "mlp.sen", "--seconds", "30")  # until models are loaded again
    (tmp_path / "new.sen").write_bytes((tmp_path / "other.sen").read_bytes())
    (tmp_path / "new.sen").replace(tmp_path / "mlp.sen")
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1 and b"error: mlp.sen changed while it was measured" in error


def test_names_hold_anything(bench: Bench, models: dict[str, Network], tmp_path: Path) -> None:
    name = b'a"\\\n\x01\xc3\xa9\xff\xed\xa0\x80\xf0\x9f\x98\x80\xc3.sen'
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes((tmp_path / "mlp.sen").read_bytes())
    row = measured(bench(name, *SHORT, "--json", "-"))["rows"][0]
    assert row["file"] == 'a"\\\n\x01\u00e9\ufffd\ufffd\ufffd\ufffd\U0001f600\ufffd.sen'
    table = bench(name, *SHORT).stdout
    assert b'a"\\??\xc3\xa9' in table


@pytest.mark.parametrize("size", [*range(130), 1000, 1_000_000])
def test_sha256_of_any_length(sha256: Callable[[bytes], str], size: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    assert sha256(data) == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("data", "digest"),
    [
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        ),
    ],
)
def test_sha256_of_the_standard(sha256: Callable[[bytes], str], data: bytes, digest: str) -> None:
    assert sha256(data) == digest


@pytest.fixture(scope="module")
def sha256(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bytes], str]:
    """The digest that sen_bench makes."""
    library = shared(tmp_path_factory.mktemp("sha256"), "sha256.c")

    def digest(data: bytes) -> str:
        text = ctypes.create_string_buffer(65)
        library.sha256_text(data, ctypes.c_size_t(len(data)), text)
        return text.value.decode()

    return digest


class List(ctypes.Structure):
    """bench_list."""

    _fields_ = (("values", ctypes.POINTER(ctypes.c_double)), ("count", ctypes.c_size_t), ("room", ctypes.c_size_t))

    @classmethod
    def of(cls, values: np.ndarray) -> "List":
        """Of float64, which must be kept."""
        return cls(values.ctypes.data_as(ctypes.POINTER(ctypes.c_double)), len(values), len(values))


def interval(library: ctypes.CDLL, ratios: np.ndarray, loads: list[int]) -> tuple[float, float, float]:
    ones, sizes, found = np.ones(len(ratios)), np.array(loads, np.float64), (ctypes.c_double * 3)()
    lists = [List.of(values) for values in (ratios, ones, sizes)]
    assert library.bench_compare_turns(found, *map(ctypes.byref, lists), ctypes.c_uint64(0))
    return found[0], found[1], found[2]


@pytest.fixture(scope="module")
def statistics(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """What sen_bench makes of samples."""
    return shared(tmp_path_factory.mktemp("statistics"), "statistics.c", "random.c")


def test_an_interval_counts_loads_where_they_differ(statistics: ctypes.CDLL) -> None:
    rng = np.random.default_rng(0)
    noise = 1 + 0.01 * rng.standard_normal(1600)
    places = np.repeat(1 + 0.05 * rng.standard_normal(16), 100)
    _, low, high = interval(statistics, noise, [100] * 16)
    assert 0.998 < low < high < 1.002
    median, wide_low, wide_high = interval(statistics, noise * places, [100] * 16)
    assert median == np.median(noise * places) and wide_high - wide_low > 0.02
    _, blind_low, blind_high = interval(statistics, noise * places, [800, 800])  # as if they were the machine's drift
    assert blind_low < median < blind_high


def test_an_interval_holds_its_median(statistics: ctypes.CDLL) -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):  # few rounds of a busy machine
        loads = rng.integers(1, 5, rng.integers(1, 7)).tolist()
        median, low, high = interval(statistics, np.exp(rng.standard_cauchy(sum(loads)).clip(-9, 9)), loads)
        assert low <= median <= high


@pytest.mark.parametrize("loads", [[200] * 8, [1600]])
def test_an_interval_covers_what_it_should(statistics: ctypes.CDLL, loads: list[int]) -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        groups = np.repeat(0.02 * rng.standard_normal(len(loads)), loads) if len(loads) > 1 else 0
        _, low, high = interval(statistics, np.exp(groups + 0.05 * rng.standard_normal(1600)), loads)
        covered += low <= 1 <= high
    assert 88 <= covered <= 100


def test_medians(statistics: ctypes.CDLL) -> None:
    statistics.bench_median.restype = ctypes.c_double
    rng = np.random.default_rng(0)
    for size in [*range(1, 40), 1000, 1001]:
        for values in (rng.standard_normal(size), rng.integers(0, 3, size).astype(float), np.arange(size) * 1.0):
            found = statistics.bench_median(values.copy().ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(size))
            assert found == np.median(values)


def test_bandwidth_stands_alone(tmp_path: Path) -> None:
    library = shared(tmp_path, "bandwidth.c")
    library.sen_bench_bandwidth.restype = ctypes.c_double
    library.sen_bench_read.restype = ctypes.c_uint32
    data = np.random.default_rng(0).integers(0, 2**32, 1 << 16, np.uint32)
    start, size = ctypes.c_void_p(data.ctypes.data), ctypes.c_size_t(data.nbytes)
    assert library.sen_bench_read(start, size, 3) == 3 * int(data.sum(dtype=np.uint64)) % 2**32
    assert 0 < library.sen_bench_bandwidth(start, size, ctypes.c_double(0.01)) < 10_000


DRIVER = """
#include "bench.h"
int main(int argc, char **argv)
{
    json out = {stdout, 0, {0}, {0}, {0}};
    static bench_state state;
    (void)argc;
    bench_read_state(&state, argv[1]);
    json_object(&out, NULL);
    bench_write_device(&out, argv[1]);
    bench_write_state(&out, "before", &state);
    bench_write_state(&out, "after", &state);
    json_array(&out, "throttled_during");
    json_end(&out);
    json_end(&out);
    return 0;
}
"""
BOARD = {
    "proc/device-tree/model": b"Raspberry Pi 4 Model B Rev 1.4\0",
    "proc/device-tree/system/linux,revision": b"\x00\xc0\x31\x14",
    "proc/cpuinfo": b"".join(
        b"processor\t: %d\nBogoMIPS\t: 108.00\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n\n" % core
        for core in range(4)
    ),
    "proc/meminfo": b"MemTotal:        3884364 kB\nSwapTotal:        102396 kB\nSwapFree:         102000 kB\n",
    "proc/loadavg": b"0.31 0.10 0.05 1/190 900\n",
    "proc/sys/kernel/osrelease": b"6.6.31+rpt-rpi-v8\n",
    "etc/os-release": b'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    "sys/class/thermal/thermal_zone0/temp": b"48312\n",
    "sys/class/thermal/thermal_zone0/type": b"cpu-thermal\n",
    "sys/devices/system/cpu/cpu0/cache/index0/level": b"1\n",
    "sys/devices/system/cpu/cpu0/cache/index0/type": b"Data\n",
    "sys/devices/system/cpu/cpu0/cache/index0/size": b"32K\n",
    "sys/devices/system/cpu/cpu0/cache/index2/level": b"2\n",
    "sys/devices/system/cpu/cpu0/cache/index2/type": b"Unified\n",
    "sys/devices/system/cpu/cpu0/cache/index2/size": b"1M\n",
    **{
        f"sys/devices/system/cpu/cpu{core}/cpufreq/{name}": value
        for core in range(4)
        for name, value in {
            "scaling_governor": b"ondemand\n",
            "scaling_cur_freq": b"1800000\n",
            "scaling_min_freq": b"600000\n",
            "scaling_max_freq": b"1800000\n",
        }.items()
    },
}


def described(root: Path, folder: Path) -> dict[str, Any]:
    """What sen_bench says of the machine below `root`."""
    (folder / "driver.c").write_text(DRIVER)
    sources = [BENCH / f"{name}.c" for name in ("device", "state", "json")]
    compile_c("gcc", *STRICT, *SANITIZERS, *POSIX, "-I", BENCH, folder / "driver.c", *sources, "-o", folder / "driver")
    done = subprocess.run([folder / "driver", root], capture_output=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    bench_record.check_device(found)
    return found


def test_a_board_and_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    for path, content in BOARD.items():
        (tmp_path / "board" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "board" / path).write_bytes(content)
    found = described(tmp_path / "board", tmp_path)
    assert found["model"] == "Raspberry Pi 4 Model B Rev 1.4" and found["revision"] == "c03114"
    assert (found["cpu"], found["cpus"], found["ram_bytes"]) == ("Cortex-A72", 4, 3884364 * 1024)
    assert found["os"] == "Debian GNU/Linux 12 (bookworm)" and found["kernel"] == "6.6.31+rpt-rpi-v8"
    assert found["caches"] == {"l1d": 32768, "l2": 1 << 20, "l3": None}
    assert found["before"] == {
        "governor": ["ondemand"] * 4, "mhz": [1800] * 4, "min_mhz": [600] * 4, "max_mhz": [1800] * 4,
        "arm_clock_mhz": "unavailable", "celsius": 48.312, "throttled": "unavailable", "load": 0.31,
        "swap_used_bytes": 396 * 1024,
    }  # fmt: skip
    (tmp_path / "nothing").mkdir()
    found = described(tmp_path / "nothing", tmp_path)
    known = {"architecture", "userland_bits", "libraries", "compiler", "before", "after", "throttled_during"}
    assert {name for name, value in found.items() if value != "unavailable"} == known
    assert set(found["before"].values()) == {"unavailable"}


@pytest.mark.parametrize("allowed", [False, True])
def test_a_board_that_slows_down(
    checked_program: tuple[Path, Path], models: dict[str, Network], tmp_path: Path, allowed: bool
) -> None:
    program, tool = checked_program
    tool.write_text(SLOWING.format(counter=tmp_path / "counter"))
    tool.chmod(0o755)
    command = [program, "mlp.sen", "--seconds", "0.1", "--json", "-", *(["--allow-throttled"] if allowed else [])]
    try:
        done = subprocess.run(command, capture_output=True, cwd=tmp_path)
    finally:
        tool.unlink()
    record = measured(done)
    sentence = "the cores were throttled (vcgencmd get_throttled, bit 2)"
    assert done.returncode == (0 if allowed else 3)
    assert not record["valid"] and record["invalid_because"] == [sentence]
    assert record["device"]["throttled_during"] == [sentence]
    assert record["device"]["before"]["throttled"] == "0x10000" and record["device"]["after"]["throttled"] == "0x50000"
    assert record["device"]["before"]["arm_clock_mhz"] == 1500.398464


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        pytest.param(["mlp.sen", "int8.sen", "--json", "r.json", "--force"], 0, id="rows"),
        pytest.param(["train.sen", "--raw", "--cold-cache", "--json=-"], 0, id="spikes"),
        pytest.param(["mlp.sen", "wide.sen"], 2, id="refused"),
    ],
)
def test_sanitizers(
    checked_program: tuple[Path, Path], models: dict[str, Network], tmp_path: Path, arguments: list[str], code: int
) -> None:
    done = subprocess.run([checked_program[0], *arguments, *SHORT], capture_output=True, cwd=tmp_path)
    assert done.returncode == code and b"Sanitizer" not in done.stderr, done.stderr.decode()


def test_hostile_images_are_refused(checked_program: tuple[Path, Path], tmp_path: Path) -> None:
    for number, (data, _) in enumerate(HOSTILE.values()):
        (tmp_path / f"{number}.sen").write_bytes(data)
        done = subprocess.run([checked_program[0], f"{number}.sen", *SHORT], capture_output=True, cwd=tmp_path)
        assert done.returncode in (0, 1) and b"Sanitizer" not in done.stderr, done.stderr.decode()
        assert (done.returncode == 1) == done.stderr.startswith(f"error: {number}.sen: ".encode())


@pytest.mark.parametrize("name", ["aarch64", "armhf"])
def test_one_file_that_runs_on_arm(name: str, models: dict[str, Network], tmp_path: Path) -> None:
    target = harness.TARGETS[name]
    lacking = harness.missing(target)
    if lacking:
        pytest.skip(f"{name} needs {', '.join(lacking)}")
    cross = [f"-DCMAKE_C_COMPILER={target.prefix}gcc", "-DCMAKE_SYSTEM_NAME=Linux", f"-DCMAKE_SYSTEM_PROCESSOR={name}"]
    program = cmake_target("sen_bench", tmp_path / "build", *cross) / "sen_bench"
    assert not has_interpreter(program.read_bytes())
    command = [target.emulator, program, "mlp.sen", "int8.sen", "mlp.sen", *SHORT, "--json", "-"]
    record = measured(subprocess.run(command, capture_output=True, cwd=tmp_path, timeout=300))
    first, int8, same = record["rows"]
    assert record["device"]["userland_bits"] == {"aarch64": 64, "armhf": 32}[name]
    assert first["kernels"] == {"aarch64": "neon_dotprod", "armhf": "portable"}[name]
    assert first["agreement"]["matches"] and same["agreement"]["max_error"] == 0 and int8["agreement"]["matches"]
    assert first["sha256"] == hashlib.sha256((tmp_path / "mlp.sen").read_bytes()).hexdigest()
    done = subprocess.run([target.emulator, program, "other.sen", "mlp.sen", *SHORT], capture_output=True, cwd=tmp_path)
    assert done.returncode == 3 and b"WRONG OUTPUTS" in done.stdout


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
    for settings in ([], ["-DSKBUILD=2"]):
        folder = tmp_path / str(len(targets))
        subprocess.run(["cmake", "-S", LIBRARY, "-B", folder, *settings], check=True, capture_output=True)
        listed = subprocess.run(["cmake", "--build", folder, "--target", "help"], check=True, capture_output=True)
        targets.append("sen_bench" in listed.stdout.decode())
    assert targets == [True, False]


def test_version_and_help(bench: Bench) -> None:
    version = re.findall(r'^version = "(.*)"', (LIBRARY.parents[1] / "pyproject.toml").read_text(), re.MULTILINE)
    assert bench("--version").stdout.decode() == f"sen_bench {version[0]}\n"
    listed = re.findall(r"^  (--[a-z-]+)", bench("--help").stdout.decode(), re.MULTILINE)
    page = (LIBRARY.parents[2] / "docs/how-to/benchmark-without-python.md").read_text()
    assert len(listed) == 11 and not [option for option in listed if f"`{option}" not in page]
