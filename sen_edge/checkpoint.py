"""The checkpoint format: reading, checking, writing, and the way to a network.

The specification is docs/reference/checkpoint.md. A `.pt` file is read with `torch.load(weights_only=True)`
and nothing else; a `.safetensors` file carries the same content. Everything is checked before any maths.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sen_edge.config import SpatialConfig
from sen_edge.errors import CheckpointError, OutputError
from sen_edge.precompute import weights
from sen_edge.storage import stored
from sen_runtime.errors import NetworkError
from sen_runtime.files import write_atomic
from sen_runtime.network import Layer, Network
from sen_runtime.operators import Coordinates, WeightOperator

if TYPE_CHECKING:
    from sen_edge.spatial import SpatialNetwork

FORMAT = "sen-edge-checkpoint"
VERSION = 1
TORCH_SUFFIXES = (".pt", ".pth", ".ckpt")
SUFFIXES = (*TORCH_SUFFIXES, ".safetensors")

#: Start of the names of the tensors that say which neurons are connected.
SYNAPSES = "synapses."

Float32Array = NDArray[np.float32]
Synapses = NDArray[np.bool_]


@dataclass(frozen=True)
class Checkpoint:
    """A trained network as data; complete and checked once it exists.

    Attributes:
        config: shape and constants.
        tensors: float32 arrays under the names and shapes of `config.tensor_shapes()`.
        synapses: weight layer -> `[n_out, n_in]`, which neurons are connected; layers that are not named have all.
        metadata: free text that travels with it (how it was trained, accuracy, licence).
        sha256: of the file it was read from, or empty.
    """

    config: SpatialConfig
    tensors: Mapping[str, Float32Array]
    metadata: Mapping[str, str] = field(default_factory=dict)
    sha256: str = ""
    synapses: Mapping[int, Synapses] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shapes = self.config.tensor_shapes()
        missing = [name for name in shapes if name not in self.tensors]
        if missing:
            raise CheckpointError(f"tensors are missing: {', '.join(missing)}")
        unknown = [name for name in self.tensors if name not in shapes]
        if unknown:
            raise CheckpointError(f"tensors do not belong to the configuration: {', '.join(unknown)}")
        for name, shape in shapes.items():
            tensor = self.tensors[name]
            if tensor.shape != shape:
                raise CheckpointError(f"tensor {name} has shape {list(tensor.shape)}; expected {list(shape)}")
            if not np.all(np.isfinite(tensor)):
                where = np.argwhere(~np.isfinite(tensor))[0].tolist()
                raise CheckpointError(
                    f"tensor {name} holds {tensor[tuple(where)]} at {where}; expected finite numbers",
                    hint="the training diverged: lower its learning rate, or take an earlier checkpoint",
                )
        sizes = self.config.layer_sizes
        for index, mask in self.synapses.items():
            expected = (sizes[index + 1], sizes[index]) if 0 <= index < len(sizes) - 1 else None
            if mask.shape != expected or mask.dtype != bool:
                found = f"{mask.dtype} {list(mask.shape)}"
                raise CheckpointError(f"synapses of layer {index} are {found}; expected bool {expected}")

    @property
    def n_parameters(self) -> int:
        """Learned numbers."""
        return sum(int(tensor.size) for tensor in self.tensors.values())


def load(path: Path, *, map_path: Path | None = None) -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: `.pt`, `.pth`, `.ckpt` or `.safetensors`.
        map_path: TOML map that says where a foreign state dict keeps its tensors; see `sen_edge.foreign`.

    Raises:
        CheckpointError: the file is absent, damaged, would execute code, or does not hold a network.
    """
    data = _read_bytes(path)
    sha256 = hashlib.sha256(data).hexdigest()
    if path.suffix not in SUFFIXES:
        raise CheckpointError(f"{path}: suffix is {path.suffix!r}; expected one of {', '.join(SUFFIXES)}")
    content = _read_safetensors(path, data) if path.suffix == ".safetensors" else _read_torch(path, data)
    try:
        if map_path is not None:
            from sen_edge.foreign import apply_map

            return apply_map(content, map_path, sha256)
        return _from_content(content, sha256)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error.message}", error.hint) from error


