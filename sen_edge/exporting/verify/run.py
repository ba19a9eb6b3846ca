"""Outputs of an artifact, and of its layers, in an engine of the worker process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sen_edge.model.model import CHUNK
from sen_exporters.base import Exporter
from sen_runtime import worker
from sen_runtime.errors import EngineError
from sen_runtime.worker import WorkerSession

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class ArtifactRun:
    """An artifact loaded in an engine.

    Attributes:
        session: runs the artifact.
        instrumented: also returns activations of the layers; the same session if the artifact does so.
    """

    session: WorkerSession
    instrumented: WorkerSession

    def outputs(self, x: FloatArray, rows: int = CHUNK) -> FloatArray:
        """Return outputs `[batch, n_out]`, computed in chunks of at most `rows`."""
        return np.concatenate([self.session.run(chunk)[:kept] for chunk, kept in _chunks(self.session, x, rows)])

    def layers(self, x: FloatArray, n_layers: int) -> list[FloatArray]:
        """Return activations `[batch, n]` of all layers, the outputs last.

        Raises:
            EngineError: the artifact lacks a layer.
        """
        session = self.instrumented
        results = [(session.run_all(chunk), kept) for chunk, kept in _chunks(session, x, CHUNK)]
        names = [*(f"layer{i}/activation" for i in range(n_layers - 1)), "output"]
        missing = [name for name in names if name not in results[0][0]]
        if missing:
            raise EngineError(f"no value {missing[0]}")
        return [np.concatenate([values[name][:kept] for values, kept in results]) for name in names]


@contextmanager
def load_artifact(engine: str, artifact: Path, content: bytes, exporter: Exporter) -> Iterator[ArtifactRun]:
    """Load an artifact in an engine; release it at exit.

    Args:
        engine: name of the engine.
        artifact: path of the main file, next to its other files.
        content: content of the main file.
        exporter: exporter of its target.

    Raises:
        EngineCrashError: the engine crashed.
        SenError: the engine rejects the file.
    """
    with ExitStack() as stack:
        session = stack.enter_context(worker.load(engine, artifact, artifact.name))
        instrumented = exporter.instrument(content)
        if instrumented == content:
            yield ArtifactRun(session, session)
        else:
            what = f"{artifact.name} with the outputs of all layers"
            yield ArtifactRun(session, stack.enter_context(worker.load(engine, instrumented, what)))


def _chunks(session: WorkerSession, x: FloatArray, rows: int) -> Iterator[tuple[FloatArray, int]]:
    """Yield chunks of the session's batch size, else of `rows`, with the number of valid rows; pads with zeros."""
    size = session.batch_size or rows
    for start in range(0, len(x), size):
        chunk = x[start : start + size]
        kept = len(chunk)
        if session.batch_size and kept < size:
            chunk = np.concatenate([chunk, np.zeros((size - kept, *x.shape[1:]), np.float32)])
        yield chunk, kept
