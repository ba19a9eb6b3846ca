"""Compare two records of one device: which rows became slower, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sen_runtime.bench.cores import words
from sen_runtime.bench.record import busy
from sen_runtime.bench.statistics import CONFIDENCE, Floats, interval, medians, sizes_of_loads
from sen_runtime.errors import SenError
from sen_runtime.figures import UNITS_OF_TIME, significant, unit_of_time
from sen_runtime.task import Metric
from sen_runtime.untrusted import printable

Record = Mapping[str, Any]

SCHEMA = "sen-edge/bench-comparison/1"
#: Min number of turns of an interval.
MIN_TURNS = 20
#: Fields of the device, and of a row, that must be equal, with their names in messages.
SAME_DEVICE = {
    "model": "model of the device",
    "cpu": "processor of the device",
    "architecture": "architecture of the kernel",
}
SAME_ROW = {key: key for key in ("n_in", "n_out", "timesteps", "engine", "threads", "batch")}
#: Differences that are noted.
NOTED_DEVICE = {key: key for key in ("kernel", "os", "userland_bits", "compiler")}
NOTED_ROW = {
    "sha256": "different artifacts",
    "engine_version": "different versions of the engine",
    "kernels": "different kernels",
}
NOTED_SETTINGS = {"inputs": "different inputs", "n_inputs": "different numbers of inputs"}


class CompareError(SenError):
    """Two records of different devices or models, or a record that is not valid."""


@dataclass(frozen=True)
class RowComparison:
    """A row that both records have; the loads of the two series are resampled independently.

    The effect is Cliff's delta, -1 to 1: the share of pairs of turns in which b is slower, minus that in which it is
    faster. It is 0 for identical distributions, and 1 where the fastest turn of b is slower than all turns of a.
    """

    name: str
    a_us: float  # medians of the turns, microseconds
    b_us: float
    ratio: float  # b_us / a_us; above 1 is slower
    low: float  # its interval at `CONFIDENCE`
    high: float
    effect: float
    notes: list[str]  # other differences

    def outcome(self, max_share: float) -> str:
        """Result of a gate: a "regression" has a ratio above 1 + max_share, and its interval above 1.

        A row is "undecided" if its interval contains both allowed and larger ratios: a longer run is needed.
        """
        if self.ratio > 1 + max_share and self.low > 1:
            return "regression"
        return "undecided" if self.high > 1 + max_share else "passed"

    @property
    def verdict(self) -> str:
        """The comparison in words."""
        return "slower" if self.low > 1 else "faster" if self.high < 1 else "no difference seen"


@dataclass(frozen=True)
class Comparison:
    """Rows of two records in the order of the first, names of rows that only one has, and differences of the others."""

    rows: list[RowComparison]
    only_in_a: list[str]
    only_in_b: list[str]
    notes: list[str]

    def failures(self, max_share: float, *, strict: bool = False) -> list[str]:
        """A sentence for each failure of a gate that allows `max_share` more time: 0.05 allows 5 %.

        A row that is missing in the second record fails; if strict, an undecided one as well.
        """
        by_outcome: dict[str, list[RowComparison]] = {"regression": [], "undecided": [], "passed": []}
        for row in self.rows:
            by_outcome[row.outcome(max_share)].append(row)
        undecided = by_outcome["undecided"] if strict else []
        return [
            *(f"regression: {row.name} takes {row.ratio:.3g} times as long" for row in by_outcome["regression"]),
            *(f"missing: {name} is in the first record only" for name in self.only_in_a),
            *(f"undecided: {row.name} takes {row.low:.3g} to {row.high:.3g} times as long" for row in undecided),
        ]

    def to_dict(self, max_share: float | None = None, *, strict: bool = False) -> dict[str, Any]:
        """Content of a JSON document; with a gate also its limit, the outcome of each row, and the failures."""
        content = {"schema": SCHEMA, "confidence": CONFIDENCE, "effect": "Cliff's delta", "gate": None, **asdict(self)}
        for row, fields in zip(self.rows, content["rows"]):
            fields["verdict"] = row.verdict
            if max_share is not None:
                fields["outcome"] = row.outcome(max_share)
        if max_share is not None:
            failures = self.failures(max_share, strict=strict)
            limits = {"max_regression": max_share, "strict": strict}
            content["gate"] = {**limits, "passed": not failures, "failures": failures}
        return content


def compare(a: Record, b: Record, *, allow_different: bool = False) -> Comparison:
    """Match the rows of two records, the earlier first, by name, and compare their latencies.

    With `allow_different`, different devices, different shapes and engines of one name, and records that are
    interrupted or not valid are compared; the differences are then among the notes.

    Raises:
        CompareError: such a difference; no common row; fewer than `MIN_TURNS` turns.
    """
    both_records = {"the first record": a, "the second record": b}
    objections = []
    for which, record in both_records.items():
        if record["status"] != "complete":
            objections.append(f"{which} is {record['status']}")
        if not record["valid"]:
            objections.append(f"{which} is not valid ({'; '.join(record['invalid_because']) or 'no reason given'})")
    objections += _differences(a["device"], b["device"], SAME_DEVICE)
    inputs = [each["settings"]["inputs"] for each in (a, b)]
    if "cold-cache" in inputs and inputs[0] != inputs[1]:
        objections.append(f"the caches were emptied in one of them: {inputs[0]} / {inputs[1]}")
    rows_a, rows_b = ({row["name"]: row for row in record["rows"]} for record in (a, b))
    both = [name for name in rows_a if name in rows_b]
    for name in both:
        objections += [f"{name}: {each}" for each in _differences(rows_a[name], rows_b[name], SAME_ROW)]
    if objections and not allow_different:
        raise CompareError("; ".join(objections), "--allow-different compares them anyway")
    if not both:
        names = " / ".join(", ".join(map(repr, rows)) or "none" for rows in (rows_a, rows_b))
        raise CompareError(
            f"no row is in both records: {names}", "rows are matched by name: file, engine, threads and batch"
        )
    notes = [*objections, *(f"{which}: {text}" for which, record in both_records.items() if (text := busy(record)))]
    notes += _differences(a["device"], b["device"], NOTED_DEVICE)
    notes += _differences(a["settings"], b["settings"], NOTED_SETTINGS)
    cpus = ["any" if each["settings"]["cpus"] is None else words(tuple(each["settings"]["cpus"])) for each in (a, b)]
    notes += _differences({"cpus": cpus[0]}, {"cpus": cpus[1]}, {"cpus": "different cores"})
    if a["device"]["model"] == "unavailable":
        notes.append("the model of the device is unknown: the records may be of different devices")
    loads = [each["settings"].get("loads") for each in (a, b)]
    return Comparison(
        rows=[_compare_row((rows_a[name], rows_b[name]), loads) for name in both],
        only_in_a=[name for name in rows_a if name not in rows_b],
        only_in_b=[name for name in rows_b if name not in rows_a],
        notes=notes,
    )


def table(comparison: Comparison, max_share: float | None = None) -> str:
    """Format a table for a terminal, with notes; with the limit of a gate, mark regressions and name undecided rows."""
    rows = comparison.rows
    outcomes = [None if max_share is None else row.outcome(max_share) for row in rows]
    unit = unit_of_time(value for row in rows for value in (row.a_us, row.b_us))
    lines = [["row", f"a {unit}", f"b {unit}", "b / a", "interval", "effect", "verdict"]]
    for row, outcome in zip(rows, outcomes):
        figures = [significant(value * UNITS_OF_TIME[unit]) for value in (row.a_us, row.b_us)]
        figures += [significant(row.ratio), f"{significant(row.low)} to {significant(row.high)}", f"{row.effect:+.2f}"]
        lines.append([printable(row.name), *figures, "REGRESSION" if outcome == "regression" else row.verdict])
    widths = [max(map(len, column)) for column in zip(*lines)]
    text = [
        "  ".join([name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells, widths[1:-1])), verdict])
        for name, *cells, verdict in lines
    ]
    text += ["", f"interval: {100 * CONFIDENCE:g} % confidence; effect: Cliff's delta, -1 to 1"]
    text += [f"{row.name}: {note}" for row in rows for note in row.notes]
    text += [f"only in the first record: {name}" for name in comparison.only_in_a]
    text += [f"only in the second record: {name}" for name in comparison.only_in_b]
    text += comparison.notes
    text += [
        f"{row.name}: undecided, as its interval reaches beyond {significant(1 + (max_share or 0))}: "
        "measure longer (--seconds) or on a quieter machine"
        for row, outcome in zip(rows, outcomes)
        if outcome == "undecided"
    ]
    return "\n".join(printable(line) for line in text) + "\n"


def cliffs_delta(a: Floats, b: Floats) -> float:
    """Share of pairs (a [n], b [m]) with b > a, minus that with b < a."""
    ordered = np.sort(a)
    below = np.searchsorted(ordered, b, "left").sum()
    above = len(a) * len(b) - np.searchsorted(ordered, b, "right").sum()
    return float(below - above) / (len(a) * len(b))


def _compare_row(rows: tuple[Record, Record], loads: list[list[int] | None]) -> RowComparison:
    turns = [_turns(row) for row in rows]
    sizes = [sizes_of_loads(each, len(values)) for each, values in zip(loads, turns)]
    a_us, b_us = (float(np.median(values)) for values in turns)
    drawn = [medians(values, each, seed) for seed, (values, each) in enumerate(zip(turns, sizes))]
    low, high = interval(np.log(drawn[1] / drawn[0]), float(np.log(b_us / a_us)), min(map(len, sizes)))
    low, high = np.exp([low, high]).tolist()
    notes = [*_differences(*rows, NOTED_ROW, limit=16), *_score_notes(*(row.get("score") for row in rows))]
    return RowComparison(rows[0]["name"], a_us, b_us, b_us / a_us, low, high, cliffs_delta(*turns), notes)


def _score_notes(a: Record | None, b: Record | None) -> list[str]:
    """A sentence about scores of one metric that differ."""
    if a is None or b is None or None in (a["value"], b["value"]) or a["name"] != b["name"]:
        return []
    metric = Metric(a["name"], a["unit"], a["higher_is_better"])
    drop = metric.drop(a["value"], b["value"])
    if drop == 0:
        return []
    change = f"{'worse' if drop > 0 else 'better'} by {metric.change_text(abs(drop))}"
    return [f"{metric.name}: {metric.text(a['value'])} / {metric.text(b['value'])}, {change}"]


def _turns(row: Record) -> Floats:
    turns = np.asarray(row["turns_us"], np.float64)
    if len(turns) < MIN_TURNS:
        message = f"{row['name']}: there are {len(turns)} turns; expected at least {MIN_TURNS}"
        raise CompareError(message, "measure longer: --seconds")
    if not np.all(turns > 0):
        raise CompareError(f"{row['name']}: turns_us holds {turns.min():g}; expected latencies > 0")
    return turns


def _differences(a: Record, b: Record, names: Mapping[str, str], limit: int = 60) -> list[str]:
    """A sentence for each field of `names` that differs, with at most `limit` characters of each value."""
    return [
        f"{what}: {printable(str(a[key]))[:limit]} / {printable(str(b[key]))[:limit]}"
        for key, what in names.items()
        if a[key] != b[key]
    ]
