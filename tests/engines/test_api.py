"""`sen_runtime.load`: one function for every kind of exported file, and sessions that step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sen_runtime
from sen_exporters.base import exporter
from sen_runtime import reference
from sen_runtime.errors import EngineError, SenError
from sen_runtime.ir.network import Network
from tests.support.networks import random_network

TARGETS = {"sen": {}, "onnx": {"snn": "step"}, "tflite": {"snn": "step"}}


def make_network(**options: object) -> Network:
    return random_network(np.random.default_rng(0), kinds=("dense",), sizes=(6, 9, 3), **options)


def write(network: Network, target: str, folder: Path, **options: str) -> Path:
    chosen = exporter(target)
    return chosen.export(network, chosen.Options(name="net", **options)).write(folder)


@pytest.mark.parametrize("target", TARGETS)
def test_load_chooses_the_engine_by_suffix(target: str, tmp_path: Path) -> None:
    network = make_network()
    x = np.random.default_rng(0).random((3, network.layer_sizes[0]), np.float32)
    path = write(network, target, tmp_path)
    for each in (path, str(path)):
        with sen_runtime.load(each) as session:
            np.testing.assert_allclose(session.run(x), reference.run(network, x), rtol=1e-4, atol=1e-4)


def test_load_takes_the_engine_that_is_named(tmp_path: Path) -> None:
    path = write(make_network(), "sen", tmp_path)
    assert type(sen_runtime.load(path, engine="reference")).__name__ == "ReferenceSession"
    for wrong in (lambda: sen_runtime.load(path, engine="none"), lambda: sen_runtime.load(tmp_path / "a.txt")):
        with pytest.raises(SenError):
            wrong()


@pytest.mark.parametrize("readout", ["last_membrane", "spike_count"])
@pytest.mark.parametrize("target", TARGETS)
def test_steps_give_what_a_run_gives(target: str, readout: str, tmp_path: Path) -> None:
    network = make_network(spiking=True, readout=readout)
    session = sen_runtime.load(write(network, target, tmp_path, **TARGETS[target]))
    x = np.random.default_rng(1).random(network.layer_sizes[0], np.float32)
    assert session.timesteps == network.timesteps
    for _ in range(2):
        session.reset()
        outputs = [session.step(x) for _ in range(network.timesteps)]
        whole = session.run(x)
        np.testing.assert_allclose(outputs[-1] if readout == "last_membrane" else sum(outputs), whole, atol=1e-5)
        with pytest.raises(EngineError) as raised:
            session.step(x)
        assert "reset" in raised.value.hint


@pytest.mark.parametrize("target", TARGETS)
def test_whole_samples_have_no_steps(target: str, tmp_path: Path) -> None:
    network = make_network(spiking=target != "sen")
    session = sen_runtime.load(write(network, target, tmp_path))
    for call in (session.reset, lambda: session.step(np.zeros(network.layer_sizes[0], np.float32))):
        with pytest.raises(EngineError):
            call()
