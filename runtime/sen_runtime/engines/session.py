"""Base classes of sessions: inputs, threads, close; `ArenaSession` for networks of the C code."""

from __future__ import annotations

import ctypes
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from threading import Lock
from typing import Any, NoReturn, TypeVar, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sen_runtime import untrusted
from sen_runtime.errors import EngineError
from sen_runtime.memory_limits import require

Array = NDArray[Any]
Float32Array = NDArray[np.float32]
#: The path or the bytes of a file.
Model = Union[bytes, str, "os.PathLike[str]"]
Self = TypeVar("Self", bound="Session")


class Session(ABC):
    """A loaded model; the base class of the sessions of all engines.

    `run` and `run_all` accept an array or nested lists: a batch `[batch, n_in]`, or `[batch, T, n_in]` of spike trains;
    or a single input `[n_in]` (`[T, n_in]`), whose outputs have no batch axis either. Inputs are finite, unless the
    session was loaded with `allow_nonfinite=True`. Outputs are not checked: sums beyond float32 overflow.

    Any number of threads may use one session. A session is a context manager. It cannot be pickled.

    The session of a spiking network that runs step by step (a `.sen` image, exported C, a step model) holds one stream:
    `step` continues it, `reset` begins a new one, and `run` and `run_all` end it. `step` raises an error then, until
    `reset` is called.

    An engine implements `_run`, and optionally `_run_all`, `_step`, `_reset` and `_release`.

    Attributes:
        batch_size: rows per call, or None for any number.
        timesteps: of a spiking network that runs step by step; else 0.
    """

    batch_size: int | None = None
    timesteps: int = 0
    _is_stream_over = False

    def __init__(
        self, row_shape: tuple[int | None, ...], *, allow_nonfinite: bool = False, is_reentrant: bool = False
    ) -> None:
        """Open a session.

        Args:
            row_shape: shape of one row, without the batch axis; None for a dynamic size.
            allow_nonfinite: run inputs that are NaN or infinite.
            is_reentrant: whether several threads may be in `_run` at once; otherwise a lock serializes them.
        """
        self._row_shape = row_shape
        self._refuses_nonfinite = not allow_nonfinite
        self._turn: AbstractContextManager[object] = nullcontext() if is_reentrant else Lock()
        self._is_closed = False

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one row: `(n_in,)`, or `(T, n_in)` of a spike train.

        Raises:
            EngineError: a size is dynamic.
        """
        sizes = tuple(size for size in self._row_shape if size is not None)
        if len(sizes) != len(self._row_shape):
            raise EngineError(f"the model's input has rows of shape {_listed(self._row_shape)}; expected known sizes")
        return sizes

    def run(self, x: ArrayLike) -> Array:
        """Outputs `[batch, n_out]`, or `[n_out]` of a single input.

        Raises:
            EngineError: an input of another shape or type, an input that is not finite, or a closed session.
        """
        rows, is_single = self._rows(x)
        with self._turn:
            self._check_open()
            self._is_stream_over = True
            y = self._run(rows)
        return y[0] if is_single else y

    def run_all(self, x: ArrayLike) -> dict[str, Array]:
        """`output`, and `layerN/activation [batch, n]` of every hidden layer that the model has as an output.

        Raises:
            EngineError: see `run`.
        """
        rows, is_single = self._rows(x)
        with self._turn:
            self._check_open()
            self._is_stream_over = True
            values = self._run_all(rows)
        return {name: value[0] for name, value in values.items()} if is_single else values

    def step(self, x: ArrayLike) -> Array:
        """One time step of one example, `[n_in]` to `[n_out]`: the last layer's membranes, or its spikes if they count.

        The input is standardized, and membranes are restored, as by `run`.

        Raises:
            EngineError: the network does not run step by step, an input of another shape or one that is not finite, a
                stream that has ended, or a closed session.
        """
        row = to_float32(x)
        expected = self._row_shape[-1:]
        if row.ndim != 1 or expected not in ((None,), row.shape):
            raise EngineError(f"the input has shape {list(row.shape)}; expected {_listed(expected)}")
        if self._refuses_nonfinite:
            require_finite(row)
        with self._turn:
            self._check_steps()
            if self._is_stream_over:
                raise EngineError("a run has ended the stream of this session", "call reset before the next step")
            return self._step(row)

    def reset(self) -> None:
        """Set the membranes to 0.

        Raises:
            EngineError: the network does not run step by step, or the session is closed.
        """
        with self._turn:
            self._check_steps()
            self._begin()

    def close(self) -> None:
        """Release the model. Closing a closed session has no effect."""
        with self._turn:
            if not self._is_closed:
                self._is_closed = True
                self._release()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a session cannot be pickled or copied; load the model in each process")

    @abstractmethod
    def _run(self, rows: Float32Array) -> Array:
        """Outputs `[batch, n_out]`; `rows` are checked and in C order, and this thread holds the lock."""

    def _run_all(self, rows: Float32Array) -> dict[str, Array]:
        """Outputs by name."""
        return {"output": self._run(rows)}

    def _step(self, row: Float32Array) -> Array:
        """One time step `[n_in]` to `[n_out]`; called where `timesteps` is not 0, like `_reset`."""
        raise NotImplementedError

    def _reset(self) -> None:
        """Membranes to 0."""
        raise NotImplementedError

    def _begin(self) -> None:
        self._reset()
        self._is_stream_over = False

    def _check_steps(self) -> None:
        self._check_open()
        if not self.timesteps:
            raise EngineError(
                "the model does not run step by step",
                "only spiking networks do: as .sen, as C, or exported to ONNX or TFLite with --snn step",
            )

    def _release(self) -> None:  # noqa: B027  optional
        """Free memory."""

    def _check_open(self) -> None:
        if self._is_closed:
            raise EngineError("the session is closed", "load the model again")

    def _rows(self, x: ArrayLike) -> tuple[Float32Array, bool]:
        """Rows `[batch, ...]` of an input, and whether it is a single one."""
        array = to_float32(x)
        is_single = array.ndim == len(self._row_shape)
        rows = array[np.newaxis] if is_single else array
        row = rows.shape[1:]
        if row != self._row_shape and not (
            len(row) == len(self._row_shape) and all(want in (None, got) for got, want in zip(row, self._row_shape))
        ):
            batched = _listed((self.batch_size or "batch", *self._row_shape))
            single = f" or {_listed(self._row_shape)}" if self.batch_size in (None, 1) else ""
            raise EngineError(f"the input has shape {list(array.shape)}; expected {batched}{single}")
        if self.batch_size not in (None, len(rows)):
            raise EngineError(f"the model takes {self.batch_size} inputs at once, not {len(rows)}")
        if self._refuses_nonfinite:
            require_finite(rows)
        return rows, is_single


class ArenaSession(Session):
    """A network and its arena; a lock serializes threads.

    Attributes:
        _layer: C function from the index of a layer and a pointer for its size to the address of its output, or None.
    """

    _n_layers: int
    _n_out: int
    #: Steps that hidden layers make.
    _hidden_steps = 0
    _layer: Callable[[int, Any], int | None]
    #: C function that turns the readout of a stream into outputs, in place; None where it is the output.
    _finish: Callable[[int], object] | None = None

    def finish(self, readout: ArrayLike) -> Array:
        """Outputs `[n_out]` of `run` from the mean, the last or the sum of the values of `step`, by the readout.

        Counts of spikes are restored to the units of outputs, as membranes are by `step`; then the output activation.

        Raises:
            EngineError: not `[n_out]` numbers, the network does not run step by step, or the session is closed.
        """
        y = to_float32(readout).copy()
        if y.shape != (self._n_out,):
            raise EngineError(f"the readout has shape {list(y.shape)}; expected [{self._n_out}]")
        with self._turn:
            self._check_steps()
            if self._finish:
                self._finish(y.ctypes.data)
        return y

    def layer_output(self, index: int) -> Array:
        """Last output of a layer, `[n]`: activations of the last `run` of one row, or spikes of the last `step`.

        With several threads the last call may be another thread's; `run_all` is atomic. The last layer has none.
        """
        with self._turn:
            self._check_open()
            return self._layer_output(index)

    def _run_all(self, rows: Float32Array) -> dict[str, Array]:
        outputs = self._run(rows)
        hidden = [self._hidden(row) for row in rows]
        self._is_stream_over = True  # `_hidden` has begun one
        return {"output": outputs, **{f"layer{i}/activation": np.stack(layer) for i, layer in enumerate(zip(*hidden))}}

    def _hidden(self, row: Float32Array) -> list[Array]:
        """Activations of the hidden layers for one row; spikes are counted step by step."""
        hidden = range(self._n_layers - 1)
        if not self._hidden_steps:
            self._run(row[np.newaxis])
            return [self._layer_output(i) for i in hidden]
        self._begin()
        steps = []
        for t in range(self._hidden_steps):
            self._step(row[t] if row.ndim == 2 else row)
            steps.append([self._layer_output(i) for i in hidden])
        return [np.sum(spikes, axis=0) for spikes in zip(*steps)]

    def _layer_output(self, index: int) -> Array:
        size = ctypes.c_uint32()
        address = self._address_of(index, size)
        return np.ctypeslib.as_array((ctypes.c_float * size.value).from_address(address)).copy()

    def _address_of(self, index: int, size: ctypes.c_uint32) -> int:
        """Address of the output of a layer; sets `size` to the number of its values."""
        address = self._layer(index, ctypes.byref(size))
        if not address:
            raise EngineError(f"layer {index} has no output in the arena: it is the last layer, or does not exist")
        return address


def to_float32(x: ArrayLike) -> Float32Array:
    """Convert to aligned float32 in C order, without a copy if possible; `EngineError` for what is not numbers."""
    try:
        array = np.asarray(x)
    except (ValueError, TypeError) as error:  # nested lists of different lengths
        raise EngineError(f"the input is not an array: {error}") from None
    if array.dtype == np.float32 and array.flags.c_contiguous and array.flags.aligned:
        return array
    if array.dtype.kind not in "fiub":
        raise EngineError(f"the input has dtype {array.dtype}; expected real numbers")
    require(4 * array.size, f"an input of shape {list(array.shape)} as float32")
    with np.errstate(over="ignore"):  # infinite beyond float32, which `require_finite` refuses
        return array.astype(np.float32, order="C")


def require_finite(x: Array) -> None:
    """Raise `EngineError` where a value of `x` is NaN or infinite; the message names it."""
    finite = np.isfinite(x)
    if 0 in finite.tobytes():  # several times as fast as finite.all() for one row
        at = tuple(map(int, np.argwhere(~finite)[0]))
        raise EngineError(
            f"the input at {list(at)} is {x[at]}; expected finite numbers within float32",
            "load(..., allow_nonfinite=True) runs such inputs",
        )


def source_of(model: Model) -> bytes | Path:
    """The path or the bytes of a model; an `EngineError` for something else."""
    if isinstance(model, bytes):
        return model
    if isinstance(model, (str, os.PathLike)):
        return Path(model)
    raise EngineError(f"the model is a {type(model).__name__}; expected a path or the bytes of a file")


def read_model(model: Model) -> bytes:
    """Bytes of a model."""
    source = source_of(model)
    return source if isinstance(source, bytes) else untrusted.read_regular(source, error=EngineError)


def _listed(shape: tuple[object, ...]) -> str:
    return f"[{', '.join('?' if size is None else str(size) for size in shape)}]"
