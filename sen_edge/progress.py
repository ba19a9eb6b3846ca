"""The one protocol by which long functions report their progress."""

from __future__ import annotations

from collections.abc import Callable

#: Receives the current stage in words and the completed share, from 0 to 1.
Progress = Callable[[str, float], None]


def silent(stage: str, fraction: float) -> None:
    """Report nothing."""
