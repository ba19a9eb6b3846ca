"""Memory limits: estimate the need of work from layer sizes and compare it with the available memory before it starts.

Estimates are lower bounds of the peak: passing a check guarantees nothing, failing one means that the kernel would have
killed a process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sen_runtime.errors import SenError
from sen_runtime.figures import size

if TYPE_CHECKING:
    from sen_runtime.ir.network import Network

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

#: Needs below this are not checked: a check takes 0.1 ms.
UNCHECKED_BYTES = 64 << 20
#: Files of cgroup v1 and v2: folder in /sys/fs/cgroup, limit, usage, and key of the reclaimable page cache.
_V1 = ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = ("", "memory.max", "memory.current", "inactive_file")
#: Messages of torch and C++ libraries for a failed allocation.
_ALLOCATION = ("can't allocate memory", "not enough memory", "bad_alloc", "bad allocation")


class MemoryLimitError(SenError, MemoryError):
    """Work needs more memory than is available."""


def available(root: Path = Path("/")) -> int | None:
    """Return the bytes that this process can still allocate, limited by machine, cgroups and address space.

    None if the system does not tell. `root` is that of the file system; replaced in tests.
    """
    found = [value for value in (_machine(root), _address_space(root), *_cgroups(root)) if value is not None]
    return max(0, min(found)) if found else None


def require(n_bytes: int, detail: str = "") -> None:
    """Refuse a peak of `n_bytes` or more beyond the available memory; `detail` names the largest contribution."""
    if n_bytes < UNCHECKED_BYTES:
        return
    free = available()
    if free is not None and n_bytes > free:
        raise MemoryLimitError(f"needs about {size(n_bytes)}, {size(free)} available{detail and f'; {detail}'}")


def require_layers(shapes: Iterable[tuple[int, int]], bytes_per_weight: int) -> None:
    """Refuse work that needs `bytes_per_weight` for each weight of fully connected layers `(n_out, n_in)`."""
    _require_largest([((n_out, n_in), bytes_per_weight * n_out * n_in) for n_out, n_in in shapes])


def require_network(network: Network, bytes_per_weight: int, rows: int = 0) -> None:
    """Refuse work that materializes a network and needs more memory than is available.

    It needs `bytes_per_weight` for each weight, but low-rank matrices are not materialized and sparse ones once, in
    float32; the delays of synapses, in 32 bits; and inputs and activations of `rows` examples in float32.
    """
    needs = []
    for layer in network.layers:
        each = bytes_per_weight + 4 * (not layer.is_instant)
        need = sum(weight.expanded_bytes(each) for weight, _ in layer.connections)
        needs.append((layer.weight.shape, need))
    _require_largest(needs, 4 * rows * sum(network.layer_sizes))


def _require_largest(needs: Sequence[tuple[tuple[int, int], int]], others: int = 0) -> None:
    """Require the bytes of layers, by shape, and `others`."""
    index = max(range(len(needs)), key=lambda index: needs[index][1])
    n_out, n_in = needs[index][0]
    require(sum(need for _, need in needs) + others, f"layer {index} is {n_in:,} x {n_out:,}")


@contextmanager
def catch_allocation_errors() -> Iterator[None]:
    """Convert a failed allocation of numpy, torch or a C++ library to a `MemoryLimitError`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        found = allocation_failure(error)
        if found is None or found is error:
            raise
        raise found from error


def allocation_failure(error: BaseException) -> MemoryLimitError | None:
    """Return the `MemoryLimitError` for an allocation failure; None for other errors."""
    if isinstance(error, MemoryLimitError):
        return error
    text = str(error)
    if not isinstance(error, MemoryError) and not any(words in text for words in _ALLOCATION):
        return None
    free = available()
    state = "" if free is None else f"; {size(free)} available"
    return MemoryLimitError(f"not enough memory{state}" + (f": {text}" if text else ""))


def _machine(root: Path) -> int | None:
    """Read `MemAvailable` of Linux."""
    values = [line.split() for line in _lines(root / "proc/meminfo")]
    return next((int(words[1]) * 1024 for words in values if words[0] == "MemAvailable:"), None)


def _address_space(root: Path) -> int | None:
    """Return the address space left by `ulimit -v`."""
    if resource is None:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    used = _number(root / "proc/self/statm")
    if limit == resource.RLIM_INFINITY or used is None:
        return None
    return limit - used * resource.getpagesize()


def _cgroups(root: Path) -> Iterator[int]:
    """Yield the memory left by the cgroup of the process and by its parents."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        folder, limit, usage, cache = _V1 if controllers else _V2
        top = root / "sys/fs/cgroup" / folder
        own = top / path.lstrip("/")
        for group in (own, *own.parents):
            most, used = _number(group / limit), _number(group / usage)
            if most is not None and used is not None:
                statistics = dict(words.split() for words in _lines(group / "memory.stat"))
                yield most - used + int(statistics.get(cache, 0))
            if group == top:
                break


def _number(path: Path) -> int | None:
    """Number at the start of a kernel file."""
    words = next(iter(_lines(path)), "").split()
    return int(words[0]) if words and words[0].isdecimal() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
