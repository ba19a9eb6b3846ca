"""onnx-ir: the model after its passes and back in ONNX, in onnx's ReferenceEvaluator."""

from typing import Any

import onnx_ir
from adapters.protocol import Function, serve
from adapters.reference_evaluator import evaluate
from onnx_ir.passes import Sequential, common

PASSES = Sequential(
    common.CheckerPass(),
    common.ShapeInferencePass(),
    common.LiftConstantsToInitializersPass(),
    common.DeduplicateInitializersPass(),
    common.CommonSubexpressionEliminationPass(),
    common.RemoveUnusedNodesPass(),
    common.TopologicalSortPass(),
)


def load(job: dict[str, Any]) -> Function:
    return evaluate(onnx_ir.to_proto(PASSES(onnx_ir.load(job["model"])).model), job)


serve(load)
