"""Pictures of networks: scene, page, charts."""

import base64
import hashlib
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sen_edge.model.config import SpatialConfig, SpikingConfig
from sen_edge.report.network import panels, picture
from sen_edge.report.network.scene import operators, scene
from sen_exporters.view.layout import project, sample
from sen_runtime import reference
from tests.conftest import MLP, SNN, Outcome, make_checkpoint
from tests.support.pages import array_of, data_of, model_of, save

Run = Callable[..., Outcome]
WIDE = SpatialConfig((64, 32, 10), dimensions=7, layer_spacing=0.5)


# --- what is drawn -------------------------------------------------------------------------------


def test_many_dimensions_keep_the_variance_that_the_principal_components_have() -> None:
    rng = np.random.default_rng(3)
    layers = [rng.standard_normal((n, 7)) * [9, 1, 5, 1, 1, 3, 1] for n in (50, 30)]
    projected, _, sentence = project(layers, is_axis_fixed=False)
    everything = np.concatenate(layers)
    singular = np.linalg.svd(everything - everything.mean(0), compute_uv=False)
    assert f"{100 * (singular[:3] ** 2).sum() / (singular**2).sum():.1f} %" in sentence
    third, first, second = np.concatenate(projected).std(0)
    assert np.allclose([first, second, third], singular[:3] / len(everything) ** 0.5)


def test_learned_positions_are_drawn_as_they_are_with_the_layer_axis_first() -> None:
    drawn = scene(model_of(MLP))
    for layer, positions in enumerate(drawn.positions):
        learned = make_checkpoint(MLP).tensors[f"positions.{layer}"]
        assert np.array_equal(positions, np.column_stack([np.full(len(learned), 0.5 * layer), learned]))
    gaps = np.diff([at[:, 0].mean() for at in drawn.apart()])
    assert np.allclose(gaps, 0.5 + drawn.gap)


@pytest.mark.parametrize(
    ("dimensions", "axis", "names"),
    [
        (1, "free", ("layer index", "coordinate 1", "")),
        (2, "free", ("layer index", "coordinate 1", "coordinate 2")),
        (2, "fixed", ("layer axis", "coordinate 1", "")),
        (3, "free", ("coordinate 1", "coordinate 2", "coordinate 3")),
    ],
)
def test_few_dimensions_are_padded_with_a_note(dimensions: int, axis: str, names: tuple[str, ...]) -> None:
    drawn = scene(model_of(SpatialConfig((6, 4), dimensions, axis)))
    assert drawn.axes == names
    assert ("further coordinates" in drawn.notes[0]) == (dimensions < 3)
    if names[0] == "layer index":
        assert [set(at[:, 0]) for at in drawn.positions] == [{0.0}, {1.0}]


def test_the_strongest_synapses_are_those_of_the_weight_matrix() -> None:
    model = model_of(replace(WIDE, exponent=2.0))
    for index, drawn in enumerate(scene(model, strongest=25).links):
        dense = model.network.layers[index].weight.to_dense()
        order = np.argsort(-np.abs(dense).ravel())[:25]
        assert set(zip(drawn.targets, drawn.sources, strict=True)) == set(
            zip(*np.unravel_index(order, dense.shape), strict=True)
        )
        assert np.allclose(drawn.strongest, dense.ravel()[order], rtol=1e-5)


def test_synapses_up_to_a_length() -> None:
    model = model_of(MLP)
    drawn = scene(model, max_distance=0.9).links
    for index, operator in enumerate(operators(model.network)):
        between = np.linalg.norm(operator.target[:, None] - operator.source[None], axis=2)
        assert len(drawn[index].strongest) == (between <= 0.9).sum() > 0


@pytest.mark.parametrize("how", ["synapses", "max_distance"])
def test_only_kept_synapses_are_drawn(how: str) -> None:
    if how == "synapses":
        kept = np.zeros((32, 64), bool)
        kept[3, [5, 9]] = True
        model, expected = model_of(MLP, synapses={0: kept}), 2
    else:
        model = model_of(replace(MLP, max_distance=(0.7, 0.0)))
        expected = int(np.count_nonzero(operators(model.network)[0].to_dense()))
    drawn = scene(model, strongest=5000).links
    assert 0 < len(drawn[0].strongest) == expected < 64 * 32
    assert len(drawn[1].strongest) == 320


def test_number_of_drawn_synapses_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sen_edge.report.network.scene.MAX_DRAWN", 100)
    drawn = scene(model_of(MLP), strongest=150)
    assert [len(link.strongest) for link in drawn.links] == [100, 100]
    assert drawn.notes[1] == "Layer 0 to 1: 150 synapses were asked for; the 100 strongest are drawn."
    all_of_it = scene(model_of(MLP), max_distance=1e9).notes[2]
    assert all_of_it == "Layer 1 to 2: 320 synapses are not longer than 1e+09; the 100 strongest are drawn."


