"""What is done on one host: look, upload, install where that is wanted, measure, fetch, clean up."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sen_edge.remote.agent import GRACE_S
from sen_edge.remote.environment import PACKAGES, ROOM, extras_for, install_error, no_room
from sen_edge.remote.hosts import Host
from sen_edge.remote.source import Source
from sen_edge.remote.ssh import EXIT_CONNECTION, INTERRUPTED, Link, Reply, StageError, call, connected
from sen_runtime.errors import EXIT_FAILED, EXIT_INTERRUPTED, SenError
from sen_runtime.untrusted import FileError, load_json, open_regular

#: Seconds for cleaning up, after the time that the host had.
CLEAN_S = 20.0
CHUNK = 1 << 20
#: Exit statuses of a shell where the interpreter is not there, or cannot be run.
NO_PYTHON = (126, 127)
OLDEST_PYTHON = [3, 9]

Note = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """What is measured, and how.

    Attributes:
        artifacts: files here; one may be there twice.
        options: of `sen-runtime bench`, the same for all hosts.
        engines: asked for by name; none: those that the artifacts' endings say.
        data: file of inputs, or None.
        cpu: core to measure on, before that of the inventory.
        config: ssh configuration instead of the user's.
        timeout_s: seconds for all that is done on one host.
        keep: whether the working folder stays there.
        may_install: whether an environment may be made there.
    """

    artifacts: tuple[Path, ...]
    options: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()
    data: Path | None = None
    cpu: int | None = None
    config: Path | None = None
    timeout_s: float = 900.0
    keep: bool = False
    may_install: bool = True


@dataclass(frozen=True)
class Outcome:
    """What came of one host.

    Attributes:
        host: which one.
        record: the record, or None.
        code: exit status of the measurement there.
        stage: where it failed; empty where it did not.
        error: why it failed.
    """

    host: Host
    record: dict[str, Any] | None = None
    code: int = 0
    stage: str = ""
    error: StageError | None = None


@dataclass(frozen=True)
class SentFile:
    """A file here, and what it is called in the working folder there."""

    name: str
    path: Path
    n_bytes: int
    sha256: str


@dataclass(frozen=True)
class Visit:
    """One host, and all that is needed there.

    Attributes:
        host: which one.
        job: what is measured.
        files: what is sent, whatever the host.
        source: of the runtime; None where no host needs it.
        run_id: name of the working folder there.
        private: folder here, for this host only.
        stop: set when the user wants everything to end.
        note: takes progress.
    """

    host: Host
    job: Job
    files: tuple[SentFile, ...]
    source: Source | None
    run_id: str
    private: Path
    stop: threading.Event
    note: Note

    def say(self, line: str) -> None:
        """Tell the user, and which host it is about."""
        self.note(f"{self.host.name}: {line}")


@dataclass
class _Stage:
    """What is being done right now, for the message if it fails."""

    name: str = "connect"


def files_of(job: Job) -> tuple[SentFile, ...]:
    """The artifacts, each once and in a folder of its own, so that names are kept and may be equal; and the inputs.

    Raises:
        FileError: one cannot be read.
    """
    unique = dict.fromkeys(job.artifacts)
    paths = {f"{index}/{path.name}": path for index, path in enumerate(unique)}
    if job.data is not None:
        paths[f"data/{job.data.name}"] = job.data
    return tuple(_sent(name, path) for name, path in paths.items())


def visit(there: Visit) -> Outcome:
    """Everything on one host; what goes wrong is in the outcome."""
    stage = _Stage()
    job = there.job
    try:
        if there.stop.is_set():
            raise StageError(INTERRUPTED)
        with connected(there.host.address, there.private, job.config, stop=there.stop, timeout_s=job.timeout_s) as link:
            return _on_host(there, link, stage)
    except StageError as error:
        failure = error
    except Exception as error:  # the others are not to suffer from it
        failure = StageError(f"failed unexpectedly: {type(error).__name__}: {error}")
    there.say(f"{stage.name} failed: {failure.message}")
    code = EXIT_INTERRUPTED if failure.message == INTERRUPTED else EXIT_FAILED
    return Outcome(there.host, code=code, stage=stage.name, error=failure)


def _on_host(there: Visit, link: Link, stage: _Stage) -> Outcome:
    stage.name = "python"
    python = there.host.python or "python3"
    facts = _probe(there, link, python)
    folder = f"{facts['root']}/bench/{there.run_id}"
    stage.name = "install"
    extras = _extras_to_install(there, facts)
    try:
        stage.name = "upload"
        there.say(f"Python {_dotted(facts['python'])} on {facts['machine']}; working in {folder}")
        _upload(there, link, python, folder, with_source=extras is not None)
        stage.name = "install"
        runner = _install(there, link, python, folder, facts, extras)
        stage.name = "measure"
        there.say("measuring")
        arguments = [folder, _command(there, runner), link.remaining_s + GRACE_S]
        reply = _ask(link, python, "run", arguments, on_line=there.say)
        stage.name = "fetch"
        return Outcome(there.host, _record(there, reply), reply.code)
    finally:
        _clean(there, link, python, folder)


def _probe(there: Visit, link: Link, python: str) -> dict[str, Any]:
    """What the host has; see `agent.probe`."""
    environment = there.source.environment if there.source else ""
    reply = call(link, python, "probe", [there.host.python, environment])
    if reply.output is None and reply.code in NO_PYTHON:
        raise StageError(
            f"there is no Python on the host: {python} does not run",
            f"install Python {_dotted(OLDEST_PYTHON)} or later there, or name its interpreter in the inventory: "
            "python = ...",
            reply.lines,
        )
    _refuse(reply)
    facts = dict(_json(reply))
    if facts["python"] < OLDEST_PYTHON:
        raise StageError(
            f"{python} on the host is Python {_dotted(facts['python'])}; expected {_dotted(OLDEST_PYTHON)} or later",
            "name a later one in the inventory: python = ...",
        )
    return facts


def _extras_to_install(there: Visit, facts: dict[str, Any]) -> list[str] | None:
    """Extras to install the runtime with; None where all that is needed is there."""
    if there.host.python:
        if facts["runtime"] is None:
            raise StageError(
                f"{there.host.python} on the host has no sen_runtime",
                "install sen-edge-runtime there, or leave `python` out of the inventory to have it set up",
            )
        return None
    extras = extras_for(there.job.engines, there.job.artifacts, facts["machine"], facts["python"])
    if facts["extras"] is not None and extras <= set(facts["extras"]):
        return None
    if not there.job.may_install:
        raise StageError(
            f"the host has no {' '.join(('sen-edge-runtime', *sorted(extras)))} in ~/.cache/sen-edge",
            "leave out --no-install, or name an interpreter that has it in the inventory: python = ...",
        )
    return sorted(extras)


def _upload(there: Visit, link: Link, python: str, folder: str, *, with_source: bool) -> None:
    files = there.files
    if with_source and there.source is not None:
        archive = there.private / there.source.file_name
        archive.write_bytes(there.source.data)
        files = (*files, _sent(f"runtime/{archive.name}", archive))
    reply = call(link, python, "receive", [folder], chunks=_stream(files))
    if reply.code != 0 and no_room(reply.lines):
        raise StageError("the host's disk is full", ROOM, reply.lines)
    _refuse(reply)


def _stream(files: Sequence[SentFile]) -> Iterator[bytes]:
    """What `agent.receive` reads."""
    header = [{"name": file.name, "bytes": file.n_bytes, "sha256": file.sha256} for file in files]
    yield json.dumps(header).encode() + b"\n"
    for file in files:
        with open_regular(file.path) as stream:
            yield from iter(lambda stream=stream: stream.read(CHUNK), b"")  # type: ignore[misc]


def _install(
    there: Visit, link: Link, python: str, folder: str, facts: dict[str, Any], extras: list[str] | None
) -> str:
    """The interpreter that has the runtime."""
    if there.source is None or there.host.python:
        return there.host.python
    environment = there.source.environment
    if extras is None:
        return f"{facts['root']}/{environment}/bin/python"
    packages = (f"sen-edge-runtime {there.source.version}", "numpy", *(PACKAGES[extra] for extra in extras))
    there.say(f"installing into {facts['root']}/{environment}, which may take minutes: {', '.join(packages)}")
    archive = f"{folder}/runtime/{there.source.file_name}"
    reply = call(link, python, "install", [environment, archive, extras, link.remaining_s + GRACE_S])
    if reply.code != 0 and reply.output is not None and not reply.cut:
        raise install_error(reply.lines)
    _refuse(reply)
    found = _json(reply)
    if found["runtime"] is None:
        raise StageError("the runtime was installed, and cannot be imported", lines=reply.lines)
    if "native" in found["runtime"]["missing"]:
        there.say("the engine native is missing there: its C library was not built, for want of a C compiler")
    return str(found["python"])


def _command(there: Visit, python: str) -> list[str]:
    """What is run in the working folder."""
    job = there.job
    cpu = there.host.cpu if job.cpu is None else job.cpu
    options = [*job.options, *(f"--engine={name}" for name in job.engines), "--json=-"]
    if cpu is not None:
        options.append(f"--cpu={cpu}")
    names = {file.path: file.name for file in there.files}
    if job.data is not None:
        options.append(f"--data={names[job.data]}")
    return [python, "-m", "sen_runtime", "bench", *options, *(names[path] for path in job.artifacts)]


def _record(there: Visit, reply: Reply) -> dict[str, Any]:
    """The record that the measurement printed, checked."""
    from sen_runtime.bench import record

    try:
        return record.loads(reply.output or b"")
    except SenError as error:
        if reply.cut:
            raise StageError(INTERRUPTED) from error
        raise StageError(f"what it sent is no record: {error.message}", error.hint, reply.lines) from error


def _ask(
    link: Link, python: str, function: str, arguments: Sequence[object], *, on_line: Callable[[str], None]
) -> Reply:
    reply = call(link, python, function, arguments, on_line=on_line)
    if not reply.output or reply.cut != INTERRUPTED:
        _refuse(reply)
    return reply


def _refuse(reply: Reply) -> None:
    """Raise where a call was cut off or lost, or gave nothing but an exit status."""
    if reply.cut == INTERRUPTED:
        raise StageError(INTERRUPTED)
    if reply.cut:
        raise StageError("the time that a host has is over", "give it more with --timeout", reply.lines)
    if reply.code == EXIT_CONNECTION or reply.code < 0:
        raise StageError("the connection was lost", "is the host still on, and on this network?", reply.lines)
    if reply.output is None or (reply.code != 0 and not reply.output):
        raise StageError(f"failed there with exit status {reply.code}", lines=reply.lines)


def _clean(there: Visit, link: Link, python: str, folder: str) -> None:
    """Remove the working folder, also after a failure and after Ctrl-C, as far as the host still answers."""
    if there.job.keep:
        there.say(f"kept {folder}")
        return
    own = replace(link, stop=threading.Event(), deadline=time.monotonic() + CLEAN_S)
    if call(own, python, "remove", [folder]).code != 0:
        there.say(f"could not remove {folder}")


def _json(reply: Reply) -> Any:
    try:
        return load_json(reply.output or b"", "the host's answer")
    except SenError as error:
        raise StageError("the host's answer cannot be read", lines=reply.lines) from error


def _sent(name: str, path: Path) -> SentFile:
    digest, n_bytes = hashlib.sha256(), 0
    try:
        with open_regular(path) as file:
            while block := file.read(CHUNK):
                digest.update(block)
                n_bytes += len(block)
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from error
    return SentFile(name, path, n_bytes, digest.hexdigest())


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))
