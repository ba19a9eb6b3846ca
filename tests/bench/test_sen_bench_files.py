"""Files that `sen_bench` did not write: each is one clear error."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sen_runtime import cli
from sen_runtime.bench import raw
from sen_runtime.bench.evaluate import evaluate
from sen_runtime.bench.raw import RawError
from sen_runtime.errors import SenError
from tests.support import bench_record
from tests.support.sen_bench import blocks_of, file_of, record_of


def test_a_file_that_is_cut_off(recording: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bench.raw"
    first = recording.index(b" round\n")
    second = recording.index(b" round\n", first + 1) + len(" round\n")  # the first is complete where the second begins
    for size in (0, 10, len(raw.FORMAT), first - 1, first + 10):
        path.write_bytes(recording[:size])
        with pytest.raises(RawError):
            raw.read(path)
    third = recording.index(b" round\n", second) + len(" round\n")
    fourth = recording.index(b" round\n", third) + len(" round\n")
    for size in (fourth, fourth + 10, len(recording) - 1):
        path.write_bytes(recording[:size])
        assert record_of(path)["status"] == "interrupted"


def test_a_file_of_another_version(recording: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bench.raw"
    for head in (b'{"event": "start", "format": "sen-edge/raw/1"}\n', b"sen-edge/raw/3\n"):
        path.write_bytes(head + recording[len(raw.FORMAT) :])
        with pytest.raises(RawError, match="sen-edge/raw/2"):
            raw.read(path)


def integers(*values: int) -> bytes:
    return np.array(values, "<i8").tobytes()


#: Kind of a block, and what is in its place; None for no block.
DAMAGE = [
    pytest.param("start", None, id="no start"),
    pytest.param("start", integers(0, 10**8, -1, 0), id="seed"),
    pytest.param("start", integers(0, -1, 0, 0), id="seconds"),
    pytest.param("start", integers(10**15, 10**8, 0, 0), id="time"),
    pytest.param("start", integers(0, 10**8), id="settings"),
    pytest.param("start", b"a\n", id="text"),
    pytest.param("version", None, id="no version"),
    pytest.param("calibration", None, id="no calibration"),
    pytest.param("calibration", integers(0, 1), id="calls"),
    pytest.param("calibration", integers(1, 10**15), id="samples"),
    pytest.param("round", integers(0), id="short round"),
    pytest.param("round", b"", id="empty round"),
    pytest.param("image", b"A", id="image"),
    pytest.param("outputs", bytes(12), id="outputs"),
    pytest.param("before", None, id="cold start"),
    pytest.param("figures", integers(1, 2), id="figures"),
    pytest.param("bandwidth", integers(1), id="bandwidth"),
    pytest.param("load", None, id="no load"),
    pytest.param("clock", None, id="no clock"),
    pytest.param("clock", integers(1, 2), id="few readings"),
    pytest.param("state", None, id="no state"),
    pytest.param("inputs", None, id="no inputs"),
    pytest.param("inputs", bytes(10), id="inputs"),
    pytest.param("row", None, id="no row"),
]


@pytest.mark.parametrize(("kind", "data"), DAMAGE)
def test_a_damaged_file_is_one_clear_error(
    recording: bytes, tmp_path: Path, kind: str, data: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = blocks_of(recording)
    assert file_of(blocks) == recording
    at = next(index for index, (each, _) in enumerate(blocks) if each == kind)
    blocks = [block for block in blocks if block[0] != kind] if data is None else blocks
    blocks[at : at + (data is not None)] = [] if data is None else [(kind, data)]
    (tmp_path / "bench.raw").write_bytes(file_of(blocks))
    assert cli.main(["record", str(tmp_path / "bench.raw"), "--json", str(tmp_path / "r.json")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "bench.raw" in error and "unexpectedly" not in error
    assert not (tmp_path / "r.json").exists()


@pytest.mark.parametrize("head", [b"12 a\n", b"x start\n", b"99999999999 start\n", b"\x00\n", b"1" * 300])
def test_a_damaged_block_is_one_clear_error(recording: bytes, tmp_path: Path, head: bytes) -> None:
    (tmp_path / "bench.raw").write_bytes(recording.replace(b" start\n", b" start\n" + head, 1))
    with pytest.raises(RawError, match=r"bench\.raw"):
        raw.read(tmp_path / "bench.raw")


NUMBERS = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4).map(lambda values: integers(*values))


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 200), kind=st.sampled_from(["", *raw.EVENTS, "data"]), junk=st.none() | st.binary() | NUMBERS)
def test_no_file_is_an_unexpected_error(
    recording_path: Path, tmp_path_factory: pytest.TempPathFactory, at: int, kind: str, junk: bytes | None
) -> None:
    """Another kind, or other content, of one block."""
    blocks = blocks_of(recording_path.read_bytes())
    blocks = blocks[: [each for each, _ in blocks].index("round") + 4]
    true_kind, data = blocks[at % len(blocks)]
    blocks[at % len(blocks)] = kind or true_kind, data if junk is None else junk
    path = tmp_path_factory.getbasetemp() / "damaged.raw"
    path.write_bytes(file_of(blocks))
    with suppress(SenError):
        bench_record.check(evaluate(raw.read(path)))


def test_mistakes_with_files(recording: bytes, tmp_path: Path) -> None:
    path, there = tmp_path / "bench.raw", tmp_path / "there.json"
    assert cli.main(["record", str(path)]) == 1
    path.write_bytes(recording)
    there.write_text("mine")
    assert cli.main(["record", str(path), "--json", str(there)]) == 1
    assert cli.main(["record", str(path), "--json", str(path), "--force"]) == 2
    assert there.read_text() == "mine" and path.read_bytes() == recording
