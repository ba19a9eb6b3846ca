"""Reader of examples: supported forms, rejected files, split."""

import gzip
import io
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sen_runtime.data import TEST, TRAINING, DataFile, Examples, Form, Npz, check_fit, hold_out, read_idx
from sen_runtime.errors import DataError

X = np.random.default_rng(1).random((20, 6)).astype(np.float32)
Y = np.arange(20) % 4


def save(path: Path, **arrays: object) -> Path:
    np.savez(path, **{name: np.asarray(array) for name, array in arrays.items()})
    return path


def read(path: Path, part: str = TEST, **form: object) -> Examples:
    return DataFile(path).read((part,), Form(**form))[0]


# --- what is accepted ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels",
    [Y, Y[:, None], Y.astype(np.uint8), Y.astype(float), Y.astype(np.float16)[:, None], Y.astype(">i4")],
    ids=["int", "[n, 1]", "uint8", "float", "float16 [n, 1]", "big endian"],
)
def test_labels_of_any_numeric_type(labels: np.ndarray, tmp_path: Path) -> None:
    found = read(save(tmp_path / "data.npz", x_test=X, y_test=labels))
    assert found.require_targets().dtype == np.int64
    np.testing.assert_array_equal(found.require_targets(), Y)


def test_labels_of_two_classes_may_be_bool(tmp_path: Path) -> None:
    found = read(save(tmp_path / "data.npz", x_test=X, y_test=Y > 1))
    np.testing.assert_array_equal(found.require_targets(), Y > 1)


@pytest.mark.parametrize(
    "inputs",
    [X.reshape(20, 3, 2), X.reshape(20, 3, 2, 1), np.asfortranarray(X.reshape(20, 1, 2, 3)), X.astype(">f8")],
    ids=["[n, h, w]", "[n, h, w, 1]", "[n, h, w, c], Fortran order", "big endian"],
)
def test_images_are_flattened(inputs: np.ndarray, tmp_path: Path) -> None:
    found = read(save(tmp_path / "data.npz", x_test=inputs))
    assert found.inputs.dtype == np.float32
    np.testing.assert_array_equal(found.inputs, X)


def test_spike_trains_keep_their_steps(tmp_path: Path) -> None:
    path = save(tmp_path / "data.npz", x=X.reshape(20, 3, 2, 1) > 0.5)
    np.testing.assert_array_equal(read(path, has_steps=True).inputs, X.reshape(20, 3, 2) > 0.5)


def test_compressed_files(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "data.npz", x=X, y=Y)
    assert read(tmp_path / "data.npz").title == "data.npz (test part: 4 of 20)"


def test_inputs_alone_are_not_split(tmp_path: Path) -> None:
    file = DataFile(save(tmp_path / "data.npz", x=X))
    for examples in file.read((TRAINING, TEST)):
        np.testing.assert_array_equal(examples.inputs, X)
        assert examples.title == "data.npz (all 20)"
    with pytest.raises(DataError, match="labels"):
        examples.require_targets()


def test_the_split_is_one_for_all(tmp_path: Path) -> None:
    file = DataFile(save(tmp_path / "data.npz", x=X, y=Y))
    training, test = file.read((TRAINING, TEST))
    kept, held = hold_out(Y, 0.2, seed=0)
    np.testing.assert_array_equal(training.inputs, X[kept])
    np.testing.assert_array_equal(test.inputs, X[held])
    assert np.bincount(test.require_targets()).tolist() == [1] * 4
    assert (training.title, test.title) == ("data.npz (training part: 16 of 20)", "data.npz (test part: 4 of 20)")


def test_hold_out_is_seeded_and_complete() -> None:
    labels = np.repeat([0, 1], [100, 40])
    kept, held = hold_out(labels, 0.25, seed=3)
    assert np.bincount(labels[held]).tolist() == [25, 10]
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, held])), np.arange(140))
    np.testing.assert_array_equal(held, hold_out(labels, 0.25, seed=3)[1])
    assert not np.array_equal(held, hold_out(labels, 0.25, seed=4)[1])


def test_classes_without_examples_are_a_warning() -> None:
    examples = Examples("data.npz", TEST, X, Y)
    assert examples.warnings(4) == []
    (warning,) = examples.warnings(6)
    assert "2 of 6 classes" in warning and "4, 5" in warning


