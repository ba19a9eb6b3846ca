"""Exported C in the host's own compiler: built into a library, called one row at a time.

The C code runs in this process: load none that you would not compile yourself.
"""

from __future__ import annotations

import ctypes
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_runtime.engines import Model, c_compiler, layers
from sen_runtime.engines.c_compiler import FLAGS
from sen_runtime.errors import EngineError

Array = NDArray[Any]

suffix, is_threaded, is_on_demand = ".c", False, True

_SIZE = re.compile(r"^#define (\w+)_(INPUTS|OUTPUTS|LAYERS|TIMESTEPS|ARENA_BYTES) (\d+)$", re.MULTILINE)


class CSession:
    """An exported network, compiled.

    Attributes:
        batch_size: None: any number of rows, each run by itself.
        input_shape: of one row: `(n_in,)`, or `(T, n_in)` where spike trains go in.
        arena_bytes: memory that the network needs beside its code and constants.
    """

    batch_size: int | None = None

    def __init__(self, library: ctypes.CDLL, prefix: str, sizes: dict[str, int], *, takes_train: bool) -> None:
        self.timesteps = sizes.get("TIMESTEPS", 0)
        self.arena_bytes = sizes["ARENA_BYTES"]
        self._n_layers = sizes["LAYERS"]
        n_in = sizes["INPUTS"]
        self._input = np.zeros((self.timesteps, n_in) if takes_train else (n_in,), np.float32)
        self.input_shape: tuple[int, ...] = self._input.shape
        self._output = np.zeros(sizes["OUTPUTS"], np.float32)
        self._arena = np.zeros(-(-self.arena_bytes // 8), np.uint64)
        pointer = ctypes.c_void_p
        self._run = self._function(library, f"{prefix}_run", None, pointer, pointer, pointer)
        self._layer_output = self._function(
            library, f"{prefix}_layer_output", pointer, pointer, ctypes.c_uint32, pointer
        )
        if self.timesteps:
            self._reset = self._function(library, f"{prefix}_reset", None, pointer)
            self._step = self._function(library, f"{prefix}_step", None, pointer, pointer, pointer)
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

    def run(self, x: Array) -> Array:
        """Outputs `[batch, n_out]` for `x [batch, n_in]`, or `[batch, T, n_in]` where spike trains go in.

        Raises:
            EngineError: an input of another shape.
        """
        if x.shape[1:] != self._input.shape:
            expected = ", ".join(map(str, self._input.shape))
            raise EngineError(f"the input has shape {list(x.shape)}; expected [batch, {expected}]")
        y = np.empty((len(x), len(self._output)), np.float32)
        for row, out in zip(np.ascontiguousarray(x, np.float32), y):
            self._run(self._arena.ctypes.data, row.ctypes.data, out.ctypes.data)
        return y

    def run_all(self, x: Array) -> dict[str, Array]:
        """The outputs, and the activations (spike counts) of the hidden layers."""
        return layers.run_all(self, x, self._n_layers)

    def step(self, x: Array) -> Array:
        """One time step of one example, `[n_in]` to `[n_out]`: the last layer's membranes, or spikes if they count.

        Raises:
            EngineError: the network is not a spiking one, or the input has another shape.
        """
        self._check_spiking()
        if x.shape != self._input.shape[-1:]:
            raise EngineError(f"the input has shape {list(x.shape)}; expected {list(self._input.shape[-1:])}")
        x = np.ascontiguousarray(x, np.float32)
        self._step(self._arena.ctypes.data, x.ctypes.data, self._output.ctypes.data)
        return self._output.copy()

    def reset(self) -> None:
        """Membranes to 0.

        Raises:
            EngineError: the network is not a spiking one.
        """
        self._check_spiking()
        self._reset(self._arena.ctypes.data)

    def _check_spiking(self) -> None:
        if not self.timesteps:
            raise EngineError("the network is not a spiking one")

    def layer_output(self, index: int) -> Array:
        """What a layer gave out last, `[n]`.

        Raises:
            EngineError: it keeps nothing, or there is no such layer.
        """
        size = ctypes.c_uint32()
        address = self._layer_output(self._arena.ctypes.data, index, ctypes.byref(size))
        return layers.read(address, size.value, index)


def load(model: Model, threads: int = 1, *, flags: tuple[str, ...] = FLAGS) -> CSession:
    """A session on `NAME.c` in the folder that `sen-edge export --to c` wrote.

    Args:
        model: path of the file; its header lies beside it.
        threads: 1 is what it has.
        flags: of the compiler.

    Raises:
        MissingExtraError: there is no C compiler.
        EngineError: the code does not compile, not for this machine, or is none that sen-edge exported.
    """
    del threads
    if isinstance(model, bytes):
        raise EngineError("exported C is a folder of files; expected the path of its .c file")
    compiler = c_compiler.compiler()
    try:
        header = model.with_suffix(".h").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EngineError(f"cannot read {model.with_suffix('.h')}: {error}") from error
    found = _SIZE.findall(header)
    sizes = {what: int(size) for _, what, size in found}
    if not {"INPUTS", "OUTPUTS", "LAYERS", "ARENA_BYTES"} <= set(sizes):
        raise EngineError(f"{model.with_suffix('.h')} is no header that sen-edge exported")
    takes_train = re.search(r"\bx\[\w+_TIMESTEPS \* \w+_INPUTS\]", header) is not None
    return CSession(c_compiler.build(compiler, model, flags), model.stem, sizes, takes_train=takes_train)


def version() -> str:
    """The compiler and its version.

    Raises:
        MissingExtraError: there is none.
        EngineError: it cannot be started.
    """
    return c_compiler.version(c_compiler.compiler())
