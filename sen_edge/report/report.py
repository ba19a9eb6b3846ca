"""A report: its sections, and the file in one of the formats."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import TypeVar

import sen_edge
from sen_edge.errors import UsageError
from sen_edge.model import model as models
from sen_edge.model.statistics import summarize
from sen_edge.report import benchmarks, drawing, tables
from sen_edge.report.contents import Contents, Item
from sen_edge.report.document import UNKNOWN, WRONG, Heading, Note, Part, Table, Verbatim, to_lines, to_page
from sen_edge.report.drawing import Chart
from sen_edge.report.network.panels import default_panels, panel
from sen_edge.report.network.scene import load_positions, scene
from sen_runtime.bench import text
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
#: Errors of reading a manifest that somebody has edited.
DAMAGE = (KeyError, TypeError, ValueError, AttributeError, IndexError, StopIteration, ZeroDivisionError)


def render(contents: Contents, format_name: str, note: Callable[[str], None]) -> bytes:
    """Write a report.

    Args:
        contents: contents of the sources.
        format_name: one of the values of `FORMATS`.
        note: receives the names of damaged files and of parts that are left out.

    Raises:
        UsageError: the contents have nothing for this format.
        MissingExtraError: a picture without matplotlib.
    """
    for line in contents.notes:
        note(line)
    if format_name in ("text", "markdown"):
        is_markdown = format_name == "markdown"
        shown = to_lines(_brief_parts(contents, note, is_markdown=is_markdown), is_markdown=is_markdown)
    elif format_name == "csv":
        shown = _csv(contents)
    else:
        title = f"Report: {', '.join(path.resolve().name for path in contents.paths)}"
        parts = _page_parts(contents, note)
        if format_name != "html":
            charts = [part for part in parts if isinstance(part, Chart)]
            if not charts:
                hint = "expected a record, a history, or a model with positions"
                raise UsageError("there is nothing to draw", hint=hint)
            return drawing.to_file(charts, title, "", f".{format_name}")
        shown = to_page(title, parts, note)
    return shown.encode(errors="replace")  # names of files may be no text


def _csv(contents: Contents) -> str:
    if found := contents.of("record"):
        return benchmarks.csv_of_records({item.name: item.value for item in found})
    if found := contents.of("history"):
        return benchmarks.csv_of_histories({item.name: item.value for item in found})
    raise UsageError("there is no record to write as CSV", hint="expected a record, a history, or another format")


def _brief_parts(contents: Contents, note: Callable[[str], None], *, is_markdown: bool) -> list[Part]:
    """The tables without files and charts; a record as text is the table of the device."""
    parts = _model_parts(contents.of("model"))[:1]
    parts += _each(contents.of("compression"), _compression_parts, note)
    parts += _export_parts(contents.of("export"), note)
    for item in (*contents.of("record"), *contents.of("history")):
        parts += [Heading(item.name)] if len(contents.items) > 1 else []
        if item.kind == "history":
            parts += benchmarks.history_brief(item.value)
        elif is_markdown:
            parts += benchmarks.record_brief(item.value)
        else:
            parts.append(Verbatim(text.table(item.value).rstrip()))
    return parts


def _page_parts(contents: Contents, note: Callable[[str], None]) -> list[Part]:
    """All sections of a page, which starts with the notes; `note` receives the names of damaged files as well."""
    notes = list(contents.notes)

    def say(line: str) -> None:
        notes.append(line)
        note(line)

    compressions = contents.of("compression")
    for item in contents.of("export"):
        value = item.value.get("compression")
        if isinstance(value, dict) and "before" in value:
            compressions.append(Item(item.name, item.path, "compression", value))
    records = {item.name: item.value for item in contents.of("record")}
    histories = {item.name: item.value for item in contents.of("history")}
    sections = {
        "Models": _model_parts(contents.of("model")),
        "Compression": _each(compressions, _compression_parts, say),
        "Exports and their verification": _export_parts(contents.of("export"), say),
        "Benchmarks": benchmarks.side_by_side(records) if len(records) > 1 else [],
        "History": [],
        "Files": _file_parts(contents.items) if any(path.is_dir() for path in contents.paths) else [],
    }
    for name, record in records.items():
        sections["Benchmarks"] += [Heading(name, 3), *benchmarks.record_parts(record)]
    for name, history in histories.items():
        sections["History"] += [Heading(name, 3), *benchmarks.history_parts(history)]
    parts: list[Part] = [Note(f"sen-edge {sen_edge.__version__}")]
    parts += [Note("! Left out", notes, "warn")] if notes else []
    for heading, section in sections.items():
        parts += [Heading(heading), *section] if section else []
    return parts


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
    rows: list[list[str]] = []
    parts: list[Part] = []
    for item in items:
        try:
            summary = summarize(models.load(item.path))
        except SenError as error:
            parts.append(Note(f"{item.name}: {error.message}"))
            continue
        rows.append(
            [
                item.name,
                f"{summary.kind}, {'spiking' if summary.architecture == 'snn' else 'perceptron'}",
                "-".join(map(str, summary.layer_sizes)),
                UNKNOWN if summary.dimensions is None else str(summary.dimensions),
                f"{summary.parameters:,}",
                f"{summary.saved:.1f} %",
                f"{summary.macs:,}",
                size(summary.weight_bytes),
            ]
        )
        facts = Table("Facts", ["name", "value"], tables.facts(summary), is_text=True)
        parts += [Heading(item.name, 3), *tables.layer_tables(summary), facts, *_network_charts(item)]
    headings = ["file", "kind", "neurons", "d", "numbers", "saved", "MACs", "weights"]
    overview: list[Part] = [Table("Models; saved: of a dense network's numbers", headings, rows)] if rows else []
    return [*overview, *parts]


def _network_charts(item: Item) -> list[Chart]:
    """The network in space, and histograms; nothing for one without coordinates."""
    try:
        network = scene(load_positions(item.path), MAX_NEURONS, strongest=200)
    except SenError:
        return []
    return [panel(name, network) for name in default_panels(network) if name != "input-grid"]


def _compression_parts(item: Item) -> list[Part]:
    """Figures before and after a compression."""
    warnings = [str(warning) for warning in item.value.get("warnings", [])]
    return [
        Heading(item.name, 3),
        tables.compression_table("Compression", item.value),
        tables.weights_table("Layers after compression", item.value.get("layers", [])),
        *([Note("", warnings)] if warnings else []),
    ]


def _export_parts(items: Sequence[Item], note: Callable[[str], None]) -> list[Part]:
    """Every file of every export with its verification in every engine."""
    rows = _each(items, _export_rows, note)
    headings = ["file", "model", "size", "engine", "verified", "max error / std", "same argmax", "accuracy (model)"]
    return [Table("Exported files, compared with their models in every engine", headings, rows)] if rows else []


def _export_rows(item: Item) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = []
    for artifact in item.value["artifacts"]:
        name, facts = next(iter(artifact["files"].items()))
        for found in artifact["verification"]:
            data = found["data"]
            rows.append(
                [
                    name,
                    str(item.value["input"]["file"]),
                    size(facts["bytes"]),
                    str(found["engine"]),
                    "✓ agrees" if found["passed"] else f"{WRONG} differs",
                    f"{found['max_rel_error']:.2g}",
                    f"{found['argmax_agreement']:.2%}",
                    UNKNOWN if data is None else f"{data['artifact']:.2f} % ({data['model']:.2f} %)",
                ]
            )
    return rows


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
