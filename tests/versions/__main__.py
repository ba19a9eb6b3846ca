"""`make test-versions`: run tests in every environment, or in the named ones; `--write` writes the page instead.

An interpreter that is not installed is skipped: machines differ in those they have.
"""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.versions.environments import PAGE, ROOT, Environment, environments, page

BUILD = ROOT / "build/versions"
RUNTIME = (
    "tests/compatibility/test_images.py",
    "tests/compatibility/test_runtime.py",
    "tests/runtime/test_task.py",
    "tests/runtime/test_memory_limits.py",
)
TOOLKIT = (
    *RUNTIME,
    "tests/format/test_image.py",
    "tests/ir/test_operators.py",
    "tests/ir/test_reference.py",
    "tests/exporters/test_onnx.py",
    "tests/exporters/test_tflite.py",
    "tests/runtime/test_data.py",
)
WITH_TORCH = (
    *TOOLKIT,
    "tests/compatibility/test_checkpoints.py",
    "tests/cli/test_cli.py",
    "tests/cli/test_schema.py",
    "tests/exporters/test_parity.py",
    "tests/exporting/test_manifest_schema.py",
    "tests/exporting/test_options.py",
)
#: A borrowed tflite-runtime does not load with numpy 2.
BORROWED = "--deselect=tests/cli/test_cli.py::test_doctor_runs_every_engine"
#: Operator sets beyond those of the oldest onnxruntime.
TOO_NEW = [f"--deselect=tests/exporters/test_onnx.py::test_every_operator_set_loads_and_agrees[{n}]" for n in (20, 21)]
PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps")


def main(names: list[str]) -> int:
    """Run the tests; return the exit code."""
    wheels = BUILD / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*words, "--wheel-dir", wheels, ROOT / "runtime", ROOT], check=True)
    results = {each.name: _run(each, wheels) for each in environments() if not names or each.name in names}
    for name, result in results.items():
        sys.stderr.write(f"{name:12} {result}\n")
    return 0 if results and {"passed", "not installed"}.issuperset(results.values()) else 1


def _run(environment: Environment, wheels: Path) -> str:
    interpreter = environment.interpreter()
    if interpreter is None:
        return "not installed"
    folder = BUILD / environment.name
    python = folder / "bin/python"
    subprocess.run([interpreter, "-m", "venv", "--clear", folder], check=True)
    subprocess.run([python, *PIP, "--only-binary", ":all:", "--requirement", environment.requirements], check=True)
    projects = ("sen_edge_runtime",) if environment.is_runtime else ("sen_edge_runtime", "sen_edge")
    subprocess.run([python, *PIP, *(next(wheels.glob(f"{name}-*.whl")) for name in projects)], check=True)
    if environment.has_torch:
        _borrow(python)
    sys.stderr.write(f"== {environment.name}\n")
    return "passed" if subprocess.run(_pytest(python, environment), cwd=ROOT, check=False).returncode == 0 else "FAILED"


def _borrow(python: Path) -> None:
    """Let packages of the running environment be found after those of another one."""
    own = sysconfig.get_path("purelib")
    command = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    folder = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    (folder / "borrowed.pth").write_text(f"import site; site.addsitedir({own!r})\n", encoding="utf-8")


def _pytest(python: Path, environment: Environment) -> list[str | Path]:
    tests = RUNTIME if environment.is_runtime else WITH_TORCH if environment.has_torch else TOOLKIT
    words: list[str | Path] = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", *tests]
    words.append(BORROWED if environment.has_torch else "--noconftest")  # which imports torch
    if environment.is_oldest:  # old packages use what newer ones have deprecated
        words += ["-o", "filterwarnings=default"]
    return [*words, *(TOO_NEW if environment.is_oldest and not environment.is_runtime else ())]


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page(), encoding="utf-8")
    else:
        sys.exit(main(sys.argv[1:]))
