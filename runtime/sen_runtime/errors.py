"""The root of the error tree: one class per exit code, each with a message and a next step."""

from __future__ import annotations

import copyreg
from typing import Any

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_VERIFICATION = 3
EXIT_MISSING = 4
EXIT_INTERRUPTED = 130


class SenError(Exception):
    """A mistake or a condition the user can act on.

    Attributes:
        message: problem, place, found and expected values.
        hint: the next step, or an empty string.
        exit_code: the status a command ends with.
    """

    exit_code = EXIT_FAILED

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without the arguments of `__init__`, which subclasses change."""
        return copyreg.__newobj__, (type(self), *self.args), vars(self)  # type: ignore[attr-defined]


class NetworkError(SenError):
    """A network, or one of its operators, that contradicts itself."""


class ImageError(SenError):
    """A `.sen` file that cannot be read, or a network that cannot be written as one."""


class EngineError(SenError):
    """An engine that refused a model or its input."""


class EngineCrashError(EngineError):
    """An engine that ended its process while it loaded or ran a model."""

    exit_code = EXIT_VERIFICATION


class UsageError(SenError):
    """Options that contradict each other, or the model."""

    exit_code = EXIT_USAGE


class DataError(SenError):
    """Data that are absent, damaged, or do not fit the network."""


class OutputError(SenError):
    """An output that cannot be written where it was asked for."""


class MissingExtraError(SenError):
    """A required package that is not installed."""

    exit_code = EXIT_MISSING

    def __init__(self, purpose: str, pip_line: str) -> None:
        super().__init__(f"{purpose} is not installed", hint=pip_line)
