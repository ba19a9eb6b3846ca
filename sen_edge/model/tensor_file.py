"""Tensor files of torch and safetensors, read without running code.

Torch files are read with `torch.load(weights_only=True)`. Harmless objects next to the tensors, such as
`argparse.Namespace` or a numpy scalar, become placeholders without content: see `HARMLESS`.
"""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
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

SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors")

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
#: torch keeps one list of safe globals per process.
_SAFE_GLOBALS = Lock()


class _Placeholder:
    """Placeholder of an object without content; `__name__` is that of its class."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


_SAFE: list[tuple[Any, str]] = [
    (lambda *_: {}, "collections.defaultdict"),  # unpickling adds the items
    (lambda *_: [], "collections.deque"),
    *((type(path.replace("_reconstruct", "ndarray"), (_Placeholder,), {}), path) for path in HARMLESS),
]


def quote_name(name: object) -> str:
    """Quote the name of an entry for a message."""
    return printable(name, MAX_NAME) if isinstance(name, str) else quote(name, MAX_NAME)


def check_suffix(path: Path, suffixes: Sequence[str] = SUFFIXES) -> None:
    """Refuse a path with another suffix."""
    if path.suffix not in suffixes:
        raise CheckpointError(f"{path}: suffix is {quote(path.suffix)}; expected one of {', '.join(suffixes)}")


def read(path: Path, data: bytes) -> Mapping[Any, Any]:
    """Read the dict in the content of a file; the suffix of its path selects the format."""
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
    if data[:4] != b"PK\x03\x04" and data[:1] != b"\x80":  # the first byte of a pickle
        return CheckpointError(f"{path} is not a torch file", hint="expected a file of torch.save")
    found = re.search(r"GLOBAL ([\w.]+)", reason)
    what = f"an object of {printable(found[1], MAX_REASON)}" if found else "a pickle that torch.save does not write"
    return CheckpointError(
        f"{path} holds {what}; only tensors and plain values are read, because unpickling other objects could run code",
        hint="save the tensors where the classes can be imported:\n"
        f"content = torch.load({str(path)!r}, weights_only=False)\n"
        "state = content.state_dict() if isinstance(content, torch.nn.Module) else content\n"
        "state = {k: v for k, v in state.items() if isinstance(v, (dict, torch.Tensor))}\n"
        f"torch.save(state, {str(path.with_name(f'{path.stem}.state.pt'))!r})",
    )


def _check_archive(path: Path, data: bytes) -> None:
    """Refuse compressed entries, which can expand to any size, and wrong checksums, which torch does not check."""
    try:
        archive = zipfile.ZipFile(BytesIO(data))
        odd = [each for each in archive.infolist() if each.compress_type or each.file_size > len(data)]
        for entry in () if odd else archive.infolist():
            if entry.CRC:  # torch.serialization.set_crc32_options(False) writes 0
                archive.read(entry)
    except Exception as error:  # zipfile raises many types for a damaged, encrypted or unsupported archive
        raise CheckpointError(f"{path} is damaged or truncated: {_reason(error)}", hint="copy it again") from None
    if odd:
        raise CheckpointError(
            f"{path}: entry {quote_name(odd[0].filename)} is compressed or larger than the file; "
            "torch.save writes neither"
        )


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


def check_tensor(name: object, tensor: object, expected: str = "a tensor") -> Tensor:
    """Return a dense torch tensor; refuse another object, and a view of more values than the file stores."""
    import torch

    what = f"tensor {quote_name(name)}"
    if not isinstance(tensor, torch.Tensor):
        raise CheckpointError(f"{what} is a {type(tensor).__name__}; expected {expected}")
    if tensor.is_nested or tensor.is_quantized or tensor.layout != torch.strided:
        raise CheckpointError(f"{what} is {tensor.dtype} {tensor.layout}; expected dense values")
    if tensor.device.type != "cpu":
        raise CheckpointError(
            f"{what} is on the device {tensor.device.type} and has no values; expected values",
            hint="save the model after its parameters are loaded or initialized",
        )
    n_stored = tensor.untyped_storage().nbytes() // tensor.element_size()
    if tensor.numel() > n_stored:
        raise CheckpointError(
            f"{what} has shape {quote(list(tensor.shape))}, but the file stores {n_stored} values",
            hint="save tensor.contiguous() instead of an expanded view",
        )
    return tensor


def to_float32_array(name: object, content: object) -> Float32Array:
    """Convert a floating-point torch tensor to finite float32 numbers; refuse other content."""
    import torch

    try:
        tensor = check_tensor(name, content)
        if not tensor.is_floating_point():
            raise CheckpointError(f"tensor {quote_name(name)} is {tensor.dtype}; expected floating-point values")
        exact = tensor.detach().resolve_neg()
        array: Float32Array = np.ascontiguousarray(exact.to(torch.float32).numpy()).reshape(tuple(exact.shape))
        check_finite(name, array, exact)
    except (RuntimeError, TypeError) as error:  # tensor classes and dtypes without conversion
        raise CheckpointError(f"tensor {quote_name(name)} cannot be read: {_reason(error)}") from error
    return array


def check_finite(name: object, array: Float32Array, exact: Tensor | None = None) -> None:
    """Refuse numbers that are not finite in float32; `exact` has their values before the conversion."""
    if np.isfinite(array).all():
        return
    at = np.argwhere(~np.isfinite(array))[0].tolist()
    value = float((array if exact is None else exact)[tuple(at)])
    raise CheckpointError(
        f"tensor {quote_name(name)} holds {value:.6g} at {at}; expected finite numbers up to 3.4e38, as float32 has",
        hint="" if np.isfinite(value) else "training diverged: lower the learning rate, or use an earlier checkpoint",
    )
