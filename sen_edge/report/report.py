"""A report: its sections, and the file in one of the formats."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, TypeVar

import sen_edge
from sen_edge.errors import UsageError
from sen_edge.model import model as models
from sen_edge.model.statistics import summarize
from sen_edge.report import benchmarks, drawing, tables
from sen_edge.report.contents import Contents, Item
from sen_edge.report.document import UNKNOWN, WRONG, Heading, Note, Part, Table, Verbatim, to_lines, to_page
from sen_edge.report.drawing import Chart
from sen_edge.report.network.delays import delay_chart
from sen_edge.report.network.panels import default_panels, panel
from sen_edge.report.network.scene import load_positions, scene
from sen_runtime.errors import SenError
from sen_runtime.figures import size
from sen_runtime.untrusted import open_regular, printable

T = TypeVar("T")
#: Suffix of a file -> its format.
FORMATS = {".txt": "text", ".csv": "csv", ".md": "markdown", ".html": "html"} | {
    suffix: suffix[1:] for suffix in drawing.PICTURES
}
#: Neurons of a picture; the page of `sen-edge plot` shows more.
MAX_NEURONS = 1500
#: Bytes of a file that are hashed at once.
CHUNK = 1 << 20
EXPORTED = "Exported files, compared with their models in every engine"
#: Errors of reading a manifest that somebody has edited.
DAMAGE = (KeyError, TypeError, ValueError, AttributeError, IndexError, StopIteration, ZeroDivisionError)


def render(contents: Contents, format_name: str, note: Callable[[str], None]) -> bytes:
    """Write a report in a format of `FORMATS`; `note` receives names of damaged files and of parts that are left out.

    Raises:
        UsageError: the contents have nothing for this format.
        MissingExtraError: a picture without matplotlib.
    """
    notes: list[str] = []

    def say(line: str) -> None:
        notes.append(line)
        note(line)

    for line in contents.notes:
        say(line)
    title = f"Report: {', '.join(path.resolve().name for path in contents.paths)}"
    sections = {} if format_name == "csv" else _sections(contents, format_name, say)
    parts = [part for section in sections.values() for part in section]
    if format_name == "csv":
        records, histories = ({item.name: item.value for item in contents.of(kind)} for kind in ("record", "history"))
        shown = benchmarks.to_csv(records, histories)
    elif format_name == "html":
        parts = [Note(f"sen-edge {sen_edge.__version__}"), *([Note("! Left out", notes, "warn")] if notes else [])]
        for heading, section in sections.items():
            parts += [Heading(heading), *section] if section else []
        shown = to_page(title, parts, note)
    elif format_name in ("text", "markdown"):
        shown = to_lines(parts, is_markdown=format_name == "markdown")
    else:
        charts = [part for part in parts if isinstance(part, Chart)]
        if not charts:
            hint = "expected a record, a history, or a model with positions"
            raise UsageError("there is nothing to draw", hint=hint)
        return drawing.to_file(charts, title, "", f".{format_name}")
    return shown.encode(errors="replace")  # names of files may be no text


def _sections(contents: Contents, format_name: str, note: Callable[[str], None]) -> dict[str, list[Part]]:
    """Parts of each section by its heading: all, or as text and Markdown the tables without those of files."""
    exports, compressions = contents.of("export"), contents.of("compression")
    records, histories = contents.of("record"), contents.of("history")
    is_brief = format_name in ("text", "markdown")
    show_record, show_history = {
        "text": (benchmarks.record_text, benchmarks.history_brief),
        "markdown": (benchmarks.record_brief, benchmarks.history_brief),
    }.get(format_name, (benchmarks.record_parts, benchmarks.history_parts))
    if not is_brief:
        found = [replace(item, value=item.value.get("compression")) for item in exports]
        compressions += [item for item in found if isinstance(item.value, dict) and "before" in item.value]
    described = _each(exports, lambda item: [(_export_rows(item), _confusions(item))], note)
    rows = [row for each, _ in described for row in each]
    confusions = [] if is_brief else [table for _, matrices in described for table in matrices]
    sections: dict[str, list[Part]] = {
        "Models": _model_parts(contents.of("model"))[: 1 if is_brief else None],
        "Compression": _each(compressions, _compression_parts, note),
        "Exports and their verification": [*([Table.of(EXPORTED, rows)] if rows else []), *confusions],
        "Benchmarks": [] if is_brief else benchmarks.side_by_side({item.name: item.value for item in records}),
        "History": [],
        "Files": [] if is_brief or not any(path.is_dir() for path in contents.paths) else _file_parts(contents.items),
    }
    for heading, items, show in (("Benchmarks", records, show_record), ("History", histories, show_history)):
        for item in items:
            if not is_brief or len(contents.items) > 1:
                sections[heading].append(Heading(item.name, 2 if is_brief else 3))
            sections[heading] += show(item.value)
    return sections


def _each(items: Sequence[Item], make: Callable[[Item], list[T]], note: Callable[[str], None]) -> list[T]:
    """Apply `make` to each item; damaged ones are noted and left out."""
    made: list[T] = []
    for item in items:
        try:
            made += make(item)
        except DAMAGE as error:
            note(f"{item.name} is damaged, and left out: {type(error).__name__}: {printable(str(error), 200)}")
    return made


def _model_parts(items: Sequence[Item]) -> list[Part]:
    """All models in one table, then facts, layers and charts of each."""
    rows: list[dict[str, str]] = []
    parts: list[Part] = []
    for item in items:
        try:
            summary = summarize(models.load(item.path))
        except SenError as error:
            parts.append(Note(f"{item.name}: {error.message}"))
            continue
        rows.append(
            {
                "file": item.name,
                "kind": f"{summary.kind}, {'spiking' if summary.architecture == 'snn' else 'perceptron'}",
                "neurons": "-".join(map(str, summary.layer_sizes)),
                "d": UNKNOWN if summary.dimensions is None else str(summary.dimensions),
                "numbers": f"{summary.parameters:,}",
                "saved": f"{summary.saved:.1f} %",
                "MACs": f"{summary.macs:,}",
                "weights": size(summary.weight_bytes),
            }
        )
        facts = Table("Facts", ["name", "value"], tables.facts(summary), is_text=True)
        parts += [Heading(item.name, 3), *tables.layer_tables(summary), facts, *_network_charts(item)]
    return [*([Table.of("Models; saved: of a dense network's numbers", rows)] if rows else []), *parts]


def _network_charts(item: Item) -> list[Chart]:
    """The network in space, and histograms; for one without coordinates those of its delays, if any."""
    try:
        network = scene(load_positions(item.path), MAX_NEURONS, strongest=200)
    except SenError:
        delays = delay_chart(models.load(item.path).network)
        return [] if delays is None else [delays]
    return [panel(name, network) for name in default_panels(network) if name != "input-grid"]


def _compression_parts(item: Item) -> list[Part]:
    """Figures before and after a compression."""
    layers, warnings = item.value.get("layers"), [str(warning) for warning in item.value.get("warnings", [])]
    return [
        Heading(item.name, 3),
        tables.compression_table("Compression", item.value),
        *([tables.weights_table("Layers after compression", layers)] if layers else []),
        *([Note("", warnings)] if warnings else []),
    ]


def _main_name(artifact: Mapping[str, Any]) -> str:
    """Name of the file that engines load; a manifest sorts names. In a folder it has the name of the folder."""
    names = [PurePosixPath(name) for name in artifact["files"]]
    candidates = [name for name in names if name.suffix == f".{artifact['target']}"]
    named = [name for name in candidates if name.stem == name.parent.name]
    return str([*named, *candidates, *names][0])


def _export_rows(item: Item) -> list[dict[str, str]]:
    """Every file of an export with its verification in every engine."""
    rows: list[dict[str, str]] = []
    for artifact in item.value["artifacts"]:
        name, n_bytes = _main_name(artifact), sum(file["bytes"] for file in artifact["files"].values())
        for found in artifact["verification"]:
            decisions, data = found["decision_agreement"], found["data"]
            row = {
                "file": name,
                "model": str(item.value["input"]["file"]),
                "size": size(n_bytes),
                "engine": str(found["engine"]),
                "verified": "✓ agrees" if found["passed"] else f"{WRONG} differs",
                "max error / std": f"{found['max_rel_error']:.2g}",
                "equal decisions": UNKNOWN if decisions is None else f"{decisions:.2%}",
                "score (model)": UNKNOWN if data is None else tables.scores_text(data),
            }
            rows.append(row)
    return rows


def _confusions(item: Item) -> list[Table]:
    """Confusion matrix of every file of an export, in its first engine."""
    matrices = []
    for artifact in item.value["artifacts"]:
        name, found = _main_name(artifact), artifact["verification"][0]
        counts = None if found["data"] is None else found["data"].get("confusion")
        if counts:
            classes = item.value["network"].get("output_names") or range(len(counts))
            headings = [printable(str(each), 60) for each in classes]
            rows = [[heading, *map(str, row)] for heading, row in zip(headings, counts, strict=True)]
            caption = f"{name}: classes (rows) and decisions (columns), {found['data']['name']}"
            matrices.append(Table(caption, ["class", *headings], rows))
    return matrices


def _file_parts(items: Sequence[Item]) -> list[Part]:
    """Sizes and SHA-256 of all files, and the manifests."""
    rows = []
    for item in {item.path: item for item in items}.values():
        digest = hashlib.sha256()
        try:
            with open_regular(item.path) as file:
                while block := file.read(CHUNK):
                    digest.update(block)
            rows.append([item.path.name, item.kind, size(item.path.stat().st_size), digest.hexdigest()])
        except OSError as error:
            rows.append([item.path.name, item.kind, UNKNOWN, f"cannot be read: {error.strerror}"])
    manifests = [
        Verbatim(json.dumps(item.value, indent=2, sort_keys=True), item.name)
        for item in items
        if item.kind in ("export", "compression")
    ]
    return [Table("Files", ["file", "content", "size", "SHA-256"], rows, is_text=True), *manifests]
