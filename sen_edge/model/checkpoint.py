"""Checkpoint format: read, check, write, and convert to a network.

Specification: docs/reference/checkpoint.md. `sen_edge.model.tensor_file` reads the bytes of both forms.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sen_edge.errors import CheckpointError, OutputError
from sen_edge.model import tensor_file
from sen_edge.model.config import SpatialConfig, at
from sen_edge.model.foreign import apply_map
from sen_edge.model.foreign_map import read_map
from sen_edge.model.parameters import Checkpoint, Synapses
from sen_edge.model.tensor_file import Float32Array, check_suffix, check_tensor, to_float32_array
from sen_edge.passes.materialize import to_sparse_layout, weights
from sen_runtime.errors import NetworkError
from sen_runtime.files import write_atomic
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.operators import Coordinates
from sen_runtime.memory_limits import catch_allocation_errors, require_layers
from sen_runtime.untrusted import check_document, listing, load_json, quote, read_regular

if TYPE_CHECKING:
    from sen_edge.model.layers import SpatialNetwork

FORMAT = "sen-edge-checkpoint"
VERSION = 1
SUFFIXES = tensor_file.SUFFIXES

#: Prefix of the tensors that store patterns.
SYNAPSES = "synapses."
#: Peak bytes per weight of a layer with a stored pattern: weights, masked weights, marks, mask.
PATTERN_BYTES = 13


@catch_allocation_errors()
def load(path: Path, *, map_path: Path | None = None) -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: `.pt`, `.pth`, `.ckpt` or `.safetensors`.
        map_path: TOML map of a foreign state dict; see `sen_edge.model.foreign_map`.

    Raises:
        CheckpointError: the file is missing, damaged, would run code, or holds no network.
    """
    tensor_map = None if map_path is None else read_map(map_path)
    check_suffix(path)
    data = read_regular(path, error=CheckpointError)
    if not data:
        raise CheckpointError(f"{path} is empty")
    sha256 = hashlib.sha256(data).hexdigest()
    content = tensor_file.read(path, data)
    try:
        if tensor_map is not None:
            return apply_map(content, tensor_map, sha256)
        if path.suffix == ".safetensors":
            header = tensor_file.safetensors_metadata(data)
            content = _native_safetensors(content, header) if header.get("format") == FORMAT else content
        return _from_content(content, sha256)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error.message}", error.hint) from error


def save(checkpoint: Checkpoint, path: Path, *, replace: bool = False) -> None:
    """Write a checkpoint atomically, over an existing file only with `replace`; the suffix selects the form."""
    data = dumps(checkpoint, path)
    try:
        write_atomic(path, data, replace=replace)
    except FileExistsError:
        raise OutputError(f"{path} exists", hint="pass --force to replace it") from None
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


def dumps(checkpoint: Checkpoint, path: Path) -> bytes:
    """Return the bytes that `save` writes to `path`."""
    check_suffix(path)
    packed = {
        f"{SYNAPSES}{index}": np.packbits(mask, axis=1, bitorder="little")
        for index, mask in checkpoint.synapses.items()
    }
    tensors = {name: np.array(tensor) for name, tensor in {**checkpoint.tensors, **packed}.items()}
    entries = {"format": FORMAT, "version": VERSION, "config": checkpoint.config.to_dict()}
    metadata = dict(checkpoint.metadata)
    if path.suffix == ".safetensors":
        return _safetensors_bytes(tensors, {**entries, "metadata": metadata})
    import torch

    buffer = BytesIO()
    content = {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}
    torch.save({**entries, "tensors": content, "metadata": metadata}, buffer)
    return buffer.getvalue()


