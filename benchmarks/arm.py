"""Instructions of one inference on emulated Raspberry Pis, of the native engine, litert and onnxruntime.

    python benchmarks/arm.py [--write | --check]

Networks with random weights are exported, and run by the aarch64 wheels of the engines and by the C library in
qemu-aarch64. It counts the instructions of a call of `run` from Python, less those of a call of an empty function.
There are two kinds of inputs: strokes, of which most are zeros as in MNIST, and noise without zeros. `--write`
writes the tables to docs/reference/arm.md and benchmarks/arm.json. `--check` measures the native engine with the small
networks, and compares with that file if the compiler is the same. Exit code 3: an output is wrong, or a count exceeds
the file's by more than 3 %. Exit code 1: the emulated board cannot be prepared.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from networks import dense, normal, perceptron, sparse
from numpy.typing import NDArray

from sen_edge.passes.quantize import to_float16, to_int8, to_int8_weights
from sen_exporters.onnx.exporter import OnnxExporter
from sen_exporters.tflite.exporter import TfliteExporter
from sen_runtime import format as image
from sen_runtime import reference
from sen_runtime.ir.network import Layer, Network
from sen_runtime.ir.neurons import LeakyIntegrator, Lif
from sen_runtime.ir.operators import Coordinates, Dense, LowRank

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # tests is not an installed package

from tests.arm import host  # noqa: E402
from tests.arm.boards import AARCH64, BOARDS  # noqa: E402
from tests.arm.root import BUILD, Device, NotReadyError, prepare  # noqa: E402

FloatArray = NDArray[np.float32]

PAGE, TABLE = ROOT / "docs/reference/arm.md", Path(__file__).with_suffix(".json")
START, END = "<!-- measured: start -->", "<!-- measured: end -->"
PLUGIN, SCRIPT = Path(__file__).with_name("count_instructions.c"), Path(__file__).with_name("arm_device.py")
#: Sizes, calls per measurement, whether `--check` measures them.
SIZES = {"64-48-10": (200, True), "784-512-256-10": (20, True), "4096-4096-10": (4, False)}
INPUTS = ("strokes", "noise")
ROWS = 4
ENGINES = ("native", "litert", "onnxruntime")
SUFFIXES = {"native": "sen", "litert": "tflite", "onnxruntime": "onnx"}
#: System call that marks a point: getppid on aarch64.
MARKER = 173
#: Max ratio of a count to the file's.
SLACK = 1.03
#: Max error of an output relative to the max output. The order of a sum can flip a spike; engines round activations to
#: int8 in their own ways.
MAX_ERROR = {"float": 1e-3, "spiking": 1e-2, "int8": 0.1}
LIMIT_SECONDS = 3600


@dataclass(frozen=True)
class Form:
    """A network, and the engines that run it.

    Attributes:
        name: in the table.
        network: to export.
        engines: next to the native one.
        native: whether the native engine runs it.
        is_in_c: whether the native engine runs it in a loop in C, without calls from Python.
        options: of the native engine.
    """

    name: str
    network: Network
    engines: tuple[str, ...] = ()
    native: bool = True
    is_in_c: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """One measurement."""

    size: str
    form: str
    inputs: str
    engine: str


def low_rank(rng: np.random.Generator, n_out: int, n_in: int, rank: int) -> Dense | LowRank:
    """Draw factors of this rank; a dense matrix if that has fewer weights."""
    if rank * (n_in + n_out) >= n_in * n_out:
        return dense(rng, n_out, n_in)
    return LowRank(normal(rng, n_out, rank), normal(rng, rank, n_in))


def coordinates(rng: np.random.Generator, n_out: int, n_in: int) -> Coordinates:
    """Draw positions in three dimensions, on two planes."""
    source, target = (2 * rng.random((n, 3), np.float32) - 1 for n in (n_in, n_out))
    source[:, 2], target[:, 2] = 0, 2
    return Coordinates(source, target, 2 * rng.random(n_in, np.float32) - 1, gain=4 * n_in**-0.5)


def spiking(rng: np.random.Generator, sizes: tuple[int, ...], steps: int) -> Network:
    """Draw a network in which about one neuron in eight spikes per step."""
    layers = [
        Layer(Dense(np.float32(1.3) * normal(rng, n_out, n_in)), None, Lif(beta=0.9, threshold=1.0))
        for n_in, n_out in pairwise(sizes[:-1])
    ]
    last = Layer(Dense(normal(rng, sizes[-1], sizes[-2])), None, LeakyIntegrator(0.9))
    return Network((*layers, last), steps)


def forms(sizes: tuple[int, ...], calibration: FloatArray) -> Iterator[Form]:
    """Yield all forms of a network."""
    rng = np.random.default_rng(0)
    whole = perceptron(rng, sizes, dense)
    yield Form("dense float32", whole, ("litert", "onnxruntime"))
    yield Form("dense float32, loop in C", whole, is_in_c=True)
    yield Form("dense float16", to_float16(whole), ("litert", "onnxruntime"))
    yield Form("int8 weights", to_int8_weights(whole), ("litert",))
    yield Form("full int8", to_int8(whole, calibration), ("litert",), native=False)
    for density in (0.5, 0.2, 0.1, 0.05):
        name = f"unstructured {1 - density:.0%}"
        network = perceptron(rng, sizes, partial(sparse, density=density, block=(1, 1)))
        yield Form(f"{name} float32", network)
        yield Form(f"{name} int8", to_int8_weights(network))
    for block in ((16, 1), (1, 4)):
        name = f"{block[0]}x{block[1]} blocks 90%"
        network = perceptron(rng, sizes, partial(sparse, density=0.1, block=block))
        yield Form(f"{name} float32", network)
        yield Form(f"{name} int8", to_int8_weights(network))
    for rank in (8, 16, 32, 64):
        network = perceptron(rng, sizes, partial(low_rank, rank=rank))
        yield Form(f"rank {rank} float32", network, ("litert", "onnxruntime"))
        yield Form(f"rank {rank} int8", to_int8_weights(network), ("litert",))
    yield Form("coordinates", perceptron(rng, sizes, coordinates), options={"expand": False})
    for steps in (10, 25):
        yield Form(f"spiking, T = {steps}", spiking(rng, sizes, steps), ("litert", "onnxruntime"))


def inputs_of(kind: str, n_in: int) -> FloatArray:
    """Draw inputs `[ROWS, n_in]`."""
    rng = np.random.default_rng(2)
    if kind == "strokes":
        return host.drawn(rng, ROWS, n_in).astype(np.float32)
    return (0.1 + 0.9 * rng.random((ROWS, n_in))).astype(np.float32)


def write(form: Form, engine: str, stem: Path) -> Path:
    """Export a form for an engine."""
    path = stem.with_suffix(f".{SUFFIXES[engine]}")
    if engine == "native":
        path.write_bytes(image.dumps(form.network))
        return path
    exporter = TfliteExporter() if engine == "litert" else OnnxExporter()
    return exporter.export(form.network, exporter.Options(name=stem.name)).write(stem.parent)


def jobs_of(size: str, folder: Path, *, is_check: bool) -> tuple[dict[Job, dict[str, Any]], dict[Job, FloatArray]]:
    """Export all forms of a size; return what the device does, and the outputs to expect within what error."""
    sizes = tuple(map(int, size.split("-")))
    jobs, expected = {}, {}
    calibration = host.drawn(np.random.default_rng(1), 64, sizes[0]).astype(np.float32)
    for number, form in enumerate(forms(sizes, calibration)):
        engines = (*(["native"] if form.native else []), *(() if is_check else form.engines))
        for engine in engines:
            path = write(form, engine, folder / f"{size}-{number}")
            for kind in INPUTS:
                job = Job(size, form.name, kind, engine)
                x = folder / f"{size}-{kind}.npy"
                np.save(x, inputs_of(kind, sizes[0]), allow_pickle=False)
                calls = SIZES[size][0] if form.name != "coordinates" else max(2, SIZES[size][0] // 10)
                jobs[job] = {
                    "engine": engine,
                    "file": str(path),
                    "inputs": str(x),
                    "outputs": str(folder / f"{len(jobs)}-{size}-{engine}.npy"),
                    "calls": calls,
                    "is_in_c": form.is_in_c,
                    "options": dict(form.options) if engine == "native" else {},
                }
                expected[job] = reference.run(form.network, np.load(x))
    return jobs, expected


def count(device: Device, plugin: Path, jobs: Mapping[Job, Mapping[str, Any]]) -> dict[Job, int]:
    """Run jobs on the device, and return the instructions of one call of each."""
    listed, counts = BUILD / "jobs.json", BUILD / "counts.txt"
    listed.write_text(json.dumps(list(jobs.values())), encoding="utf-8")
    command = device.command(str(SCRIPT), str(listed), plugin=f"{plugin},out={counts},marker={MARKER}")
    environment = {**device.environment, "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    if done.returncode:
        raise NotReadyError(f"{device.board.title}: {done.stderr.strip()[-2000:]}")
    marks = np.array(counts.read_text(encoding="ascii").split(), np.int64).reshape(len(jobs), 2, 2)
    spent = marks[:, 1, 1] - marks[:, 1, 0] - (marks[:, 0, 1] - marks[:, 0, 0])
    return {
        job: round(int(instructions) / each["calls"])
        for (job, each), instructions in zip(jobs.items(), spent, strict=True)
    }


def wrong_outputs(jobs: Mapping[Job, Mapping[str, Any]], expected: Mapping[Job, FloatArray]) -> list[str]:
    """List jobs whose outputs differ from the reference."""
    wrong = []
    for job, each in jobs.items():
        error = np.abs(np.load(each["outputs"]) - expected[job]).max() / np.abs(expected[job]).max()
        kind = next((name for name in ("int8", "spiking") if name in job.form), "float")
        if error > MAX_ERROR[kind]:
            wrong.append(f"{job}: error {error:.2g} of the max output")
    return wrong


def measure_all(*, is_check: bool) -> tuple[dict[str, dict[Job, int]], list[str]]:
    """Measure on all boards; return the counts by board, and what is wrong."""
    found: dict[str, dict[Job, int]] = {}
    wrong: list[str] = []
    folder = BUILD / "counts"
    folder.mkdir(parents=True, exist_ok=True)
    plugin = BUILD / "count.so"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", str(plugin), str(PLUGIN)], check=True)
    for size, (_, is_checked) in SIZES.items():
        if is_check and not is_checked:
            continue
        jobs, expected = jobs_of(size, folder, is_check=is_check)
        for name, board in BOARDS.items():
            if board.architecture is not AARCH64:
                continue
            found.setdefault(name, {}).update(count(prepare(board), plugin, jobs))
            wrong += [f"{name}: {each}" for each in wrong_outputs(jobs, expected)]
            print(f"{name}, {size}: {len(jobs)} counts", file=sys.stderr)
    return found, wrong


def compiler() -> str:
    """Return the compiler version."""
    done = subprocess.run(["aarch64-linux-gnu-gcc", "-dumpfullversion"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def tables(found: Mapping[str, Mapping[Job, int]]) -> list[str]:
    """Format one table for each size and kind of inputs, as Markdown lines."""
    lines = [f"`python benchmarks/arm.py --write`, aarch64-linux-gnu-gcc {compiler()}."]
    columns = [(name, engine) for name in found for engine in ENGINES]
    titles = " | ".join(f"{BOARDS[name].cpu}: {engine}" for name, engine in columns)
    for size in SIZES:
        for kind in INPUTS:
            lines += ["", f"### {size}, {kind}", "", f"| form | {titles} |", f"| --- |{' ---: |' * len(columns)}"]
            names = dict.fromkeys(job.form for job in next(iter(found.values())) if job.size == size)
            for form in names:
                values = [found[name].get(Job(size, form, kind, engine)) for name, engine in columns]
                cells = " | ".join("" if value is None else f"{value:,}" for value in values)
                lines.append(f"| {form} | {cells} |")
    return lines


def key(job: Job) -> str:
    """Name a job in arm.json."""
    return f"{job.size}, {job.form}, {job.inputs}, {job.engine}"


def increases(found: Mapping[str, Mapping[Job, int]]) -> list[str]:
    """List counts above `SLACK` times the file's, if the file is from the same compiler."""
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    if table["compiler"] != compiler():
        print(f"not compared: {TABLE.name} was measured with gcc {table['compiler']}, installed is {compiler()}")
        return []
    return [
        f"{name}: {key(job)}: {now:,}; {TABLE.name}: {table['measured'][name].get(key(job))}"
        for name, counts in found.items()
        for job, now in counts.items()
        if now > SLACK * table["measured"][name].get(key(job), 0)
    ]


def main(arguments: list[str]) -> int:
    """Measure, print, and write or compare on request."""
    try:
        found, wrong = measure_all(is_check=arguments == ["--check"])
    except NotReadyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    lines = tables(found)
    print("\n".join([*lines, *wrong]))
    if arguments == ["--check"]:
        wrong += increases(found)
        print("\n".join(wrong))
    elif arguments == ["--write"]:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
        PAGE.write_text("\n".join([before + START, "", *lines, "", END + rest.partition(END)[2]]), encoding="utf-8")
        measured = {name: {key(job): value for job, value in counts.items()} for name, counts in found.items()}
        TABLE.write_text(json.dumps({"compiler": compiler(), "measured": measured}, indent=1) + "\n", encoding="utf-8")
    return 3 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
