"""Delays in charts, and spikes under way on the page."""

import base64
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sen_edge.report.network.delays import delay_chart
from sen_runtime import format as image
from sen_runtime.ir.delays import ConstantDelay, SpatialDelay, StoredDelay
from sen_runtime.ir.layer import Layer, Recurrence
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import LeakyIntegrator, Lif
from sen_runtime.ir.operators import Coordinates, Dense
from tests.conftest import Outcome

Run = Callable[..., Outcome]
STEPS = 12


def spatial_network() -> Network:
    """Weights and delays from the same positions; the readout has none."""
    rng = np.random.default_rng(0)
    places = [rng.normal(0, 2, (n, 3)).astype(np.float32) for n in (9, 7, 3)]
    masks = [rng.uniform(-1, 1, len(at)).astype(np.float32) for at in places]
    weights = [Coordinates(places[i], places[i + 1], masks[i], gain=2.0) for i in range(2)]
    hidden = Layer(
        weights[0], None, Lif(0.5, 0.5), delay=SpatialDelay(places[0], places[1], 1.5, limit=20, overflow="clamp")
    )
    return Network((hidden, Layer(weights[1], None, LeakyIntegrator(0.5))), STEPS, "spikes")


def free_network() -> Network:
    rng = np.random.default_rng(0)
    delay = StoredDelay(rng.integers(1, 9, (4, 4)).astype(np.uint8))
    dense = Dense(np.ones((4, 4), np.float32))
    hidden = Layer(dense, None, Lif(0.5), delay=ConstantDelay(1), recurrent=Recurrence(dense, delay))
    return Network((hidden, Layer(dense, None, LeakyIntegrator(0.5))), STEPS, "spikes")


def test_the_chart_has_the_connections_whose_delays_differ() -> None:
    chart = delay_chart(free_network())
    assert chart is not None and "own spikes" in chart.description and "layer before" not in chart.description
    hidden, readout = spatial_network().layers
    for delay in (None, ConstantDelay(3), replace(hidden.delay, limit=1, overflow="error")):  # type: ignore[type-var]
        assert delay_chart(Network((replace(hidden, delay=delay), readout), STEPS, "spikes")) is None


@pytest.mark.parametrize("network", [spatial_network(), free_network()], ids=["positions", "stored"])
def test_a_report_draws_delays(sen_edge: Run, tmp_path: Path, network: Network) -> None:
    pytest.importorskip("matplotlib")
    image.write(network, tmp_path / "net.sen")
    outcome = sen_edge("report", tmp_path / "net.sen", "-o", tmp_path / "page.html")
    assert outcome.code == 0, outcome.err
    assert "delay in steps" in (tmp_path / "page.html").read_text()


def test_a_panel_of_a_network_without_delays_is_refused(sen_edge: Run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    network = spatial_network()
    image.write(network, tmp_path / "with.sen")
    image.write(
        replace(network, layers=(replace(network.layers[0], delay=None), network.layers[1])), tmp_path / "without.sen"
    )
    assert sen_edge("plot", tmp_path / "with.sen", "-o", tmp_path / "a.svg", "--what", "delays").code == 0
    refused = sen_edge("plot", tmp_path / "without.sen", "-o", tmp_path / "b.svg", "--what", "delays")
    assert refused.code == 2 and "delays" in refused.err


def test_the_page_holds_the_delays_of_the_drawn_synapses(sen_edge: Run, tmp_path: Path) -> None:
    network = spatial_network()
    image.write(network, tmp_path / "net.sen")
    assert sen_edge("plot", tmp_path / "net.sen", "-o", tmp_path / "page.html").code == 0
    text = (tmp_path / "page.html").read_text()
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    data = json.loads(found[1])
    types = {"sources": "<u4", "targets": "<u4", "delays": "<u2"}
    arrays = {name: np.frombuffer(base64.b64decode(data["arrays"][name][1]), kind) for name, kind in types.items()}
    first, end = data["synapses"][0], data["synapses"][1]
    assert end - first == 63 and not arrays["delays"][end:].any()
    delay = network.layers[0].delay
    assert delay is not None
    expected = delay.steps((7, 9))[arrays["targets"][:end] - 9, arrays["sources"][:end]]
    np.testing.assert_array_equal(arrays["delays"][:end], expected)
