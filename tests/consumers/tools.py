"""The tools, and how each is run."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
#: Environments that `make test-consumers` makes from `requirements`.
ENVIRONMENTS = ROOT / "build" / "consumers"
ALL = ("float32", "float16", "int8-dynamic", "int8")


@dataclass(frozen=True)
class Tool:
    """A tool that reads exported files.

    Attributes:
        name: in the table.
        target: of the files it reads, "onnx" or "tflite".
        adapter: module in `adapters`.
        environment: in `build/consumers`; "" for the one of the tests.
        package: whose version is recorded.
        batch_size: of its files; None for a dynamic batch.
        dtypes: supported by the tool.
    """

    name: str
    target: str
    adapter: str
    environment: str
    package: str
    batch_size: int | None = None
    dtypes: tuple[str, ...] = ALL

    @property
    def folder(self) -> Path:
        """Its environment."""
        return ENVIRONMENTS / self.environment if self.environment else ROOT / ".venv"

    @property
    def command(self) -> list[str]:
        """Command of the adapter."""
        if self.environment == "web":
            return ["node", str(HERE / "adapters" / f"{self.adapter}.cjs")]
        return [str(self.folder / "bin" / "python"), "-m", f"adapters.{self.adapter}"]

    @property
    def version(self) -> str:
        """Installed version."""
        if self.environment == "web":
            package = self.folder / "node_modules" / self.package / "package.json"
            return str(json.loads(package.read_text(encoding="utf-8"))["version"])
        code = f"import importlib.metadata; print(importlib.metadata.version({self.package!r}))"
        command = [str(self.folder / "bin" / "python"), "-I", "-c", code]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


MICRO = ("float32", "int8")
TOOLS = (
    Tool("onnxruntime", "onnx", "onnxruntime", "", "onnxruntime"),
    Tool("onnxruntime-web", "onnx", "onnxruntime_web", "web", "onnxruntime-web"),
    Tool("ReferenceEvaluator", "onnx", "reference_evaluator", "", "onnx"),
    Tool("onnxsim", "onnx", "onnxsim", "onnx", "onnxsim"),
    Tool("onnx-ir", "onnx", "onnx_ir", "onnx", "onnx-ir"),
    Tool("OpenVINO", "onnx", "openvino", "onnx", "openvino"),
    Tool("MNN", "onnx", "mnn", "onnx", "mnn"),
    Tool("tract", "onnx", "tract", "onnx", "tract"),
    Tool("TVM", "onnx", "tvm", "onnx", "apache-tvm"),
    Tool("onnx2torch", "onnx", "onnx2torch", "torch", "onnx2torch"),
    Tool("emx-onnx-cgen", "onnx", "emx_onnx_cgen", "onnx", "emx-onnx-cgen", batch_size=1),
    Tool("litert", "tflite", "litert", "", "ai-edge-litert"),
    Tool("tflite-runtime", "tflite", "tflite_runtime", "", "tflite-runtime"),
    Tool("OpenVINO", "tflite", "openvino", "onnx", "openvino"),
    Tool("tflite-micro 10/2023", "tflite", "tflite_micro", "tflm-2023", "tflite-micro", dtypes=MICRO),
    Tool("tflite-micro 05/2024", "tflite", "tflite_micro", "tflm-2024", "tflite-micro", dtypes=MICRO),
    Tool("tflite-micro", "tflite", "tflite_micro", "tflm", "tflite-micro", dtypes=MICRO),
    Tool("Vela", "tflite", "vela", "vela", "ethos-u-vela", 1, dtypes=("int8",)),
    Tool("FlatBuffers", "tflite", "flatbuffers", "", "ai-edge-litert"),
)
