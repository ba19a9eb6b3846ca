"""Exported C, compiled by the host's compiler into a library and called one row at a time.

The C code runs in this process: load trusted code only.
"""

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
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from sen_runtime import untrusted
from sen_runtime.engines import Engine
from sen_runtime.engines.c_integer import IntegerCSession
from sen_runtime.engines.session import ArenaSession, Array, Float32Array, Model, source_of
from sen_runtime.errors import EngineError, MissingExtraError
from sen_runtime.memory_limits import require

VARIABLE = "SEN_EDGE_CC"
HINT = f"name a compiler for this machine in the environment variable {VARIABLE}"
FLAGS = ("-std=c99", "-O2", "-fPIC", "-shared")
#: Has the requirements of exported C: its headers, libm, and a loader for the result.
_PROBE = "#include <math.h>\n#include <stdint.h>\nfloat probe(float x) { return sqrtf(x); }\n"
_LOAD = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"
_ERROR = re.compile(r"\berror\b", re.IGNORECASE)
_SIZE = re.compile(r"^#define (\w+)_(INPUTS|OUTPUTS|LAYERS|TIMESTEPS|ARENA_BYTES) (\d{1,18})$", re.MULTILINE)


class CSession(ArenaSession):
    """An exported network, compiled.

    Attributes:
        arena_bytes: memory of the network besides its code and constants.
    """

    def __init__(
        self, library: ctypes.CDLL, prefix: str, sizes: dict[str, int], *, takes_train: bool, allow_nonfinite: bool
    ) -> None:
        self.timesteps = self._hidden_steps = sizes.get("TIMESTEPS", 0)
        n_in = sizes["INPUTS"]
        super().__init__((self.timesteps, n_in) if takes_train else (n_in,), allow_nonfinite=allow_nonfinite)
        self.arena_bytes = sizes["ARENA_BYTES"]
        require(self.arena_bytes)
        self._n_layers = sizes["LAYERS"]
        self._n_out = sizes["OUTPUTS"]
        self._arena = np.zeros(-(-self.arena_bytes // 8), np.uint64)
        pointer, place = ctypes.c_void_p, self._arena.ctypes.data

        def bind(name: str, result: Any, *arguments: Any) -> Any:
            """A function of the C code on the arena."""
            return partial(_bind(library, prefix, name, result, pointer, *arguments), place)

        self._infer = bind("run", ctypes.c_int, pointer, pointer)
        self._layer = bind("layer_output", pointer, ctypes.c_uint32, pointer)
        if self.timesteps:
            self._reset_membranes = bind("reset", None)
            self._advance = bind("step", ctypes.c_int, pointer, pointer)
            self._finish = _bind(library, prefix, "finish", None, pointer, is_optional=True)
        if init := _bind(library, prefix, "init", None, is_optional=True):
            init()

    def _run(self, rows: Float32Array) -> Array:
        y = np.empty((len(rows), self._n_out), np.float32)
        for row, out in zip(rows, y):
            _check(self._infer(row.ctypes.data, out.ctypes.data))
        return y

    def _reset(self) -> None:
        self._reset_membranes()

    def _step(self, row: Float32Array) -> Array:
        y = np.empty(self._n_out, np.float32)
        _check(self._advance(row.ctypes.data, y.ctypes.data))
        return y


def _bind(library: ctypes.CDLL, prefix: str, name: str, result: Any, *arguments: Any, is_optional: bool = False) -> Any:
    """A function of the C code; None for an optional one that the network does not have."""
    function = getattr(library, f"{prefix}_{name}", None)
    if function is None and not is_optional:
        raise EngineError(f"the C code has no function {prefix}_{name}; was it exported by sen-edge?")
    if function:
        function.restype, function.argtypes = result, arguments
    return function


def _check(status: int) -> None:
    """Raise `EngineError` for a status other than 0, which finite inputs do not cause."""
    if status:
        raise EngineError(f"the C code returned {status} for finite inputs; expected 0", "export the network again")


def load(
    model: Model, threads: int = 1, *, allow_nonfinite: bool = False, flags: tuple[str, ...] = FLAGS
) -> ArenaSession:
    """A session on `NAME.c`, next to its header in the folder that `sen-edge export --to c` wrote.

    `threads` has no effect; `flags` are those of the compiler.
    """
    source = source_of(model)
    if isinstance(source, bytes):
        raise EngineError("exported C is a folder of files; expected the path of its .c file")
    compiler = _compiler()
    header_path = source.with_suffix(".h")
    content = untrusted.read_regular(header_path, error=EngineError)
    header = untrusted.decode(content, str(header_path), error=EngineError)
    found = _SIZE.findall(header)
    sizes = {what: int(size) for _, what, size in found}
    if not {"INPUTS", "OUTPUTS", "LAYERS", "ARENA_BYTES"} <= set(sizes):
        raise EngineError(f"{header_path} is not a header of an export of sen-edge")
    takes_train = re.search(r"\bx\[\w+_TIMESTEPS \* \w+_INPUTS\]", header) is not None
    if allow_nonfinite:
        flags = (*flags, "-DSEN_ALLOW_NONFINITE")
    is_integer = re.search(r"\bint \w+_run_u8\(", header) is not None
    if is_integer:
        flags = (*flags, f"-D{source.stem.upper()}_FLOAT")
    library = _build(compiler, source, flags)
    if not is_integer:
        return CSession(library, source.stem, sizes, takes_train=takes_train, allow_nonfinite=allow_nonfinite)
    require(sizes["ARENA_BYTES"])
    arena = np.zeros(-(-sizes["ARENA_BYTES"] // 8), np.uint64)
    return IntegerCSession(
        arena, partial(_bind, library, source.stem), sizes, takes_train=takes_train, allow_nonfinite=allow_nonfinite
    )


def version() -> str:
    """The compiler and its version."""
    command = _compiler()
    number = re.search(r"\d+(\.\d+)+", _run([*command, "--version"]).stdout)
    return f"{Path(command[0]).name} {number.group() if number else 'of unknown version'}"


def _compiler() -> list[str]:
    """Command of the compiler: SEN_EDGE_CC, else CC if its libraries load here, else cc.

    CC may be a cross compiler where firmware is built.
    """
    named = os.environ.get(VARIABLE, "").strip()
    try:
        command = shlex.split(named)
    except ValueError as error:
        raise EngineError(f"{VARIABLE} is {named!r}, which is not a command: {error}", HINT) from None
    if not command:
        with suppress(ValueError):
            command = shlex.split(os.environ.get("CC", ""))
        if not command or not _builds_for_here(tuple(command)):
            command = ["cc"]
    if shutil.which(command[0]) is None:
        raise MissingExtraError(f"a C compiler ({command[0]})", f"install gcc or clang, or {HINT}")
    return command


def _build(command: Sequence[str], model: Path, flags: Sequence[str]) -> ctypes.CDLL:
    """Build `NAME.c`, with `NAME_weights.S` and `sen_kernels.c` if they exist, and load the library."""
    assembly = model.with_name(f"{model.stem}_weights.S")
    parts = (assembly, model.with_name("sen_kernels.c"))
    sources = [str(model), *(str(part) for part in parts if part.exists())]
    try:
        with tempfile.TemporaryDirectory() as folder:
            library = str(Path(folder) / "network.so")
            run = _run([*command, *flags, "-I", str(model.parent), *sources, "-lm", "-o", library])
            if run.returncode == 0:
                return ctypes.CDLL(library)
    except OSError as error:
        hint = f"{HINT}; or name a folder without noexec in TMPDIR"
        raise EngineError(f"a library of {command[0]} does not load here: {error}", hint) from error
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


@lru_cache
def _builds_for_here(command: tuple[str, ...]) -> bool:
    """Whether a library of the compiler loads; tried in another process, which may crash."""
    with suppress(OSError), tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "probe.c", Path(folder) / "probe.so"
        source.write_text(_PROBE, encoding="utf-8")
        steps = (
            [*command, *FLAGS, str(source), "-lm", "-o", str(library)],
            [sys.executable, "-I", "-S", "-c", _LOAD, str(library)],
        )
        return all(subprocess.run(step, capture_output=True, check=False).returncode == 0 for step in steps)
    return False


ENGINE = Engine("c", (".c",), load, version, is_on_demand=True)
