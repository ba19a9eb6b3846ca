"""Interleaved benchmark of the shipped networks in every form: record, table, report.

    python benchmarks/shipped.py [--all] [--data-dir DIR] [--seconds 20] [--allow-throttled]

Writes out/shipped/: files, record.json, report.html. Compression and int8 are calibrated with MNIST in DIR; without
MNIST
forms that need no data are exported: as fast, but without accuracy. `--all` adds forms of little information:
coordinates, float16, and sparse or low-rank forms in engines other than native.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sen_edge.data.datasets import load
from sen_edge.errors import DataError

ROOT = Path(__file__).parents[1]
CHECKPOINTS, SHIPPED = ROOT / "examples/checkpoints", ROOT / "out/shipped"
#: Max test examples for the accuracy; `--all` uses all of them.
MAX_EXAMPLES = 2000


@dataclass(frozen=True)
class Form:
    """Form of a network.

    Attributes:
        name: of the files.
        targets: of `sen-edge export`; those after a semicolon only with `--all`.
        options: of `sen-edge export`.
        checkpoint: of the network.
        is_calibrated: whether it uses calibration inputs.
    """

    name: str
    targets: str
    options: tuple[str, ...] = ()
    checkpoint: str = "mnist-mlp-d32-e6.pt"
    is_calibrated: bool = False

    def select_targets(self, *, everything: bool) -> str:
        """Return the targets, separated by commas."""
        usual, _, further = self.targets.partition(";")
        return ",".join(filter(None, (usual, further if everything else "")))


RANK, SPARSITY, INT8 = ("--rank", "32", "--layers", "0"), ("--sparsity", "0.9"), ("--dtype", "int8-dynamic")
FORMS = (
    Form("dense", "onnx,tflite,sen"),
    Form("coordinates", ";onnx", ("--weights", "coordinates")),
    Form("float16", ";onnx,tflite,sen", ("--dtype", "float16")),
    Form("int8", "tflite,sen", INT8, is_calibrated=True),
    Form("int8-full", ";tflite", ("--dtype", "int8"), is_calibrated=True),
    Form("unstructured", ";onnx,tflite,sen", SPARSITY, is_calibrated=True),
    Form("sparse", "sen", (*SPARSITY, "--pattern", "16x1"), is_calibrated=True),
    Form("sparse-int8", ";sen", (*SPARSITY, "--pattern", "16x1", *INT8), is_calibrated=True),
    Form("low-rank", "sen;onnx,tflite", RANK, is_calibrated=True),
    Form("low-rank-int8", "sen;tflite", (*RANK, *INT8), is_calibrated=True),
    Form("spiking", "onnx,tflite,sen", checkpoint="mnist-snn-d32-e6.pt"),
)


def export(out: Path, data_dir: list[str], *, is_calibrated: bool, everything: bool) -> list[Path]:
    """Export every form; return the files."""
    found = []
    for form in FORMS:
        targets = form.select_targets(everything=everything)
        given = ["--calibration", "mnist", *data_dir] if form.is_calibrated and is_calibrated else []
        if not targets or (form.name == "int8-full" and not given):
            continue
        if "--sparsity" in form.options and not given:
            given = ["--criterion", "magnitude"]
        command = [sys.executable, "-m", "sen_edge", "export", str(CHECKPOINTS / form.checkpoint), "-o", str(out)]
        print(f"exporting: {form.name}", flush=True)
        subprocess.run(
            [*command, "--name", form.name, "--to", targets, "--force", *form.options, *given],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        found += [path for target in targets.split(",") if (path := out / f"{form.name}.{target}").exists()]
    return found


def examples(out: Path, data_dir: Path | None, most: int | None) -> list[str]:
    """Write test examples of MNIST, if available; return the options that name them."""
    try:
        mnist = load("mnist", data_dir)
    except DataError as error:
        print(f"without MNIST: {error.message}", flush=True)
        return []
    path = out / "mnist.npz"
    np.savez(path, x_test=mnist.test_inputs[:most], y_test=mnist.test_labels[:most])
    return ["--data", str(path)]


def main(options: argparse.Namespace) -> int:
    """Export, measure, report."""
    out = SHIPPED
    out.mkdir(parents=True, exist_ok=True)
    data = examples(out, options.data_dir, None if options.all else MAX_EXAMPLES)
    folder = [] if options.data_dir is None else ["--data-dir", str(options.data_dir)]
    files = export(out, folder, is_calibrated=bool(data), everything=options.all)
    results = ["--json", str(out / "record.json"), "--force"]
    command = [sys.executable, "-m", "sen_runtime", "bench", *map(str, files), *data, *results]
    allowed = ["--allow-throttled"] if options.allow_throttled else []
    code = subprocess.run([*command, "--seconds", str(options.seconds), *allowed], check=False).returncode
    page = ["-o", str(out / "report.html"), "--force"]
    subprocess.run([sys.executable, "-m", "sen_edge", "report", str(out / "record.json"), *page], check=True)
    return code


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--allow-throttled", action="store_true")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0)
    sys.exit(main(parser.parse_args()))
