"""Tensor files of torch and safetensors, read without running code.

Torch files are read with `torch.load(weights_only=True)`. Harmless objects next to the tensors, such as
`argparse.Namespace` or a numpy scalar, become placeholders without content: see `HARMLESS`.
"""

from __future__ import annotations

import json
import pickle
import pickletools
import re
import struct
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sen_edge.errors import CheckpointError
from sen_runtime.untrusted import printable, quote

if TYPE_CHECKING:
    from torch import Tensor

Float32Array = NDArray[np.float32]

TORCH_SUFFIXES = (".pt", ".pth", ".ckpt")
SUFFIXES = (*TORCH_SUFFIXES, ".safetensors")

#: Classes and functions that a pickle may name, replaced by `_Placeholder`: their code never runs.
HARMLESS = (
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *("numpy.dtype", "numpy.ndarray"),
    *("argparse.Namespace", "types.SimpleNamespace"),
    *(f"builtins.{name}" for name in ("bool", "dict", "float", "frozenset", "int", "list", "str", "tuple")),
    *(f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
    *(
        f"{module}.{name}"
        for module in ("pathlib", "pathlib._local")
        for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
    ),
)
#: Characters quoted of a message of another library.
MAX_REASON = 200
#: Characters of a name in a message.
MAX_NAME = 80
#: Exceptions of zipfile for a damaged, encrypted or unsupported archive.
DAMAGED = (
    zipfile.BadZipFile,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
)
#: torch keeps one list of safe globals per process.
_SAFE_GLOBALS = Lock()


class _Placeholder:
    """Placeholder of an object without content; `__name__` is that of its class."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


def _empty_dict(*_: object) -> dict[Any, Any]:
    """Replace a `defaultdict`; unpickling adds the items."""
    return {}


def _empty_list(*_: object) -> list[Any]:
    """Replace a `deque`."""
    return []


_SAFE: list[tuple[Any, str]] = [
    (_empty_dict, "collections.defaultdict"),
    (_empty_list, "collections.deque"),
    *((type(path.replace("_reconstruct", "ndarray"), (_Placeholder,), {}), path) for path in HARMLESS),
]


def quote_name(name: object) -> str:
    """Quote the name of an entry for a message."""
    return printable(name, MAX_NAME) if isinstance(name, str) else quote(name, MAX_NAME)


def read(path: Path, data: bytes) -> Mapping[Any, Any]:
    """Read the dict in a file.

    Args:
        path: of the file; the suffix selects the format.
        data: content of the file.

    Raises:
        CheckpointError: the file is damaged, holds no dict, or would run code.
    """
    return _read_safetensors(path, data) if path.suffix == ".safetensors" else _read_torch(path, data)


def _read_torch(path: Path, data: bytes) -> Mapping[Any, Any]:
    import torch

    if data[:4] == b"PK\x03\x04":
        _check_archive(path, data)
    try:
        with _SAFE_GLOBALS, torch.serialization.safe_globals(_SAFE):  # type: ignore[arg-type]
            content = torch.load(BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refusal(path, data, str(error)) from error
    except Exception as error:  # torch.load raises any type for a damaged file
        raise CheckpointError(f"{path} is damaged, or not a torch file: {_reason(error)}") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}; expected a dict of tensors",
            hint="save model.state_dict(), or a dict that holds it",
        )
    return content


def _reason(error: Exception) -> str:
    """Return the first line of a message of another library."""
    return printable(str(error).partition("\n")[0], MAX_REASON)


def _refusal(path: Path, data: bytes, reason: str) -> CheckpointError:
    """Return the error for a pickle with other classes, with code that saves its tensors."""
    is_archive = data[:4] == b"PK\x03\x04"
    if not is_archive and data[:1] != b"\x80":  # the first byte of a pickle
        return CheckpointError(f"{path} is not a torch file", hint="expected a file of torch.save")
    found = re.search(r"GLOBAL ([\w.]+)", reason)
    what = f"an object of {printable(found[1], MAX_REASON)}" if found else "a pickle that torch.save does not write"
    is_dict = _is_dict(data, is_archive=is_archive)
    kept = "{k: v for k, v in content.items() if isinstance(v, (dict, torch.Tensor))}"
    target = str(path.with_name(f"{path.stem}.state.pt"))
    return CheckpointError(
        f"{path} holds {what}; only tensors and plain values are read, because unpickling other objects could run code",
        hint="save the tensors where the classes can be imported:\n"
        f"content = torch.load({str(path)!r}, weights_only=False)\n"
        f"torch.save({kept if is_dict else 'content.state_dict()'}, {target!r})",
    )


def _is_dict(data: bytes, *, is_archive: bool) -> bool:
    """Return whether the outermost object of a torch file is a dict, not of a class such as a module."""
    n_before = 0 if is_archive else 3  # legacy files start with three pickles: magic number, version, machine
    try:
        if is_archive:
            with zipfile.ZipFile(BytesIO(data)) as archive:
                data = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
        stream = BytesIO(data)
        for _ in range(n_before):
            for _ in pickletools.genops(stream):
                pass
        opcodes = ((opcode.name, argument) for opcode, argument, _ in pickletools.genops(stream))
        name, argument = next(each for each in opcodes if each[0] != "PROTO")
    except (*DAMAGED, StopIteration):
        return False
    return name == "EMPTY_DICT" or (
        name == "GLOBAL" and argument in ("collections OrderedDict", "collections defaultdict")
    )


def _check_archive(path: Path, data: bytes) -> None:
    """Refuse compressed entries, which can expand to any size, and wrong checksums, which torch does not check."""
    try:
        archive = zipfile.ZipFile(BytesIO(data))
    except DAMAGED:
        raise CheckpointError(f"{path} is truncated", hint="copy it again") from None
    for entry in archive.infolist():
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > len(data):
            raise CheckpointError(
                f"{path}: entry {quote_name(entry.filename)} is compressed or larger than the file; "
                "torch.save writes neither"
            )
        try:
            if entry.CRC:  # torch.serialization.set_crc32_options(False) writes 0
                archive.read(entry)
        except DAMAGED as error:
            raise CheckpointError(f"{path} is damaged: {_reason(error)}", hint="copy it again") from None


def _read_safetensors(path: Path, data: bytes) -> Mapping[Any, Any]:
    import safetensors
    from safetensors.torch import load as load_tensors

    try:
        tensors: dict[Any, Any] = load_tensors(data)
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged, or not a safetensors file: {_reason(error)}") from error
    return tensors


def safetensors_metadata(data: bytes) -> Mapping[str, str]:
    """Return the metadata in the header of a safetensors file that `read` accepted."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]).get("__metadata__") or {}


def to_float32_array(name: object, tensor: object) -> Float32Array:
    """Convert a floating-point torch tensor to a float32 array of finite numbers.

    Raises:
        CheckpointError: another type; a view of more values than stored; a value beyond float32.
    """
    import torch

    if not isinstance(tensor, torch.Tensor):
        raise CheckpointError(f"{quote_name(name)} is a {type(tensor).__name__}; expected a tensor")
    what = f"tensor {quote_name(name)}"
    try:
        if tensor.is_nested or tensor.is_quantized or tensor.layout != torch.strided or not tensor.is_floating_point():
            raise CheckpointError(f"{what} is {tensor.dtype} {tensor.layout}; expected dense floating-point values")
        if tensor.device.type != "cpu":
            raise CheckpointError(
                f"{what} is on the device {tensor.device.type} and has no values; expected values",
                hint="save the model after its parameters are loaded or initialized",
            )
        check_storage(name, tensor)
        return _float32(what, tensor.detach().resolve_neg())
    except (RuntimeError, TypeError) as error:  # tensor classes and dtypes without conversion
        raise CheckpointError(f"{what} cannot be read: {_reason(error)}") from error


def check_storage(name: object, tensor: Tensor) -> None:
    """Refuse a strided tensor with more values than the file stores for it.

    Raises:
        CheckpointError: more values than stored.
    """
    n_stored = tensor.untyped_storage().nbytes() // tensor.element_size()
    if tensor.numel() > n_stored:
        raise CheckpointError(
            f"tensor {quote_name(name)} has shape {quote(list(tensor.shape))}, but the file stores {n_stored} values",
            hint="save tensor.contiguous() instead of an expanded view",
        )


def _float32(what: str, tensor: Tensor) -> Float32Array:
    import torch

    array: Float32Array = np.ascontiguousarray(tensor.to(torch.float32).numpy()).reshape(tuple(tensor.shape))
    if np.isfinite(array).all():
        return array
    at = np.argwhere(~np.isfinite(array))[0].tolist()
    value = float(tensor[tuple(at)])
    if np.isfinite(value):
        raise CheckpointError(f"{what} holds {value:.6g} at {at}; expected at most 3.4e38, the range of float32")
    raise CheckpointError(
        f"{what} holds {value} at {at}; expected finite numbers",
        hint="training diverged: lower the learning rate, or use an earlier checkpoint",
    )
