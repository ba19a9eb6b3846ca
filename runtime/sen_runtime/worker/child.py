"""Worker process: load models in engines, run them, end with the parent."""

from __future__ import annotations

import itertools
import os
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO

from sen_runtime.engines import Model, Session, engine
from sen_runtime.engines.session import Array
from sen_runtime.errors import EngineError, MissingExtraError, SenError
from sen_runtime.memory_limits import allocation_failure

#: Loaded models by number.
_sessions: dict[int, Session] = {}
_numbers = itertools.count(1)


def versions(names: Sequence[str]) -> tuple[dict[str, str], dict[str, MissingExtraError]]:
    """Return versions of engines, and the errors of missing ones."""
    found, missing = {}, {}
    for name in names:
        try:
            found[name] = engine(name).version()
        except MissingExtraError as error:
            missing[name] = error
    return found, missing


def load(engine_name: str, model: Model) -> tuple[int, int | None]:
    """Load a model; return its number and batch size."""
    session = engine(engine_name).load(model)
    number = next(_numbers)  # never one of a closed session
    _sessions[number] = session
    return number, session.batch_size


def run(number: int, x: Array) -> Array:
    """Return outputs for an input."""
    return _sessions[number].run(x)


def run_all(number: int, x: Array) -> dict[str, Array]:
    """Return outputs of all layers for an input."""
    return _sessions[number].run_all(x)


def close(number: int) -> None:
    """Release a model."""
    _sessions.pop(number).close()


def main() -> None:
    """Call functions until stdin ends; output of engines goes to stderr.

    A request is the environment, a function and its arguments; the response is the result, or None and the error.
    """
    requests, answers = _take_standard_streams()
    while True:
        try:
            environment, function, arguments = pickle.load(requests)  # noqa: S301 - from the parent
            _update_environment(environment)
            answers.write(pickle.dumps(_call(function, arguments), pickle.HIGHEST_PROTOCOL))
            answers.flush()
        except (EOFError, OSError):  # the parent ended
            os._exit(0)  # without destructors of engines


def _call(function: Callable[..., Any], arguments: Sequence[Any]) -> tuple[Any, SenError | None]:
    try:
        return function(*arguments), None
    except SenError as error:
        return None, error
    except Exception as error:  # third-party code
        return None, allocation_failure(error) or EngineError(f"{type(error).__name__}: {error}")


def _update_environment(environment: Mapping[str, str]) -> None:
    """Copy the environment of the parent, except the temporary folder."""
    for name in set(os.environ) - set(environment) - {"TMPDIR"}:
        del os.environ[name]
    os.environ.update({name: value for name, value in environment.items() if name != "TMPDIR"})


def _take_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """Return the streams of requests and responses; redirect descriptors 0 and 1 to /dev/null and stderr."""
    sys.stdout.flush()
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    return requests, answers