# --- what is refused: content --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        pytest.param({"x": X, "labels": Y}, "x, labels", id="unknown key"),
        pytest.param({"x": X, "x_test": X}, "x, x_test", id="two layouts"),
        pytest.param({"x": X, "y_test": Y}, "x, y_test", id="labels of another part"),
        pytest.param({"y": Y}, r"\by\b.*x_train", id="labels alone"),
        pytest.param({"x\x1b[31m" * 9: X}, r"x\\x1b\[31m", id="control characters"),
        pytest.param({"x": X, "y": Y[:-1]}, r"\[19\].*\b20\b", id="a label missing"),
        pytest.param({"x": X, "y": Y + 0.5}, r"y\[0\].*\b0\.5\b", id="labels not whole"),
        pytest.param({"x": X, "y": Y * np.nan}, r"y\[0\].*nan", id="labels not numbers"),
        pytest.param({"x": X, "y": Y - 1}, r"y\[0\].*-1", id="negative label"),
        pytest.param({"x": X, "y": Y.astype(np.uint64) + 2**63}, r"y\[0\].*\b9223", id="label beyond int64"),
        pytest.param({"x": X, "y": Y + 10**6}, r"y\[0\].*\b1000000\b", id="labels not classes"),
        pytest.param({"x": X, "y": np.eye(4)[Y]}, r"\[20, 4\]", id="one hot"),
        pytest.param({"x": X + np.nan, "y": Y}, "input 0.*nan", id="nan"),
        pytest.param({"x": X.astype(float) * 1e300, "y": Y}, "input 0.*inf", id="beyond float32"),
        pytest.param({"x": X * 1j, "y": Y}, r"\bx\b.*complex.* \[20, 6\]", id="complex"),
        pytest.param({"x": np.array([["a"]])}, r"\bx\b.*<U1", id="text"),
        pytest.param({"x": X[:, 0], "y": Y}, r"float32 \[20\]", id="no axis of inputs"),
        pytest.param({"x": X[:0], "y": Y[:0]}, r"\[0, 6\]", id="empty"),
        pytest.param({"x": np.array([None, 1]), "y": Y}, r"\bx\b.*object", id="a pickle"),
        pytest.param({"x": np.zeros(3, [("a", "f4", (9,))] * 1)}, r"\bx\b.*'a'", id="records"),
    ],
)
def test_bad_arrays_are_refused(tmp_path: Path, arrays: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(save(tmp_path / "data.npz", **arrays), task="classification")
    assert "data.npz" in caught.value.message and caught.value.message.isprintable()


def test_data_that_a_network_does_not_take() -> None:
    examples = Examples("data.npz", TEST, 255 * X, Y)
    with pytest.raises(DataError, match=r"2.*\[0, 1\]"):
        check_fit(examples, (6,), (0.0, 1.0))
    check_fit(examples, (6,), (0.0, 250.0))  # within the slack
    check_fit(examples, (6,), None)
    with pytest.raises(DataError, match=r"\[6\].*\[5\]"):
        check_fit(examples, (5,), None)
    with pytest.raises(DataError, match="label 3"):
        check_fit(examples, (6,), None, 3)
    with pytest.raises(DataError, match="spikes"):
        check_fit(Examples("data.npz", TEST, X.reshape(20, 2, 3)), (2, 3), (0.0, 1.0), is_spikes=True)


# --- what is refused: files ----------------------------------------------------------------------


def npy_header(text: str, version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text.encode()


def describe(shape: str, descr: str = "'<f4'") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"


def zipped(path: Path, content: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize(
    ("header", "message"),
    [
        pytest.param(describe("(1000000, 1000000)"), r"\b4000000000000\b.*\b64\b", id="10^12 elements"),
        pytest.param(describe(f"({10**60}, 1)"), r"\b64\b", id="beyond 64 bits"),
        pytest.param(describe("(2, 6)"), r"\b48\b.*\b64\b", id="too few"),
        pytest.param(describe("(-4, -4)"), r"\[-4, -4\]", id="negative"),
        pytest.param(describe("(0, 99)"), r"\[0, 99\]", id="empty"),
        pytest.param(describe("(4,) * 4"), "header", id="an expression"),
        pytest.param("(" * 9000, "header", id="nested"),
        pytest.param(describe("(4, 4)", "'|O'"), r"\bx\b.*object", id="objects"),
        pytest.param(describe("(16,)" + " " * 20_000), "header", id="long"),
    ],
)
def test_headers_that_lie(tmp_path: Path, header: str, message: str) -> None:
    path = zipped(tmp_path / "data.npz", {"x.npy": npy_header(header) + bytes(64)})
    with pytest.raises(DataError, match=message) as caught:
        DataFile(path)
    assert len(caught.value.message) < 600


def test_other_members_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="header"):
        DataFile(zipped(tmp_path / "data.npz", {"x.npy": b"text"}))
    with pytest.raises(DataError, match=r"\b14\b"):
        DataFile(zipped(tmp_path / "data.npz", {"x.npy": npy_header(describe("(4, 4)")) + bytes(64)}, zipfile.ZIP_LZMA))
    many = zipped(tmp_path / "data.npz", {f"a{number}.npy": b"" for number in range(3000)})
    with pytest.raises(DataError, match="2,992") as caught:
        DataFile(many)
    assert len(caught.value.message) < 600


def test_a_member_twice_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "data.npz", x=X)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("x.npy", b"")
    with pytest.raises(DataError, match="x, x"):
        DataFile(path)


def test_files_that_are_no_npz(tmp_path: Path) -> None:
    whole = save(tmp_path / "whole.npz", x=X, y=Y).read_bytes()
    bare = io.BytesIO()
    np.save(bare, X)
    (tmp_path / "bare.npz").write_bytes(bare.getvalue())
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.npz").write_text("x,y")
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "none.npz").write_bytes(b"PK\5\6" + bytes(18))
    (tmp_path / "damaged.npz").write_bytes(whole.replace(X[0].tobytes(), bytes(24)))
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "zero.npz").symlink_to("/dev/zero")
    for name in ("bare", "cut", "text", "empty", "none", "damaged", "absent", "pipe", "folder", "zero"):
        with pytest.raises(DataError, match=f"{name}.npz"):
            read(tmp_path / f"{name}.npz")


