"""Energy of an inference from the log of a power meter."""

import numpy as np
import pytest

from sen_runtime.bench.energy import (
    EnergyError,
    Meter,
    Span,
    idle_watts,
    read_meter,
    uj_per_inference,
    with_energy,
)
from tests.support import records

START = 1795593600.0  # 2026-11-25T08:00:00Z


def meter_of(watts, period=0.1, start=START):
    return Meter("meter.csv", start + period * np.arange(len(watts)), np.array(watts, float))


def turns(seconds, start=START, inferences=20, busy=0.5):
    """Turns that begin each millisecond and take part of it."""
    return [Span(start + 1e-3 * i, start + 1e-3 * (i + busy), inferences) for i in range(round(1000 * seconds))]


def written(tmp_path, lines):
    path = tmp_path / "meter.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_energy_is_power_times_the_time_of_an_inference():
    meter = meter_of([3.0] * 50)
    assert uj_per_inference(meter, turns(5)) == pytest.approx(3.0 * 0.5e-3 / 20 * 1e6)  # 75 uJ


def test_a_burst_of_other_load_does_not_move_the_median():
    watts = [3.0] * 50
    watts[10:15] = [9.0] * 5
    assert uj_per_inference(meter_of(watts), turns(5)) == pytest.approx(75.0)


def test_one_span_for_the_whole_run():
    assert uj_per_inference(meter_of([3.0] * 50), [Span(START, START + 4.9, 98000)]) == pytest.approx(150.0)


def test_energy_follows_the_latency():
    slow = [Span(START + 1e-3 * i, START + 1e-3 * (i + 0.5), 20 if i < 1500 else 10) for i in range(5000)]
    assert uj_per_inference(meter_of([3.0] * 50), slow) == pytest.approx(150.0)


def test_idle_power_is_that_before_the_run():
    watts = [1.5] * 40 + [3.0] * 50 + [2.7] * 90  # after it figures are worked out, which is not idle
    meter = meter_of(watts, start=START - 4)
    assert idle_watts(meter, START) == 1.5
    assert idle_watts(meter_of([3.0] * 50), START) is None


def test_record_with_energy():
    record = records.record((25.0,), records.NAMES[:1])
    found = with_energy(record, meter_of([3.0] * 50), turns(5))
    assert found["rows"][0]["energy_uj"] == pytest.approx(75.0)
    assert found["energy"] == {"meter": "meter.csv", "idle_watts": None}
    assert record["rows"][0]["energy_uj"] is None


@pytest.mark.parametrize("start", [START - 3600, START + 3600, START * 1000])
def test_a_meter_of_another_time(start):
    with pytest.raises(EnergyError, match=r"\b0 readings.*2026-11-25T08:00:00\.000\+00:00"):
        uj_per_inference(meter_of([3.0] * 50, start=start), turns(5))


def test_no_inference():
    with pytest.raises(EnergyError, match="inference"):
        uj_per_inference(meter_of([3.0] * 50), [Span(START, START + 1, 0)])


def test_reads_both_kinds_of_timestamp(tmp_path):
    seconds = [f"{START + i / 10:.1f},{i}" for i in range(12)]
    iso = [f"2026-11-25T08:00:0{i // 10}.{i % 10}Z,{i}" for i in range(12)]
    offset = [f"2026-11-25 10:00:0{i // 10}.{i % 10}00000+02{':' * (i % 2)}00,{i}" for i in range(12)]
    for lines in (seconds, iso, offset):
        meter = read_meter(written(tmp_path, ["timestamp,watts", *lines]))
        assert meter.t_s == pytest.approx(START + np.arange(12) / 10, abs=1e-6)
        assert meter.watts.tolist() == list(range(12))


def test_other_columns_spaces_and_empty_lines(tmp_path):
    lines = [f'{i}, "a,b",{START + i}' for i in range(12)]
    meter = read_meter(written(tmp_path, ["\ufeffWatts, note, Timestamp", "", *lines, "", ""]))
    assert meter.watts.tolist() == list(range(12))


HEADER = "timestamp,watts"
ROWS = [f"{START + i},3.0" for i in range(12)]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        pytest.param([], "0 readings", id="empty"),
        pytest.param(["time,power", *ROWS], r"line 1.*'time', 'power'", id="header"),
        pytest.param(ROWS, "line 1", id="no header"),
        pytest.param(["watts,timestamp,watts", *ROWS], "'watts'", id="twice"),
        pytest.param([HEADER, *ROWS[:3], "1795593900"], r"line 5.*\b1\b.*\b2\b", id="short"),
        pytest.param([HEADER, *ROWS[:3], f"{START + 9},3 W"], r"line 5.*watts.*'3 W'", id="unit"),
        pytest.param([HEADER, f"{START},nan"], r"line 2.*watts.*'nan'", id="nan"),
        pytest.param([HEADER, f"{START},-1"], r"line 2.*watts.*'-1'", id="negative"),
        pytest.param([HEADER, "yesterday,1"], r"line 2.*timestamp.*'yesterday'", id="words"),
        pytest.param([HEADER, "2026-13-25T08:00:00Z,1"], r"line 2.*timestamp.*'2026-13", id="month"),
        pytest.param([HEADER, "2026-11-25T08:00:00,1"], r"line 2.*timestamp.*UTC", id="no offset"),
        pytest.param([HEADER, ROWS[1], ROWS[1]], "line 3", id="same time"),
        pytest.param([HEADER, *ROWS[:9]], r"\b9 readings.*\b10\b", id="few"),
        pytest.param([HEADER, '"1,2'], "line 2: ", id="quote"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, lines, message):
    with pytest.raises(EnergyError, match=message):
        read_meter(written(tmp_path, lines))


def test_files_that_cannot_be_read(tmp_path):
    for name in ("missing.csv", "."):
        with pytest.raises(EnergyError, match=str(tmp_path)):
            read_meter(tmp_path / name)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\n")
    with pytest.raises(EnergyError, match="UTF-8"):
        read_meter(tmp_path / "binary.csv")


def test_a_file_is_checked_while_it_grows(tmp_path):
    path = tmp_path / "meter.csv"
    for content in ("", HEADER[:5], f"{HEADER}\n", f"{HEADER}\n{ROWS[0]}\n179559"):
        path.write_text(content)
        read_meter(path, min_readings=0)
        with pytest.raises(EnergyError, match="readings"):
            read_meter(path)
    path.write_text("\n".join([HEADER, *ROWS]) + "\n1795593700.0,3")  # of 3.5, say
    assert read_meter(path).watts.tolist() == [3.0] * 12
    for content in ("time,power\n", f"{HEADER}\nyesterday,1\n"):
        path.write_text(content)
        with pytest.raises(EnergyError):
            read_meter(path, min_readings=0)
    with pytest.raises(EnergyError):
        read_meter(tmp_path / "missing.csv", min_readings=0)
