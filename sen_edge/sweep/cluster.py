"""The Dask cluster that runs trials: processes on this machine, or the workers of a scheduler.

Workers import this module first, so it does not import torch.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import time
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Gt, Lt

import sen_edge
from sen_edge.schema import Check, Count, Option, Schema, SchemaError
from sen_edge.sweep import SweepError
from sen_runtime.errors import SenError

if TYPE_CHECKING:
    from distributed import Client, Future

#: Workers that may die of one trial before it counts as failed.
ALLOWED_DEATHS = 2
#: Seconds until a scheduler must have answered, and until it must have a worker.
TIMEOUT_S, WORKER_S = 5.0, 30.0
SETTINGS = {
    "distributed.scheduler.allowed-failures": ALLOWED_DEATHS,
    # By default the allocator returns memory at once, which makes a training step take 1.7 times as long.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
}
LOOPBACK = "127.0.0.1"
KEPT = "finished trials are kept; repeat the command to continue"
#: Settings -> figures.
Trial = Callable[[Mapping[str, Any]], dict[str, Any]]
Record = Mapping[str, Any]
#: By the names of the trials.
Records = Mapping[str, Record]


def _is_address(text: str) -> bool:
    return re.fullmatch(r"(tcp|tls)://[^/?#]+:\d+", text) is not None


@dataclass(frozen=True)
class ClusterRequest(Schema):
    """Where trials run."""

    scheduler: Annotated[
        Annotated[str, Check(_is_address, "an address such as tcp://10.0.0.4:8786")] | None,
        Option("Dask scheduler, such as tcp://10.0.0.4:8786. Default: local processes.", metavar="ADDRESS"),
    ] = None
    workers: Annotated[Count | None, Option("Local processes. Default: one per core.", metavar="N")] = None
    memory: Annotated[
        Annotated[float, Gt(0), Lt(2**20)] | None,
        Option("Memory limit per process in GiB; it is restarted above. Default: an equal share.", metavar="GIB"),
    ] = None

    def check(self) -> None:
        """Refuse options of local processes for a scheduler."""
        for name in ("workers", "memory"):
            if self.scheduler is not None and getattr(self, name) is not None:
                raise SchemaError(
                    "has no effect with --scheduler", "start workers with `dask worker ADDRESS`", key=name
                )

    def connect(self) -> AbstractContextManager[Client]:
        """A client of the cluster."""
        return start_workers(self.workers, self.memory) if self.scheduler is None else connect(self.scheduler)


@contextmanager
def start_workers(workers: int | None = None, memory_gib: float | None = None) -> Iterator[Client]:
    """A client of a new cluster on this machine, which ends with the block; see `ClusterRequest`."""
    import dask
    from distributed import Client, LocalCluster

    with (
        dask.config.set(SETTINGS),
        LocalCluster(
            n_workers=workers or len(os.sched_getaffinity(0)),
            threads_per_worker=1,
            processes=True,
            memory_limit="auto" if memory_gib is None else int(memory_gib * 2**30),
            host=LOOPBACK,
            preload=["sen_edge.sweep.cluster"],
            dashboard_address=None,
            # Without a dashboard the scheduler serves metrics all the same, by default at one fixed port.
            scheduler_kwargs={"dashboard_address": f"{LOOPBACK}:0"},
        ) as local,
        Client(local, set_as_default=False) as client,
    ):
        try:
            yield client
        finally:  # a process that has torch takes seconds to end, and is killed after four; nothing is lost
            logging.getLogger("distributed.nanny").setLevel(logging.ERROR)


def dask_setup(worker: Any) -> None:
    """Set up a worker process of `start_workers`; the hook that Dask calls."""
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches workers too, which their parent ends
    heartbeats = "scheduler during heartbeat"  # one may find the scheduler closed already
    logging.getLogger("distributed.worker").addFilter(lambda record: heartbeats not in record.getMessage())


@contextmanager
def connect(address: str) -> Iterator[Client]:
    """A client of the scheduler at an address.

    Raises:
        SweepError: no scheduler answers there, or its workers cannot run trials.
    """
    from distributed import Client

    try:
        asyncio.run(_shake_hands(address))
        client = Client(address, timeout=TIMEOUT_S, set_as_default=False)
    except Exception as error:  # anything may answer there
        raise SweepError(
            f"no Dask scheduler answers at {address}: {type(error).__name__}: {error}",
            "start one with `dask scheduler`, or leave --scheduler out",
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=WORKER_S)
        except (TimeoutError, asyncio.TimeoutError):  # two classes before Python 3.11
            hint = f"start one: dask worker {address} --nthreads 1"
            raise SweepError(f"the scheduler at {address} has no worker", hint) from None
        check_workers(client)
        yield client


async def _shake_hands(address: str) -> None:
    """Fail before there is a client, which retries in the background after it failed."""
    from distributed.comm import connect

    comm = await connect(address, timeout=TIMEOUT_S)
    await comm.close()


def check_workers(client: Client, module: str = "sen_edge.sweep.trial") -> None:
    """Check the workers: a task that one cannot import would break it.

    Raises:
        SweepError: a worker cannot import `module`, or has another version of sen-edge.
    """

    def installed() -> str:  # a local function is sent whole
        import importlib

        importlib.import_module(module)
        return str(importlib.import_module("sen_edge").__version__)

    for address, found in client.run(installed, on_error="return").items():
        if found != sen_edge.__version__:
            what = f"{type(found).__name__}: {found}" if isinstance(found, BaseException) else f"sen-edge {found}"
            raise SweepError(
                f"worker {address} cannot run trials: {what}; expected sen-edge {sen_edge.__version__}",
                "install the same sen-edge on all workers as here",
            )


def run_trials(
    client: Client, trial: Trial, queue: deque[tuple[str, Mapping[str, Any]]]
) -> Generator[tuple[str, Record], None, None]:
    """Run the trials in a queue, names and settings, which may grow meanwhile; yield name and record as each ends.

    One trial is submitted for each thread: all trials that a worker has are blamed for its death.

    Raises:
        SweepError: the cluster is gone, or cannot run trials.
    """
    from distributed import wait

    running: dict[Future, str] = {}
    token = uuid.uuid4().hex[:8]  # results of other clients have other keys
    try:
        while queue or running:
            try:
                n_free = max(1, sum(client.nthreads().values())) - len(running)
                for _ in range(min(n_free, len(queue))):
                    name, settings = queue.popleft()
                    key = f"trial-{name}-{token}"
                    running[client.submit(make_record, trial, settings, key=key, pure=False)] = name
                with client.as_current():
                    done = wait(list(running), return_when="FIRST_COMPLETED").done
            except (OSError, CancelledError) as error:
                raise SweepError("connection to the scheduler lost", KEPT) from error
            for future in done:
                yield running.pop(future), _result(future)
    finally:
        for future in running:
            future.release()  # the scheduler drops it where it has not begun


def _result(future: Future) -> Record:
    """Record of a trial; a failure where its workers died."""
    from distributed.scheduler import KilledWorker

    try:
        return dict(future.result())
    except KilledWorker as error:
        n_workers = error.allowed_failures + 1
        return make_failure(f"{n_workers} workers died, one after the other: out of memory, or ended from outside")
    except Exception as error:  # of the cluster: `make_record` catches those of a trial
        raise SweepError(f"the cluster could not run a trial: {type(error).__name__}: {error}", KEPT) from error


def make_record(trial: Trial, settings: Mapping[str, Any]) -> Record:
    """Run a trial: its figures or its error, seconds, process and versions."""
    start = time.monotonic()
    try:
        figures, error = trial(settings), None
    except SenError as reason:
        figures, error = None, reason.message
    except Exception as reason:  # the other trials go on
        figures, error = None, f"{type(reason).__name__}: {reason}"
    return {**make_failure(error), "figures": figures, "seconds": time.monotonic() - start, "pid": os.getpid()}


def make_failure(error: str | None) -> Record:
    """Record of a trial that ended with its process."""
    versions = {"sen_edge": sen_edge.__version__, "torch": version("torch")}
    return {"figures": None, "error": error, "seconds": None, "pid": None, **versions}
