"""Host part: export the shipped checkpoints, run them here and on the device, compare."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.arm.root import BUILD, REPOSITORY, Device, progress, run

Array = NDArray[np.float32]

CHECKPOINTS = REPOSITORY / "examples" / "checkpoints"
SCRIPT = Path(__file__).with_name("device.py")
#: Engines by the files they run.
ENGINES = {
    ".onnx": ("onnxruntime",),
    ".sen": ("native", "reference"),
    ".tflite": ("litert", "tflite-runtime"),
}
ALL_ENGINES = tuple(name for names in ENGINES.values() for name in names)
#: One of each kind. `mnist-mlp-d32-e6.pt` has the layers of `mnist-mlp-d32.pt`, so it runs the same kernels; and its
#: full int8 form, fitted to strokes instead of digits, agrees with it for too few strokes to be exported.
NAMES = ("mnist-mlp-d3.pt", "mnist-mlp-d32.pt", "mnist-snn-d32.pt")
#: Engines that multiply int8 weights in integers.
ROUNDING = ("litert", "native", "tflite-runtime")
#: Tests that the device can run: they need neither torch nor onnx, nor what conftest.py makes with them.
TESTS = ("tests/engines/test_native.py", "tests/engines/test_native_hostile.py", "tests/ir/test_reference.py")
#: Inputs of each checkpoint, and how many of these, the first, are drawn like those that int8 is fitted to.
INPUTS, DRAWN = 96, 48
#: A process that takes longer hangs; the slowest needs half a minute.
LIMIT_SECONDS = 600


@dataclass(frozen=True)
class Variant:
    """One way to export.

    Attributes:
        name: ending of the files' stem.
        targets: of `sen-edge export --to`.
        options: of `sen-edge export`, beside them.
        dtype: of the weights; whose tolerances hold.
        reference: variant whose `.sen` the interpreter computes the expected outputs from.
        is_spiking: for spiking networks alone.
    """

    name: str
    targets: str
    options: tuple[str, ...] = ()
    dtype: str = "float32"
    reference: str = "float32"
    is_spiking: bool = False


VARIANTS = (
    Variant("float32", "onnx,tflite,sen"),
    Variant("float16", "onnx,tflite,sen", ("--dtype", "float16"), "float32", "float16"),
    Variant("int8-dynamic", "onnx,tflite,sen", ("--dtype", "int8-dynamic"), "int8-dynamic", "int8-dynamic"),
    Variant("int8", "tflite", ("--dtype", "int8"), "int8"),
    Variant("coordinates", "onnx,sen", ("--weights", "coordinates"), "float32", "coordinates"),
    Variant("step", "onnx,tflite", ("--snn", "step"), is_spiking=True),
)


@dataclass(frozen=True)
class Artifact:
    """An exported file.

    Attributes:
        name: of the file.
        architecture: "mlp" or "snn".
        dtype: of its weights.
        inputs: file of its inputs.
        reference: file whose outputs in the reference interpreter are expected.
    """

    name: str
    architecture: str
    dtype: str
    inputs: str
    reference: str

    def arithmetic(self, engine: str) -> str:
        """ "float", "int8", or "rounded": the activations of a float network are rounded to int8 on the way."""
        if self.dtype == "int8-dynamic" and engine in ROUNDING:
            return "rounded"
        return "int8" if self.dtype == "int8" else "float"

    @property
    def engines(self) -> tuple[str, ...]:
        """Those that run it."""
        return ENGINES[Path(self.name).suffix]


def export(folder: Path) -> list[Artifact]:
    """The checkpoints in every variant that there is of them, and seeded inputs for each."""
    artifacts: list[Artifact] = []
    for checkpoint in (CHECKPOINTS / name for name in NAMES):
        progress(f"export {checkpoint.name}")
        config = json.loads(sen_edge("inspect", str(checkpoint), "--json"))["config"]
        np.save(folder / f"{checkpoint.stem}.npy", seeded_inputs(config))
        np.savez(folder / f"{checkpoint.stem}.npz", x=calibration_inputs(config))
        architecture = "snn" if config["spiking"] else "mlp"
        for variant in VARIANTS:
            if config["spiking"] or not variant.is_spiking:
                artifacts += _export(checkpoint, architecture, variant, folder)
    return artifacts


def _export(checkpoint: Path, architecture: str, variant: Variant, folder: Path) -> Iterator[Artifact]:
    stem = f"{checkpoint.stem}-{variant.name}"
    options = ["--to", variant.targets, "--name", stem, "-o", str(folder), "--json", *variant.options]
    if variant.dtype == "int8":
        options += ["--calibration", str(folder / f"{checkpoint.stem}.npz")]
    reference = f"{checkpoint.stem}-{variant.reference}.sen"
    for artifact in json.loads(sen_edge("export", str(checkpoint), *options))["artifacts"]:
        for file in artifact["files"]:
            yield Artifact(file, architecture, variant.dtype, f"{checkpoint.stem}.npy", reference)


def seeded_inputs(config: Mapping[str, Any]) -> Array:
    """`[INPUTS, n_in]` in the network's range: drawn, dense, sparse, all least, all greatest."""
    if (config["spiking"] or {}).get("input_coding") == "spikes":
        raise ValueError("inputs are made for direct input coding; a shipped network takes spike trains now")
    rng = np.random.default_rng(0)
    n_in = config["layer_sizes"][0]
    noise = rng.random((INPUTS - DRAWN, n_in))
    dense, sparse = np.array_split(noise[2:], 2)
    density = np.linspace(0.02, 0.3, len(sparse))[:, np.newaxis]
    sparse = np.where(rng.random(sparse.shape) < density, sparse, 0)
    flat = np.repeat([[0.0], [1.0]], n_in, axis=1)
    return in_range(config, np.concatenate([drawn(rng, DRAWN, n_in), dense, sparse, flat]))


