"""Load of other programs, which makes latencies longer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Tolerated load beyond the free cores: averages lag behind by a minute.
SPARE = 0.5


def busy(record: Mapping[str, Any]) -> str:
    """A sentence, where other programs left fewer cores than the run needs; else empty.

    The load of other programs is the larger average of the start, and of the end without the threads of the run.
    """
    device, cores = record["device"], record["device"]["cpus"]
    threads = max((int(row["threads"]) for row in record["rows"]), default=1)
    loads = device["before"]["load"], device["after"]["load"]
    found = [load - own for load, own in zip(loads, (0, threads)) if isinstance(load, (int, float))]
    others = max(0.0, *found) if found else None
    if others is None or not isinstance(cores, int) or others + min(threads, cores) <= cores + SPARE:
        return ""
    return (
        f"a load of {others:.3g} from other programs on {cores} {'core' if cores == 1 else 'cores'}: latencies may be "
        "longer and vary more than on an idle machine"
    )