def test_spikes_are_those_that_the_network_counts() -> None:
    network = model_of(SNN).network
    x = np.random.default_rng(5).random(network.input_shape).astype(np.float32)
    found = picture.record(network, x)
    counts = reference.trace(network, x[np.newaxis], np.float32)[0][0]
    assert len(found) == 2 and counts.sum() > 0
    assert np.array_equal(found[1].sum(axis=0), counts)


def test_a_sample_is_spread_evenly_and_leaves_small_layers_whole() -> None:
    first, second, last = sample((80_000, 19_990, 10), 10_000)
    assert (len(first), len(second), len(last)) == (7884, 2105, 10)
    assert (first[0], first[-1]) == (0, 79_999)
    assert np.diff(first).max() - np.diff(first).min() <= 1
    for sizes in ((200,) * 500, (90_000, *(300,) * 40), (50_000, 49_990, 10), (5000, 5000)):
        assert 0.98 * 10_000 <= sum(map(len, sample(sizes, 10_000))) <= 10_000


# --- the page ------------------------------------------------------------------------------------


def test_the_page_holds_the_network_and_asks_for_nothing(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "net.html"
    outcome = sen_edge("plot", mlp_path, "-o", out, "--synapses", 30)
    assert outcome.code == 0, outcome.err
    assert outcome.out == f"{out}\n"
    page = out.read_text()
    assert set(re.findall(r"https?://[^\"' ]*", page)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<(link|img|iframe)|\bsrc=|@import|url\(", page)
    script = re.findall(r'<script type="module">(.*?)</script>', page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert len(script) == 1 and f"script-src 'sha256-{digest}'" in page
    data = data_of(page)
    learned = np.concatenate([make_checkpoint(MLP).tensors[f"positions.{i}"] for i in range(3)])
    assert np.array_equal(array_of(data, "positions").reshape(-1, 3)[:, 1:], learned)
    assert data["synapses"] == [0, 30, 60] and "activity" not in data["arrays"]
    assert array_of(data, "targets")[:30].min() >= 64
    for words in ("layer 1: hidden, 32", "inhibitory: weights", "<noscript>", "prefers-color-scheme"):
        assert words in page


def test_page_of_a_spiking_network_states_its_input(sen_edge: Run, snn_path: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.random((5, 64), np.float32)
    np.savez(tmp_path / "x.npz", x_test=x, y_test=np.arange(5))
    out = tmp_path / "net.html"
    outcome = sen_edge("plot", snn_path, "-o", out, "--data", tmp_path / "x.npz", "--example", 3)
    assert outcome.code == 0 and "example 3" in outcome.err
    data = data_of(out.read_text())
    mean, *values = array_of(data, "activity").reshape(1 + SNN.spiking.timesteps, 64 + 32)
    assert np.array_equal(values[0][:64], np.rint(255 * x[3]))
    spikes = picture.record(model_of(SNN).network, x[3])[1]
    assert np.array_equal(np.array(values)[:, 64:], 255 * spikes)
    assert np.array_equal(mean[64:], np.rint(255 * spikes.mean(axis=0)))
    assert data["spikes"] == [spikes.sum(), *spikes.sum(axis=1)]
    assert 'id="time"' in out.read_text()
    assert sen_edge("plot", snn_path, "-o", out, "--force").code == 0
    assert "random, seed 0" in out.read_text()


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>&\"'"


def test_hostile_text_stays_text(sen_edge: Run, tmp_path: Path) -> None:
    path = save(tmp_path / "a<b>&$\\frac{$.pt", MLP, metadata={HOSTILE: HOSTILE})
    assert sen_edge("plot", path, "-o", tmp_path / "net.html").code == 0
    page = (tmp_path / "net.html").read_text()
    assert page.count("<script") == 2 and "<img" not in page and "<b>" not in page
    assert "a&lt;b&gt;&amp;" in page and "&lt;img src=x" in page
    assert sen_edge("plot", path, "-o", tmp_path / "net.svg", "--what", "weights").code == 0
    ElementTree.parse(tmp_path / "net.svg")


def test_features_and_classes_are_named_on_hover(sen_edge: Run, tmp_path: Path) -> None:
    names = tuple(f"class {index}" for index in range(MLP.layer_sizes[-1] - 1))
    path = save(tmp_path / "net.pt", replace(MLP, output_names=(*names, HOSTILE)))
    assert sen_edge("plot", path, "-o", tmp_path / "net.html").code == 0
    page = (tmp_path / "net.html").read_text()
    assert page.count("<script") == 2
    last = str(len(MLP.layer_sizes) - 1)
    assert data_of(page)["labels"] == {last: [*names, HOSTILE]}


def test_names_of_another_number_are_not_shown() -> None:
    model = model_of(MLP)
    changed = replace(model, network=replace(model.network, metadata={"output_names": '["one"]'}))
    assert scene(changed).labels == {}


def test_the_class_of_an_example_is_named(sen_edge: Run, snn_path: Path, tmp_path: Path) -> None:
    names = tuple(f"class {index}" for index in range(SNN.layer_sizes[-1]))
    path = save(tmp_path / "net.pt", replace(SNN, output_names=names))
    np.savez(tmp_path / "x.npz", x_test=np.random.default_rng(0).random((5, 64), np.float32), y_test=np.arange(5))
    outcome = sen_edge("plot", path, "-o", tmp_path / "net.html", "--data", tmp_path / "x.npz", "--example", 3)
    assert "label 'class 3'" in outcome.err


@pytest.mark.needs("chromium")
def test_a_browser_draws_the_page(sen_edge: Run, snn_path: Path, tmp_path: Path) -> None:
    sen_edge("plot", snn_path, "-o", tmp_path / "net.html")
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--dump-dom",
    ]
    command = ["chromium", *options, (tmp_path / "net.html").as_uri()]
    page = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert '<div id="viewer">' in page
    assert re.search(r'id="time-said">step 1 of 6: [0-9]+ spikes<', page)
    assert re.search(r'id="links-said">[0-9,]+ shown<', page)


# --- figures -------------------------------------------------------------------------------------

SHAPES = {
    "one": SpatialConfig((64, 10), layer_spacing=0.5),
    "d1": SpatialConfig((64, 32, 10), 1, "free"),
    "d2": SpatialConfig((64, 32, 10), 2),
    "d2-free": SpatialConfig((64, 32, 10), 2, "free"),
    "one-neuron": SpatialConfig((1, 1), 1, "free"),
    "spiking-one": SpatialConfig((64, 10), layer_spacing=0.5, spiking=SpikingConfig(3)),
    "wide": WIDE,
}


@pytest.mark.parametrize("name", SHAPES)
def test_all_shapes_are_drawn(name: str, sen_edge: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("matplotlib")
    path = save(tmp_path / "net.pt", SHAPES[name])
    for ending in ("html", "png"):
        outcome = sen_edge("plot", path, "-o", tmp_path / f"net.{ending}")
        assert outcome.code == 0 and "fixed data aspect" not in caplog.text, outcome.err
    assert (tmp_path / "net.png").read_bytes().startswith(b"\x89PNG\r\n")


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_every_panel_in_every_format_is_the_same_each_time(
    ending: str, start: bytes, sen_edge: Run, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    synapses = {0: np.indices((32, 64)).sum(axis=0) % 3 == 0}
    path, before = save(tmp_path / "net.pt", MLP, synapses=synapses), save(tmp_path / "before.pt", MLP)
    what = f"network,distances,weights,degrees,wiring,input-grid,before-after={before}"
    for name in ("a", "b"):
        outcome = sen_edge("plot", path, "-o", tmp_path / f"{name}.{ending}", "--what", what)
        assert outcome.code == 0, outcome.err
    data = (tmp_path / f"a.{ending}").read_bytes()
    assert data.startswith(start) and data == (tmp_path / f"b.{ending}").read_bytes()


def test_a_display_that_is_missing_is_not_needed(mlp_path: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    command = [sys.executable, "-m", "sen_edge", "plot", mlp_path, "-o", tmp_path / "net.png"]
    subprocess.run(command, env={**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}, check=True)


def test_panels_are_those_with_something_to_show() -> None:
    pruned = model_of(MLP, synapses={0: np.eye(32, 64, dtype=bool)})
    absent = (panels.BEFORE_AFTER, "delays")
    assert panels.default_panels(scene(pruned)) == [name for name in panels.PANELS if name not in absent]
    odd = scene(model_of(SpatialConfig((63, 10))))
    assert panels.default_panels(odd) == ["network", "distances", "weights", "wiring"]


def test_without_matplotlib_the_pip_line_is_named(
    sen_edge: Run, mlp_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    outcome = sen_edge("plot", mlp_path, "-o", tmp_path / "net.pdf")
    assert outcome.code == 4 and "pip install 'sen-edge[plot]'" in outcome.err
    assert sen_edge("plot", mlp_path, "-o", tmp_path / "net.html").code == 0
