"""Run artifacts in one engine and store what comes out; the same script on the device and on this machine.

`python device.py JOBS RESULTS ENGINE`: JOBS is a JSON file, artifact to inputs, both paths relative to its folder.
Needs sen_runtime and numpy alone.
"""

from __future__ import annotations

import json
import platform
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from sen_runtime.engines import Engine, engine
from sen_runtime.errors import MissingExtraError

#: Every so many inputs one is run alone as well: engines have other kernels for a single row.
SINGLE_STRIDE = 8


def run(runner: Engine, model: Path, inputs: Path, outputs: Path) -> str:
    """Store the outputs of all rows at once and of single rows, `[rows + singles, n_out]`; gives the kernels' name."""
    x = np.load(inputs, allow_pickle=False)
    session = runner.load(model)
    singles = [session.run(x[row : row + 1]) for row in range(0, len(x), SINGLE_STRIDE)]
    np.save(outputs, np.concatenate([session.run(x), *singles]), allow_pickle=False)
    return str(getattr(session, "kernels", ""))


def main(jobs: Path, results: Path, name: str) -> None:
    """All artifacts in the engine `name`; what went wrong is told in `report.json`, artifact by artifact."""
    runner = engine(name)
    report: dict[str, Any] = {"machine": platform.machine(), "version": "-", "kernels": {}, "errors": {}}
    with suppress(MissingExtraError):  # every artifact will say so
        report["version"] = runner.version()
    for model, inputs in json.loads(jobs.read_text(encoding="utf-8")).items():
        try:
            report["kernels"][model] = run(runner, jobs.parent / model, jobs.parent / inputs, results / f"{model}.npy")
        except Exception as error:  # whatever an engine throws is a finding, and the others go on
            report["errors"][model] = f"{type(error).__name__}: {error}"
        # after every artifact, in case the next one ends the process
        (results / "report.json").write_text(json.dumps(report), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
