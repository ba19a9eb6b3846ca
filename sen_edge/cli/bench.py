"""`sen-edge bench`."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from annotated_types import Gt, Le, MinLen

from sen_edge.cli import console
from sen_edge.cli.options import command, flag
from sen_edge.errors import UsageError
from sen_edge.schema import Option, Schema
from sen_runtime import cli
from sen_runtime.errors import EXIT_INTERRUPTED

if TYPE_CHECKING:
    from sen_edge.remote.bench import Job, Outcome

#: Options of `sen-runtime bench` that are not passed to hosts unchanged.
NOT_PASSED = ("engine", "data", "cpu", "energy", "json", "history", "force")
#: Default time limit of a host in seconds, without the measurement.
TIMEOUT_S = 900.0
MAX_TIMEOUT_S = 7 * 24 * 3600.0
#: Types of values, which `sen-runtime` parses.
KINDS: Mapping[str, Any] = {"store": str | None, "append": list[str] | None, "store_true": bool}


@dataclass(frozen=True)
class HostsRequest(Schema):
    """Hosts to measure on over SSH; none for this machine."""

    host: Annotated[
        Annotated[tuple[str, ...], MinLen(1)] | None,
        Option(
            "Hosts to measure on over SSH: [user@]host, or a name in the inventory; separated by commas or repeated. "
            "Default: all of the inventory, else this machine.",
            metavar="HOST",
            is_repeated=True,
        ),
    ] = None
    inventory: Annotated[Path | None, Option("TOML file of hosts.", metavar="FILE")] = None
    keep: Annotated[
        bool | None, Option("Keep or remove the working folder on the hosts. Default: --clean.", flag="--keep/--clean")
    ] = None
    timeout: Annotated[
        Annotated[float, Gt(0), Le(MAX_TIMEOUT_S)] | None,
        Option("Total time per host in seconds. Default: 900 plus the measurement."),
    ] = None
    no_install: Annotated[bool, Option("Fail if the runtime is missing on a host.")] = False
    ssh_config: Annotated[Path | None, Option("ssh configuration to use instead of the default.", metavar="FILE")] = (
        None
    )

    @property
    def is_remote(self) -> bool:
        """Whether there are hosts."""
        return bool(self.host) or self.inventory is not None

    def check(self) -> None:
        """Refuse options of hosts for this machine."""
        keep = ["keep"] if self.keep else []
        self.require(self.is_remote, "--host or --inventory", *keep, "timeout", "no_install", "ssh_config")


@command
def bench(
    artifacts: Annotated[list[Path], typer.Argument(help="Exported files.", metavar="ARTIFACT...")],
    hosts: HostsRequest,
    **measuring: Any,
) -> None:
    """Measure the latency of exported files in one interleaved run, on this machine or on hosts over SSH.

    A host requires Python and sshd. A missing runtime is installed there into the user's cache folder.
    """
    paths = [f"./{path}" if str(path).startswith("-") else str(path) for path in artifacts]
    words = ["bench", *paths, *_arguments({**measuring, "quiet": console.is_silenced()})]
    if hosts.is_remote:
        _bench_hosts(words, measuring, hosts)
    raise typer.Exit(cli.run(words))


def _engines() -> tuple[str, ...]:
    from sen_runtime.engines import names

    return names()


def _signature() -> inspect.Signature:
    """Return the signature of `bench` with the options of `sen-runtime bench` after the artifacts."""
    artifacts, *own = inspect.signature(bench).parameters.values()
    measuring: list[inspect.Parameter] = []

    def add(name: str, *, action: str = "store", metavar: str | None = None, **settings: Any) -> None:
        text = settings["help"]
        complete = _engines if name == "--engine" else None
        option = typer.Option(name, metavar=metavar, help=f"{text[0].upper()}{text[1:]}.", autocompletion=complete)
        default = False if action == "store_true" else None
        kind = Annotated[KINDS[action], option]  # type: ignore[valid-type]
        field = name.removeprefix("--").replace("-", "_")
        measuring.append(inspect.Parameter(field, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind))

    cli.add_bench_options(add)
    return inspect.Signature([artifacts, *measuring, *own])


bench.__signature__ = _signature()  # type: ignore[attr-defined]


def _bench_hosts(words: Sequence[str], measuring: Mapping[str, Any], request: HostsRequest) -> NoReturn:
    """Measure on hosts; `words` are the equivalent local `sen-runtime` command."""
    from sen_edge.remote.bench import bench as bench_hosts
    from sen_edge.remote.hosts import choose
    from sen_runtime.bench import outputs
    from sen_runtime.bench.text import table

    if measuring["energy"] is not None:
        raise UsageError("--energy has no effect with --host", hint="use `sen-runtime bench` on the device")
    if shutil.which("ssh") is None:
        raise UsageError("`ssh` is not installed", hint="install OpenSSH's client")
    hosts, job = choose(request.host or (), request.inventory), _job(words, measuring, request)
    history = measuring["history"]
    wanted = outputs.Outputs(measuring["json"], None if history is None else Path(history), measuring["force"])
    outputs.check(wanted, job.request.artifacts)
    outcomes = bench_hosts(hosts, job, note=console.note)
    results = _arguments({name: measuring[name] for name in ("json", "history", "force")})
    kept = [word for word in words if word not in results]
    line = ["sen-edge", *kept, *_arguments({"inventory": request.inventory})]
    records = {
        each.name: {**each.record, "command": [*line, f"--host={each.name}"]} for each in outcomes if each.record
    }

    def tables() -> str:
        titles = {name: f"{name}\n" if len(hosts) > 1 else "" for name in records}
        return "\n".join(titles[name] + table(record) for name, record in records.items())

    try:
        if records:
            outputs.publish(wanted, [*records.values()], tables, console.note, as_list=len(hosts) > 1)
    finally:
        _report_failures(outcomes)
    raise typer.Exit(max((outcome.code for outcome in outcomes), default=EXIT_INTERRUPTED))


def _job(words: Sequence[str], measuring: Mapping[str, Any], hosts: HostsRequest) -> Job:
    from sen_edge.remote.bench import Job

    request, config = cli.bench_request(words), hosts.ssh_config  # checks the options before anything is sent
    if config is not None and not config.is_file():
        raise UsageError(f"--ssh-config {config} is not a file")
    return Job(
        request,
        options=tuple(_arguments({name: value for name, value in measuring.items() if name not in NOT_PASSED})),
        config=None if config is None else config.absolute(),
        timeout_s=TIMEOUT_S + request.seconds * (1 if request.rate is None else 2)
        if hosts.timeout is None
        else hosts.timeout,
        keep=bool(hosts.keep),
        may_install=not hosts.no_install,
    )


def _report_failures(outcomes: Sequence[Outcome]) -> None:
    """Report failed hosts; an interrupted host is not a failure.

    Raises:
        HostsError: a host failed.
        Exit: the measurement was interrupted.
    """
    from sen_edge.remote.bench import HostsError

    failed = [outcome for outcome in outcomes if outcome.error is not None and outcome.code != EXIT_INTERRUPTED]
    error = HostsError(failed, n_hosts=len(outcomes)) if failed else None
    if any(outcome.code == EXIT_INTERRUPTED for outcome in outcomes):
        for line in [] if error is None else error.message.splitlines():
            console.fail(line)
        console.fail("interrupted; the results so far are written")
        raise typer.Exit(EXIT_INTERRUPTED)
    if error is not None:
        raise error


def _arguments(values: Mapping[str, Any]) -> list[str]:
    """Format options as command-line arguments."""
    given = []
    for name, value in values.items():
        if value is True:
            given.append(flag(name))
        elif value is not None and value is not False:
            given += [f"{flag(name)}={item}" for item in (value if isinstance(value, list) else [value])]
    return given
