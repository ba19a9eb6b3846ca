"""Files of tensors: what torch and safetensors wrote, read without running anything in them.

A torch file is read with `torch.load(weights_only=True)` and nothing else. Objects that training code leaves next to
its tensors, such as `argparse.Namespace` or a numpy scalar, are read as placeholders without content: see `HARMLESS`.
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

#: Classes and functions that a pickle may name, read as `_Placeholder`: their own code never runs.
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
#: Characters of another library's message that are repeated.
MAX_REASON = 200
#: Characters of a name in a message.
MAX_NAME = 80
#: What zipfile raises for an archive that is damaged, encrypted, or of another kind.
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
#: torch's list of safe globals belongs to the process, not to a thread.
_SAFE_GLOBALS = Lock()


class _Placeholder:
    """Stands for an object whose content is not needed; `__name__` is that of its class."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


def _empty_dict(*_: object) -> dict[Any, Any]:
    """A `defaultdict`, read as a dict: the items follow."""
    return {}


def _empty_list(*_: object) -> list[Any]:
    """A `deque`, read as a list."""
    return []


_SAFE: list[tuple[Any, str]] = [
    (_empty_dict, "collections.defaultdict"),
    (_empty_list, "collections.deque"),
    *((type(path.replace("_reconstruct", "ndarray"), (_Placeholder,), {}), path) for path in HARMLESS),
]


def shown(name: object) -> str:
    """The name of an entry, for a message."""
    return printable(name, MAX_NAME) if isinstance(name, str) else quote(name, MAX_NAME)


def read(path: Path, data: bytes) -> Mapping[Any, Any]:
    """The dict that a file holds.

    Args:
        path: of the file; its suffix chooses the format.
        data: its content.

    Raises:
        CheckpointError: the file is damaged, holds something else, or would run code.
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
    except Exception as error:  # torch.load raises whatever a damaged file leads it into
        raise CheckpointError(f"{path} is damaged, or not a torch file: {_reason(error)}") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}; expected a dict of tensors",
            hint="save model.state_dict(), or a dict that holds it",
        )
    return content


def _reason(error: Exception) -> str:
    """The first line of another library's message."""
    return printable(str(error).partition("\n")[0], MAX_REASON)


def _refusal(path: Path, data: bytes, reason: str) -> CheckpointError:
    """Which object is refused, and the lines that save the file without it."""
    is_archive = data[:4] == b"PK\x03\x04"
    if not is_archive and data[:1] != b"\x80":  # the first byte of a pickle
        return CheckpointError(f"{path} is not a torch file", hint="expected what torch.save wrote")
    found = re.search(r"GLOBAL ([\w.]+)", reason)
    what = f"an object of {printable(found[1], MAX_REASON)}" if found else "a pickle that torch.save does not write"
    is_dict = _is_dict(data, is_archive=is_archive)
    kept = "{k: v for k, v in content.items() if isinstance(v, (dict, torch.Tensor))}"
    target = str(path.with_name(f"{path.stem}.state.pt"))
    return CheckpointError(
        f"{path} holds {what}; only tensors and plain values are read, because unpickling other objects could run code",
        hint="save its tensors again where its classes can be imported:\n"
        f"content = torch.load({str(path)!r}, weights_only=False)\n"
        f"torch.save({kept if is_dict else 'content.state_dict()'}, {target!r})",
    )


def _is_dict(data: bytes, *, is_archive: bool) -> bool:
    """Whether the outermost object of a torch file is a dict; else it is of a class, such as a module."""
    n_before = 0 if is_archive else 3  # a legacy file begins with three pickles: magic number, version, machine
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
    """Refuse compressed entries, which can unpack to any size, and wrong checksums, which torch does not compare."""
    try:
        archive = zipfile.ZipFile(BytesIO(data))
    except DAMAGED:
        raise CheckpointError(f"{path} is cut off: a torch file without its end", hint="copy it again") from None
    for entry in archive.infolist():
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > len(data):
            raise CheckpointError(
                f"{path}: entry {shown(entry.filename)} is compressed or larger than the file; "
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
    """The texts in the header of a safetensors file that `read` has accepted."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]).get("__metadata__") or {}


def as_array(name: object, tensor: object) -> Float32Array:
    """A floating-point torch tensor as a float32 array of finite numbers.

    Raises:
        CheckpointError: something else; a view of more values than are stored; a value beyond float32.
    """
    import torch

    if not isinstance(tensor, torch.Tensor):
        raise CheckpointError(f"{shown(name)} is a {type(tensor).__name__}; expected a tensor")
    what = f"tensor {shown(name)}"
    try:
        if tensor.is_nested or tensor.is_quantized or tensor.layout != torch.strided or not tensor.is_floating_point():
            raise CheckpointError(f"{what} is {tensor.dtype} {tensor.layout}; expected dense floating-point values")
        if tensor.device.type != "cpu":
            raise CheckpointError(
                f"{what} is on the device {tensor.device.type} and has no values; expected values",
                hint="save the model after its parameters were loaded or initialized",
            )
        check_stored(name, tensor)
        return _float32(what, tensor.detach().resolve_neg())
    except (RuntimeError, TypeError) as error:  # of tensor classes and dtypes that do not convert
        raise CheckpointError(f"{what} cannot be read: {_reason(error)}") from error


def check_stored(name: object, tensor: Tensor) -> None:
    """Refuse a strided tensor that claims more values than the file holds for it.

    Raises:
        CheckpointError: it does.
    """
    n_stored = tensor.untyped_storage().nbytes() // tensor.element_size()
    if tensor.numel() > n_stored:
        raise CheckpointError(
            f"tensor {shown(name)} has shape {quote(list(tensor.shape))}, but the file stores {n_stored} values for it",
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
        hint="the training diverged: lower its learning rate, or take an earlier checkpoint",
    )
