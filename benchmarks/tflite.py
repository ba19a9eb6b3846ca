"""Size, error, accuracy and latency of every kind of .tflite in both interpreters, and claims about them.

    python benchmarks/tflite.py [--write]

Each table is one interleaved run (one thread, one input of one row). `--write` writes the tables to
docs/reference/tflite.md. Exit code 3: a claim fails.
"""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import get_args

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from pages import write_section

from sen_edge.data import datasets
from sen_edge.data.calibration import load_calibration
from sen_edge.model import checkpoint
from sen_edge.passes.materialize import materialize
from sen_edge.passes.quantize import to_float16, to_int8, to_int8_weights
from sen_exporters.base import SparseFormat
from sen_exporters.tflite.exporter import TfliteExporter
from sen_exporters.tflite.graph import TfliteOptions
from sen_runtime import reference
from sen_runtime.bench.interleaved import interleaved
from sen_runtime.engines import installed, litert, tflite_runtime
from sen_runtime.engines.tflite import TfliteSession
from sen_runtime.errors import SenError
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, Relu
from sen_runtime.ir.operators import Dense, LowRank, Sparse, WeightOperator
from sen_runtime.streams import suppress_announcements

FloatArray = NDArray[np.float32]
Data = tuple[FloatArray, NDArray[np.int64]]
#: By name: a file, and outputs `[COMPARED, n_out]` of the float64 reference.
Files = Mapping[str, tuple[bytes, NDArray[np.float64]]]

ROOT = Path(__file__).parents[1]
CHECKPOINTS, PAGE = ROOT / "examples/checkpoints", ROOT / "docs/reference/tflite.md"
ENGINES = {"litert": litert.ENGINE, "tflite-runtime": tflite_runtime.ENGINE}
#: Max error of an output over the standard deviation of the reference outputs; percent; latency relative to the first
#: file of the table in the same interpreter.
FORMATS = {"error": "{:.1e}", "accuracy": "{:.2f} %", "ratio": "{:.2f}"}
SECONDS, COMPARED, CHUNK = 30.0, 256, 1000
SIZES, RANK, DENSITY = (784, 512, 256, 10), 32, 0.1
MINIMAL = "minimal chain"
PLAIN, STEP = TfliteOptions(), TfliteOptions(snn="step")


@dataclass(frozen=True)
class Table:
    """Result of one interleaved run: bytes by file; figures by name of `FORMATS`, file and interpreter."""

    title: str
    rounds: int
    sizes: Mapping[str, int]
    figures: Mapping[tuple[str, str, str], float]

    def markdown(self, engines: Sequence[str]) -> list[str]:
        """Format heading and table; one column per figure and interpreter."""
        parts = [part for part in FORMATS if part in {key[0] for key in self.figures}]
        columns = [(part, engine) for part in parts for engine in engines]
        heads = ["bytes", *(f"{part}, {engine}" for part, engine in columns)]
        lines = ["", f"### {self.title}", "", _row("file", *heads), _row("---", *["---:"] * len(heads))]
        for name, size in self.sizes.items():
            found = [(part, self.figures.get((part, name, engine))) for part, engine in columns]
            cells = ["" if figure is None else FORMATS[part].format(figure) for part, figure in found]
            lines.append(_row(name, f"{size:,}", *cells))
        return [*lines, "", f"{self.rounds} rounds."]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def measure(title: str, files: Files, engines: Sequence[str], x: FloatArray, data: Data | None = None) -> Table:
    """Measure all files in all interpreters, interleaved; errors on single rows of `x [COMPARED, n_in]`."""
    calls: dict[tuple[str, str], Callable[[], object]] = {}
    figures: dict[tuple[str, str, str], float] = {}
    for name, (model, expected) in files.items():
        for engine in (each for each in TfliteExporter().engines(model) if each in engines):
            with suppress_announcements():
                session = ENGINES[engine].load(model)
                outputs = np.concatenate([session.run(x[i : i + 1]) for i in range(len(x))])
                if data is not None:
                    figures["accuracy", name, engine] = _accuracy(ENGINES[engine].load(model), *data)
            figures["error", name, engine] = float(np.abs(outputs - expected).max() / expected.std())
            is_step = session.properties.get("snn") == "step"  # all steps, called from Python
            calls[name, engine] = partial(session.run, x[:1]) if is_step else session.bare_call(x[:1])
    times, first = interleaved({" ".join(key): call for key, call in calls.items()}, SECONDS), next(iter(files))
    for name, engine in calls:
        figures["ratio", name, engine] = times.ratio(f"{name} {engine}", f"{first} {engine}")
    sizes = {name: len(model) for name, (model, _) in files.items()}
    return Table(title, len(next(iter(times.blocks_us.values()))), sizes, figures)


