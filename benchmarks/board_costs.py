"""Instructions of products on emulated Raspberry Pis, as a function of form, shape and zeros.

    python benchmarks/board_costs.py [--write | --compare OUT.finalists]

Networks of one layer run in the native engine in qemu-aarch64, on inputs with different shares of zeros. For each form
of weights a linear function of `sen_edge.compression.boards.features` is fitted to the instructions of an inference.
`--write` writes them to sen_edge/compression/board_costs.json, by which `sen-edge compress --device` chooses.
`--compare` prints counted and computed instructions of the finalists of a search. Exit code 1: the emulated board
cannot be prepared.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from networks import dense, sparse
from numpy.typing import NDArray

from sen_edge.compression.boards import (
    INPUTS,
    SCHEMA,
    TABLE,
    Board,
    ProductCost,
    active_shares,
    boards,
    features,
    form_of,
    instructions,
)
from sen_edge.passes.quantize import to_int8_weights
from sen_runtime import format as image
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Lif, Relu
from sen_runtime.ir.operators import WeightOperator

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # tests is not an installed package

from tests.arm.boards import BOARDS  # noqa: E402
from tests.arm.root import BUILD, Device, NotReadyError, prepare  # noqa: E402

PLUGIN, SCRIPT = Path(__file__).with_name("count_instructions.c"), Path(__file__).with_name("board_costs_device.py")
NAMES = ("pi3", "pi4", "pi5")
#: Shapes (n_out, n_in) of matrices; for sparse ones also larger than panels may be, and for spikes.
SHAPES = ((512, 784), (256, 512), (128, 784), (32, 784), (512, 32), (64, 64), (16, 512))
LARGE, SPIKING_SHAPES = ((1024, 784), (1536, 1536)), ((512, 784), (256, 512), (64, 64), (32, 784))
#: Rule of the C library for single weights that become panels with zeros (isa.c): max bytes of panels, max elements of
#: a weight by dtype; for int8 also by the inputs of a group.
MAX_SCATTERED, MAX_SPREAD = 2 << 20, {"float32": 16, "int8": 12}
PANEL_GROUPS = {"pi3": 2, "pi4": 2, "pi5": 4}
DENSITIES, BLOCKS = (0.015, 0.05, 0.1, 0.3), ((1, 1), (16, 1))
#: Share of inputs that are not 0, and how many lie next to each other: images, hidden activations, all; spikes.
ACTIVE, SPIKES = ((0.15, 8), (0.15, 1), (0.5, 1), (1.0, 1)), ((0.05, 1), (0.15, 1), (0.5, 1))
ROWS = 4
#: Groups of inputs that a kernel may skip.
GROUPS = (1, 2, 4)
LIMIT_SECONDS = 1800

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Probe:
    """A matrix, inputs, whether they are spikes, and its instructions by board."""

    weight: WeightOperator
    inputs: FloatArray
    meets_spikes: bool
    counts: dict[str, float]

    @property
    def network(self) -> Network:
        """One layer; its neurons spike once if its inputs are spikes."""
        bias = np.zeros(self.weight.shape[0], np.float32)
        if self.meets_spikes:
            return Network((Layer(self.weight, bias, Lif(0.9, 1.0)),), 1, "spikes", "spike_count")
        return Network((Layer(self.weight, bias, Relu()),))


def inputs_of(rng: np.random.Generator, n: int, share: float, run: int) -> FloatArray:
    """Draw `[ROWS, n]` inputs, of which a share in runs of this length is not 0."""
    kept = np.zeros((ROWS, -(-n // run)), bool)
    for row in kept:
        row[rng.permutation(len(row))[: max(1, round(share * len(row)))]] = True
    return (np.repeat(kept, run, axis=1)[:, :n] * (0.1 + 0.9 * rng.random((ROWS, n)))).astype(np.float32)


def weights(rng: np.random.Generator, shapes: Iterable[tuple[int, int]]) -> Iterator[WeightOperator]:
    """Yield matrices of all forms in both dtypes; large ones sparse only."""
    for n_out, n_in in shapes:
        found: list[WeightOperator] = [
            sparse(rng, n_out, n_in, block=block, density=density)
            for block in BLOCKS[: 1 if (n_out, n_in) in LARGE else None]
            for density in DENSITIES
        ]
        for weight in found if (n_out, n_in) in LARGE else [dense(rng, n_out, n_in), *found]:
            yield weight
            yield to_int8_weights(Network((Layer(weight, None, Relu()),))).layers[0].weight


def probes() -> list[Probe]:
    """Matrices with inputs."""
    rng, found = np.random.default_rng(0), list[Probe]()
    for weight in weights(rng, (*SHAPES, *LARGE)):
        found += [Probe(weight, inputs_of(rng, weight.shape[1], *active), False, {}) for active in ACTIVE]
    for weight in weights(rng, SPIKING_SHAPES):
        for active in SPIKES:
            spikes = inputs_of(rng, weight.shape[1], *active) != 0
            found.append(Probe(weight, spikes.astype(np.float32)[:, np.newaxis], True, {}))
    return found


def write(found: list[Probe], folder: Path) -> list[tuple[Path, Path]]:
    """Write images, and the inputs of each probe."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = list[tuple[Path, Path]]()
    for index, probe in enumerate(found):
        if index == 0 or probe.weight is not found[index - 1].weight:
            path = folder / f"{index}.sen"
            path.write_bytes(image.dumps(probe.network))
        inputs = folder / f"{index}.npy"
        np.save(inputs, probe.inputs, allow_pickle=False)
        pairs.append((path, inputs))
    return pairs


