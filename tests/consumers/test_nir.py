"""`.nir` files of snnTorch and Norse here, and ours there: equal spikes."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sen_exporters.nir import hdf5
from sen_exporters.nir.exporter import NirExporter, NirOptions
from sen_exporters.nir.reader import Simulation, to_network
from sen_runtime import reference
from sen_runtime.ir.delays import ConstantDelay
from tests.support.networks import random_input, random_network

pytestmark = pytest.mark.consumers

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / "build" / "consumers" / "nir" / "bin" / "python"
#: torch, nir and the rest are ours.
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
#: The simulation of each tool's files.
TOOLS = {
    "snntorch": Simulation(1e-4, 20),
    "norse": Simulation(1e-3, 20, "direct", "last_membrane"),
}


def call(tool: str, command: str, model: Path, record: Path) -> np.ndarray:
    """Outputs `[T, n, n_out]` of a tool."""
    script = HERE / "adapters" / f"nir_{tool}.py"
    subprocess.run([PYTHON, script, command, model, record], check=True, env=ENVIRONMENT)
    return np.load(record)["spikes"]


@pytest.mark.parametrize("tool", TOOLS)
def test_files_of_the_tool_give_its_outputs(tool: str, tmp_path: Path) -> None:
    model, record = tmp_path / "net.nir", tmp_path / "net.npz"
    outputs, network = call(tool, "write", model, record), to_network(hdf5.loads(model.read_bytes()), TOOLS[tool])
    expected = outputs.sum(axis=0) if network.readout == "spike_count" else outputs[-1]
    np.testing.assert_allclose(reference.run(network, np.load(record)["x"]), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("tool", TOOLS)
def test_the_tool_runs_our_files_with_equal_spikes(tool: str, tmp_path: Path) -> None:
    model, record, rng = tmp_path / "net.nir", tmp_path / "net.npz", np.random.default_rng(0)
    for synapse in (0.0, 0.0, 0.7):
        network = random_network(
            rng, spiking=True, kinds=("dense",), reset="zero", readout="spike_count", sizes=(6, 9, 4), timesteps=20
        )
        if synapse != 0:
            layers = tuple(replace(layer, synapse=synapse, bias=None) for layer in network.layers)
            network = replace(network, layers=layers)
        x = random_input(rng, network, 32)
        model.write_bytes(NirExporter().export(network, NirOptions(dt=TOOLS[tool].dt)).main)
        np.savez(record, x=x, timesteps=network.timesteps)
        spikes = call(tool, "run", model, record).sum(axis=0)
        # a membrane within rounding of the threshold may spike in one and not in the other
        assert np.mean(spikes == reference.run(network, x)) > 0.99


def test_delays_are_refused_by_one_tool_and_left_out_by_another(tmp_path: Path) -> None:
    """docs/reference/nir.md says so."""
    model, record, rng = tmp_path / "net.nir", tmp_path / "net.npz", np.random.default_rng(0)
    network = random_network(
        rng, spiking=True, kinds=("dense",), reset="zero", readout="spike_count", sizes=(6, 9, 4), timesteps=20
    )
    first, *rest = network.layers
    delayed = replace(network, layers=(replace(first, delay=ConstantDelay(4)), *rest))
    x = random_input(rng, network, 32)
    np.savez(record, x=x, timesteps=network.timesteps)
    model.write_bytes(NirExporter().export(delayed, NirOptions(dt=TOOLS["norse"].dt)).main)
    spikes = call("norse", "run", model, record).sum(axis=0)
    assert np.mean(spikes == reference.run(network, x)) > 0.99 > np.mean(spikes == reference.run(delayed, x))
    with pytest.raises(subprocess.CalledProcessError):
        call("snntorch", "run", model, record)
