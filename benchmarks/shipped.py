"""The shipped networks in every form, side by side on this machine: a record, a table and a report.

    python benchmarks/shipped.py [--all] [--data-dir DIR] [--seconds 20] [--allow-throttled]

Writes out/shipped/: the files, record.json, report.html. Compression and int8 are calibrated with MNIST if it lies in
DIR; without it, forms are made that need no data: as fast, but their accuracy is not looked at. `--all` adds forms that
take longer to compare than they say: coordinates, halves, and what is sparse or of low rank in other engines than ours.
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
#: Test examples that decide the accuracy; with `--all` there is time for all of them.
MOST_EXAMPLES = 2000


@dataclass(frozen=True)
class Form:
    """A way to store a network.

    Attributes:
        name: of the files.
        targets: of `sen-edge export`; those after a semicolon with `--all` alone.
        options: of `sen-edge export`.
        checkpoint: the network.
        is_calibrated: whether it can be made from calibration inputs.
    """

    name: str
    targets: str
    options: tuple[str, ...] = ()
    checkpoint: str = "mnist-mlp-d32-e6.pt"
    is_calibrated: bool = False

    def chosen(self, *, everything: bool) -> str:
        """Targets, separated by commas; empty for none."""
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
    """The files of every form."""
    found = []
    for form in FORMS:
        targets = form.chosen(everything=everything)
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
    """Options that name test examples of MNIST, where there are any."""
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
    data = examples(out, options.data_dir, None if options.all else MOST_EXAMPLES)
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
