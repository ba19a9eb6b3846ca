"""Tables of docs/results/workloads.md from the rows of benchmarks/workloads.json."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

Row = dict[str, Any]

#: Unit of a metric and its number of digits after the point.
DIGITS = {"R2": 3, "reconstruction error": 3}
#: Column of each form, in order; its file and engine of the latency table.
ENGINES = (
    ("float32", "onnxruntime"),
    ("float32", "litert"),
    ("float32", "native"),
    ("int8", "litert"),
)


def tables(rows: Sequence[Row], order: Iterable[str], forms: Sequence[str], baseline: str) -> list[str]:
    """Return Markdown lines: scores, exports, latencies."""
    names = [name for name in order if any(row["workload"] == name for row in rows)]
    trained = [row for row in rows if "seed" in row]
    exported = {row["workload"]: row for row in rows if "exports" in row}
    shown = [name for name in names if name in exported]
    return [
        *_score_lines(trained, names, forms),
        "",
        *_export_lines(exported, shown, forms),
        "",
        *_latency_lines(exported, shown, forms, baseline),
    ]


def _score_lines(rows: Sequence[Row], names: Sequence[str], forms: Sequence[str]) -> list[str]:
    lines = [
        "| workload | network | layers | numbers | metric | mean (range) | seeds |",
        "| --- | --- | --- | ---: | --- | ---: | ---: |",
    ]
    for name in names:
        for form in forms:
            found = [row for row in rows if (row["workload"], row["form"]) == (name, form)]
            if not found:
                continue
            metric = found[0]["metric"]
            values = [row["scores"][metric] for row in found]
            layers = "-".join(map(str, _short(found[0]["layers"])))
            mean, low, high = (_text(metric, each) for each in (np.mean(values), min(values), max(values)))
            lines.append(
                f"| {name} | {form} | {layers} | {found[0]['numbers']:,} | {metric} | {mean} ({low} to {high}) "
                f"| {len(values)} |"
            )
    return lines


def _short(layers: Sequence[int]) -> Sequence[object]:
    return layers if len(layers) <= 5 else [*layers[:2], "...", min(layers), "...", layers[-1]]


def _text(metric: str, value: float | np.floating[Any]) -> str:
    return f"{value:.{DIGITS.get(metric, 1)}f}"


def _export_lines(exported: dict[str, Row], names: Sequence[str], forms: Sequence[str]) -> list[str]:
    """Format score and size of the files; of several engines, the score that is farthest from the model's."""
    lines = [
        "| workload | network | model | float32 files | int8 file | `.tflite`, bytes | int8 `.tflite`, bytes "
        "| `.sen` with coordinates, bytes |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in names:
        for form in forms:
            kinds = exported[name]["exports"].get(form)
            if kinds is None:
                continue
            model = kinds["float32"]["scores"]["model"]
            cells = [f"{model:.4g}", *(_farthest(kinds, kind, model) for kind in ("float32", "int8"))]
            sizes = [("float32", "tflite"), ("int8", "tflite"), ("coordinates", "sen")]
            cells += [f"{kinds[kind]['bytes'][target]:,}" if kinds.get(kind) else "-" for kind, target in sizes]
            lines.append(f"| {name} | {form} | {' | '.join(cells)} |")
    return lines


def _farthest(kinds: Row, kind: str, model: float) -> str:
    if not kinds.get(kind):
        return "refused" if kind in kinds else "-"
    others = [score for engine, score in kinds[kind]["scores"].items() if engine != "model"]
    return f"{max(others, key=lambda score: abs(score - model)):.4g}"


def _latency_lines(exported: dict[str, Row], names: Sequence[str], forms: Sequence[str], baseline: str) -> list[str]:
    titles = [engine if dtype == "float32" else f"{engine}, {dtype}" for dtype, engine in ENGINES]
    lines = [f"| workload | network | {' | '.join(titles)} |", f"| --- | --- |{' ---: |' * len(titles)}"]
    for name in names:
        found = {(form, engine): us for form, engine, us in exported[name]["latencies_us"]}
        unit = found[f"{baseline}, float32", "litert"]
        for form in forms:
            cells = [found.get((f"{form}, {dtype}", engine)) for dtype, engine in ENGINES]
            if any(cells):
                lines.append(
                    f"| {name} | {form} | {' | '.join('-' if us is None else f'{us / unit:.2f}' for us in cells)} |"
                )
    return lines
