"""NIR graphs as files and networks."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sen_exporters.nir import hdf5
from sen_exporters.nir.reader import Simulation, stated_simulation, to_network
from sen_runtime.ir.network import Network

nir = pytest.importorskip("nir")


def read(data: bytes, simulation: Simulation | None = None) -> Network:
    graph = hdf5.loads(data)
    return to_network(graph, stated_simulation(graph) or simulation)


def write(path: Path, *nodes: Any, edges: Any = None, names: tuple[str, ...] = ()) -> Path:
    """A file of nodes in a row between an input of 3 and an output of 2 values, or with other edges."""
    found = {"in": nir.Input(np.array([3])), **dict(zip(names or "abcdef", nodes, strict=False))}
    found["out"] = nir.Output(np.array([2]))
    graph = nir.NIRGraph(found, list(pairwise(found)) if edges is None else edges, type_check=False)
    nir.write(path, graph)
    return path
