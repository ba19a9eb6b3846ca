"""`.nir` files: written, read back, and read from snnTorch and Norse (`nir_files`, by tests/consumers/adapters)."""

import gzip
import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sen_edge import load
from sen_edge.errors import UsageError
from sen_exporters.base import NoFormError
from sen_exporters.nir.engine import ENGINE
from sen_exporters.nir.exporter import NirExporter, NirOptions
from sen_exporters.nir.reader import Simulation
from sen_exporters.nir.strings import NirError
from sen_runtime import reference
from sen_runtime.errors import MissingExtraError
from sen_runtime.format import writer
from sen_runtime.ir.delays import MAX_DELAY, ConstantDelay, SpatialDelay, StoredDelay
from sen_runtime.ir.int8 import Grid
from sen_runtime.ir.layer import Layer, Recurrence
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif, RefractoryLif, Relu
from sen_runtime.ir.operators import Dense
from sen_runtime.ir.standardization import Standardization
from tests.conftest import Outcome
from tests.support.graphs import read, write
from tests.support.networks import random_input, random_network

nir = pytest.importorskip("nir")
pytest.importorskip("h5py")

EXPORTER, FILES = NirExporter(), Path(__file__).parent / "nir_files"
ONES = np.ones((2, 3), np.float32)
LIF = nir.LIF(np.full(2, 1e-3), np.ones(2), np.zeros(2), np.full(2, 0.1), np.zeros(2))
SIMULATION = Simulation(1e-4, 5)


def export(network: Network, **options: Any) -> bytes:
    return EXPORTER.export(network, NirOptions(**options)).main


def spiking(*neurons: Lif | LeakyIntegrator, **changes: Any) -> Network:
    """Layers of 4 neurons."""
    rng = np.random.default_rng(0)
    weights = [Dense(rng.normal(0, 0.5, (4, 4)).astype(np.float32)) for _ in neurons]
    layers = tuple(Layer(weight, None, neuron) for weight, neuron in zip(weights, neurons, strict=True))
    return Network(layers, **{"timesteps": 12, "readout": "spike_count", **changes})


def wired(**changes: Any) -> Network:
    """A layer of spiking neurons with delays, recurrence or currents."""
    network = spiking(Lif(0.9, reset="zero"))
    return replace(network, layers=(replace(network.layers[0], **changes),))


# --- written -------------------------------------------------------------------------------------


@pytest.mark.parametrize("readout", ["mean_membrane", "last_membrane", "spike_count"])
@pytest.mark.parametrize("dt", [1e-4, 1e-3, 0.37])
def test_a_network_survives_bit_for_bit(readout: str, dt: float) -> None:
    rng = np.random.default_rng(0)
    for coding in ("direct", "spikes"):
        network = random_network(
            rng,
            spiking=True,
            kinds=("dense",),
            reset="zero",
            readout=readout,
            input_coding=coding,
            metadata={"a": "ß\0"},
        )
        data = export(network, dt=dt)
        found = read(data)
        for given, layer in zip(network.layers, found.layers, strict=True):
            np.testing.assert_array_equal(given.weight.to_dense(), layer.weight.to_dense())
            assert (
                replace(layer.neuron, **({"reset_delay": True} if layer.neuron.role == "spiking" else {}))
                == given.neuron
            )
        x = random_input(rng, network)
        np.testing.assert_array_equal(reference.run(found, x), reference.run(network, x))
        np.testing.assert_array_equal(ENGINE.load(data).run(x), reference.run(network, x, np.float32))
        assert dict(found.metadata) == network.metadata and data == export(network, dt=dt)


DELAYS = {
    "none": ConstantDelay(0),
    "constant": ConstantDelay(3),
    "of each source": StoredDelay(np.tile(np.array([0, 7, 1, 255], np.uint8), (4, 1))),
    "long": StoredDelay(np.tile(np.array([MAX_DELAY, 2, 300, 0], np.uint16), (4, 1))),
}

BETAS = np.array([0.0, 0.25, 0.9, 0.999], np.float32)
WIRED = {"delay": DELAYS["of each source"], "synapse": 0.6, "bias": np.zeros(4, np.float32)}


