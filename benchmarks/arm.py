"""Instructions of one inference on emulated Raspberry Pis, of the native engine and of other engines.

    python benchmarks/arm.py [--write | --check | --artifacts DIR] [BOARD ...] [SIZE ...]

Networks are exported, and run by the wheels of the engines and by the C library in qemu. It counts the instructions of
a call from Python, of `run` in the native engine and of the library's own function in others, less those of a call of
an empty function. There are three kinds of inputs: test images of MNIST for the shipped networks; strokes, of which
most are zeros as in MNIST; and noise without zeros.

`--write` writes the counts to benchmarks/arm.json and the tables to docs/reference/arm.md; with names of boards or
sizes only theirs. `--check` measures the native engine with the small networks, and compares with that file if the
compiler is the same. `--artifacts` writes the files and the inputs of one size to DIR, for `sen-runtime bench` on a
board, and measures nothing. Exit code 3: an output is wrong, or a count exceeds the file's by more than 3 %. Exit code
1: the emulated board cannot be prepared.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from arm_forms import CALLS, SHIPPED, SMALL, FloatArray, Form, Suite, noise, suite
from arm_table import FROM_C, Job, Table, write_page

from sen_exporters.onnx.exporter import OnnxExporter
from sen_exporters.sen.exporter import SenExporter
from sen_exporters.tflite.exporter import TfliteExporter
from sen_runtime import reference
from tests.arm.boards import BOARDS
from tests.arm.root import BUILD, REPOSITORY, Device, NotReadyError, prepare

HERE = Path(__file__).parent
PLUGIN, LOOP, SCRIPT = HERE / "count_instructions.c", HERE / "arm_loop.c", HERE / "arm_device.py"
#: Engines by architecture, and the file that each runs.
ENGINES = {"aarch64": ("native", "litert", "onnxruntime"), "armv7l": ("native", "tflite-runtime")}
FORMATS = {"native": "sen", "litert": "tflite", "tflite-runtime": "tflite", "onnxruntime": "onnx"}
EXPORTERS: dict[str, Any] = {"sen": SenExporter(), "tflite": TfliteExporter(), "onnx": OnnxExporter()}
#: Max ratio of a count to the file's.
SLACK = 1.03
#: Max error of an output relative to the max output. The order of a sum can flip a spike; engines round activations to
#: int8 in their own ways.
MAX_ERROR = {"float": 1e-3, "spiking": 1e-2, "int8": 0.1}
LIMIT_SECONDS = 3600

Jobs = dict[Job, dict[str, Any]]
Counts = dict[Job, int]


def write(form: Form, suffix: str, stem: Path) -> Path:
    """Export a form as `STEM.SUFFIX`; `sen-runtime bench` compares outputs of files of the same form."""
    exporter = EXPORTERS[suffix]
    artifact = exporter.export(form.network, exporter.Options(name=stem.name))
    origin = {"checkpoint_sha256": "random, or in examples/checkpoints", "compression": form.name}
    return exporter.stamp(artifact, origin).write(stem.parent)


def jobs_of(suite: Suite, folder: Path, *, is_check: bool) -> tuple[Jobs, dict[Job, FloatArray]]:
    """Export all forms; return the jobs of all engines, and the outputs to expect."""
    jobs: Jobs = {}
    expected = {}
    n_in = int(suite.size.split("-")[0])
    for number, form in enumerate(suite.forms):
        formats = ["sen", *([] if is_check else form.formats)]
        files = {each: str(write(form, each, folder / f"{suite.size}-{number}")) for each in formats}
        calls = CALLS[suite.size] if form.name != "coordinates" else max(2, CALLS[suite.size] // 10)
        runs = [(form.name, kind, x, 1) for kind, x in suite.inputs.items()]
        if form.batch:
            runs.append((f"{form.name}, batch {form.batch}", "noise", noise(form.batch, n_in), form.batch))
        for name, kind, x, batch in runs:
            inputs = folder / f"{suite.size}-{kind}-{batch}.npy"
            np.save(inputs, x, allow_pickle=False)
            y = reference.run(form.network, x)
            for engine in (each for each in FORMATS if FORMATS[each] in files):
                job = Job(suite.size, name, kind, engine)
                expected[job] = y
                jobs[job] = {
                    "engine": engine,
                    "file": files[FORMATS[engine]],
                    "inputs": str(inputs),
                    "outputs": str(folder / f"{len(jobs)}-{suite.size}-{engine}.npy"),
                    "calls": max(2, calls // batch),
                    "batch": batch,
                    "options": dict(form.options) if engine == "native" else {},
                }
    return jobs, expected


def count(device: Device, jobs: Mapping[Job, Mapping[str, Any]]) -> Counts:
    """Run jobs on the device, and return the instructions of one inference of each."""
    listed = BUILD / "jobs.json"
    listed.write_text(json.dumps(list(jobs.values())), encoding="utf-8")
    marks = run_marked(device, device.command, str(SCRIPT), str(listed)).reshape(len(jobs), 2, -1, 2)
    nothing, everything = np.diff(marks)[..., 0].min(axis=2).T  # of rounds: Python tidies up at times
    return {
        job: round(int(instructions) / (each["calls"] * each["batch"]))
        for (job, each), instructions in zip(jobs.items(), everything - nothing, strict=True)
    }


def count_from_c(device: Device, job: Mapping[str, Any]) -> int:
    """Instructions of one inference in the C library without Python."""
    library, program, rows = device.site / "sen_runtime/c", BUILD / "arm_loop", BUILD / "rows"
    np.load(job["inputs"]).tofile(rows)
    compiler = [f"{device.board.architecture.triplet}-gcc", "-O2", f"-I{REPOSITORY / 'runtime/sen_runtime/c/include'}"]
    linked = [f"-L{library}", "-l:libsen.so", f"-Wl,-rpath,{library}"]
    subprocess.run([*compiler, "-o", str(program), str(LOOP), *linked], check=True)
    start, end = run_marked(device, device.emulate, str(program), job["file"], str(rows), str(job["calls"]))
    return round(int(end - start) / job["calls"])


def run_marked(device: Device, emulate: Any, *arguments: str) -> Any:
    """Run a command on the device; return the instructions that were executed at each mark."""
    plugin, counts = BUILD / "count.so", BUILD / "counts.txt"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", str(plugin), str(PLUGIN)], check=True)
    marker = device.board.architecture.getppid
    command = emulate(*arguments, plugin=f"{plugin},out={counts},marker={marker}")
    environment = {**device.environment, "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    if done.returncode:
        raise NotReadyError(f"{device.board.title}: {done.stderr.strip()[-2000:]}")
    return np.array(counts.read_text(encoding="ascii").split(), np.int64)


def wrong_outputs(jobs: Mapping[Job, Mapping[str, Any]], expected: Mapping[Job, FloatArray]) -> list[str]:
    """List jobs whose outputs differ from the reference."""
    wrong = []
    for job, each in jobs.items():
        error = np.abs(np.load(each["outputs"]) - expected[job]).max() / np.abs(expected[job]).max()
        kind = next((name for name in ("int8", "spiking") if name in job.form), "float")
        if error > MAX_ERROR[kind]:
            wrong.append(f"{job}: error {error:.2g} of the max output")
    return wrong


def measure(device: Device, jobs: Jobs, expected: Mapping[Job, FloatArray]) -> tuple[Counts, list[str]]:
    """Measure the engines of the device; return the counts, and what is wrong."""
    mine = {job: each for job, each in jobs.items() if job.engine in ENGINES[device.board.architecture.machine]}
    counts = count(device, mine)
    for job in [job for job in mine if (job.size, job.form, job.engine) == (SMALL, "dense float32", "native")]:
        counts[job._replace(engine=FROM_C)] = count_from_c(device, mine[job])
    return counts, wrong_outputs(mine, expected)


def compiler(board: str) -> str:
    """Return the version of the compiler of a board."""
    command = [f"{BOARDS[board].architecture.triplet}-gcc", "-dumpfullversion"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def increases(table: Table, board: str, counts: Counts) -> list[str]:
    """List counts above `SLACK` times the table's, if that is from the same compiler."""
    if table.compilers.get(board) != compiler(board):
        print(f"{board} is not compared: measured with gcc {table.compilers.get(board)}, now {compiler(board)}")
        return []
    before = table.counts.get(board, {})
    return [
        f"{board}: {job}: {now:,}; before: {before.get(job)}"
        for job, now in counts.items()
        if now > SLACK * before.get(job, 0)
    ]


