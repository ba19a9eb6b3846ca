"""Inference engines, found by entry points.

An engine registers under the entry-point group `sen_edge.engines` of its distribution, as the built-in ones do in
runtime/pyproject.toml; the entry point names a module, an object or a class of the form `Engine`. An engine imports
its library when it is used, not when it is found; where the library is missing, the error names the pip line.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol, runtime_checkable

from sen_runtime.engines.session import Model, Session
from sen_runtime.errors import EngineError, MissingExtraError

__all__ = [
    "ENTRY_POINT_GROUP",
    "Engine",
    "Model",
    "Session",
    "engine",
    "installed",
    "missing",
    "names",
    "names_for",
    "usable",
]

ENTRY_POINT_GROUP = "sen_edge.engines"


@runtime_checkable
class Engine(Protocol):
    """Loads models.

    Attributes:
        suffix: ending of the files it runs, such as ".onnx".
        is_threaded: whether `threads` has an effect; an engine without threads is measured once.
        is_on_demand: whether it is measured only where it is asked for by name.
    """

    suffix: str
    is_threaded: bool
    is_on_demand: bool

    def load(self, model: Model, threads: int = 1, *, allow_nonfinite: bool = False) -> Session:
        """A session on `model`, the path or the bytes of a file; see `Session` about inputs that are not finite."""

    def version(self) -> str:
        """Version of the engine's library; raises `MissingExtraError` where it is not installed."""


def names() -> tuple[str, ...]:
    """Names of all engines that are registered, whether or not their libraries are installed.

    Raises:
        EngineError: none is registered.
    """
    return tuple(_entry_points())


def engine(name: str) -> Engine:
    """The engine called `name`.

    Raises:
        EngineError: there is none, or it does not load.
    """
    if name not in _entry_points():
        raise EngineError(f"no engine called {name!r}; expected one of {', '.join(names())}")
    return _load(_entry_points()[name])


def usable() -> dict[str, Engine]:
    """Every engine by name; those that do not load are left out."""
    found = {}
    for name in names():
        try:
            found[name] = engine(name)
        except EngineError:
            continue
    return found


def names_for(suffix: str) -> list[str]:
    """Names of the engines that run files with this ending.

    Raises:
        EngineError: there is none; engines that do not load are named, with the reason.
    """
    found = usable()
    chosen = [name for name, each in found.items() if each.suffix == suffix]
    if chosen:
        return chosen
    expected = ", ".join(dict.fromkeys(each.suffix for each in found.values()))
    broken = "".join(f"; {reason}" for name in names() if name not in found and (reason := _defect(name)))
    raise EngineError(f"no engine runs {suffix or 'a file without ending'}; expected {expected}{broken}")


def installed(names: Sequence[str]) -> list[str]:
    """Those engines that are installed and work with this Python.

    Raises:
        MissingExtraError: none is; the first one's pip line is named.
    """
    reasons = missing(names)
    if len(reasons) == len(names):
        raise next(iter(reasons.values()))
    return [name for name in names if name not in reasons]


def missing(names: Sequence[str]) -> dict[str, MissingExtraError]:
    """Those engines that are not installed or do not work with this Python, and why."""
    reasons = {}
    for name in names:
        try:
            engine(name).version()
        except MissingExtraError as error:
            reasons[name] = error
    return reasons


@lru_cache(maxsize=1)  # reading the metadata of all distributions takes tens of milliseconds
def _entry_points() -> dict[str, EntryPoint]:
    points: Sequence[EntryPoint]
    if sys.version_info >= (3, 10):
        points = tuple(entry_points(group=ENTRY_POINT_GROUP))
    else:
        points = entry_points().get(ENTRY_POINT_GROUP, ())
    if not points:
        raise EngineError("no engines are registered", "install sen-edge-runtime again: pip install ./runtime")
    return {point.name: point for point in sorted(points, key=lambda point: point.name)}


def _load(point: EntryPoint) -> Engine:
    try:
        loaded = point.load()
        if isinstance(loaded, type):
            loaded = loaded()
    except Exception as error:  # code of a third party
        raise EngineError(f"engine {point.name!r} ({point.value}) does not load: {error}") from error
    if not isinstance(loaded, Engine):
        raise EngineError(
            f"engine {point.name!r} ({point.value}) is not an engine; expected the attributes suffix, is_threaded and "
            "is_on_demand, and the functions load and version"
        )
    return loaded


def _defect(name: str) -> str:
    try:
        engine(name)
    except EngineError as error:
        return error.message
    return ""
