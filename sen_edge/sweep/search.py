"""Points that a sweep tries, all of a grid or those that a sampler of Optuna draws, and the run of their trials.

Points are a function of the sweep file: they depend neither on the number of workers nor on interruptions. Therefore
the sampler receives results in the order of its points, not of their arrival, and again when a sweep is resumed.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import optuna
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import TrialState

from sen_edge.data.datasets import Dataset
from sen_edge.sweep import SweepError
from sen_edge.sweep.cluster import Record, Records, Trial, run_trials
from sen_edge.sweep.file import Settings, Sweep, parameter, requests_of, settings_of, trial_id
from sen_edge.sweep.journal import Journal, direction
from sen_edge.training.train import config_of
from sen_runtime import task
from sen_runtime.errors import SenError

if TYPE_CHECKING:
    from distributed import Client

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class Point:
    """Searched values by the names of the axes, and settings by the names of the trials, one for each seed."""

    number: int
    values: Mapping[str, Any]
    trials: Mapping[str, Settings]

    @property
    def parameters(self) -> dict[str, Any]:
        """Values as parameters of Optuna and tables have them."""
        return {name: parameter(value) for name, value in self.values.items()}

    def figures(self, records: Records) -> list[Mapping[str, Any]]:
        """Figures of the trials that are finished and did not fail."""
        found = [records[trial] for trial in self.trials if trial in records]
        return [record["figures"] for record in found if record["figures"] is not None]


class Search:
    """Points of a sweep: `points` are the known ones, `n_points` the number of all, `metric` decides.

    Raises:
        SweepError: values of a grid contradict each other, or in both corners of a sampled search; the message starts
            with `where`.
    """

    def __init__(self, sweep: Sweep, dataset: Dataset, where: str) -> None:
        self.points: list[Point] = []
        self.distributions = {axis.name: axis.distribution for axis in sweep.axes}
        self._sweep, self._dataset, self.metric = sweep, dataset, task.of(dataset.task).metric
        self._drawn: list[optuna.Trial] = []
        self._n_told = 0
        if sweep.sampled is None:
            combinations = itertools.product(*(axis.values for axis in sweep.axes))
            self._grid = [dict(zip(self.distributions, values, strict=True)) for values in combinations]
            self.n_points = self._in_flight = len(self._grid)
        else:
            self._grid = [{axis.name: axis.values[end] for axis in sweep.axes} for end in (0, -1)]
            self.n_points, self._in_flight = sweep.sampled.trials, sweep.sampled.in_flight
            sampler = {"tpe": TPESampler, "random": RandomSampler}[sweep.sampled.sampler]
            self._study = optuna.create_study(
                direction=direction(self.metric), sampler=sampler(seed=sweep.sampled.seed)
            )
        errors = [text for values in self._grid if (text := self._contradiction(values))]
        if errors and (sweep.sampled is None or len(errors) == len(self._grid)):
            raise SweepError(f"{where}: {errors[0]}")

    def advance(self, records: Records) -> list[Point]:
        """Tell the sampler the results in the order of the points; the points that it draws then."""
        n_known = len(self.points)
        while True:
            while len(self.points) < min(self.n_points, self._n_told + self._in_flight):
                self.points.append(self._draw(len(self.points)))
            if self._n_told == len(self.points) or not self.points[self._n_told].trials.keys() <= records.keys():
                return self.points[n_known:]
            if self._drawn:
                figures = self.points[self._n_told].figures(records)
                scores = [each[f"validation_{self.metric.key}"] for each in figures]
                value = None if len(scores) < len(self._sweep.seeds) else sum(scores) / len(scores)
                self._study.tell(self._drawn[self._n_told], value, TrialState.FAIL if value is None else None)
            self._n_told += 1

    def _draw(self, number: int) -> Point:
        if self._sweep.sampled is None:
            values = self._grid[number]
        else:
            self._drawn.append(self._study.ask(self.distributions))
            values = {axis.name: axis.value(self._drawn[-1].params[axis.name]) for axis in self._sweep.axes}
        settings = [settings_of(self._sweep, values, seed, self._dataset) for seed in self._sweep.seeds]
        return Point(number, values, {trial_id(each): each for each in settings})

    def _contradiction(self, values: Mapping[str, Any]) -> str:
        try:
            training, _ = requests_of(settings_of(self._sweep, values, self._sweep.seeds[0], self._dataset))
            config_of(training, self._dataset)
        except SenError as error:
            return f"{describe(values)}: {error.message}"
        return ""


#: Receives the records of finished trials, and the trial that has just finished with its point.
Report = Callable[[Records, tuple[str, Point] | None], None]


def run_sweep(
    search: Search,
    journal: Journal,
    client: Client,
    trial: Trial,
    *,
    retry_failed: bool = False,
    report: Report = lambda *_: None,
) -> Records:
    """Run all trials that the journal does not have; return the records of all.

    A trial whose worker dies goes to another one, up to the number of times that the scheduler allows. Workers import
    `trial`, such as `sen_edge.sweep.trial.run_trial`. `report` is called at the start and after each trial.

    Raises:
        SweepError: the cluster is gone, or cannot run trials.
        OutputError: a trial cannot be written.
    """
    known, records = journal.records(without_failed=retry_failed), dict[str, Record]()
    queue, points = deque[tuple[str, Settings]](), dict[str, Point]()

    def advance() -> None:
        """Queue the trials of the next points that are not in the journal."""
        while found := search.advance(records):
            for name, point in [(name, each) for each in found for name in each.trials]:
                if name in known:
                    records[name] = known[name]
                elif name not in points:
                    points[name] = point
                    queue.append((name, point.trials[name]))

    advance()
    report(records, None)
    with closing(run_trials(client, trial, queue)) as finished:
        for name, record in finished:
            point = points[name]
            records[name] = {"id": name, "settings": point.trials[name], **record}
            journal.add(records[name], point.parameters, search.distributions)
            advance()
            report(records, (name, point))
    return records


def describe(values: Mapping[str, Any]) -> str:
    """Searched values for people."""
    return ", ".join(f"{name} = {show(value)}" for name, value in values.items())


def show(value: Any) -> str:
    """One value for people."""
    return f"{value:.7g}" if isinstance(value, float) else str(parameter(value))
