"""Verification against an engine that computes what a function of the inputs gives."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from sen_edge.exporting.verify.result import Verification
from sen_edge.exporting.verify.verification import Comparison, verify
from sen_edge.model.model import Model
from sen_exporters.sen.exporter import SenExporter
from sen_runtime import format as image
from sen_runtime.data import Examples
from sen_runtime.ir.network import Network

Trace = Callable[[np.ndarray], list[np.ndarray]]


@dataclass(frozen=True)
class Fake:
    """An engine that computes what a function of the inputs gives."""

    trace: Trace
    is_interpreter: bool = False

    def outputs(self, x: np.ndarray, rows: int = 0) -> np.ndarray:
        return self.trace(x)[-1]

    def layers(self, x: np.ndarray, expected: list[np.ndarray]) -> list[np.ndarray]:
        return self.trace(x)


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Verification]:
    """Verify a network against what `trace` gives."""

    def run(network: Network, trace: Trace, data: Examples | None = None) -> Verification:
        @contextmanager
        def load_artifact(*_: object) -> Iterator[Fake]:
            yield Fake(trace)

        monkeypatch.setattr("sen_edge.exporting.verify.verification.load_artifact", load_artifact)
        monkeypatch.setattr("sen_runtime.worker.versions", lambda _: ({"fake": "1"}, {}))
        (tmp_path / "net.sen").write_bytes(image.dumps(network))
        return verify(Comparison(Model(network, ""), data=data), tmp_path / "net.sen", SenExporter())[0]

    return run
