"""The page: one file that opens without a network, prints, and can be read aloud. All that is shown is escaped."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import sen_edge
from sen_edge.model import model as models
from sen_edge.model.statistics import Summary, summarize
from sen_edge.report import records as html
from sen_edge.report.contents import Contents, Kind
from sen_edge.report.plot.figures import Panel, sheet
from sen_edge.report.plot.page import layer_names
from sen_edge.report.plot.panels import is_pruned
from sen_edge.report.plot.scene import Scene, scene
from sen_edge.report.plot.source import load as load_source
from sen_edge.report.plot.still import still
from sen_edge.report.plot.synapses import Choice, Drawn, chosen_synapses
from sen_runtime.errors import MissingExtraError, SenError
from sen_runtime.figures import size
from sen_runtime.untrusted import open_regular, printable

UNKNOWN = html.UNKNOWN
#: Neurons of a picture; the page that `sen-edge plot` writes shows more, and turns.
MOST_NEURONS = 1500
#: A page takes no more; what does not fit is named.
MOST_BYTES = 5_000_000
#: What a file of ours that somebody has changed makes of being read.
DAMAGE = (KeyError, TypeError, ValueError, AttributeError, IndexError, StopIteration, ZeroDivisionError)
CHUNK = 1 << 20

#: Told what is not on the page, and why.
Note = Callable[[str], None]


class _Room:
    """How much more fits on the page."""

    def __init__(self, note: Note) -> None:
        self.note, self.left = note, MOST_BYTES - len(html.page("", [], _style()))

    def take(self, name: str, make: Callable[[], list[str]]) -> list[str]:
        """The parts about a file; none where the file is damaged or they do not fit, which is said."""
        try:
            parts = make()
        except DAMAGE as error:
            self.note(f"{name} is damaged, and left out: {type(error).__name__}: {printable(str(error), 200)}")
            return []
        needed = sum(len(part.encode(errors="replace")) + 1 for part in parts)
        if needed > self.left:
            self.note(f"{name} is left out of a section: a page takes at most {MOST_BYTES / 1e6:g} MB")
            return []
        self.left -= needed
        return parts


def page(folder: Contents, title: str, note: Note) -> str:
    """The report of a folder, as HTML; `note` is told what is not on it, which the page says too."""
    notes = list(folder.notes)

    def say(line: str) -> None:
        notes.append(line)
        note(line)

    room = _Room(say)
    exports = {name: room.take(name, partial(_exports, found)) for name, found in _values(folder, "export").items()}
    sections = {
        "Models": _models(folder, room),
        "Compression": [
            part
            for name, values in _compressions(folder).items()
            for part in room.take(name, partial(_compression, name, values))
        ],
        "Exports and their verification": [part for parts in exports.values() for part in parts],
        "Benchmarks": [
            part
            for index, (name, record) in enumerate(_values(folder, "record").items())
            for part in room.take(name, partial(_benchmark, name, record, index))
        ],
        "Files and manifests": _files(folder, room),
    }
    shown = {title: parts for title, parts in sections.items() if parts}
    links = "".join(f'<li><a href="#{_anchor(title)}">{escape(title)}</a></li>' for title in shown)
    body = [f'<p class="soft">sen-edge {escape(sen_edge.__version__)}</p>']
    body += [f'<nav aria-label="Sections"><ul>{links}</ul></nav>']
    body += [f'<p class="soft">{escape(line)}</p>' for line in notes]
    for heading, parts in shown.items():
        body += [f'<h2 id="{_anchor(heading)}">{escape(heading)}</h2>', *parts]
    return html.page(f"Report: {title}", body, _style())


def _benchmark(name: str, record: Mapping[str, Any], index: int) -> list[str]:
    return [f"<h3>{escape(name)}</h3>", *html.sections(record, f"b{index}")]


def _style() -> str:
    """That of the pictures, beside that of all reports."""
    return (files("sen_edge.report.plot") / "viewer.css").read_text(encoding="utf-8")


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _models(folder: Contents, room: _Room) -> list[str]:
    """All of them in one table, then layers and pictures of each; those that can be drawn first."""
    rows: list[list[str]] = []
    drawn: list[str] = []
    others: list[str] = []
    for name, path in _paths(folder).items():
        try:
            summary = summarize(models.load(path))
        except SenError as error:
            others.append(f"<p>{escape(name)}: {escape(error.message)}</p>")
            continue
        rows.append(_row(name, *_facts(summary)))
        picture = room.take(name, partial(_pictures, name, path))
        layers = _layers(f"{name}: layers", [_layer(index, summary) for index in range(len(summary.layers))])
        (drawn if picture else others).extend([f"<h3>{escape(name)}</h3>", layers, *picture])
    headings = ["file", "kind", "neurons", "d", "numbers", "saved", "MACs", "weights"]
    overview = [html.table("Models; saved: of a fully connected network's numbers", headings, rows)] if rows else []
    return [*overview, *drawn, *others]


def _facts(summary: Summary) -> list[str]:
    """Figures of a model, for its line in the table."""
    return [
        f"{summary.kind}, {'spiking' if summary.architecture == 'snn' else 'perceptron'}",
        "-".join(map(str, summary.layer_sizes)),
        UNKNOWN if summary.dimensions is None else str(summary.dimensions),
        f"{summary.parameters:,}",
        f"{summary.saved:.1f} %",
        f"{summary.macs:,}",
        size(summary.weight_bytes),
    ]


def _layer(index: int, summary: Summary) -> Mapping[str, Any]:
    figures = summary.layers[index].figures
    return {name: getattr(figures, name) for name in ("n_in", "n_out", "form", "dtype", "sparsity", "macs", "bytes")}


def _pictures(name: str, path: Path) -> list[str]:
    """The network as it lies in space, and histograms of it; nothing for one without coordinates."""
    try:
        laid_out = scene(load_source(path), MOST_NEURONS)
        drawn = chosen_synapses(laid_out, Choice(strongest=200))
    except SenError:
        return []
    ident = f"still-{hashlib.sha256(name.encode(errors='replace')).hexdigest()[:8]}"
    picture = still(laid_out, drawn, layer_names(laid_out), ident)
    legend = "disc: excitatory, square: inhibitory, diamond: output; lines: strongest synapses"
    return [
        f'<div class="still">{html.figure(" ".join(laid_out.notes), picture, legend, wide=True)}</div>',
        *_histograms(name, laid_out, drawn),
    ]


def _histograms(name: str, laid_out: Scene, drawn: Sequence[Drawn]) -> list[str]:
    """Lengths, weights, degrees and wiring, as matplotlib draws them; nothing where that is not installed."""
    shown: list[Panel] = ["distances", "weights", "wiring"]
    if is_pruned(laid_out):
        shown.append("degrees")
    try:
        picture = sheet(laid_out, drawn, shown, None, ".svg")
    except MissingExtraError:
        return []
    words = f"{name}: {', '.join(shown)} of each layer"
    source = f"data:image/svg+xml;base64,{base64.b64encode(picture).decode()}"
    return [html.figure(words, f'<img alt="{escape(words)}" src="{source}" style="max-width:100%;background:#fff">')]


def _compressions(folder: Contents) -> dict[str, Mapping[str, Any]]:
    """By file: those of `sen-edge compress`, and those that came with an export."""
    exports = {name: manifest.get("compression") for name, manifest in _values(folder, "export").items()}
    return {
        **_values(folder, "compression"),
        **{name: values for name, values in exports.items() if values and "before" in values},
    }


def _compression(name: str, values: Mapping[str, Any]) -> list[str]:
    before, after, accuracy = values["before"], values["after"], values.get("accuracy")
    rows = [
        _row("MACs", f"{before['macs']:,}", f"{after['macs']:,}", f"{after['macs'] / max(1, before['macs']):.1%}"),
        _row(
            "weights",
            size(before["weight_bytes"]),
            size(after["weight_bytes"]),
            f"{after['weight_bytes'] / max(1, before['weight_bytes']):.1%}",
        ),
    ]
    if accuracy:
        dropped = accuracy["original"] - accuracy["compressed"]
        cells = (f"{accuracy['original']:.2f} %", f"{accuracy['compressed']:.2f} %", f"{-dropped:+.2f} points")
        rows.append(_row(f"accuracy, {accuracy['data']}", *cells))
    notes = [f"<li>{escape(str(warning))}</li>" for warning in values.get("warnings", [])]
    return [
        f"<h3>{escape(name)}</h3>",
        html.table(f"{name}: compression", ["", "before", "after", "after / before"], rows),
        _layers(f"{name}: layers after it", values.get("layers", [])),
        *([f"<ul>{''.join(notes)}</ul>"] if notes else []),
    ]


def _layers(caption: str, layers: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        _row(
            str(index),
            f"{layer['n_in']} to {layer['n_out']}",
            str(layer["form"]),
            str(layer["dtype"]),
            UNKNOWN if layer["sparsity"] is None else f"{layer['sparsity']:.1%}",
            f"{layer['macs']:,}",
            size(layer["bytes"]),
        )
        for index, layer in enumerate(layers)
    ]
    return html.table(caption, ["layer", "neurons", "weights", "stored as", "zeros", "MACs", "size"], rows)


def _exports(manifest: Mapping[str, Any]) -> list[str]:
    rows = []
    for artifact in manifest["artifacts"]:
        name, facts = next(iter(artifact["files"].items()))
        for found in artifact["verification"]:
            data = found["data"]
            rows.append(
                _row(
                    name,
                    size(facts["bytes"]),
                    str(found["engine"]),
                    "✓ agrees" if found["passed"] else "✗ differs",
                    f"{found['max_rel_error']:.2g}",
                    f"{found['argmax_agreement']:.2%}",
                    UNKNOWN if data is None else f"{data['artifact']:.2f} % ({data['model']:.2f} %)",
                )
            )
    headings = ["file", "size", "engine", "verified", "max error / std", "same argmax", "accuracy (model)"]
    model = manifest["input"]["file"]
    return [html.table(f"Exports of {model}, each run in every engine and compared with it", headings, rows)]


def _files(folder: Contents, room: _Room) -> list[str]:
    rows = []
    for item in folder.items:
        try:
            rows.append(_row(item.name, item.kind, size(item.path.stat().st_size), _sha256(item.path)))
        except OSError as error:
            rows.append(_row(item.name, item.kind, UNKNOWN, f"cannot be read: {error.strerror}"))
    parts = [html.table("Files", ["file", "kind", "size", "SHA-256"], rows)]
    for name, manifest in {**_values(folder, "export"), **_values(folder, "compression")}.items():
        parts += room.take(name, partial(_whole, name, manifest))
    return parts


def _paths(folder: Contents) -> dict[str, Path]:
    return {item.name: item.path for item in folder.of("model")}


def _values(folder: Contents, kind: Kind) -> dict[str, Any]:
    return {item.name: item.value for item in folder.of(kind)}


def _whole(name: str, manifest: Mapping[str, Any]) -> list[str]:
    text = escape(json.dumps(manifest, indent=2, sort_keys=True))
    return [f"<details><summary>{escape(name)}</summary><pre>{text}</pre></details>"]


def _row(first: str, *others: str) -> list[str]:
    return [escape(first), *(html.cell(words) for words in others)]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()
