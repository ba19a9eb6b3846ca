"""Memory limits: available memory, and early errors."""

from pathlib import Path

import numpy as np
import pytest

from sen_runtime import memory_limits
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity
from sen_runtime.ir.operators import Dense
from sen_runtime.memory_limits import MemoryLimitError, available, require_layers, require_network


def write(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


MEMINFO = "MemTotal:  8000000 kB\nMemFree: 100 kB\nMemAvailable: 4000000 kB\n"


def test_nothing_is_known_of_a_system_that_does_not_tell(tmp_path: Path) -> None:
    assert available(tmp_path) is None


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 4_096_000_000),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max\n"}, 4_096_000_000),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/memory.max": "2000000000\n",
                "sys/fs/cgroup/a/memory.current": "500000000\n",
                "sys/fs/cgroup/a/memory.stat": "anon 1\ninactive_file 100000000\n",
            },
            1_600_000_000,
        ),
        (
            {
                "proc/self/cgroup": "3:cpu,memory:/a\n2:cpuset:/\n",
                "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1000000000\n",
                "sys/fs/cgroup/memory/a/memory.usage_in_bytes": "1200000000\n",
            },
            0,
        ),
    ],
    ids=["machine", "no limit", "cgroup v2 above", "cgroup v1 exceeded"],
)
def test_the_narrowest_limit_counts(files: dict[str, str], expected: int, tmp_path: Path) -> None:
    write(tmp_path, {"proc/meminfo": MEMINFO, **files})
    assert available(tmp_path) == expected


def test_a_layer_that_does_not_fit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_limits, "available", lambda: 3_000_000_000)
    require_layers([(20_000, 30_000), (10, 20_000)], 4)
    with pytest.raises(MemoryLimitError) as caught:
        require_layers([(20_000, 30_000), (10, 20_000)], 16)
    assert all(words in caught.value.message for words in ("8.944 GiB", "2.794 GiB", "layer 0 is 30,000 x 20,000"))
    network = Network((Layer(Dense(np.zeros((1, 1_000_000), np.float32)), None, Identity()),))
    require_network(network, 4)
    with pytest.raises(MemoryLimitError):
        require_network(network, 4, rows=1_000)


def test_any_sizes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_limits, "available", lambda: 1)
    with pytest.raises(MemoryLimitError):
        require_layers([(10**300, 10**300)], 4)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_a_failed_allocation_is_reported(error: Exception) -> None:
    with pytest.raises(MemoryLimitError), memory_limits.catch_allocation_errors():
        raise error


def test_an_allocation_of_numpy_is_reported() -> None:
    with pytest.raises(MemoryLimitError), memory_limits.catch_allocation_errors():
        np.zeros(1 << 60, np.uint8)


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="else"), memory_limits.catch_allocation_errors():
        raise RuntimeError("something else")
