"""Compiles exported C to WebAssembly with clang and wasm-ld in PATH, or with the package ziglang.

Modules need SIMD, which browsers have since 2021 (Safari since 2023): it halves the latency of dense networks.
"""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from sen_exporters.base import ExportError
from sen_runtime.engines.wasm_file import PAGE_BYTES
from sen_runtime.errors import MissingExtraError
from sen_runtime.untrusted import printable

FLAGS = ("-std=c99", "-O2", "-msimd128", "-mbulk-memory", "-nostdlibinc", "-fvisibility=hidden", "-c")
LINKER_FLAGS = ("--no-entry", "--strip-all", "--stack-first", "-z", "stack-size=65536")
#: Max bytes of a memory, and bytes of stack, tables and alignment in addition to the data of a network.
MAX_BYTES, SLACK = 1 << 32, 4 * PAGE_BYTES


@dataclass(frozen=True)
class Toolchain:
    """Commands of a compiler and a linker for WebAssembly."""

    compiler: tuple[str, ...]
    linker: tuple[str, ...]


def find_toolchain() -> Toolchain:
    """Find clang and wasm-ld in PATH, else those of the package ziglang.

    Raises:
        MissingExtraError: neither is installed.
    """
    clang, linker = shutil.which("clang"), shutil.which("wasm-ld")
    if clang and linker and " wasm32 " in _run([clang, "--print-targets"]).stdout:
        return Toolchain((clang, "--target=wasm32", "-ffreestanding"), (linker,))
    if importlib.util.find_spec("ziglang") is not None:
        zig = (sys.executable, "-m", "ziglang")
        return Toolchain((*zig, "cc", "-target", "wasm32-freestanding"), (*zig, "wasm-ld"))
    raise MissingExtraError(
        "a compiler for WebAssembly (clang with wasm-ld, or the package ziglang)",
        "pip install 'sen-edge[wasm]', or on Debian: apt install clang lld",
    )


def compile_module(sources: Mapping[str, str | bytes], names: Sequence[str], data_bytes: int) -> bytes:
    """Compile the files `names` of `sources`, file name -> content, to a module with a fixed memory for `data_bytes`.

    Raises:
        MissingExtraError: no compiler is installed.
        ExportError: the compiler fails, or the data exceed the 4 GiB of a module.
    """
    size = math.ceil((data_bytes + SLACK) / PAGE_BYTES) * PAGE_BYTES
    if size > MAX_BYTES:
        raise ExportError(
            f"the network takes {data_bytes / 1e9:.1f} GB; a WebAssembly module holds less than 4 GB",
            hint="prune or factorize the network, or export with --dtype float16",
        )
    tools = find_toolchain()
    with tempfile.TemporaryDirectory() as name, as_file(files("sen_exporters.wasm") / "include") as include:
        folder = Path(name)
        for source, content in sources.items():
            (folder / source).write_bytes(content.encode() if isinstance(content, str) else content)
        objects = [f"{source}.o" for source in names]
        for source, target in zip(names, objects, strict=True):
            _build([*tools.compiler, *FLAGS, f"-I{include}", source, "-o", target], folder)
        memory = (f"--initial-memory={size}", f"--max-memory={size}")
        _build([*tools.linker, *LINKER_FLAGS, *memory, *objects, "-o", "module.wasm"], folder)
        return (folder / "module.wasm").read_bytes()


def _build(command: Sequence[str], folder: Path) -> None:
    # zig has a cache, here in the temporary folder
    caches = {"ZIG_GLOBAL_CACHE_DIR": str(folder / "cache"), "ZIG_LOCAL_CACHE_DIR": str(folder / "cache")}
    run = _run(command, cwd=folder, env={**os.environ, **caches})
    if run.returncode:
        lines = [line for line in run.stderr.splitlines() if "error" in line] or [run.stderr.strip() or "no message"]
        raise ExportError(
            f"{Path(command[0]).name} does not compile the network to WebAssembly: {printable(lines[0], 300)}",
            hint="install clang and lld of version 14 or later, or pip install 'sen-edge[wasm]'",
        )


def _run(
    command: Sequence[str], cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, cwd=cwd, env=env)
    except OSError as error:
        raise ExportError(f"{command[0]} does not start: {error.strerror}", hint="reinstall it") from error