@pytest.mark.parametrize(
    ("first", "last", "parts"),
    [
        pytest.param(Lif(BETAS, BETAS + 0.3, "zero"), LeakyIntegrator(BETAS), {}, id="each neuron has its own"),
        pytest.param(Lif(1.0, 0.7, "zero"), LeakyIntegrator(1.0), {}, id="no leak"),
        pytest.param(Lif(0.0, 0.7, "zero"), LeakyIntegrator(0.0), {}, id="no memory"),
        pytest.param(Lif(BETAS, BETAS + 0.3, "zero"), LeakyIntegrator(BETAS), WIRED, id="delays and currents"),
    ],
)
def test_the_file_means_the_same_to_a_simulator_of_nir(first: Lif, last: LeakyIntegrator, parts: Any) -> None:
    network, dt = spiking(first, last, readout="last_membrane"), 1e-3
    network = replace(network, layers=tuple(replace(layer, **parts) for layer in network.layers))
    x = np.random.default_rng(1).uniform(0, 1, (16, 4)).astype(np.float32)
    y = simulate(nir.read(BytesIO(export(network, dt=dt))), x, dt, network.timesteps)
    assert np.any(y)
    np.testing.assert_allclose(y, reference.run(network, x), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(reference.run(read(export(network, dt=dt)), x), reference.run(network, x))


def simulate(graph: Any, x: np.ndarray, dt: float, timesteps: int) -> Any:
    """Outputs of the last step, by forward Euler on the nodes as `nir` reads them, in the order of the edges."""
    membranes: dict[str, Any] = {}
    currents: dict[str, Any] = {}
    past: dict[str, list[Any]] = {}
    for _ in range(timesteps):
        y: Any = x.astype(np.float64)
        for name in [end for _, end in graph.edges[:-1]]:
            node = graph.nodes[name]
            if hasattr(node, "weight"):
                y = y @ node.weight.T
                continue
            if hasattr(node, "delay"):
                past[name] = [y, *past.get(name, [])]
                padded = [*past[name], *[np.zeros_like(y)] * 256]
                y = np.stack([padded[round(delay / dt)][:, i] for i, delay in enumerate(node.delay)], axis=1)
                continue
            if hasattr(node, "tau_syn"):
                i = currents.get(name, np.zeros_like(y))
                y = currents[name] = i + dt / node.tau_syn * (node.w_in * y - i)
            v, tau = membranes.get(name, np.zeros_like(y)), getattr(node, "tau_mem", getattr(node, "tau", None))
            v = v + (dt * node.r * y if tau is None else dt / tau * (node.v_leak - v + node.r * y))
            y = v
            if hasattr(node, "v_threshold"):
                y = (v > node.v_threshold).astype(np.float64)
                v = np.where(y > 0, node.v_reset, v)
            membranes[name] = v
    return y


@pytest.mark.parametrize("kind", DELAYS)
@pytest.mark.parametrize("dt", [1e-4, 0.37])
def test_delays_survive_bit_for_bit(kind: str, dt: float) -> None:
    rng = np.random.default_rng(0)
    for coding in ("direct", "spikes", "current"):
        given = spiking(Lif(0.9, 0.3, "zero"), Lif(0.8, 0.2, "zero"), input_coding=coding)
        given = replace(given, layers=tuple(replace(layer, delay=DELAYS[kind]) for layer in given.layers))
        found = read(export(given, dt=dt))
        for before, after in zip(given.layers, found.layers, strict=True):
            assert before.delay is not None and after.delay is not None and type(before.delay) is type(after.delay)
            np.testing.assert_array_equal(before.delay.steps((4, 4)), after.delay.steps((4, 4)))
        x = random_input(rng, replace(given, input_coding="direct" if coding == "direct" else "spikes"))
        assert np.any(reference.run(given, x))
        np.testing.assert_array_equal(reference.run(found, x), reference.run(given, x))


def test_a_delay_node_has_the_seconds_of_each_source() -> None:
    graph = nir.read(BytesIO(export(wired(delay=DELAYS["of each source"]), dt=1e-3)))
    np.testing.assert_array_equal(graph.nodes["layer0_delay"].delay, np.array([0, 7, 1, 255]) * 1e-3)
    assert graph.edges[:2] == [("input", "layer0_delay"), ("layer0_delay", "layer0")]


def test_a_delay_is_that_of_the_values_before_it(tmp_path: Path) -> None:
    """From the input, and without neurons; float32 seconds; one number for all neurons."""
    nodes = (
        nir.Delay(np.array([0, 2e-4, 3e-4], np.float32)),
        nir.Linear(np.eye(2, 3)),
        nir.Threshold(np.full(2, 0.5)),
        nir.Delay(np.array([1e-4])),
        nir.Linear(2 * np.eye(2)),
    )
    data = write(tmp_path / "a.nir", *nodes).read_bytes()
    network = read(data, Simulation(1e-4, 4, "spikes", "last_membrane"))
    for timesteps, expected in ((1, [0, 0]), (2, [2, 0]), (3, [0, 0]), (4, [0, 2])):
        x = np.zeros((1, timesteps, 3), np.float32)
        x[:, 0] = 1
        np.testing.assert_array_equal(reference.run(replace(network, timesteps=timesteps), x), [expected])
    with pytest.raises(NirError):
        read(write(tmp_path / "b.nir", nir.Delay(np.zeros(3)), nir.Linear(ONES)).read_bytes())


def test_delays_and_currents_pass_the_command_line(tmp_path: Path, sen_edge: Callable[..., Outcome]) -> None:
    network = spiking(Lif(0.9, 0.2, "zero"), Lif(0.8, 0.1, "zero"))
    network = replace(network, layers=tuple(replace(layer, **WIRED) for layer in network.layers))
    (tmp_path / "net.sen").write_bytes(writer.dumps(network))
    for model, out in (("net.sen", "a"), ("a/net.nir", "b")):
        outcome = sen_edge("export", tmp_path / model, "--to", "nir,sen", "--dt", "0.001", "-o", tmp_path / out)
        assert outcome.code == 0, outcome.err
    assert sen_edge("verify", tmp_path / "a/net.nir", "--against", tmp_path / "b/net.sen").code == 0


def test_float16_weights_and_properties_are_kept() -> None:
    network = random_network(np.random.default_rng(0), spiking=True, kinds=("dense",), reset="zero", dtype=np.float16)
    artifact = EXPORTER.stamp(EXPORTER.export(network, NirOptions()), {"producer": "a test", "weights": "sparse 1x1"})
    assert EXPORTER.properties(artifact.main)["producer"] == "a test"
    assert dict(read(artifact.main).metadata) == {**network.metadata, "producer": "a test"}  # its weights are dense
    assert read(artifact.main).layers[0].weight.w.dtype == np.float16


SCALING = Standardization(np.zeros(4, np.float32), np.ones(4, np.float32))
LINEAR = Network((Layer(Dense(np.ones((4, 4), np.float32)), None, Identity()),))
POINTS = np.ones((4, 2), np.float32)


@pytest.mark.parametrize(
    ("network", "named"),
    [
        (replace(LINEAR, layers=(Layer(Dense(np.ones((4, 4), np.float32)), None, Relu()), *LINEAR.layers)), "Relu"),
        (spiking(Lif(0.9, reset="subtract")), "subtract"),
        (spiking(Lif(np.array([0.9, 1, 1, 0.9], np.float32), reset="zero")), "neuron 1"),
        (spiking(Lif(0.9, reset="zero"), input_coding="rate"), "rate"),
        (wired(delay=StoredDelay(np.diag(np.array([0, 0, 5, 0], np.uint8)))), "layer 0.*source neuron 2 are 0 .* 5"),
        (wired(delay=SpatialDelay(POINTS, POINTS)), "layer 0.*positions"),
        (wired(recurrent=Recurrence(Dense(np.ones((4, 4), np.float32)), ConstantDelay(1))), "layer 0.*recurrent"),
        (wired(synapse=0.5, bias=np.array([0, 0, 1, 0], np.float32)), "layer 0.*currents and a bias"),
        (wired(synapse=0.5, neuron=Lif(1.0, reset="zero")), "layer 0.*currents of neurons with beta 1"),
        (spiking(RefractoryLif(0.9)), "RefractoryLif"),
        (spiking(LeakyIntegrator(0.9), readout="mean_membrane", readout_decay=0.5), "mean"),
        (replace(LINEAR, input_scaling=SCALING), "standardization"),
        (replace(LINEAR, output_activation="softmax"), "softmax"),
        (Network((Layer(Dense(np.ones((4, 4), np.int8), np.ones(1, np.float32)), None, Identity()),)), "layer 0.*int8"),
        (
            Network(
                (Layer(Dense(np.ones((4, 4), np.int8), np.ones(1, np.float32)), None, Identity(), Grid(1.0, 0)),),
                input_grid=Grid(1.0, 0),
            ),
            "int8",
        ),
    ],
)
def test_what_has_no_node_is_refused_by_name(network: Network, named: str) -> None:
    with pytest.raises(NoFormError, match=named) as raised:
        export(network)
    assert raised.value.hint


# --- read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "simulation"),
    [("snntorch", Simulation(1e-4, 20)), ("norse", Simulation(1e-3, 20, "direct", "last_membrane"))],
)
def test_files_of_other_tools_give_their_outputs(tool: str, simulation: Simulation) -> None:
    network = read(gzip.decompress((FILES / f"{tool}.nir.gz").read_bytes()), simulation)
    record = np.load(FILES / f"{tool}.npz")
    expected = record["spikes"].sum(axis=0) if network.readout == "spike_count" else record["spikes"][-1]
    np.testing.assert_allclose(reference.run(network, record["x"]), expected, rtol=0, atol=1e-6)


