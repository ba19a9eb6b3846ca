"""The C compiler of this machine, and what it makes of exported C."""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from sen_runtime.errors import EngineError, MissingExtraError

VARIABLE = "SEN_EDGE_CC"
HINT = f"name a compiler for this machine in the environment variable {VARIABLE}"
FLAGS = ("-std=c99", "-O2", "-fPIC", "-shared")
#: Needs what exported C needs: its headers, libm, and a loader that takes the result.
_PROBE = "#include <math.h>\n#include <stdint.h>\nfloat probe(float x) { return sqrtf(x); }\n"
_LOAD = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"
_ERROR = re.compile(r"\berror\b", re.IGNORECASE)


def compiler() -> list[str]:
    """The compiler's command: that of SEN_EDGE_CC, else of CC if what it builds loads here, else cc.

    CC alone is no order to us: where firmware is built it is a compiler for another machine.

    Raises:
        MissingExtraError: it is not installed.
        EngineError: SEN_EDGE_CC is no command.
    """
    named = os.environ.get(VARIABLE, "").strip()
    try:
        command = shlex.split(named) if named else _inherited() or ["cc"]
    except ValueError as error:
        raise EngineError(f"{VARIABLE} is {named!r}, which is no command: {error}", HINT) from None
    if shutil.which(command[0]) is None:
        raise MissingExtraError(f"a C compiler ({command[0]})", f"install gcc or clang, or {HINT}")
    return command


def version(command: Sequence[str]) -> str:
    """Name and version.

    Raises:
        EngineError: it cannot be started.
    """
    number = re.search(r"\d+(\.\d+)+", _run([*command, "--version"]).stdout)
    return f"{Path(command[0]).name} {number.group() if number else 'of unknown version'}"


def build(command: Sequence[str], model: Path, flags: Sequence[str]) -> ctypes.CDLL:
    """`NAME.c`, and `NAME_weights.S` where there is one, as a library in this process.

    Raises:
        EngineError: it does not compile, or not for this machine.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / "network.so"
            _compile(command, model, flags, library)
            return ctypes.CDLL(str(library))
    except OSError as error:
        hint = f"{HINT}; if it is one, name a folder from which programs may run in TMPDIR"
        raise EngineError(f"what {command[0]} builds does not load here: {error}", hint) from error


def _compile(command: Sequence[str], model: Path, flags: Sequence[str], library: Path) -> None:
    assembly = model.with_name(f"{model.stem}_weights.S")
    sources = [model, assembly] if assembly.exists() else [model]
    run = _run([*command, *flags, "-I", str(model.parent), *map(str, sources), "-lm", "-o", str(library)])
    if run.returncode == 0:
        return
    lines = run.stderr.strip().splitlines() or ["no message"]
    errors = [line for line in lines if _ERROR.search(line)] or lines
    hint = HINT
    if any(assembly.name in line for line in errors):
        hint = f"export with --c-weights array, for {assembly.name} is for ELF alone; or {HINT}"
    raise EngineError(f"{command[0]} does not compile the C code: {errors[0]}", hint)


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise EngineError(f"the C compiler {command[0]} does not start: {error.strerror}", HINT) from error


def _inherited() -> list[str]:
    """The command in CC, if it is one that builds for this machine."""
    try:
        command = shlex.split(os.environ.get("CC", ""))
    except ValueError:
        return []
    return command if command and _builds_for_here(tuple(command)) else []


@lru_cache
def _builds_for_here(command: tuple[str, ...]) -> bool:
    """Whether a library that it builds loads; in another process, which may end as it likes."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            source, library = Path(folder) / "probe.c", Path(folder) / "probe.so"
            source.write_text(_PROBE, encoding="utf-8")
            for step in (
                [*command, *FLAGS, str(source), "-lm", "-o", str(library)],
                [sys.executable, "-I", "-S", "-c", _LOAD, str(library)],
            ):
                if subprocess.run(step, capture_output=True, check=False).returncode != 0:
                    return False
    except OSError:
        return False
    return True
