"""`sen-edge doctor`."""

from __future__ import annotations

import importlib
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

import sen_edge
from sen_edge.cli import console
from sen_runtime.errors import EXIT_MISSING, MissingExtraError, SenError
from sen_runtime.streams import suppress_announcements
from sen_runtime.untrusted import quote

#: Purpose of each package; engines define their own.
PACKAGES = {
    "torch": "reading checkpoints, training",
    "onnx": "export to ONNX",
    "ai-edge-litert": "export to TFLite",
    "safetensors": ".safetensors checkpoints",
    "scikit-learn": "the bundled digits data",
}
#: Extras: purpose, and modules by package.
EXTRAS = {
    "hub": ("models of the Hugging Face Hub", {"huggingface_hub": "huggingface_hub"}),
    "nir": ("export to NIR, and .nir files as models", {"nir": "nir", "h5py": "h5py"}),
    "plot": ("figures of networks and benchmarks", {"matplotlib": "matplotlib.figure"}),
    "sweep": ("sweeps", {"dask": "dask", "distributed": "distributed", "optuna": "optuna", "pyarrow": "pyarrow"}),
}


@dataclass(frozen=True)
class Finding:
    """Result of one check of a package, extra, engine or exporter.

    `detail` is a version or the error, `remedy` the pip line; all else works without an optional one.
    """

    name: str
    works: bool
    detail: str
    remedy: str = ""
    is_optional: bool = False

    @property
    def state(self) -> str:
        """Return the result as one word."""
        return "ok" if self.works else "not there" if self.is_optional else "MISSING"


def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON on stdout.")] = False,
) -> None:
    """Check engines and extras on this machine, and print the pip command for those that do not work.

    Installs nothing. Exit code 4 if something is missing or broken; extras and the target wasm are optional.
    """
    from sen_exporters.base import exporter_names

    with suppress_announcements():
        findings = [*map(_package, PACKAGES), *map(_extra, EXTRAS), *_engines(), *map(_target, exporter_names())]
    if as_json:
        console.print_json([asdict(finding) for finding in findings])
    else:
        title = f"sen-edge {sen_edge.__version__}, Python {platform.python_version()}, {platform.platform()}"
        rows = [(f.name, f.state, f.detail, f.remedy) for f in findings]
        console.console(stderr=False).print(console.table(title, ("what", "state", "detail", "to mend"), rows))
    if not all(finding.works or finding.is_optional for finding in findings):
        raise typer.Exit(EXIT_MISSING)


def _package(name: str) -> Finding:
    try:
        return Finding(name, works=True, detail=f"{version(name)}: {PACKAGES[name]}")
    except PackageNotFoundError:
        return Finding(name, works=False, detail=f"not installed: {PACKAGES[name]}", remedy=f"pip install {name}")


def _extra(name: str) -> Finding:
    """Check an extra by importing its packages."""
    purpose, modules = EXTRAS[name]
    found, lacking = [], []
    for package, module in modules.items():
        try:
            importlib.import_module(module)
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:  # imported from a folder without metadata
            found.append(package)
        except Exception as error:  # a broken package may raise anything
            lacking.append(f"{package} ({type(error).__name__}: {quote(str(error))})")
    remedy = f"pip install 'sen-edge[{name}]'" if lacking else ""
    detail = f"{', '.join(found)}: {purpose}" if not lacking else f"{purpose} need {', '.join(lacking)}"
    return Finding(f"extra {name}", not lacking, detail, remedy, is_optional=True)


def _engines() -> list[Finding]:
    """Check engines that require a package; optional if of an extra, or if another engine runs the same files."""
    from sen_runtime.engines import missing, usable

    engines = usable()
    absent = missing(tuple(engines))
    runnable = {suffix for name, each in engines.items() if name not in absent for suffix in each.suffixes}
    findings = []
    for name, each in engines.items():
        files, error = ", ".join(each.suffixes), absent.get(name)
        detail = f"{each.package} {each.version()}: runs {files}" if error is None else error.message
        remedy = "" if error is None else error.hint
        if each.package:
            findings.append(
                Finding(
                    f"engine {name}",
                    error is None,
                    detail,
                    remedy,
                    is_optional=name in EXTRAS or runnable.issuperset(each.suffixes),
                )
            )
    return findings


def _target(name: str) -> Finding:
    """Check the engines of a target on a network of two neurons."""
    from sen_exporters.base import exporter

    try:
        return Finding(f"target {name}", works=True, detail=_export_and_run(name))
    except SenError as error:
        is_optional = isinstance(error, MissingExtraError) and getattr(exporter(name), "is_optional", False)
        return Finding(f"target {name}", works=False, detail=error.message, remedy=error.hint, is_optional=is_optional)
    except ImportError as error:
        return Finding(f"target {name}", works=False, detail=str(error), remedy=f"pip install {error.name}")


def _export_and_run(target: str) -> str:
    import numpy as np

    from sen_exporters.base import exporter as load_exporter
    from sen_runtime.engines import engine, installed, missing
    from sen_runtime.errors import EngineError
    from sen_runtime.ir.layer import Layer
    from sen_runtime.ir.network import Network
    from sen_runtime.ir.neurons import Identity
    from sen_runtime.ir.operators import Dense

    exporter = load_exporter(target)
    weight = np.array([[1, 2], [3, 4]], np.float32)
    artifact = exporter.export(Network((Layer(Dense(weight), None, Identity()),)), exporter.Options())
    x = np.array([[1, 10]], np.float32)
    works, engines = [], exporter.engines(artifact.main)
    with TemporaryDirectory() as folder:
        path = artifact.write(Path(folder))
        for name in installed(engines):
            y = engine(name).load(path).run(x)
            if not np.array_equal(y, x @ weight.T):
                raise EngineError(f"{name} computes a wrong product", hint="reinstall the engine")
            works.append(f"{name} {engine(name).version()}")
    absent = "".join(f"; {name}: {error.hint}" for name, error in missing(engines).items())
    return f"{', '.join(works)} {'run' if len(works) > 1 else 'runs'} a model{absent}"