def test_a_map_states_what_a_file_leaves_open(tmp_path: Path, sen_edge: Callable[..., Outcome]) -> None:
    model, text = tmp_path / "net.nir", tmp_path / "net.toml"
    model.write_bytes(gzip.decompress((FILES / "norse.nir.gz").read_bytes()))
    for content in (
        "dt = 1e-3\ntimesteps = 5",
        "dt = 1e-3",
        'dt = 1e-3\ntimesteps = 5\nreadout = "mean"',
        "dt = 0\ntimesteps = 5",
    ):
        text.write_text(content)
        with pytest.raises(NirError):
            load(model, map_path=text)
    text.write_text('dt = 1e-3\ntimesteps = 5\nreadout = "mean_membrane"')
    loaded = load(model, map_path=text)
    assert (loaded.kind, loaded.network.timesteps) == ("graph", 5)
    assert sen_edge("export", model, "--map", text, "--to", "nir,sen", "-o", tmp_path / "out").code == 0
    assert json.loads((tmp_path / "out/net.manifest.json").read_bytes())["input"]["map"] == {
        "file": "net.toml",
        "sha256": hashlib.sha256(text.read_bytes()).hexdigest(),
        "unused": [],
        "stated": {"dt": 1e-3, "timesteps": 5, "readout": "mean_membrane"},
        "assumed": {"input_coding": "direct"},
    }
    assert sen_edge("verify", tmp_path / "out/net.nir", "--against", model, "--map", text).code == 0
    assert sen_edge("inspect", tmp_path / "out/net.nir").code == 0
    with pytest.raises(UsageError):
        load(tmp_path / "out/net.nir", map_path=text)
    assert sen_edge("plot", model, "--map", text, "-o", tmp_path / "net.html").code == 2  # without positions
    loaded.save_pretrained(tmp_path / "shared")
    assert "spatially" not in (tmp_path / "shared/README.md").read_text(encoding="utf-8")
    assert sen_edge("inspect", model).code == 1 and sen_edge("export", model, "--to", "nir", "-o", tmp_path).code == 1


