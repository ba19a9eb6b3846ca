"""Histories of records."""

import json
import multiprocessing

import numpy as np
import pytest

from sen_runtime.bench import history
from sen_runtime.bench.history import HistoryError, append, read
from tests.support import records


def small(day=1, **others):
    made = records.record((42.0, 58.0), records.NAMES[:2], seed=day, rounds=60, created=f"2026-11-{day:02d}T08:00:00Z")
    return {**made, **others}


def test_append_and_read_again(tmp_path):
    path = tmp_path / "history.jsonl"
    for day in (1, 2, 3):
        found = append(path, small(day))
    assert read(path) == found
    assert [entry["created"][8:10] for entry in found.entries] == ["01", "02", "03"]
    assert path.read_text().count("\n") == 3
    row = found.entries[0]["rows"][0]
    assert row["name"] == records.NAMES[0]
    assert row["low_us"] <= np.median(small(1)["rows"][0]["turns_us"]) <= row["high_us"]
    assert found.entries[0]["device"]["model"].startswith("Raspberry Pi 4")


@pytest.mark.parametrize("length", [1, 20, 40, 300])
def test_last_line_cut_short_by_a_crash(tmp_path, length):
    path = tmp_path / "history.jsonl"
    append(path, small(1))
    whole = path.read_text()
    path.write_text(whole + whole[:length])
    assert read(path).notes == (f"{path}: line 2 is cut short and was left out",)
    found = append(path, small(2))
    assert found.notes == (f"{path}: line 2 is cut short and was left out",)
    assert len(read(path).entries) == 2
    assert read(path).notes == ()


def test_a_whole_last_line_without_its_end_is_kept(tmp_path):
    path = tmp_path / "history.jsonl"
    append(path, small(1))
    path.write_text(path.read_text().rstrip("\n"))
    append(path, small(2))
    assert len(read(path).entries) == 2


GOOD = json.dumps(history.summary(small(1)))


@pytest.mark.parametrize(
    ("content", "line"),
    [
        pytest.param("my notes", 1, id="text"),
        pytest.param("\n{}\n", 2, id="empty object"),
        pytest.param("[1]\n", 1, id="a list"),
        pytest.param('{"schema": "sen-edge/bench/1"}', 1, id="a record"),
        pytest.param(GOOD[:80] + "\n" + GOOD + "\n", 1, id="cut in the middle"),
        pytest.param(GOOD + "\n" + GOOD.replace("2026-11-01T08:00:00Z", "yesterday") + "\n", 2, id="no date"),
        pytest.param(GOOD.replace('"median_us": ', '"median_us": -'), 1, id="negative"),
        pytest.param(GOOD.replace('"median_us"', '"median"'), 1, id="no median"),
        pytest.param("\ufffd\x00\n", 1, id="binary"),
    ],
)
def test_other_files_are_refused_and_left_alone(tmp_path, content, line):
    path = tmp_path / "precious.txt"
    path.write_text(content)
    before = path.read_bytes()
    with pytest.raises(HistoryError, match=f"line {line}"):
        append(path, small(2))
    assert path.read_bytes() == before


def test_paths_that_cannot_be(tmp_path):
    with pytest.raises(HistoryError, match=r"history\.jsonl"):
        append(tmp_path / "missing" / "history.jsonl", small())
    with pytest.raises(HistoryError, match="folder"):
        append(tmp_path, small())
    (tmp_path / "binary").write_bytes(b"\xff\xfe\n")
    with pytest.raises(HistoryError, match="line 1"):
        read(tmp_path / "binary")


def test_a_record_without_turns(tmp_path):
    made = small()
    made["rows"][0]["turns_us"] = []
    found = append(tmp_path / "history.jsonl", made)
    assert found.entries[0]["rows"][0]["low_us"] is None


def _append_some(path, start):
    for day in range(start, start + 5):
        append(path, small(day))


def test_two_writers_lose_nothing(tmp_path):
    path = tmp_path / "history.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append_some, args=(path, start)) for start in (1, 11)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(read(path).entries) == 10
