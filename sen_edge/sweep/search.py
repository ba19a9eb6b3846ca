"""Points that a sweep tries: all of a grid, or those that a sampler of Optuna draws.

Points are a function of the sweep file: they depend neither on the number of workers nor on interruptions. Therefore
the sampler receives results in the order of its points, not of their arrival, and again when a sweep is resumed.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import TrialState

from sen_edge.data.datasets import Dataset
from sen_edge.sweep import SweepError
from sen_edge.sweep.file import Sweep, parameter
from sen_edge.sweep.record import Records
from sen_edge.sweep.settings import Settings, requests_of, settings_of, trial_id
from sen_edge.training.train import config_of
from sen_runtime.errors import SenError

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class Point:
    """Searched values, trained once for each seed.

    Attributes:
        number: from 0.
        values: of each axis, by its name.
        trials: settings by the names of the trials, one for each seed.
    """

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
    """Points of a sweep.

    Attributes:
        n_points: all of them.
        points: the known ones.
        distributions: of the searched values, by the names of the axes.
    """

    def __init__(self, sweep: Sweep, dataset: Dataset, where: str) -> None:
        """Check the points of a grid, or the corners of a sampled search.

        Raises:
            SweepError: values contradict each other, of a sampled search in both corners; the message starts with
                `where`.
        """
        self.points: list[Point] = []
        self.distributions = {axis.name: axis.distribution for axis in sweep.axes}
        self._sweep, self._dataset = sweep, dataset
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
            self._study = optuna.create_study(direction="maximize", sampler=sampler(seed=sweep.sampled.seed))
        errors = [text for values in self._grid if (text := self._contradiction(values))]
        if errors and (sweep.sampled is None or len(errors) == len(self._grid)):
            raise SweepError(f"{where}: {errors[0]}")

    def advance(self, records: Records) -> list[Point]:
        """Tell the sampler the results in the order of the points; the points that it draws then.

        Args:
            records: of finished trials, by their names.
        """
        n_known = len(self.points)
        while True:
            while len(self.points) < min(self.n_points, self._n_told + self._in_flight):
                self.points.append(self._draw(len(self.points)))
            if self._n_told == len(self.points) or not self.points[self._n_told].trials.keys() <= records.keys():
                return self.points[n_known:]
            if self._drawn:
                self._tell(self._drawn[self._n_told], self.points[self._n_told].figures(records))
            self._n_told += 1

    def _draw(self, number: int) -> Point:
        if self._sweep.sampled is None:
            values = self._grid[number]
        else:
            self._drawn.append(self._study.ask(self.distributions))
            values = {axis.name: axis.value(self._drawn[-1].params[axis.name]) for axis in self._sweep.axes}
        settings = [settings_of(self._sweep, values, seed, self._dataset) for seed in self._sweep.seeds]
        return Point(number, values, {trial_id(each): each for each in settings})

    def _tell(self, trial: optuna.Trial, figures: list[Mapping[str, Any]]) -> None:
        if len(figures) < len(self._sweep.seeds):
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.tell(trial, sum(each["validation_accuracy"] for each in figures) / len(figures))

    def _contradiction(self, values: Mapping[str, Any]) -> str:
        try:
            training, _ = requests_of(settings_of(self._sweep, values, self._sweep.seeds[0], self._dataset))
            config_of(training, self._dataset)
        except SenError as error:
            return f"{describe(values)}: {error.message}"
        return ""


def describe(values: Mapping[str, Any]) -> str:
    """Searched values for people."""
    return ", ".join(f"{name} = {show(value)}" for name, value in values.items())


def show(value: Any) -> str:
    """One value for people."""
    return f"{value:.7g}" if isinstance(value, float) else str(parameter(value))
