"""The C compiler of this machine, and libraries built from exported C."""

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
#: Has the requirements of exported C: its headers, libm, and a loader for the result.
_PROBE = "#include <math.h>\n#include <stdint.h>\nfloat probe(float x) { return sqrtf(x); }\n"
_LOAD = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"
_ERROR = re.compile(r"\berror\b", re.IGNORECASE)


def compiler() -> list[str]:
    """Command of the compiler: SEN_EDGE_CC, else CC if its libraries load here, else cc.

    CC may be a cross compiler where firmware is built.

    Raises:
        MissingExtraError: it is not installed.
        EngineError: SEN_EDGE_CC is not a command.
    """
    named = os.environ.get(VARIABLE, "").strip()
    try:
        command = shlex.split(named) if named else _inherited() or ["cc"]
    except ValueError as error:
        raise EngineError(f"{VARIABLE} is {named!r}, which is not a command: {error}", HINT) from None
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
    """Build `NAME.c`, and `NAME_weights.S` if it exists, and load the library.

    Raises:
        EngineError: it does not compile, or not for this machine.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / "network.so"
            _compile(command, model, flags, library)
            return ctypes.CDLL(str(library))
    except OSError as error:
        hint = f"{HINT}; or name a folder without noexec in TMPDIR"
        raise EngineError(f"a library of {command[0]} does not load here: {error}", hint) from error


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
        hint = f"export with -O c.weights=array: {assembly.name} needs ELF; or {HINT}"
    raise EngineError(f"{command[0]} does not compile the C code: {errors[0]}", hint)


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise EngineError(f"the C compiler {command[0]} does not start: {error.strerror}", HINT) from error


def _inherited() -> list[str]:
    """Command in CC, if it builds for this machine."""
    try:
        command = shlex.split(os.environ.get("CC", ""))
    except ValueError:
        return []
    return command if command and _builds_for_here(tuple(command)) else []


@lru_cache
def _builds_for_here(command: tuple[str, ...]) -> bool:
    """Whether a library of the compiler loads; tried in another process, which may crash."""
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
