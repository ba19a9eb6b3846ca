"""onnx2torch: a torch module from the graph."""

import sys
from types import ModuleType
from typing import Any

# needed by converters of two operators that no export has; its wheels are for one build of torch each
for name in ("torchvision", "torchvision.ops"):
    sys.modules[name] = ModuleType(name)
sys.modules["torchvision.ops"].roi_align = None  # type: ignore[attr-defined]

import onnx2torch  # noqa: E402
import torch  # noqa: E402
from adapters.protocol import Function, serve  # noqa: E402


def load(job: dict[str, Any]) -> Function:
    module = onnx2torch.convert(job["model"])

    def run(arrays: list) -> list:
        with torch.no_grad():
            results = module(*map(torch.from_numpy, arrays))
        return [each.numpy() for each in (results if isinstance(results, (list, tuple)) else [results])]

    return run


serve(load)
