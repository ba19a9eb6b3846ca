"""Compare two records of one device: which rows became slower, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Optional

import numpy as np

from sen_runtime.bench import bootstrap
from sen_runtime.bench.record import busy
from sen_runtime.errors import SenError
from sen_runtime.figures import UNITS_OF_TIME, significant, unit_of_time
from sen_runtime.untrusted import printable

Record = Mapping[str, Any]
#: Rounds of each load; None in older records.
Loads = Optional[list[int]]

SCHEMA = "sen-edge/bench-comparison/1"
#: Min number of turns of an interval.
MIN_TURNS = 20
#: Fields of the device, and of a row, that must be equal, with their names in messages.
SAME_DEVICE = {
    "model": "model of the device",
    "cpu": "processor of the device",
    "architecture": "architecture of the kernel",
}
SAME_ROW = {key: key for key in ("n_in", "n_out", "timesteps", "engine", "threads")}
#: Differences that are noted.
NOTED_DEVICE = {"kernel": "kernel", "os": "os", "userland_bits": "userland_bits", "compiler": "compiler"}
NOTED_ROW = {
    "sha256": "different artifacts",
    "engine_version": "different versions of the engine",
    "kernels": "different kernels",
}
NOTED_SETTINGS = {"inputs": "different inputs", "n_inputs": "different numbers of inputs", "cpus": "different cores"}
ALLOW = "--allow-different compares them anyway"


class CompareError(SenError):
    """Two records of different devices or models, or a record that is not valid."""


@dataclass(frozen=True)
class RowComparison:
    """A row that both records have.

    Attributes:
        name: of the row.
        a_us, b_us: medians of the turns, microseconds.
        ratio: b_us / a_us; above 1 is slower.
        low, high: its interval at `bootstrap.CONFIDENCE`; the loads of the two series are resampled independently.
        effect: Cliff's delta, -1 to 1: the share of pairs of turns in which b is slower, minus that in which it is
            faster. 0 for identical distributions, 1 where the fastest turn of b is slower than all turns of a.
        notes: other differences.
    """

    name: str
    a_us: float
    b_us: float
    ratio: float
    low: float
    high: float
    effect: float
    notes: tuple[str, ...]

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
class Gate:
    """A limit for all rows.

    Attributes:
        max_share: 0.05 allows 5 % more time.
        strict: whether undecided rows fail.
    """

    max_share: float
    strict: bool = False


@dataclass(frozen=True)
class Comparison:
    """A comparison of two records.

    Attributes:
        rows: rows of both records, in the order of the first.
        only_in_a, only_in_b: names of the other rows.
        notes: differences of devices and records.
        confidence: of the intervals.
    """

    rows: tuple[RowComparison, ...]
    only_in_a: tuple[str, ...]
    only_in_b: tuple[str, ...]
    notes: tuple[str, ...]
    confidence: float = bootstrap.CONFIDENCE

    def failures(self, gate: Gate) -> tuple[str, ...]:
        """Return a sentence for each failure of a gate.

        A row that is missing in the second record fails.
        """
        outcomes = [(row, row.outcome(gate.max_share)) for row in self.rows]
        slower = [row for row, outcome in outcomes if outcome == "regression"]
        undecided = [row for row, outcome in outcomes if outcome == "undecided" and gate.strict]
        return (
            *(f"regression: {row.name} takes {row.ratio:.3g} times as long" for row in slower),
            *(f"missing: {name} is in the first record only" for name in self.only_in_a),
            *(f"undecided: {row.name} takes {row.low:.3g} to {row.high:.3g} times as long" for row in undecided),
        )

    def to_dict(self, gate: Gate | None = None) -> dict[str, Any]:
        """Content of a JSON document; with a gate also its limit, the outcome of each row, and the failures."""
        judged: dict[str, Any] | None = None
        if gate is not None:
            failures = list(self.failures(gate))
            judged = {"max_regression": gate.max_share, "strict": gate.strict, "passed": not failures}
            judged["failures"] = failures
        return {
            "schema": SCHEMA,
            "confidence": self.confidence,
            "effect": "Cliff's delta",
            "gate": judged,
            "rows": [
                {
                    **asdict(row),
                    "notes": list(row.notes),
                    "verdict": row.verdict,
                    **({} if gate is None else {"outcome": row.outcome(gate.max_share)}),
                }
                for row in self.rows
            ],
            **{name: list(getattr(self, name)) for name in ("only_in_a", "only_in_b", "notes")},
        }


def compare(a: Record, b: Record, *, allow_different: bool = False) -> Comparison:
    """Match the rows of two records by name, and compare their latencies.

    Args:
        a: the earlier record.
        b: the later record.
        allow_different: compare different devices, different shapes and engines of one name, and records that are
            interrupted or not valid; the differences are then among the notes.

    Raises:
        CompareError: different devices or models; a record is interrupted or not valid; no common row; fewer than
            `MIN_TURNS` turns.
    """
    both_records = {"the first record": a, "the second record": b}
    objections = [each for which, record in both_records.items() for each in _objections(which, record)]
    objections += _differences(a["device"], b["device"], SAME_DEVICE)
    settings, devices = (a["settings"], b["settings"]), (a["device"], b["device"])
    inputs = [each["inputs"] for each in settings]
    if "cold-cache" in inputs and inputs[0] != inputs[1]:
        objections.append(f"the caches were emptied in one of them: {inputs[0]} / {inputs[1]}")
    rows_a, rows_b = ({row["name"]: row for row in record["rows"]} for record in (a, b))
    both = [name for name in rows_a if name in rows_b]
    objections += [
        f"{name}: {difference}" for name in both for difference in _differences(rows_a[name], rows_b[name], SAME_ROW)
    ]
    if objections and not allow_different:
        raise CompareError("; ".join(objections), ALLOW)
    if not both:
        names = " / ".join(", ".join(map(repr, rows)) or "none" for rows in (rows_a, rows_b))
        raise CompareError(f"no row is in both records: {names}", "rows are matched by name: file, engine and threads")
    loads = settings[0].get("loads"), settings[1].get("loads")
    notes = [*objections, *(f"{which}: {text}" for which, record in both_records.items() if (text := busy(record)))]
    notes += [*_differences(*devices, NOTED_DEVICE), *_differences(*settings, NOTED_SETTINGS)]
    if a["device"]["model"] == "unavailable":
        notes.append("the model of the device is unknown: the records may be of different devices")
    return Comparison(
        rows=tuple(_compare_row(rows_a[name], rows_b[name], loads) for name in both),
        only_in_a=tuple(name for name in rows_a if name not in rows_b),
        only_in_b=tuple(name for name in rows_b if name not in rows_a),
        notes=tuple(notes),
    )


def table(comparison: Comparison, max_share: float | None = None) -> str:
    """Format a table for a terminal, with notes.

    Args:
        comparison: from `compare`.
        max_share: limit of a gate: rows beyond it are marked, undecided rows named.
    """
    rows = comparison.rows
    unit = unit_of_time(value for row in rows for value in (row.a_us, row.b_us))
    lines = [["row", f"a {unit}", f"b {unit}", "b / a", "interval", "effect", "verdict"]]
    for row in rows:
        figures = [significant(value * UNITS_OF_TIME[unit]) for value in (row.a_us, row.b_us)]
        figures += [significant(row.ratio), f"{significant(row.low)} to {significant(row.high)}", f"{row.effect:+.2f}"]
        outcome = None if max_share is None else row.outcome(max_share)
        lines.append([printable(row.name), *figures, "REGRESSION" if outcome == "regression" else row.verdict])
    widths = [max(map(len, column)) for column in zip(*lines)]
    text = [
        "  ".join([name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells, widths[1:-1])), verdict])
        for name, *cells, verdict in lines
    ]
    text += ["", f"interval: {100 * comparison.confidence:g} % confidence; effect: Cliff's delta, -1 to 1"]
    text += [f"{row.name}: {note}" for row in rows for note in row.notes]
    text += [f"only in the first record: {name}" for name in comparison.only_in_a]
    text += [f"only in the second record: {name}" for name in comparison.only_in_b]
    text += comparison.notes
    if max_share is not None:
        text += [
            f"{row.name}: undecided, as its interval reaches beyond {significant(1 + max_share)}: "
            "measure longer (--seconds) or on a quieter machine"
            for row in rows
            if row.outcome(max_share) == "undecided"
        ]
    return "\n".join(printable(line) for line in text) + "\n"


def cliffs_delta(a: bootstrap.Floats, b: bootstrap.Floats) -> float:
    """Share of pairs (a [n], b [m]) with b > a, minus that with b < a."""
    ordered = np.sort(a)
    below = np.searchsorted(ordered, b, "left").sum()
    above = len(a) * len(b) - np.searchsorted(ordered, b, "right").sum()
    return float(below - above) / (len(a) * len(b))


def _compare_row(a: Record, b: Record, loads: tuple[Loads, Loads]) -> RowComparison:
    turns_a, turns_b = _turns(a), _turns(b)
    sizes = [bootstrap.sizes_of_loads(each, len(turns)) for each, turns in zip(loads, (turns_a, turns_b))]
    a_us, b_us = float(np.median(turns_a)), float(np.median(turns_b))
    drawn = np.log(bootstrap.medians(turns_b, sizes[1], seed=1) / bootstrap.medians(turns_a, sizes[0], seed=0))
    low, high = np.exp(bootstrap.interval(drawn, float(np.log(b_us / a_us)), min(map(len, sizes)))).tolist()
    effect, notes = cliffs_delta(turns_a, turns_b), _differences(a, b, NOTED_ROW, limit=16)
    return RowComparison(a["name"], a_us, b_us, b_us / a_us, low, high, effect, tuple(notes))


def _turns(row: Record) -> bootstrap.Floats:
    turns = np.asarray(row["turns_us"], np.float64)
    if len(turns) < MIN_TURNS:
        message = f"{row['name']}: there are {len(turns)} turns; expected at least {MIN_TURNS}"
        raise CompareError(message, "measure longer: --seconds")
    if not np.all(turns > 0):
        raise CompareError(f"{row['name']}: turns_us holds {turns.min():g}; expected latencies > 0")
    return turns


def _objections(which: str, record: Record) -> list[str]:
    objections = [] if record["status"] == "complete" else [f"{which} is {record['status']}"]
    if not record["valid"]:
        objections.append(f"{which} is not valid ({'; '.join(record['invalid_because']) or 'no reason given'})")
    return objections


def _differences(a: Record, b: Record, names: Mapping[str, str], limit: int = 60) -> list[str]:
    """A sentence for each field of `names` that differs, with at most `limit` characters of each value."""
    return [
        f"{what}: {printable(str(a[key]))[:limit]} / {printable(str(b[key]))[:limit]}"
        for key, what in names.items()
        if a[key] != b[key]
    ]
