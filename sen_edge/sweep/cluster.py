"""Where trials run: a Dask cluster of processes on this machine, or one that is there already."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import sen_edge
from sen_edge.errors import UsageError
from sen_edge.sweep.errors import SweepError

if TYPE_CHECKING:
    from distributed import Client

#: Workers that may die of one trial before it counts as failed.
ALLOWED_DEATHS = 2
#: Until a scheduler must have answered.
TIMEOUT_S = 5.0
#: Until a first worker must be there.
WORKER_S = 30.0
#: Of Dask, on this machine. It has the allocator of its workers give back what is above 64 KiB at once, unless told not
#: to; a training step takes it again, and took 1.7 times as long.
SETTINGS = {
    "distributed.scheduler.allowed-failures": ALLOWED_DEATHS,
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
}
PROTOCOLS = ("tcp", "tls")
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Where:
    """What runs the trials.

    Attributes:
        scheduler: address of a Dask scheduler such as `tcp://10.0.0.4:8786`; None for this machine.
        workers: processes on this machine; None for one per core.
        memory_bytes: that each of them may take before it is ended and begun anew; None for an equal share.
    """

    scheduler: str | None = None
    workers: int | None = None
    memory_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.scheduler is None:
            return
        for option, value in (("--workers", self.workers), ("--memory", self.memory_bytes)):
            if value is not None:
                raise UsageError(f"{option} is for this machine", hint="start workers with `dask worker ADDRESS`")
        try:
            parts = urlsplit(self.scheduler)
            fits = parts.scheme in PROTOCOLS and bool(parts.hostname) and parts.port is not None
        except ValueError:  # no port number
            fits = False
        if not fits:
            raise UsageError(f"--scheduler is {self.scheduler!r}; expected an address such as tcp://10.0.0.4:8786")


@contextmanager
def connected(where: Where) -> Iterator[Client]:
    """A client of the cluster; one on this machine is ended with the block, whatever happens in it.

    Raises:
        SweepError: there is no scheduler at the address.
    """
    import dask
    from distributed import Client

    if where.scheduler is None:
        with (
            dask.config.set(SETTINGS),
            _local(where) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            try:
                yield client
            finally:
                _say_no_more()
        return
    try:
        asyncio.run(_shake_hands(where.scheduler))
        client = Client(where.scheduler, timeout=TIMEOUT_S, set_as_default=False)
    except Exception as error:  # what answers may be anything, and so may be what is raised for it
        raise SweepError(
            f"no Dask scheduler answers at {where.scheduler}: {type(error).__name__}: {error}",
            hint="start one with `dask scheduler`, or leave --scheduler out",
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=WORKER_S)
        except (TimeoutError, asyncio.TimeoutError):  # two things before Python 3.11
            raise SweepError(
                f"the scheduler at {where.scheduler} has no worker",
                hint=f"start one: dask worker {where.scheduler} --nthreads 1",
            ) from None
        check_workers(client)
        yield client


async def _shake_hands(address: str) -> None:
    """Fail before there is a client, which would go on for a while after it failed."""
    from distributed.comm import connect

    comm = await connect(address, timeout=TIMEOUT_S)
    await comm.close()


def check_workers(client: Client, module: str = "sen_edge.sweep.trial") -> None:
    """Whether the workers that are there have what trials need: a task that one cannot read would break it.

    Raises:
        SweepError: a worker cannot import `module`, or has another version of sen-edge.
    """

    def version() -> str:  # not known by a name elsewhere, so it is sent as a whole
        import importlib

        importlib.import_module(module)
        return str(importlib.import_module("sen_edge").__version__)

    hint = "install the same sen-edge on all workers as here"
    for address, found in client.run(version, on_error="return").items():
        if isinstance(found, BaseException):
            reason = f"{type(found).__name__}: {found}"
            raise SweepError(f"worker {address} cannot run trials: {reason}", hint)
        if found != sen_edge.__version__:
            raise SweepError(f"worker {address} has sen-edge {found}; here it is {sen_edge.__version__}", hint)


def _say_no_more() -> None:
    """A process that has torch takes seconds to end, and is killed after four: nothing is lost, so nothing is said."""
    logging.getLogger("distributed.nanny").setLevel(logging.ERROR)


def _local(where: Where) -> Any:
    from distributed import LocalCluster

    n_workers = where.workers or len(os.sched_getaffinity(0))
    return LocalCluster(
        n_workers=n_workers,
        threads_per_worker=1,
        processes=True,
        memory_limit=where.memory_bytes or "auto",
        host=LOOPBACK,
        preload=["sen_edge.sweep.worker"],
        dashboard_address=None,
        # Without a dashboard the scheduler has a page of metrics all the same, and one port for it on all machines.
        scheduler_kwargs={"dashboard_address": f"{LOOPBACK}:0"},
    )
