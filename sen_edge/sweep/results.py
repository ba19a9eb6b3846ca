"""What came of a sweep: a row for each trial, a ranking of the points; Parquet, CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sen_edge.errors import OutputError
from sen_edge.sweep.runner import State, figures_of
from sen_edge.sweep.search import Point, shown
from sen_runtime.files import write_all

#: Columns of results beside the searched values, in this order.
FIGURES = (
    "validation_accuracy",
    "test_accuracy",
    "trained_validation_accuracy",
    "trained_test_accuracy",
    "best_epoch",
    "parameters",
    "macs",
    "weight_bytes",
)


@dataclass(frozen=True)
class Ranked:
    """A point and how good it is; accuracies in percent.

    Attributes:
        point: its values.
        accuracy: mean validation accuracy over the finished seeds.
        low, high: least and greatest of them.
        test_accuracy: mean; nothing is chosen by it.
        n_done: seeds that are finished.
        n_failed: seeds that failed.
        figures: of the first finished seed.
    """

    point: Point
    accuracy: float
    low: float
    high: float
    test_accuracy: float
    n_done: int
    n_failed: int
    figures: Mapping[str, Any]


def ranking(state: State) -> list[Ranked]:
    """Points with a finished trial, the best first: by validation accuracy; those that failed for a seed come last."""
    ranked = []
    for point in state.points:
        figures = figures_of(point, state.records)
        if not figures:
            continue
        accuracies = [each["validation_accuracy"] for each in figures]
        ranked.append(
            Ranked(
                point,
                sum(accuracies) / len(accuracies),
                min(accuracies),
                max(accuracies),
                sum(each["test_accuracy"] for each in figures) / len(figures),
                len(figures),
                sum(ident in state.records for ident in point.trials) - len(figures),
                figures[0],
            )
        )
    return sorted(ranked, key=lambda each: (each.n_failed > 0, -each.accuracy, each.point.number))


def rows(state: State, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """A row for each trial, in the order of the search: searched values, seed, figures, error; None for what is not."""
    found = []
    for point in state.points:
        values = {name: shown(value) if isinstance(value, tuple) else value for name, value in point.values.items()}
        for index, seed in enumerate(seeds):
            ident = point.trials[index] if point.trials else None
            record: Mapping[str, Any] = {"error": point.error} if ident is None else state.records.get(ident, {})
            figures = record.get("figures") or {}
            found.append(
                {
                    "point": point.number,
                    **values,
                    "seed": seed,
                    **{name: figures.get(name) for name in FIGURES},
                    "seconds": record.get("seconds"),
                    "error": record.get("error"),
                    "trial": ident,
                }
            )
    return found


def write_results(folder: Path, table: Sequence[Mapping[str, Any]], plot: bytes | None) -> list[Path]:
    """Write results.csv, results.parquet and, where there is one, results.svg; what was written.

    Raises:
        OutputError: they cannot be written.
    """
    files = {folder / "results.csv": as_csv(table).encode(), folder / "results.parquet": as_parquet(table)}
    if plot is not None:
        files[folder / "results.svg"] = plot
    try:
        write_all(files)
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror}", hint="finished trials are kept") from error
    return list(files)


def as_csv(table: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV; what is not there is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def as_parquet(table: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows as Parquet; a column without any value is one of nulls."""
    import pyarrow
    from pyarrow import parquet

    buffer = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in table]), buffer)
    return bytes(buffer.getvalue())
