"""The C library on `.sen` images."""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import sys
import time
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import sen_runtime
from sen_runtime import format as image
from sen_runtime import reference, untrusted
from sen_runtime.engines import Engine, check_threads, native_call, native_threads
from sen_runtime.engines.profiling import SECONDS, LayerTime, typical
from sen_runtime.engines.session import ArenaSession, Array, Float32Array, Model, require_finite, source_of
from sen_runtime.errors import EngineError, ImageError, MissingExtraError, SenError
from sen_runtime.ir.operators import Coordinates, leaves
from sen_runtime.memory_limits import MemoryLimitError, catch_allocation_errors, require

ALIGNMENT = 64
#: Buffers for bandwidth are multiples of this.
BANDWIDTH_BYTES = 128
#: Flags of sen.h.
CHECK_CHECKSUM, CHECK_VALUES, PACK, ON_THE_FLY, ALLOW_NONFINITE = 1, 2, 4, 8, 128
#: Kernels of a session and their flag; "narrow" is AVX2, and NEON without dot products.
KERNELS = {"fastest": 0, "reference": 16, "portable": 32, "narrow": 64}
#: Statuses of sen.h that are defects of the image.
_IMAGE_STATUSES = {*range(7, 19), 22}
_NONFINITE, _NO_STEPS = 20, 21
_LIBRARY = {"darwin": "libsen.dylib", "win32": "sen.dll"}.get(sys.platform, "libsen.so")
PIP_LINE = "install a C compiler, then: pip install --force-reinstall --no-deps ./runtime"