def _safetensors_bytes(tensors: dict[str, NDArray[Any]], entries: Mapping[str, Any]) -> bytes:
    from safetensors.numpy import save as save_tensors

    header = {name: json.dumps(value, sort_keys=True) for name, value in entries.items()}
    data = save_tensors(tensors, metadata={**header, "format": FORMAT})
    # safetensors writes the header in any order; sorted keys make the file deterministic.
    length = int.from_bytes(data[:8], "little")
    text = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def from_module(network: SpatialNetwork, metadata: Mapping[str, str] | None = None) -> Checkpoint:
    """Return the parameters of a torch network as a checkpoint."""
    tensors = {name: value.detach().float().numpy().copy() for name, value in network.named_tensors().items()}
    for end, scaling in (("input", network.input_scaling), ("output", network.output_scaling)):
        if scaling is not None:
            tensors |= {f"{end}_mean": scaling.mean, f"{end}_std": scaling.std}
    for index, neuron in enumerate(network.neurons):
        tensors |= {f"{name}.{index}": array for name, array in neuron.arrays.items()}
    synapses = {
        index: layer.synapses.numpy() != 0
        for index, layer in enumerate(network.linears())
        if layer.synapses is not None
    }
    return Checkpoint(network.config, tensors, dict(metadata or {}), synapses=synapses)


def to_module(checkpoint: Checkpoint) -> SpatialNetwork:
    """Return a torch network with the parameters of a checkpoint, in evaluation mode."""
    import torch

    from sen_edge.model.layers import SpatialNetwork

    network = SpatialNetwork(checkpoint.config)
    network.input_scaling, network.output_scaling = checkpoint.scaling("input"), checkpoint.scaling("output")
    network.neurons = checkpoint.neurons()
    with torch.no_grad():
        for name, parameter in network.named_tensors().items():
            parameter.copy_(torch.from_numpy(checkpoint.tensors[name]))
    for index, mask in checkpoint.synapses.items():
        network.linears()[index].synapses = torch.from_numpy(mask.astype(np.float32))
    return network.eval()


def to_network(checkpoint: Checkpoint) -> Network:
    """Return a network of `Coordinates`; a layer with a stored pattern is materialized and sparse instead.

    Raises:
        NetworkError: the weights of such a layer are infinite, because neurons coincide; names the layer.
    """
    config, tensors = checkpoint.config, checkpoint.tensors
    sizes = config.layer_sizes
    if checkpoint.synapses:  # these layers are materialized
        require_layers([(sizes[index + 1], sizes[index]) for index in checkpoint.synapses], PATTERN_BYTES)
    sources, targets = _full_positions(checkpoint)
    layers = []
    for index, neuron in enumerate(checkpoint.neurons()):
        inhibition = tensors[f"inhibition.{index}"].astype(np.float64)
        weight = Coordinates(
            source=sources[index],
            target=targets[index],
            mask=np.tanh(at(config.steepness, index) * inhibition / 2).astype(np.float32),
            gain=float(tensors[f"gain.{index}"]) if config.gain else 1.0,
            exponent=at(config.exponent, index),
            min_distance=config.min_distance,
            max_distance=config.radius(index),
        )
        pattern = checkpoint.synapses.get(index)
        try:
            operator = weight if pattern is None else to_sparse_layout(weights(weight), pattern)
            layers.append(Layer(operator, tensors.get(f"bias.{index}"), neuron))
        except NetworkError as error:
            raise NetworkError(f"layer {index}: {error.message}", error.hint) from error
    return Network(
        tuple(layers),
        metadata=config.metadata(),
        input_scaling=checkpoint.scaling("input"),
        output_scaling=checkpoint.scaling("output"),
        **config.timing(),
    )


def _full_positions(checkpoint: Checkpoint) -> tuple[list[Float32Array], list[Float32Array]]:
    """Return the positions `[n, d]` of the sources and of the targets of each layer; one array per position.

    A layer axis is the last coordinate.
    """
    config, tensors = checkpoint.config, checkpoint.tensors
    coordinates = _layer_coordinates(config, tensors)

    def full(name: str, layer: int) -> Float32Array:
        positions = tensors[f"{name}.{layer}"]
        if not config.has_layer_axis:
            return positions
        axis = np.full((positions.shape[0], 1), coordinates[layer], np.float32)
        return np.concatenate([positions, axis], axis=1)

    positions = [full("positions", layer) for layer in range(len(config.layer_sizes))]
    if not config.separate_positions:
        return positions[:-1], positions[1:]
    hidden = range(1, len(config.layer_sizes) - 1)
    return positions[:-1], [*(full("target_positions", layer) for layer in hidden), positions[-1]]


