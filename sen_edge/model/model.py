"""A model: a checkpoint, a `.sen` image or a NIR graph."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sen_edge.display import Displayed
from sen_edge.errors import CheckpointError, DataError, UsageError
from sen_edge.model import checkpoint as checkpoints
from sen_edge.model import pretrained
from sen_edge.model.card import SavedModel
from sen_edge.model.nir import NIR_SUFFIX, load_nir
from sen_edge.model.parameters import AppliedMap, Checkpoint, compression_metadata, without_scores
from sen_edge.model.space_as_time import load_space_as_time
from sen_edge.model.spsnn import SPSNN_SUFFIX, load_spsnn
from sen_edge.model.tensor_file import check_suffix
from sen_edge.passes.standardization import restore_input
from sen_runtime import format as image
from sen_runtime import reference
from sen_runtime.errors import ImageError, NetworkError
from sen_runtime.ir.network import Network, stored_dtype
from sen_runtime.untrusted import read_regular

if TYPE_CHECKING:
    from sen_edge.data.calibration import Calibration
    from sen_edge.passes.quantize import LayerError

FloatArray = NDArray[np.float32]

IMAGE_SUFFIX = ".sen"
SUFFIXES = (*checkpoints.SUFFIXES, IMAGE_SUFFIX, NIR_SUFFIX)
#: Rows per chunk: bounds memory, does not change results.
CHUNK = 1000


@dataclass(frozen=True, eq=False)
class Quantization:
    """Quantization of a model.

    Attributes:
        dtype: value of `--dtype`, such as "float16", "int8-dynamic" (weights) or "int8" (weights and activations).
        granularity: scale of int8 weights per "channel" or "tensor".
        baseline: the model before.
        calibration: inputs that int8 was fitted to, or None.
        errors: of each layer; empty for float16.
        activation_range: range of int8 activations: "percentile", "minmax" or "mse".
    """

    dtype: str
    granularity: str
    baseline: Model
    calibration: Calibration | None = None
    errors: tuple[LayerError, ...] = ()
    activation_range: str = "percentile"


@dataclass(frozen=True, eq=False, repr=False)
class Model(Displayed):
    """A network with its source.

    Attributes:
        network: of a checkpoint, from `checkpoint.to_network`; of an image, as stored; or derived from one of them.
        sha256: of the file.
        checkpoint: None for an image or NIR graph, and for a network that no checkpoint describes.
        path: of the file, or None.
        applied_map: map of a foreign checkpoint or NIR graph, or None.
        source: the model of the file, if this one is derived from it by compression or quantization.
        compression: figures of the compression, plain values for JSON, or None.
        quantization: None for weights as stored in the file.
    """

    network: Network
    sha256: str
    checkpoint: Checkpoint | None = None
    path: Path | None = None
    applied_map: AppliedMap | None = None
    source: Model | None = None
    compression: Mapping[str, Any] | None = None
    quantization: Quantization | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_layers"}  # a function

    @property
    def origin(self) -> Model:
        """The model of the file."""
        return self if self.source is None else self.source

    @property
    def name(self) -> str:
        """Name of the file."""
        return "model" if self.path is None else self.path.name

    @property
    def stem(self) -> str:
        """Name of the file without suffix, or of the folder."""
        return self.name if self.kind == "folder" else Path(self.name).stem

    @property
    def where(self) -> str:
        """Path of the file, for messages."""
        return self.name if self.path is None else str(self.path)

    def derive(self, network: Network, **changes: Any) -> Model:
        """Return a model of another network with the same origin; `changes` are other attributes."""
        return replace(self, **{"network": network, "checkpoint": None, "source": self.origin, **changes})

    @property
    def kind(self) -> str:
        """One of "checkpoint", "image", "graph", of NIR, "archive", of SpSNN, and "folder", of Space as Time."""
        if self.checkpoint is not None:
            return "checkpoint"
        kinds = {NIR_SUFFIX: "graph", SPSNN_SUFFIX: "archive"}
        suffix = IMAGE_SUFFIX if self.path is None else self.path.suffix
        return kinds.get(suffix, "image" if suffix in SUFFIXES else "folder")

    @property
    def architecture(self) -> str:
        """Either "mlp" or "snn"."""
        return "snn" if self.network.is_spiking else "mlp"

    @property
    def n_parameters(self) -> int:
        """Parameters of a checkpoint; stored numbers of an image (`count_stored_numbers`)."""
        return sum(count_stored_numbers(self.network)) if self.checkpoint is None else self.checkpoint.n_parameters

    def summary(self) -> Mapping[str, object]:
        """Return name, architecture, parameters and form of the weights."""
        network = self.network
        return {
            "name": self.name,
            "architecture": f"{self.architecture} {'-'.join(map(str, network.layer_sizes))}",
            **({"timesteps": network.timesteps} if network.is_spiking else {}),
            "parameters": self.n_parameters,
            "weights": ", ".join(dict.fromkeys(layer.weight.form for layer in network.layers)),
            "dtype": stored_dtype(network),
            "macs": network.macs,
            **({} if self.compression is None else {"compressed": True}),
            **({} if self.quantization is None else {"quantized": self.quantization.dtype}),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: the summary, hash and configuration of the file."""
        config = None if self.origin.checkpoint is None else self.origin.checkpoint.config.to_dict()
        return {**self.summary(), "sha256": self.sha256, "config": config}

    def predict(self, x: ArrayLike) -> FloatArray:
        """Compute the outputs of the network: logits, or the readout of a spiking network.

        Args:
            x: `[n, n_in]`, or `[n, T, n_in]` for input coding "spikes"; or one input without the first axis.

        Returns:
            `[n, n_out]`, or `[n_out]` for one input.

        Raises:
            DataError: the inputs are no array of this shape, or not finite.
        """
        shape = self.network.input_shape
        try:
            given = np.asarray(x)
        except (TypeError, ValueError, RuntimeError) as error:  # ragged lists, tensors with a gradient
            raise DataError(f"inputs are no array: {error}") from None
        if given.dtype.kind not in "fiub":
            raise DataError(f"inputs have dtype {given.dtype}; expected real numbers")
        with np.errstate(over="ignore"):
            inputs = given.astype(np.float32)
        is_single = inputs.shape == shape
        if not is_single and inputs.shape[1:] != shape:
            raise DataError(f"inputs have shape {list(inputs.shape)}; expected [n, {', '.join(map(str, shape))}]")
        if not np.isfinite(inputs).all():
            at = np.argwhere(~np.isfinite(inputs))[0].tolist()
            raise DataError(f"inputs hold {inputs[tuple(at)]} at {at}; expected finite numbers")
        if not len(inputs):
            return np.empty((0, self.network.n_out), np.float32)
        outputs = self.trace(inputs[None] if is_single else inputs)[-1]
        return outputs[0] if is_single else outputs

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        exports: str | Path | Sequence[str | Path] = (),
        license_id: str | None = None,
        force: bool = False,
    ) -> list[Path]:
        """Write a folder to share: model file, config.json, model card and exported files, all or none.

        Args:
            folder: output folder; other files in it stay.
            exports: manifests of exports of this model, or folders of them; their files are copied to `artifacts/`.
            license_id: identifier of the Hugging Face Hub, such as "apache-2.0"; None states no licence.
            force: replace existing files.

        Returns:
            Paths of all files.

        Raises:
            UsageError: no manifest of an export; invalid identifier.
            OutputError: a file exists or cannot be written; an export is of another model, or its files changed.
        """
        file = pretrained.IMAGE if self.checkpoint is None else pretrained.CHECKPOINT
        saved = SavedModel(
            file,
            to_bytes(self, Path(file).suffix),
            pretrained.source_of(self.origin.path, self.name, self.origin.sha256),
            self.network,
            self.summary(),
            _metadata(self),
            None if self.checkpoint is None else self.checkpoint.config.to_dict(),
        )
        paths = map(Path, [exports] if isinstance(exports, (str, Path)) else exports)
        return pretrained.write(Path(folder), saved, paths, self.origin.sha256, license_id=license_id, force=force)

    @classmethod
    def from_pretrained(cls, name: str | Path, *, revision: str | None = None, local_files_only: bool = False) -> Model:
        """Load a model from a folder that `save_pretrained` wrote, or from the Hugging Face Hub.

        Args:
            name: folder; or, if there is no such folder, a model on the Hub as OWNER/NAME, of which config.json and the
                model file are downloaded to the cache of huggingface_hub.
            revision: branch, tag or commit on the Hub.
            local_files_only: do not download; read the cache. `HF_HUB_OFFLINE=1` does the same.

        Raises:
            CheckpointError: neither exists; or see `sen_edge.load`.
            MissingExtraError: huggingface_hub is not installed.
            UsageError: a revision of a folder.
        """
        if not Path(name).is_dir():
            return load(pretrained.download(name, revision, local_files_only=local_files_only))
        if revision is not None:
            raise UsageError(f"revision has no effect: {name} is a folder")
        return load(name)

    def trace(self, x: FloatArray) -> list[FloatArray]:
        """Compute outputs of every layer, `[batch, n]` each, the readout last: the reference for verification.

        A checkpoint runs in torch, another model in the reference interpreter, in float32 and in chunks.

        Args:
            x: `[batch, n_in]`, or `[batch, T, n_in]` for input coding "spikes".

        Raises:
            NetworkError: neurons of an image coincide.
        """
        chunks = [self._layers(x[start : start + CHUNK]) for start in range(0, len(x), CHUNK)]
        return [np.concatenate(parts) for parts in zip(*chunks, strict=True)]

    @cached_property
    def _layers(self) -> Callable[[FloatArray], Sequence[FloatArray]]:
        """Return a function that traces one chunk; cached, because building it takes longer than running it."""
        if self.checkpoint is None:
            network = reference.expand(self.network)
            return lambda x: reference.trace(network, x, np.float32)
        import torch

        module = checkpoints.to_module(self.checkpoint)

        def layers(x: FloatArray) -> list[FloatArray]:
            with torch.inference_mode():
                return [layer.numpy() for layer in module.trace(torch.from_numpy(x))]

        return layers