def _accuracy(session: TfliteSession, inputs: FloatArray, labels: NDArray[np.int64]) -> float:
    classes = [session.run(inputs[i : i + CHUNK]).argmax(axis=1) for i in range(0, len(inputs), CHUNK)]
    return float(100 * np.mean(np.concatenate(classes) == labels))


def checkpoint_table(path: Path, engines: Sequence[str]) -> Table:
    """Measure every dtype of a shipped checkpoint."""
    network = materialize(checkpoint.to_network(checkpoint.load(path)))
    test = datasets.load_test("mnist", None, network)
    calibration = load_calibration("mnist", None, network).inputs
    x = test.inputs[:: len(test.inputs) // COMPARED][:COMPARED]
    weights, full = to_int8_weights(network, calibration=calibration), to_int8(network, calibration)
    rows = {
        "float32": (network, PLAIN),
        "float16": (to_float16(network), PLAIN),
        "int8-dynamic, not calibrated": (to_int8_weights(network), PLAIN),
        "int8-dynamic": (weights, PLAIN),
        "int8-dynamic, per tensor": (to_int8_weights(network, "tensor", calibration), PLAIN),
        "int8-dynamic, for litert": (weights, TfliteOptions(tflite_target="litert")),
        "int8": (full, PLAIN),
        "int8, int8 io": (full, TfliteOptions(int8_io=True)),
    }
    if network.is_spiking:
        rows |= {"float32, step": (network, STEP), "int8-dynamic, step": (weights, STEP)}
    files = {name: (_export(*row), reference.run(network, x)) for name, row in rows.items()}
    return measure(
        f"{path.name}, {'-'.join(map(str, network.layer_sizes))}",
        files,
        engines,
        x,
        (test.inputs, test.require_targets()),
    )


def _export(network: Network, options: TfliteOptions = PLAIN) -> bytes:
    return TfliteExporter().export(network, options).main


def synthetic_table(engines: Sequence[str]) -> Table:
    """Measure low-rank, sparse and dense random weights of both hidden layers."""
    rng = np.random.default_rng(0)
    x, calibration = rng.random((COMPARED, SIZES[0]), np.float32), rng.random((512, SIZES[0]), np.float32)

    def normal(n_out: int, n_in: int, gain: float = 2.0) -> FloatArray:
        return rng.standard_normal((n_out, n_in), np.float32) * np.float32(np.sqrt(gain / n_in))

    def blocks(n_out: int, n_in: int) -> Sparse:
        kept = np.repeat(rng.random((n_out, n_in // 4)) < DENSITY, 4, axis=1)
        return Sparse.from_dense(normal(n_out, n_in, 2 / DENSITY) * kept, (1, 4))

    def network(hidden: Callable[[int, int], WeightOperator]) -> Network:
        first, second, last = zip(SIZES[1:], SIZES, strict=False)
        pairs = ((hidden(*first), Relu()), (hidden(*second), Relu()), (Dense(normal(*last)), Identity()))
        return Network(tuple(Layer(w, rng.random(w.shape[0], np.float32) / 10, neuron) for w, neuron in pairs))

    dense = network(lambda n_out, n_in: Dense(normal(n_out, n_in)))
    low_rank = network(lambda n_out, n_in: LowRank(normal(n_out, RANK), normal(RANK, n_in, 1.0)))
    sparse, options = network(blocks), {form: TfliteOptions(sparse_format=form) for form in get_args(SparseFormat)}
    rows = {
        "dense float32": (_export(dense), dense),
        MINIMAL: (minimal_chain(dense), dense),
        f"rank {RANK} float32": (_export(low_rank), low_rank),
        f"rank {RANK} float16": (_export(to_float16(low_rank)), low_rank),
        f"rank {RANK} int8": (_export(to_int8(low_rank, calibration)), low_rank),
    }
    rows |= {f"sparse, {100 * DENSITY:g} %, {form}": (_export(sparse, each), sparse) for form, each in options.items()}
    files = {name: (model, reference.run(meant, x)) for name, (model, meant) in rows.items()}
    return measure(f"Random {'-'.join(map(str, SIZES))}: low rank, and sparse in 1x4 blocks", files, engines, x)


def minimal_chain(network: Network) -> bytes:
    """Write the baseline without `sen_exporters`: one FULLY_CONNECTED 1 per layer, batch 1."""
    code, kind = schema.BuiltinOperator.FULLY_CONNECTED, schema.BuiltinOptions.FullyConnectedOptions
    buffers, tensors, operators = [schema.BufferT()], [schema.TensorT([1, network.n_in])], []
    for layer in network.layers:
        last = len(tensors) - 1
        for array in (layer.weight.to_dense(), np.asarray(layer.bias)):
            tensors.append(schema.TensorT(array.shape, schema.TensorType.FLOAT32, len(buffers)))
            buffers.append(schema.BufferT(np.frombuffer(array.tobytes(), np.uint8)))
        tensors.append(schema.TensorT([1, layer.weight.shape[0]]))
        options = schema.FullyConnectedOptionsT(fusedActivationFunction=int(isinstance(layer.neuron, Relu)))
        operators.append(schema.OperatorT(0, [last, last + 1, last + 2], [last + 3], kind, options))
    ends = [[schema.TensorMapT("input", 0)], [schema.TensorMapT("output", last + 3)]]
    graph, signature = schema.SubGraphT(tensors, [0], [last + 3], operators), schema.SignatureDefT(*ends, "run")
    codes = [schema.OperatorCodeT(code, builtinCode=code)]
    model = schema.ModelT(3, codes, [graph], buffers=buffers, signatureDefs=[signature])
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def judge(perceptron: Table, synthetic: Table, engines: Sequence[str]) -> list[tuple[str, str, bool]]:
    """Return claim, measured value and whether it holds, for the installed engines."""
    found = []
    if "litert" in engines:
        times = 1 / synthetic.figures["ratio", MINIMAL, "litert"]
        found.append((f"litert: dense float32 takes at most 1.05 of the {MINIMAL}", f"{times:.3f}", times <= 1.05))
        times = 1 / synthetic.figures["ratio", f"rank {RANK} float32", "litert"]
        found.append((f"litert: rank {RANK} is at least 4 times faster than dense", f"{times:.1f}", times >= 4))
    for engine, name in product(engines, ("int8-dynamic", "int8")):
        points = perceptron.figures["accuracy", name, engine] - perceptron.figures["accuracy", "float32", engine]
        found.append((f"{engine}: {name} within 0.2 points of float32", f"{points:+.2f}", abs(points) <= 0.2 + 1e-9))
    return found


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    names = re.findall(r"(?:model name|Model)\s*: (.+)", facts.read_text() if facts.is_file() else "")
    return f"{names[0] if names else platform.processor()} ({platform.machine()})"


def main(arguments: Sequence[str]) -> int:
    """Measure, print, and write the page with `--write`."""
    engines = installed(tuple(ENGINES))
    if arguments not in ([], ["--write"]) or (arguments and len(engines) < len(ENGINES)):
        print(f"usage: benchmarks/tflite.py [--write]; to write, {' and '.join(ENGINES)} must be installed")
        return 2
    tables = [checkpoint_table(CHECKPOINTS / f"mnist-{kind}-d32.pt", engines) for kind in ("mlp", "snn")]
    tables.append(synthetic_table(engines))
    versions = [f"{ENGINES[name].package} {ENGINES[name].version()} (`{name}`)" for name in engines]
    lines = [f"`python benchmarks/tflite.py --write`, {', '.join(versions)}, {_processor()}, one thread."]
    lines += [line for table in tables for line in table.markdown(engines)]
    lines += ["", "### Claims", "", _row("claim", "measured", "result"), _row("---", "---:", "---")]
    claims = judge(tables[0], tables[-1], engines)
    lines += [_row(text, measured, "pass" if holds else "FAIL") for text, measured, holds in claims]
    print("\n".join(lines))
    if arguments:
        write_section(PAGE, lines)
    return 0 if all(holds for _, _, holds in claims) else 3


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except SenError as error:
        sys.exit(f"{error.message}\n{error.hint}")
