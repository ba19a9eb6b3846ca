"""Exported C with int8 activations: integers only, equal to the reference to the bit."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sen_edge.passes.quantize import to_int8
from sen_exporters.base import NoFormError
from sen_runtime import integer
from sen_runtime.engines import c as engine
from sen_runtime.ir.standardization import Standardization
from tests.engines.test_integer import KINDS, SPIKING, quantized
from tests.support.c_exports import STRICT, export
from tests.support.networks import random_input, random_network

pytestmark = pytest.mark.needs("gcc")
CHECKED = (*STRICT, "-O1", "-fPIC", "-shared", "-fsanitize=undefined", "-fno-sanitize-recover=all")
#: A build takes most of the time.
EXAMPLES = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(seed=st.integers(0, 2**32 - 1), granularity=st.sampled_from(["channel", "tensor"]), spiking=st.none() | SPIKING)
@EXAMPLES
def test_outputs_equal_the_reference_to_the_bit(
    seed: int, granularity: str, spiking: dict[str, object] | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(seed)
    network = random_network(rng, kinds=KINDS, spiking=spiking is not None, **(spiking or {}))
    x = random_input(rng, network, 20)
    network = quantized(network, x, granularity)
    x = random_input(rng, network, 20)
    session = engine.load(export(network).write(tmp_path_factory.mktemp("net")), flags=CHECKED)
    *hidden, expected = integer.trace(network, x)
    values = session.run_all(x)
    np.testing.assert_array_equal(values["output"], expected)
    for index, each in enumerate(hidden):
        np.testing.assert_array_equal(values[f"layer{index}/activation"], each)
    if not network.coding.is_binary:
        x = (30 * (x - np.float32(0.5))).astype(np.float32)
        np.testing.assert_array_equal(session.run(x), integer.run(network, x))


def test_inputs_that_the_network_standardizes_are_refused() -> None:
    ones = Standardization(np.ones(6, np.float32), np.ones(6, np.float32))
    network = replace(random_network(np.random.default_rng(0), kinds=("dense",), sizes=(6, 5, 3)), input_scaling=ones)
    x = np.random.default_rng(1).random((64, 6)).astype(np.float32)
    with pytest.raises(NoFormError) as raised:
        export(to_int8(network, x))
    assert "--preprocess fold" in raised.value.hint
