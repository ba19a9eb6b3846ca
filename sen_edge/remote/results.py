"""What came of many hosts, side by side: a table, and the files that were asked for."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sen_edge.errors import OutputError, UsageError
from sen_edge.remote.visit import Outcome
from sen_runtime.errors import SenError
from sen_runtime.files import write_atomic

FILES = ("json", "csv", "markdown", "html", "plot", "history")


class HostsError(SenError):
    """Some hosts failed; the message says for each at what stage, why, and what it said last."""

    def __init__(self, failed: Sequence[Outcome], *, n_hosts: int) -> None:
        lines = [f"{len(failed)} of {n_hosts} {'host' if n_hosts == 1 else 'hosts'} failed"]
        for outcome in failed:
            error = outcome.error
            if error is not None:
                lines.append(f"  - {outcome.host.name}, {outcome.stage}: {error.message}")
                lines += [f"      | {line}" for line in error.lines]
                lines += [f"      -> {error.hint}"] if error.hint else []
        super().__init__("\n".join(lines))


def check_results(results: Mapping[str, Any], *, n_hosts: int) -> None:
    """Find out before the measurement what would go wrong after it.

    Args:
        results: option -> value, as in `write_results`.
        n_hosts: how many hosts there are.

    Raises:
        OutputError: a file is there already, or its folder is not.
        UsageError: a plot of many hosts.
        PlotError: a plot of no known kind.
        MissingExtraError: a plot, and matplotlib is not installed.
    """
    if results["plot"] is not None and n_hosts > 1:
        raise UsageError("--plot draws one host; expected --html for several")
    if results["plot"] is not None:
        from sen_runtime.bench import plots

        plots.check(results["plot"])
    for name in FILES:
        path = _path(results[name])
        if path is None:
            continue
        if not path.parent.is_dir():
            raise OutputError(f"--{name} {path}: there is no folder {path.parent}")
        if path.is_dir():
            raise OutputError(f"--{name} {path} is a folder; expected a file")
        if path.exists() and name != "history" and not results["force"]:
            raise OutputError(f"--{name} {path} exists", hint="pass --force to replace it")


def records_of(outcomes: Iterable[Outcome], command: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Records of the hosts that gave one, by the names of the hosts.

    Args:
        outcomes: of the hosts.
        command: the command line without the hosts; with the host, it is the command of each record.
    """
    return {
        outcome.host.name: {**outcome.record, "command": [*command, f"--host={outcome.host.name}"]}
        for outcome in outcomes
        if outcome.record is not None
    }


def for_stdout(records: Mapping[str, dict[str, Any]], results: Mapping[str, Any], *, n_hosts: int) -> str:
    """A table for each host; or JSON, where that is what was asked for."""
    from sen_runtime.bench import text

    if not records:
        return ""
    if results["json"] == "-":
        return _json(records, n_hosts)
    if n_hosts > 1:
        return _titled(records, text.table, "{}\n")
    return text.table(next(iter(records.values())))


def write_results(records: Mapping[str, dict[str, Any]], results: Mapping[str, Any], *, n_hosts: int) -> None:
    """Write the files that were asked for.

    JSON is the record of the host, or a list of records where several hosts were asked.

    Args:
        records: host -> record; where there is none, nothing is written.
        results: option of `sen-runtime bench` -> value: json, csv, markdown, html, plot, history.
        n_hosts: how many hosts were asked.

    Raises:
        OutputError: a file cannot be written.
    """
    from sen_runtime.bench import history, html, plots, text

    if not records:
        return
    several = n_hosts > 1
    every = list(records.values())
    contents: dict[str, Callable[[], str]] = {
        "json": lambda: _json(records, n_hosts),
        "csv": lambda: _csv(records) if several else text.csv(every[0]),
        "markdown": lambda: _titled(records, text.markdown, "## {}\n\n") if several else text.markdown(every[0]),
        "html": lambda: html.report(every if several else every[0]),
    }
    for name, content in contents.items():
        path = _path(results[name])
        if path is not None:
            _write(path, content().encode())
    if results["plot"] is not None:
        plots.save(every[0], results["plot"])
    if results["history"] is not None:
        for record in every:
            history.append(results["history"], record)


def _json(records: Mapping[str, dict[str, Any]], n_hosts: int) -> str:
    every = list(records.values())
    return json.dumps(every if n_hosts > 1 else every[0], indent=2, allow_nan=False) + "\n"


def _path(value: Any) -> Path | None:
    return None if value is None or value == "-" else Path(value)


def _titled(records: Mapping[str, dict[str, Any]], show: Callable[[dict[str, Any]], str], title: str) -> str:
    return "\n".join(title.format(name) + show(record) for name, record in records.items())


def _csv(records: Mapping[str, dict[str, Any]]) -> str:
    """One table, the host in the first column."""
    from sen_runtime.bench import text

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for index, (name, record) in enumerate(records.items()):
        heading, *rows = csv.reader(io.StringIO(text.csv(record)))
        if index == 0:
            writer.writerow(["host", *heading])
        writer.writerows([name, *row] for row in rows)
    return out.getvalue()


def _write(path: Path, data: bytes) -> None:
    try:
        write_atomic(path, data)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
