"""sen-edge: deployment toolkit for spatially embedded networks.

A trained checkpoint goes in; weights are computed from the coordinates, the network is compressed, exported, verified
against the checkpoint, and measured. The names in `__all__` are the public API; see `sen_edge.api`.
"""

import logging
from typing import TYPE_CHECKING, Any

from sen_edge.errors import VerificationError
from sen_runtime import __version__
from sen_runtime.errors import SenError

if TYPE_CHECKING:
    from sen_edge.api import Benchmark, bench, compress, export, quantize, train, train_delayed, verify
    from sen_edge.compression.pipeline import Compressed
    from sen_edge.exporting.manifest import ExportResult
    from sen_edge.exporting.torch_module import TorchLayer, from_torch
    from sen_edge.exporting.verify.result import Verification
    from sen_edge.model.build import build
    from sen_edge.model.model import Model, load
    from sen_edge.training.delayed import DelayedResult
    from sen_edge.training.train import TrainResult

__all__ = [
    "Benchmark",
    "Compressed",
    "DelayedResult",
    "ExportResult",
    "Model",
    "SenError",
    "TorchLayer",
    "TrainResult",
    "Verification",
    "VerificationError",
    "__version__",
    "bench",
    "build",
    "compress",
    "export",
    "from_torch",
    "load",
    "quantize",
    "train",
    "train_delayed",
    "verify",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    """Import the API at first use: it needs torch, which `sen-edge --help` does not."""
    if name not in __all__:
        raise AttributeError(f"module 'sen_edge' has no attribute {name!r}")
    from sen_edge import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
