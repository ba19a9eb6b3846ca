"""Errors of the toolkit; the root and the exit codes are `sen_runtime.errors`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sen_runtime.errors import EXIT_VERIFICATION, DataError, OutputError, SenError, UsageError

__all__ = ["CheckpointError", "DataError", "OutputError", "UsageError", "VerificationError"]


class CheckpointError(SenError):
    """A checkpoint, or a map of a foreign one, that cannot be read as a spatially embedded network."""


class VerificationError(SenError):
    """An artifact that does not agree with its model.

    Attributes:
        results: figures of each engine, `sen_edge.exporting.verify.result.Verification`; empty if there are none.
    """

    exit_code = EXIT_VERIFICATION

    def __init__(self, message: str, hint: str = "", *, results: Sequence[Any] = ()) -> None:
        super().__init__(message, hint)
        self.results = tuple(results)
