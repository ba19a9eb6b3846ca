"""Load of other programs, which makes latencies longer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Tolerated load beyond the free cores: averages lag behind by a minute.
SPARE = 0.5


def other_load(record: Mapping[str, Any]) -> float | None:
    """The larger load average of other programs, at the start or the end of a run; None where unknown.

    The threads of the run are subtracted at the end.
    """
    device = record["device"]
    before, after = device["before"]["load"], device["after"]["load"]
    found = [before] if isinstance(before, (int, float)) else []
    found += [max(0.0, after - _threads(record))] if isinstance(after, (int, float)) else []
    return max(found, default=None)


def busy(record: Mapping[str, Any]) -> str:
    """A sentence, where other programs left fewer cores than the run needs; else empty."""
    others, cores = other_load(record), record["device"]["cpus"]
    if others is None or not isinstance(cores, int) or others + min(_threads(record), cores) <= cores + SPARE:
        return ""
    return (
        f"a load of {others:.3g} from other programs on {cores} {'core' if cores == 1 else 'cores'}: latencies may be "
        "longer and vary more than on an idle machine"
    )


def _threads(record: Mapping[str, Any]) -> int:
    return max((int(row["threads"]) for row in record["rows"]), default=1)
