"""An artifact in an engine: outputs, and activations of its layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sen_edge.model.model import CHUNK
from sen_edge.passes.equalize import SCALED_HIDDEN
from sen_exporters.base import Exporter
from sen_runtime import engines, worker
from sen_runtime.errors import EngineError
from sen_runtime.ir.network import Network
from sen_runtime.ir.standardization import Standardization
from sen_runtime.worker import WorkerSession

FloatArray = NDArray[np.float32]

#: Max products of a chunk in a graph with delays: of a time step, or of all in an unrolled graph. An engine allocates
#: up to 16 bytes for each; a row alone is as fast.
CHUNK_MACS = 1 << 21


@dataclass(frozen=True)
class ArtifactRun:
    """An artifact loaded in an engine of the worker process.

    `instrumented` also returns activations of the layers; it is the same session if the artifact does so. `scaling`
    standardizes raw inputs of an artifact that leaves this to its caller. `has_scaled_layers` is whether hidden
    activations are those of the model times powers of two. At most `rows` are computed together. `is_interpreter` is
    whether the engine is the reference interpreter.
    """

    session: WorkerSession
    instrumented: WorkerSession
    scaling: Standardization | None
    has_scaled_layers: bool
    rows: int
    is_interpreter: bool

    def outputs(self, x: FloatArray, rows: int | None = None) -> FloatArray:
        """Return outputs `[batch, n_out]`, computed in chunks of `rows`, by default of those of the class."""
        x = x if self.scaling is None else self.scaling.standardize(x)
        chunks = _chunks(self.session, x, rows or self.rows)
        return np.concatenate([self.session.run(chunk)[:kept] for chunk, kept in chunks])

    def layers(self, x: FloatArray, expected: list[FloatArray]) -> list[FloatArray]:
        """Return activations `[batch, n]` of all layers, the outputs last; hidden ones in the scales of `expected`."""
        session, x = self.instrumented, x if self.scaling is None else self.scaling.standardize(x)
        results = [(session.run_all(chunk), kept) for chunk, kept in _chunks(session, x, self.rows)]
        names = [*(f"layer{i}/activation" for i in range(len(expected) - 1)), "output"]
        missing = [name for name in names if name not in results[0][0]]
        if missing:
            raise EngineError(f"no value {missing[0]}")
        *hidden, last = (np.concatenate([values[name][:kept] for values, kept in results]) for name in names)
        if self.has_scaled_layers:
            hidden = [_unscale(actual, wanted) for actual, wanted in zip(hidden, expected[:-1], strict=True)]
        return [*hidden, last]


def _unscale(actual: FloatArray, expected: FloatArray) -> FloatArray:
    """Divide the activations `[batch, n]` of each neuron by the power of two nearest to their ratio."""
    size = np.square(expected, dtype=np.float64).sum(axis=0)
    ratio = (actual.astype(np.float64) * expected).sum(axis=0) / np.where(size > 0, size, 1.0)
    factors = 2.0 ** np.rint(np.log2(np.where(ratio > 0, ratio, 1.0)))
    unscaled: FloatArray = (actual / factors).astype(np.float32)
    return unscaled


@contextmanager
def load_artifact(
    engine: str, artifact: Path, content: bytes, exporter: Exporter, scaling: Standardization | None, network: Network
) -> Iterator[ArtifactRun]:
    """Load an artifact of a network, whose main file has this content, in an engine; release it at exit."""
    is_interpreter = engines.engine(engine).is_interpreter
    properties = exporter.properties(content)
    steps = network.timesteps if properties.get("snn") == "unrolled" else 1
    is_whole = network.is_instant or is_interpreter
    rows = CHUNK if is_whole else max(1, min(CHUNK, CHUNK_MACS // (steps * network.macs)))
    has_scaled_layers = properties.get(SCALED_HIDDEN[0]) == SCALED_HIDDEN[1]
    with ExitStack() as stack:
        session = stack.enter_context(worker.load(engine, artifact, artifact.name))
        instrumented = exporter.instrument(content)
        if instrumented == content:
            yield ArtifactRun(session, session, scaling, has_scaled_layers, rows, is_interpreter)
        else:
            what = f"{artifact.name} with the outputs of all layers"
            instrumented_session = stack.enter_context(worker.load(engine, instrumented, what))
            yield ArtifactRun(session, instrumented_session, scaling, has_scaled_layers, rows, is_interpreter)


def _chunks(session: WorkerSession, x: FloatArray, rows: int) -> Iterator[tuple[FloatArray, int]]:
    """Yield chunks of the session's batch size, else of `rows`, with the number of valid rows; pads with zeros."""
    size = session.batch_size or rows
    for start in range(0, len(x), size):
        chunk = x[start : start + size]
        kept = len(chunk)
        if session.batch_size and kept < size:
            chunk = np.concatenate([chunk, np.zeros((size - kept, *x.shape[1:]), np.float32)])
        yield chunk, kept