def calibration_inputs(config: Mapping[str, Any]) -> Array:
    """512 drawn inputs `[512, n_in]`, other ones."""
    return in_range(config, drawn(np.random.default_rng(1), 512, config["layer_sizes"][0]))


def in_range(config: Mapping[str, Any], shares: NDArray[np.float64]) -> Array:
    """0 to 1 as the network's input range."""
    least, greatest = map(float, config["input_range"])
    return (least + (greatest - least) * shares).astype(np.float32)


def drawn(rng: np.random.Generator, count: int, n_in: int) -> NDArray[np.float64]:
    """Square images `[count, n_in]` of 0 to 1 with one to three thick strokes: int8 is fitted to inputs like digits."""
    side = math.isqrt(n_in)
    pixels = np.moveaxis(np.indices((side, side)), 0, -1)  # [side, side, 2]
    images = np.zeros((count, side, side))
    for image in images:
        for _ in range(rng.integers(1, 4)):
            start, end = rng.uniform(0.2 * side, 0.8 * side, (2, 2))
            for point in np.linspace(start, end, side):
                distance = np.linalg.norm(pixels - point, axis=-1)
                np.maximum(image, np.clip(2 - distance, 0, 1), out=image)
    return images.reshape(count, n_in)


def sen_edge(*arguments: str) -> str:
    """What the command prints."""
    return run([sys.executable, "-m", "sen_edge", *arguments])


@dataclass(frozen=True)
class Side:
    """What the engines of one machine gave.

    Attributes:
        folder: of the outputs, `ENGINE/ARTIFACT.npy`.
        reports: of `device.py`, by engine; empty where the process ended before it wrote one.
        ends: how a process ended that did not end well, by engine.
    """

    folder: Path
    reports: Mapping[str, Mapping[str, Any]]
    ends: Mapping[str, str]

    def outputs(self, engine: str, artifact: str) -> Array | None:
        """`[rows, n_out]`, or None where there are none."""
        path = self.folder / engine / f"{artifact}.npy"
        return np.load(path, allow_pickle=False) if path.exists() else None

    def trouble(self, engine: str, artifact: str) -> str:
        """Why there are none."""
        error = self.reports[engine].get("errors", {}).get(artifact)
        return str(error or self.ends.get(engine) or "it gave no outputs")


def run_here(artifacts: Sequence[Artifact], folder: Path) -> Side:
    """Every artifact in every engine of this machine."""
    return _run_all(artifacts, folder, "x86", ALL_ENGINES, [sys.executable], os.environ)


def run_there(device: Device, artifacts: Sequence[Artifact], folder: Path) -> Side:
    """Every artifact in every engine of the device."""
    architecture = device.board.architecture
    return _run_all(artifacts, folder, architecture.machine, architecture.engines, device.command(), device.environment)


def _run_all(
    artifacts: Sequence[Artifact],
    folder: Path,
    machine: str,
    engines: Sequence[str],
    python: Sequence[str],
    environment: Mapping[str, str],
) -> Side:
    """One process per engine, so that one that crashes takes no other with it."""
    reports, ends = {}, {}
    for engine in engines:
        start = time.monotonic()
        jobs, results = folder / f"{engine}.json", folder / machine / engine
        jobs.write_text(json.dumps({a.name: a.inputs for a in artifacts if engine in a.engines}), encoding="utf-8")
        results.mkdir(parents=True)
        command = [*python, str(SCRIPT), str(jobs), str(results), engine]
        try:
            done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, timeout=LIMIT_SECONDS)
            if done.returncode:
                last = "".join(done.stderr.strip().splitlines()[-1:])
                ends[engine] = f"the process ended with {done.returncode}: {last}"
        except subprocess.TimeoutExpired:
            ends[engine] = f"it took more than {LIMIT_SECONDS} s"
        report = results / "report.json"
        reports[engine] = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
        progress(f"{machine} {engine}: {time.monotonic() - start:.1f} s")
    return Side(folder / machine, reports, ends)


def run_tests(device: Device) -> tuple[bool, str]:
    """Whether `TESTS` pass on the device, and what pytest says: its last line, or why not."""
    command = device.command("-B", "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider", *TESTS)
    try:
        done = subprocess.run(
            command, cwd=REPOSITORY, env=device.environment, capture_output=True, text=True, timeout=LIMIT_SECONDS
        )
    except subprocess.TimeoutExpired:
        return False, f"they took more than {LIMIT_SECONDS} s"
    lines = (done.stdout + done.stderr).strip().splitlines()
    return done.returncode == 0, "\n".join(lines[-1:] if done.returncode == 0 else lines[-40:])


def fresh_folder() -> Path:
    """An empty folder for artifacts and outputs."""
    folder = BUILD / "run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
