"""`.nir` files: written, read back, and read from snnTorch and Norse (`nir_files`, by tests/consumers/adapters)."""

import gzip
import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sen_edge import load
from sen_edge.errors import UsageError
from sen_exporters.base import NoFormError
from sen_exporters.nir import hdf5
from sen_exporters.nir.engine import ENGINE
from sen_exporters.nir.exporter import NirExporter, NirOptions
from sen_exporters.nir.reader import Simulation, stated_simulation, to_network
from sen_exporters.nir.strings import NirError
from sen_runtime import reference
from sen_runtime.errors import MissingExtraError
from sen_runtime.ir.int8 import Grid
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif, Relu
from sen_runtime.ir.operators import Dense
from sen_runtime.ir.standardization import Standardization
from tests.conftest import Outcome
from tests.support.networks import random_input, random_network

nir = pytest.importorskip("nir")
h5py = pytest.importorskip("h5py")

EXPORTER, FILES = NirExporter(), Path(__file__).parent / "nir_files"
ONES = np.ones((2, 3), np.float32)
LIF = nir.LIF(np.full(2, 1e-3), np.ones(2), np.zeros(2), np.full(2, 0.1), np.zeros(2))
SIMULATION = Simulation(1e-4, 5)


def export(network: Network, **options: Any) -> bytes:
    return EXPORTER.export(network, NirOptions(**options)).main


def read(data: bytes, simulation: Simulation | None = None) -> Network:
    graph = hdf5.loads(data)
    return to_network(graph, stated_simulation(graph) or simulation)


def spiking(*neurons: Lif | LeakyIntegrator, **changes: Any) -> Network:
    """Layers of 4 neurons."""
    rng = np.random.default_rng(0)
    weights = [Dense(rng.normal(0, 0.5, (4, 4)).astype(np.float32)) for _ in neurons]
    layers = tuple(Layer(weight, None, neuron) for weight, neuron in zip(weights, neurons, strict=True))
    return Network(layers, **{"timesteps": 12, "readout": "spike_count", **changes})


def write(path: Path, *nodes: Any, edges: Any = None, names: tuple[str, ...] = ()) -> Path:
    """A file of nodes in a row between an input of 3 and an output of 2 values, or with other edges."""
    found = {"in": nir.Input(np.array([3])), **dict(zip(names or "abcdef", nodes, strict=False))}
    found["out"] = nir.Output(np.array([2]))
    graph = nir.NIRGraph(found, list(pairwise(found)) if edges is None else edges, type_check=False)
    nir.write(path, graph)
    return path


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


BETAS = np.array([0.0, 0.25, 0.9, 0.999], np.float32)


