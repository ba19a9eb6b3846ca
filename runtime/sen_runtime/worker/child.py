"""The worker's side: loads models in engines, runs them, and ends with its parent."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from sen_runtime.engines import Session, engine
from sen_runtime.engines.session import Array
from sen_runtime.errors import EngineError, MissingExtraError, SenError
from sen_runtime.worker.frames import encode_error, receive, send

Answer = tuple[dict[str, Any], dict[str, Array]]


class _Worker:
    """Sessions by number, and what may be asked of them."""

    def __init__(self) -> None:
        self._sessions: dict[int, Session] = {}
        self._count = 0

    def answer(self, request: dict[str, Any], arrays: dict[str, Array]) -> Answer:
        """The answer to a request; errors are answers as well."""
        try:
            if "environment" in request:
                _take_over(request["environment"])
            answer: Answer = getattr(self, f"on_{request['command']}")(request, arrays)
        except SenError as error:
            return {"error": encode_error(error)}, {}
        except Exception as error:  # code of a third party
            return {"error": encode_error(EngineError(f"{type(error).__name__}: {error}"))}, {}
        return answer

    def on_versions(self, request: dict[str, Any], arrays: dict[str, Array]) -> Answer:
        """Versions of engines, and why others are missing."""
        del arrays
        versions, missing = {}, {}
        for name in request["names"]:
            try:
                versions[name] = engine(name).version()
            except MissingExtraError as error:
                missing[name] = encode_error(error)
        return {"versions": versions, "missing": missing}, {}

    def on_load(self, request: dict[str, Any], arrays: dict[str, Array]) -> Answer:
        """Load a model, a path or bytes."""
        model = bytes(arrays["model"]) if "model" in arrays else Path(request["path"])
        session = engine(request["engine"]).load(model)
        self._count += 1
        self._sessions[self._count] = session
        return {"session": self._count, "batch_size": session.batch_size}, {}

    def on_run(self, request: dict[str, Any], arrays: dict[str, Array]) -> Answer:
        """Outputs for an input."""
        return {}, {"output": self._sessions[request["session"]].run(arrays["x"])}

    def on_run_all(self, request: dict[str, Any], arrays: dict[str, Array]) -> Answer:
        """Outputs for an input, and those of hidden layers."""
        return {}, self._sessions[request["session"]].run_all(arrays["x"])

    def on_close(self, request: dict[str, Any], arrays: dict[str, Array]) -> Answer:
        """Release a session."""
        del arrays
        self._sessions.pop(request["session"]).close()
        return {}, {}


def main() -> None:
    """Answer requests until stdin ends; what engines print goes to stderr."""
    requests, answers = _take_standard_streams()
    worker = _Worker()
    while True:
        try:
            send(answers, *worker.answer(*receive(requests)))
        except (EOFError, OSError):  # the parent ended
            os._exit(0)  # destructors of engines are none of its concern


def _take_over(environment: Mapping[str, str]) -> None:
    """The parent's environment as it is now, but for the folder of temporary files."""
    for name in set(os.environ) - set(environment) - {"TMPDIR"}:
        del os.environ[name]
    os.environ.update(environment)


def _take_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """Streams of requests and answers; descriptors 0 and 1 become /dev/null and stderr."""
    sys.stdout.flush()
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    return requests, answers
