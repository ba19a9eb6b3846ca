"""Which points a sweep tries: all of a grid, or those that Optuna's samplers ask for.

The points are a function of the sweep file: not of how many workers there are, which of them is faster, or whether the
sweep was interrupted. A sampler is therefore told results in the order of its points, never in that of arrival, and is
asked for one new point after each. After an interruption it is told the kept results again, and asks the same.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from sen_edge.data.datasets import Dataset
from sen_edge.sweep.errors import SweepError
from sen_edge.sweep.file import Axis, Sampling, Sweep
from sen_edge.sweep.settings import Settings, place_of, settings_of, trial_id
from sen_runtime.errors import SenError


@dataclass(frozen=True)
class Point:
    """Searched values, trained once for each seed.

    Attributes:
        number: from 0, in the order of the search.
        values: of each axis, by its name.
        settings: one for each seed; empty where the values contradict each other.
        error: how they do, or None.
    """

    number: int
    values: Mapping[str, Any]
    settings: tuple[Settings, ...]
    error: str | None = None

    @cached_property
    def trials(self) -> tuple[str, ...]:
        """Names of its trials, one for each seed."""
        return tuple(map(trial_id, self.settings))


class Search(Protocol):
    """Where points come from."""

    #: All points there will be.
    n_points: int

    def first(self) -> list[Point]:
        """Those that need no result."""

    def following(self, accuracy: float | None) -> list[Point]:
        """Those after the next result in the order of the points: its validation accuracy in percent, None if none."""


#: Number and values by axis -> a point.
Make = Callable[[int, Mapping[Axis, Any]], Point]


def search_of(sweep: Sweep, dataset: Dataset) -> Search:
    """The search that a sweep file asks for, its values checked.

    Raises:
        SweepError: values that no trial can have; of ranges only both ends are looked at.
    """
    _check(sweep, dataset)

    def make(number: int, values: Mapping[Axis, Any]) -> Point:
        names = {axis.name: value for axis, value in values.items()}
        try:
            settings = tuple(_settings(sweep, dataset, values, seed) for seed in sweep.seeds)
        except SenError as error:
            return Point(number, names, (), error.message)
        return Point(number, names, settings)

    if sweep.sampling is None:
        return Grid(sweep, make)
    return Sampled(sweep.axes, sweep.sampling, make)


class Grid:
    """All combinations; the last axis changes fastest."""

    def __init__(self, sweep: Sweep, make: Make) -> None:
        combinations = itertools.product(*(axis.values for axis in sweep.axes))
        self.points = [
            make(number, dict(zip(sweep.axes, values, strict=True))) for number, values in enumerate(combinations)
        ]
        self.n_points = len(self.points)
        for point in self.points:
            if point.error is not None:
                raise SweepError(f"{sweep.path}: [grid]: {described(point.values)}: {point.error}")

    def first(self) -> list[Point]:
        """All points."""
        return self.points

    def following(self, accuracy: float | None) -> list[Point]:
        """None."""
        del accuracy
        return []


@dataclass
class Sampled:
    """What Optuna asks for; see the head of this file.

    Attributes:
        axes: what is searched.
        sampling: how.
        make: a point of values.
        waiting: Optuna's trials that were asked for and not told, in order.
        asked: how many were asked for.
    """

    axes: tuple[Axis, ...]
    sampling: Sampling
    make: Make
    waiting: deque[Any] = field(default_factory=deque)
    asked: int = 0

    def __post_init__(self) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        samplers = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
        self.study = optuna.create_study(
            direction="maximize", sampler=samplers[self.sampling.sampler](seed=self.sampling.seed)
        )
        self.distributions = {axis.name: _distribution(axis) for axis in self.axes}
        self.n_points = self.sampling.trials

    def first(self) -> list[Point]:
        """As many as may be in flight."""
        return [self._ask() for _ in range(min(self.sampling.in_flight, self.n_points))]

    def following(self, accuracy: float | None) -> list[Point]:
        """One for each that is told, up to their number."""
        from optuna.trial import TrialState

        trial = self.waiting.popleft()
        if accuracy is None:
            self.study.tell(trial, state=TrialState.FAIL)
        else:
            self.study.tell(trial, accuracy)
        return [self._ask()] if self.asked < self.n_points else []

    def _ask(self) -> Point:
        trial = self.study.ask(self.distributions)
        self.waiting.append(trial)
        self.asked += 1
        values = {
            axis: axis.values[trial.params[axis.name]] if axis.values else trial.params[axis.name] for axis in self.axes
        }
        return self.make(self.asked - 1, values)


def described(values: Mapping[str, Any]) -> str:
    """Searched values for people."""
    return ", ".join(f"{name} = {shown(value)}" for name, value in values.items())


def shown(value: Any) -> str:
    """One value for people."""
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(str, value)) + "]"
    return f"{value:.7g}" if isinstance(value, float) else str(value)


def _distribution(axis: Axis) -> Any:
    from optuna import distributions

    if axis.values:  # by number, for a choice may be a list
        return distributions.CategoricalDistribution(range(len(axis.values)))
    if axis.is_integer:
        step = 1 if axis.step is None else int(axis.step)
        return distributions.IntDistribution(int(axis.low), int(axis.high), log=axis.log, step=step)
    return distributions.FloatDistribution(axis.low, axis.high, log=axis.log, step=axis.step)


def _settings(sweep: Sweep, dataset: Dataset, values: Mapping[Axis, Any], seed: int) -> Settings:
    tables = {"training": dict(sweep.training), "compression": dict(sweep.compression)}
    for axis, value in values.items():
        tables[axis.table][axis.key] = value
    place = place_of(sweep.data, sweep.data_dir, spikes=is_spikes(sweep))
    return settings_of(tables["training"], tables["compression"], seed, dataset, place)


def is_spikes(sweep: Sweep) -> bool:
    """Whether inputs are spike trains."""
    return bool(sweep.training.get("input_coding") == "spikes")


def _check(sweep: Sweep, dataset: Dataset) -> None:
    """Each value of [training] and of the search alone, so that the one that is wrong can be named."""
    place = place_of(sweep.data, sweep.data_dir, spikes=is_spikes(sweep))

    def check(where: str, key: str, value: Any) -> None:
        kind = {name: sweep.training[name] for name in ("arch", "weights") if name in sweep.training}
        try:
            settings_of({**kind, key: value}, {}, 0, dataset, place)
        except SenError as error:
            raise SweepError(f"{sweep.path}: {where}: {key} = {shown(value)}: {error.message}", error.hint) from None

    for key, value in sweep.training.items():
        check("[training]", key, value)
    table = "grid" if sweep.sampling is None else "sampled"
    for axis in sweep.axes:
        if axis.table == "training" and not any(each.key in ("arch", "weights") for each in sweep.axes):
            for value in axis.values or (axis.low, axis.high):
                check(f"[{table}.training]", axis.key, value)
