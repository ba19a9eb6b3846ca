"""Exporter of `.sen` images, which the runtime reads in place; the format is `sen_runtime.format`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated

from annotated_types import doc

from sen_exporters.base import Artifact, Exporter, ExportError, ExportOptions
from sen_runtime import format as image
from sen_runtime.errors import NetworkError
from sen_runtime.integer import check_integers
from sen_runtime.ir.network import Network, map_weights
from sen_runtime.ir.operators import Sparse, leaves
from sen_runtime.ir.operators.sparse import Order


@dataclass(frozen=True)
class SenOptions(ExportOptions):
    """Options of the exporter of images.

    Attributes:
        sparse_order: "rows", or "sources" for devices that read weights in place; None to leave it as it is.
    """

    sparse_order: Annotated[
        Order | None,
        doc("Order of sparse weights: rows, or sources for devices that read them in place. Default: as in the model."),
    ] = None


class SenExporter(Exporter):
    """`.sen` files: every operator, spiking or not, stored as it is."""

    name = "sen"
    suffixes = (".sen",)
    Options = SenOptions
    uses_batch_size = False
    int4_dtypes = ("int4-dynamic", "int4")

    def check(self, network: Network, options: SenOptions) -> None:
        """Refuse int8 activations that 32 bits cannot compute, and an order that the weights do not have."""
        weights = [leaf for layer in network.layers for leaf in leaves(layer.weight)]
        remedy = "leave --sparse-order out"
        if options.sparse_order == "sources" and not any(isinstance(leaf, Sparse) for leaf in weights):
            raise ExportError("--sparse-order sources, and no layer has sparse weights", remedy)
        if options.sparse_order == "sources" and network.input_grid is not None:
            raise ExportError("--sparse-order sources has no form for int8 activations", remedy)
        try:
            check_integers(network)
            _arrange(network, options)
        except NetworkError as error:
            raise ExportError(error.message, error.hint) from error

    def export(self, network: Network, options: SenOptions) -> Artifact:
        """Build the file `name.sen`.

        Raises:
            ExportError: see `check`.
            ImageError: sums nested too deeply.
        """
        self.check(network, options)
        return Artifact(self.name, {self.main_file(options): image.dumps(_arrange(network, options))})

    def stamp(self, artifact: Artifact, properties: Mapping[str, str]) -> Artifact:
        """The artifact with `properties` added to the network's metadata."""
        network = image.loads(artifact.main)
        stamped = replace(network, metadata={**network.metadata, **properties})
        return artifact.with_main(image.dumps(stamped))

    def properties(self, model: bytes) -> Mapping[str, str]:
        """The network's metadata."""
        return image.loads(model).metadata

    def engines(self, model: bytes) -> tuple[str, ...]:
        """The C library and the reference interpreter."""
        del model
        return "native", "reference"


def _arrange(network: Network, options: SenOptions) -> Network:
    """Network whose sparse weights have the order of the options."""
    order = options.sparse_order
    if order is None:
        return network
    return map_weights(network, lambda leaf: replace(leaf, order=order) if isinstance(leaf, Sparse) else leaf)
