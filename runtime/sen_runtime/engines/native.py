"""The C library on `.sen` images: one thread, and nothing between numpy's arrays and the kernels."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import sen_runtime
from sen_runtime import image, reference
from sen_runtime.engines import Model, layers
from sen_runtime.errors import EngineError, ImageError, MissingExtraError, SenError

Array = NDArray[Any]

suffix, is_threaded, is_on_demand = ".sen", False, False

ALIGNMENT = 64
#: Multiples that bandwidth is measured of.
BANDWIDTH_BYTES = 128
#: Flags of sen.h.
CHECK_CHECKSUM, CHECK_VALUES, PACK, ON_THE_FLY = 1, 2, 4, 8
#: Which kernels a session takes, and the flag that asks for them; "narrow" is AVX2, and NEON without dot products.
KERNELS = {"fastest": 0, "reference": 16, "portable": 32, "narrow": 64}
#: Statuses of sen.h whose cause is the image, and not the caller or the machine.
_IMAGE_STATUSES = range(7, 19)
_LIBRARY = {"darwin": "libsen.dylib", "win32": "sen.dll"}.get(sys.platform, "libsen.so")
PIP_LINE = "install a C compiler, then: pip install --force-reinstall --no-deps ./runtime"


class NativeSession:
    """A network in the C library.

    Attributes:
        batch_size: None: any number of rows.
        input_shape: of one row: `(n_in,)`, or `(T, n_in)` where spike trains go in.
        input: of that shape: what `invoke` reads.
        output: `[n_out]`: what `invoke` and `step` write.
        timesteps: of a spiking network; 0 for a multilayer perceptron.
        arena_bytes: memory that it needs beside the image.
        kernels: name of the kernels in use: "avx512", "avx2", "neon_dotprod", "neon", "portable", "reference".
    """

    batch_size: int | None = None

    def __init__(self, data: Array, flags: int) -> None:
        library = _library()
        self._library = library
        self._image = data  # which the library reads in place
        flags |= CHECK_CHECKSUM | CHECK_VALUES
        size = ctypes.c_size_t()
        _check(library.sen_arena_size(data.ctypes.data, data.size, flags, ctypes.byref(size)))
        self.arena_bytes = size.value
        self._arena = _aligned(self.arena_bytes)
        model = ctypes.c_void_p()
        _check(library.sen_load(ctypes.byref(model), data.ctypes.data, data.size, self._arena.ctypes.data, size, flags))
        self._model = model.value
        self.timesteps: int = library.sen_timesteps(self._model)
        self.kernels: str = library.sen_kernels_name(self._model).decode()
        n_in: int = library.sen_inputs(self._model)
        is_train = bool(library.sen_takes_spike_train(self._model))
        self.input = np.zeros((self.timesteps, n_in) if is_train else n_in, np.float32)
        self.input_shape: tuple[int, ...] = self.input.shape
        self.output = np.zeros(library.sen_outputs(self._model), np.float32)
        # What one inference needs is looked up once: that takes longer than to run a small model.
        self._input_row = self.input[np.newaxis]
        self._row_shape = self._input_row.shape
        self._copy_output = self.output[np.newaxis].copy
        invoke = library["sen_run"]  # a function of its own: no status, which only a null pointer makes, is converted
        invoke.restype = None
        border = (self._model, self.input.ctypes.data, self.output.ctypes.data)
        self._invoke = partial(invoke, *map(ctypes.c_void_p, border))

    def invoke(self) -> None:
        """One inference from `input` to `output`, without a copy."""
        self._invoke()

    def run(self, x: Array) -> Array:
        """Outputs `[batch, n_out]` for `x [batch, n_in]`, or `[batch, T, n_in]` where spike trains go in.

        Of several rows, a float32 array in C order is read where it is.

        Raises:
            EngineError: an input of another shape.
        """
        if x.shape == self._row_shape:
            self._input_row[...] = x
            self._invoke()
            return self._copy_output()
        if x.shape[1:] != self.input.shape:
            expected = ", ".join(map(str, self.input.shape))
            raise EngineError(f"the input has shape {list(x.shape)}; expected [batch, {expected}]")
        x = np.ascontiguousarray(x, np.float32)
        y = np.empty((len(x), len(self.output)), np.float32)
        _check(self._library.sen_run_batch(self._model, x.ctypes.data, y.ctypes.data, len(x)))
        return y

    def bare_call(self, x: Array) -> Callable[[], Array]:
        """The library on `x [1, ...]`: input copied in, output copied out, nothing checked: for measurements."""
        self.run(x)  # of the right shape
        row, stored = self._input_row, np.ascontiguousarray(x, np.float32)
        invoke, copy_output = self._invoke, self._copy_output

        def call(_owner: NativeSession = self) -> Array:  # which keeps the memory that the rest points to
            row[...] = stored
            invoke()
            output: Array = copy_output()
            return output

        return call

    def bare_loop(self, x: Array) -> Callable[[int], None]:
        """A function that runs the next n rows of `x [rows, ...]`, again from the first after the last, in a loop in C.

        Rows are read where they are, and outputs written where nobody reads them: for measurements.
        """
        self.run(x[:1])  # of the right shape
        x, rows = np.ascontiguousarray(x, np.float32), len(x)
        y = np.empty((rows, len(self.output)), np.float32)
        run_batch = self._library["sen_run_batch"]
        run_batch.restype, run_batch.argtypes = None, [ctypes.c_void_p] * 3 + [ctypes.c_size_t]
        model, given, taken = self._model, x.ctypes.data, y.ctypes.data
        given_step, taken_step, at = x.strides[0], y.strides[0], 0

        def loop(n: int, _owners: object = (self, x, y)) -> None:  # which keep the memory that the rest points to
            nonlocal at
            while True:
                count = min(n, rows - at)
                run_batch(model, given + at * given_step, taken + at * taken_step, count)
                at = (at + count) % rows
                n -= count
                if n == 0:
                    return

        return loop

    def run_all(self, x: Array) -> dict[str, Array]:
        """The outputs, and the activations (spike counts) of the hidden layers."""
        return layers.run_all(self, x, self._library.sen_layers(self._model))

    def layer_output(self, index: int) -> Array:
        """What a hidden layer gave out last, `[n]`: activations of a multilayer perceptron, or the spikes of a step."""
        size = ctypes.c_uint32()
        address = self._library.sen_layer_output(self._model, index, ctypes.byref(size))
        return layers.read(address, size.value, index)

    def reset(self) -> None:
        """Membranes to zero.

        Raises:
            EngineError: the network is not a spiking one.
        """
        _check(self._library.sen_reset(self._model))

    def step(self, x: Array) -> Array:
        """One time step of one example, `[n_in]` to `[n_out]`: the last layer's membrane, or its spikes if they count.

        Raises:
            EngineError: the network is not a spiking one, or the input has another shape.
        """
        if x.shape != self.input.shape[-1:]:
            raise EngineError(f"the input has shape {list(x.shape)}; expected {list(self.input.shape[-1:])}")
        x = np.ascontiguousarray(x, np.float32)
        _check(self._library.sen_step(self._model, x.ctypes.data, self.output.ctypes.data))
        return self.output.copy()


def load(
    model: Model, threads: int = 1, *, kernels: str = "fastest", pack: bool = True, expand: bool = True
) -> NativeSession:
    """A session on a `.sen` image; a file is mapped, and its weights stay where they are.

    Args:
        model: path or bytes.
        threads: 1 is what it has.
        kernels: one of `KERNELS`: "fastest" that this processor has; the others are for comparison.
        pack: copy weights into the order that kernels like best, which takes up to their size in float32 once more;
            otherwise they are read where they are.
        expand: compute the weights of coordinates once; otherwise whenever they are needed, which takes no memory.

    Raises:
        MissingExtraError: the library was not built when sen-edge-runtime was installed.
        ImageError: the image is damaged or not one.
        EngineError: the file cannot be read, or no such kernels.
    """
    del threads
    _library()
    if kernels not in KERNELS:
        raise EngineError(f"no kernels called {kernels!r}; expected one of {', '.join(KERNELS)}")
    flags = KERNELS[kernels] | PACK * pack | ON_THE_FLY * (not expand)
    data = _mapped(model)
    try:
        return NativeSession(data, flags)
    except ImageError as error:
        raise _explained(model, error) from error
    except EngineError as error:
        raise EngineError(f"{error.message}{_of(model)}", error.hint) from error
    except MemoryError:
        raise EngineError(f"the model needs more memory than there is{_of(model)}") from None


def _mapped(model: Model) -> Array:
    if isinstance(model, bytes):
        data = _aligned(len(model))
        data[:] = np.frombuffer(model, np.uint8)
        return data
    try:
        with model.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # lives as long as the array
    except ValueError as error:  # an empty file cannot be mapped
        raise ImageError(f"{model}: {error}") from error
    except OSError as error:
        raise EngineError(f"cannot read {model}: {error.strerror}") from error
    return np.frombuffer(mapped, np.uint8)


def _explained(model: Model, error: ImageError) -> ImageError:
    """The same, with what the reader has to say about the image: it names the file, the section and the neurons."""
    try:
        reference.expand(image.loads(model) if isinstance(model, bytes) else image.read(model))
    except SenError as found:
        return ImageError(found.message, found.hint)
    return ImageError(f"{error.message}{_of(model)}", error.hint)


def _of(model: Model) -> str:
    return "" if isinstance(model, bytes) else f": {model}"


def bandwidth(size: int, seconds: float) -> float | None:
    """Bytes per nanosecond that one core reads from a buffer of `size` bytes, the best of some tries within `seconds`.

    None where the library was not built, or without the function.
    """
    try:
        function = _library()["sen_bench_bandwidth"]
    except (MissingExtraError, AttributeError):
        return None
    function.restype, function.argtypes = ctypes.c_double, [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_double]
    buffer = _aligned(size // BANDWIDTH_BYTES * BANDWIDTH_BYTES)
    buffer[...] = 1  # untouched memory would all be one page of the kernel
    return float(function(buffer.ctypes.data, buffer.size, seconds))


def version() -> str:
    """Version of this package; raises `MissingExtraError` where the library was not built."""
    _library()
    return sen_runtime.__version__


def _aligned(size: int) -> Array:
    """`[size]` bytes that start at a multiple of `ALIGNMENT`."""
    memory = np.zeros(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size]


def _check(status: int) -> None:
    if status == 0:
        return
    text = _library().sen_status_text(status).decode()
    raise (ImageError if status in _IMAGE_STATUSES else EngineError)(text)


@lru_cache(maxsize=1)
def _library() -> Any:
    path = Path(sen_runtime.__file__).parent / "c" / _LIBRARY
    if not path.exists():
        raise MissingExtraError("the native library of sen-edge-runtime", PIP_LINE)
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise MissingExtraError(f"a native library of sen-edge-runtime that loads ({error})", PIP_LINE) from error
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    for name, result, arguments in (
        ("sen_status_text", ctypes.c_char_p, [ctypes.c_int]),
        ("sen_arena_size", ctypes.c_int, [pointer, size, ctypes.c_uint, pointer]),
        ("sen_load", ctypes.c_int, [pointer, pointer, size, pointer, size, ctypes.c_uint]),
        ("sen_inputs", ctypes.c_uint32, [pointer]),
        ("sen_outputs", ctypes.c_uint32, [pointer]),
        ("sen_timesteps", ctypes.c_uint32, [pointer]),
        ("sen_takes_spike_train", ctypes.c_int, [pointer]),
        ("sen_kernels_name", ctypes.c_char_p, [pointer]),
        ("sen_layers", ctypes.c_uint32, [pointer]),
        ("sen_layer_output", pointer, [pointer, ctypes.c_uint32, pointer]),
        ("sen_run", ctypes.c_int, [pointer, pointer, pointer]),
        ("sen_run_batch", ctypes.c_int, [pointer, pointer, pointer, size]),
        ("sen_reset", ctypes.c_int, [pointer]),
        ("sen_step", ctypes.c_int, [pointer, pointer, pointer]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
