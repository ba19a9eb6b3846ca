"""OpenVINO on the processor, in float32: by default a processor decides whether bfloat16 or int8 does."""

from typing import Any

import openvino
from adapters.protocol import Function, serve
from openvino import properties


def load(job: dict[str, Any]) -> Function:
    config = {
        properties.inference_num_threads(): 1,
        properties.hint.inference_precision(): openvino.Type.f32,
        properties.hint.dynamic_quantization_group_size(): 0,
    }
    compiled = openvino.Core().compile_model(job["model"], "CPU", config)
    request = compiled.create_infer_request()

    def run(arrays: list) -> list:
        results = request.infer(dict(enumerate(arrays)))
        return [results[compiled.output(each["tensor"])].copy() for each in job["outputs"]]

    return run


serve(load)
