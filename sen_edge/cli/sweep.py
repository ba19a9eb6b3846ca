"""`sen-edge sweep`."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sen_edge.cli import console, options
from sen_edge.sweep.cluster import ClusterRequest

if TYPE_CHECKING:
    from sen_edge.data.datasets import Dataset
    from sen_edge.sweep.cluster import Records
    from sen_edge.sweep.file import Sweep
    from sen_edge.sweep.results import Ranked
    from sen_edge.sweep.search import Point
    from sen_runtime.task import Metric

#: Max rows of the printed ranking.
MAX_ROWS = 10


@options.command
def sweep(
    file: Annotated[Path, typer.Argument(help="Sweep file, TOML.", metavar="SWEEP.toml")],
    cluster: ClusterRequest,
    *,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of trials and results. Default: the file's name.", metavar="DIR"),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed trials again.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the ranking as JSON on stdout.")] = False,
) -> None:
    """Train networks with a grid or samples of settings, on all cores or a Dask cluster, and rank them.

    Finished trials are kept: repeat an interrupted command to continue. A changed file reuses trials with equal
    settings.
    """
    from sen_edge.sweep import SweepError, check_extra

    check_extra()
    from sen_edge.sweep.file import read_sweep
    from sen_edge.sweep.journal import open_journal
    from sen_edge.sweep.results import draw, rank, rows, write_results
    from sen_edge.sweep.search import Search, run_sweep
    from sen_edge.sweep.trial import run_trial

    plan = read_sweep(file)
    search = Search(plan, _load(file, plan), str(file))
    metric = search.metric
    folder, n_trials = output or Path(file.stem), search.n_points * len(plan.seeds)
    with console.interruptible(_interrupted), open_journal(folder, metric) as journal:
        with cluster.connect() as client, console.progress() as progress:

            def report(records: Records, last: tuple[str, Point] | None) -> None:
                ranking = rank(search.points, records, metric)
                best = [f"best {metric.text(each.validation_score)}" for each in ranking[:1]]
                parts = [f"{len(records)}/{n_trials} trials", *_describe(records, last, metric), *best]
                progress("  ".join(parts), len(records) / n_trials)

            records = run_sweep(search, journal, client, run_trial, retry_failed=retry_failed, report=report)
        table, ranking = rows(search.points, records, metric), rank(search.points, records, metric)
        paths = write_results(folder, table, draw((journal.trials[name] for name in records), metric))
    errors = [row["error"] for row in table if row["error"] is not None]
    if as_json:
        figures = {"output": list(map(str, paths)), "trials": n_trials, "failed": len(errors)}
        console.print_json({**figures, "metric": asdict(metric), "ranking": list(map(asdict, ranking))})
    else:
        _print_table(file.name, ranking, metric)
        console.print_lines(paths)
    if errors:
        console.warn(f"{len(errors)} of {n_trials} trials failed, the first with: {errors[0]}")
    if not ranking:
        raise SweepError("every trial failed", f"the errors are in {paths[0]}; --retry-failed runs them again")


def _load(file: Path, plan: Sweep) -> Dataset:
    from sen_edge.data.datasets import load
    from sen_edge.errors import DataError

    try:
        task, target = plan.training.get("task"), plan.training.get("target", ())
        dataset = load(plan.data, plan.data_dir, task=task, target=target, has_steps=plan.has_steps)
    except DataError as error:
        raise DataError(f"{file}: data: {error.message}", error.hint) from None
    for warning in dataset.warnings():
        console.warn(warning)
    return dataset


def _interrupted() -> list[str]:
    return ["interrupted; finished trials are kept", f"  -> resume: {shlex.join(['sen-edge', *sys.argv[1:]])}"]


def _describe(records: Records, last: tuple[str, Point] | None, metric: Metric) -> list[str]:
    """Describe result and values of the last trial."""
    from sen_edge.sweep.search import describe

    if last is None:
        return []
    name, point = last
    figures, seed = records[name]["figures"], point.trials[name]["training"]["seed"]
    error = f"failed: {records[name]['error']}"
    result = error if figures is None else f"validation {metric.text(figures[f'validation_{metric.key}'])}"
    return [result, f"{describe(point.values)}, seed {seed}"]


def _print_table(name: str, ranking: list[Ranked], metric: Metric) -> None:
    from sen_edge.sweep.search import show

    found = [
        (
            str(each.rank),
            *map(show, each.values.values()),
            metric.text(each.validation_score),
            " to ".join(metric.number(end) for end in each.validation_range),
            metric.text(each.test_score),
            f"{each.macs:,}",
            f"{each.seeds_done}" + f", {each.seeds_failed} failed" * (each.seeds_failed > 0),
        )
        for each in ranking[:MAX_ROWS]
    ]
    names = [*ranking[0].values] if ranking else []
    keys = [name.partition(".")[2] for name in names]
    shown = keys if len(set(keys)) == len(keys) else names
    title = f"{name}: the best {len(found)} of {len(ranking)} points by validation {metric.name}"
    headings = ("#", *shown, "validation", "range", "test", "MACs", "seeds")
    console.console(stderr=True).print(console.table(title, headings, found))