def test_a_threshold_spikes_without_memory_and_a_last_map_is_a_readout(tmp_path: Path) -> None:
    nodes = nir.Linear(ONES), nir.Threshold(np.full(2, 1.5)), nir.Affine(ONES[:, :2], np.zeros(2))
    network = read(write(tmp_path / "a.nir", *nodes).read_bytes(), replace(SIMULATION, readout="mean_membrane"))
    x = np.array([[0.4, 0.4, 0.4], [1, 1, 0]], np.float32)
    np.testing.assert_array_equal(reference.run(network, x), [[0, 0], [2, 2]])


def test_layers_without_neurons_are_a_perceptron(tmp_path: Path) -> None:
    nodes = nir.Flatten(np.array([3]), 0), nir.Affine(ONES, np.ones(2)), nir.Linear(2 * ONES[:, :2])
    model = load(write(tmp_path / "a.nir", *nodes))
    np.testing.assert_array_equal(model.predict([1, 2, 3]), [28, 28])
    with pytest.raises(NirError):
        read(export(LINEAR), SIMULATION)


def lif(**changes: Any) -> Any:
    fields = {name: getattr(LIF, name) for name in ("tau", "r", "v_leak", "v_threshold", "v_reset")}
    return nir.LIF(**{**fields, **{name: np.asarray(value, float) for name, value in changes.items()}})


