"""Runs the trials of a search on a cluster, and keeps each as soon as it is finished."""

from __future__ import annotations

import queue
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sen_edge.sweep.errors import SweepError
from sen_edge.sweep.search import Point, Search
from sen_edge.sweep.settings import Settings, trial_id
from sen_edge.sweep.store import Store
from sen_edge.sweep.trial import Trial, recorded, run_trial, versions

if TYPE_CHECKING:
    from distributed import Client, Future

#: Between looks at whether the cluster has grown, or is gone.
TICK_S = 1.0


@dataclass(frozen=True)
class State:
    """A sweep under way.

    Attributes:
        points: that are known, in the order of the search.
        records: of finished trials by `trial_id`; figures or an error each.
        n_points: there will be in all.
        fresh: the trial that has just finished here, or None.
    """

    points: tuple[Point, ...]
    records: Mapping[str, Mapping[str, Any]]
    n_points: int
    fresh: str | None = None


def run_sweep(
    search: Search,
    store: Store,
    client: Client,
    *,
    trial: Trial = run_trial,
    retry_failed: bool = False,
    report: Callable[[State], None] = lambda _: None,
) -> State:
    """Run all trials that the store does not have yet.

    A trial whose worker dies goes to another one, up to the number of times that the scheduler allows.

    Args:
        search: where points come from.
        store: where trials are kept.
        client: of the cluster.
        trial: what is run; importable on the workers.
        retry_failed: run trials again that are kept with an error.
        report: told at the start and after each trial.

    Raises:
        SweepError: the cluster is gone, or cannot run trials at all.
        OutputError: a trial cannot be written.
    """
    run = _Run(search, store, client, trial, retry_failed)
    run.add(search.first())
    run.advance()
    report(run.state(None))
    try:
        while run.backlog or run.futures:
            run.submit()
            try:
                future = run.finished.get(timeout=TICK_S)
            except queue.Empty:
                run.check_cluster()
                continue
            ident = run.keep(future)
            run.advance()
            report(run.state(ident))
    finally:
        for future in run.futures:
            future.release()  # the scheduler forgets it, and stops it where it has not begun
    return run.state(None)


@dataclass
class _Run:
    """What changes from trial to trial.

    Attributes:
        told: points whose result the search has been told.
        backlog: trials that no worker has been given yet.
        futures: those that one has, by the future.
        finished: futures as they are done.
        token: in the names of tasks, so that no other client's results are taken for ours.
    """

    search: Search
    store: Store
    client: Client
    trial: Trial
    retry_failed: bool
    points: list[Point] = field(default_factory=list)
    records: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    told: int = 0
    backlog: deque[Settings] = field(default_factory=deque)
    futures: dict[Future, Settings] = field(default_factory=dict)
    finished: queue.SimpleQueue[Future] = field(default_factory=queue.SimpleQueue)
    known: set[str] = field(default_factory=set)
    token: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    def state(self, fresh: str | None) -> State:
        return State(tuple(self.points), dict(self.records), self.search.n_points, fresh)

    def add(self, points: Iterable[Point]) -> None:
        """Take up new points; trials that are kept already are not run."""
        for point in points:
            self.points.append(point)
            for ident, settings in zip(point.trials, point.settings, strict=True):
                if ident in self.known:
                    continue
                self.known.add(ident)
                record = self.store.read(settings)
                if record is None or (self.retry_failed and record["error"] is not None):
                    self.backlog.append(settings)
                else:
                    self.records[ident] = record

    def advance(self) -> None:
        """Tell the search what is known, in the order of its points, and take up those that follow."""
        while self.told < len(self.points):
            point = self.points[self.told]
            if any(ident not in self.records for ident in point.trials):
                return
            self.told += 1
            self.add(self.search.following(point_accuracy(point, self.records)))

    def submit(self) -> None:
        """One trial for each thread of the cluster: of a worker that dies all trials that it was given are blamed."""
        free = max(1, self.n_threads()) - len(self.futures)
        for _ in range(min(free, len(self.backlog))):
            settings = self.backlog.popleft()
            future = self.client.submit(
                recorded, self.trial, settings, key=f"trial-{trial_id(settings)}-{self.token}", pure=False
            )
            self.futures[future] = settings
            future.add_done_callback(self.finished.put)

    def n_threads(self) -> int:
        """Of the whole cluster, as it is now."""
        try:
            return sum(self.client.nthreads().values())
        except OSError as error:
            raise _lost() from error

    def keep(self, future: Future) -> str:
        """Write down what a future gave; the name of the trial."""
        from distributed.scheduler import KilledWorker

        settings = self.futures.pop(future)
        ident = trial_id(settings)
        try:
            record: Mapping[str, Any] = future.result()
        except KilledWorker as error:
            deaths = error.allowed_failures + 1
            record = _killed(f"{deaths} workers died of it, one after the other: out of memory, or ended from outside")
        except Exception as error:  # `recorded` lets none of the trial's pass
            self.check_cluster()
            raise SweepError(
                f"the cluster could not run a trial: {type(error).__name__}: {error}", hint="finished trials are kept"
            ) from error
        self.store.write(settings, record)
        self.records[ident] = record
        return ident

    def check_cluster(self) -> None:
        if self.client.status not in ("running", "connecting"):
            raise _lost()


def figures_of(point: Point, records: Mapping[str, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Figures of the point's trials that are finished and did not fail."""
    found = [records[ident] for ident in point.trials if ident in records]
    return [record["figures"] for record in found if record["figures"] is not None]


def point_accuracy(point: Point, records: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Mean validation accuracy over all seeds in percent; None where a trial failed or is not finished."""
    figures = figures_of(point, records)
    if not point.trials or len(figures) < len(point.trials):
        return None
    return float(sum(each["validation_accuracy"] for each in figures) / len(figures))


def _lost() -> SweepError:
    return SweepError(
        "the connection to the scheduler is lost", hint="run the same command to go on; finished trials are kept"
    )


def _killed(error: str) -> dict[str, Any]:
    return {"figures": None, "error": error, "seconds": None, "pid": None, **versions()}