def load(path: str | Path, *, map_path: str | Path | None = None) -> Model:
    """Read a model.

    Args:
        path: checkpoint (`.pt`, `.safetensors`), `.sen` image, NIR graph (`.nir`), network of SpSNN (`.npz`), folder of
            Space as Time, or folder of `Model.save_pretrained`. An image that leaves standardization to its caller
            becomes a network that standardizes its inputs.
        map_path: TOML map of a foreign state dict, of a NIR graph that does not state its time step, or of a network of
            SpSNN or Space as Time; "spsnn" for the constants of `sen_edge.model.spsnn.SpsnnMap`, "space-as-time" for
            those of `sen_edge.model.space_as_time.SpaceAsTimeMap`.

    Raises:
        CheckpointError: see `sen_edge.model.checkpoint.load`; or unknown suffix.
        ImageError: the image is missing or damaged.
        NirError: the graph is missing or damaged, or has a node that is not supported.
        MissingExtraError: a graph, and the extra nir is not installed.
        NetworkError: coincident neurons in a layer with a stored pattern.
        UsageError: a map for an image or a folder.
    """
    path, map_path = Path(path), None if map_path is None else Path(map_path)
    is_shared = path.is_dir() and (path / pretrained.CONFIG).exists()
    if map_path is not None and (is_shared or path.suffix == IMAGE_SUFFIX):
        found = "a folder to share" if is_shared else "an image"
        raise UsageError(f"--map is for foreign checkpoints and NIR graphs; {path} is {found}", hint="leave it out")
    if path.is_dir() and map_path is not None:
        network, sha256, applied = load_space_as_time(path, map_path)
        return Model(network, sha256, path=path if path.name.strip(".") else path.resolve(), applied_map=applied)
    if path.is_dir():
        return _load_folder(path)
    if path.suffix == IMAGE_SUFFIX:
        data = read_regular(path, error=ImageError)  # once, so that hash and network belong together
        try:
            return Model(restore_input(image.loads(data)), hashlib.sha256(data).hexdigest(), path=path)
        except (ImageError, NetworkError) as error:
            raise type(error)(f"{path}: {error.message}", error.hint) from error
    if path.suffix == NIR_SUFFIX:
        network, sha256, applied_map = load_nir(path, map_path)
        return Model(network, sha256, path=path, applied_map=applied_map)
    if path.suffix == SPSNN_SUFFIX:
        network, sha256, applied_map = load_spsnn(path, map_path)
        return Model(network, sha256, path=path, applied_map=applied_map)
    if not path.suffix and not path.exists():
        raise CheckpointError(f"{path} does not exist", hint=pretrained.EXPECTED)
    check_suffix(path, SUFFIXES)
    checkpoint = checkpoints.load(path, map_path=map_path)
    try:
        return Model(checkpoints.to_network(checkpoint), checkpoint.sha256, checkpoint, path, checkpoint.applied_map)
    except NetworkError as error:
        raise NetworkError(f"{path}: {error.message}", error.hint) from error


