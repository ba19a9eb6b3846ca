"""`sen-edge sweep`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sen_edge.cli import console

if TYPE_CHECKING:
    from rich.table import Table

    from sen_edge.data.datasets import Dataset
    from sen_edge.sweep.file import Sweep
    from sen_edge.sweep.results import Ranked
    from sen_edge.sweep.runner import State

#: Rows of the ranking: while a sweep runs, and at its end.
LIVE_ROWS, FINAL_ROWS = 5, 10
GIBIBYTE = 1 << 30


def sweep(
    file: Annotated[Path, typer.Argument(help="What to try, TOML.", metavar="SWEEP.toml")],
    *,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of trials and results. Default: the file's name.", metavar="DIR"),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Dask scheduler, such as tcp://10.0.0.4:8786. Default: this machine.", metavar="ADDRESS"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes on this machine. Default: one per core.", min=1, metavar="N")
    ] = None,
    memory: Annotated[
        float | None,
        typer.Option(
            help="GiB that each of them may take before it is begun anew. Default: an equal share.", metavar="GIB"
        ),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run trials again that have failed before.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the ranking as JSON on stdout.")] = False,
) -> None:
    """Train with many settings, a grid or samples of them, on all cores or on a Dask cluster, and rank them.

    Every finished trial is kept at once. An interrupted sweep goes on when the same command is given again, and a
    changed file takes over the trials whose settings are the same.
    """
    from sen_edge.sweep.cluster import Where, connected
    from sen_edge.sweep.errors import check_extra
    from sen_edge.sweep.file import read_sweep
    from sen_edge.sweep.runner import run_sweep
    from sen_edge.sweep.search import search_of
    from sen_edge.sweep.store import opened

    check_extra()
    plan = read_sweep(file)
    where = Where(scheduler, workers, _bytes(memory))
    dataset = _load(plan)
    for warning in dataset.warnings():
        console.note(f"warning: {warning}")
    search = search_of(plan, dataset)
    folder = output or Path(file.stem)
    with console.interruptible(_interrupted), opened(folder) as store:
        with connected(where) as client, _progress(plan, search.n_points) as report:
            state = run_sweep(search, store, client, retry_failed=retry_failed, report=report)
        _finish(plan, state, folder, as_json=as_json)


def _bytes(memory_gib: float | None) -> int | None:
    from sen_edge.errors import UsageError

    if memory_gib is None:
        return None
    if not 0 < memory_gib < 2**20:
        raise UsageError(f"--memory is {memory_gib:g}; expected a number of GiB > 0")
    return int(memory_gib * GIBIBYTE)


def _load(plan: Sweep) -> Dataset:
    from sen_edge.data.datasets import load
    from sen_edge.errors import DataError
    from sen_edge.sweep.search import is_spikes

    try:
        return load(plan.data, plan.data_dir, spikes=is_spikes(plan))
    except DataError as error:
        raise DataError(f"{plan.path}: data: {error.message}", error.hint) from None


def _interrupted() -> list[str]:
    """What an interrupted sweep keeps, and how to resume it."""
    command = shlex.join(["sen-edge", *sys.argv[1:]])
    return ["interrupted; finished trials are kept", f"  -> go on with: {command}"]


@contextmanager
def _progress(plan: Sweep, n_points: int) -> Iterator[Callable[[State], None]]:
    """A bar above a live ranking on a terminal, a line per trial elsewhere; both on stderr."""
    terminal = console.console(stderr=True)
    n_trials = n_points * len(plan.seeds)
    if not terminal.is_terminal:
        yield lambda state: console.note(_line(plan, state))
        return
    from rich.console import Group
    from rich.live import Live
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(TextColumn("trials"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=terminal)
    task = bar.add_task("trials", total=n_trials)
    with Live(bar, console=terminal, refresh_per_second=4, transient=True) as live:

        def show(state: State) -> None:
            bar.update(task, completed=_n_done(state, len(plan.seeds)))
            live.update(Group(_table(plan, state, LIVE_ROWS), bar))

        yield show


def _n_done(state: State, n_seeds: int) -> int:
    """Trials that are over, whether they failed or not."""
    done = sum(ident in state.records for point in state.points for ident in point.trials)
    return done + n_seeds * sum(point.error is not None for point in state.points)


def _line(plan: Sweep, state: State) -> str:
    from sen_edge.sweep.results import ranking

    parts = [f"{_n_done(state, len(plan.seeds))}/{state.n_points * len(plan.seeds)} trials"]
    if state.fresh is not None:
        record = state.records[state.fresh]
        figures = record["figures"]
        parts.append(
            f"failed: {record['error']}" if figures is None else f"validation {figures['validation_accuracy']:.2f} %"
        )
        parts.append(f"{_named(plan, state, state.fresh)}")
    best = ranking(state)[:1]
    if best:
        parts.append(f"best {best[0].accuracy:.2f} %")
    return "  ".join(parts)


def _named(plan: Sweep, state: State, ident: str) -> str:
    """The values of a trial."""
    from sen_edge.sweep.search import described

    for point in state.points:
        if ident in point.trials:
            return f"{described(point.values)}, seed {plan.seeds[point.trials.index(ident)]}"
    return ident


def _table(plan: Sweep, state: State, most: int) -> Table:
    from sen_edge.sweep.results import ranking
    from sen_edge.sweep.search import shown

    ranked = ranking(state)
    names = [axis.name for axis in plan.axes]
    title = f"{plan.path.name}: the best {min(most, len(ranked))} of {len(ranked)} points by validation accuracy"
    headings = ("#", *_short(plan), "validation", "range", "test", "MACs", "seeds")
    return console.table(
        title,
        headings,
        [
            (
                str(place),
                *(shown(each.point.values[name]) for name in names),
                f"{each.accuracy:.2f} %",
                f"{each.low:.2f}-{each.high:.2f}",
                f"{each.test_accuracy:.2f} %",
                f"{each.figures['macs']:,}",
                f"{each.n_done}" + (f", {each.n_failed} failed" if each.n_failed else ""),
            )
            for place, each in enumerate(ranked[:most], start=1)
        ],
    )


def _short(plan: Sweep) -> list[str]:
    """Names of the searched settings, with their table only where two tables have the same."""
    keys = [axis.key for axis in plan.axes]
    return [axis.name if keys.count(axis.key) > 1 else axis.key for axis in plan.axes]


def _finish(plan: Sweep, state: State, folder: Path, *, as_json: bool) -> None:
    """Write the results, print the ranking, and say what failed."""
    from sen_edge.sweep.errors import SweepError
    from sen_edge.sweep.plots import can_draw, drawn
    from sen_edge.sweep.results import ranking, rows, write_results

    table = rows(state, plan.seeds)
    plot = drawn(table, [axis.name for axis in plan.axes]) if can_draw() else None
    paths = write_results(folder, table, plot)
    if not can_draw():
        console.note("matplotlib is not installed, so there is no results.svg")
    ranked = ranking(state)
    failed = [row for row in table if row["error"] is not None]
    if as_json:
        console.print_json(
            {
                "output": [str(path) for path in paths],
                "trials": len(table),
                "failed": len(failed),
                "ranking": [_plain(place, each) for place, each in enumerate(ranked, start=1)],
            }
        )
    else:
        console.console(stderr=True).print(_table(plan, state, FINAL_ROWS))
        console.print_lines(paths)
    if failed:
        console.note(f"{len(failed)} of {len(table)} trials failed, the first with: {failed[0]['error']}")
    if not ranked:
        raise SweepError("every trial failed", hint=f"the errors are in {paths[0]}; --retry-failed runs them again")


def _plain(place: int, each: Ranked) -> dict[str, Any]:
    """For JSON."""
    return {
        "rank": place,
        "point": each.point.number,
        "values": {
            name: list(value) if isinstance(value, tuple) else value for name, value in each.point.values.items()
        },
        "validation_accuracy": each.accuracy,
        "validation_range": [each.low, each.high],
        "test_accuracy": each.test_accuracy,
        "seeds_done": each.n_done,
        "seeds_failed": each.n_failed,
    }
