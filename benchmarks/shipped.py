"""The shipped networks in every form, side by side on this machine: a record, a table and a report.

    python benchmarks/shipped.py [--data-dir DIR] [--seconds 20]

Writes out/shipped/: the files, record.json, report.html. Compression and int8 are calibrated with MNIST if it lies in
DIR; without it, forms are made that need no data: as fast, but their accuracy is not looked at.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np

from sen_edge.datasets import load
from sen_edge.errors import DataError

ROOT = Path(__file__).parents[1]
CHECKPOINTS = ROOT / "examples/checkpoints"
#: Name -> checkpoint, what `sen-edge export` is told, and whether that can be calibrated.
FORMS = {
    "dense": ("mnist-mlp-d32.pt", ["--to", "onnx,tflite,sen"], False),
    "int8": ("mnist-mlp-d32.pt", ["--to", "tflite,sen", "--dtype", "int8-dynamic"], True),
    "sparse": ("mnist-mlp-d32.pt", ["--to", "sen", "--sparsity", "0.9", "--pattern", "16x1"], True),
    "low-rank": ("mnist-mlp-d32.pt", ["--to", "sen", "--rank", "32", "--layers", "0"], True),
    "low-rank-int8": (
        "mnist-mlp-d32.pt",
        ["--to", "sen", "--rank", "32", "--layers", "0", "--dtype", "int8-dynamic"],
        True,
    ),
    "spiking": ("mnist-snn-d32.pt", ["--to", "onnx,tflite,sen"], False),
}
MOST_EXAMPLES = 2000


def export(out: Path, data_dir: list[str], *, is_calibrated: bool) -> list[Path]:
    """The files of every form."""
    for name, (checkpoint, options, takes_data) in FORMS.items():
        given = ["--calibration", "mnist", *data_dir] if takes_data and is_calibrated else []
        if "--sparsity" in options and not given:
            given = ["--criterion", "magnitude"]
        command = [sys.executable, "-m", "sen_edge", "export", str(CHECKPOINTS / checkpoint), "-o", str(out)]
        print(f"exporting: {name}", flush=True)
        subprocess.run([*command, "--name", name, "--force", *options, *given], check=True, stdout=subprocess.DEVNULL)
    return [
        path for name in FORMS for suffix in ("onnx", "tflite", "sen") if (path := out / f"{name}.{suffix}").exists()
    ]


def examples(out: Path, data_dir: Path | None) -> list[str]:
    """Options that name test examples of MNIST, where there are any."""
    try:
        mnist = load("mnist", data_dir)
    except DataError as error:
        print(f"without MNIST: {error.message}", flush=True)
        return []
    path = out / "mnist.npz"
    np.savez(path, x=mnist.test_inputs[:MOST_EXAMPLES], labels=mnist.test_labels[:MOST_EXAMPLES])
    return ["--data", str(path)]


def main(options: argparse.Namespace) -> int:
    """Export, measure, report."""
    out = ROOT / "out/shipped"
    out.mkdir(parents=True, exist_ok=True)
    data = examples(out, options.data_dir)
    folder = [] if options.data_dir is None else ["--data-dir", str(options.data_dir)]
    files = export(out, folder, is_calibrated=bool(data))
    results = ["--json", str(out / "record.json"), "--html", str(out / "report.html"), "--force"]
    command = [sys.executable, "-m", "sen_runtime", "bench", *map(str, files), *data, *results]
    return subprocess.run([*command, "--seconds", str(options.seconds)], check=False).returncode


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0)
    sys.exit(main(parser.parse_args()))
