"""`.onnx` files in onnxruntime, including step models of spiking networks."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from sen_runtime.engines import Engine, library
from sen_runtime.engines.profiling import SECONDS, LayerTime, typical
from sen_runtime.engines.session import Array, Float32Array, Model, source_of
from sen_runtime.engines.steps import GraphSession
from sen_runtime.errors import EngineError
from sen_runtime.untrusted import listing, open_regular

#: Calls of a profile, whose events are kept in memory.
MIN_RUNS, MAX_RUNS = 8, 256
#: Operators whose bodies have events of their own; products of dense matrices, and bytes of a weight.
LOOPS = ("Loop", "Scan", "If")
WEIGHT_BYTES = {
    **dict.fromkeys(("Gemm", "FusedGemm", "MatMul", "FusedMatMul"), 4),
    **dict.fromkeys(("DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat", "QGemm", "QLinearMatMul"), 1),
}

_library = partial(library, "onnxruntime", "onnxruntime")


class OnnxRuntimeSession(GraphSession):
    """An ONNX graph on the CPU."""

    def __init__(self, session: Any, *, allow_nonfinite: bool = False) -> None:
        try:
            properties: dict[str, str] = session.get_modelmeta().custom_metadata_map
            shapes: dict[str, list[Any]] = {value.name: value.shape for value in session.get_inputs()}
            self._outputs: list[str] = [value.name for value in session.get_outputs()]
        except UnicodeDecodeError as error:
            raise EngineError(f"the ONNX file holds text that is not UTF-8: {error.reason}") from None
        if "input" not in shapes or "output" not in self._outputs or any(len(shape) < 2 for shape in shapes.values()):
            raise EngineError(
                f"the ONNX file takes {listing(shapes)} and gives {listing(self._outputs)}; expected input [batch, n] "
                "and output"
            )
        rows, *declared = shapes.pop("input")
        membranes = {name: shape[1] for name, shape in shapes.items()}
        if not all(isinstance(size, int) for size in membranes.values()):
            raise EngineError(f"the ONNX file takes {listing(membranes)} besides input; expected membranes [batch, n]")
        super().__init__(declared, membranes, properties, allow_nonfinite=allow_nonfinite, is_reentrant=True)
        self.batch_size = rows if isinstance(rows, int) else None
        self.session = session

    def _bare_call(self, x: Float32Array) -> Callable[[], Array]:
        return partial(self.session.run, ["output"], {"input": x})

    def _release(self) -> None:
        self.session = None

    def _call(self, feeds: dict[str, Array]) -> dict[str, Array]:
        try:
            return dict(zip(self._outputs, self.session.run(self._outputs, feeds)))
        except Exception as error:  # onnxruntime's own exception types are not public
            raise EngineError(f"onnxruntime refused the input: {error}") from error


def load(model: Model, threads: int = 1, *, allow_nonfinite: bool = False) -> OnnxRuntimeSession:
    """A session on an `.onnx` file."""
    return OnnxRuntimeSession(_open(model, threads), allow_nonfinite=allow_nonfinite)


def _open(model: Model, threads: int, profile_prefix: str = "") -> Any:
    """The library's session; with `profile_prefix` it writes a profile to a file whose name begins so."""
    onnxruntime = _library()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if profile_prefix:
        options.enable_profiling, options.profile_file_prefix = True, profile_prefix
    source = source_of(model)
    if isinstance(source, Path):
        open_regular(source, error=EngineError).close()  # the library would block on a pipe
    content = source if isinstance(source, bytes) else str(source)
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exception types are not public
        raise EngineError(f"onnxruntime does not load the model: {error}") from error


def profile(model: Model, inputs: Float32Array, threads: int = 1) -> list[LayerTime]:
    """Time of the nodes of each layer, by onnxruntime's profiler; of other nodes the time of each.

    Files of sen-edge name nodes after their layers. The profiler truncates to microseconds.
    """
    with TemporaryDirectory() as folder:
        session = OnnxRuntimeSession(_open(model, threads, str(Path(folder, "profile"))))
        rows, runs = session.batch_size or 1, 0
        batches = [inputs[start : start + rows] for start in range(0, len(inputs) - rows + 1, rows)]
        batches = batches or [np.resize(inputs, (rows, *inputs.shape[1:]))]
        end = time.perf_counter() + SECONDS
        while runs < MIN_RUNS or (runs < MAX_RUNS and time.perf_counter() < end):
            session.run(batches[runs % len(batches)])
            runs += 1
        events = json.loads(Path(session.session.end_profiling()).read_bytes())
    return layer_times(events, runs, rows)


def layer_times(events: Iterable[Mapping[str, Any]], runs: int, rows: int) -> list[LayerTime]:
    """Times by layer in the events of a profile of `runs` calls with `rows` inputs; the first quarter warms up."""
    by_node: dict[str, list[Mapping[str, Any]]] = {}
    for event in events:  # nodes of the body of a loop have events of their own
        if event.get("cat") == "Node" and event["args"].get("op_name") not in LOOPS:
            by_node.setdefault(event["name"].removesuffix("_kernel_time"), []).append(event)
    by_layer: dict[str, list[LayerTime]] = {}
    for name, found in by_node.items():
        per_run = max(1, len(found) // runs)
        durations = np.array([event["dur"] for event in found[: per_run * runs]], np.float64)
        calls = durations[len(durations) % per_run :].reshape(-1, per_run).sum(axis=1)
        macs, weight_bytes = _product(found[-1]["args"])
        layer = re.search(r"layer[0-9]+(?=/)", name)
        by_layer.setdefault(name if layer is None else layer.group(), []).append(
            LayerTime(name, float(typical(calls[len(calls) // 4 :])) / rows, macs, weight_bytes)
        )
    return [
        LayerTime(
            name,
            sum(node.us for node in nodes),
            sum(node.macs or 0 for node in nodes) or None,
            sum(node.weight_bytes or 0 for node in nodes) or None,
            reads_weights_once=rows == 1,
        )
        for name, nodes in by_layer.items()
    ]


def _product(args: Mapping[str, Any]) -> tuple[int, int]:
    """MACs for an input, and bytes of weights, of the product of a dense matrix; 0 of other nodes."""
    itemsize = WEIGHT_BYTES.get(args.get("op_name", ""))
    shapes = [
        next(iter(each.values())) for key in ("input_type_shape", "output_type_shape") for each in args.get(key, [])
    ]
    if itemsize is None or not shapes or len(shapes[0]) < 2:
        return 0, 0
    n_in, n_out = int(shapes[0][-1]), int(shapes[-1][-1])
    return n_in * n_out, n_in * n_out * itemsize


def version() -> str:
    """Version of onnxruntime."""
    return str(_library().__version__)


ENGINE = Engine(
    "onnxruntime", (".onnx",), load, version, is_threaded=True, package="onnxruntime", extra="onnx", profile=profile
)
