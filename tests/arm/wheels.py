"""`python -m tests.arm.wheels DIST`: install wheels of sen-edge-runtime as a board does, and run them.

The pip of the emulated board chooses the wheel in DIST, and has no compiler. `sen-runtime bench` then runs shipped
networks, and the outputs of the C library are compared with the reference interpreter of this machine.

Exit codes: 0 all agree; 1 a board cannot be prepared, or a wheel does not install or run; 2 usage; 3 wrong outputs.
"""

from __future__ import annotations

import ensurepip
import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sen_runtime import format as image
from sen_runtime import reference
from sen_runtime.engines import engine
from tests.arm.boards import BOARDS
from tests.arm.host import CHECKPOINTS, LIMIT_SECONDS, SCRIPT, fresh_folder, seeded_inputs, sen_edge
from tests.arm.root import BUILD, Device, NotReadyError, prepare_root, progress
from tests.arm.root import run as run_here

#: Tag of a wheel, and the boards that run it with the kernels they must choose; the first installs it. Python of Debian
#: armhf needs ARMv7, so that no board is emulated that takes the wheel for ARMv6: pip is told its tag.
INSTALLS = {
    "manylinux_2_17_aarch64": {"pi5": "neon_dotprod", "pi3": "neon"},
    "manylinux_2_17_armv7l": {"pi2": "neon"},
    "linux_armv6l": {"pi2": "portable"},
}
#: Shipped networks, and the types of their weights.
MODELS = (("mnist-mlp-d32-e6", "float32"), ("mnist-mlp-d32-e6", "int8-dynamic"), ("mnist-snn-d32", "float32"))
#: Max error over the max output: activations are rounded to int8 in the second.
MAX_ERROR = {"float32": 1e-4, "int8-dynamic": 0.05}
INPUTS = 8


