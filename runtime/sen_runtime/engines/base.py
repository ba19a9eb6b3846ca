"""Engine: one frozen object, registered as an entry point."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sen_runtime.engines.session import Session


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
        is_on_demand: whether `bench` measures it only where `--engine` names it.
        package: distribution of its library; empty for none.
        pip_line: command that installs it; by default of `package`.
        extra: of sen-edge-runtime, that installs it; empty for none.
        machines: with wheels of the package, as `platform.machine()` calls them; empty for all.
        min_python: first Python with wheels of the package.
        export_options: options of its exporter, by name, that give the fastest file: the first that a network allows.
        fast_patterns: patterns of zeros that it multiplies faster than dense weights, as `sen-edge compress --pattern`
            calls them.
    """

    name: str
    suffixes: tuple[str, ...]
    load: Callable[..., Session]
    version: Callable[[], str]
    is_threaded: bool = False
    is_on_demand: bool = False
    package: str = ""
    pip_line: str = ""
    extra: str = ""
    machines: tuple[str, ...] = ()
    min_python: tuple[int, int] = (3, 9)
    export_options: tuple[Mapping[str, object], ...] = ({},)
    fast_patterns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.package and not self.pip_line:
            object.__setattr__(self, "pip_line", f"pip install {self.package}")
