"""The notebooks of examples: their stored outputs are complete, and they run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted(ROOT.glob("examples/notebooks/*.ipynb"))
#: Of the environment that `make docs` and `make test-slow` set up.
JUPYTER = ROOT / "build/docs/bin/jupyter-nbconvert"
MAX_BYTES = 300_000

each_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


@each_notebook
def test_stored_outputs_are_those_of_one_run(notebook: Path) -> None:
    cells = [cell for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)], "run `make notebooks`"
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert all(output["output_type"] != "error" and output.get("name") != "stderr" for output in outputs)
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    assert notebook.stat().st_size <= MAX_BYTES


@pytest.mark.slow
@pytest.mark.needs(str(JUPYTER))
@each_notebook
def test_a_notebook_runs(notebook: Path, tmp_path: Path) -> None:
    shutil.copy(notebook, tmp_path)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    command = [JUPYTER, "--execute", "--to=notebook", "--inplace", tmp_path / notebook.name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
