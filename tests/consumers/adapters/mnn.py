"""MNN: converted from ONNX, then run in full precision."""

import tempfile
from pathlib import Path
from typing import Any

import _tools
import MNN
from adapters.protocol import Function, serve
from MNN import expr, nn


def load(job: dict[str, Any]) -> Function:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.mnn"
        _tools.mnnconvert(
            ["mnnconvert", "-f", "ONNX", "--modelFile", job["model"], "--MNNModel", str(path), "--bizCode", "x"]
        )
        if not path.exists():
            raise ValueError("the converter writes no file")
        names = [[each["name"] for each in job[kind]] for kind in ("inputs", "outputs")]
        module = nn.load_module_from_file(str(path), *names, precision_mode=MNN.expr.PrecisionMode.High, thread_num=1)

    def run(arrays: list) -> list:
        results = module.forward([expr.const(each, list(each.shape), expr.NCHW) for each in arrays])
        return [expr.convert(each, expr.NCHW).read() for each in results]

    return run


serve(load)
