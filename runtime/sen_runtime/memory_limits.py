"""Memory: what work needs is estimated from layer sizes and compared with what is available, before the work starts.

Estimates are lower bounds of the peak: a check that passes promises nothing, one that fails would have ended in the
kernel killing the process, or another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sen_runtime.errors import SenError

if TYPE_CHECKING:
    from sen_runtime.ir.network import Network

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

#: Needs below this are not checked: the check itself takes 0.1 ms.
UNCHECKED_BYTES = 64 << 20
#: Of cgroup v1 and v2: folder below /sys/fs/cgroup, limit, usage, and the part of the usage that is page cache.
_V1 = ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = ("", "memory.max", "memory.current", "inactive_file")
#: How torch and C++ libraries report a failed allocation.
_ALLOCATION = ("can't allocate memory", "not enough memory", "bad_alloc", "bad allocation")


class MemoryLimitError(SenError, MemoryError):
    """Work that needs more memory than there is."""


def available(root: Path = Path("/")) -> int | None:
    """Bytes that this process can still take: of the machine, of its cgroups, and of its address space.

    Args:
        root: of the file system; another one in tests.

    Returns:
        None on systems that do not tell.
    """
    found = [value for value in (_machine(root), _address_space(root), *_cgroups(root)) if value is not None]
    return max(0, min(found)) if found else None


def require(n_bytes: int, detail: str = "") -> None:
    """Refuse work that needs more memory than is available.

    Args:
        n_bytes: that are live at once, a lower bound.
        detail: what needs most of them.

    Raises:
        MemoryLimitError: says how much is needed and how much available.
    """
    if n_bytes < UNCHECKED_BYTES:
        return
    free = available()
    if free is not None and n_bytes > free:
        raise MemoryLimitError(f"needs about {size(n_bytes)}, {size(free)} available{detail and f'; {detail}'}")


def require_layers(shapes: Iterable[tuple[int, int]], bytes_per_weight: int, rows: int = 0) -> None:
    """Refuse work on layers that needs more memory than is available.

    Args:
        shapes: `(n_out, n_in)` of each layer.
        bytes_per_weight: live at once for each weight of the fully connected layers.
        rows: examples whose inputs and activations are live at once, in float32.

    Raises:
        MemoryLimitError: names the largest layer too.
    """
    layers = list(shapes)
    _require_layers(layers, [bytes_per_weight * n_out * n_in for n_out, n_in in layers], rows)


def require_network(network: Network, bytes_per_weight: int, rows: int = 0) -> None:
    """Refuse work that writes out the weights of a network where it needs more memory than is available.

    Args:
        network: whose matrices are written out; those of low rank never are, and sparse ones once, in float32.
        bytes_per_weight: live at once for each other weight.
        rows: see `require_layers`.

    Raises:
        MemoryLimitError: names the largest layer too.
    """
    from sen_runtime.ir.operators import Coordinates, Dense, Sparse, leaves  # numpy, which --help does without

    needs = []
    for layer in network.layers:
        kinds = {type(leaf) for leaf in leaves(layer.weight)}
        each = bytes_per_weight if kinds & {Coordinates, Dense} else 4 if Sparse in kinds else 0
        needs.append(each * layer.weight.shape[0] * layer.weight.shape[1])
    _require_layers([layer.weight.shape for layer in network.layers], needs, rows)


def _require_layers(shapes: list[tuple[int, int]], needs: list[int], rows: int) -> None:
    neurons = shapes[0][1] + sum(n_out for n_out, _ in shapes)
    largest = max(range(len(shapes)), key=lambda index: needs[index])
    n_out, n_in = shapes[largest]
    require(sum(needs) + 4 * rows * neurons, f"layer {largest} is {n_in:,} x {n_out:,}")


@contextmanager
def reported() -> Iterator[None]:
    """Turn a failed allocation, of numpy, torch or a C++ library, into a `MemoryLimitError`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        found = allocation_failure(error)
        if found is None or found is error:
            raise
        raise found from error


def allocation_failure(error: BaseException) -> MemoryLimitError | None:
    """What a `MemoryError`, or torch's or C++'s own, says; None for another kind of error."""
    if isinstance(error, MemoryLimitError):
        return error
    text = str(error)
    if not isinstance(error, MemoryError) and not any(words in text for words in _ALLOCATION):
        return None
    free = available()
    state = "" if free is None else f"; {size(free)} available"
    return MemoryLimitError(f"not enough memory{state}" + (f": {text}" if text else ""))


def size(n_bytes: int) -> str:
    """Megabytes, or gigabytes, to a tenth below 100."""
    if n_bytes < 10**9:
        return f"{n_bytes // 10**6:,} MB"
    return f"{n_bytes / 10**9:.1f} GB" if n_bytes < 10**11 else f"{n_bytes // 10**9:,} GB"


def _machine(root: Path) -> int | None:
    """`MemAvailable` of Linux."""
    values = [line.split() for line in _lines(root / "proc/meminfo")]
    return next((int(words[1]) * 1024 for words in values if words[0] == "MemAvailable:"), None)


def _address_space(root: Path) -> int | None:
    """What `ulimit -v` leaves of the address space."""
    if resource is None:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    used = _number(root / "proc/self/statm")
    if limit == resource.RLIM_INFINITY or used is None:
        return None
    return limit - used * resource.getpagesize()


def _cgroups(root: Path) -> Iterator[int]:
    """What the limits of the process's cgroup and of those above it leave."""
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
    """The number that a file of the kernel starts with."""
    words = next(iter(_lines(path)), "").split()
    return int(words[0]) if words and words[0].isdecimal() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
