"""Results of several hosts: a table for each, and the requested files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sen_edge.remote.bench import Outcome
from sen_runtime.errors import SenError

if TYPE_CHECKING:
    from sen_runtime.bench.outputs import Outputs


class HostsError(SenError):
    """Some hosts failed; the message says for each at what stage, why, and what it said last."""

    def __init__(self, failed: Sequence[Outcome], *, n_hosts: int) -> None:
        lines = [f"{len(failed)} of {n_hosts} {'host' if n_hosts == 1 else 'hosts'} failed"]
        for outcome in failed:
            error = outcome.error
            if error is not None:
                lines.append(f"  - {outcome.name}, {error.stage}: {error.message}")
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
        outcome.name: {**outcome.record, "command": [*command, f"--host={outcome.name}"]}
        for outcome in outcomes
        if outcome.record is not None
    }


def show_and_write(
    records: Mapping[str, dict[str, Any]], outputs: Outputs, note: Callable[[str], None], *, n_hosts: int
) -> None:
    """Write the files, then print a table for each host, or the JSON.

    Args:
        records: host -> record; where there is none, nothing is printed or written.
        outputs: destinations; the JSON is a list of records if several hosts were asked.
        note: receives names of written files.
        n_hosts: number of hosts that were asked.

    Raises:
        OutputError: a file cannot be written; stdout is printed all the same.
    """
    from sen_runtime.bench.outputs import publish
    from sen_runtime.bench.text import table

    def tables() -> str:
        titles = [f"{name}\n" if n_hosts > 1 else "" for name in records]
        return "\n".join(title + table(record) for title, record in zip(titles, records.values(), strict=True))

    if records:
        publish(outputs, [*records.values()], tables, note, as_list=n_hosts > 1)
