"""`sen-edge bench`."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sen_edge.cli import console
from sen_edge.errors import UsageError
from sen_runtime.errors import EXIT_INTERRUPTED

if TYPE_CHECKING:
    from sen_edge.remote.bench import Job, Outcome

#: Options of the measurement, passed to `sen-runtime bench` unchanged.
MEASURING = ("threads", "seconds", "duration", "cold_cache", "seed", "raw", "strict", "allow_throttled")
#: Options of the record, which is written on this machine.
RESULTS = ("json", "history", "force")
#: Default time limit of a host in seconds, without the measurement.
TIMEOUT_S = 900.0


def bench(
    artifacts: Annotated[list[Path], typer.Argument(help="Exported files.", metavar="ARTIFACT...")],
    *,
    engine: Annotated[
        list[str] | None, typer.Option(help="Engine, once for each. Default: those that run the files.", metavar="NAME")
    ] = None,
    threads: Annotated[
        str | None, typer.Option(help="Numbers of threads, separated by commas. Default: 1.", metavar="N,...")
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="How long to measure. Default: 10.")] = None,
    duration: Annotated[
        str | None,
        typer.Option(help="Measure for so long, e.g. 10m, and show latency, clock and temperature over time."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Inputs and, for accuracies, labels: a .npz or IDX images. Default: random.", metavar="FILE"),
    ] = None,
    cold_cache: Annotated[
        bool, typer.Option("--cold-cache", help="Inputs that are all distinct, so that the cache has none of them.")
    ] = False,
    cpu: Annotated[
        int | None, typer.Option(help="Core to measure on; before that of the inventory.", metavar="N")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of inputs and order. Default: 0.")] = None,
    json: Annotated[str | None, typer.Option(help="Write the record as JSON; - is stdout.", metavar="FILE")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Keep all samples in the record.")] = False,
    history: Annotated[Path | None, typer.Option(help="Append the record to this file.", metavar="FILE")] = None,
    energy: Annotated[
        Path | None, typer.Option(help="CSV of a power meter: time, watts. Without --host only.", metavar="FILE")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 4, and measure nothing, if an engine is missing or crashes.")
    ] = False,
    allow_throttled: Annotated[
        bool, typer.Option("--allow-throttled", help="Do not fail where the processor was slowed down meanwhile.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
    host: Annotated[
        list[str] | None,
        typer.Option(
            help="Measure there, over SSH; once for each: [user@]host, or a name in the inventory. Default: all of the "
            "inventory, or this machine.",
            metavar="HOST",
        ),
    ] = None,
    inventory: Annotated[Path | None, typer.Option(help="TOML file of hosts.", metavar="FILE")] = None,
    keep: Annotated[
        bool | None,
        typer.Option("--keep/--clean", help="Leave the working folder on the hosts, or remove it. Default: --clean."),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(help="Seconds for everything on one host. Default: 900 plus the measurement."),
    ] = None,
    no_install: Annotated[
        bool,
        typer.Option("--no-install", help="Fail if the runtime is missing on a host, instead of installing it."),
    ] = False,
    ssh_config: Annotated[
        Path | None, typer.Option(help="ssh configuration, instead of yours.", metavar="FILE")
    ] = None,
) -> None:
    """Measure the latency of exported files side by side, on this machine or, over SSH, on others.

    A host needs Python and sshd. The runtime is installed there, for the user only, unless it is there already.
    """
    values = dict(locals())
    if host or inventory is not None:
        _bench_hosts(values)
    else:
        _bench_here(values)


def _bench_here(values: Mapping[str, Any]) -> None:
    given = [name for name in ("keep", "timeout", "no_install", "ssh_config") if values[name] not in (None, False)]
    if given:
        raise UsageError(f"{_flag(given[0])} has no effect without --host or --inventory")
    from sen_runtime import cli

    names = (*MEASURING, "engine", "data", "cpu", "energy", *RESULTS)
    paths = [_positional(path) for path in values["artifacts"]]
    raise typer.Exit(cli.run(["bench", *_arguments(values, names), *paths]))


def _bench_hosts(values: Mapping[str, Any]) -> None:
    from sen_edge.remote.bench import bench as bench_hosts
    from sen_edge.remote.hosts import choose
    from sen_edge.remote.results import records_of, show_and_write
    from sen_runtime.bench import outputs

    if values["energy"] is not None:
        raise UsageError("--energy has no effect with --host", hint="use `sen-runtime bench` on the device")
    if shutil.which("ssh") is None:
        raise UsageError("`ssh` is not installed", hint="install OpenSSH's client")
    hosts = choose(values["host"] or (), values["inventory"])
    job = _job(values)
    wanted = outputs.Outputs(values["json"], values["history"], values["force"])
    outputs.check(wanted, values["artifacts"])
    outcomes = bench_hosts(hosts, job, note=console.note)
    records = records_of(outcomes, _command(values))
    try:
        show_and_write(records, wanted, console.note, n_hosts=len(hosts))
    finally:
        _report_failures(outcomes)
    raise typer.Exit(max((outcome.code for outcome in outcomes), default=EXIT_INTERRUPTED))


def _job(values: Mapping[str, Any]) -> Job:
    from sen_edge.remote.bench import Job
    from sen_runtime.cli import bench_request

    options = tuple(_arguments(values, MEASURING))
    # Check the options here, before anything is sent; but for --cpu, which is a core of the device.
    asked = _arguments(values, (*MEASURING, "engine"))
    request = bench_request(["bench", *asked, *map(_positional, values["artifacts"])])
    timeout_s = values["timeout"]
    if timeout_s is not None and not 0 < timeout_s < float("inf"):
        raise UsageError(f"--timeout is {timeout_s:g}; expected more than 0 seconds")
    config = values["ssh_config"]
    if config is not None and not config.is_file():
        raise UsageError(f"--ssh-config {config} is not a file")
    return Job(
        artifacts=tuple(values["artifacts"]),
        options=options,
        engines=tuple(values["engine"] or ()),
        data=values["data"],
        cpu=values["cpu"],
        config=None if config is None else config.absolute(),
        timeout_s=TIMEOUT_S + request.seconds if timeout_s is None else timeout_s,
        keep=bool(values["keep"]),
        may_install=not values["no_install"],
    )


def _command(values: Mapping[str, Any]) -> list[str]:
    """The command line, without the hosts."""
    options = _arguments(values, ("engine", "data", "cpu", *MEASURING, "inventory"))
    return ["sen-edge", "bench", *map(_positional, values["artifacts"]), *options]


def _report_failures(outcomes: Sequence[Outcome]) -> None:
    """Report hosts that failed; an interrupted one did not.

    Raises:
        HostsError: some failed.
        Exit: the measurement was interrupted.
    """
    from sen_edge.remote.results import HostsError

    is_interrupted = any(outcome.code == EXIT_INTERRUPTED for outcome in outcomes)
    failed = [outcome for outcome in outcomes if outcome.error is not None and outcome.code != EXIT_INTERRUPTED]
    if is_interrupted:
        for line in str(HostsError(failed, n_hosts=len(outcomes))).splitlines() if failed else ():
            console.note(line)
        console.note("interrupted; the results so far are kept")
        raise typer.Exit(EXIT_INTERRUPTED)
    if failed:
        raise HostsError(failed, n_hosts=len(outcomes))


def _arguments(values: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """The given options as command-line arguments."""
    given = []
    for name in names:
        value = values[name]
        if value is True:
            given.append(_flag(name))
        elif value is not None and value is not False:
            given += [f"{_flag(name)}={item}" for item in (value if isinstance(value, list) else [value])]
    return given


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _positional(path: Path) -> str:
    return f"./{path}" if str(path).startswith("-") else str(path)
