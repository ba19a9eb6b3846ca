"""The runtime imports and measures with numpy alone, on every Python it supports.

Needs no torch, and is written for Python 3.9.
"""

import importlib
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import sen_runtime

IMAGE = Path(__file__).parent / "files/v1-mlp-coordinates.sen"


def test_every_module_imports() -> None:
    names = [each.name for each in pkgutil.walk_packages(sen_runtime.__path__, "sen_runtime.")]
    assert len(names) > 50
    for name in names:
        if not name.endswith("__main__"):
            importlib.import_module(name)


def test_bench_measures_an_image() -> None:
    words = [sys.executable, "-m", "sen_runtime", "bench", str(IMAGE), "--seconds", "0.1", "--json", "-", "--quiet"]
    run = subprocess.run(words, capture_output=True, text=True, check=True)
    assert json.loads(run.stdout)["status"] == "complete" and run.stderr == ""
