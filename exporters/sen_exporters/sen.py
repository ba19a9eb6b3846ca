"""The toolkit's own image: what the runtime reads in place. The format is `sen_runtime.image`'s."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sen_exporters.base import Artifact, ExportOptions
from sen_runtime import image
from sen_runtime.network import Network


class SenExporter:
    """`.sen` files: every operator, spiking or not, stored as it is."""

    name = "sen"
    suffixes = (".sen",)
    engine = "reference"

    def check(self, network: Network, options: ExportOptions) -> None:
        """Every network fits; options of other targets do not apply."""

    def export(self, network: Network, options: ExportOptions) -> Artifact:
        """Build the file `name.sen`.

        Raises:
            ImageError: sums nested too deeply.
        """
        return Artifact(self.name, {f"{options.name}.sen": image.dumps(network)})

    def stamp(self, artifact: Artifact, properties: Mapping[str, str]) -> Artifact:
        """The artifact with `properties` added to the network's metadata."""
        network = image.loads(artifact.main)
        stamped = replace(network, metadata={**network.metadata, **properties})
        return replace(artifact, files={next(iter(artifact.files)): image.dumps(stamped)})

    def properties(self, model: bytes) -> Mapping[str, str]:
        """The network's metadata."""
        return image.loads(model).metadata

    def instrument(self, model: bytes) -> bytes:
        """The model itself: the reference engine shows every layer."""
        return model
