"""Read what machine this is, its state, and what software this process runs.

Files are read below an injectable root, commands run by an injectable function; `device_texts` parses both.
"""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Optional

import sen_runtime
from sen_runtime.bench import device_texts
from sen_runtime.bench.device_texts import UNAVAILABLE, Texts
from sen_runtime.engines import usable

#: Runs a command and returns its output, or None where it is missing or fails.
Run = Callable[[Sequence[str]], Optional[str]]

COMMAND_SECONDS = 5.0


def run_command(command: Sequence[str]) -> str | None:
    """Output of a command, or None where it is missing, fails or takes longer than `COMMAND_SECONDS`."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMMAND_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace")


def describe(root: Path = Path("/"), run: Run = run_command) -> dict[str, Any]:
    """Return the facts of the machine; see `device_texts.facts`.

    `python`, `libraries` and `compiler` (of the native library) are those of this process.
    """
    return {
        **device_texts.facts(_read(device_texts.FACT_FILES, (device_texts.MACHINE,), root, run)),
        "python": platform.python_version(),
        "libraries": {name: _installed(name) for name in libraries()},
        "compiler": _compiler(),
    }


def state(root: Path = Path("/"), run: Run = run_command) -> dict[str, Any]:
    """Return its present state; see `device_texts.state`."""
    commands = device_texts.THROTTLED, device_texts.ARM_CLOCK
    return device_texts.state(_read(device_texts.STATE_FILES, commands, root, run))


def _read(patterns: Sequence[str], commands: Sequence[str], root: Path, run: Run) -> Texts:
    texts = {command: (run(command.split()) or "").encode() for command in commands}
    for path in (path for pattern in patterns for path in root.glob(pattern)):
        with suppress(OSError), path.open("rb") as file:
            texts[str(path.relative_to(root))] = file.read(5) if path.name == "exe" else file.read()
    return texts


def libraries() -> list[str]:
    """Distributions whose versions matter: the package of each engine."""
    packages = dict.fromkeys(each.package for each in usable().values() if each.package)
    return ["numpy", *packages, "sen-edge-runtime"]


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return UNAVAILABLE


def _compiler() -> str:
    """The comment that GCC and clang write into a library."""
    for library in sorted((Path(sen_runtime.__file__).parent / "c").glob("libsen.*")):
        if library.suffix in (".so", ".dylib"):
            match = re.search(rb"GCC: \([^)\0]*\) [0-9.]+|clang version [0-9.]+", library.read_bytes())
            if match:
                return match.group().decode("ascii", "replace").replace("GCC: ", "GCC ")
    return UNAVAILABLE
