"""Inference of a native session without ctypes: the library that c/python/call.c is built into."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, Optional

import numpy as np

import sen_runtime
from sen_runtime.engines.native_threads import Runner
from sen_runtime.engines.session import Array

LIBRARY = "libsen_call.so"
#: Versions of numpy's ABI with the arrays that call.c declares: numpy 1 and 2.
_ARRAY_VERSIONS = (0x01000009, 0x02000000)
#: PyArray_GetNDArrayCVersion and PyArray_NewFromDescr in numpy's table of functions.
_GET_VERSION, _NEW_FROM_DESCR = 0, 94

#: Outputs of an input or a batch; None for arguments that only the general way takes.
Call = Callable[[Any], Optional[Array]]


class Caller(ctypes.Structure):
    """A session, as call.c declares it.

    Attributes:
        model: the library's model or team; null after the session is closed.
        work: address of `memory`, the scratch of a batch; null before the first one.
        is_stream_over: whether a run has changed the state of a spiking network.
    """

    _fields_ = (
        ("_run", ctypes.c_void_p),
        ("_run_rows", ctypes.c_void_p),
        ("model", ctypes.c_void_p),
        ("work", ctypes.c_void_p),
        ("_create", ctypes.c_void_p),
        ("_ndarray", ctypes.py_object),
        ("_float32", ctypes.py_object),
        ("_row", ctypes.c_ssize_t * 2),
        ("_outputs", ctypes.c_ssize_t),
        ("_dimensions", ctypes.c_int),
        ("is_stream_over", ctypes.c_int),
        ("_lock", ctypes.c_uint64 * 8),
    )
    model: int | None
    work: int | None
    memory: Array | None
    is_stream_over: int


@dataclass(frozen=True)
class Turn:
    """A lock as a context manager.

    Attributes:
        acquire: wait for the lock.
        release: give it back.
    """

    acquire: Callable[[], object]
    release: Callable[[], object]

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


def bind(
    caller: Caller, runner: Runner, row: tuple[int, ...], n_out: int, owners: tuple[Any, ...]
) -> tuple[Call, Turn]:
    """The function that runs a session, and the lock that it holds meanwhile.

    The function is `general` where the library was not built, or Python or numpy is another than it was written for.

    Args:
        caller: of the session, with its model or team.
        runner: what runs it.
        row: shape of an input.
        n_out: number of outputs.
        owners: of the memory that the model uses.
    """
    found = _library()
    if found is not None:
        library, create = found
        caller._run, caller._run_rows = (ctypes.cast(call, ctypes.c_void_p) for call in (runner.run, runner.run_rows))
        caller._create = create
        caller._ndarray, caller._float32 = np.ndarray, np.dtype(np.float32)
        caller._row[: len(row)], caller._outputs, caller._dimensions = row, n_out, len(row)
        example, address = np.zeros((2, 3), np.float32), ctypes.byref(caller)
        if library.sen_call_init(address, example, example.ctypes.data):
            call = library.sen_call_bind(address, (caller, *owners), 0)
            return call, Turn(*(library.sen_call_bind(address, (caller,), which) for which in (1, 2)))
    lock = Lock()
    return general, Turn(lock.acquire, lock.release)


def general(x: object) -> None:
    """Take no input."""


@lru_cache(maxsize=1)
def _library() -> tuple[ctypes.PyDLL, int] | None:
    """The library, and the address of PyArray_NewFromDescr."""
    if sys.platform == "win32" or sys.implementation.name != "cpython" or sys.abiflags or hasattr(sys, "getobjects"):
        return None  # objects of other builds of Python have other fields
    try:
        library = ctypes.PyDLL(str(Path(sen_runtime.__file__).parent / "c" / LIBRARY))
    except OSError:  # not built
        return None
    library.sen_call_init.argtypes = (ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
    library.sen_call_bind.restype = ctypes.py_object
    library.sen_call_bind.argtypes = (ctypes.c_void_p, ctypes.py_object, ctypes.c_int)
    core: Any = np._core if hasattr(np, "_core") else np.core
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    table = ctypes.cast(pointer(core._multiarray_umath._ARRAY_API, None), ctypes.POINTER(ctypes.c_void_p))
    if ctypes.CFUNCTYPE(ctypes.c_uint)(table[_GET_VERSION])() not in _ARRAY_VERSIONS:
        return None
    return library, table[_NEW_FROM_DESCR]
