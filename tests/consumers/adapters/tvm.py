"""TVM, compiled for this processor by its LLVM."""

from typing import Any

import onnx
import tvm
from adapters.protocol import Function, serve
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx


def load(job: dict[str, Any]) -> Function:
    module = from_onnx(onnx.load(job["model"]), keep_params_in_input=False)
    compiled = tvm.compile(relax.transform.LegalizeOps()(module), target="llvm")
    machine = relax.VirtualMachine(compiled, tvm.cpu())

    def run(arrays: list) -> list:
        results = machine["main"](*(tvm.runtime.tensor(each) for each in arrays))
        return [each.numpy() for each in (results if isinstance(results, tvm.ir.Array) else [results])]

    return run


serve(load)