class NativeSession(ArenaSession):
    """A network in the C library.

    `input`, `invoke` and `output` run one input without a copy, for one thread; other threads may call `run` meanwhile.

    Attributes:
        input: `[n_in]`, or `[T, n_in]` where spike trains go in: what `invoke` reads.
        output: `[n_out]`: what `invoke` writes.
        arena_bytes: memory of the session besides the image, or instead of it where weights are packed; the first batch
            allocates scratch besides.
        kernels: name of the kernels in use: "avx512", "avx2", "neon_dotprod", "neon", "portable", "reference".
    """

    def __init__(self, data: Array, flags: int, threads: int = 1) -> None:
        library = _library()
        self._library = library
        flags |= CHECK_CHECKSUM | CHECK_VALUES
        size = ctypes.c_size_t()
        _check(library.sen_arena_size(data.ctypes.data, data.size, flags, ctypes.byref(size)))
        self.arena_bytes = size.value
        require(self.arena_bytes)
        self._arena: Array | None = _aligned(self.arena_bytes)
        model = ctypes.c_void_p()
        _check(library.sen_load(ctypes.byref(model), data.ctypes.data, data.size, self._arena.ctypes.data, size, flags))
        self._image = None if flags & PACK else data  # which the library reads in place
        self._model: Any = model.value
        self._runner: Any = native_threads.runner(library, self._model, threads)
        self._caller = native_call.Caller(model=self._runner.handle)
        self._hidden_steps = library.sen_timesteps(self._model)
        has_steps = self._hidden_steps and library.sen_reset(self._model) != _NO_STEPS
        self.timesteps = self._hidden_steps if has_steps else 0
        self.kernels: str = library.sen_kernels_name(self._model).decode()
        self._n_layers, self._layer = library.sen_layers(self._model), partial(library.sen_layer_output, self._model)
        n_in, n_out = library.sen_inputs(self._model), library.sen_outputs(self._model)
        self._n_out, self._finish = n_out, partial(library.sen_finish_readout, self._model)
        shape = (self._hidden_steps, n_in) if library.sen_takes_spike_train(self._model) else (n_in,)
        require(self.arena_bytes + 8 * (math.prod(shape) + n_out), f"{n_in:,} inputs, {n_out:,} outputs")
        super().__init__(shape, allow_nonfinite=True)  # the C library checks the inputs
        self.input, self.output = np.zeros(shape, np.float32), np.zeros(n_out, np.float32)
        self._infer_in_place = self._bind(self.input, self.output)
        self._call, self._turn = native_call.bind(self._caller, self._runner, shape, n_out, self._owners())

    @property
    def _is_stream_over(self) -> bool:
        return bool(self._caller.is_stream_over)

    @_is_stream_over.setter
    def _is_stream_over(self, value: bool) -> None:
        self._caller.is_stream_over = value

    def _owners(self) -> tuple[object, ...]:
        """What a function keeps that runs the model, also after `close`."""
        return self._arena, self._image, self._runner

    def _bind(self, x: Float32Array, y: Float32Array) -> Callable[[], int | None]:
        """The library's call on these arrays, which the caller keeps; it returns a status."""
        name = self._runner.run.__name__
        call = self._library[name]  # a function of its own, without types: the arguments are converted here, once
        pointers = map(ctypes.c_void_p, (self._runner.handle, x.ctypes.data, y.ctypes.data))
        return partial(call, *pointers, ctypes.c_size_t(1))

    def invoke(self) -> None:
        """One inference from `input` to `output`, without a copy."""
        with self._turn:
            if status := self._infer_in_place():
                _check(status, self.input)
            self._is_stream_over = True

    def run(self, x: ArrayLike) -> Array:
        """See `Session.run`. Inputs of float32 in C order are run without ctypes, batches from the second on."""
        y = self._call(x)
        return super().run(x) if y is None else y

    def bare_call(self, x: Array) -> Callable[[], Array]:
        """The library on `x [batch, ...]` without checks of its type and shape; for measurements.

        The input of one row is copied, a batch is read in place. No other thread may use the session meanwhile.
        """
        y = self.run(x)  # of the right shape
        stored = np.ascontiguousarray(x, np.float32)
        if len(stored) != 1:
            return partial(self._run, stored)
        row = stored.copy()
        infer, copy_output = self._bind(row, y), y.copy

        def call(_owners: object = self._owners()) -> Array:  # the memory that the rest points to
            row[...] = stored
            infer()
            return copy_output()

        return call

    def bare_loop(self, x: Array) -> Callable[[int], None]:
        """A function that runs the next n rows of `x [rows, ...]` in a loop in C, cyclically; for measurements.

        Rows are read in place. No other thread may use the session meanwhile.
        """
        self.run(x[:1])  # of the right shape
        x, rows = np.ascontiguousarray(x, np.float32), len(x)
        y = np.empty((rows, len(self.output)), np.float32)
        run_batch = self._library[self._runner.run.__name__]
        run_batch.restype, run_batch.argtypes = None, self._runner.run.argtypes
        handle, given, taken = self._runner.handle, x.ctypes.data, y.ctypes.data
        given_step, taken_step, at = x.strides[0], y.strides[0], 0

        def loop(n: int, _owners: object = (*self._owners(), x, y)) -> None:
            nonlocal at
            while True:
                count = min(n, rows - at)
                run_batch(handle, given + at * given_step, taken + at * taken_step, count)
                at = (at + count) % rows
                n -= count
                if n == 0:
                    return

        return loop

    def layer_ns(self, x: Float32Array) -> NDArray[np.uint64]:
        """Nanoseconds of each layer in the inferences of `x [rows, ...]`: `[rows, layers]`."""
        x = np.ascontiguousarray(x, np.float32)
        ns, profile = np.zeros((len(x), self._n_layers), np.uint64), self._library["sen_bench_profile"]
        profile.argtypes = [*[ctypes.c_void_p] * 2, *[ctypes.c_size_t] * 2, *[ctypes.c_void_p] * 2]
        with self._turn:
            self._check_open()
            self._is_stream_over = True
            y, values = np.empty(len(self.output), np.float32), math.prod(x.shape[1:])
            _check(profile(self._model, x.ctypes.data, values, len(x), y.ctypes.data, ns.ctypes.data), x)
        return ns

    def _run(self, rows: Float32Array) -> Array:
        runner, n_out = self._runner, len(self.output)
        caller, is_first = self._caller, self._caller.work is None and len(rows) > 1
        work_bytes = self._library.sen_rows_work_size(self._model) if is_first else 0
        require(runner.threads * work_bytes + 4 * len(rows) * n_out, f"{len(rows):,} rows of {n_out:,} outputs")
        y = np.empty((len(rows), n_out), np.float32)
        if work_bytes:
            caller.memory = _aligned(runner.threads * work_bytes)
            caller.work = caller.memory.ctypes.data
        if caller.work is None or len(rows) == 1:
            status = runner.run(runner.handle, rows.ctypes.data, y.ctypes.data, len(rows))
        else:
            status = runner.run_rows(runner.handle, caller.work, rows.ctypes.data, y.ctypes.data, len(rows))
        _check(status, rows)
        return y

    def _step(self, row: Float32Array) -> Array:
        y = np.empty(len(self.output), np.float32)
        _check(self._library.sen_step(self._model, row.ctypes.data, y.ctypes.data), row)
        return y

    def _reset(self) -> None:
        _check(self._library.sen_reset(self._model))

    def _release(self) -> None:
        """Drop the arena; arrays of the caller and bare calls own their memory."""
        self._infer_in_place = self._check_open
        self._call = native_call.general
        self._finish = None
        self._model = self._caller.model = self._caller.work = self._caller.memory = None
        self._arena = self._image = self._runner = None


