"""Inference engines, found by entry points.

An engine is one `Engine` object, which its distribution registers under the entry-point group `sen_edge.engines`, as
runtime/pyproject.toml does for the built-in ones.
"""

from __future__ import annotations

import importlib
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from operator import index
from typing import Any

from sen_runtime.engines.profiling import LayerTime
from sen_runtime.engines.session import Model, Session
from sen_runtime.errors import EngineError, MissingExtraError

__all__ = [
    "ENTRY_POINT_GROUP",
    "MAX_THREADS",
    "Engine",
    "LayerTime",
    "Model",
    "Session",
    "check_threads",
    "engine",
    "installed",
    "library",
    "missing",
    "names",
    "names_for",
    "not_installed",
    "usable",
]

ENTRY_POINT_GROUP = "sen_edge.engines"
MAX_THREADS = 256


@dataclass(frozen=True)
class Engine:
    """An inference engine. Its library is imported by `load` and `version`, not before.

    Attributes:
        name: for `--engine`; the name of its entry point.
        suffixes: endings of the files it runs, such as ".onnx".
        load: `load(model, threads=1, *, allow_nonfinite=False)`, a session on the path or the bytes of a file; see
            `Session` about inputs that are not finite.
        version: version of its library; raises `MissingExtraError` where that is not installed.
        is_threaded: whether `threads` has an effect; otherwise `bench` measures it once.
        is_interpreter: whether it is the reference interpreter, which computes outputs, layers, batches and rows alike.
        is_on_demand: whether `bench` measures it only where `--engine` names it.
        package: distribution of its library; empty for none.
        pip_line: command that installs it; by default of `package`.
        extra: of sen-edge-runtime, that installs it; empty for none.
        machines: with wheels of the package, as `platform.machine()` calls them; empty for all.
        min_python: first Python with wheels of the package.
        export_options: options of its exporter, by name, that give the fastest file: the first that a network allows.
        fast_patterns: patterns of zeros that it multiplies faster than dense weights, as `sen-edge compress --pattern`
            calls them.
        profile: `profile(model, inputs, threads=1)`, the time of each layer in one inference of `inputs [n, ...]`,
            after a warm-up; None where the library has no profiler.
    """

    name: str
    suffixes: tuple[str, ...]
    load: Callable[..., Session]
    version: Callable[[], str]
    is_threaded: bool = False
    is_interpreter: bool = False
    is_on_demand: bool = False
    package: str = ""
    pip_line: str = ""
    extra: str = ""
    machines: tuple[str, ...] = ()
    min_python: tuple[int, int] = (3, 9)
    export_options: tuple[Mapping[str, object], ...] = ({},)
    fast_patterns: tuple[str, ...] = ()
    profile: Callable[..., list[LayerTime]] | None = None

    def __post_init__(self) -> None:
        if self.package and not self.pip_line:
            object.__setattr__(self, "pip_line", f"pip install {self.package}")


def check_threads(threads: object) -> int:
    """The number of threads of a session; an `EngineError` if it is none."""
    try:
        number = 0 if isinstance(threads, bool) else index(threads)  # type: ignore[arg-type]
    except TypeError:
        number = 0
    if not 1 <= number <= MAX_THREADS:
        raise EngineError(f"threads is {repr(threads)[:30]}; expected an integer from 1 to {MAX_THREADS}")
    return number


def names() -> tuple[str, ...]:
    """Names of all registered engines, with or without their libraries; an `EngineError` if none is registered."""
    return tuple(_entry_points())


def engine(name: str) -> Engine:
    """The engine called `name`; an `EngineError` if there is none, or it does not load."""
    point = _entry_points().get(name)
    if point is None:
        raise EngineError(f"no engine called {name!r}; expected one of {', '.join(names())}")
    try:
        loaded = point.load()
    except Exception as error:  # code of a third party
        raise EngineError(f"engine {name!r} ({point.value}) does not load: {error}") from error
    if not isinstance(loaded, Engine) or loaded.name != name:
        found = f"the engine {loaded.name!r}" if isinstance(loaded, Engine) else type(loaded).__name__
        raise EngineError(
            f"engine {name!r} ({point.value}) is {found}; expected a sen_runtime.engines.Engine of that name",
            "install the package that registers it again, if it was updated in place",
        )
    return loaded


def usable() -> dict[str, Engine]:
    """Engines that load, by name."""
    return _load_all()[0]


def _load_all() -> tuple[dict[str, Engine], list[str]]:
    """Engines that load, by name, and what is wrong with the others."""
    found, defects = {}, []
    for name in names():
        try:
            found[name] = engine(name)
        except EngineError as error:
            defects.append(error.message)
    return found, defects


def names_for(suffix: str) -> list[str]:
    """Names of the engines that run files with this ending, those on demand last.

    An `EngineError` names engines that do not load.
    """
    found, defects = _load_all()
    chosen = [name for name, each in found.items() if suffix in each.suffixes]
    chosen.sort(key=lambda name: found[name].is_on_demand)
    if chosen:
        return chosen
    expected = ", ".join(dict.fromkeys(suffix for each in found.values() for suffix in each.suffixes))
    reasons = "; ".join([expected, *defects])
    raise EngineError(f"no engine runs {suffix or 'a file without ending'}; expected {reasons}")


def installed(names: Sequence[str]) -> list[str]:
    """Those of `names` that are installed and work with this Python.

    If none is, raises a `MissingExtraError` with the pip line of the first.
    """
    reasons = missing(names)
    if len(reasons) == len(names):
        raise next(iter(reasons.values()))
    return [name for name in names if name not in reasons]


def missing(names: Sequence[str]) -> dict[str, MissingExtraError]:
    """Those of `names` that are not installed or do not work with this Python, with the error."""
    reasons = {}
    for name in names:
        try:
            engine(name).version()
        except MissingExtraError as error:
            reasons[name] = error
    return reasons


def not_installed(name: str) -> MissingExtraError:
    """Error of an engine whose package is not installed.

    Names the pip line; where there is no wheel for this machine, that of another engine for the same files.
    """
    wanted, machine = engine(name), platform.machine()
    alternatives = [wanted, *(each for each in usable().values() if set(each.suffixes) & set(wanted.suffixes))]
    fitting = [each for each in alternatives if each.package and machine in (each.machines or (machine,))]
    hint = f"there is no wheel for {machine}"
    if fitting:
        hint = fitting[0].pip_line if fitting[0] is wanted else f"{hint}: {fitting[0].pip_line}"
    return MissingExtraError(f"the engine {wanted.package}", hint)


def library(engine: str, module: str) -> Any:
    """The module of an engine's library; a `MissingExtraError` where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise not_installed(engine) from None


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
