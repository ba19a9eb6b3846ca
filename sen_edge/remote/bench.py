"""One measurement on several hosts at once."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sen_edge.remote.agent import GRACE_S
from sen_edge.remote.hosts import Host
from sen_edge.remote.source import Source, pack
from sen_edge.remote.ssh import INTERRUPTED, Call, StageError
from sen_runtime.bench import record
from sen_runtime.bench.cores import words
from sen_runtime.bench.plan import BenchRequest
from sen_runtime.engines import usable
from sen_runtime.errors import EXIT_FAILED, EXIT_INTERRUPTED, SenError
from sen_runtime.untrusted import read_regular

HOSTS_AT_ONCE = 16


@dataclass(frozen=True)
class Job:
    """Files to measure, and settings; the core of the request goes before those of the inventory."""

    request: BenchRequest  # artifacts, engines, data and core
    options: tuple[str, ...]  # all others of `sen-runtime bench`
    config: Path | None  # ssh configuration instead of the user's
    timeout_s: float  # for everything on one host
    keep: bool  # the working folder stays there
    may_install: bool  # an environment may be created there

    def names(self) -> dict[Path, str]:
        """Artifacts and inputs, with their names in the working folder: each in a folder, for names may be equal."""
        names = {path: f"{index}/{path.name}" for index, path in enumerate(dict.fromkeys(self.request.artifacts))}
        data = self.request.data
        return names if data is None else {**names, data: f"data/{data.name}"}


@dataclass(frozen=True)
class Outcome:
    """Result of one host: a record, or the reason why there is none; `code` is the exit status there."""

    name: str
    record: dict[str, Any] | None = None
    code: int = 0
    error: StageError | None = None


class HostsError(SenError):
    """Some hosts failed; the message has the stage, the reason and the last lines of standard error of each."""

    def __init__(self, failed: Sequence[Outcome], *, n_hosts: int) -> None:
        lines = [f"{len(failed)} of {n_hosts} {'host' if n_hosts == 1 else 'hosts'} failed"]
        for name, error in [(each.name, each.error) for each in failed if each.error is not None]:
            lines.append(f"  - {name}, {error.stage}: {error.message}")
            lines += [f"      | {line}" for line in error.lines]
            lines += [f"      -> {error.hint}"] if error.hint else []
        super().__init__("\n".join(lines))


def bench(hosts: Mapping[str, Host], job: Job, *, note: Callable[[str], None]) -> list[Outcome]:
    """Measure on all hosts, by name, at once, and clean up there; a failure of one does not affect the others.

    Ctrl-C ends the measurements, and fetches their results so far. `note` receives progress, line by line.

    Raises:
        FileError: an artifact cannot be read.
        SourceError: a host needs the runtime, and its source is not here.
    """
    files = {name: read_regular(path) for path, name in job.names().items()}
    source = pack() if any(not host.python for host in hosts.values()) else None
    run_id = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"
    stop = threading.Event()
    with ThreadPoolExecutor(HOSTS_AT_ONCE) as pool:
        futures: list[Future[Outcome]] = []
        try:
            for index, (name, host) in enumerate(hosts.items()):
                content, details = _details(host, job, files, source)
                call = Call(
                    address=host.address,
                    python=host.python or "python3",
                    job={**details, "run": f"{run_id}-{index}"},
                    content=content,
                    config=job.config,
                    timeout_s=job.timeout_s,
                    stop=stop,
                    note=lambda line, name=name: note(f"{name}: {line}"),  # type: ignore[misc]
                )
                futures.append(pool.submit(_run, name, call))
            wait(futures)
        except KeyboardInterrupt:
            note("interrupted; stopping the measurements")
        finally:
            stop.set()
        return [future.result() for future in futures]


def _details(
    host: Host, job: Job, files: Mapping[str, bytes], source: Source | None
) -> tuple[list[bytes], dict[str, Any]]:
    """Content of the files for a host, and the job of `agent`."""
    runtime, request, names = None, job.request, job.names()
    if source is not None and not host.python:
        archive = f"runtime/{source.file_name}"
        files = {**files, archive: source.data}
        keys = request.engines or tuple(path.suffix for path in request.artifacts)
        runtime = {
            "environment": source.environment,
            "archive": archive,
            "may_install": job.may_install,
            "choices": [choices for key in keys if (choices := extras_of(key))],
        }
    cpus = host.cpus if request.cpus is None else request.cpus
    options = [*job.options, *(f"--engine={name}" for name in request.engines), "--json=-"]
    options += [] if cpus is None else [f"--cpu={words(cpus)}"]
    options += [] if request.data is None else [f"--data={names[request.data]}"]
    return [*files.values()], {
        "python": host.python,
        "runtime": runtime,
        "files": [(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()],
        "arguments": ["-m", "sen_runtime", "bench", *options, *(names[path] for path in request.artifacts)],
        "limit_s": job.timeout_s + GRACE_S,
        "keep": job.keep,
    }


def _run(name: str, call: Call) -> Outcome:
    """Measure on one host; a failure is part of the outcome."""
    try:
        if call.stop.is_set():
            raise StageError(INTERRUPTED, stage="connect")
        code = call.run()
        try:
            return Outcome(name, record.loads(bytes(call.record)), code)
        except SenError as error:
            raise StageError(f"invalid record: {error.message}", stage="fetch", lines=call.lines) from error
    except StageError as error:
        failure = error
    except Exception as error:  # the other hosts go on
        failure = StageError(f"unexpected error: {type(error).__name__}: {error}", stage="connect")
    call.note(f"{failure.stage} failed: {failure.message}")
    code = EXIT_INTERRUPTED if failure.message == INTERRUPTED else EXIT_FAILED
    return Outcome(name, code=code, error=failure)


def extras_of(key: str) -> list[tuple[str, Sequence[str], Sequence[int]]]:
    """Extras of the runtime for an engine or a suffix, the first that the host has wheels for; see `agent`.

    Empty where numpy is enough.
    """
    engines = [each for name, each in usable().items() if each.extra and key in (name, *each.suffixes)]
    choices = [(each.extra, each.machines, each.min_python) for each in engines[:-1]]
    return [*choices, *((each.extra, (), (3,)) for each in engines[-1:])]