def save(checkpoint: Checkpoint, path: Path, *, replace: bool = False) -> None:
    """Write a checkpoint, whole or not at all; the suffix chooses the form.

    Raises:
        CheckpointError: an unknown suffix.
        OutputError: the file exists and `replace` is False, or cannot be written.
    """
    data = dumps(checkpoint, path)
    try:
        write_atomic(path, data, replace=replace)
    except FileExistsError:
        raise OutputError(f"{path} exists", hint="pass --force to replace it") from None
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


def dumps(checkpoint: Checkpoint, path: Path) -> bytes:
    """What `save` writes to `path`.

    Raises:
        CheckpointError: an unknown suffix.
    """
    if path.suffix not in SUFFIXES:
        raise CheckpointError(f"{path}: suffix is {path.suffix!r}; expected one of {', '.join(SUFFIXES)}")
    return _safetensors_bytes(checkpoint) if path.suffix == ".safetensors" else _torch_bytes(checkpoint)


def from_module(network: SpatialNetwork, metadata: Mapping[str, str] | None = None) -> Checkpoint:
    """The parameters of a torch network as a checkpoint."""
    tensors = {name: value.detach().float().numpy().copy() for name, value in network.named_tensors().items()}
    synapses = {
        index: layer.synapses.numpy() != 0
        for index, layer in enumerate(network.linears())
        if layer.synapses is not None
    }
    return Checkpoint(network.config, tensors, dict(metadata or {}), synapses=synapses)


def to_module(checkpoint: Checkpoint) -> SpatialNetwork:
    """A torch network with the checkpoint's parameters, in evaluation mode."""
    import torch

    from sen_edge.spatial import build

    network = build(checkpoint.config)
    with torch.no_grad():
        for name, parameter in network.named_tensors().items():
            parameter.copy_(torch.from_numpy(checkpoint.tensors[name]))
    for index, mask in checkpoint.synapses.items():
        network.linears()[index].synapses = torch.from_numpy(mask.astype(np.float32))
    return network.eval()


def to_network(checkpoint: Checkpoint) -> Network:
    """The checkpoint as a network of `Coordinates`: the start of every export.

    A layer with a pattern of its own, `checkpoint.synapses`, has the weights that are left instead.

    Raises:
        NetworkError: such weights cannot be computed, because neurons coincide; the layer is named.
    """
    config, tensors = checkpoint.config, checkpoint.tensors
    positions = [_full_positions(config, tensors[f"positions.{i}"], i) for i in range(len(config.layer_sizes))]
    layers = []
    for index, neuron in enumerate(config.neurons()):
        inhibition = tensors[f"inhibition.{index}"].astype(np.float64)
        weight = Coordinates(
            source=positions[index],
            target=positions[index + 1],
            mask=np.tanh(config.steepness * inhibition / 2).astype(np.float32),
            gain=float(tensors[f"gain.{index}"]) if config.gain else 1.0,
            exponent=config.exponent,
            min_distance=config.min_distance,
            max_distance=config.radius(index),
        )
        bias = tensors[f"bias.{index}"] if config.bias else None
        try:
            layers.append(Layer(_connected(weight, checkpoint.synapses.get(index)), bias, neuron))
        except NetworkError as error:
            raise NetworkError(f"layer {index}: {error.message}", error.hint) from error
    metadata = {"input_range": f"{config.input_range[0]:.9g} {config.input_range[1]:.9g}"}
    if config.spiking is None:
        return Network(tuple(layers), metadata=metadata)
    spiking = config.spiking
    return Network(tuple(layers), spiking.timesteps, spiking.input_coding, spiking.readout, metadata)


