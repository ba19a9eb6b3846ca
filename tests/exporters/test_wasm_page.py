"""The demo page of a WebAssembly module, in a browser."""

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sen_edge.model.model import load
from sen_runtime import reference
from sen_runtime.ir.standardization import metadata_of
from tests.exporters.test_neuron_parameters import make
from tests.exporters.test_wasm import export, scaled
from tests.support.networks import random_network

pytestmark = pytest.mark.needs("clang", "wasm-ld", "chromium")

CHECKPOINTS = Path(__file__).parents[2] / "examples" / "checkpoints"

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--virtual-time-budget=20000"),
)
#: In place of a user: pastes values and runs them.
PASTE = """<script type="module">
const wait = setInterval(() => {
  if (!document.getElementById("decision").textContent) return;
  clearInterval(wait);
  document.getElementById("values").value = VALUES;
  document.getElementById("take").click();
}, 50);
</script>"""


def show(page: bytes, folder: Path, pasted: str = "") -> str:
    """The document after scripts have run in Chromium."""
    text = page.decode()
    if pasted:
        text = re.sub(r"script-src 'sha256-[^']*'", "script-src 'unsafe-inline'", text)
        text = text.replace("</body>", PASTE.replace("VALUES", json.dumps(pasted)) + "</body>")
    (folder / "page.html").write_text(text)
    command = ["chromium", *FLAGS, f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    url = (folder / "page.html").as_uri()
    run = subprocess.run([*command, url], capture_output=True, text=True, check=True, timeout=120)
    assert 'id="failure" role="alert" hidden' in run.stdout
    return run.stdout


def text_of(page: str, name: str) -> str:
    return re.search(rf'id="{name}"[^>]*>([^<]*)<', page).group(1)


def test_a_browser_classifies_a_table(tmp_path: Path) -> None:
    names = {"output_names": '["ant", "bee", "cow"]'}
    network = scaled(random_network(np.random.default_rng(4), kinds=("dense",), sizes=(5, 8, 3), metadata=names))
    x = np.array([[0.5, -1, 2, 0.25, 3]], np.float32)
    page = show(export(network).files["net.html"], tmp_path, "f0;f1;f2;f3;f4\n0.5;-1;2;0.25;3")
    assert text_of(page, "decision") == ("ant", "bee", "cow")[int(reference.run(network, x).argmax())]
    assert len(re.findall(r'type="range" id="x\d"|id="x\d" type="range"', page)) == 5 and ">f3<" in page
    assert text_of(page, "complaint") == ""


def test_a_browser_reads_the_seven_that_is_drawn_at_first(tmp_path: Path) -> None:
    network = load(CHECKPOINTS / "mnist-mlp-d32-e6.pt").network
    assert text_of(show(export(network).files["net.html"], tmp_path), "decision") == "7"


@pytest.mark.parametrize("values", ["1, 2", "1,2,3,4,x", "1,2,3,4,1e60"])
def test_a_browser_refuses_wrong_values(values: str, tmp_path: Path) -> None:
    network = scaled(random_network(np.random.default_rng(4), kinds=("dense",), sizes=(5, 8, 3)))
    assert text_of(show(export(network).files["net.html"], tmp_path, values), "complaint")


@pytest.mark.parametrize("left", [False, True])
def test_a_browser_shows_values_in_units_of_the_data(left: bool, tmp_path: Path) -> None:
    metadata = {"task": "regression", "output_names": '["price"]'}
    network = scaled(random_network(np.random.default_rng(4), kinds=("dense",), sizes=(5, 8, 1), metadata=metadata))
    x = np.array([[0.5, -1, 2, 0.25, 3]], np.float32)
    expected = float(reference.run(network, x)[0, 0])
    if left:
        stated = {**network.metadata, "preprocess": "none", **metadata_of(network.input_scaling)}
        network = replace(network, input_scaling=None, metadata=stated)
    page = show(export(network).files["net.html"], tmp_path, "0.5 -1 2 0.25 3")
    name, value = text_of(page, "decision").split(": ")
    assert name == "price" and float(value) == pytest.approx(expected, rel=1e-3)


def test_a_browser_draws_reconstructs_and_spikes(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    image = random_network(rng, kinds=("dense",), sizes=(64, 8, 64), metadata={"task": "reconstruction"})
    page = show(export(image).files["net.html"], tmp_path)
    assert 'id="draw"' in page and 'id="rebuilt"' in page and "anomaly score" in text_of(page, "decision")
    spiking = make((6, 9, 7, 4), "spike_count", coding="spikes")
    page = show(export(spiking).files["net.html"], tmp_path)
    assert re.fullmatch(r"step 1 of \d+: [\d,]+ spikes", text_of(page, "time-said")) and 'id="raster"' in page