def load(
    model: Model,
    threads: int = 1,
    *,
    kernels: str = "fastest",
    pack: bool = True,
    expand: bool = True,
    allow_nonfinite: bool = False,
) -> NativeSession:
    """A session on a `.sen` image.

    Args:
        model: path or bytes.
        threads: that share the rows of a batch, or the outputs of large layers; up to 256; no effect on Windows.
        kernels: one of `KERNELS`: "fastest" of this processor; the others are for comparison.
        pack: copy all weights into the order of the kernels; the image is not used afterwards. Dense weights become
            float32. Otherwise weights are read in place; a file is memory-mapped then, and must not change: if it is
            truncated while the session is open, the operating system ends the process (SIGBUS).
        expand: compute the weights of coordinates once; otherwise at each use, without memory for them.
        allow_nonfinite: run inputs that are NaN or infinite; results differ between kernels.
    """
    _library()
    threads = check_threads(threads)
    if kernels not in KERNELS:
        raise EngineError(f"no kernels called {kernels!r}; expected one of {', '.join(KERNELS)}")
    flags = KERNELS[kernels] | PACK * pack | ON_THE_FLY * (not expand) | ALLOW_NONFINITE * allow_nonfinite
    source = source_of(model)
    data = _content(source, mapped=not pack)
    try:
        with catch_allocation_errors():
            return NativeSession(data, flags, threads)
    except (EngineError, ImageError, MemoryLimitError) as error:
        if isinstance(error, ImageError):
            _explain(source)
        where = "" if isinstance(source, bytes) else f": {source}"
        raise type(error)(f"{error.message}{where}", error.hint) from error


def _content(source: bytes | Path, *, mapped: bool) -> Array:
    """Bytes of an image, aligned to `ALIGNMENT`."""
    if isinstance(source, bytes):
        data = _aligned(len(source))
        data[:] = np.frombuffer(source, np.uint8)
        return data
    with untrusted.open_regular(source, error=EngineError) as file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            raise ImageError(f"{source} is empty")
        if mapped:
            return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
        data = _aligned(size)
        return data[: file.readinto(data.data)]


def _explain(model: bytes | Path) -> None:
    """Raise the error of the Python reader, which names the file, the section and the neurons, if it finds one."""
    try:
        network = reference.expand(image.loads(model) if isinstance(model, bytes) else image.read(model))
        reference.initial_state(network, 1)
    except SenError as found:
        raise ImageError(found.message, found.hint) from found


def bandwidth(size: int, seconds: float) -> float | None:
    """Max read bandwidth of one core on a buffer of `size` bytes within `seconds`, in bytes per nanosecond.

    None without the library or its function.
    """
    try:
        function = _library()["sen_bench_bandwidth"]
    except (MissingExtraError, AttributeError):
        return None
    function.restype, function.argtypes = ctypes.c_double, [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_double]
    buffer = _aligned(size // BANDWIDTH_BYTES * BANDWIDTH_BYTES)
    buffer[...] = 1  # untouched memory would all be one page of the kernel
    return float(function(buffer.ctypes.data, buffer.size, seconds))


def profile(model: Model, inputs: Float32Array, threads: int = 1) -> list[LayerTime]:
    """Time of each layer in one thread; MACs and stored bytes are those of the image."""
    if threads > 1:
        raise EngineError(f"layers are profiled in one thread, not in {threads}")
    source = source_of(model)
    network = image.loads(source) if isinstance(source, bytes) else image.read(source)
    with load(model) as session:
        session.layer_ns(inputs)
        end, found = time.perf_counter() + SECONDS, [session.layer_ns(inputs)]
        while time.perf_counter() < end:
            found.append(session.layer_ns(inputs))
    return [
        LayerTime(
            f"layer{index}",
            float(ns) / 1000,
            layer.weight.macs,
            layer.nbytes,
            not network.is_spiking and not any(isinstance(leaf, Coordinates) for leaf in leaves(layer.weight)),
        )
        for index, (layer, ns) in enumerate(zip(network.layers, typical(np.concatenate(found))))
    ]


def version() -> str:
    """Version of this package; raises `MissingExtraError` where the library was not built."""
    _library()
    return sen_runtime.__version__


def _aligned(size: int) -> Array:
    """`[size]` bytes that start at a multiple of `ALIGNMENT`."""
    memory = np.zeros(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size]


def _check(status: int, x: Array | None = None) -> None:
    """Raise the error of a status; `x` is the input of the call."""
    if status in (0, _NO_STEPS):  # sessions without steps run those of hidden layers only
        return
    if status == _NONFINITE and x is not None:
        require_finite(x)
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
        *((f"sen_{what}", ctypes.c_uint32, [pointer]) for what in ("inputs", "outputs", "timesteps", "layers")),
        ("sen_takes_spike_train", ctypes.c_int, [pointer]),
        ("sen_kernels_name", ctypes.c_char_p, [pointer]),
        ("sen_layer_output", pointer, [pointer, ctypes.c_uint32, pointer]),
        *((f"sen_{what}", ctypes.c_int, [pointer, pointer, pointer]) for what in ("run", "step")),
        ("sen_run_batch", ctypes.c_int, [pointer, pointer, pointer, size]),
        ("sen_rows_work_size", size, [pointer]),
        ("sen_run_rows", ctypes.c_int, [pointer, pointer, pointer, pointer, size]),
        ("sen_finish_readout", ctypes.c_int, [pointer, pointer]),
        ("sen_reset", ctypes.c_int, [pointer]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


ENGINE = Engine(
    "native",
    (".sen",),
    load,
    version,
    is_threaded=True,
    pip_line=PIP_LINE,
    fast_patterns=("unstructured", "16x1"),
    profile=profile,
)