def export(folder: Path) -> dict[str, str]:
    """Shipped networks as `.sen`, and inputs of each; file name to type of the weights."""
    types = {}
    for name, dtype in MODELS:
        checkpoint = str(CHECKPOINTS / f"{name}.pt")
        stem = f"{name}-{dtype}"
        sen_edge("export", checkpoint, "--to", "sen", "--dtype", dtype, "--name", stem, "-o", str(folder))
        config = json.loads(sen_edge("inspect", checkpoint, "--json"))["config"]
        np.save(folder / f"{stem}.npy", seeded_inputs(config)[:INPUTS])
        types[f"{stem}.sen"] = dtype
    jobs = {name: f"{Path(name).stem}.npy" for name in types}
    (folder / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    return types


def run(device: Device, *arguments: str) -> str:
    """Run Python of the device.

    Raises:
        NotReadyError: it failed; with the end of its output.
    """
    command = device.command("-B", *arguments)
    limit = LIMIT_SECONDS
    done = subprocess.run(command, env=device.environment, capture_output=True, text=True, timeout=limit, check=False)
    if done.returncode:
        end = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise NotReadyError(f"{device.board.title}: {' '.join(arguments[:4])}:\n{end}")
    return done.stdout


def bench(device: Device, files: Sequence[str]) -> str:
    """Run `sen-runtime bench`. A script starts its workers: this machine does not execute files of the device."""
    script = device.site / "python"
    script.write_text(f'#!/bin/sh\nexec {shlex.join(device.command("-B"))} "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    code = "import sys; sys.executable = sys.argv.pop(1); from sen_runtime.cli import main; sys.exit(main())"
    return run(device, "-c", code, str(script), "bench", *files, "--engine", "native", "--seconds", "1")


def install(device: Device, tag: str, dist: Path) -> None:
    """Install the wheel that the pip of the device chooses.

    Raises:
        NotReadyError: it chooses none, or one with another tag.
    """
    shutil.rmtree(device.site, ignore_errors=True)
    (pip,) = (Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl")
    options = [
        "--no-index",
        "--find-links",
        str(dist),
        "--only-binary=:all:",
        "--no-compile",
        "--target",
        str(device.site),
    ]
    options.append("--no-deps")  # with --target, pip does not see the board's numpy
    if tag == "linux_armv6l":
        options += ["--platform", tag]
    run(device, str(pip / "pip"), "install", "--quiet", "--disable-pip-version-check", *options, "sen-edge-runtime")
    (metadata,) = device.site.glob("*.dist-info/WHEEL")
    if f"Tag: py3-none-{tag}" not in metadata.read_text(encoding="utf-8").splitlines():
        raise NotReadyError(f"{device.board.title}: pip chose another wheel than {tag}:\n{metadata.read_text()}")


def wrong_outputs(device: Device, kernels: str, folder: Path, types: dict[str, str]) -> list[str]:
    """What differs from the reference interpreter on a device, or did not run in the expected kernels."""
    results = folder / "outputs" / f"{device.site.name}-{kernels}"
    results.mkdir(parents=True)
    run(device, str(SCRIPT), str(folder / "jobs.json"), str(results), "native")
    report = json.loads((results / "report.json").read_text(encoding="utf-8"))
    wrong = [f"{name}: {error}" for name, error in report["errors"].items()]
    for name in types.keys() - report["errors"].keys():
        network = image.loads((folder / name).read_bytes())
        expected = reference.run(network, np.load(folder / f"{Path(name).stem}.npy"))
        error = np.abs(np.load(results / f"{name}.npy")[:INPUTS] - expected).max() / np.abs(expected).max()
        if error > MAX_ERROR[types[name]] or report["kernels"][name] != kernels:
            wrong.append(f"{name}: error {error:.2g} with kernels {report['kernels'][name]}; expected {kernels}")
    return wrong


def check(tag: str, dist: Path, folder: Path, types: dict[str, str]) -> list[str]:
    """Install a wheel, benchmark on the first board, compare outputs on all; return what is wrong."""
    wrong = []
    for number, (name, kernels) in enumerate(INSTALLS[tag].items()):
        start = time.monotonic()
        device = Device(BOARDS[name], prepare_root(BOARDS[name]), BUILD / f"wheel-{tag}")
        if number == 0:
            install(device, tag, dist)
            progress(f"{tag}: installed on {device.board.title} in {time.monotonic() - start:.0f} s")
            table = bench(device, [str(folder / each) for each in types])
            sys.stdout.write(f"{tag} on {device.board.title} (emulated):\n{table}\n")
        wrong += [f"{tag} on {name}: {each}" for each in wrong_outputs(device, kernels, folder, types)]
        progress(f"{tag}: {device.board.title} took {time.monotonic() - start:.0f} s")
    return wrong


#: Prints the file of `sen_runtime` and the kernels that its library chooses.
KERNELS = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
import sen_runtime
from sen_runtime.engines import engine
print(sen_runtime.__file__, engine("native").load(Path(sys.argv[3])).kernels)
"""


def check_here(dist: Path, model: Path) -> list[str]:
    """Compare the kernels that the wheel for this machine chooses with those of the checkout's library."""
    site = BUILD / "wheel-here"
    shutil.rmtree(site, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    run_here([*pip, "--find-links", str(dist), "--target", str(site), "sen-edge-runtime"])
    libraries = [str(site), str(Path(np.__file__).parents[1])]
    # -I -S: without the editable install of the checkout
    printed = run_here([sys.executable, "-I", "-S", "-c", KERNELS, *libraries, str(model)])
    expected = f"{site / 'sen_runtime' / '__init__.py'} {engine('native').load(model).kernels}"
    return [] if printed.strip() == expected else [f"this machine: {printed.strip()}; expected {expected}"]


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        progress("expected the folder of the wheels")
        return 2
    folder = fresh_folder()
    types = export(folder)
    try:
        dist = Path(arguments[0]).absolute()
        wrong = check_here(dist, folder / next(iter(types)))
        wrong += [each for tag in INSTALLS for each in check(tag, dist, folder, types)]
    except NotReadyError as error:
        progress(f"error: {error}")
        return 1
    sys.stdout.write("".join(f"{each}\n" for each in wrong))
    return 3 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
