"""Interleaved benchmark of the shipped networks in every form: record, table, report.

    python benchmarks/shipped.py [--all] [--data-dir DIR] [--seconds 20] [--allow-throttled]

Writes exported files, record.json and report.html to out/shipped/. Compression and int8 are calibrated with MNIST from
DIR. Without MNIST only forms that need no data are exported; their latency is the same, and no accuracy is measured.
`--all` adds coordinates, float16, and sparse and low-rank forms in engines other than native.
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
        name: stem of the files.
        targets: targets of `sen-edge export`; those after a semicolon only with `--all`.
        options: options of `sen-edge export`.
        compression: options of `sen-edge compress`; empty without compression.
        checkpoint: file in examples/checkpoints.
        is_calibrated: whether the form uses calibration inputs.
    """

    name: str
    targets: str
    options: tuple[str, ...] = ()
    compression: tuple[str, ...] = ()
    checkpoint: str = "mnist-mlp-d32-e6.pt"
    is_calibrated: bool = False

    def select_targets(self, *, include_all: bool) -> str:
        """Return the targets, separated by commas."""
        default, _, additional = self.targets.partition(";")
        return ",".join(filter(None, (default, additional if include_all else "")))


RANK, SPARSITY, INT8 = ("--rank", "32", "--layers", "0"), ("--sparsity", "0.9"), ("--dtype", "int8-dynamic")
FORMS = (
    Form("dense", "onnx,tflite,sen"),
    Form("coordinates", ";onnx", ("--weights", "coordinates")),
    Form("float16", ";onnx,tflite,sen", ("--dtype", "float16")),
    Form("int8", "tflite,sen", INT8, is_calibrated=True),
    Form("int8-full", ";tflite,sen", ("--dtype", "int8"), is_calibrated=True),
    Form("unstructured", ";onnx,tflite,sen", (), SPARSITY, is_calibrated=True),
    Form("sparse", "sen", (), (*SPARSITY, "--pattern", "16x1"), is_calibrated=True),
    Form("sparse-int8", ";sen", INT8, (*SPARSITY, "--pattern", "16x1"), is_calibrated=True),
    Form("low-rank", "sen;onnx,tflite", (), RANK, is_calibrated=True),
    Form("low-rank-int8", "sen;tflite", INT8, RANK, is_calibrated=True),
    Form("sparse-int8-distilled", "sen", checkpoint="mnist-mlp-d32-e6-16x1.sen"),
    Form("spiking", "onnx,tflite,sen", checkpoint="mnist-snn-d32-e6.pt"),
)


def run(*arguments: str | Path) -> None:
    """Run a command of sen-edge."""
    subprocess.run([sys.executable, "-m", "sen_edge", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def export(out: Path, data_dir: list[str], *, is_calibrated: bool, include_all: bool) -> list[Path]:
    """Export every form; return the files."""
    found = []
    for form in FORMS:
        targets = form.select_targets(include_all=include_all)
        calibration = ["--calibration", "mnist", *data_dir] if form.is_calibrated and is_calibrated else []
        if not targets or (form.name == "int8-full" and not calibration):
            continue
        print(f"exporting: {form.name}", flush=True)
        model = CHECKPOINTS / form.checkpoint
        if form.compression:
            criterion = ["--criterion", "magnitude"] if "--sparsity" in form.compression and not calibration else []
            compressed = out / f"{form.name}-compressed.sen"
            run("compress", model, "-o", compressed, "--force", *form.compression, *criterion, *calibration)
            model = compressed
        int8_inputs = calibration if "--dtype" in form.options else []
        names = ("-o", out, "--name", form.name, "--to", targets, "--force")
        run("export", model, *names, *form.options, *int8_inputs)
        found += [path for target in targets.split(",") if (path := out / f"{form.name}.{target}").exists()]
    return found


def write_examples(out: Path, data_dir: Path | None, max_examples: int | None) -> list[str]:
    """Write test examples of MNIST, if available; return the options that name them."""
    try:
        mnist = load("mnist", data_dir)
    except DataError as error:
        print(f"MNIST is not available: {error.message}", flush=True)
        return []
    path = out / "mnist.npz"
    np.savez(path, x_test=mnist.test_inputs[:max_examples], y_test=mnist.test_targets[:max_examples])
    return ["--data", str(path)]


def main(options: argparse.Namespace) -> int:
    """Export, measure, report."""
    out = SHIPPED
    out.mkdir(parents=True, exist_ok=True)
    data = write_examples(out, options.data_dir, None if options.all else MAX_EXAMPLES)
    folder = [] if options.data_dir is None else ["--data-dir", str(options.data_dir)]
    files = export(out, folder, is_calibrated=bool(data), include_all=options.all)
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