def write_artifacts(size: str, folder: Path) -> None:
    """Write the files of all forms that need no options, and the inputs."""
    folder.mkdir(parents=True, exist_ok=True)
    networks = suite(size)
    for form in networks.forms:
        for suffix in () if form.options else ("sen", *form.formats):
            write(form, suffix, folder / re.sub(r"\W+", "-", form.name))
    np.savez(folder / "inputs.npz", x=next(iter(networks.inputs.values())))


def main(options: argparse.Namespace) -> int:
    """Measure, print, and write or compare on request."""
    boards = [name for name in BOARDS if name in options.names] or list(BOARDS)
    sizes = [name for name in CALLS if name in options.names] or ([SMALL] if options.check else list(CALLS))
    table, wrong, folder = Table.read(), [], BUILD / "counts"
    folder.mkdir(parents=True, exist_ok=True)
    for size in sizes:
        jobs, expected = jobs_of(suite(size), folder, is_check=options.check)
        for board in boards:
            counts, found = measure(prepare(BOARDS[board]), jobs, expected)
            wrong += [f"{board}: {each}" for each in found]
            print("\n".join(f"{board}: {job}: {value:,}" for job, value in counts.items()), flush=True)
            if options.check:
                wrong += increases(table, board, counts)
            if options.write:
                table = table.merge(board, compiler(board), size, counts)
                table.write()
                write_page(table)
    print("\n".join(wrong))
    return 3 if wrong else 0


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line; unknown names end the process with exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--write", action="store_true")
    mode.add_argument("--check", action="store_true")
    mode.add_argument("--artifacts", type=Path, metavar="DIR")
    parser.add_argument("names", nargs="*", metavar="BOARD|SIZE")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in BOARDS and name not in CALLS:
            parser.error(f"{name}: expected a board ({', '.join(BOARDS)}) or a size ({', '.join(CALLS)})")
    if options.artifacts and not (len(options.names) <= 1 and set(options.names) <= set(CALLS)):
        parser.error(f"--artifacts: expected one size ({', '.join(CALLS)}), got {' '.join(options.names)}")
    return options


if __name__ == "__main__":
    given = parse(sys.argv[1:])
    if given.artifacts:
        write_artifacts(next(iter(given.names), SHIPPED), given.artifacts)
        sys.exit(0)
    try:
        sys.exit(main(given))
    except NotReadyError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