@pytest.mark.parametrize(
    ("first", "last"),
    [
        pytest.param(Lif(BETAS, BETAS + 0.3, "zero"), LeakyIntegrator(BETAS), id="each neuron has its own"),
        pytest.param(Lif(1.0, 0.7, "zero"), LeakyIntegrator(1.0), id="no leak"),
        pytest.param(Lif(0.0, 0.7, "zero"), LeakyIntegrator(0.0), id="no memory"),
    ],
)
def test_the_file_means_the_same_to_a_simulator_of_nir(first: Lif, last: LeakyIntegrator) -> None:
    """Forward Euler on the nodes as `nir` reads them."""
    network, dt = spiking(first, last, readout="last_membrane"), 1e-3
    x = np.random.default_rng(1).uniform(0, 1, (16, 4)).astype(np.float32)
    graph = nir.read(BytesIO(export(network, dt=dt)))
    membranes: dict[str, Any] = {}
    for _ in range(network.timesteps):
        y: Any = x.astype(np.float64)
        for name in ("layer0", "layer0_neurons", "layer1", "layer1_neurons"):
            node = graph.nodes[name]
            if hasattr(node, "weight"):
                y = y @ node.weight.T
                continue
            v = membranes.get(name, np.zeros_like(y))
            v = v + (dt / node.tau * (node.v_leak - v + node.r * y) if hasattr(node, "tau") else dt * node.r * y)
            y = v
            if hasattr(node, "v_threshold"):
                y = (v > node.v_threshold).astype(np.float64)
                v = np.where(y > 0, node.v_reset, v)
            membranes[name] = v
    np.testing.assert_allclose(y, reference.run(network, x), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(reference.run(read(export(network, dt=dt)), x), reference.run(network, x))


def test_float16_weights_and_properties_are_kept() -> None:
    network = random_network(np.random.default_rng(0), spiking=True, kinds=("dense",), reset="zero", dtype=np.float16)
    artifact = EXPORTER.stamp(EXPORTER.export(network, NirOptions()), {"producer": "a test", "weights": "sparse 1x1"})
    assert EXPORTER.properties(artifact.main)["producer"] == "a test"
    assert dict(read(artifact.main).metadata) == {**network.metadata, "producer": "a test"}  # its weights are dense
    assert read(artifact.main).layers[0].weight.w.dtype == np.float16


SCALING = Standardization(np.zeros(4, np.float32), np.ones(4, np.float32))
LINEAR = Network((Layer(Dense(np.ones((4, 4), np.float32)), None, Identity()),))


@pytest.mark.parametrize(
    ("network", "named"),
    [
        (replace(LINEAR, layers=(Layer(Dense(np.ones((4, 4), np.float32)), None, Relu()), *LINEAR.layers)), "Relu"),
        (spiking(Lif(0.9, reset="subtract")), "subtract"),
        (spiking(Lif(np.array([0.9, 1, 1, 0.9], np.float32), reset="zero")), "neuron 1"),
        (spiking(Lif(0.9, reset="zero"), input_coding="rate"), "rate"),
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


RECURRENT = [("in", "fc"), ("fc", "lif"), ("lif", "back"), ("back", "lif"), ("lif", "out")]


@pytest.mark.parametrize(
    ("nodes", "named"),
    [
        ((nir.Conv1d(3, np.ones((1, 1, 3)), 1, 0, 1, 1, np.zeros(1)),), "a is a Conv1d"),
        ((nir.Linear(ONES), nir.CubaLIF(*np.ones((5, 2)))), "b is a CubaLIF"),
        ((nir.Linear(ONES), nir.NIRGraph({"x": LIF}, [], type_check=False)), "b is a NIRGraph"),
        ((LIF,), r"a \(LIF\)"),
        ((nir.Linear(ONES), LIF, LIF), r"c \(LIF\)"),
        ((nir.Linear(ONES), LIF, nir.Flatten(np.array([2]), 0)), r"c \(Flatten\)"),
        ((nir.Linear(ONES), nir.LI(*np.ones((3, 2))), nir.Linear(ONES[:, :2])), r"b \(LI\)"),
        ((nir.Linear(ONES), lif(v_leak=[0, 1])), r"b \(LIF\): v_leak"),
        ((nir.Linear(ONES), lif(v_reset=[0, 0.5])), r"b \(LIF\): v_reset"),
        ((nir.Linear(ONES), lif(tau=[1e-5, 1])), r"b \(LIF\): tau"),
        ((nir.Linear(ONES), lif(tau=[np.inf, 1])), r"b \(LIF\): tau"),
        ((nir.Linear(ONES), lif(r=[0, 1])), r"b \(LIF\): r"),
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


# --- hostile -------------------------------------------------------------------------------------


def damage(change: Callable[[Any], None]) -> Callable[[Path], None]:
    """A change of the nodes of a file, through h5py."""

    def apply(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            change(file["node/nodes"])

    return apply


def replace_weight(**arguments: Any) -> Callable[[Any], None]:
    def change(nodes: Any) -> None:
        del nodes["a/weight"]
        nodes.create_dataset("a/weight", **arguments)

    return change


def link(value: Any) -> Callable[[Any], None]:
    def change(nodes: Any) -> None:
        del nodes["a/weight"]
        nodes["a/weight"] = value

    return change


def virtual(nodes: Any) -> None:
    del nodes["a/weight"]
    layout = h5py.VirtualLayout((2, 3), "f4")
    layout[:] = h5py.VirtualSource("other.nir", "w", (2, 3))
    nodes.create_virtual_dataset("a/weight", layout)


def overwrite(old: bytes, new: bytes) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        data = path.read_bytes()
        assert old in data
        path.write_bytes(data.replace(old, new, 1))

    return apply


HOSTILE: dict[str, Callable[[Path], None]] = {
    "claims": damage(replace_weight(shape=(1 << 20, 1 << 20), dtype="f4", chunks=(1, 64))),
    "expands": damage(replace_weight(shape=(1 << 30, 3), dtype="f4", compression="gzip", chunks=(1 << 10, 3))),
    "no values": damage(replace_weight(data=h5py.Empty("f4"))),
    "complex": damage(replace_weight(data=ONES * 1j)),
    "texts": damage(replace_weight(data=["a", "b"])),
    "external file": damage(replace_weight(shape=(2, 3), dtype="f4", external=[("/etc/hostname", 0, 24)])),
    "external link": damage(link(h5py.ExternalLink("other.nir", "/w"))),
    "soft link": damage(link(h5py.SoftLink("/node/nodes/a/weight"))),
    "virtual": damage(virtual),
    "many nodes": damage(lambda nodes: [nodes.create_group(f"n{i}") for i in range(hdf5.MAX_NODES)]),
    "node is an array": damage(lambda nodes: nodes.create_dataset("z", data=1)),
    "type is missing": damage(lambda nodes: nodes.__delitem__("a/type")),
    "field is missing": damage(lambda nodes: nodes.__delitem__("a/weight")),
    "text that never ends": overwrite(b"\6\0\0\0\0\0\0\0Linear", b"\xf0" + b"\xff" * 7 + b"Linear"),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:5000]),
    "empty": lambda path: path.write_bytes(b""),
    "escapes": lambda path: path.write_bytes(b"\x1b[31m" * 1000),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_one_line(tmp_path: Path, kind: str, sen_edge: Callable[..., Outcome]) -> None:
    path = write(tmp_path / "a.nir", nir.Linear(ONES))
    HOSTILE[kind](path)
    with pytest.raises(NirError):
        read(path.read_bytes())
    for command in (("inspect", path), ("export", path, "--to", "sen", "-o", tmp_path / "out")):
        outcome = sen_edge(*command)
        assert outcome.code == 1 and "Traceback" not in outcome.err and "\x1b" not in outcome.err
    assert not (tmp_path / "out").exists()


def test_every_byte_can_be_wrong(tmp_path: Path) -> None:
    """Single bytes of the structure and the texts; HDF5 itself neither crashes nor hangs."""
    data, rng = write(tmp_path / "a.nir", nir.Linear(ONES)).read_bytes(), np.random.default_rng(0)
    used = np.flatnonzero(np.frombuffer(data, np.uint8))
    for index in rng.choice(used, 150, replace=False):
        damaged = bytearray(data)
        damaged[index] = rng.integers(256)
        try:
            read(bytes(damaged))
        except NirError as error:
            assert error.message.isprintable()


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write(tmp_path / "a.nir", nir.Linear(ONES))
    monkeypatch.setitem(sys.modules, "h5py", None)
    monkeypatch.setitem(sys.modules, "nir", None)
    for call in (lambda: load(path), lambda: export(LINEAR), ENGINE.version):
        with pytest.raises(MissingExtraError) as raised:
            call()
        assert "sen-edge[nir]" in raised.value.hint
