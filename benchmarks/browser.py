"""Size and latency of WebAssembly modules and onnxruntime-web, interleaved in one run of node: docs/how-to/browser.md.

    npm install --prefix build/ort-web onnxruntime-web
    python benchmarks/browser.py [--write]

Networks are the checkpoints in examples/checkpoints; onnxruntime-web runs their ONNX files, with SIMD and one thread.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import tempfile
from pathlib import Path

from pages import write_section

import sen_edge
from sen_runtime.engines import node

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "how-to" / "browser.md"
ORT = ROOT / "build" / "ort-web" / "node_modules" / "onnxruntime-web" / "dist" / "ort.wasm.min.mjs"
#: Label -> checkpoint and options of the export.
FORMS = {
    "784-512-10": ("mnist-mlp-d32-e6.pt", {}),
    "784-512-10, coordinates": ("mnist-mlp-d32-e6.pt", {"weights": "coordinates"}),
    "784-512-10, float16": ("mnist-mlp-d32-e6.pt", {"dtype": "float16"}),
    "784-512-10, int8 weights": ("mnist-mlp-d32-e6.pt", {"dtype": "int8-dynamic"}),
    "784-512-10, rank 32": ("mnist-mlp-d32-e6.pt", {"rank": 32}),
    "784-512-10, 95 % sparse, 16x1": ("mnist-mlp-d32-e6-16x1.sen", {}),
    "784-512-10, spiking, T = 10": ("mnist-snn-d32-e6.pt", {}),
}
SCRIPT = """
import { readFileSync } from "node:fs";
import { load } from "./LOADER";
const ort = await import("ORT");
ort.env.wasm.numThreads = 1;
const x = Float32Array.from({ length: 784 }, (_, i) => ((i * 7919) % 100 < 20 ? Math.abs(Math.sin(i)) : 0));
const calls = [];
for (const name of NAMES) {
  const model = await load(`${name}.wasm`);
  const session = await ort.InferenceSession.create(readFileSync(`${name}.onnx`), { executionProviders: ["wasm"] });
  const tensor = new ort.Tensor("float32", x, [1, 784]);
  calls.push(() => model.run(x), () => session.run({ input: tensor }));
  const [ours, theirs] = [model.run(x), (await session.run({ input: tensor })).output.data];
  const error = Math.max(...ours.map((value, i) => Math.abs(value - theirs[i]))) / Math.max(...theirs.map(Math.abs));
  if (!(error < 0.05)) throw new Error(`${name} differs by ${error}`);
}
const samples = calls.map(() => []);
for (let round = 0; round < 300; round++) {
  for (const [index, call] of calls.entries()) {
    await call();
    const start = process.hrtime.bigint();
    for (let run = 0; run < 5; run++) await call();
    if (round >= 50) samples[index].push(Number(process.hrtime.bigint() - start) / 5000);
  }
}
console.log(JSON.stringify(samples.map((times) => times.sort((a, b) => a - b)[times.length >> 1])));
"""


def measure(folder: Path) -> list[tuple[str, ...]]:
    """Export every form and measure it; a row of the table for each."""
    names = []
    for index, (checkpoint, options) in enumerate(FORMS.values()):
        names.append(f"n{index}")
        path = ROOT / "examples" / "checkpoints" / checkpoint
        sen_edge.export(path, folder, to=["wasm", "onnx"], name=names[-1], **options)
    script = SCRIPT.replace("NAMES", json.dumps(names)).replace("ORT", ORT.as_uri()).replace("LOADER", "n0.js")
    (folder / "main.mjs").write_text(script)
    (folder / "package.json").write_text('{ "type": "module" }')  # for node before 20.19
    run = subprocess.run(["node", "main.mjs"], cwd=folder, capture_output=True, text=True, check=True)
    latencies = json.loads(run.stdout)
    rows = []
    for index, (label, name) in enumerate(zip(FORMS, names, strict=True)):
        module, ours, theirs = (folder / f"{name}.wasm").read_bytes(), *latencies[2 * index : 2 * index + 2]
        sizes = (f"{len(module):,}", f"{len(gzip.compress(module, mtime=0)):,}")
        rows.append((label, *sizes, f"{ours:.1f}", f"{theirs:.1f}", f"{theirs / ours:.2f}"))
    return rows


def main() -> None:
    """Print the table, or write it into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/how-to/browser.md")
    is_written = parser.parse_args().write
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder))
    head = ("network", "bytes", "gzip", "module, us", "onnxruntime-web, us", "ratio")
    note = f"Medians in node {node.version()}, one thread, one input, in one interleaved run:"
    lines = [note, "", *("| " + " | ".join(row) + " |" for row in (head, ("---", *["---:"] * 5), *rows))]
    if is_written:
        write_section(PAGE, lines)
    else:
        print("\n".join(lines))


if __name__ == "__main__":
    main()
