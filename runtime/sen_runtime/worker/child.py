"""Worker process: load models in engines, run them, end with the parent."""

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
    """Sessions by number, and the requests on them."""

    def __init__(self) -> None:
        self._sessions: dict[int, Session] = {}
        self._count = 0

    def respond(self, request: dict[str, Any], arrays: dict[str, Array]) -> Answer:
        """Return the response to a request; errors are responses."""
        try:
            if "environment" in request:
                _update_environment(request["environment"])
            answer: Answer = getattr(self, f"on_{request['command']}")(request, arrays)
        except SenError as error:
            return {"error": encode_error(error)}, {}
        except Exception as error:  # third-party code
            return {"error": encode_error(EngineError(f"{type(error).__name__}: {error}"))}, {}
        return answer

    def on_versions(self, request: dict[str, Any], arrays: dict[str, Array]) -> Answer:
        """Return versions of engines, and the errors of missing ones."""
        del arrays
        versions, missing = {}, {}
        for name in request["names"]:
            try:
                versions[name] = engine(name).version()
            except MissingExtraError as error:
                missing[name] = encode_error(error)
        return {"versions": versions, "missing": missing}, {}

    def on_load(self, request: dict[str, Any], arrays: dict[str, Array]) -> Answer:
        """Load a model from a path or bytes."""
        model = bytes(arrays["model"]) if "model" in arrays else Path(request["path"])
        session = engine(request["engine"]).load(model)
        self._count += 1
        self._sessions[self._count] = session
        return {"session": self._count, "batch_size": session.batch_size}, {}

    def on_run(self, request: dict[str, Any], arrays: dict[str, Array]) -> Answer:
        """Return outputs for an input."""
        return {}, {"output": self._sessions[request["session"]].run(arrays["x"])}

    def on_run_all(self, request: dict[str, Any], arrays: dict[str, Array]) -> Answer:
        """Return outputs of all layers for an input."""
        return {}, self._sessions[request["session"]].run_all(arrays["x"])

    def on_close(self, request: dict[str, Any], arrays: dict[str, Array]) -> Answer:
        """Release a session."""
        del arrays
        self._sessions.pop(request["session"]).close()
        return {}, {}


def main() -> None:
    """Serve requests until stdin ends; output of engines goes to stderr."""
    requests, answers = _take_standard_streams()
    worker = _Worker()
    while True:
        try:
            send(answers, *worker.respond(*receive(requests)))
        except (EOFError, OSError):  # the parent ended
            os._exit(0)  # without destructors of engines


def _update_environment(environment: Mapping[str, str]) -> None:
    """Copy the environment of the parent, except the temporary folder."""
    for name in set(os.environ) - set(environment) - {"TMPDIR"}:
        del os.environ[name]
    os.environ.update(environment)


def _take_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """Return the streams of requests and responses; redirect descriptors 0 and 1 to /dev/null and stderr."""
    sys.stdout.flush()
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    return requests, answers
