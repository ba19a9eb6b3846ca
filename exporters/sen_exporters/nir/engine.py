"""Engine `nir`: the reference interpreter on `.nir` files of sen-edge, which state their time step."""

from __future__ import annotations

from sen_exporters.nir import hdf5
from sen_exporters.nir.reader import stated_simulation, to_network
from sen_runtime.engines import Engine, Model, library
from sen_runtime.engines.reference import ReferenceSession
from sen_runtime.engines.session import read_model


class NirSession(ReferenceSession):
    """A network of a file; `properties` are those of the file."""

    def __init__(self, graph: hdf5.Graph, *, allow_nonfinite: bool) -> None:
        super().__init__(to_network(graph, stated_simulation(graph)), allow_nonfinite=allow_nonfinite)
        self.properties = graph.properties


def load(model: Model, threads: int = 1, *, allow_nonfinite: bool = False) -> NirSession:
    """A session on a `.nir` file; `NirError` for one that cannot be read as a network."""
    del threads
    return NirSession(hdf5.loads(read_model(model)), allow_nonfinite=allow_nonfinite)


def version() -> str:
    """Version of the package nir, which writes and reads the files."""
    return str(library("nir", "nir").version)


ENGINE = Engine(
    "nir",
    (".nir",),
    load,
    version,
    is_interpreter=True,
    is_on_demand=True,
    package="nir",
    pip_line="pip install 'sen-edge[nir]'",
)
