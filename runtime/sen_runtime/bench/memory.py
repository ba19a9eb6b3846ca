"""Caches and memory: how fast they are, and how to find them cold."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sen_runtime.engines import native

STATUS = Path("/proc/self/status")
#: A buffer for memory is at least this large, and at least twice the largest cache; it may take this share of the RAM.
LEAST_BYTES, RAM_SHARE = 32 << 20, 1 / 8
TRIES = 5
#: How long to read, at most, from a buffer in the second-level cache, and from one in memory.
L2_SECONDS, MEMORY_SECONDS = 0.05, 0.2
#: All inputs of a cold run, and what is swept between its calls, take up to this many bytes each.
MOST_COLD_BYTES = 64 << 20
MOST_COLD_INPUTS = 1 << 14


def peak_bytes(status: str | None = None) -> int | None:
    """Peak of the resident memory of a process, of this one by default; None where the system does not report it.

    Not that of `getrusage`, which starts at the peak of the process that started this one.

    Args:
        status: text of /proc/PID/status.
    """
    if status is None:
        try:
            status = STATUS.read_text()
        except OSError:
            return None
    found = re.search(r"^VmHWM:\s*([0-9]{1,15}) kB$", status, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else None


def cache_bytes(device: Mapping[str, Any], name: str) -> int | None:
    """Size of a cache ("l1d", "l2", "l3"); None where the machine does not tell."""
    caches = device.get("caches")
    size = caches.get(name) if isinstance(caches, Mapping) else None
    return size if isinstance(size, int) and size > 0 else None


def last_level_bytes(device: Mapping[str, Any]) -> int | None:
    """Size of the largest cache."""
    sizes = [size for name in ("l2", "l3") if (size := cache_bytes(device, name))]
    return max(sizes) if sizes else None


def bandwidth(device: Mapping[str, Any]) -> dict[str, float | None]:
    """Bytes/ns that one core reads from its second-level cache, and from memory.

    The C library reads a buffer of half that cache, and one far beyond every cache. None where the sizes are not known,
    or the buffer would take more than `RAM_SHARE` of the memory. Without the library numpy reads the memory; of the
    cache it would rather measure itself.
    """
    l2, last, ram = cache_bytes(device, "l2"), last_level_bytes(device), device.get("ram_bytes")
    result: dict[str, float | None] = {"l2_bytes_per_ns": None, "memory_bytes_per_ns": None}
    if l2 is not None:
        result["l2_bytes_per_ns"] = native.bandwidth(l2 // 2, L2_SECONDS)
    if last is not None and isinstance(ram, int):
        size = max(LEAST_BYTES, 2 * last)
        if size <= ram * RAM_SHARE:
            result["memory_bytes_per_ns"] = native.bandwidth(size, MEMORY_SECONDS) or _numpy_bytes_per_ns(size)
    return result


def _numpy_bytes_per_ns(size: int) -> float:
    """The best of some passes over `size` bytes, each value looked at once."""
    buffer = np.ones(size // 8, np.float64)
    times_ns = []
    for _ in range(TRIES):
        start = time.perf_counter_ns()
        buffer.max()
        times_ns.append(time.perf_counter_ns() - start)
    return buffer.nbytes / max(1, min(times_ns))


def cold_inputs(row_bytes: int, device: Mapping[str, Any]) -> int:
    """Number of inputs of `row_bytes` each that together exceed the last-level cache, up to `MOST_COLD_BYTES`.

    Of small ones no more than `MOST_COLD_INPUTS`: each takes a call of its own, and `sweep` empties the caches anyway.
    """
    wanted = 2 * (last_level_bytes(device) or MOST_COLD_BYTES)
    return min(MOST_COLD_INPUTS, max(2, -(-min(wanted, MOST_COLD_BYTES) // row_bytes)))


def sweep(device: Mapping[str, Any]) -> Callable[[], object]:
    """A function after which the caches hold nothing of a model: it reads and writes a large buffer.

    That is twice the largest cache, up to `MOST_COLD_BYTES`, but at least twice the second level.
    """
    wanted = 2 * (last_level_bytes(device) or MOST_COLD_BYTES)
    size = max(min(wanted, MOST_COLD_BYTES), 2 * (cache_bytes(device, "l2") or 0))
    buffer = np.zeros(size // 8, np.int64)

    def swept() -> None:
        np.add(buffer, 1, out=buffer)

    return swept


def cold_warning(device: Mapping[str, Any]) -> list[dict[str, str]]:
    """A warning where the last-level cache is so large, or unknown, that it may not be cold."""
    last = last_level_bytes(device)
    if last is not None and 2 * last <= MOST_COLD_BYTES:
        return []
    size = "of unknown size" if last is None else f"of {last / 2**20:.0f} MiB"
    message = f"the last-level cache, {size}, may not be cold: {MOST_COLD_BYTES >> 20} MiB are swept between the calls"
    return [{"kind": "cold-cache-small", "message": message}]
