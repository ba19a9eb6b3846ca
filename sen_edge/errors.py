"""Errors of the toolkit; the root and the exit codes are `sen_runtime.errors`."""

from __future__ import annotations

from sen_runtime.errors import EXIT_USAGE, EXIT_VERIFICATION, SenError


class CheckpointError(SenError):
    """A checkpoint, or a map of a foreign one, that cannot be read as a spatially embedded network."""


class DataError(SenError):
    """A data set that is absent, damaged or does not fit the network."""


class OutputError(SenError):
    """An output that cannot be written where it was asked for."""


class UsageError(SenError):
    """Options that contradict each other or the model."""

    exit_code = EXIT_USAGE


class VerificationError(SenError):
    """An artifact that does not agree with its model."""

    exit_code = EXIT_VERIFICATION
