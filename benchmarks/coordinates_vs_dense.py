"""Latency and size of a coordinates export and of the dense export of the same checkpoint, in onnxruntime.

    python benchmarks/coordinates_vs_dense.py [MODEL]

Both files are exported and verified, then measured in one interleaved run (one thread, one input).
"""

from __future__ import annotations

import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

import sen_edge
from sen_runtime.bench.interleaved import interleaved
from sen_runtime.engines import onnxruntime

DEFAULT_MODEL = Path(__file__).parents[1] / "examples/checkpoints/mnist-mlp-d3.pt"
SECONDS = 10.0


def main(model: Path) -> None:
    """Export, measure, print."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for weights in ("dense", "coordinates"):
            exported = sen_edge.export(model, folder, to="onnx", weights=weights, name=weights)
            paths[weights] = next(iter(exported.files))
        load_ms, sessions = {}, {}
        for weights, path in paths.items():
            start = time.perf_counter()
            sessions[weights] = onnxruntime.load(path)
            load_ms[weights] = 1000 * (time.perf_counter() - start)
        n_in = sessions["dense"].session.get_inputs()[0].shape[-1]
        x = np.random.default_rng(0).random((1, n_in), np.float32)
        measured = interleaved({name: partial(session.run, x) for name, session in sessions.items()}, SECONDS)
        print(f"{model.name}, onnxruntime {onnxruntime.version()}, {len(measured.blocks_us['dense'])} rounds")
        for weights, path in paths.items():
            print(
                f"{weights:12} {path.stat().st_size:>9,} bytes  load {load_ms[weights]:6.1f} ms  "
                f"median {measured.median_us(weights):7.2f} us  ratio {measured.ratio(weights, 'dense'):.3f}"
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_MODEL)
