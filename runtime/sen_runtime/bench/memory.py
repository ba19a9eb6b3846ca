"""Caches and memory: bandwidth, peak, and emptying the caches."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sen_runtime.engines import native
from sen_runtime.figures import size

STATUS = Path("/proc/self/status")
#: Min size of a buffer in memory, which is also at least twice the largest cache, and its max share of the RAM.
MIN_BYTES, RAM_SHARE = 32 << 20, 1 / 8
#: Max duration of the reads from a buffer in the second-level cache, and from one in memory.
L2_SECONDS, MEMORY_SECONDS = 0.05, 0.2
#: Max size of the buffer that is swept between the calls of a cold run.
MAX_COLD_BYTES = 64 << 20


def peak_bytes(status: str | None = None) -> int | None:
    """Peak of the resident memory in the text of /proc/PID/status, of this process by default; None where unknown.

    Not that of `getrusage`, which starts at the peak of the process that started this one.
    """
    if status is None:
        try:
            status = STATUS.read_text()
        except OSError:
            return None
    found = re.search(r"^VmHWM:\s*([0-9]{1,15}) kB$", status, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else None


def growth(before: int | None, after: int | None) -> int | None:
    """Bytes by which a peak grew; None where it is not known."""
    return None if before is None or after is None else max(0, after - before)


def cache_bytes(device: Mapping[str, Any], *names: str) -> int | None:
    """Size of the largest of some caches ("l1d", "l2", "l3"); None where it is not known."""
    caches = device.get("caches")
    sizes = [caches.get(name) for name in names] if isinstance(caches, Mapping) else []
    return max((size for size in sizes if isinstance(size, int) and size > 0), default=None)


def buffers(device: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Sizes of the buffers whose bandwidth is measured: half the second-level cache, and twice the largest cache.

    None where the sizes are not known, or the buffer would take more than `RAM_SHARE` of the memory.
    """
    l2, last, ram = cache_bytes(device, "l2"), cache_bytes(device, "l2", "l3"), device.get("ram_bytes")
    beyond = None if last is None else max(MIN_BYTES, 2 * last)
    fits = beyond is not None and isinstance(ram, int) and beyond <= ram * RAM_SHARE
    return None if l2 is None else l2 // 2, beyond if fits else None


def bandwidth(device: Mapping[str, Any]) -> dict[str, float | None]:
    """Bytes/ns that the C library reads from `buffers` on one core; None where it is not known."""
    l2, beyond = buffers(device)
    return {
        "l2_bytes_per_ns": None if l2 is None else native.bandwidth(l2, L2_SECONDS),
        "memory_bytes_per_ns": None if beyond is None else native.bandwidth(beyond, MEMORY_SECONDS),
    }


def sweep(device: Mapping[str, Any]) -> Callable[[], object]:
    """Return a function that empties the caches by reading and writing a large buffer.

    Its size is twice the largest cache, at most `MAX_COLD_BYTES`, but at least twice the second level.
    """
    wanted = 2 * (cache_bytes(device, "l2", "l3") or MAX_COLD_BYTES)
    n_bytes = max(min(wanted, MAX_COLD_BYTES), 2 * (cache_bytes(device, "l2") or 0))
    buffer = np.zeros(n_bytes // 8, np.int64)
    return partial(np.add, buffer, 1, out=buffer)


def cold_warning(device: Mapping[str, Any], swept_bytes: int) -> str:
    """A warning where the last-level cache is unknown, or more than half of the max bytes that a sweep has."""
    last = cache_bytes(device, "l2", "l3")
    if last is not None and 2 * last <= swept_bytes:
        return ""
    found = "of unknown size" if last is None else f"of {size(last)}"
    return f"the last-level cache, {found}, may not be cold: {size(swept_bytes)} are swept between the calls"
