"""Networks of Space as Time (arXiv 2511.01632): recurrent neurons whose delays are distances, trained with mlGeNN.

Their code writes a folder with one array a file, KEY-NAME.npy, where KEY is an epoch and NAME one of

    Conn_Pop0_Pop1-g    weights [n_in * n] from the input
    Conn_Pop1_Pop1-g    recurrent weights [n * n]
    Conn_Pop1_Pop1-d    delays [n * n] of the recurrent synapses in steps, not rounded
    Conn_Pop1_Pop2-g    weights [n * n_out] of the readout
    Pos0, Pos1, ..      coordinates [n] of the recurrent neurons

flat or with two axes, sources before targets. KEY and its hyphen, delays and positions may be missing. With
a = exp(-dt / tau_mem) and s = exp(-dt / tau_syn), step t of their simulation is

    I <- s I + sum of g over the inputs of step t - 1, and over the recurrent spikes of step t - 1 - k
    v <- a v + (1 - a) (tau_syn / dt) (1 - s) I, then 0 where v >= 1, which is a spike

with k = round(d), at most max_delay. The neurons of the readout have the same I and v and do not spike; the output is
the sum over all steps of exp(-t / T) v / T. A `Network` has the factor of I in its weights.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le
from numpy.typing import NDArray

from sen_edge.errors import CheckpointError
from sen_edge.model.config import Timesteps
from sen_edge.model.parameters import AppliedMap
from sen_edge.model.simulation_map import THRESHOLD, read_constants
from sen_edge.model.tensor_file import check_finite
from sen_edge.schema import Positive, Schema, SchemaError
from sen_runtime.data.npz import NPY, read_header
from sen_runtime.errors import DataError, NetworkError
from sen_runtime.ir.delays import MAX_DELAY, ConstantDelay, Delay, SpatialDelay, StoredDelay
from sen_runtime.ir.layer import Layer, Recurrence
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import LeakyIntegrator, Lif
from sen_runtime.ir.operators import Dense
from sen_runtime.untrusted import listing, quote, read_regular

#: `--map` of the constants below.
BUILT_IN = "space-as-time"
INPUT, RECURRENT, DELAYS, READOUT = "Conn_Pop0_Pop1-g", "Conn_Pop1_Pop1-g", "Conn_Pop1_Pop1-d", "Conn_Pop1_Pop2-g"
POSITION, SUFFIX = "Pos", ".npy"
#: Names of trained variables; others than the above are of another network.
TRAINED = ("Conn_", "Pop")
#: Steps from a spike to the synapses, in their simulation.
SHIFT = 1
#: Max bytes of a file; published ones have 350 kB.
MAX_BYTES = 1 << 30
FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class SpaceAsTimeMap(Schema):
    """Constants that the files do not state; times in milliseconds.

    Attributes:
        dt: time step.
        tau_mem: time constant of the membranes.
        tau_syn: time constant of the synaptic currents.
        max_delay: longest delay, in steps; longer ones are clamped.
        timesteps: steps T of an input, which the weights of the readout depend on; 1,370 in their code.
        checkpoint: KEY of the files, such as an epoch; needed if the folder has several.
    """

    dt: Positive = 1.0
    tau_mem: Positive = 20.0
    tau_syn: Positive = 5.0
    max_delay: Annotated[int, Ge(0), Le(MAX_DELAY - SHIFT)] = 1000
    timesteps: Timesteps = 1370
    checkpoint: str = ""

    def check(self) -> None:
        """Require decays and a scale of the weights that float32 can tell from 0 and 1."""
        if not np.float32(self.weight_scale) > 0 or np.float32(self.synapse) == 1:
            raise SchemaError(f"is {self.dt:g}; expected a number closer to tau_mem and tau_syn", key="dt")

    @property
    def membrane(self) -> float:
        """Decay of a membrane per step."""
        return math.exp(-self.dt / self.tau_mem)

    @property
    def synapse(self) -> float:
        """Decay of a synaptic current per step."""
        return math.exp(-self.dt / self.tau_syn)

    @property
    def weight_scale(self) -> float:
        """Factor of a synaptic current in the membrane."""
        return -math.expm1(-self.dt / self.tau_mem) * (self.tau_syn / self.dt) * -math.expm1(-self.dt / self.tau_syn)


def load_space_as_time(folder: Path, map_path: Path) -> tuple[Network, str, AppliedMap]:
    """Read the network, the hash of its files, and the map that was applied.

    Raises:
        CheckpointError: a file is missing or damaged, arrays do not fit, or the map is invalid.
    """
    stated, applied = read_constants(SpaceAsTimeMap, folder, map_path, BUILT_IN)
    key, files = _find_files(folder, stated.checkpoint)
    unknown = [name for name in files if name.startswith(TRAINED) and name not in (INPUT, RECURRENT, DELAYS, READOUT)]
    if unknown:
        raise CheckpointError(
            f"{folder} holds {listing(unknown)}", "expected one recurrent layer, Pop1, between Pop0 and Pop2"
        )
    used = [name for name in (INPUT, RECURRENT, READOUT, DELAYS) if name in files or name != DELAYS]
    used += _positions(folder, files)
    missing = [name for name in used if name not in files]
    if missing:
        raise CheckpointError(f"{folder} has no file {files[INPUT].name.replace(INPUT, missing[0])}")
    contents = {name: read_regular(files[name], MAX_BYTES, error=CheckpointError) for name in used}
    try:
        network = _network({name: _array(files[name], content) for name, content in contents.items()}, stated)
    except (CheckpointError, DataError, NetworkError) as error:
        where = "" if str(folder) in error.message else f"{folder}: "
        hint = "" if isinstance(error, DataError) else error.hint  # those of data are about inputs
        raise CheckpointError(f"{where}{error.message}", hint) from error
    unused, assumed = tuple(sorted(files.keys() - contents.keys())), dict(applied.assumed)
    if assumed.pop("checkpoint", None) is not None and key:
        assumed["checkpoint"] = key
    digest = hashlib.sha256(b"".join(contents.values())).hexdigest()
    return network, digest, replace(applied, unused=unused, assumed=assumed)


def _find_files(folder: Path, checkpoint: str) -> tuple[str, dict[str, Path]]:
    """Return the key of a checkpoint, and its files by the names of their arrays."""
    keys = sorted(path.name.removesuffix(f"{INPUT}{SUFFIX}") for path in folder.glob(f"*{INPUT}{SUFFIX}"))
    keys = [key for key in keys if key == "" or key.endswith("-")]
    names = [key.removesuffix("-") for key in keys]
    if not keys:
        raise CheckpointError(f"{folder} has no file {INPUT}{SUFFIX}", "expected a folder of mlGeNN's serialiser Numpy")
    if checkpoint not in names and (checkpoint or len(names) > 1):
        found = f"; expected {quote(checkpoint)}" if checkpoint else ""
        raise CheckpointError(
            f"{folder} has {len(names)} checkpoints: {listing(names)}{found}",
            f"state one in a TOML map, such as checkpoint = {quote(names[-1])}",
        )
    key = keys[names.index(checkpoint) if checkpoint in names else 0]
    paths = [path for path in folder.glob(f"*{SUFFIX}") if path.name.startswith(key)]
    others = tuple(each for each in keys if each != key and each.startswith(key))
    files = {
        path.name.removeprefix(key).removesuffix(SUFFIX): path for path in paths if not path.name.startswith(others)
    }
    return key.removesuffix("-"), files


def _positions(folder: Path, files: Mapping[str, Path]) -> list[str]:
    """Return the names of the coordinates in order; none may be missing."""
    found = [name for name in files if name.removeprefix(POSITION).isdecimal() and name.startswith(POSITION)]
    expected = [f"{POSITION}{axis}" for axis in range(len(found))]
    if sorted(found) != sorted(expected):
        raise CheckpointError(f"{folder} has the coordinates {listing(sorted(found))}; expected {listing(expected)}")
    return expected


def _array(path: Path, content: bytes) -> FloatArray:
    """Read a finite array in float32; nothing is unpickled."""
    read_header(BytesIO(content), str(path), len(content), text=False)
    with np.errstate(over="ignore"):  # not finite, as reported below
        array: FloatArray = NPY.read_array(BytesIO(content), allow_pickle=False).astype(np.float32)
    check_finite(path.name, array)
    return array


def _network(arrays: Mapping[str, FloatArray], stated: SpaceAsTimeMap) -> Network:
    n = math.isqrt(arrays[RECURRENT].size)
    recurrent = _matrix(arrays, RECURRENT, n, n)
    scale = np.float32(stated.weight_scale)
    hidden = Layer(
        Dense(scale * _matrix(arrays, INPUT, None, n)),
        None,
        Lif(stated.membrane, THRESHOLD, "zero"),
        delay=ConstantDelay(SHIFT),
        recurrent=Recurrence(Dense(scale * recurrent), _delay(arrays, n, stated.max_delay)),
        synapse=stated.synapse,
    )
    readout = Layer(
        Dense(scale * _matrix(arrays, READOUT, n, None)),
        None,
        LeakyIntegrator(stated.membrane),
        delay=ConstantDelay(SHIFT),
        synapse=stated.synapse,
    )
    return Network((hidden, readout), stated.timesteps, "spikes", readout_decay=math.exp(-1 / stated.timesteps))


def _matrix(arrays: Mapping[str, FloatArray], name: str, n_in: int | None, n_out: int | None) -> FloatArray:
    """Return an array `[n_in, n_out]`, or a flat one, as weights `[n_out, n_in]`; one of the sizes may be unknown."""
    array = arrays[name]
    known = n_out if n_in is None else n_in
    assert known is not None
    other = array.size // known
    shape = (other if n_in is None else n_in, other if n_out is None else n_out)
    if n_in is not None and n_out is not None:
        shape = (n_in, n_out)
    if math.prod(shape) != array.size or array.ndim > 2 or (array.ndim == 2 and array.shape != shape):
        raise NetworkError(
            f"{name} has the shape {list(array.shape)}; expected {list(shape)} or {[math.prod(shape)]} for "
            f"{known} recurrent neurons"
        )
    return np.ascontiguousarray(array.reshape(shape).T)


def _delay(arrays: Mapping[str, FloatArray], n: int, limit: int) -> Delay:
    """Return the delays of the recurrent synapses; positions where they give the same steps."""
    axes = [array for name, array in arrays.items() if name.startswith(POSITION)]
    spatial, distances = None, None
    if axes:
        for axis, array in enumerate(axes):
            if array.shape != (n,):
                raise NetworkError(f"{POSITION}{axis} has the shape {list(array.shape)}; expected {[n]}")
        positions = np.stack(axes, axis=1)
        spatial = SpatialDelay(positions, positions, limit=limit, overflow="clamp", shift=SHIFT)
        distances = spatial.distances()
    if DELAYS in arrays:
        distances = _matrix(arrays, DELAYS, n, n)
    if distances is None:
        return ConstantDelay(SHIFT)
    rounded = np.floor(distances.astype(np.float64) + 0.5)  # halves away from zero, as in C
    steps = np.clip(rounded, 0, limit).astype(np.uint16) + np.uint16(SHIFT)
    if spatial is not None and np.array_equal(spatial.steps((n, n)), steps):
        return spatial
    return StoredDelay(steps.astype(np.uint8) if steps.max() <= np.iinfo(np.uint8).max else steps)
