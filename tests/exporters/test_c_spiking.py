"""Exported C: parameters of single neurons, and input codings."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sen_edge.passes.quantize import to_int8_weights
from sen_exporters.c.program import lower_network
from sen_runtime import reference
from sen_runtime.engines import c as engine
from sen_runtime.ir.network import READOUTS, Network
from sen_runtime.ir.standardization import Standardization
from tests.exporters.test_c_scaling import passes
from tests.exporters.test_codings import COMPUTED, coded, draw
from tests.exporters.test_neuron_parameters import RESET_CASES, draw_inputs, make
from tests.support.c_exports import SHARED, export
from tests.support.networks import stream


def assert_exported(network: Network, x: np.ndarray, folder: Path, **options: object) -> None:
    """A run, the same in steps, and the self-test."""
    artifact = export(network, **options)
    expected = reference.run(network, x)
    close = {"rtol": 1e-4, "atol": 1e-5}
    with engine.load(artifact.write(folder), flags=SHARED) as session:
        assert session.input_shape == network.input_shape
        np.testing.assert_allclose(session.run(x), expected, **close)
        np.testing.assert_allclose(stream(session, network, x[0]), expected[0], **close)
    assert passes(artifact, folder)


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("coding", ["direct", "spikes"])
@pytest.mark.parametrize("sizes", [(6, 9, 7, 4), (6, 9, 4), (5, 3)])
def test_neurons_that_differ(readout: str, coding: str, sizes: tuple[int, ...], tmp_path: Path) -> None:
    network = make(sizes, readout, coding=coding)
    assert_exported(network, draw_inputs(network), tmp_path)


@pytest.mark.parametrize(("reset", "delay"), RESET_CASES)
def test_resets_of_neurons_that_differ(reset: str, delay: bool, tmp_path: Path) -> None:
    network = make((6, 9, 4), "mean_membrane", reset=reset, delay=delay)
    assert_exported(network, draw_inputs(network), tmp_path, weights="incbin")


def test_some_layers_with_neurons_that_differ(tmp_path: Path) -> None:
    varied, same = (make((6, 9, 7, 4), "last_membrane", each=each) for each in (True, False))
    network = replace(varied, layers=(same.layers[0], varied.layers[1], same.layers[2]))
    assert_exported(network, draw_inputs(network), tmp_path)


def test_int8_weights_with_neurons_that_differ(tmp_path: Path) -> None:
    network = make((6, 9, 7, 4), "mean_membrane", coding="spikes")
    network = to_int8_weights(network, calibration=draw_inputs(network, 32))
    assert passes(export(network), tmp_path)


@pytest.mark.parametrize("coding", COMPUTED)
@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("sizes", [(6, 9, 7, 4), (6, 4)])
def test_codings(coding: str, readout: str, sizes: tuple[int, ...], tmp_path: Path) -> None:
    network = coded(coding, sizes, readout)
    assert_exported(network, draw(network), tmp_path)


def test_currents_are_standardized(tmp_path: Path) -> None:
    scaling = Standardization(np.arange(6, dtype=np.float32) / 8, np.full(6, 0.5, np.float32))
    network = coded("current", input_scaling=scaling)
    assert_exported(network, draw(network), tmp_path)


@pytest.mark.parametrize("coding", ["direct", "spikes", "current"])
def test_plain_networks_have_no_member_more(coding: str) -> None:
    program = lower_network(coded(coding), "model")
    assert not program.macros
    assert not {"code", "state"} & set(program.members)
    assert "integrate_each" not in program.kernels