def cuba(**changes: Any) -> Any:
    fields = {"tau_syn": np.full(2, 1e-3), "w_in": np.full(2, 10.0), "tau_mem": LIF.tau} | {
        name: getattr(LIF, name) for name in ("r", "v_leak", "v_threshold", "v_reset")
    }
    return nir.CubaLIF(**{**fields, **{name: np.asarray(value, float) for name, value in changes.items()}})


RECURRENT = [("in", "fc"), ("fc", "lif"), ("lif", "back"), ("back", "lif"), ("lif", "out")]


@pytest.mark.parametrize(
    ("nodes", "named"),
    [
        ((nir.Conv1d(3, np.ones((1, 1, 3)), 1, 0, 1, 1, np.zeros(1)),), "a is a Conv1d"),
        ((nir.Linear(ONES), nir.NIRGraph({"x": LIF}, [], type_check=False)), "b is a NIRGraph"),
        ((LIF,), r"a \(LIF\)"),
        ((nir.Linear(ONES), LIF, LIF), r"c \(LIF\)"),
        ((nir.Linear(ONES), LIF, nir.Flatten(np.array([2]), 0)), r"c \(Flatten\)"),
        ((nir.Linear(ONES), nir.Delay(np.zeros(2)), LIF), r"b \(Delay\)"),
        ((nir.Linear(ONES), LIF, nir.Delay(np.zeros(2))), r"c \(Delay\)"),
        ((nir.Delay(np.zeros(3)), nir.Delay(np.zeros(3)), nir.Linear(ONES), LIF), r"a \(Delay\)"),
        ((nir.Delay(np.zeros(2)), nir.Linear(ONES), LIF), r"a \(Delay\): delay"),
        ((nir.Delay(np.array([0, 1.5e-4, 0])), nir.Linear(ONES), LIF), r"a \(Delay\): delay of neuron 1 is 0.00015"),
        ((nir.Delay(np.array([0, 0, -1e-4])), nir.Linear(ONES), LIF), r"a \(Delay\): delay of neuron 2 is -0.0001"),
        ((nir.Delay(np.array([0, np.nan, 0])), nir.Linear(ONES), LIF), r"a \(Delay\): delay holds nan"),
        ((nir.Delay(np.array([0, 0, 6.5536])), nir.Linear(ONES), LIF), r"a \(Delay\): delay of neuron 2 is 6.5536"),
        ((nir.Delay(np.array([1e308, 0, 0])), nir.Linear(ONES), LIF), r"a \(Delay\): delay of neuron 0 is 1e\+308"),
        ((nir.Linear(ONES), nir.LI(*np.ones((3, 2))), nir.Linear(ONES[:, :2])), r"b \(LI\)"),
        ((nir.Linear(ONES), lif(v_leak=[0, 1])), r"b \(LIF\): v_leak"),
        ((nir.Linear(ONES), lif(v_reset=[0, 0.5])), r"b \(LIF\): v_reset"),
        ((nir.Linear(ONES), lif(tau=[1e-5, 1])), r"b \(LIF\): tau"),
        ((nir.Linear(ONES), lif(tau=[np.inf, 1])), r"b \(LIF\): tau"),
        ((nir.Linear(ONES), lif(r=[0, 1])), r"b \(LIF\): the gain"),
        ((nir.Linear(ONES), cuba(w_in=[-1, 1])), r"b \(CubaLIF\): the gain"),
        ((nir.Linear(ONES), cuba(tau_syn=[1e-3, 2e-3])), r"b \(CubaLIF\): tau_syn goes from 0.001 to 0.002"),
        ((nir.Linear(ONES), cuba(tau_syn=[1e-5, 1e-5])), r"b \(CubaLIF\): tau_syn is 1e-05"),
        ((nir.Linear(ONES), cuba(tau_syn=[1e9, 1e9])), r"b \(CubaLIF\): synapse"),
        ((nir.Linear(ONES), cuba(tau_mem=[1e-5, 1])), r"b \(CubaLIF\): tau_mem"),
        ((nir.Linear(ONES), cuba(v_leak=[0, 1])), r"b \(CubaLIF\): v_leak"),
        ((nir.Affine(ONES, np.array([0, 0.5])), cuba()), r"b \(CubaLIF\): .*bias of node a"),
        ((nir.Linear(ONES), nir.CubaLI(*np.ones((4, 2))), nir.Linear(ONES[:, :2])), r"b \(CubaLI\)"),
        ((nir.Linear(ONES), lif(v_threshold=[0, 1])), r"b \(LIF\): threshold"),
        ((nir.Linear(ONES), lif(v_threshold=[np.nan, 1])), r"b \(LIF\): v_threshold"),
        ((nir.Linear(ONES), nir.Threshold(np.ones(3))), r"b \(Threshold\): threshold"),
        ((nir.Linear(ONES * np.nan), LIF), r"a \(Linear\)"),
        ((nir.Affine(ONES, np.ones(3)), LIF), r"a \(Affine\): bias"),
        ((nir.Linear(ONES[:, :2]), LIF), r"in \(Input\)"),
        ((nir.Linear(ONES), nir.Threshold(np.ones(2)), nir.Linear(np.ones((4, 2)))), r"out \(Output\)"),
    ],
)  # fmt: skip
def test_nodes_without_a_form_are_refused_by_name(tmp_path: Path, nodes: tuple[Any, ...], named: str) -> None:
    path = write(tmp_path / "a.nir", *nodes)
    with pytest.raises(NirError, match=named):
        read(path.read_bytes(), replace(SIMULATION, readout=None if nodes[-1] is LIF else "last_membrane"))


