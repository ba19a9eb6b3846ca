"""Runs the trials of a search on a cluster, and keeps each as soon as it is finished."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sen_edge.sweep import SweepError
from sen_edge.sweep.file import parameter
from sen_edge.sweep.journal import Journal
from sen_edge.sweep.search import Point, Search
from sen_edge.sweep.trial import Trial, make_failure, make_record, run_trial

if TYPE_CHECKING:
    from distributed import Client, Future

KEPT = "finished trials are kept; repeat the command to continue"
#: Receives the records of finished trials by name, and the trial that has just finished with its point.
Report = Callable[[Mapping[str, Mapping[str, Any]], tuple[str, Point] | None], None]


def run_sweep(
    search: Search,
    journal: Journal,
    client: Client,
    *,
    trial: Trial = run_trial,
    retry_failed: bool = False,
    report: Report = lambda *_: None,
) -> dict[str, Mapping[str, Any]]:
    """Run all trials that the journal does not have; the records of all by their names.

    A trial whose worker dies goes to another one, up to the number of times that the scheduler allows.

    Args:
        search: source of the points.
        journal: keeps the trials.
        client: of the cluster.
        trial: what is run; importable on the workers.
        retry_failed: run trials again that failed before.
        report: called at the start and after each trial.

    Raises:
        SweepError: the cluster is gone, or cannot run trials.
        OutputError: a trial cannot be written.
    """
    from distributed import wait

    run = _Run(search, journal, retry_failed)
    running: dict[Future, tuple[str, Point]] = {}
    token = uuid.uuid4().hex[:8]  # results of other clients have other keys
    run.advance()
    report(run.records, None)
    try:
        while run.queue or running:
            try:
                # One trial for each thread: all trials that a worker has are blamed for its death.
                for _ in range(min(max(1, sum(client.nthreads().values())) - len(running), len(run.queue))):
                    name, point = run.queue.popleft()
                    key = f"trial-{name}-{token}"
                    running[client.submit(make_record, trial, point.trials[name], key=key, pure=False)] = name, point
                with client.as_current():
                    done = wait(list(running), return_when="FIRST_COMPLETED").done
            except (OSError, CancelledError) as error:
                raise SweepError("connection to the scheduler lost", KEPT) from error
            for future in done:
                last = running.pop(future)
                run.keep(*last, _result(future))
                report(run.records, last)
    finally:
        for future in running:
            future.release()  # the scheduler drops it where it has not begun
    return run.records


@dataclass
class _Run:
    """Trials to run, and finished ones.

    Attributes:
        queue: names of trials that no worker has yet, with their points.
        records: of finished trials by their names.
        taken: names of all trials that were met.
    """

    search: Search
    journal: Journal
    retry_failed: bool
    queue: deque[tuple[str, Point]] = field(default_factory=deque)
    records: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)

    def advance(self) -> None:
        """Take up the next points; trials of the journal are not run."""
        while points := self.search.advance(self.records):
            met = {name: each for each in points for name in each.trials if name not in self.taken}
            self.taken |= set(met)
            for name, point in met.items():
                known = self.journal.trials.get(name)
                if known is None or (self.retry_failed and known.value is None):
                    self.queue.append((name, point))
                else:
                    self.records[name] = known.user_attrs

    def keep(self, name: str, point: Point, record: Mapping[str, Any]) -> None:
        """Keep a finished trial."""
        parameters = {axis: parameter(value) for axis, value in point.values.items()}
        self.records[name] = {"id": name, "settings": point.trials[name], **record}
        self.journal.add(self.records[name], parameters, self.search.distributions)
        self.advance()


def _result(future: Future) -> Mapping[str, Any]:
    """Record of a trial; a failure where its workers died.

    Raises:
        SweepError: the cluster could not run it.
    """
    from distributed.scheduler import KilledWorker

    try:
        record: Mapping[str, Any] = future.result()
    except KilledWorker as error:
        n_workers = error.allowed_failures + 1
        return make_failure(f"{n_workers} workers died, one after the other: out of memory, or ended from outside")
    except Exception as error:  # of the cluster: `make_record` catches those of a trial
        raise SweepError(f"the cluster could not run a trial: {type(error).__name__}: {error}", KEPT) from error
    return record
