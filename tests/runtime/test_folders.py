"""Folders of `.npy` files: memory-mapped inputs, statistics, rejected folders; text in arrays."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sen_edge.data.calibration import load_calibration
from sen_edge.data.datasets import load, load_test
from sen_edge.model.config import SpatialConfig
from sen_runtime.data import TRAINING, DataFile, Form, rows
from sen_runtime.data.rows import MappedRows
from sen_runtime.errors import DataError
from tests.conftest import make_network

RNG = np.random.default_rng(0)
X = RNG.random((200, 2, 3))
Y = np.arange(200) % 4
KINDS = np.array(["wolf", "ant", "elk", "bee"])[Y]


def save(folder: Path, **arrays: object) -> str:
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", np.asarray(array))
    return str(folder)


@pytest.mark.parametrize(
    "inputs",
    [X, X.astype(np.float32), np.asfortranarray(X), (X * 255).astype(np.uint8), X > 0.5],
    ids=["float64", "float32", "Fortran order", "uint8", "bool"],
)
def test_a_folder_is_read_like_an_npz(tmp_path: Path, inputs: np.ndarray) -> None:
    np.savez(tmp_path / "data.npz", x=inputs, y=Y)
    expected, found = load(str(tmp_path / "data.npz")), load(save(tmp_path / "data", x=inputs, y=Y))
    assert found.train_inputs.shape == (160, 6) and found.train_inputs.dtype == np.float32
    for part in ("train", "test"):
        for kind in ("inputs", "targets"):
            np.testing.assert_array_equal(getattr(found, f"{part}_{kind}"), getattr(expected, f"{part}_{kind}"))
    assert (found.sha256, found.content_sha256) == (expected.sha256, expected.content_sha256)
    assert (found.input_range, found.test.title) == (expected.input_range, "data (test part: 40 of 200)")


def test_inputs_stay_in_the_file(tmp_path: Path) -> None:
    path = save(tmp_path / "data", x_train=X, y_train=Y, x_test=X[:8], y_test=Y[:8])
    training, test = DataFile(Path(path)).read(("training", "test"))
    for examples in (training, test):
        assert isinstance(examples.inputs, MappedRows)
    read = training.rows(np.array([5, 3, 5]))
    assert read.dtype == np.float32 and read.flags.writeable
    np.testing.assert_array_equal(read, X[[5, 3, 5]].reshape(3, 6).astype(np.float32))


def test_a_network_takes_mapped_inputs(tmp_path: Path) -> None:
    path, network = save(tmp_path / "data", x=X, y=Y), make_network(SpatialConfig((6, 4)))
    assert load_test(path, None, network).inputs.shape == (40, 6)
    found = load_calibration(path, None, network)
    assert len(found.inputs) + len(found.held_out) == 160


def test_sequences_keep_their_steps(tmp_path: Path) -> None:
    path = Path(save(tmp_path / "data", x_train=X))
    assert DataFile(path).read((TRAINING,), Form(has_steps=True))[0].inputs.shape == (200, 2, 3)


@pytest.mark.parametrize("is_folder", [True, False])
def test_names_in_arrays(tmp_path: Path, is_folder: bool) -> None:
    names = {"feature_names": list("abcdef"), "class_names": ["elk", "bee", "ant", "wolf", "yak"]}
    arrays = {"x": X, "y": KINDS, **names}
    path = save(tmp_path / "data", **arrays)
    if not is_folder:
        path = str(tmp_path / "data.npz")
        np.savez(path, **arrays)
    dataset = load(path)
    assert (dataset.feature_names, dataset.n_out) == (tuple("abcdef"), 5)
    assert dataset.output_names == ("elk", "bee", "ant", "wolf", "yak")
    assert np.bincount(dataset.train_targets).tolist() == [40, 40, 40, 40]
    network = make_network(SpatialConfig((6, 5)))
    texts = {"feature_names": '["b", "a", "c", "d", "e", "f"]', "output_names": '["elk", "bee", "ant", "wolf", "yak"]'}
    with pytest.raises(DataError, match=r"a, b.* b, a"):
        load_test(path, None, type(network)(network.layers, metadata=texts))


def test_names_of_channels_do_not_name_flattened_steps(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = np.array(["x", "y", "z"])
    np.savez(tmp_path / "data.npz", x=X, y=Y, feature_names=names)
    dataset = load(str(tmp_path / "data.npz"))
    assert dataset.n_in == 6 and not dataset.feature_names and "--input-coding" in caplog.text
    assert load(str(tmp_path / "data.npz"), has_steps=True).feature_names == ("x", "y", "z")


def test_names_of_a_network_do_not_hide_the_shape(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=X[:, 0], y=Y)
    network = make_network(SpatialConfig((2, 4), feature_names=("a", "b")))
    with pytest.raises(DataError, match=r"shape \[3\].*takes \[2\]"):
        load_test(str(tmp_path / "data.npz"), None, network)


def test_text_labels_are_sorted(tmp_path: Path) -> None:
    dataset = load(save(tmp_path / "data", x=X, y=KINDS))
    assert dataset.output_names == ("ant", "bee", "elk", "wolf") and dataset.task == "classification"
    with pytest.raises(DataError, match=r"y_test\[1\] is 'yak'.*ant, bee, elk, wolf"):
        load(save(tmp_path / "other", x_train=X, y_train=KINDS, x_test=X[:2], y_test=["ant", "yak"]))
    with pytest.raises(DataError, match=r"y\[0\] is 'wolf'"):
        load(str(tmp_path / "data"), task="regression")


@pytest.mark.parametrize(
    ("arrays", "message", "hint"),
    [
        pytest.param({"z": X}, "holds z.npy", "stack", id="other names"),
        pytest.param({"x": X, "x_train": X}, "x, x_train|x_train, x", "", id="two layouts"),
        pytest.param({"x": X, "y": Y[:-1]}, r"\[199\].*\b200\b", "", id="a label missing"),
        pytest.param({"x": np.where(X[7, 1, 2] == X, np.nan, X), "y": Y}, "input 7, feature 5 is nan", "", id="nan"),
        pytest.param({"x": [["a"]], "y": ["b"]}, r"x\.npy.*<U1", "", id="text"),
        pytest.param({"x": X[:0], "y": Y[:0]}, r"\[0, 2, 3\]", "", id="empty"),
        pytest.param({"x_train": X, "y_train": Y, "x_test": X[:, :1], "y_test": Y}, r"\[6\].*\[3\]", "", id="lengths"),
        pytest.param({"x": X, "y": Y, "feature_names": ["a"]}, "1 feature names", "", id="too few names"),
        pytest.param({"x": X, "y": Y, "feature_names": ["a"] * 6}, "feature_names", "", id="a name twice"),
        pytest.param({"x": X, "y": Y, "class_names": [1, 2]}, "class_names", "", id="names of numbers"),
    ],
)
def test_bad_folders_are_refused(tmp_path: Path, arrays: dict[str, object], message: str, hint: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(save(tmp_path / "data", **arrays))
    assert hint in caught.value.hint and "data" in caught.value.message


@pytest.mark.parametrize("is_folder", [True, False])
def test_sequences_of_different_length(tmp_path: Path, is_folder: bool) -> None:
    unequal = np.array([np.zeros((2, 3)), np.zeros((4, 3))], object)
    path = Path(save(tmp_path / "data", x=unequal)) if is_folder else tmp_path / "data.npz"
    if not is_folder:
        np.savez(path, x=unequal)
    with pytest.raises(DataError, match="object") as caught:
        DataFile(path)
    assert "[n, T, channels]" in caught.value.hint


def test_damaged_files(tmp_path: Path) -> None:
    path = Path(save(tmp_path / "data", x=X, y=Y))
    whole = (path / "x.npy").read_bytes()
    for content in (whole[:-1], whole + b"\0", whole[:40], b"", b"text"):
        (path / "x.npy").write_bytes(content)
        with pytest.raises(DataError, match=r"x\.npy"):
            load(str(path))
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="nothing"):
        DataFile(tmp_path / "nothing")


def test_column_statistics_go_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "CHUNK", 90)
    x = np.c_[1e6 + RNG.random(500), 1e-3 * RNG.random(500), np.full(500, 0.1), np.arange(500)].astype(np.float32)
    wide = x.astype(np.float64)
    for shape in ((500, 4), (100, 5, 4)):
        inputs, y = x.reshape(shape), np.arange(shape[0]) % 2
        mapped = load(
            save(tmp_path / "data", x_train=inputs, y_train=y, x_test=inputs, y_test=y), has_steps=len(shape) > 2
        )
        mean, std, is_constant = mapped.column_statistics
        np.testing.assert_allclose(mean, wide.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(std[[0, 1, 3]], wide.std(axis=0)[[0, 1, 3]], rtol=1e-9)
        assert is_constant.tolist() == [False, False, True, False] and std[2] == 1 and mean[2] == np.float32(0.1)


LARGE = """
import resource, sys
import numpy as np
import sen_edge.data.datasets as datasets
resource.setrlimit(resource.RLIMIT_DATA, (400 << 20, 400 << 20))
dataset = datasets.load(sys.argv[1])
assert dataset.train_inputs.size * 4 > 450 << 20
statistics, total = dataset.column_statistics, 0
for start in range(0, len(dataset.train_inputs), 10_000):
    total += len(dataset.training.rows(slice(start, start + 10_000)))
kept, held = dataset.training.hold_out(0.1, 0)
batch = dataset.training.rows(np.random.default_rng(0).permutation(kept)[:256])
print(total, len(held), batch.shape, round(float(statistics[0][0]), 3), len(dataset.sha256))
try:
    np.ones(dataset.train_inputs.shape, np.float32)
except MemoryError:
    print("too large")
"""


@pytest.mark.slow
@pytest.mark.parametrize("is_split", [True, False], ids=["train and test", "split here"])
@pytest.mark.skipif(sys.platform != "linux", reason="limits the data segment")
def test_data_larger_than_memory(tmp_path: Path, is_split: bool) -> None:
    n = 600_000
    for part, count in {"_train": n, "_test": 1000}.items() if not is_split else {"": n + n // 4}.items():
        mapped = np.lib.format.open_memmap(tmp_path / f"x{part}.npy", "w+", np.float32, (count, 200))
        for start in range(0, count, 50_000):
            mapped[start : start + 50_000] = np.arange(start, min(count, start + 50_000))[:, None] % 3
        del mapped
        np.save(tmp_path / f"y{part}.npy", np.arange(count) % 4)
    done = subprocess.run([sys.executable, "-c", LARGE, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["600000 60000 (256, 200) 1.0 64", "too large"]
