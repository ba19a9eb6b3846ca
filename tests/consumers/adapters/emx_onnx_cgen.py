"""emx-onnx-cgen: generated C, compiled by the host's compiler."""

import ctypes
import itertools
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from adapters.protocol import Function, serve
from emx_onnx_cgen import Compiler

COMPILER = Compiler()  # parses its templates once


def load(job: dict[str, Any]) -> Function:
    source = COMPILER.compile(onnx.load(job["model"]))
    with tempfile.TemporaryDirectory() as folder:
        code, library = Path(folder) / "model.c", Path(folder) / "model.so"
        code.write_text(source, encoding="utf-8")
        flags = ["-shared", "-fPIC", "-O1", "-ffp-contract=off", "-w"]
        subprocess.run(["cc", *flags, str(code), "-o", str(library), "-lm"], check=True)
        function = ctypes.CDLL(str(library)).model

    def run(arrays: list) -> list:
        results = [np.zeros((job["batch_size"], each["size"]), np.float32) for each in job["outputs"]]
        function(*(each.ctypes.data_as(ctypes.c_void_p) for each in itertools.chain(arrays, results)))
        return results

    return run


serve(load)
