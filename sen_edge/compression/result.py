"""Result of a compression, and its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sen_edge.display import Displayed
from sen_edge.errors import OutputError, UsageError
from sen_edge.model import checkpoint as checkpoints
from sen_edge.model.model import IMAGE_SUFFIX, SUFFIXES, Model
from sen_edge.model.parameters import Checkpoint, compression_note, map_note
from sen_edge.overwrite import refuse_existing, write_outputs
from sen_runtime import __version__
from sen_runtime import format as image
from sen_runtime.ir.network import Network


@dataclass(frozen=True, repr=False)
class Compressed(Displayed):
    """Compressed model.

    Attributes:
        network: as it is stored.
        checkpoint: of the same network, where it is still a SEN and one was requested; else None.
        figures: everything measured, plain values for JSON.
        source: the model before.
    """

    network: Network
    checkpoint: Checkpoint | None
    figures: Mapping[str, Any]
    source: Model

    def summary(self) -> Mapping[str, object]:
        """Return MACs, bytes and accuracies, each with the value before."""
        before, after, accuracy = self.figures["before"], self.figures["after"], self.figures["accuracy"]
        figures = {
            "macs": f"{after['macs']:,} (was {before['macs']:,})",
            "weight_bytes": f"{after['weight_bytes']:,} (was {before['weight_bytes']:,})",
        }
        if accuracy is not None:
            figures["accuracy"] = f"{accuracy['compressed']:.2f} % (was {accuracy['original']:.2f} %)"
        return figures

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest."""
        return self.manifest

    @property
    def model(self) -> Model:
        """The compressed network, derived from the source."""
        figures = dict(self.figures)
        return self.source.derive(self.network, checkpoint=self.checkpoint, compression=figures, quantization=None)

    @property
    def manifest(self) -> dict[str, Any]:
        """Figures with the version of sen-edge and the source; plain values for JSON."""
        source = {"input": self.source.name, "map": map_note(self.source.origin.applied_map)["map"]}
        return {"sen_edge": __version__, **source, **self.figures}

    def save(self, path: str | Path, *, force: bool = False) -> list[Path]:
        """Write model and manifest atomically.

        Args:
            path: `.sen`, or `.pt` or `.safetensors` for a checkpoint; the manifest is PATH's stem with the suffix
                `.manifest.json`.
            force: replace existing files.

        Returns:
            Paths of both files.

        Raises:
            UsageError: another suffix; or that of a checkpoint, and there is none.
            OutputError: a file exists, is the source, or cannot be written.
        """
        path, source = Path(path), self.source.path
        check_output(path, force=force)
        if source is not None and path.exists() and source.exists() and path.samefile(source):
            raise OutputError(f"{path} is the model itself", hint="save under another name")
        notes = compression_note(self.figures)
        accuracy, training = self.figures["accuracy"], self.figures.get("training")
        if accuracy is not None:
            notes["test_accuracy"] = f"{accuracy['compressed']:.2f}"
        if training is not None:
            notes["validation_accuracy"] = f"{training['validation_accuracy']:.2f}"
        if path.suffix == IMAGE_SUFFIX:
            origin = {f"{self.source.origin.kind}_sha256": self.source.sha256}
            metadata = {**self.source.network.metadata, **origin, **notes}
            data = image.dumps(replace(self.network, metadata=metadata))
        elif self.checkpoint is None:
            raise UsageError(
                f"{path}: the result is no checkpoint", "save a .sen image, or compress as_checkpoint=True"
            )
        else:
            metadata = {**self.checkpoint.metadata, **notes}
            data = checkpoints.dumps(replace(self.checkpoint, metadata=metadata, sha256=""), path)
        manifest = manifest_path(path)
        text = json.dumps(self.manifest, indent=2, sort_keys=True) + "\n"
        write_outputs(path.parent, {path.name: data, manifest.name: text.encode()}, force=force)
        return [path, manifest]


def manifest_path(path: Path) -> Path:
    """Path of the manifest of a compressed model."""
    return path.with_name(f"{path.stem}.manifest.json")


def check_output(path: Path, *, force: bool) -> None:
    """Reject a path that `Compressed.save` would reject.

    Raises:
        UsageError: an unknown suffix.
        OutputError: a file exists, and `force` is False.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path}: suffix is {path.suffix!r}; expected one of {', '.join(SUFFIXES)}")
    refuse_existing(path.parent, [path.name, manifest_path(path).name], force=force)
