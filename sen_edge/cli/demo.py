"""`sen-edge demo`."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

import sen_edge
from sen_edge.cli import console, options
from sen_edge.progress import Progress
from sen_runtime.figures import size
from sen_runtime.streams import suppress_announcements

DIMENSIONS = 8
BENCHMARK_SECONDS = 3.0
#: A file and the engine that runs it.
Row: TypeAlias = tuple[str, str]
HEADINGS = ("artifact", "engine", "size", "max error / std", "accuracy (model)", "latency", "ratio")


@options.command
def demo(
    *,
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="Folder for the files.")] = Path("out/demo"),
    seed: Annotated[int, typer.Option(help="Seed of the training.")] = 0,
) -> None:
    """Train a small network on the bundled digits, export it, verify, measure, and print a table.

    Targets are those that need no optional program: onnx, tflite, c and sen.
    Replaces existing files in the folder. Downloads nothing.
    """
    model = output_dir / "digits.pt"
    console.note("1/3 training a 64-128-10 network, d = 8, on scikit-learn's digits")
    output_dir.mkdir(parents=True, exist_ok=True)
    with console.progress() as progress:
        sen_edge.train("digits", model, hidden=[128], dims=DIMENSIONS, seed=seed, force=True, progress=progress)
    console.note("2/3 exporting and verifying")
    with console.progress() as progress, suppress_announcements():
        rows = _export(model, progress)
    console.note(f"3/3 measuring interleaved for {BENCHMARK_SECONDS:g} s, one thread, one input at a time")
    with suppress_announcements():
        latencies = _measure(output_dir, rows)
    table = [(Path(name).name, engine, *rows[name, engine], *latencies[name, engine]) for name, engine in rows]
    console.console(stderr=False).print(console.table(f"{model}: exported, verified, measured", HEADINGS, table))
    console.note(f"next: sen-edge inspect {model}")


def _export(model: Path, progress: Progress) -> dict[Row, tuple[str, ...]]:
    """Export to every usable target in all its forms; return figures by file and engine."""
    from sen_edge.report.tables import scores_text

    loaded, targets = sen_edge.load(model), _usable_targets()
    int8: dict[str, Any] = {"dtype": "int8", "calibration": "digits"}
    forms: tuple[tuple[str, set[str], dict[str, Any]], ...] = (
        ("dense", set(targets), {}),
        ("coordinates", set(targets) - {"tflite"}, {"weights": "coordinates"}),
        ("int8", {"tflite"}, int8),
        ("int8-dynamic", {"c"}, {**int8, "dtype": "int8-dynamic"}),
    )
    rows: dict[Row, tuple[str, ...]] = {}
    for number, (form, having, chosen) in enumerate(forms):
        progress(form, number / len(forms))
        to = [target for target in targets if target in having]
        if not to:
            continue
        name = f"{model.stem}-{form}"
        result = sen_edge.export(loaded, model.parent, to=to, name=name, data="digits", force=True, **chosen)
        for artifact in result.artifacts:
            footprint = artifact["footprint"] or {"flash": sum(file["bytes"] for file in artifact["files"].values())}
            for figures in artifact["verification"]:
                accuracy = scores_text(figures["data"])
                measured = (size(footprint["flash"]), f"{figures['max_rel_error']:.2g}", accuracy)
                rows[next(iter(artifact["files"])), figures["engine"].split()[0]] = measured
    return rows


def _usable_targets() -> list[str]:
    """Return the available targets, C last, because the first is the baseline of latencies.

    Without optional ones: the latency of a module in node includes the transfer to its process.
    """
    from sen_exporters.base import ExportError, usable_exporters
    from sen_runtime.engines import missing

    found = {
        name: each.message if isinstance(each, ExportError) else ""
        for name, each in usable_exporters().items()
        if not getattr(each, "is_optional", False)
    }
    if "c" in found and missing(("c",)):
        found["c"] = "no C compiler to verify it with"
    for name, reason in found.items():
        if reason:
            console.note(f"skipped: {name} ({reason})")
    return sorted((name for name, reason in found.items() if not reason), key=lambda name: name == "c")


def _measure(folder: Path, rows: Collection[Row]) -> dict[Row, tuple[str, str]]:
    """Measure the median latency of each file in each engine, and its ratio to the first, in one interleaved run."""
    from functools import partial

    from sen_edge.data.datasets import load
    from sen_runtime.bench.interleaved import interleaved
    from sen_runtime.engines import engine

    x = load("digits").test_inputs[:1]
    calls = {" ".join(row): partial(engine(row[1]).load(folder / row[0]).run, x) for row in rows}
    measured, baseline = interleaved(calls, BENCHMARK_SECONDS), next(iter(calls))
    return {
        row: (f"{measured.median_us(key):.4g} us", f"{measured.ratio(key, baseline):.2f}")
        for row, key in zip(rows, calls, strict=True)
    }
