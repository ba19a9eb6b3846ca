"""Energy of an inference from the file of an external meter."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sen_runtime.bench.record import began_s
from sen_runtime.bench.statistics import Floats
from sen_runtime.errors import SenError
from sen_runtime.untrusted import decode, quote, read_regular

#: Min number of readings within the spans of a row.
MIN_READINGS = 10
#: An hour of a meter with a thousand readings a second.
MAX_BYTES = 1 << 27
#: Seconds before the run in which readings are not counted as idle.
MARGIN_S = 1.0
EXPECTED = "expected the columns timestamp (ISO 8601 with its offset from UTC, or seconds since 1970) and watts"


class EnergyError(SenError):
    """A meter's file that is malformed, or does not cover the run."""


class Span(NamedTuple):
    """Time in which only one row ran: seconds since 1970, and its inferences."""

    start_s: float
    end_s: float
    inferences: int


class Meter(NamedTuple):
    """Readings of a meter: name of its file, seconds since 1970 (ascending) and power at those times, `[n]` each."""

    name: str
    t_s: Floats
    watts: Floats


def read_meter(path: Path, min_readings: int = MIN_READINGS) -> Meter:
    """Read a CSV with the columns `timestamp` and `watts`, in any order and next to others.

    An unterminated last line is ignored: the meter may still be writing it. Before a run the file may have no readings
    yet: `min_readings` is 0 then.
    """
    data = read_regular(path, MAX_BYTES, error=EnergyError)
    lines = decode(data[: data.rfind(b"\n") + 1], str(path), error=EnergyError).splitlines()
    reader = csv.reader(lines, strict=True, skipinitialspace=True)
    readings: list[tuple[float, float]] = []
    places: list[int] = []
    try:
        for fields in reader:
            where, cells = f"{path}: line {reader.line_num}", [field.strip() for field in fields]
            if not any(cells):
                continue
            if not places:
                places = _places(where, [cell.lower() for cell in cells])
                continue
            if len(cells) <= max(places):
                raise EnergyError(f"{where} has {len(cells)} columns; expected at least {max(places) + 1}")
            time, power = (cells[place] for place in places)
            readings.append((_seconds(where, time), _watts(where, power)))
            if len(readings) > 1 and readings[-1][0] <= readings[-2][0]:
                raise EnergyError(f"{where}: timestamp {quote(time)} is not later than the one before")
    except csv.Error as error:
        raise EnergyError(f"{path}: line {reader.line_num}: {error}", EXPECTED) from error
    if len(readings) < min_readings:
        raise EnergyError(f"{path} has {len(readings)} readings; expected at least {min_readings}", EXPECTED)
    return Meter(path.name, *np.array(readings).reshape(-1, 2).T)


def with_energy(record: Mapping[str, Any], meter: Meter, spans: Sequence[Span]) -> dict[str, Any]:
    """Add `energy_uj` of the only row, whose turns are `spans`, and the idle power to a record.

    `energy_uj` includes the idle power of the device.
    """
    (row,) = record["rows"]
    return {
        **record,
        "rows": [{**row, "energy_uj": uj_per_inference(meter, spans)}],
        "energy": {"meter": meter.name, "idle_watts": idle_watts(meter, began_s(record))},
    }


def uj_per_inference(meter: Meter, spans: Sequence[Span]) -> float:
    """Median over the parts of a run, of at least one period of the meter, of mean power x time / inferences, in uJ."""
    spans = [span for span in spans if span.inferences > 0 and span.end_s > span.start_s]
    if not spans:
        raise EnergyError("no inference was made while the meter ran")
    start, end = spans[0].start_s, spans[-1].end_s
    inside = (meter.t_s >= start) & (meter.t_s <= end)
    if inside.sum() < MIN_READINGS:
        raise EnergyError(
            f"{meter.name} has {int(inside.sum())} readings between {_iso(start)} and {_iso(end)}, when the row ran; "
            f"expected at least {MIN_READINGS}. It reads from {_iso(meter.t_s[0])} to {_iso(meter.t_s[-1])}",
            "the clocks of meter and device must agree: the file has to cover the run",
        )
    edges = meter.t_s[inside]
    starts, ends, inferences = np.array(spans, np.float64).T
    centres, durations = (starts + ends) / 2, ends - starts
    # A reading holds until the next; a turn belongs to the reading before its middle.
    part = np.clip(np.searchsorted(edges, centres, "right") - 1, 0, len(edges) - 1)
    time_s, count = np.bincount(part, durations, len(edges)), np.bincount(part, inferences, len(edges))
    if np.count_nonzero(count) < len(edges) / 2:  # spans longer than the meter's period: one mean time per call
        time_s, count = np.full(len(edges), durations.sum()), np.full(len(edges), inferences.sum())
    used = count > 0
    return float(np.median(meter.watts[inside][used] * time_s[used] / count[used])) * 1e6


def idle_watts(meter: Meter, began_s: float) -> float | None:
    """Median power before the run; None where there are too few readings.

    After the run, and before its first round, the machine is not idle: it loads models and computes figures.
    """
    before = meter.t_s < began_s - MARGIN_S
    return float(np.median(meter.watts[before])) if before.sum() >= MIN_READINGS else None


def _places(where: str, header: Sequence[str]) -> list[int]:
    for name in ("timestamp", "watts"):
        if header.count(name) != 1:
            raise EnergyError(f"{where}: the header is {quote(header)}; there must be one column {name!r}", EXPECTED)
    return [header.index("timestamp"), header.index("watts")]


def _watts(where: str, cell: str) -> float:
    with suppress(ValueError):
        value = float(cell)
        if isfinite(value) and value >= 0:
            return value
    raise EnergyError(f"{where}: watts is {quote(cell)}; expected a number >= 0")


def _seconds(where: str, cell: str) -> float:
    """Seconds since 1970."""
    if re.fullmatch(r"[0-9]+(\.[0-9]*)?", cell):
        return float(cell)
    # Python before 3.11 reads neither "Z" nor any number of digits of a second.
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)([.,]\d+)?(Z|[+-]\d\d:?\d\d)?", cell)
    moment, fraction, offset = match.groups(default="") if match else ("", "", "Z")
    example = "such as 2026-11-25T08:00:00.5Z"
    if not offset:
        raise EnergyError(f"{where}: timestamp {quote(cell)} has no offset from UTC", example)
    zone = "+00:00" if offset == "Z" else f"{offset[:3]}:{offset[-2:]}"
    try:
        return datetime.fromisoformat(moment + zone).timestamp() + float(f"0.{fraction[1:] or 0}")
    except ValueError:
        expected = f"expected ISO 8601, {example}, or seconds since 1970"
        raise EnergyError(f"{where}: timestamp is {quote(cell)}; {expected}") from None


def _iso(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(float(seconds), timezone.utc).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):  # a timestamp in milliseconds lies far beyond
        return f"{float(seconds):g} s"