def _full_positions(config: SpatialConfig, positions: Float32Array, layer: int) -> Float32Array:
    """Positions `[n, d]` with the fixed layer axis written out as the last coordinate."""
    if config.layer_axis == "free":
        return positions
    axis = np.full((positions.shape[0], 1), layer * config.layer_spacing, np.float32)
    return np.concatenate([positions, axis], axis=1)


def _connected(weight: Coordinates, synapses: Synapses | None) -> WeightOperator:
    return weight if synapses is None else stored(weights(weight), synapses)


# --- reading -------------------------------------------------------------------------------------


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise CheckpointError(f"{path} is a folder; expected a checkpoint file") from None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    if not data:
        raise CheckpointError(f"{path} is empty")
    return data


def _read_torch(path: Path, data: bytes) -> Mapping[str, Any]:
    """The dict in a torch file, with nothing executed on the way."""
    import torch

    if data[:4] == b"PK\x03\x04":
        _check_archive(path, data)
    try:
        content = torch.load(BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error) or "class" in str(error):  # "Unsupported operand" is what any text file gives
            raise CheckpointError(
                f"{path} holds Python objects besides tensors and plain values; unpickling them could run code, "
                "so it is refused",
                hint="save {'config': ..., 'tensors': state_dict} or the bare state_dict, without custom classes",
            ) from error
        raise CheckpointError(f"{path} is not a torch file", hint="expected what torch.save wrote") from error
    except Exception as error:  # torch.load raises whatever a damaged file leads it into
        raise CheckpointError(f"{path} is damaged, or not a torch file: {error}") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}; expected a dict")
    return content


def _check_archive(path: Path, data: bytes) -> None:
    """torch.save stores its entries uncompressed; a compressed one could unpack to any size."""
    try:
        entries = zipfile.ZipFile(BytesIO(data)).infolist()
    except zipfile.BadZipFile:
        raise CheckpointError(f"{path} is cut off: a torch file without its end", hint="copy it again") from None
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > len(data):
            raise CheckpointError(
                f"{path}: entry {entry.filename} is compressed or larger than the file; torch.save writes neither"
            )


def _read_safetensors(path: Path, data: bytes) -> Mapping[str, Any]:
    """The content of a safetensors file in the shape of a torch file's."""
    import safetensors
    from safetensors.torch import load as load_tensors

    try:
        tensors = load_tensors(data)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged, or not a safetensors file: {error}") from error
    length = int.from_bytes(data[:8], "little")  # bounded: load_tensors has accepted the header
    header = json.loads(data[8 : 8 + length]).get("__metadata__") or {}
    if header.get("format") != FORMAT:
        return tensors
    try:
        content = {name: json.loads(header[name]) for name in ("version", "config", "metadata")}
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: its metadata has no readable {error}") from error
    return {"format": FORMAT, "tensors": tensors, **content}


def _from_content(content: Mapping[str, Any], sha256: str) -> Checkpoint:
    if content.get("format") != FORMAT:
        names = ", ".join(list(map(str, content))[:8]) or "nothing"
        raise CheckpointError(
            f"not a sen-edge checkpoint (it holds: {names})",
            hint="a state dict of other training code loads with --map; see docs/how-to/foreign-checkpoints.md",
        )
    version = content.get("version")
    if version != VERSION:
        raise CheckpointError(
            f"checkpoint version is {version!r}; this sen-edge reads version {VERSION}",
            hint="update sen-edge, or save the checkpoint again with a matching version",
        )
    unknown = [str(name) for name in content if name not in ("format", "version", "config", "tensors", "metadata")]
    if unknown:
        raise CheckpointError(f"unknown entries: {', '.join(unknown)}")
    for name in ("config", "tensors"):
        if not isinstance(content.get(name), Mapping):
            raise CheckpointError(f"entry {name} is {type(content.get(name)).__name__}; expected a dict")
    metadata = content.get("metadata", {})
    if not isinstance(metadata, Mapping) or not all(
        isinstance(key, str) and isinstance(value, str) for key, value in metadata.items()
    ):
        raise CheckpointError("entry metadata must map text to text")
    config = SpatialConfig.from_dict(content["config"])
    tensors: dict[str, Float32Array] = {}
    synapses: dict[int, Synapses] = {}
    for name, tensor in content["tensors"].items():
        index = str(name).removeprefix(SYNAPSES)
        if index != name and index in map(str, range(len(config.layer_sizes) - 1)):
            synapses[int(index)] = _unpacked(str(name), tensor, *config.layer_sizes[int(index) : int(index) + 2])
        else:
            tensors[str(name)] = as_array(str(name), tensor)
    return Checkpoint(config, tensors, dict(metadata), sha256, synapses)