def _load_folder(folder: Path) -> Model:
    """Load the model of a folder.

    Raises:
        CheckpointError: config.json is missing, damaged, or not of the model file; or see `load`.
    """
    entry = pretrained.read(folder)
    model = load(entry.path)
    if model.sha256 != entry.sha256:
        raise CheckpointError(
            f"{entry.path} is not the file that {pretrained.CONFIG} describes", hint="save or download the folder again"
        )
    if model.to_dict()["config"] != entry.config:
        raise CheckpointError(
            f"{folder / pretrained.CONFIG}: config differs from that in {entry.path.name}",
            hint="the model file counts; save the folder again",
        )
    return model


def to_bytes(model: Model, suffix: str) -> bytes:
    """Return the file of a model: a checkpoint, or an image for `.sen`.

    Raises:
        UsageError: a checkpoint of a model that is none.
        ImageError: the network does not fit an image.
    """
    if suffix == IMAGE_SUFFIX:
        return image.dumps(replace(model.network, metadata=_metadata(model)))
    if model.checkpoint is None:
        raise UsageError("the model is no checkpoint", "save a .sen image, or compress as_checkpoint=True")
    checkpoint = replace(model.checkpoint, metadata=_metadata(model), sha256="")
    return checkpoints.dumps(checkpoint, Path(f"model{suffix}"))


def _metadata(model: Model) -> dict[str, str]:
    """Return the text that a file of the model holds."""
    metadata = dict(model.network.metadata if model.checkpoint is None else model.checkpoint.metadata)
    if model.compression is not None:
        metadata = compression_metadata(metadata, model.compression)
    if model.quantization is not None:
        metadata = without_scores(metadata)
    if model.checkpoint is None and model.source is not None:
        metadata[f"{model.origin.kind}_sha256"] = model.origin.sha256
    return metadata


def count_stored_numbers(network: Network) -> tuple[int, ...]:
    """Count the weights or positions, and biases, that each layer adds to an image.

    Indices and scales are not counted; a shared array counts in its first layer. Positions of delays count, too.
    """
    seen: set[int] = set()
    counts = []
    for layer in network.layers:
        stored = [layer.bias]
        for weight, delay in layer.connections:
            stored += [*weight.weight_arrays(), *delay.arrays]
        arrays = {id(array): array for array in stored if array is not None}
        counts.append(sum(int(array.size) for key, array in arrays.items() if key not in seen))
        seen.update(arrays)
    return tuple(counts)
