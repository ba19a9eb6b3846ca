"""Vela, the compiler for Arm's Ethos-U: it takes a file if all operators run on the NPU."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from adapters.protocol import Function, Note, serve

VELA = Path(sys.executable).with_name("vela")
COUNT = re.compile(r"(CPU|NPU) operators = (\d+)")


def load(job: dict[str, Any]) -> Function:
    with tempfile.TemporaryDirectory() as folder:
        command = [VELA, "--accelerator-config", "ethos-u55-128", "--output-dir", folder, job["model"]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    counts = {kind: int(number) for kind, number in COUNT.findall(done.stdout)}
    if done.returncode or not counts:
        raise ValueError((done.stderr or done.stdout).strip().splitlines()[-1])
    if counts.get("CPU"):
        raise ValueError(f"{counts['CPU']} of {sum(counts.values())} operators stay on the CPU")
    raise Note("all operators on the NPU")


serve(load)
