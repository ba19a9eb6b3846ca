"""Figures of delays, and spikes that never arrive."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sen_edge.model.model import Model
from sen_edge.model.statistics import layer_figures, summarize
from sen_edge.model.wiring_figures import late_warning, wiring_figures
from sen_edge.report.network.delays import _delays
from sen_runtime import format as image
from sen_runtime.ir.delays import ConstantDelay, Delay, SpatialDelay, StoredDelay
from sen_runtime.ir.layer import Layer, Recurrence
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import LeakyIntegrator, Lif
from sen_runtime.ir.operators import Dense, Sparse
from tests.conftest import Outcome

Run = Callable[..., Outcome]
HERE, THERE = np.float32([[0], [3], [9]]), np.float32([[0], [4]])
#: | 0 3 9 |
#: | 4 1 5 |
DISTANCES = SpatialDelay(HERE, THERE)


def network(delay: Delay | None = DISTANCES, recurrent: Recurrence | None = None, timesteps: int = 20) -> Network:
    hidden = Layer(Dense(np.ones((2, 3), np.float32)), None, Lif(0.5), delay=delay, recurrent=recurrent, synapse=0.25)
    readout = Layer(Dense(np.ones((2, 2), np.float32)), None, LeakyIntegrator(0.5))
    return Network((hidden, readout), timesteps, "spikes")


@pytest.mark.parametrize(
    ("delay", "kind", "dtype", "steps", "nbytes"),
    [
        (None, "none", "", (0, 0, 0), 0),
        (ConstantDelay(0), "none", "", (0, 0, 0), 0),
        (ConstantDelay(7), "constant", "", (7, 7, 7), 0),
        (StoredDelay(np.array([[1, 2, 3], [4, 5, 9]], np.uint8)), "stored", "uint8", (1, 4, 9), 6),
        (StoredDelay(np.array([[1, 2, 3], [4, 5, 9]], np.uint16)), "stored", "uint16", (1, 4, 9), 12),
        (DISTANCES, "positions", "float32", (0, 22 / 6, 9), 20),
        (replace(DISTANCES, limit=100, shift=2), "positions", "float32", (2, 2 + 22 / 6, 11), 20),
    ],
)
def test_figures_of_a_connection(
    delay: Delay | None, kind: str, dtype: str, steps: tuple[float, ...], nbytes: int
) -> None:
    figures = wiring_figures(network(delay).layers[0])
    assert figures is not None
    (found,) = figures.delays
    assert (found.kind, found.dtype, found.bytes, found.synapses) == (kind, dtype, nbytes, 6)
    assert (found.min, found.mean, found.max) == pytest.approx(steps)
    assert (figures.slots, figures.synapse) == (steps[-1] + 1, 0.25)


def test_pruned_synapses_do_not_count() -> None:
    weight = Sparse.from_dense(np.float32([[1, 1, 0], [0, 1, 0]]))
    pruned = replace(network(replace(DISTANCES, limit=4, overflow="clamp"), timesteps=4).layers[0], weight=weight)
    figures = wiring_figures(pruned)
    assert figures is not None
    (found,) = figures.delays
    assert (found.synapses, found.min, found.max, figures.slots) == (3, 0, 3, 4)
    assert found.mean == pytest.approx(4 / 3) and found.positions is not None and found.positions.beyond == 0
    assert late_warning(Network((pruned, network().layers[1]), 4, "spikes")) is None
    (name,), (steps,) = zip(*_delays(Network((pruned, network().layers[1]), 4, "spikes")).items(), strict=True)
    assert sorted(steps) == [0, 1, 3] and name == "layer 0, from layer before"


@pytest.mark.parametrize(("overflow", "longest"), [("clamp", 4), ("wrap", 4)])
def test_the_share_beyond_the_limit(overflow: str, longest: int) -> None:
    figures = wiring_figures(network(replace(DISTANCES, limit=4, overflow=overflow)).layers[0])
    assert figures is not None and figures.delays[0].positions is not None
    assert figures.delays[0].positions.beyond == pytest.approx(2 / 6)
    assert figures.delays[0].max == longest


def test_a_delay_that_is_an_error_is_a_problem() -> None:
    broken = network(replace(DISTANCES, limit=4))
    figures = wiring_figures(broken.layers[0])
    assert figures is not None and figures.slots is None
    assert figures.delays[0].problem and figures.delays[0].max is None
    assert late_warning(broken) is None


def test_recurrent_synapses_are_a_connection() -> None:
    recurrent = Recurrence(Dense(np.float32([[0, 1], [1, 0]])), ConstantDelay(12))
    connected = network(None, recurrent)
    figures = wiring_figures(connected.layers[0])
    assert figures is not None and figures.slots == 13
    assert [each.source for each in figures.delays] == ["layer before", "own spikes"]
    (layer, _) = summarize(Model(connected, "")).layers
    assert (layer.synapses, layer.macs, layer.sparsity) == (10, 10, 0.2)


def test_layers_without_delays_have_no_figures() -> None:
    instant = replace(network(None).layers[0], synapse=0.0)
    assert wiring_figures(instant) is None
    assert layer_figures(network())[1].wiring is None


@pytest.mark.parametrize(("timesteps", "count"), [(10, 0), (9, 1), (5, 2), (1, 5)])
def test_spikes_that_never_arrive_are_counted(timesteps: int, count: int) -> None:
    warning = late_warning(network(timesteps=timesteps))
    assert (warning is None) == (count == 0)
    assert warning is None or (warning.startswith(f"{count} ") and "\n" not in warning)


def test_the_warning_is_printed_once(sen_edge: Run, tmp_path: Path) -> None:
    short = network(ConstantDelay(30), Recurrence(Dense(np.ones((2, 2), np.float32)), ConstantDelay(40)))
    path, out = tmp_path / "net.sen", tmp_path / "out"
    image.write(short, path)
    exported = sen_edge("export", path, "--to", "sen", "-o", out, "--name", "again")
    assert exported.code == 0 and exported.err.count("never arrive") == 1
    manifest = json.loads((out / "again.manifest.json").read_text())
    assert sum("never arrive" in line for line in manifest["warnings"]) == 1
    assert manifest["network"]["layers"][0]["wiring"]["slots"] == 41
    inspected = sen_edge("inspect", path)
    assert inspected.code == 0 and inspected.out.count("never arrive") == 1
    assert json.loads(sen_edge("inspect", path, "--json").out)["layers"][0]["wiring"]["delays"][1]["max"] == 40
