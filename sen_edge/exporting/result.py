"""Results of an export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sen_edge.display import Displayed
from sen_edge.exporting.verify.result import Verification
from sen_exporters.base import Artifact, ExportOptions
from sen_runtime.figures import size


@dataclass(frozen=True)
class Exported:
    """One verified artifact in memory.

    Attributes:
        artifact: the files.
        options: of its exporter.
        verification: figures of each engine.
        not_run_in: missing engine -> reason.
    """

    artifact: Artifact
    options: ExportOptions
    verification: tuple[Verification, ...]
    not_run_in: Mapping[str, str]


@dataclass(frozen=True, repr=False)
class ExportResult(Displayed):
    """Written files of an export.

    Attributes:
        files: path -> size in bytes, the manifest last.
        manifest: content of the manifest, which may include earlier exports of the model.
        targets: targets of this export.
        verification: figures of each artifact in each engine.
    """

    files: Mapping[Path, int]
    manifest: Mapping[str, Any]
    targets: tuple[str, ...]
    verification: tuple[Verification, ...]

    @property
    def artifacts(self) -> list[Mapping[str, Any]]:
        """Manifest entries of this export."""
        return [artifact for artifact in self.manifest["artifacts"] if artifact["target"] in self.targets]

    def summary(self) -> Mapping[str, object]:
        """Return the main file of each target with the size of all its files, and the engines that verified them."""
        return {
            **{
                next(iter(each["files"])): size(sum(file["bytes"] for file in each["files"].values()))
                for each in self.artifacts
            },
            "verified in": ", ".join(dict.fromkeys(each.engine for each in self.verification)),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest."""
        return dict(self.manifest)
