"""Networks with scalings and output activations, and images of version 4, valid and malicious."""

import struct
from dataclasses import replace

import numpy as np

from sen_runtime import format as image
from sen_runtime.ir.network import OUTPUT_ACTIVATIONS, Network
from sen_runtime.ir.standardization import Standardization
from tests.support.images import (
    DENSE,
    I8,
    INT8_DENSE,
    NONE,
    SCALE,
    B,
    W,
    assemble,
    f32,
    int8_sample,
    layer,
    operator,
    patched,
    program,
    sample,
    sources,
)


def standardization(rng: np.random.Generator, n: int) -> Standardization:
    """Constants of features whose scales differ."""
    return Standardization(rng.normal(0, 2, n).astype(np.float32), np.exp(rng.normal(0, 1, n)).astype(np.float32))


def scaled(rng: np.random.Generator, network: Network, activation: str | None = None) -> Network:
    """The network with scalings and an output activation, drawn if None; spike trains are not standardized."""
    is_current = not network.coding.gives_spikes
    return replace(
        network,
        input_scaling=standardization(rng, network.n_in) if is_current else None,
        output_scaling=standardization(rng, network.n_out),
        output_activation=activation or str(rng.choice(OUTPUT_ACTIVATIONS)),
    )


def raw_input(rng: np.random.Generator, network: Network, batch: int = 3) -> np.ndarray:
    """Inputs `[batch, n_in]` in the units of a scaled network."""
    assert network.input_scaling is not None
    return network.input_scaling.restore(rng.normal(0, 1, (batch, network.n_in)).astype(np.float32))


def tail(*references, grid=(0.0, 0), neurons=(NONE, NONE)):
    """What follows the operators of one layer in version 4: `references` to mean and std of input, and output."""
    return struct.pack("<fi4I2I", *grid, *references, *neurons)


def with_scaling(*references, activation=0, version=4, tensors=(), **fields):
    """TINY with a scaling; `tensors` are sections from 3 on."""
    records = program(2, 1, [layer(bias=2)], [DENSE])
    records = records[:28] + struct.pack("<I", activation) + records[32:]
    return assemble(records + tail(*references, **fields), [W, B, *tensors], version=version)


MEAN, STD = f32(1, -2), f32(0.5, 4)
SCALED_TINY = with_scaling(3, 4, NONE, NONE, activation=2, tensors=[MEAN, STD])
SCALED_SAMPLE = image.dumps(scaled(np.random.default_rng(7), sample(), "softmax"))
SCALED_INT8_SAMPLE = image.dumps(scaled(np.random.default_rng(8), int8_sample(), "sigmoid"))


def int8_of_sources(grid=(0.5, -128)):
    """Int8 activations and weights by source, which no reader takes."""
    record = operator(2, 2, 2, (1, 2, 3, 4), block=(1, 1), order=1)
    tensors = [np.array([[1], [2]], np.int8), np.array([0, 1], np.uint16), np.array([0, 0, 2], np.int32), f32(1)]
    records = program(2, 2, [layer(grid=(0.25, 3) if grid[0] else (0.0, 0))], [record])
    return assemble(records + tail(*[NONE] * 4, grid=grid), tensors, version=4)


def int8_without_a_grid(grid):
    records = program(2, 1, [layer(grid=(0.25, 3))], [INT8_DENSE])
    return assemble(records + tail(*[NONE] * 4, grid=grid), [I8, SCALE], version=4)


def spiking_trains():
    """Spike trains with a scaling of the input."""
    record = layer(0, 2, 3, 0.5)
    head = program(2, 1, [record], [DENSE], timesteps=3, coding=1)
    return assemble(head + tail(3, 4, NONE, NONE), [W, B, MEAN, STD], version=4)


def spiking(beta=0.0, neurons=(NONE, NONE), *, coding=0, version=4, tensors=(), delta=(), scaling=(NONE, NONE)):
    """A leaky integrator of two inputs, and what version 4 has of neurons and codings."""
    head = program(2, 1, [layer(0, 2, 3, beta)], [DENSE], timesteps=3, coding=coding)
    behind = tail(*scaling, NONE, NONE, neurons=neurons) if version == 4 else b""
    return assemble(head + behind + struct.pack(f"<{len(delta)}f", *delta), [W, B, *tensors], version=version)


