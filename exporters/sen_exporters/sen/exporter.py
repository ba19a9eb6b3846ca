"""Exporter of `.sen` images, which the runtime reads in place; the format is `sen_runtime.format`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sen_exporters.base import Artifact, Exporter, ExportError, ExportOptions
from sen_runtime import format as image
from sen_runtime.errors import NetworkError
from sen_runtime.integer import check_integers
from sen_runtime.ir.network import Network


class SenExporter(Exporter):
    """`.sen` files: every operator, spiking or not, stored as it is."""

    name = "sen"
    suffixes = (".sen",)
    Options = ExportOptions
    uses_batch_size = False

    def check(self, network: Network, options: ExportOptions) -> None:
        """Refuse int8 activations that 32 bits cannot compute; options of other targets do not apply."""
        try:
            check_integers(network)
        except NetworkError as error:
            raise ExportError(error.message, error.hint) from error

    def export(self, network: Network, options: ExportOptions) -> Artifact:
        """Build the file `name.sen`.

        Raises:
            ExportError: see `check`.
            ImageError: sums nested too deeply.
        """
        self.check(network, options)
        return Artifact(self.name, {self.main_file(options): image.dumps(network)})

    def stamp(self, artifact: Artifact, properties: Mapping[str, str]) -> Artifact:
        """The artifact with `properties` added to the network's metadata."""
        network = image.loads(artifact.main)
        stamped = replace(network, metadata={**network.metadata, **properties})
        return artifact.with_main(image.dumps(stamped))

    def properties(self, model: bytes) -> Mapping[str, str]:
        """The network's metadata."""
        return image.loads(model).metadata

    def engines(self, model: bytes) -> tuple[str, ...]:
        """The C library, and the reference interpreter."""
        del model
        return ("native", "reference")
