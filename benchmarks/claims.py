"""Claims of the method on MNIST: tables and figures of docs/results/claims.md.

    python benchmarks/claims.py [--write] [--only SECTION]

Each study is a sweep, benchmarks/claims/NAME.toml, run by `sen-edge sweep` into out/claims/NAME. Finished trials are
kept, so a run resumes; remove the folder to repeat the measurement. Sizes and latencies are those of
`benchmarks/shipped.py --all`, measured in each run. `--write` writes tables and figures to docs/results.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from claims_figures import Curve, Dot, curves, front, pareto
from optuna.trial import FrozenTrial
from pages import write_section
from shipped import SHIPPED

from sen_edge.data.datasets import load
from sen_edge.errors import DataError
from sen_edge.sweep.journal import read_journal
from sen_runtime.bench import statistics

ROOT = Path(__file__).parents[1]
CONFIGURATIONS, OUT, RESULTS = ROOT / "benchmarks/claims", ROOT / "out/claims", ROOT / "docs/results"
PAGE = RESULTS / "claims.md"
SECONDS = 40.0
#: Lower limit of the figure of the dimensions.
MIN_ACCURACY = 88.0
#: Form with another network.
SPIKING = "spiking"


@dataclass(frozen=True)
class Point:
    """Point of a sweep with the results of each seed.

    Attributes:
        values: by key.
        validation, test: accuracies in percent.
        parameters: before compression.
        macs: mean.
        rate: peak learning rate.
        settings: of the training.
    """

    values: Mapping[str, str]
    validation: tuple[float, ...]
    test: tuple[float, ...]
    parameters: int
    macs: float
    rate: float
    settings: Mapping[str, Any]

    @property
    def mean(self) -> float:
        """Mean test accuracy."""
        return float(np.mean(self.test))


@dataclass(frozen=True)
class Section:
    """Section of the page: Markdown lines, figures by file name."""

    lines: list[str]
    figures: Mapping[str, bytes] = field(default_factory=dict)


def run(*command: str) -> None:
    """Run a command in the root of the repository, where MNIST is searched; exit if it fails."""
    print("$", *command, file=sys.stderr, flush=True)
    if subprocess.run([sys.executable, *command], check=False, cwd=ROOT, stdout=subprocess.DEVNULL).returncode:
        raise SystemExit(f"failed: {' '.join(command)}")


def command_of(study: str) -> list[str]:
    """Return the arguments that run a study."""
    return ["sweep", f"benchmarks/claims/{study}.toml", "-o", f"out/claims/{study}"]


def rows_of(study: str) -> list[dict[str, str]]:
    """Read one row per trial of a completed study."""
    with (OUT / study / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def trials_of(study: str) -> dict[str, FrozenTrial]:
    """Read the trials of a completed study, by the names in its rows."""
    return read_journal(OUT / study / "journal.log").trials


def run_study(study: str) -> list[Point]:
    """Run a study; return its points in the order of the grid."""
    run("-m", "sen_edge", *command_of(study))
    points: dict[str, list[dict[str, str]]] = {}
    for row in rows_of(study):
        if row["error"]:
            raise SystemExit(f"{study}: a trial failed: {row['error']}")
        points.setdefault(row["point"], []).append(row)
    trials = trials_of(study)
    return [
        Point(
            {name.partition(".")[2]: value for name, value in rows[0].items() if "." in name},
            tuple(float(row["validation_accuracy"]) for row in rows),
            tuple(float(row["test_accuracy"]) for row in rows),
            int(rows[0]["parameters"]),
            float(np.mean([float(row["macs"]) for row in rows])),
            float(rows[0]["learning_rate"]),
            trials[rows[0]["trial"]].user_attrs["settings"]["training"],
        )
        for rows in points.values()
    ]


def stamp(*studies: str) -> str:
    """Describe commands, versions, date and time of a table."""
    trials = [trials[row["trial"]] for study in studies for trials in [trials_of(study)] for row in rows_of(study)]
    records = [trial.user_attrs for trial in trials]
    versions = sorted({f"sen-edge {record['sen_edge']}, torch {record['torch']}" for record in records})
    date = max(trial.datetime_complete for trial in trials if trial.datetime_complete is not None)
    hours = sum(record["seconds"] for record in records) / 3600
    commands = "; ".join(f"`sen-edge {' '.join(command_of(study))}`" for study in studies)
    return f"{commands}: {'; '.join(versions)}; {date:%Y-%m-%d}; {hours:.1f} hours on one core."


def spread(values: Sequence[float]) -> str:
    """Format mean and range."""
    return f"{np.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def form(point: Point) -> str:
    """Describe a spatially embedded network."""
    exponent = float(point.values.get("exponent", 1))
    return f"SEN, d = {point.values['dims']}" + ("" if exponent == 1 else f", exponent {exponent:g} (extension)")


def compare_conventional(conventional: str, *spatial: str) -> Section:
    """Compare spatially embedded networks with the conventional one of the same layers."""
    (baseline,), points = run_study(conventional), [point for study in spatial for point in run_study(study)]
    lines = [
        stamp(conventional, *spatial),
        "",
        "| network | learning rate | parameters | fewer | validation, mean | test, mean (range) | behind |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        f"| fully connected | {baseline.rate:g} | {baseline.parameters:,} | | {np.mean(baseline.validation):.2f} | "
        f"{spread(baseline.test)} | |",
    ]
    for point in points:
        fewer = 1 - point.parameters / baseline.parameters
        lines.append(
            f"| {form(point)} | {point.rate:g} | {point.parameters:,} | {100 * fewer:.1f} % | "
            f"{np.mean(point.validation):.2f} | {spread(point.test)} | {baseline.mean - point.mean:.2f} |"
        )
    for name, among in (
        ("the paper's exponent", [each for each in points if float(each.values["exponent"]) == 1]),
        ("any exponent", points),
    ):
        best = max(among, key=lambda each: float(np.mean(each.validation)))
        fewer, behind = 1 - best.parameters / baseline.parameters, baseline.mean - best.mean
        lines += [
            "",
            f"With {name}, best by validation: {form(best)}, {100 * fewer:.1f} % fewer parameters, {behind:.2f} points "
            "behind.",
        ]
    return Section(lines)


def dimensions() -> Section:
    """Accuracy by number of dimensions and layer axis."""
    by_axis: dict[str, list[Point]] = {}
    studies = {"the paper's exponent": "dimensions", "exponent 6": "dimensions-exponent"}
    for name, study in studies.items():
        for point in run_study(study):
            by_axis.setdefault(f"{point.values['layer_axis']} axis, {name}", []).append(point)
    dims = sorted({int(point.values["dims"]) for points in by_axis.values() for point in points})
    lines = [stamp(*studies.values()), "", "| d | " + " | ".join(f"parameters | {name}" for name in by_axis) + " |"]
    lines.append("| ---: |" + " ---: | ---: |" * len(by_axis))
    for d in dims:
        found = [next((each for each in points if int(each.values["dims"]) == d), None) for points in by_axis.values()]
        cells = [" | " if each is None else f"{each.parameters:,} | {spread(each.test)}" for each in found]
        lines.append(f"| {d} | " + " | ".join(cells) + " |")
    drawn = [
        Curve(name, [int(each.values["dims"]) for each in points], [each.test for each in points])
        for name, points in by_axis.items()
    ]
    figure = curves(
        drawn, "dimensions d, including the layer axis", "test accuracy, %", ticks=dims, bottom=MIN_ACCURACY
    )
    return Section(lines, {"dimensions.svg": figure})


def three_dimensions() -> Section:
    """Three dimensions, without and with learned gain and bias."""
    studies = ("three-dimensions-plain", "three-dimensions", "three-dimensions-near")
    points = [point for study in studies for point in run_study(study)]
    lines = [
        stamp(*studies),
        "",
        "| gain, bias | layer spacing | initial range | parameters | validation | test, mean (range) |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for point in points:
        settings = point.settings
        lines.append(
            f"| {'learned' if settings['gain'] else 'none'} | {settings['layer_spacing']:g} | "
            f"{settings['position_scale']:g} | {point.parameters:,} | {np.mean(point.validation):.2f} | "
            f"{spread(point.test)} |"
        )
    return Section(lines)


def pruning() -> Section:
    """Accuracy by sparsity of spatially embedded and conventional networks."""
    spatial = {"SEN": "pruning-paper", "SEN, exponent 6 (extension)": "pruning"}
    conventional = {
        "fully connected, same layers": "pruning-conventional",
        "fully connected, equal parameters before pruning": "pruning-small",
    }
    studies = spatial | conventional
    points = {name: run_study(study) for name, study in studies.items()}
    sparsities = [float(point.values["sparsity"]) for point in points["SEN"]]
    lines = [
        stamp(*studies.values()),
        "",
        "| sparsity | " + " | ".join(f"{name} | weights" for name in studies) + " |",
        "| ---: |" + " ---: | ---: |" * len(studies),
    ]
    for sparsity, *each in zip(sparsities, *points.values(), strict=True):
        cells = [f"{spread(point.test)} | {point.macs:,.0f}" for point in each]
        lines.append(f"| {100 * sparsity:.0f} % | " + " | ".join(cells) + " |")
    numbers = [f"{name}: {each[0].parameters:,}" for name, each in points.items()]
    lines += ["", f"Parameters before pruning: {'; '.join(numbers)}."]
    drawn = [
        Curve(name, [100 * each for each in sparsities], [p.test for p in found]) for name, found in points.items()
    ]
    large, small = (points[name] for name in conventional)
    lines += [
        "",
        "| network | sparsity | loss | ahead of equal parameters | ahead of the same layers |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name in spatial:
        for sparsity, point, same, few in zip(sparsities, points[name], large, small, strict=True):
            lines.append(
                f"| {name} | {100 * sparsity:.0f} % | {points[name][0].mean - point.mean:.2f} | "
                f"{point.mean - few.mean:+.2f} | {point.mean - same.mean:+.2f} |"
            )
    return Section(lines, {"pruning.svg": curves(drawn, "zero weights, %", "test accuracy, %")})


def size_and_speed() -> Section:
    """Bytes, accuracy and latency of exports."""
    run("benchmarks/shipped.py", "--all", "--allow-throttled", "--seconds", f"{SECONDS:g}")
    record = json.loads((SHIPPED / "record.json").read_text())
    loads = record["settings"]["loads"]
    first = {row["engine"]: row for row in record["rows"] if row["file"].startswith("dense.")}
    tool, device = record["tool"], record["device"]
    engines = ", ".join(f"{name} {row['engine_version']}" for name, row in first.items())
    lines = [
        f"`python benchmarks/shipped.py --all --seconds {SECONDS:g}`: {tool['name']} {tool['version']}, {engines}; "
        f"{device['cpu']}; {record['created'][:10]}; one interleaved run, "
        f"load average {device['before']['load']:.1f}."
        + "".join(f" Invalid: {reason}." for reason in record["invalid_because"]),
        "",
        "| form | engine | bytes | accuracy | latency, us | relative to dense in the same engine, 95 % interval |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    dots = []
    for row in record["rows"]:
        name, us = row["file"].rpartition(".")[0], row["latency_us"]["median"]
        versus = ""
        if name not in ("dense", SPIKING):  # another network
            ratio = statistics.ratio(np.array(row["turns_us"]), np.array(first[row["engine"]]["turns_us"]), loads)
            versus = f"{ratio['median']:.3g} ({ratio['low']:.3g} to {ratio['high']:.3g})"
        dots.append(Dot(name, row["engine"], us, row["accuracy_percent"], row["bytes"]))
        lines.append(
            f"| {name} | {row['engine']} | {row['bytes']:,} | {row['accuracy_percent']:.2f} % | {us:.3g} | {versus} |"
        )
    best = [f"{dot.form} in {dot.engine}" for dot in sorted(front(dots), key=lambda dot: dot.us)]
    lines += ["", f"Pareto-optimal in accuracy, bytes and latency: {', '.join(best)}."]
    return Section(lines, {"pareto.svg": pareto(dots)})


SECTIONS = {
    "perceptrons": lambda: compare_conventional("conventional", "spatial-paper", "spatial"),
    "spiking": lambda: compare_conventional("spiking-conventional", "spiking-paper", "spiking"),
    "dimensions": dimensions,
    "three-dimensions": three_dimensions,
    "pruning": pruning,
    "size-and-speed": size_and_speed,
}


def main(arguments: list[str]) -> None:
    """Run incomplete studies, print, and write the page with `--write`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the page and its figures")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="one section; repeatable")
    options = parser.parse_args(arguments)
    try:
        load("mnist")
    except DataError as error:
        raise SystemExit(f"{error.message}\n{error.hint}") from None
    for name in options.only or SECTIONS:
        section = SECTIONS[name]()
        print("\n".join([f"## {name}", "", *section.lines, ""]), flush=True)
        if options.write:
            for file, content in section.figures.items():
                (RESULTS / file).write_bytes(content)
            write_section(PAGE, section.lines, name)


if __name__ == "__main__":
    main(sys.argv[1:])
