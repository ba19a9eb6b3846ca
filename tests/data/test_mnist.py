"""MNIST and other IDX files: folders, damaged files, and failing downloads."""

import gzip
import hashlib
import http.server
import logging
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from sen_edge.data import mnist
from sen_edge.data.datasets import load, load_test
from sen_edge.errors import DataError, UsageError
from sen_edge.model.config import SpatialConfig
from tests.conftest import make_network

SHAPES = {"train": 20, "t10k": 10}
#: Content of each file of a miniature MNIST: 20 training and 10 test images.
RNG = np.random.default_rng(0)
IMAGES = {part: RNG.integers(0, 256, (n, 28, 28), dtype=np.uint8) for part, n in SHAPES.items()}
LABELS = {part: (np.arange(n) % 10).astype(np.uint8) for part, n in SHAPES.items()}
CONTENT = {
    f"{part}-{kind}": data
    for part, n in SHAPES.items()
    for kind, data in {
        "images-idx3-ubyte": struct.pack(">4I", 0x803, n, 28, 28) + IMAGES[part].tobytes(),
        "labels-idx1-ubyte": struct.pack(">2I", 0x801, n) + LABELS[part].tobytes(),
    }.items()
}


def put(folder: Path, *, compressed: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in CONTENT.items():
        if compressed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(data))
        else:
            (folder / name).write_bytes(data)
    return folder


# --- MNIST ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("compressed", [True, False])
def test_mnist_is_read_and_scaled(tmp_path: Path, compressed: bool) -> None:
    dataset = load("mnist", put(tmp_path / "files", compressed=compressed))
    assert dataset.train_inputs.shape == (20, 784) and dataset.train_inputs.dtype == np.float32
    np.testing.assert_array_equal(dataset.test_inputs, IMAGES["t10k"].reshape(10, 784).astype(np.float32) / 255)
    np.testing.assert_array_equal(dataset.test_targets, LABELS["t10k"])
    assert dataset.test_targets.dtype == np.int64
    assert (dataset.input_range, dataset.n_in, dataset.n_out) == ((0.0, 1.0), 784, 10)


def test_mnist_is_searched_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Path.cwd()
    places = [tmp_path / "cache/sen-edge/mnist", here / "../shared/data/mnist", here / "data/mnist", tmp_path / "env"]
    monkeypatch.setenv(mnist.DATA_VARIABLE, str(tmp_path / "env"))
    for place in places:
        put(place)
        assert mnist.locate().resolve() == place.resolve()
    with pytest.raises(DataError, match="other"):  # a folder that is named is the only one
        load("mnist", tmp_path / "other")


def test_missing_mnist_lists_folders_and_a_hint() -> None:
    with pytest.raises(DataError, match=r"\.\./shared/data/mnist.*/cache/sen-edge/mnist") as caught:
        load("mnist")
    assert "--download" in caught.value.hint


def test_the_real_mnist_has_the_known_checksums() -> None:
    folder = Path(__file__).parents[3] / "shared/data/mnist"
    if not folder.is_dir():
        pytest.skip("no MNIST on this machine")
    for name in ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        content = gzip.decompress((folder / f"{name}.gz").read_bytes())
        assert hashlib.sha256(content).hexdigest() == mnist.FILES[name]
    test = load_test("mnist", folder, make_network(SpatialConfig((784, 10))))
    assert test.inputs.shape == (10_000, 784) and test.title == "mnist (test part: 10,000)"
    np.testing.assert_array_equal(
        np.bincount(test.require_targets()), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    )


LABEL_FILE = CONTENT["t10k-labels-idx1-ubyte"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "nothing", id="empty"),
        pytest.param(CONTENT["t10k-images-idx3-ubyte"], "00 00 08 01", id="images as labels"),
        pytest.param(LABEL_FILE[:6], r"\b1 sizes", id="header cut off"),
        pytest.param(LABEL_FILE[:-1], r"\b10\b.*\b9\b", id="one byte short"),
        pytest.param(LABEL_FILE + b"\0", r"\b10\b", id="one byte long"),
        pytest.param(struct.pack(">2I", 0x801, 2**32 - 1), "4294967295", id="claims 4 GB"),
        pytest.param(struct.pack(">2I", 0x801, 0), r"\b0\b", id="claims nothing"),
        pytest.param(struct.pack(">2I", 0x801, 9) + bytes(9), r"\[9\].*\b10\b", id="a label missing"),
    ],
)
@pytest.mark.parametrize("compressed", [True, False])
def test_damaged_idx_is_refused(tmp_path: Path, data: bytes, message: str, compressed: bool) -> None:
    folder = put(tmp_path / "files", compressed=compressed)
    if compressed:
        (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(data))
    else:
        (folder / "t10k-labels-idx1-ubyte").write_bytes(data)
    with pytest.raises(DataError, match=message):
        load("mnist", folder)