def _layer_coordinates(config: SpatialConfig, tensors: Mapping[str, Float32Array]) -> NDArray[np.float64]:
    """Return the coordinate of each layer along the layer axis, `[L + 1]`."""
    n_layers = len(config.layer_sizes) - 1
    if config.layer_axis == "learned":
        spacings = [float(tensors[f"spacing.{index}"]) for index in range(n_layers)]
    elif isinstance(config.layer_spacing, tuple):
        spacings = list(config.layer_spacing)
    else:
        return np.arange(n_layers + 1) * config.layer_spacing
    return np.cumsum([0.0, *spacings])


# --- reading -------------------------------------------------------------------------------------


def _native_safetensors(tensors: Mapping[Any, Any], header: Mapping[str, str]) -> Mapping[Any, Any]:
    """Return the content of a safetensors file in the structure of a torch file."""
    try:
        texts = {name: header[name] for name in ("version", "config", "metadata")}
    except KeyError as error:
        raise CheckpointError(f"the metadata lacks {error}") from None
    content = {name: load_json(text, f"metadata {name}", error=CheckpointError) for name, text in texts.items()}
    return {"format": FORMAT, "tensors": tensors, **content}


def _from_content(content: Mapping[str, Any], sha256: str) -> Checkpoint:
    if content.get("format") != FORMAT:
        raise CheckpointError(
            f"not a sen-edge checkpoint; it holds {listing(content)}",
            hint="a state dict of other training code loads with --map; see docs/how-to/foreign-checkpoints.md",
        )
    version = content.get("version")
    if not isinstance(version, int) or version != VERSION:
        raise CheckpointError(
            f"checkpoint version is {quote(version)}; this sen-edge reads version {VERSION}",
            hint="update sen-edge, or save the checkpoint with a matching version",
        )
    unknown = [name for name in content if name not in ("format", "version", "config", "tensors", "metadata")]
    if unknown:
        raise CheckpointError(f"unknown entries: {listing(unknown)}")
    stored, metadata = content.get("tensors"), content.get("metadata", {})
    if not isinstance(stored, Mapping):
        raise CheckpointError(f"entry tensors is {type(stored).__name__}; expected a dict")
    if not isinstance(metadata, Mapping) or not all(
        isinstance(text, str) for each in metadata.items() for text in each
    ):
        raise CheckpointError("metadata must map strings to strings")
    check_document(dict(metadata), "entry metadata", error=CheckpointError)
    config = SpatialConfig.from_dict(content.get("config"))
    sizes = config.layer_sizes
    tensors: dict[str, Float32Array] = {}
    synapses: dict[int, Synapses] = {}
    packed = {f"{SYNAPSES}{index}": index for index in range(len(sizes) - 1)}
    for name, tensor in stored.items():
        if name in packed:
            index = packed[name]
            synapses[index] = _unpack_pattern(name, tensor, sizes[index], sizes[index + 1])
        else:
            tensors[name] = to_float32_array(name, tensor)
    return Checkpoint(config, tensors, dict(metadata), sha256, synapses)


def _unpack_pattern(name: str, content: object, n_in: int, n_out: int) -> Synapses:
    """Unpack a mask `[n_out, n_in]` from one bit per synapse, least significant bit first."""
    shape = [n_out, -(-n_in // 8)]
    expected = f"torch.uint8 {shape}, one bit per synapse"
    tensor = check_tensor(name, content, expected)
    if str(tensor.dtype) != "torch.uint8" or list(tensor.shape) != shape:
        raise CheckpointError(f"tensor {name} is {tensor.dtype} {quote(list(tensor.shape))}; expected {expected}")
    return np.unpackbits(tensor.numpy(), axis=1, count=n_in, bitorder="little").astype(bool)
