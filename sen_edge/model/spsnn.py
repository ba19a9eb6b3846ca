"""Networks of SpSNN (arXiv 2512.10011): recurrent neurons whose delays are distances.

NAME.npz holds the weights `iw [n, n_in]` and `rw [n, n]`, and positions `ipos [n_in, d]`, `rpos [n, d]` or delays
`idelay [n * n_in]`, `rdelay [n * n]` in milliseconds, or neither; NAME_read.npz holds the readout `w [n_out, n]`.
In a step of their simulation, with S the neurons whose potential v is at least 1,

    ring[(t + k) % slots] += w      for inputs of the step and for S, with k = round(delay / dt)
    v    <- 0 for S, else exp(-dt / tau_mem) v + dt isyn
    isyn <- exp(-dt / tau_syn) isyn + ring[t % slots]
    output: sum over steps of w_read S

and delays of `slots` steps or more arrive early, because the ring is not checked. A `Network` takes the potential after
the step, so inputs arrive 1 step later, recurrent spikes 2, and the readout sees the spikes of the step before.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sen_edge.errors import CheckpointError
from sen_edge.model.config import Timesteps
from sen_edge.model.parameters import AppliedMap
from sen_edge.model.simulation_map import THRESHOLD, read_constants
from sen_edge.model.tensor_file import check_finite
from sen_edge.schema import Positive, Schema
from sen_runtime.data import Npz
from sen_runtime.errors import DataError, NetworkError
from sen_runtime.ir.delays import ConstantDelay, Delay, SpatialDelay, StoredDelay
from sen_runtime.ir.layer import Layer, Recurrence
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import LeakyIntegrator, RefractoryLif
from sen_runtime.ir.operators import Dense
from sen_runtime.untrusted import read_regular

SPSNN_SUFFIX, READOUT_ENDING = ".npz", "_read.npz"
#: `--map` of the constants below.
BUILT_IN = "spsnn"
#: Added to a squared distance.
SOFTENING = 0.01
#: Steps by which spikes arrive later in a `Network`.
INPUT_SHIFT, RECURRENT_SHIFT, READOUT_SHIFT = 1, 2, 1
#: Arrays of a file by the kind of its delays.
FORMS = (("iw", "rw", "ipos", "rpos"), ("iw", "rw", "idelay", "rdelay"), ("iw", "rw"))
FIRST = "iw, rw and ipos, rpos or idelay, rdelay"
FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class SpsnnMap(Schema):
    """Constants that the files do not state; times in milliseconds.

    Attributes:
        dt: time step.
        tau_syn: time constant of the synaptic current.
        tau_mem: time constant of the potential.
        max_delay: that the simulation was called with, which determines the slots of its ring.
        timesteps: steps of an input.
    """

    dt: Positive = 0.5
    tau_syn: Positive = 2.0
    tau_mem: Positive = 10.0
    max_delay: Positive = 20.0
    timesteps: Timesteps = 2000

    @property
    def slots(self) -> int:
        """Slots of the ring, as in their code."""
        return int(1 + self.max_delay / self.dt) + 1


def load_spsnn(path: Path, map_path: Path | None) -> tuple[Network, str, AppliedMap]:
    """Read the network, the hash of both files, and the map that was applied.

    Raises:
        CheckpointError: a file is missing or damaged, its arrays do not fit, or there is no map.
    """
    stated, applied = read_constants(SpsnnMap, path, map_path, BUILT_IN)
    readout_path = path.with_name(f"{path.stem}{READOUT_ENDING}")
    try:
        arrays = _arrays(path, {name for form in FORMS for name in form}, FIRST)
        if tuple(sorted(arrays)) not in {tuple(sorted(form)) for form in FORMS}:
            raise CheckpointError(f"{path} holds the arrays {', '.join(sorted(arrays))}; expected {FIRST}")
        arrays |= _arrays(readout_path, {"w"}, "w")
        network = _network(arrays, stated)
    except (CheckpointError, DataError, NetworkError) as error:
        where = "" if str(path) in error.message or str(readout_path) in error.message else f"{path}: "
        raise CheckpointError(f"{where}{error.message}", error.hint) from error
    digest = hashlib.sha256(b"".join(read_regular(each) for each in (path, readout_path))).hexdigest()
    return network, digest, applied


def _arrays(path: Path, known: set[str], expected: str) -> dict[str, FloatArray]:
    """Read finite arrays in float32, by name."""
    file = Npz(path, known.__contains__, expected)
    found: dict[str, FloatArray] = {}
    for name in file.headers:
        with np.errstate(over="ignore"):  # not finite, as reported below
            found[name] = file.array(name).astype(np.float32)
        check_finite(name, found[name])
    return found


def _network(arrays: dict[str, FloatArray], stated: SpsnnMap) -> Network:
    iw, rw, w = arrays["iw"], arrays["rw"], arrays["w"]
    n = len(rw)
    for name, array, shape in (
        ("iw", iw, (n, iw.shape[-1])),
        ("rw", rw, (n, n)),
        ("w of the readout", w, (len(w), n)),
    ):
        if array.shape != shape:
            raise NetworkError(f"{name} has the shape {list(array.shape)}; expected {list(shape)}")
    np.fill_diagonal(rw, 0)  # as their simulation does
    dt = np.float32(stated.dt)
    hidden = Layer(
        Dense(dt * iw),
        None,
        RefractoryLif(float(np.exp(-stated.dt / stated.tau_mem)), THRESHOLD),
        delay=_delay(arrays, "i", iw.shape, stated, INPUT_SHIFT),
        recurrent=Recurrence(Dense(dt * rw), _delay(arrays, "r", rw.shape, stated, RECURRENT_SHIFT)),
        synapse=float(np.exp(-stated.dt / stated.tau_syn)),
    )
    readout = Layer(Dense(w), None, LeakyIntegrator(1.0), delay=ConstantDelay(READOUT_SHIFT))
    return Network((hidden, readout), stated.timesteps, "spikes", "last_membrane")


def _delay(arrays: dict[str, FloatArray], kind: str, shape: tuple[int, ...], stated: SpsnnMap, shift: int) -> Delay:
    """Delays of inputs (kind "i") or recurrent spikes ("r"), the remainder of the slots included."""
    if f"{kind}pos" in arrays:
        source, target = arrays[f"{kind}pos"], arrays["rpos"]
        delay = SpatialDelay(source, target, 1 / stated.dt, SOFTENING, stated.slots - 1, "wrap", shift)
        delay.check_shape((shape[0], shape[1]))
        milliseconds = delay.distances()
    elif f"{kind}delay" in arrays:
        flat = arrays[f"{kind}delay"]
        if flat.size != shape[0] * shape[1]:
            raise NetworkError(f"{kind}delay has {flat.size} delays; expected {shape[0] * shape[1]}, of {list(shape)}")
        delay, milliseconds = None, flat.reshape(shape)
    else:
        return ConstantDelay(shift)
    steps = np.mod(np.rint(milliseconds / np.float32(stated.dt)).astype(np.int64), stated.slots) + shift
    if delay is not None and np.array_equal(delay.steps((shape[0], shape[1])), steps):
        return delay
    return StoredDelay(steps.astype(np.uint8 if steps.max() <= np.iinfo(np.uint8).max else np.uint16))