def test_a_truncated_member(tmp_path: Path) -> None:
    """Its size in the directory of the archive is right, and what is compressed ends early."""
    path = zipped(tmp_path / "data.npz", {"x.npy": npy_header(describe("(4000, 4)")) + bytes(64_000)})
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.infolist()[0]
    start = data.rindex(b"PK\1\2")
    data[start + 20 : start + 24] = struct.pack("<I", info.compress_size - 20)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"data\.npz"):
        read(path)


def test_arrays_are_read_on_demand(tmp_path: Path) -> None:
    many = np.random.default_rng(2).random((5000, 6))
    whole = save(tmp_path / "data.npz", x_train=many, x_test=X[:4]).read_bytes()
    (tmp_path / "data.npz").write_bytes(whole.replace(many[4000].tobytes(), bytes(48)))
    assert len(read(tmp_path / "data.npz", TEST).inputs) == 4
    with pytest.raises(DataError):
        read(tmp_path / "data.npz", TRAINING)


def test_names_are_the_callers_business(tmp_path: Path) -> None:
    npz = Npz(save(tmp_path / "data.npz", layer0=X, y=Y), lambda name: name in ("y", "layer0"), "y, layer0")
    assert npz.headers["layer0"][0] == (20, 6)
    np.testing.assert_array_equal(npz.array("y"), Y)


# --- IDX -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "nothing", id="empty"),
        pytest.param(b"\0\0\x0d\x01abcd", "00 00 08 01", id="floats"),
        pytest.param(b"\0\0\x08\xff" + b"\0\0\0\1" * 255, r"\b1\b.*\b0\b", id="255 axes"),
        pytest.param(struct.pack(">2I", 0x801, 2**32 - 1), "4294967295", id="claims 4 GB"),
        pytest.param(struct.pack(">2I", 0x801, 9) + bytes(8), r"\b9\b.*\b8\b", id="short"),
    ],
)
def test_damaged_idx(tmp_path: Path, content: bytes, message: str, suffix: str) -> None:
    path = tmp_path / f"images{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    with pytest.raises(DataError, match=message):
        read_idx(path)


def test_idx_that_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "images")
    with pytest.raises(DataError, match=r"images.*pipe"):
        read(tmp_path / "images")
    with pytest.raises(DataError, match=r"zero.*device"):
        read(Path("/dev/zero"))
