"""`sen-edge demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sen_edge.cli import console

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DIMENSIONS = 8
BENCHMARK_SECONDS = 2.0
HEADINGS = ("artifact", "size", "max error / std", "accuracy (checkpoint)", "latency", "ratio")


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
    rows, artifacts = _export(model)
    console.note(f"3/3 measuring side by side for {BENCHMARK_SECONDS:g} s, one thread, one input at a time")
    latencies = _measure(artifacts, x)
    table = [(*row, *latencies[row[0]]) for row in rows]
    console.console(stderr=False).print(console.table(f"{model}: exported, verified, measured", HEADINGS, table))
    console.note(f"next: sen-edge inspect {model}")


def _train(model: Path, seed: int) -> NDArray[np.float32]:
    """Train and save; one input `[1, 64]` to measure with."""
    from dataclasses import replace

    from sen_edge.config import SpatialConfig
    from sen_edge.datasets import load
    from sen_edge.train import suggested_recipe, train

    digits = load("digits")
    recipe = replace(suggested_recipe(DIMENSIONS, digits), seed=seed)
    config = SpatialConfig((64, 128, 10), dimensions=DIMENSIONS, layer_spacing=0.1, steepness=1.0)
    model.parent.mkdir(parents=True, exist_ok=True)
    train(config, digits, recipe, out=model, replace=True)
    return digits.test_inputs[:1]


def _export(model: Path) -> tuple[list[tuple[str, ...]], list[Path]]:
    """Every target, dense and as coordinates: table rows and files."""
    from functools import partial

    from sen_edge.cli.verify import load_data
    from sen_edge.export import ExportRequest, export
    from sen_exporters.base import ExportOptions, exporter_names

    rows: list[tuple[str, ...]] = []
    paths: list[Path] = []
    for weights in ("dense", "coordinates"):
        options = ExportOptions(name=f"{model.stem}-{weights}")
        request = ExportRequest(exporter_names(), weights, options=options)
        result = export(model, model.parent, request, data=partial(load_data, "digits", None), force=True)
        for artifact in result.manifest["artifacts"]:
            figures = artifact["verification"]
            name, facts = next(iter(artifact["files"].items()))
            paths.append(model.parent / name)
            accuracy = f"{figures['data']['artifact']:.2f} % ({figures['data']['checkpoint']:.2f} %)"
            rows.append((name, console.size(facts["bytes"]), f"{figures['max_rel_error']:.2g}", accuracy))
    return rows, paths


def _measure(paths: list[Path], x: NDArray[np.float32]) -> dict[str, tuple[str, str]]:
    """Median latency of each file and its ratio to the first, in one interleaved run."""
    from functools import partial

    from sen_exporters.base import exporter_for
    from sen_runtime.bench.interleaved import interleaved
    from sen_runtime.engines import engine

    sessions = {path.name: engine(exporter_for(path.suffix).engine).load(path) for path in paths}
    measured = interleaved({name: partial(session.run, x) for name, session in sessions.items()}, BENCHMARK_SECONDS)
    baseline = paths[0].name
    return {name: (f"{measured.median_us(name):.4g} us", f"{measured.ratio(name, baseline):.2f}") for name in sessions}
