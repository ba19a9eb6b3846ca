"""Run images for `board_costs.py`, which counts the instructions; runs on the emulated board.

`python board_costs_device.py JOBS`: JOBS is a JSON list of pairs of an image and an array of inputs. The system call
getppid marks four points of each pair: before and after one pass over the inputs, and three.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path

import numpy as np

from sen_runtime.engines import native


def main(jobs: Path) -> None:
    """Run all pairs."""
    gc.disable()
    loaded = ""
    for image, inputs in json.loads(jobs.read_text(encoding="utf-8")):
        x = np.load(inputs, allow_pickle=False)
        if image != loaded:
            session, loaded = native.load(image, allow_nonfinite=True), image
        session.layer_ns(x)
        for passes in (1, 3):
            tiled = np.concatenate([x] * passes)
            os.getppid()
            session.layer_ns(tiled)
            os.getppid()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
