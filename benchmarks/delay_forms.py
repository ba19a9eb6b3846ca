"""A network of the shape of SpSNN (arXiv 2512.10011) for counts: random weights, delays from 3-D positions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sen_runtime.ir.delays import SpatialDelay
from sen_runtime.ir.layer import Layer, Recurrence
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import LeakyIntegrator, RefractoryLif
from sen_runtime.ir.operators import Dense

FloatArray = NDArray[np.float32]

#: Inputs, recurrent neurons and outputs; steps, of 0.5 ms; slots of the ring.
N_IN, N, N_OUT, STEPS, STEP_MS, SLOTS = 700, 300, 20, 40, 0.5, 42
#: Share of the inputs that spike in a step; about the same share of the neurons does with these weights.
ACTIVE = 0.01
#: Standard deviation of positions, in ms: delays of up to 42 steps.
SPREAD_MS = 2.6
INPUT_GAIN, RECURRENT_GAIN = 0.025, 0.01


def delayed() -> tuple[Network, FloatArray]:
    """The network, and one input `[1, STEPS, N_IN]`."""
    rng = np.random.default_rng(0)
    inputs, own = (SPREAD_MS * rng.standard_normal((n, 3), np.float32) for n in (N_IN, N))
    scale, softening, longest = 1 / STEP_MS, 0.01, SLOTS - 1

    def weights(n_in: int, gain: float) -> Dense:
        return Dense(gain * rng.standard_normal((N, n_in), np.float32))

    hidden = Layer(
        weights(N_IN, INPUT_GAIN),
        None,
        RefractoryLif(float(np.exp(-STEP_MS / 10))),
        delay=SpatialDelay(inputs, own, scale, softening, longest, "clamp"),
        recurrent=Recurrence(weights(N, RECURRENT_GAIN), SpatialDelay(own, own, scale, softening, longest, "clamp", 1)),
        synapse=float(np.exp(-STEP_MS / 2)),
    )
    readout = Layer(Dense(0.1 * rng.standard_normal((N_OUT, N), np.float32)), None, LeakyIntegrator(1.0))
    x = (rng.random((1, STEPS, N_IN)) < ACTIVE).astype(np.float32)
    return Network((hidden, readout), STEPS, "spikes", "last_membrane"), x
