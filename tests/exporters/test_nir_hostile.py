"""Damaged and hostile `.nir` files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sen_exporters.nir import hdf5
from sen_exporters.nir.strings import NirError
from tests.conftest import Outcome
from tests.support.graphs import read, write

nir = pytest.importorskip("nir")
h5py = pytest.importorskip("h5py")

ONES = np.ones((2, 3), np.float32)


def damage(change: Callable[[Any], None]) -> Callable[[Path], None]:
    """A change of the nodes of a file, through h5py."""

    def apply(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            change(file["node/nodes"])

    return apply


def replace_weight(**arguments: Any) -> Callable[[Any], None]:
    def change(nodes: Any) -> None:
        del nodes["a/weight"]
        nodes.create_dataset("a/weight", **arguments)

    return change


def link(value: Any) -> Callable[[Any], None]:
    def change(nodes: Any) -> None:
        del nodes["a/weight"]
        nodes["a/weight"] = value

    return change


def virtual(nodes: Any) -> None:
    del nodes["a/weight"]
    layout = h5py.VirtualLayout((2, 3), "f4")
    layout[:] = h5py.VirtualSource("other.nir", "w", (2, 3))
    nodes.create_virtual_dataset("a/weight", layout)


def overwrite(old: bytes, new: bytes) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        data = path.read_bytes()
        assert old in data
        path.write_bytes(data.replace(old, new, 1))

    return apply


HOSTILE: dict[str, Callable[[Path], None]] = {
    "claims": damage(replace_weight(shape=(1 << 20, 1 << 20), dtype="f4", chunks=(1, 64))),
    "expands": damage(replace_weight(shape=(1 << 30, 3), dtype="f4", compression="gzip", chunks=(1 << 10, 3))),
    "no values": damage(replace_weight(data=h5py.Empty("f4"))),
    "complex": damage(replace_weight(data=ONES * 1j)),
    "texts": damage(replace_weight(data=["a", "b"])),
    "external file": damage(replace_weight(shape=(2, 3), dtype="f4", external=[("/etc/hostname", 0, 24)])),
    "external link": damage(link(h5py.ExternalLink("other.nir", "/w"))),
    "soft link": damage(link(h5py.SoftLink("/node/nodes/a/weight"))),
    "virtual": damage(virtual),
    "many nodes": damage(lambda nodes: [nodes.create_group(f"n{i}") for i in range(hdf5.MAX_NODES)]),
    "node is an array": damage(lambda nodes: nodes.create_dataset("z", data=1)),
    "type is missing": damage(lambda nodes: nodes.__delitem__("a/type")),
    "field is missing": damage(lambda nodes: nodes.__delitem__("a/weight")),
    "text that never ends": overwrite(b"\6\0\0\0\0\0\0\0Linear", b"\xf0" + b"\xff" * 7 + b"Linear"),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:5000]),
    "empty": lambda path: path.write_bytes(b""),
    "escapes": lambda path: path.write_bytes(b"\x1b[31m" * 1000),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_one_line(tmp_path: Path, kind: str, sen_edge: Callable[..., Outcome]) -> None:
    path = write(tmp_path / "a.nir", nir.Linear(ONES))
    HOSTILE[kind](path)
    with pytest.raises(NirError):
        read(path.read_bytes())
    for command in (("inspect", path), ("export", path, "--to", "sen", "-o", tmp_path / "out")):
        outcome = sen_edge(*command)
        assert outcome.code == 1 and "Traceback" not in outcome.err and "\x1b" not in outcome.err
    assert not (tmp_path / "out").exists()


def test_every_byte_can_be_wrong(tmp_path: Path) -> None:
    """Single bytes of the structure and the texts; HDF5 itself neither crashes nor hangs."""
    data, rng = write(tmp_path / "a.nir", nir.Linear(ONES)).read_bytes(), np.random.default_rng(0)
    used = np.flatnonzero(np.frombuffer(data, np.uint8))
    for index in rng.choice(used, 150, replace=False):
        damaged = bytearray(data)
        damaged[index] = rng.integers(256)
        try:
            read(bytes(damaged))
        except NirError as error:
            assert error.message.isprintable()
