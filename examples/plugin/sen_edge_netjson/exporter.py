"""Target `netjson`: a network as JSON text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import doc

from sen_exporters.base import Artifact, ExportOptions, NoFormError
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Relu
from sen_runtime.ir.operators import Dense


@dataclass(frozen=True)
class NetjsonOptions(ExportOptions):
    """Options of the exporter: `--title TEXT`, or `-O netjson.title=TEXT`.

    Attributes:
        title: text in the file.
    """

    title: Annotated[str, doc("Title in the file.")] = ""


class NetjsonExporter:
    """`.netjson` files: dense float32 layers of multilayer perceptrons."""

    name = "netjson"
    suffixes = (".netjson",)
    Options = NetjsonOptions
    uses_batch_size = False

    def main_file(self, options: NetjsonOptions) -> str:
        """Return `NAME.netjson`."""
        return f"{options.name}.netjson"

    def check(self, network: Network, options: NetjsonOptions) -> None:
        """Raise for networks that the format does not support.

        Raises:
            NoFormError: a spiking network, or weights that are not dense float32.
        """
        if network.is_spiking:
            raise NoFormError("netjson has no spiking networks", hint="--to onnx has")
        for index, layer in enumerate(network.layers):
            if not isinstance(layer.weight, Dense) or layer.weight.w.dtype != np.float32:
                raise NoFormError(f"netjson takes dense float32 weights; layer {index} has others")

    def export(self, network: Network, options: NetjsonOptions) -> Artifact:
        """Build the file. Output is deterministic."""
        self.check(network, options)
        layers = [
            {
                "w": layer.weight.to_dense().tolist(),
                "bias": None if layer.bias is None else layer.bias.tolist(),
                "relu": isinstance(layer.neuron, Relu),
            }
            for layer in network.layers
        ]
        return Artifact(
            self.name, {self.main_file(options): _dumps({"title": options.title, "properties": {}, "layers": layers})}
        )

    def stamp(self, artifact: Artifact, properties: Mapping[str, str]) -> Artifact:
        """Add `properties` to the metadata of the artifact."""
        content = json.loads(artifact.main)
        content["properties"].update(properties)
        return artifact.with_main(_dumps(content))

    def properties(self, model: bytes) -> Mapping[str, str]:
        """Read the metadata of a file."""
        found: Mapping[str, str] = json.loads(model)["properties"]
        return found

    def engines(self, model: bytes) -> tuple[str, ...]:
        """Return the name of the engine."""
        del model
        return ("netjson-numpy",)

    def instrument(self, model: bytes) -> bytes:
        """Return the model, because the engine returns the activations of all layers."""
        return model


def _dumps(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True).encode()
