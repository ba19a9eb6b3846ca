"""Errors of the toolkit; the root and the exit codes are `sen_runtime.errors`."""

from __future__ import annotations

from sen_runtime.errors import EXIT_VERIFICATION, DataError, OutputError, SenError, UsageError

__all__ = ["CheckpointError", "DataError", "OutputError", "UsageError", "VerificationError"]


class CheckpointError(SenError):
    """A checkpoint, or a map of a foreign one, that cannot be read as a spatially embedded network."""


class VerificationError(SenError):
    """An artifact that does not agree with its model."""

    exit_code = EXIT_VERIFICATION
