"""NIR graphs as models; `sen_exporters.nir` reads them.

A map states what a graph of another tool leaves open:

dt = 1e-4                        # time step, in the unit of the time constants
timesteps = 25
input_coding = "direct"          # or "spikes", "current": sequences
readout = "last_membrane"        # or "mean_membrane"; without one, spikes of the last neurons are counted
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from sen_edge.errors import UsageError
from sen_edge.model.config import Readout, Timesteps
from sen_edge.model.parameters import AppliedMap
from sen_edge.schema import Positive, Schema, read_map
from sen_exporters.nir import hdf5
from sen_exporters.nir.reader import Simulation, stated_simulation, to_network
from sen_exporters.nir.strings import NirError
from sen_runtime.ir.network import Network
from sen_runtime.untrusted import read_regular

NIR_SUFFIX = ".nir"


@dataclass(frozen=True)
class NirMap(Schema):
    """A map of a NIR graph; fields as of `sen_exporters.nir.reader.Simulation`."""

    dt: Positive
    timesteps: Timesteps
    input_coding: Literal["direct", "spikes", "current"] = "direct"
    readout: Readout | None = None


def load_nir(path: Path, map_path: Path | None = None) -> tuple[Network, str, AppliedMap | None]:
    """Read the network of a NIR graph, the hash of the file, and the map that was applied.

    Raises:
        NirError: the file is missing or damaged, a node is not supported, or a map is missing or not valid.
        UsageError: a map for a graph that states its time step.
    """
    data = read_regular(path, error=NirError)
    stated, document, map_sha256 = (None, {}, "") if map_path is None else read_map(NirMap, map_path, error=NirError)
    try:
        graph = hdf5.loads(data)
        own = stated_simulation(graph)
        if own is not None and stated is not None:
            raise UsageError(f"--map: {path} states its time step", "leave it out")
        network = to_network(graph, own or (None if stated is None else Simulation(**asdict(stated))))
    except NirError as error:
        raise NirError(f"{path}: {error.message}", error.hint) from error
    applied = None
    if map_path is not None:
        assumed = {each.name: getattr(network, each.name) for each in fields(NirMap) if each.name not in document}
        applied = AppliedMap(map_path.name, map_sha256, (), document, assumed)
    return network, hashlib.sha256(data).hexdigest(), applied
