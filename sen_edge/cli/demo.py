"""`sen-edge demo`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from sen_edge.cli import console
from sen_runtime.figures import size
from sen_runtime.quiet import suppress_announcements

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DIMENSIONS = 8
BENCHMARK_SECONDS = 3.0
#: A file and the engine that runs it.
Row: TypeAlias = tuple[str, str]
HEADINGS = ("artifact", "engine", "size", "max error / std", "accuracy (model)", "latency", "ratio")


def demo(
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="Folder for the files.")] = Path("out/demo"),
    *,
    seed: Annotated[int, typer.Option(help="Seed of the training.")] = 0,
) -> None:
    """Train a small network on the bundled digits, export every target, verify, measure, print the table.

    Existing files in the folder are replaced. Nothing is downloaded.
    """
    model = output_dir / "digits.pt"
    console.note("1/3 training a 64-128-10 network, d = 8, on scikit-learn's digits")
    x = _train(model, seed)
    console.note("2/3 exporting and verifying every target")
    with suppress_announcements():
        rows = _export(model)
    console.note(f"3/3 measuring side by side for {BENCHMARK_SECONDS:g} s, one thread, one input at a time")
    with suppress_announcements():
        latencies = _measure(output_dir, rows, x)
    table = [(Path(name).name, engine, *rows[name, engine], *latencies[name, engine]) for name, engine in rows]
    console.console(stderr=False).print(console.table(f"{model}: exported, verified, measured", HEADINGS, table))
    console.note(f"next: sen-edge inspect {model}")


def _train(model: Path, seed: int) -> NDArray[np.float32]:
    """Train and save; one input `[1, 64]` to measure with."""
    from sen_edge.data.datasets import load
    from sen_edge.model.config import SpatialConfig
    from sen_edge.training.loop import suggested_recipe
    from sen_edge.training.train import train

    digits = load("digits")
    recipe = replace(suggested_recipe(DIMENSIONS, digits), seed=seed)
    config = SpatialConfig((64, 128, 10), dimensions=DIMENSIONS, layer_spacing=0.1, steepness=1.0)
    model.parent.mkdir(parents=True, exist_ok=True)
    train(config, digits, recipe, out=model, replace=True)
    return digits.test_inputs[:1]


def _export(model: Path) -> dict[Row, tuple[str, ...]]:
    """Every target, in float32, as coordinates where it has them, and in int8: figures of each file and engine."""
    from sen_edge.exporting.pipeline import export
    from sen_edge.exporting.request import ExportRequest
    from sen_edge.model.model import load
    from sen_exporters.base import ExportError, usable_exporters
    from sen_runtime.engines import missing

    rows: dict[Row, tuple[str, ...]] = {}
    found = usable_exporters()
    for name, candidate in found.items():
        if isinstance(candidate, ExportError):
            console.note(f"left out: {name} ({candidate.message})")
    usable = [name for name, candidate in found.items() if not isinstance(candidate, ExportError)]
    usable.sort(key=lambda name: name == "c")  # the first is what the others are compared with
    if "c" in usable and missing(("c",)):
        console.note("left out: c (there is no C compiler to verify it with)")
        usable.remove("c")
    loaded = load(model)
    kinds: tuple[tuple[str, list[str], dict[str, Any]], ...] = (
        ("dense", usable, {}),
        ("coordinates", [name for name in usable if name != "tflite"], {"weights": "coordinates"}),
        ("int8", [name for name in usable if name == "tflite"], {"dtype": "int8", "calibration": "digits"}),
        (
            "int8-dynamic",
            [name for name in usable if name == "c"],
            {"dtype": "int8-dynamic", "calibration": "digits"},
        ),
    )
    for kind, targets, options in kinds:
        if not targets:
            continue
        request = ExportRequest(to=tuple(targets), name=f"{model.stem}-{kind}", data="digits", force=True, **options)
        result = export(loaded, model.parent, request)
        for artifact in result.artifacts:
            name = next(iter(artifact["files"]))
            nbytes = sum(file["bytes"] for file in artifact["files"].values())
            if artifact["footprint"] is not None:
                nbytes = artifact["footprint"]["flash"]
            for figures in artifact["verification"]:
                accuracy = f"{figures['data']['artifact']:.2f} % ({figures['data']['model']:.2f} %)"
                measured = (size(nbytes), f"{figures['max_rel_error']:.2g}", accuracy)
                rows[name, figures["engine"].split()[0]] = measured
    return rows


def _measure(folder: Path, rows: Iterable[Row], x: NDArray[np.float32]) -> dict[Row, tuple[str, str]]:
    """Median latency of each file in each engine and its ratio to the first, in one interleaved run."""
    from functools import partial

    from sen_runtime.bench.interleaved import interleaved
    from sen_runtime.engines import engine

    names = {f"{name} {engine_name}": (name, engine_name) for name, engine_name in rows}
    sessions = {key: engine(engine_name).load(folder / name) for key, (name, engine_name) in names.items()}
    measured = interleaved({key: partial(session.run, x) for key, session in sessions.items()}, BENCHMARK_SECONDS)
    baseline = next(iter(names))
    return {
        row: (f"{measured.median_us(key):.4g} us", f"{measured.ratio(key, baseline):.2f}") for key, row in names.items()
    }
