"""Checkpoint files that are wrong, damaged, or hold objects: all errors, and no code execution."""

import argparse
import collections
import datetime
import json
import types
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pytest
import torch

from sen_edge.errors import CheckpointError
from sen_edge.model import checkpoint as checkpoints
from sen_edge.model import tensor_file
from tests.support.checkpoints import CONFIGS, Payload, content, make


def set_in(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        *parents, last = path.split("/")
        for parent in parents:
            document = document[parent]
        if value is DELETE:
            del document[last]
        else:
            document[last] = value

    return change


DELETE = object()
WRONG_CONTENT = [
    ("format", "else", "sen-edge"),
    ("version", 2, r"version.*\b2\b.*\b1\b"),
    ("version", DELETE, "version.*None"),
    ("version", torch.ones(2), "version.*Tensor"),
    ("extra", 1, "extra"),
    ("config", DELETE, "config.*None"),
    ("tensors", [1], "tensors.*list"),
    ("metadata", {"a": 1}, "metadata"),
    ("config/layer_sizes", DELETE, r"config\.layer_sizes .*missing"),
    ("config/layer_sizes", [12], r"config\.layer_sizes\b"),
    ("config/layer_sizes", [12, 0], r"config\.layer_sizes\[1\].*\b0\b"),
    ("config/layer_sizes", [12, 9.5, 4], r"layer_sizes\[1\].*9\.5"),
    ("config/layer_sizes", [12, 8, 4], r"positions\.1.*\[9, 2\].*\[8, 2\]"),
    ("config/layer_sizes", [12, 9, 4, 2], r"positions\.3, inhibition\.2, gain\.2, bias\.2"),
    ("config/dimensions", 4, r"positions\.0.*\[12, 2\].*\[12, 3\]"),
    ("config/dimensions", 1, r"config\.dimensions.*\b1\b"),
    ("config/dimensions", True, "dimensions.*True"),
    ("config/layer_axis", "loose", r"config\.layer_axis.*'loose'.*fixed.*free"),
    ("config/layer_spacing", 0.0, r"config\.layer_spacing.*\b0\.0\b"),
    ("config/layer_spacing", [0.5, -1.0], r"config\.layer_spacing\[1\].*-1\.0"),
    ("config/exponent", [1.0, 2.0, 3.0], r"config\.exponent.*\b3\b.*\b2\b"),
    ("config/exponent", "two", r"config\.exponent is 'two'"),
    ("config/exponent", [], r"config\.exponent is \[\]"),
    ("config/steepness", [1.0, True], r"config\.steepness\[1\].*True"),
    ("config/spiking", {"timesteps": 3, "beta": [0.5]}, r"config\.spiking\.beta.*\b1\b.*\b2\b"),
    ("config/spiking", {"timesteps": 3, "reset": ["subtract", 1]}, r"config\.spiking\.reset\[1\]"),
    ("config/steepness", float("nan"), "steepness.*nan"),
    ("config/exponent", "1", "exponent.*'1'"),
    ("config/min_distance", -1, r"config\.min_distance.*-1"),
    ("config/gain", 1, r"config\.gain\b"),
    ("config/input_range", [0, 1, 2], "input_range"),
    ("config/input_range", [1.0, 0.0], r"config\.input_range\b"),
    ("config/colour", "red", r"config\.colour"),
    ("config/spiking", 3, r"config\.spiking.*\b3\b"),
    ("config/spiking", {}, r"config\.spiking\.timesteps.*missing"),
    ("config/spiking", {"timesteps": 0}, r"timesteps.*\b0\b"),
    ("config/spiking", {"timesteps": 2, "beta": 1.5}, r"config\.spiking\.beta.*\b1\.5\b"),
    ("config/spiking", {"timesteps": 2, "reset": "hard"}, "reset.*'hard'"),
    ("tensors/gain.0", DELETE, r"gain\.0"),
    ("tensors/weight", torch.zeros(2), r"\bweight\b"),
    ("tensors/bias.0", torch.zeros(8), r"bias\.0.*\[8\].*\[9\]"),
    ("tensors/bias.0", torch.zeros(9, dtype=torch.int64), r"bias\.0.*torch\.int64"),
    ("tensors/bias.0", torch.zeros(9).to_sparse(), "torch.sparse_coo"),
    ("tensors/bias.0", [0.0] * 9, r"bias\.0.*list"),
    ("tensors/bias.0", torch.full((9,), torch.nan), r"bias\.0.*nan.*\[0\]"),
    ("tensors/gain.1", torch.tensor(torch.inf), r"gain\.1.*inf"),
    (
        "tensors/gain.1",
        torch.tensor(1e39, dtype=torch.float64),
        r"gain\.1.*1e\+39.*3\.4e38",
    ),
    ("tensors/bias.0", torch.zeros(9, device="meta"), r"bias\.0.*meta"),
    ("tensors/bias.0", torch.zeros(1).expand(9), r"bias\.0.*\[9\].*\b1\b"),
    ("tensors/bias.0", torch.zeros(1).expand(10**12), r"bias\.0.*\[1000000000000\].*\b1\b"),
    (
        "tensors/bias.0",
        torch.zeros(1).as_strided((9, 10**6, 10**6), (0, 0, 0)),
        r"bias\.0.*\[9, 1000000, 1000000\].*\b1\b",
    ),
    ("tensors/bias.0", torch.zeros(9, dtype=torch.complex64), r"bias\.0.*torch\.complex64"),
    ("tensors/synapses.0", torch.zeros(1, dtype=torch.uint8).expand(9, 2), r"synapses\.0.*\b1\b"),
]


@pytest.mark.parametrize(
    ("where", "value", "message"), WRONG_CONTENT, ids=[f"{where}-{i}" for i, (where, _, _) in enumerate(WRONG_CONTENT)]
)
def test_wrong_content_has_its_own_error(where: str, value: Any, message: str, tmp_path: Path) -> None:
    wrong = content()
    set_in(where, value)(wrong)
    path = tmp_path / "model.pt"
    torch.save(wrong, path)
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoints.load(path)
    assert str(path) in caught.value.message


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_pickle_with_code_is_refused_and_does_not_run(zipped: bool, tmp_path: Path) -> None:
    sentinel, path = tmp_path / "ran", tmp_path / "model.pt"
    torch.save({**content(), "extra": Payload(sentinel)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="getattr"):
        checkpoints.load(path)
    assert not sentinel.exists()


class Settings:
    """What training code leaves next to its tensors."""

    def __init__(self) -> None:
        self.rate = 0.1


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("content", ["module", "dict"])
def test_a_refused_object_is_named_and_its_hint_saves_the_file_again(
    content: str, zipped: bool, tmp_path: Path, sen_edge: Callable[..., Any]
) -> None:
    module, path = torch.nn.Linear(2, 2), tmp_path / "model.pt"
    value = (
        module if content == "module" else {"settings": Settings(), "model": module.state_dict(), "w": torch.ones(2)}
    )
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError) as caught:
        checkpoints.load(path)
    assert ("Linear" if content == "module" else "Settings") in caught.value.message
    _, *lines = caught.value.hint.splitlines()
    assert set(lines) <= {line.strip(" ->") for line in sen_edge("inspect", path).err.splitlines()}
    exec("\n".join(lines), {"torch": torch})
    with pytest.raises(CheckpointError, match=r"(weight|model), (bias|w)"):
        checkpoints.load(tmp_path / "model.state.pt")


def test_harmless_objects_next_to_the_tensors_are_read(tmp_path: Path) -> None:
    values = [
        *(np.float64(1.5), np.int64(3), np.bool_(True), np.str_("text"), np.arange(3.0), np.array(["a"])),
        *(argparse.Namespace(lr=0.1), types.SimpleNamespace(a=1), collections.defaultdict(list, a=[1])),
        *(tmp_path, PureWindowsPath("C:/data"), datetime.datetime(2026, 1, 1), datetime.timedelta(1)),
        *(collections.Counter("aab"), collections.OrderedDict(a=1), collections.deque([1]), {1}, frozenset([1])),
    ]
    weight, allowed = torch.rand(2), torch.serialization.get_safe_globals()
    for old in (False, True):
        torch.save({"weight": weight, "rest": values}, tmp_path / "model.pt", _use_new_zipfile_serialization=not old)
        with pytest.raises(CheckpointError, match="sen-edge"):
            checkpoints.load(tmp_path / "model.pt")
        data = (tmp_path / "model.pt").read_bytes()
        assert torch.equal(tensor_file.read(tmp_path / "model.pt", data)["weight"], weight)
    assert torch.serialization.get_safe_globals() == allowed


def test_what_stands_for_a_harmless_object_is_no_tensor(tmp_path: Path) -> None:
    changed = content()
    changed["tensors"]["bias.0"] = np.zeros(9)
    torch.save(changed, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"bias\.0.*ndarray"):
        checkpoints.load(tmp_path / "model.pt")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_every_truncation_is_an_error(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    checkpoints.save(make(CONFIGS["mlp"]), path)
    whole = path.read_bytes()
    for length in [*range(0, len(whole), max(1, len(whole) // 60)), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            checkpoints.load(path)


@pytest.mark.parametrize("name", ["data.pkl", "data/0"])
def test_an_altered_byte_is_noticed(name: str, tmp_path: Path) -> None:
    """torch.load does not compare checksums: altered weights would load."""
    path = tmp_path / "model.pt"
    torch.save(content(), path)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        data[archive.getinfo(f"model/{name}").header_offset + 200] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoints.load(path)


def test_a_file_without_checksums_is_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(content(), tmp_path / "model.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert checkpoints.load(tmp_path / "model.pt").config == CONFIGS["mlp"]


def test_compressed_entries_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(content(), path)
    packed = BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.namelist():
            target.writestr(entry, source.read(entry))
    path.write_bytes(packed.getvalue())
    with pytest.raises(CheckpointError, match=r"model\.pt.*compressed"):
        checkpoints.load(path)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("none.pt", None, r"none\.pt"),
        ("model.pt", b"", "empty"),
        ("model.pt", b"hello", "torch"),
        ("model.onnx", b"hello", r"'\.onnx'"),
        ("model.safetensors", b"hello", r"model\.safetensors"),
        ("model.safetensors", (2**62).to_bytes(8, "little") + b"{}", r"model\.safetensors"),
    ],
    ids=["absent", "empty", "text", "suffix", "safetensors text", "safetensors size"],
)
def test_not_a_checkpoint(name: str, data: bytes | None, message: str, tmp_path: Path) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        checkpoints.load(tmp_path / name)


def test_a_folder_and_a_bare_tensor(tmp_path: Path) -> None:
    (tmp_path / "folder.pt").mkdir()
    with pytest.raises(CheckpointError, match="folder"):
        checkpoints.load(tmp_path / "folder.pt")
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    with pytest.raises(CheckpointError, match=r"Tensor.*dict"):
        checkpoints.load(tmp_path / "tensor.pt")


def test_safetensors_without_our_metadata_is_foreign(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"w": np.zeros(3, np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"\bw\b") as caught:
        checkpoints.load(tmp_path / "model.safetensors")
    assert "--map" in caught.value.hint
    metadata = {"format": "sen-edge-checkpoint", "version": "1", "config": json.dumps({}), "metadata": "{"}
    save_file({"w": np.zeros(3, np.float32)}, tmp_path / "model.safetensors", metadata)
    with pytest.raises(CheckpointError, match=r"metadata.*JSON"):
        checkpoints.load(tmp_path / "model.safetensors")
