"""Exported C, compiled by the host's compiler into a library and called one row at a time.

The C code runs in this process: load trusted code only.
"""

from __future__ import annotations

import ctypes
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_runtime import untrusted
from sen_runtime.engines import c_compiler
from sen_runtime.engines.arena import ArenaSession
from sen_runtime.engines.base import Engine
from sen_runtime.engines.c_compiler import FLAGS
from sen_runtime.engines.session import Float32Array, Model, source_of
from sen_runtime.errors import EngineError
from sen_runtime.memory_limits import require

Array = NDArray[Any]

_SIZE = re.compile(r"^#define (\w+)_(INPUTS|OUTPUTS|LAYERS|TIMESTEPS|ARENA_BYTES) (\d{1,18})$", re.MULTILINE)


class CSession(ArenaSession):
    """An exported network, compiled.

    Attributes:
        arena_bytes: memory of the network besides its code and constants.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        prefix: str,
        sizes: dict[str, int],
        *,
        takes_train: bool,
        allow_nonfinite: bool = False,
    ) -> None:
        self.timesteps = sizes.get("TIMESTEPS", 0)
        n_in = sizes["INPUTS"]
        super().__init__((self.timesteps, n_in) if takes_train else (n_in,), allow_nonfinite=allow_nonfinite)
        self.arena_bytes = sizes["ARENA_BYTES"]
        require(self.arena_bytes)
        self._n_layers = sizes["LAYERS"]
        self._n_out = sizes["OUTPUTS"]
        self._arena = np.zeros(-(-self.arena_bytes // 8), np.uint64)
        pointer = ctypes.c_void_p
        self._infer = self._function(library, f"{prefix}_run", ctypes.c_int, pointer, pointer, pointer)
        self._layer = self._function(library, f"{prefix}_layer_output", pointer, pointer, ctypes.c_uint32, pointer)
        if self.timesteps:
            self._reset_membranes = self._function(library, f"{prefix}_reset", None, pointer)
            self._advance = self._function(library, f"{prefix}_step", ctypes.c_int, pointer, pointer, pointer)
        if hasattr(library, f"{prefix}_init"):
            self._function(library, f"{prefix}_init", None)()

    @staticmethod
    def _function(library: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Any:
        try:
            function = getattr(library, name)
        except AttributeError:
            raise EngineError(f"the C code has no function {name}; was it exported by sen-edge?") from None
        function.restype, function.argtypes = result, arguments
        return function

    def _run(self, rows: Float32Array) -> Array:
        y = np.empty((len(rows), self._n_out), np.float32)
        for row, out in zip(rows, y):
            _check(self._infer(self._arena.ctypes.data, row.ctypes.data, out.ctypes.data))
        return y

    def _step(self, row: Float32Array) -> Array:
        y = np.empty(self._n_out, np.float32)
        _check(self._advance(self._arena.ctypes.data, row.ctypes.data, y.ctypes.data))
        return y

    def _reset(self) -> None:
        self._reset_membranes(self._arena.ctypes.data)

    def _layer_address(self, index: int) -> tuple[int | None, int]:
        size = ctypes.c_uint32()
        return self._layer(self._arena.ctypes.data, index, ctypes.byref(size)), size.value


def _check(status: int) -> None:
    """Raise `EngineError` for a status other than 0, which finite inputs do not cause."""
    if status:
        raise EngineError(f"the C code returned {status} for finite inputs; expected 0", "export the network again")


def load(model: Model, threads: int = 1, *, allow_nonfinite: bool = False, flags: tuple[str, ...] = FLAGS) -> CSession:
    """A session on `NAME.c` in the folder that `sen-edge export --to c` wrote.

    Args:
        model: path of the file; its header is in the same folder.
        threads: has no effect.
        allow_nonfinite: run inputs that are NaN or infinite.
        flags: of the compiler.

    Raises:
        MissingExtraError: there is no C compiler.
        EngineError: the code does not compile, or not for this machine, or is not an export of sen-edge.
    """
    del threads
    source = source_of(model)
    if isinstance(source, bytes):
        raise EngineError("exported C is a folder of files; expected the path of its .c file")
    compiler = c_compiler.compiler()
    header_path = source.with_suffix(".h")
    header = untrusted.decode(
        untrusted.read_regular(header_path, error=EngineError), str(header_path), error=EngineError
    )
    found = _SIZE.findall(header)
    sizes = {what: int(size) for _, what, size in found}
    if not {"INPUTS", "OUTPUTS", "LAYERS", "ARENA_BYTES"} <= set(sizes):
        raise EngineError(f"{header_path} is not a header of an export of sen-edge")
    takes_train = re.search(r"\bx\[\w+_TIMESTEPS \* \w+_INPUTS\]", header) is not None
    if allow_nonfinite:
        flags = (*flags, "-DSEN_ALLOW_NONFINITE")
    library = c_compiler.build(compiler, source, flags)
    return CSession(library, source.stem, sizes, takes_train=takes_train, allow_nonfinite=allow_nonfinite)


def version() -> str:
    """The compiler and its version.

    Raises:
        MissingExtraError: there is none.
        EngineError: it cannot be started.
    """
    return c_compiler.version(c_compiler.compiler())


ENGINE = Engine("c", (".c",), load, version, is_on_demand=True)
