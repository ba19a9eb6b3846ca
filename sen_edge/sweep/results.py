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
from sen_edge.sweep.journal import direction
from sen_edge.sweep.search import Point
from sen_runtime.files import write_all
from sen_runtime.task import Metric

#: Columns of figures after those of the scores, in this order.
FIGURES = ("best_epoch", "learning_rate", "parameters", "macs", "weight_bytes")


@dataclass(frozen=True)
class Ranked:
    """A point with a finished trial, by its number, and its rank from 1.

    Scores are means over the finished seeds, and `macs` those of the first one. The score on test data has no effect on
    the rank.
    """

    rank: int
    point: int
    values: Mapping[str, Any]
    validation_score: float
    validation_range: tuple[float, float]
    test_score: float
    seeds_done: int
    seeds_failed: int
    macs: int


def rank(points: Sequence[Point], records: Records, metric: Metric) -> list[Ranked]:
    """Points by validation score, the best first; those with a failed seed come last."""
    ranked = []
    for point in points:
        if figures := point.figures(records):
            scores = [each[f"validation_{metric.key}"] for each in figures]
            each = Ranked(
                rank=0,
                point=point.number,
                values=point.values,
                validation_score=fmean(scores),
                validation_range=(min(scores), max(scores)),
                test_score=fmean(each[f"test_{metric.key}"] for each in figures),
                seeds_done=len(figures),
                seeds_failed=len(point.trials.keys() & records.keys()) - len(figures),
                macs=figures[0]["macs"],
            )
            ranked.append(each)
    ranked.sort(key=lambda each: (each.seeds_failed > 0, metric.drop(0, each.validation_score), each.point))
    return [replace(each, rank=place) for place, each in enumerate(ranked, start=1)]


def rows(points: Sequence[Point], records: Records, metric: Metric) -> list[dict[str, Any]]:
    """A row for each trial, in the order of the search: searched values, seed, figures, error; None where absent."""
    found, scores = [], (f"validation_{metric.key}", f"test_{metric.key}")
    names = (*scores, *(f"trained_{score}" for score in scores), *FIGURES)
    for point in points:
        for trial, settings in point.trials.items():
            record = records.get(trial, {})
            figures = record.get("figures") or {}
            found.append(
                {
                    "point": point.number,
                    **point.parameters,
                    "seed": settings["training"]["seed"],
                    **{name: figures.get(name) for name in names},
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


def draw(trials: Iterable[FrozenTrial], metric: Metric) -> bytes | None:
    """SVG of the validation score over each searched setting; None without matplotlib, or without a finished trial.

    Equal trials give equal bytes.
    """
    done = [trial for trial in trials if trial.value is not None]
    if not done or find_spec("matplotlib") is None:
        return None
    import matplotlib
    import numpy as np
    from matplotlib import pyplot
    from optuna.visualization.matplotlib import plot_slice

    study, unit = optuna.create_study(direction=direction(metric)), f", {metric.unit}" if metric.unit else ""
    study.add_trials(done)
    buffer = io.BytesIO()
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": "sen-edge", "backend": "agg"}):
        warnings.simplefilter("ignore")  # plots of Optuna are marked as experimental
        figure = np.ravel(plot_slice(study, target_name=f"validation {metric.name}{unit}"))[0].figure
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    return buffer.getvalue()
