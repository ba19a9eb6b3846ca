"""A simulated machine, and files to measure."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from sen_exporters.onnx.exporter import OnnxExporter
from sen_exporters.tflite.exporter import TfliteExporter
from sen_runtime import format as image
from sen_runtime.ir.network import Network
from tests.support.networks import random_network

STATE = {
    "governor": ["performance"],
    "mhz": [1800.0],
    "min_mhz": [600.0],
    "max_mhz": [1800.0],
    "arm_clock_mhz": 1800.0,
    "celsius": 48.3,
    "throttled": "0x0",
    "load": 0.3,
    "swap_used_bytes": 0,
}
FACTS = {
    "model": "A board",
    "revision": "unavailable",
    "cpu": "A core",
    "architecture": "aarch64",
    "userland_bits": 64,
    "kernel": "6.1",
    "os": "An OS",
    "cpus": 4,
    "ram_bytes": 1 << 30,
    "python": "3.11.7",
    "caches": {"l1d": 32768, "l2": 1 << 18, "l3": None},
    "libraries": {"numpy": np.__version__, "onnxruntime": "unavailable"},
    "compiler": "unavailable",
}


@dataclass
class Clock:
    """In the place of the clocks of `time`: it runs as fast as the test says, and reading it takes `reading_ns`."""

    reading_ns: int = 50
    now_ns: int = 0

    def read_ns(self) -> int:
        self.now_ns += self.reading_ns
        return self.now_ns

    def read_s(self) -> float:
        return self.read_ns() / 1e9

    def loop(self, call_ns: int, entering_ns: int = 0) -> Callable[[int], None]:
        def loop(n: int) -> None:
            self.now_ns += entering_ns + n * call_ns

        return loop

    def install(self, monkeypatch: pytest.MonkeyPatch) -> "Clock":
        monkeypatch.setattr(time, "perf_counter_ns", self.read_ns)
        monkeypatch.setattr(time, "perf_counter", self.read_s)
        monkeypatch.setattr(time, "time", self.read_s)
        return self


def await_work(pid: int, seconds: float) -> None:
    """Until a process has had so much more time of a processor, however busy the machine is."""
    process = psutil.Process(pid)
    used = lambda: sum(process.cpu_times()[:2])  # noqa: E731
    end = used() + seconds
    while used() < end:
        assert process.status() != psutil.STATUS_ZOMBIE
        time.sleep(0.02)


@dataclass
class Machine:
    """In the place of `sen_runtime.bench.device`; its state changes to `later` after the first look."""

    facts: Mapping[str, Any] = field(default_factory=lambda: FACTS)
    later: Mapping[str, Any] = field(default_factory=dict)
    n_states: int = 0

    def describe(self) -> dict[str, Any]:
        return dict(self.facts)

    def state(self) -> dict[str, Any]:
        self.n_states += 1
        return {**STATE, **(self.later if self.n_states > 1 else {})}


def small_network(seed: int = 0, n_in: int = 12, **kwargs: Any) -> Network:
    """Dense, 12-16-5 by default."""
    return random_network(np.random.default_rng(seed), kinds=("dense",), sizes=(n_in, 16, 5), **kwargs)


def write(folder: Path, name: str, network: Network, properties: Mapping[str, str] | None = None) -> Path:
    """The network as the file `name`, with more metadata."""
    path = folder / name
    if path.suffix == ".sen":
        from dataclasses import replace

        metadata = {**network.metadata, **(properties or {})}
        path.write_bytes(image.dumps(replace(network, metadata=metadata)))
        return path
    exporter = OnnxExporter() if path.suffix == ".onnx" else TfliteExporter()
    artifact = exporter.export(network, exporter.Options())
    path.write_bytes(exporter.stamp(artifact, properties or {}).main)
    return path