def count(device: Device, pairs: list[tuple[Path, Path]]) -> list[float]:
    """Instructions of an inference, for each pair of an image and an array of inputs."""
    plugin, listed, counts = BUILD / "count-costs.so", BUILD / "costs.json", BUILD / "costs.txt"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", str(plugin), str(PLUGIN)], check=True)
    listed.write_text(json.dumps([[*map(str, pair)] for pair in pairs]), encoding="utf-8")
    marker = device.board.architecture.getppid
    command = device.command(str(SCRIPT), str(listed), plugin=f"{plugin},out={counts},marker={marker}")
    environment = {**device.environment, "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    if done.returncode:
        raise NotReadyError(f"{device.board.title}: {done.stderr.strip()[-2000:]}")
    marks = np.array(counts.read_text(encoding="ascii").split(), np.int64).reshape(len(pairs), 2, 2)
    (one, three), rows = np.diff(marks, axis=2)[:, :, 0].T, [len(np.load(inputs)) for _, inputs in pairs]
    found: list[float] = ((three - one) / (2 * np.array(rows))).tolist()
    return found


def compare(folder: Path) -> None:
    """Print the counted and the computed instructions of the finalists of a search."""
    x, inputs = np.load(folder / INPUTS)["x"], folder / "inputs.npy"
    np.save(inputs, x, allow_pickle=False)
    images = sorted(folder.glob("*.sen"))
    counted = {name: count(prepare(BOARDS[name]), [(path, inputs) for path in images]) for name in NAMES}
    print("| file |" + "".join(f" {name}: counted | computed |" for name in NAMES))
    print("| --- |" + " ---: | ---: |" * len(NAMES))
    for index, path in enumerate(images):
        network = image.read(path)
        figures = [(counted[name][index], instructions(boards()[name], network, x)) for name in NAMES]
        print(f"| {path.stem} |" + "".join(f" {found:,.0f} | {computed:,.0f} |" for found, computed in figures))


def nonnegative(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least squares with factors that are not negative: the most negative is left out until none is."""
    kept = [*range(a.shape[1])]
    while True:
        found = np.linalg.lstsq(a[:, kept], b, rcond=None)[0]
        if found.min() >= 0:
            break
        kept.pop(int(found.argmin()))
    factors = np.zeros(a.shape[1])
    factors[kept] = found
    return factors


def fit(found: list[Probe], name: str, limits: tuple[int, float]) -> ProductCost:
    """Fit the instructions of products of one form, with the group of inputs that explains them best."""
    fits = []
    counts = np.array([probe.counts[name] for probe in found])
    for group in GROUPS:
        rows = np.array(
            [features(probe.weight, active_shares(probe.inputs.reshape(ROWS, -1), group)) for probe in found]
        )
        factors = nonnegative(rows / counts[:, None], np.ones(len(counts)))  # relative errors
        errors = np.abs(rows @ factors / counts - 1)
        fits.append((float((errors**2).sum()), group, factors, float(errors.max())))
    _, group, factors, error = min(fits, key=lambda each: each[0])
    rounded = tuple(float(f"{factor:.4g}") for factor in factors)
    first = found[0]
    return ProductCost(*form_of(first.weight), first.meets_spikes, *limits, group, rounded, float(f"{error:.2g}"))


def limits_of(probe: Probe, name: str) -> tuple[int, float]:
    """Max size and min density of matrices that become panels; (0, 0) for those that do not, and for other forms."""
    form, dtype = form_of(probe.weight)
    if form != "unstructured" or probe.meets_spikes:
        return 0, 0.0
    max_weights = MAX_SCATTERED // (4 if dtype == "float32" else 1)
    spread = MAX_SPREAD[dtype] * (1 if dtype == "float32" else PANEL_GROUPS[name])
    size = probe.weight.shape[0] * probe.weight.shape[1]
    is_panels = size <= max_weights and size <= spread * probe.weight.macs
    return (max_weights, 1 / spread) if is_panels else (0, 0.0)


def board_of(found: list[Probe], name: str) -> Board:
    """Fit all forms on a board; costs with limits come first."""
    families: dict[Any, list[Probe]] = {}
    for probe in found:
        families.setdefault((*form_of(probe.weight), probe.meets_spikes, limits_of(probe, name)), []).append(probe)
    ordered = sorted(families.items(), key=lambda item: (*item[0][:3], -item[0][3][0]))
    return Board(BOARDS[name].cpu, tuple(fit(group, name, key[3]) for key, group in ordered))


def compiler() -> str:
    """Return the compiler version."""
    done = subprocess.run(["aarch64-linux-gnu-gcc", "-dumpfullversion"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def main(arguments: list[str]) -> int:
    """Measure, print, and write on request."""
    try:
        if arguments[:1] == ["--compare"]:
            compare(Path(arguments[1]))
            return 0
        found, fitted = probes(), {}
        pairs = write(found, BUILD / "costs")
        for name in NAMES:
            for probe, counted in zip(found, count(prepare(BOARDS[name]), pairs), strict=True):
                probe.counts[name] = counted
            fitted[name] = board_of(found, name)
    except NotReadyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for name, board in fitted.items():
        print(*(f"{name} {cost}" for cost in board.products), sep="\n")
    if arguments == ["--write"]:
        command = "python benchmarks/board_costs.py --write"
        described = {name: asdict(board) for name, board in fitted.items()}
        table = {"schema": SCHEMA, "command": command, "compiler": compiler(), "boards": described}
        TABLE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
