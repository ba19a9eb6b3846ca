"""NIR graphs in HDF5 files: written by the package nir, read by h5py with every size, type and link checked first."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from math import prod
from typing import Any

import numpy as np

from sen_exporters.nir.strings import NirError, Strings
from sen_runtime.engines import library
from sen_runtime.errors import SenError
from sen_runtime.ir.checks import Array
from sen_runtime.memory_limits import require
from sen_runtime.untrusted import listing, load_json, printable

#: Key of the graph's metadata that holds the properties of a file of sen-edge: a JSON object of strings.
PROPERTIES = "sen_edge"
#: Fields of the node types that are read; the others are refused by name.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "Input": ("shape",),
    "Output": ("shape",),
    "Flatten": (),
    "Delay": ("delay",),
    "Affine": ("weight", "bias"),
    "Linear": ("weight",),
    "LIF": ("tau", "r", "v_leak", "v_threshold", "v_reset"),
    "LI": ("tau", "r", "v_leak"),
    "CubaLIF": ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset", "w_in"),
    "CubaLI": ("tau_syn", "tau_mem", "r", "v_leak", "w_in"),
    "IF": ("r", "v_threshold", "v_reset"),
    "I": ("r",),
    "Threshold": ("threshold",),
}
#: Fields of nodes that older files do not have.
OPTIONAL = ("v_reset",)
MAX_NODES, MAX_EDGES, MAX_NAME, MAX_PROPERTIES = 4096, 8192, 256, 1 << 20
#: HDF5's numbers of deflate, shuffle, fletcher32 and h5py's lzf; the first and the last compress.
FILTERS, COMPRESSION = (1, 2, 3, 32000), (1, 32000)
#: Max values that a stored byte can expand to: deflate's limit is 1032.
MAX_RATIO = 1040


@dataclass(frozen=True)
class Node:
    """A node of a graph.

    Attributes:
        name: in the graph.
        kind: NIR's name of its type.
        arrays: its fields, by name.
    """

    name: str
    kind: str
    arrays: Mapping[str, Array]

    def __str__(self) -> str:
        return f"node {printable(self.name, 60)} ({self.kind})"


@dataclass(frozen=True)
class Graph:
    """A graph as stored; edges are pairs of names of nodes."""

    nodes: Mapping[str, Node]
    edges: tuple[tuple[str, str], ...]
    properties: Mapping[str, str]


def dumps(graph: Any, properties: Mapping[str, str]) -> bytes:
    """The bytes of a file of a `nir.NIRGraph`, with these properties in its metadata."""
    graph.metadata = {PROPERTIES: json.dumps(dict(sorted(properties.items())))}
    buffer = BytesIO()
    library("nir", "nir").write(buffer, graph)
    return buffer.getvalue()


def loads(data: bytes) -> Graph:
    """Read the graph in the content of a file.

    Raises:
        NirError: the file is damaged, claims more values than it stores, or has a node of another type.
        MemoryLimitError: the values need more memory than is available.
        MissingExtraError: h5py is not installed.
    """
    with _open(data) as root:
        graph = _group(root, "node")
        stored = _group(graph, "nodes")
        if len(stored) > MAX_NODES:
            raise NirError(f"has {len(stored):,} nodes; expected at most {MAX_NODES:,}")
        strings = Strings(data)
        nodes = {name: _read_node(strings, _group(stored, name), name) for name in stored}
        ends = _read_strings(strings, graph, "edges", (2,), MAX_NAME)
        return Graph(nodes, tuple(zip(ends[::2], ends[1::2], strict=True)), _read_properties(strings, graph))


def read_properties(data: bytes) -> Mapping[str, str]:
    """Properties in a file of sen-edge; empty for those of other tools. Errors as for `loads`."""
    with _open(data) as root:
        return _read_properties(Strings(data), _group(root, "node"))


@contextmanager
def _open(data: bytes) -> Iterator[Any]:
    """The root group of a file in memory; h5py raises any type for a damaged one."""
    h5py = library("nir", "h5py")
    try:
        with h5py.File(BytesIO(data), "r") as root:
            yield root
    except SenError:
        raise
    except Exception as error:
        reason = printable(str(error).partition("\n")[0], 200)
        raise NirError(f"is damaged, or not a NIR file: {reason}", "expected a file of nir.write") from error


def _child(group: Any, name: str) -> Any:
    """A member of a group in the same file: no link to another one is followed."""
    link = group.get(name, getlink=True)
    if not isinstance(link, library("nir", "h5py").HardLink):
        found = "is missing" if link is None else f"is a {type(link).__name__}; expected a value in this file"
        raise NirError(f"{printable(f'{group.name}/{name}', 200)} {found}")
    return group[name]


def _group(group: Any, name: str) -> Any:
    found = _child(group, name)
    if not isinstance(found, library("nir", "h5py").Group):
        raise NirError(f"{printable(found.name, 200)} is a {type(found).__name__}; expected a group")
    return found


def _dataset(group: Any, name: str) -> Any:
    """A dataset whose values are in the file and in proportion to the bytes that store them."""
    found, where = _child(group, name), printable(f"{group.name}/{name}", 200)
    if not isinstance(found, library("nir", "h5py").Dataset) or found.shape is None:
        raise NirError(f"{where} is a {type(found).__name__} without values; expected an array")
    creation = found.id.get_create_plist()
    filters = [creation.get_filter(index)[0] for index in range(creation.get_nfilters())]
    is_plain = set(filters) <= set(FILTERS) and sum(each in COMPRESSION for each in filters) <= 1
    if found.is_virtual or found.external or not is_plain:
        raise NirError(f"{where} is stored in other files or with the filters {listing(filters)}; expected gzip or lzf")
    nbytes, n_stored = prod(found.shape) * found.dtype.itemsize, found.id.get_storage_size()
    if nbytes > n_stored * MAX_RATIO:
        raise NirError(f"{where} claims {nbytes:,} bytes; the file stores {n_stored:,}")
    require(nbytes, where)
    return found


def _read_array(group: Any, name: str) -> Array:
    dataset = _dataset(group, name)
    if dataset.dtype.kind not in "fiu" or dataset.dtype.itemsize > 8:
        raise NirError(f"{printable(dataset.name, 200)} is {dataset.dtype}; expected real numbers")
    return np.asarray(dataset[()])


def _read_strings(strings: Strings, group: Any, name: str, tail: tuple[int, ...], limit: int) -> list[str]:
    """Strings of a dataset `[rows, *tail]`, or of one without axes where `tail` is empty."""
    dataset, where = _dataset(group, name), printable(f"{group.name}/{name}", 200)
    found = library("nir", "h5py").check_string_dtype(dataset.dtype)
    if found is None or found.length is not None or dataset.shape[len(tail) > 0 :] != tail:
        raise NirError(f"{where} is {dataset.dtype} {list(dataset.shape)}; expected strings")
    if dataset.shape and len(dataset) > MAX_EDGES:
        raise NirError(f"{where} has {len(dataset):,} rows; expected at most {MAX_EDGES:,}")
    return strings.read(dataset, where, limit)


def _read_node(strings: Strings, group: Any, name: str) -> Node:
    (kind,) = _read_strings(strings, group, "type", (), MAX_NAME)
    if kind not in FIELDS:
        raise NirError(
            f"node {printable(name, 60)} is a {printable(kind, 60)}, which is not supported",
            f"supported node types: {', '.join(FIELDS)}",
        )
    present = [field for field in FIELDS[kind] if field not in OPTIONAL or group.get(field, getlink=True) is not None]
    return Node(name, kind, {field: _read_array(group, field) for field in present})


def _read_properties(strings: Strings, graph: Any) -> Mapping[str, str]:
    if graph.get("metadata", getlink=True) is None:
        return {}
    metadata, where = _group(graph, "metadata"), f"metadata {PROPERTIES}"
    if metadata.get(PROPERTIES, getlink=True) is None:
        return {}
    (text,) = _read_strings(strings, metadata, PROPERTIES, (), MAX_PROPERTIES)
    found = load_json(text, where, error=NirError)
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise NirError(f"{where} is not a JSON object of strings")
    return found