VARIED = spiking(neurons=(3, NONE), tensors=[f32(0.5)])
HOSTILE_NEURONS = {
    "beta, and a beta each": (spiking(0.5, (3, NONE), tensors=[f32(0.5)]), r"stored as.*0\.5"),
    "beta each beyond 1": (spiking(neurons=(3, NONE), tensors=[f32(1.5)]), r"layer 0.*beta of neuron 0 is 1\.5"),
    "beta each that is none": (spiking(neurons=(3, NONE), tensors=[f32(np.nan)]), r"layer 0.*beta.*nan"),
    "beta of too many neurons": (spiking(neurons=(3, NONE), tensors=[f32(0.5, 0.5)]), r"beta has 2 values.*1"),
    "beta each in float16": (spiking(neurons=(3, NONE), tensors=[f32(0.5).astype("f2")]), r"beta.*float16"),
    "beta each of rank 2": (spiking(neurons=(1, NONE)), r"beta.*shape"),
    "beta each is the program": (spiking(neurons=(0, NONE)), r"section 0"),
    "threshold each of a readout": (spiking(neurons=(NONE, 2)), r"LeakyIntegrator.*no threshold"),
    "input coding": (spiking(0.5, coding=5), r"input coding is 5"),
    "input coding of version 1": (spiking(0.5, coding=2, version=1), r"input coding is 2.*0 to 1"),
    "delta is missing": (spiking(0.5, coding=4), r"program.*160.*164"),
    "delta of another coding": (spiking(0.5, coding=3, delta=(0.5,)), r"program.*164.*160"),
    "delta of 0": (spiking(0.5, coding=4, delta=(0.0,)), r"delta is 0"),
    "delta that is none": (spiking(0.5, coding=4, delta=(np.nan,)), r"delta is nan"),
    "scaled rates": (spiking(0.5, coding=3, tensors=[MEAN, STD], scaling=(3, 4)), r"not standardized"),
}
HOSTILE_SCALINGS = {
    **HOSTILE_NEURONS,
    "nothing to scale": (with_scaling(*[NONE] * 4), r"version 4.*version 1"),
    "sources with nothing to scale": (
        patched(sources(), 8, "H", 4),
        r"program.*128.*160",
    ),
    "scaling of version 3": (with_scaling(3, 4, NONE, NONE, tensors=[MEAN, STD], version=3), r"program.*160.*128"),
    "program without neurons": (
        assemble(program(2, 1, [layer(bias=2)], [DENSE]) + tail(*[NONE] * 4)[:-8], [W, B], version=4),
        r"program.*152.*160",
    ),
    "output activation": (with_scaling(*[NONE] * 4, activation=3), r"output activation.*3.*0 to 2"),
    "mean without std": (with_scaling(3, NONE, NONE, NONE, tensors=[MEAN]), r"input scaling.*section 4294967295"),
    "std without mean": (with_scaling(NONE, NONE, NONE, 2), r"output scaling.*section 4294967295"),
    "mean is the program": (with_scaling(0, 3, NONE, NONE, tensors=[STD]), r"input scaling.*section 0"),
    "std beyond the sections": (with_scaling(3, 4, NONE, NONE, tensors=[MEAN]), r"input scaling.*section 4"),
    "mean of rank 2": (with_scaling(1, 3, NONE, NONE, tensors=[STD]), r"input scaling.*mean.*shape"),
    "mean in float16": (
        with_scaling(3, 4, NONE, NONE, tensors=[MEAN.astype("f2"), STD]),
        r"input scaling.*mean.*float16",
    ),
    "mean in int8": (with_scaling(3, 4, NONE, NONE, tensors=[MEAN.astype("i1"), STD]), r"input scaling.*mean.*int8"),
    "mean that is none": (with_scaling(3, 4, NONE, NONE, tensors=[f32(0, np.nan), STD]), r"input scaling.*mean.*nan"),
    "std of 0": (with_scaling(3, 4, NONE, NONE, tensors=[MEAN, f32(1, 0)]), r"input scaling.*std.*0"),
    "std below 0": (with_scaling(NONE, NONE, 2, 3, tensors=[f32(-1)]), r"output scaling.*std.*-1"),
    "std that is none": (with_scaling(3, 4, NONE, NONE, tensors=[MEAN, f32(1, np.nan)]), r"input scaling.*std.*nan"),
    "std without an inverse": (with_scaling(3, 4, NONE, NONE, tensors=[MEAN, f32(1, 1e-39)]), r"input scaling.*1e-39"),
    "few means": (with_scaling(2, 3, NONE, NONE, tensors=[STD]), r"input scaling.*1 means.*2"),
    "scaling of too few features": (with_scaling(2, 2, NONE, NONE), r"input scaling has 1 features.*2"),
    "scaling of too many features": (
        with_scaling(NONE, NONE, 3, 4, tensors=[MEAN, STD]),
        r"output scaling has 2 features.*1",
    ),
    "scaled spike trains": (spiking_trains(), "not standardized"),
    "neurons with a beta each": (with_scaling(*[NONE] * 4, neurons=(2, NONE)), r"layer 0.*no beta"),
    "neurons with a threshold each": (with_scaling(*[NONE] * 4, neurons=(NONE, 2)), r"layer 0.*no threshold"),
    "version 4 with a grid of -0": (
        with_scaling(3, 4, NONE, NONE, tensors=[MEAN, STD], grid=(-0.0, 0)),
        r"grid.*-0\.0",
    ),
    "version 4 with the grid of an input only": (
        with_scaling(3, 4, NONE, NONE, tensors=[MEAN, STD], grid=(0.5, 0)),
        "layer 0",
    ),
    "version 4 without the grid of the input": (int8_without_a_grid((0.0, 0)), "layer 0"),
    "version 4 with a grid too fine": (int8_without_a_grid((1e-39, 0)), r"scale.*1e-39"),
    "version 4 with a zero point beyond int8": (int8_without_a_grid((0.5, 128)), r"zero point.*128"),
    "int8 activations by source": (int8_of_sources(), "by source"),
}
#: Files above that the C library runs: no result depends on what is wrong.
HARMLESS = {"nothing to scale"}