@pytest.mark.parametrize(
    ("edges", "named"),
    [
        (RECURRENT, "lif"),
        ([("in", "fc"), ("fc", "lif"), ("lif", "out"), ("back", "back")], "back"),
        ([("in", "fc"), ("fc", "lif"), ("lif", "out")], "back"),
        ([("in", "fc"), ("fc", "lif"), ("lif", "back"), ("lif", "out"), ("back", "out")], "lif|out"),
        ([("in", "nowhere")], "nowhere"),
        ([], "edges"),
    ],
)
def test_graphs_that_are_no_chains_are_refused_by_name(tmp_path: Path, edges: list[Any], named: str) -> None:
    nodes = nir.Linear(ONES), LIF, nir.Linear(ONES[:, :2])
    path = write(tmp_path / "a.nir", *nodes, names=("fc", "lif", "back"), edges=edges)
    with pytest.raises(NirError, match=named):
        read(path.read_bytes(), SIMULATION)


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write(tmp_path / "a.nir", nir.Linear(ONES))
    monkeypatch.setitem(sys.modules, "h5py", None)
    monkeypatch.setitem(sys.modules, "nir", None)
    for call in (lambda: load(path), lambda: export(LINEAR), ENGINE.version):
        with pytest.raises(MissingExtraError) as raised:
            call()
        assert "sen-edge[nir]" in raised.value.hint
