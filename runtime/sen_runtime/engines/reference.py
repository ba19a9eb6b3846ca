"""The numpy interpreter as an engine for `.sen` images: correct everywhere, fast nowhere."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import sen_runtime
from sen_runtime import image, reference
from sen_runtime.engines import Model
from sen_runtime.network import Network

Array = NDArray[Any]

suffix, is_threaded, is_on_demand = ".sen", False, True


class ReferenceSession:
    """A network, interpreted in float32."""

    batch_size: int | None = None

    def __init__(self, network: Network) -> None:
        self.network = reference.expand(network)
        self.input_shape = network.input_shape

    def run(self, x: Array) -> Array:
        """Outputs `[batch, n_out]`."""
        return reference.run(self.network, x, np.float32)

    def run_all(self, x: Array) -> dict[str, Array]:
        """Outputs, and the activations of the hidden layers."""
        layers = reference.trace(self.network, x, np.float32)
        return {"output": layers[-1], **{f"layer{i}/activation": layer for i, layer in enumerate(layers[:-1])}}


def load(model: Model, threads: int = 1) -> ReferenceSession:
    """A session on a `.sen` image; numpy's BLAS chooses its own threads.

    Raises:
        ImageError: the image is damaged or not one.
    """
    del threads
    return ReferenceSession(image.loads(model) if isinstance(model, bytes) else image.read(model))


def version() -> str:
    """Version of this package."""
    return sen_runtime.__version__
