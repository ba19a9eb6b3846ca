"""Records as tables for a terminal."""

import pytest

from sen_runtime.bench import text
from sen_runtime.bench.compare import compare
from sen_runtime.figures import significant, size, unit_of_time
from tests.support import records


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.8, "0.8000"), (12346, "12350"), (9.99996, "10.00"), (0, "0"), (999.96, "1000"), (-0.012346, "-0.01235"),
     (1e-9, "0.000000001000"), (3.0, "3.000"), (123456789.0, "123500000")],
)  # fmt: skip
def test_four_significant_digits(value, expected):
    assert significant(value) == expected


@pytest.mark.parametrize(
    ("latencies_us", "unit"),
    [([0.03], "ns"), ([0.8, 3000.0], "us"), ([42.0], "us"), ([1500.0, 9000.0], "ms"), ([5e6], "s"), ([], "us"),
     ([1e-6], "ns"), ([0.0], "us")],
)  # fmt: skip
def test_unit_fits_the_middle_of_a_column(latencies_us, unit):
    assert unit_of_time(latencies_us) == unit


def test_sizes():
    assert [size(count) for count in (12, 1023, 1024, 2143272)] == ["12 B", "1023 B", "1.000 KiB", "2.044 MiB"]


def cells(line):
    return line.split()


def test_table_of_a_fast_and_a_slow_row():
    record = records.record((0.8, 3000.0), records.NAMES[:2])
    lines = text.table(record, 200).splitlines()
    heading = next(line for line in lines if line.startswith("row"))
    rows = [line for line in lines if line.startswith("digits")][:2]
    assert "median us" in heading
    medians = [row["latency_us"]["median"] for row in record["rows"]]
    assert [cells(row)[3] for row in rows] == [significant(median) for median in medians]
    points = {row.index(".", 26) for row in rows if "." in row[26:36]}
    assert len(points) == 1 or rows[1][26:36].count(".") == 0  # aligned at the decimal point
    assert "ratio: latency over that of digits.onnx onnxruntime 1; interval: 95 % confidence" in lines


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140])
def test_table_fits_the_terminal(width):
    names = [
        "a-model-with-a-very-long-name-indeed.onnx onnxruntime 1",
        "b.sen native 1",
        "模型模型模型模型模型.sen native 4",
    ]
    record = records.record((0.8, 3000.0, 41.2), names)
    table = text.table(record, width).split("\n\n")[1]
    assert max(text._width(line) for line in table.splitlines()) <= width
    assert "median" in table
    assert "native 4" in table or width < 80


def test_table_names_what_is_wrong():
    record = records.record(status="interrupted", valid=False, invalid_because=["the clock fell"])
    record["rows"][1]["agreement"]["matches"] = False
    record["rows"][2]["warnings"] = [{"kind": "trend", "message": "latency rose by 9 %"}]
    table = text.table(record, 200)
    assert next(line for line in table.splitlines() if "WRONG OUTPUTS" in line).startswith("digits.tflite")
    for words in ("INTERRUPTED", "NOT VALID: the clock fell", "digits.sen native 1: latency rose by 9 %"):
        assert words in table
    assert "NOT VALID" in text.table(records.record(valid=False), 200)


@pytest.mark.parametrize(
    ("before", "after", "threads", "cores", "is_busy"),
    [
        (0.3, 1.2, 1, 4, False),
        (0.3, 4.4, 4, 4, False),  # its own
        (16.0, 3.0, 1, 2, True),
        (0.3, 16.0, 1, 2, True),
        (0.3, 16.0, 1, "unavailable", False),
        ("unavailable", "unavailable", 1, 2, False),
    ],
)
def test_a_busy_machine_is_in_every_headline(before, after, threads, cores, is_busy):
    record = records.record()
    state = record["device"]["before"]
    record["rows"][1]["threads"] = threads
    record["device"].update(cpus=cores, before={**state, "load": before}, after={**state, "load": after})
    assert ("BUSY" in text.table(record, 200)) == is_busy
    assert bool(compare(record, record).notes) == is_busy


def test_table_of_a_record_without_rows():
    assert "row" in text.table(records.record((), ()), 80)


def test_names_cannot_steer_the_terminal():
    record = records.record((1.0, 2.0), ("\x1b[31mred\r\n.sen native 1", "b.sen native 1"))
    assert "\x1b" not in text.table(record, 120)
    assert "\r" not in text.table(record, 120)


def test_heading_leaves_out_what_is_not_known():
    record = records.record()
    record["device"].update(model="unavailable", userland_bits="unavailable")
    assert text.heading(record) == "Cortex-A72, aarch64, Debian GNU/Linux 12 (bookworm), 2026-11-25T08:00:00Z"
