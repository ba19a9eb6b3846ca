"""The mean of membranes, with weights that decay from step to step."""

from dataclasses import replace

import numpy as np
import pytest

from sen_runtime import format as image
from sen_runtime import reference
from sen_runtime.errors import NetworkError
from sen_runtime.format import records
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network, readout_factors, readout_weights
from sen_runtime.ir.neurons import LeakyIntegrator, Lif
from sen_runtime.ir.operators import Dense

STEPS = 7


def network(beta: float | np.ndarray, decay: float) -> Network:
    rng = np.random.default_rng(0)
    weights = (Dense(rng.normal(size=shape).astype(np.float32)) for shape in ((5, 4), (3, 5)))
    hidden = Layer(next(weights), None, Lif(0.5))
    readout = Layer(next(weights), rng.normal(size=3).astype(np.float32), LeakyIntegrator(beta))
    return Network((hidden, readout), STEPS, "spikes", readout_decay=decay)


@pytest.mark.parametrize("beta", [0.0, 0.75, 1.0, np.float32([0.25, 0.5, 1.0])], ids=["0", "0.75", "1", "each"])
@pytest.mark.parametrize("decay", [1.0, 0.875, 0.25])
def test_the_readout_is_the_weighted_mean_of_its_membranes(beta: float | np.ndarray, decay: float) -> None:
    weighted = network(beta, decay)
    x = (np.random.default_rng(1).random((6, STEPS, 4)) < 0.4).astype(float)
    states, total, currents = reference.initial_state(weighted, 6), np.zeros((6, 3)), []
    for t in range(STEPS):
        states, spikes = reference.step(weighted, states, x[:, t])
        total += decay**t * states[-1].membrane
        currents.append(weighted.layers[-1].weight.affine(spikes[-1], weighted.layers[-1].bias))
    np.testing.assert_allclose(reference.run(weighted, x), total / STEPS, rtol=1e-12)
    factors = readout_factors(weighted).reshape(STEPS, 1, -1)
    np.testing.assert_allclose((factors * np.array(currents)).sum(axis=0), total / STEPS, rtol=1e-12)


def test_weights_start_at_one() -> None:
    np.testing.assert_array_equal(readout_weights(0.5, STEPS), 0.5 ** np.arange(STEPS))


@pytest.mark.parametrize("decay", [0.0, -1.0, 1.5, np.nan, np.inf])
def test_decays_outside_their_range(decay: float) -> None:
    with pytest.raises(NetworkError):
        network(0.5, decay)


def test_only_a_mean_has_weights() -> None:
    for readout in ("last_membrane", "spike_count"):
        with pytest.raises(NetworkError):
            replace(network(0.5, 0.5), readout=readout)


def test_an_image_keeps_the_weights() -> None:
    plain, weighted = network(0.5, 1.0), network(0.5, 0.875)
    assert records.version_of(plain) == records.VERSION and records.version_of(weighted) == records.VERSION_WITH_DELAYS
    restored = image.loads(image.dumps(weighted))
    assert restored.readout_decay == 0.875 and image.dumps(restored) == image.dumps(weighted)