@pytest.mark.parametrize(
    "data",
    [gzip.compress(LABEL_FILE)[:-9], gzip.compress(LABEL_FILE)[:-8] + bytes(8), b"not gzip", b"\x1f\x8b" * 20],
    ids=["cut off", "wrong checksum", "text", "magic only"],
)
def test_damaged_gzip_is_refused(tmp_path: Path, data: bytes) -> None:
    folder = put(tmp_path / "files")
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(data)
    with pytest.raises(DataError, match="t10k-labels"):
        load("mnist", folder)


def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    folder = put(tmp_path / "files")
    bomb = struct.pack(">2I", 0x801, 10) + bytes(1 << 25)
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(bomb, compresslevel=1))
    with pytest.raises(DataError, match=r"\b10\b"):
        load("mnist", folder)


# --- downloads -----------------------------------------------------------------------------------


@dataclass
class Mirror:
    """A loopback mirror: what it answers by path (absent: 404), and which answers break off half way."""

    url: str
    answers: dict[str, bytes]
    cut: set[str] = field(default_factory=set)


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = served.answers.get(self.path)
            if body is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if self.path in served.cut else body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    answers = {f"/mnist/{name}.gz": gzip.compress(data) for name, data in CONTENT.items()}
    served = Mirror(f"http://127.0.0.1:{server.server_port}/mnist", answers)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(mnist, "FILES", {name: hashlib.sha256(data).hexdigest() for name, data in CONTENT.items()})
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


def test_download_goes_to_the_cache_and_is_used_again(mirror: Mirror, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sen_edge")
    first = load("mnist", download=True, mirror=mirror.url + "/")
    assert caplog.messages == [f"downloading {mirror.url}/{name}.gz" for name in CONTENT]
    assert {path.name for path in mnist.cache_folder().iterdir()} == {f"{name}.gz" for name in CONTENT}
    mirror.answers.clear()
    np.testing.assert_array_equal(load("mnist").train_inputs, first.train_inputs)


def test_download_goes_to_the_named_folder(mirror: Mirror, tmp_path: Path) -> None:
    load("mnist", tmp_path / "new" / "folder", download=True, mirror=mirror.url)
    assert len(list((tmp_path / "new" / "folder").iterdir())) == 4
    assert not mnist.cache_folder().exists()


def test_the_next_mirror_is_tried(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist, "MIRRORS", (mirror.url + "/absent/", mirror.url))
    assert load("mnist", download=True).n_in == 784


LAST = "/mnist/t10k-labels-idx1-ubyte.gz"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        pytest.param(None, "404", id="404"),
        pytest.param(gzip.compress(LABEL_FILE[:-1] + b"\7"), "SHA-256", id="other content"),
        pytest.param(gzip.compress(LABEL_FILE)[:-4], "gzip", id="gzip cut off"),
        pytest.param(b"<html>", "gzip", id="a web page"),
        pytest.param(gzip.compress(bytes(1 << 16)), "SHA-256", id="unpacks to more"),
        pytest.param(bytes(1 << 15), "20000", id="too long"),
        pytest.param("cut", "gzip|IncompleteRead", id="connection breaks off"),
    ],
)
def test_a_failed_download_leaves_nothing(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, answer: bytes | str | None, message: str
) -> None:
    monkeypatch.setattr(mnist, "MAX_DOWNLOAD", 20_000)
    monkeypatch.setattr(mnist, "MAX_UNPACKED", 30_000)
    if answer is None:
        del mirror.answers[LAST]
    elif isinstance(answer, bytes):
        mirror.answers[LAST] = answer
    else:
        mirror.cut.add(LAST)
    with pytest.raises(DataError, match=f"{LAST}.*({message})") as caught:
        load("mnist", download=True, mirror=mirror.url)
    assert "--mirror" in caught.value.hint
    assert not mnist.cache_folder().exists()


def test_an_unreachable_mirror_and_another_scheme_are_refused(mirror: Mirror) -> None:
    with pytest.raises(DataError, match="refused"):
        load("mnist", download=True, mirror="http://127.0.0.1:9")
    with pytest.raises(UsageError, match="http"):
        load("mnist", download=True, mirror="file:///etc")


def test_idx_files_are_a_set(tmp_path: Path) -> None:
    folder = put(tmp_path / "fashion")
    images = "images-idx3-ubyte.gz"
    for part in ("train", "t10k"):
        dataset = load(str(folder / f"{part}-{images}"))
        np.testing.assert_array_equal(dataset.train_targets, LABELS["train"])
        np.testing.assert_array_equal(dataset.test_inputs, IMAGES["t10k"].reshape(10, 784).astype(np.float32) / 255)
    network = make_network(SpatialConfig((784, 10), input_range=(-1.0, 1.0)))
    test = load_test(str(folder / f"train-{images}"), None, network)
    np.testing.assert_allclose(test.inputs, IMAGES["t10k"].reshape(10, 784) / 127.5 - 1, atol=1e-6)
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="labels"):
        load_test(str(folder / f"t10k-{images}"), None, network)