def _unpacked(name: str, tensor: object, n_in: int, n_out: int) -> Synapses:
    """A mask `[n_out, n_in]` from a bit for each synapse, the least significant first."""
    import torch

    shape = (n_out, -(-n_in // 8))
    if (
        not isinstance(tensor, torch.Tensor)
        or (tensor.dtype, tensor.layout, tensor.device.type) != (torch.uint8, torch.strided, "cpu")
        or tuple(tensor.shape) != shape
    ):
        found = f"{tensor.dtype} {list(tensor.shape)}" if isinstance(tensor, torch.Tensor) else type(tensor).__name__
        raise CheckpointError(f"tensor {name} is {found}; expected torch.uint8 {list(shape)}, a bit for each synapse")
    return np.unpackbits(tensor.numpy(), axis=1, count=n_in, bitorder="little").astype(bool)


def as_array(name: str, tensor: object) -> Float32Array:
    """A floating-point torch tensor as a float32 array.

    Raises:
        CheckpointError: something else.
    """
    import torch

    if not isinstance(tensor, torch.Tensor):
        raise CheckpointError(f"{name} is a {type(tensor).__name__}; expected a tensor")
    if not tensor.is_floating_point() or tensor.layout != torch.strided or tensor.is_quantized:
        raise CheckpointError(f"tensor {name} is {tensor.dtype} {tensor.layout}; expected dense floating-point values")
    return np.ascontiguousarray(tensor.detach().to(torch.float32).numpy()).reshape(tuple(tensor.shape))


# --- writing -------------------------------------------------------------------------------------


def _all_tensors(checkpoint: Checkpoint) -> dict[str, NDArray[Any]]:
    """What a file holds: the learned tensors, and the synapses as a bit each."""
    packed = {
        f"{SYNAPSES}{index}": np.packbits(mask, axis=1, bitorder="little")
        for index, mask in checkpoint.synapses.items()
    }
    return {name: np.array(tensor) for name, tensor in {**checkpoint.tensors, **packed}.items()}


def _torch_bytes(checkpoint: Checkpoint) -> bytes:
    import torch

    buffer = BytesIO()
    content = {
        "format": FORMAT,
        "version": VERSION,
        "config": checkpoint.config.to_dict(),
        "tensors": {name: torch.from_numpy(tensor) for name, tensor in _all_tensors(checkpoint).items()},
        "metadata": dict(checkpoint.metadata),
    }
    torch.save(content, buffer)
    return buffer.getvalue()


def _safetensors_bytes(checkpoint: Checkpoint) -> bytes:
    from safetensors.numpy import save as save_tensors

    header = {
        "format": FORMAT,
        "version": json.dumps(VERSION),
        "config": json.dumps(checkpoint.config.to_dict(), sort_keys=True),
        "metadata": json.dumps(dict(checkpoint.metadata), sort_keys=True),
    }
    data = save_tensors(_all_tensors(checkpoint), metadata=header)
    # The library writes its header in any order; sorted, the same checkpoint is the same file.
    length = int.from_bytes(data[:8], "little")
    text = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]
