"""What came of many hosts, side by side: a table, and the files that were asked for."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from sen_edge.remote.host_run import Outcome
from sen_runtime.errors import SenError


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


def show_and_write(
    records: Mapping[str, dict[str, Any]], options: Mapping[str, Any], note: Callable[[str], None], *, n_hosts: int
) -> None:
    """Print a table for each host, or the text that is to go to stdout, and write the files that were asked for.

    JSON is the record of the host, or a list of records where several hosts were asked.

    Args:
        records: host -> record; where there is none, nothing is shown or written.
        options: of `sen-runtime bench`, see `sen_runtime.bench.outputs.check`, where they were checked.
        note: told what was written.
        n_hosts: how many hosts were asked.

    Raises:
        OutputError: a file cannot be written; what there is to print is printed all the same.
    """
    from sen_runtime.bench import html, outputs, record, text

    if not records:
        return
    every = list(records.values())
    several = n_hosts > 1
    tables = partial(_titled, records, text.table, "{}\n") if several else partial(text.table, every[0])
    texts: dict[str, Callable[[], str]] = {
        "json": lambda: record.dumps(every if several else every[0]),
        "csv": lambda: _csv(records) if several else text.csv(every[0]),
        "markdown": lambda: _titled(records, text.markdown, "## {}\n\n") if several else text.markdown(every[0]),
        "html": lambda: html.report(every if several else every[0]),
    }
    printed = next((texts[name] for name in outputs.TEXTS if options[name] == outputs.STDOUT), tables)
    try:  # the files first: nothing that happens to stdout costs them
        outputs.write(options, texts, every, note)
    finally:
        sys.stdout.write(printed())
        sys.stdout.flush()


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
