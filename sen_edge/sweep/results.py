"""Results of a sweep: a row for each trial, a ranking of the points; CSV, Parquet, SVG."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from sen_edge.errors import OutputError
from sen_edge.sweep.cluster import Records
from sen_edge.sweep.search import Point
from sen_runtime.files import write_all

#: Columns of figures, in this order.
FIGURES = (
    "validation_accuracy",
    "test_accuracy",
    "trained_validation_accuracy",
    "trained_test_accuracy",
    "best_epoch",
    "learning_rate",
    "parameters",
    "macs",
    "weight_bytes",
)


@dataclass(frozen=True)
class Ranked:
    """A point with a finished trial, by its number, and its rank from 1.

    Accuracies are means over the finished seeds, in percent, and `macs` those of the first one. The accuracy on test
    data has no effect on the rank.
    """

    rank: int
    point: int
    values: Mapping[str, Any]
    validation_accuracy: float
    validation_range: tuple[float, float]
    test_accuracy: float
    seeds_done: int
    seeds_failed: int
    macs: int


def rank(points: Sequence[Point], records: Records) -> list[Ranked]:
    """Points by validation accuracy, the best first; those with a failed seed come last."""
    ranked = []
    for point in points:
        if figures := point.figures(records):
            accuracies = [each["validation_accuracy"] for each in figures]
            each = Ranked(
                rank=0,
                point=point.number,
                values=point.values,
                validation_accuracy=fmean(accuracies),
                validation_range=(min(accuracies), max(accuracies)),
                test_accuracy=fmean(each["test_accuracy"] for each in figures),
                seeds_done=len(figures),
                seeds_failed=len(point.trials.keys() & records.keys()) - len(figures),
                macs=figures[0]["macs"],
            )
            ranked.append(each)
    ranked.sort(key=lambda each: (each.seeds_failed > 0, -each.validation_accuracy, each.point))
    return [replace(each, rank=place) for place, each in enumerate(ranked, start=1)]


def rows(points: Sequence[Point], records: Records) -> list[dict[str, Any]]:
    """A row for each trial, in the order of the search: searched values, seed, figures, error; None where absent."""
    found = []
    for point in points:
        for trial, settings in point.trials.items():
            record = records.get(trial, {})
            figures = record.get("figures") or {}
            found.append(
                {
                    "point": point.number,
                    **point.parameters,
                    "seed": settings["training"]["seed"],
                    **{name: figures.get(name) for name in FIGURES},
                    "seconds": record.get("seconds"),
                    "error": record.get("error"),
                    "trial": trial,
                }
            )
    return found


def write_results(folder: Path, table: Sequence[Mapping[str, Any]], svg: bytes | None) -> list[Path]:
    """Write results.csv, results.parquet and, if there is one, results.svg; their paths.

    Raises:
        OutputError: they cannot be written.
    """
    import pyarrow
    from pyarrow import parquet

    text, binary = io.StringIO(), pyarrow.BufferOutputStream()
    writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    parquet.write_table(pyarrow.Table.from_pylist(list(table)), binary)
    files = {"results.csv": text.getvalue().encode(), "results.parquet": bytes(binary.getvalue())}
    if svg is not None:
        files["results.svg"] = svg
    try:
        write_all({folder / name: content for name, content in files.items()})
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror}", "finished trials are kept") from error
    return [folder / name for name in files]


def draw(trials: Iterable[FrozenTrial]) -> bytes | None:
    """SVG of the validation accuracy over each searched setting; None without matplotlib, or without a finished trial.

    Equal trials give equal bytes.
    """
    done = [trial for trial in trials if trial.value is not None]
    if not done or find_spec("matplotlib") is None:
        return None
    import matplotlib
    import numpy as np
    from matplotlib import pyplot
    from optuna.visualization.matplotlib import plot_slice

    study = optuna.create_study(direction="maximize")
    study.add_trials(done)
    buffer = io.BytesIO()
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": "sen-edge", "backend": "agg"}):
        warnings.simplefilter("ignore")  # plots of Optuna are marked as experimental
        figure = np.ravel(plot_slice(study, target_name="validation accuracy, %"))[0].figure
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    return buffer.getvalue()
