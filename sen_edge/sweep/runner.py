"""Runs the trials of a search on a cluster, and keeps each as soon as it is finished."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING

from sen_edge.sweep import SweepError
from sen_edge.sweep.journal import Journal
from sen_edge.sweep.record import Record, Records, Trial, make_failure, make_record
from sen_edge.sweep.search import Point, Search

if TYPE_CHECKING:
    from distributed import Client, Future

KEPT = "finished trials are kept; repeat the command to continue"
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

    A trial whose worker dies goes to another one, up to the number of times that the scheduler allows.

    Args:
        search: source of the points.
        journal: keeps the trials.
        client: of the cluster.
        trial: importable on the workers, such as `sen_edge.sweep.trial.run_trial`.
        retry_failed: run trials again that failed before.
        report: called at the start and after each trial.

    Raises:
        SweepError: the cluster is gone, or cannot run trials.
        OutputError: a trial cannot be written.
    """
    from distributed import wait

    records: dict[str, Record] = {}
    queue: deque[tuple[str, Point]] = deque()
    queued: set[str] = set()
    running: dict[Future, tuple[str, Point]] = {}
    token = uuid.uuid4().hex[:8]  # results of other clients have other keys

    def advance() -> None:
        """Queue the trials of the next points that are not in the journal."""
        while points := search.advance(records):
            for name, point in [(name, each) for each in points for name in each.trials]:
                known = journal.trials.get(name)
                if known is not None and not (retry_failed and known.value is None):
                    records[name] = known.user_attrs
                elif name not in queued:
                    queued.add(name)
                    queue.append((name, point))

    def submit() -> None:
        """Submit one trial for each thread: all trials that a worker has are blamed for its death."""
        n_free = max(1, sum(client.nthreads().values())) - len(running)
        for _ in range(min(n_free, len(queue))):
            name, point = queue.popleft()
            key = f"trial-{name}-{token}"
            running[client.submit(make_record, trial, point.trials[name], key=key, pure=False)] = name, point

    advance()
    report(records, None)
    try:
        while queue or running:
            try:
                submit()
                with client.as_current():
                    done = wait(list(running), return_when="FIRST_COMPLETED").done
            except (OSError, CancelledError) as error:
                raise SweepError("connection to the scheduler lost", KEPT) from error
            for future in done:
                name, point = running.pop(future)
                records[name] = {"id": name, "settings": point.trials[name], **_result(future)}
                journal.add(records[name], point.parameters, search.distributions)
                advance()
                report(records, (name, point))
    finally:
        for future in running:
            future.release()  # the scheduler drops it where it has not begun
    return records


def _result(future: Future) -> Record:
    """Record of a trial; a failure where its workers died.

    Raises:
        SweepError: the cluster could not run it.
    """
    from distributed.scheduler import KilledWorker

    try:
        record: Record = future.result()
    except KilledWorker as error:
        n_workers = error.allowed_failures + 1
        return make_failure(f"{n_workers} workers died, one after the other: out of memory, or ended from outside")
    except Exception as error:  # of the cluster: `make_record` catches those of a trial
        raise SweepError(f"the cluster could not run a trial: {type(error).__name__}: {error}", KEPT) from error
    return record
