"""One measurement on many hosts at once."""

from __future__ import annotations

import secrets
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from sen_edge.remote.host_run import Job, Note, Outcome, Visit, files_of, visit
from sen_edge.remote.hosts import Host
from sen_edge.remote.source import source

HOSTS_AT_ONCE = 16


def bench(hosts: Sequence[Host], job: Job, *, note: Note) -> list[Outcome]:
    """Measure on all hosts at once, and clean up there; one that fails does not disturb the others.

    Ctrl-C ends the measurements there; what they have until then is fetched.

    Args:
        hosts: where.
        job: what.
        note: takes progress, line by line.

    Raises:
        FileError: an artifact cannot be read.
        SourceError: the runtime has to be sent, and there is no source of it.
    """
    files = files_of(job)
    runtime = source() if any(not host.python for host in hosts) else None
    run_id = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"
    stop = threading.Event()
    with tempfile.TemporaryDirectory(prefix="sen-") as folder, ThreadPoolExecutor(HOSTS_AT_ONCE) as pool:
        visits = []
        for index, host in enumerate(hosts):
            private = Path(folder, str(index))
            private.mkdir(mode=0o700)
            visits.append(Visit(host, job, files, runtime, f"{run_id}-{index}", private, stop, note))
        futures: list[Future[Outcome]] = []
        try:
            for there in visits:
                futures.append(pool.submit(visit, there))  # noqa: PERF401 - Ctrl-C may come between two
            wait(futures)
        except KeyboardInterrupt:
            note("interrupted: stopping what was started")
        finally:
            stop.set()  # whatever happened, nothing is left running anywhere
        return [future.result() for future in futures]
