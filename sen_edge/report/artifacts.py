"""Parts of a report about models, compressions, exports and files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from sen_edge.model import model as models
from sen_edge.model.statistics import summarize
from sen_edge.report import model_tables
from sen_edge.report.contents import Item
from sen_edge.report.document import UNKNOWN, WRONG, Chart, Heading, Note, Part, Table, Verbatim
from sen_edge.report.network.panels import is_pruned, panel
from sen_edge.report.network.scene import scene
from sen_edge.report.network.source import load as load_source
from sen_edge.report.network.synapses import select_synapses
from sen_runtime.errors import SenError
from sen_runtime.figures import size
from sen_runtime.untrusted import open_regular

#: Neurons of a picture; the page of `sen-edge plot` shows more.
MAX_NEURONS = 1500
CHUNK = 1 << 20


def model_parts(items: Sequence[Item]) -> list[Part]:
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
        facts = Table("Facts", ["name", "value"], model_tables.facts(summary), is_text=True)
        parts += [Heading(item.name, 3), *model_tables.layer_tables(summary), facts, *_charts(item)]
    headings = ["file", "kind", "neurons", "d", "numbers", "saved", "MACs", "weights"]
    overview: list[Part] = [Table("Models; saved: of a dense network's numbers", headings, rows)] if rows else []
    return [*overview, *parts]


def _charts(item: Item) -> list[Chart]:
    """The network in space, and histograms; nothing for one without coordinates."""
    try:
        network = scene(load_source(item.path), MAX_NEURONS)
    except SenError:
        return []
    synapses = select_synapses(network, strongest=200)
    names = ["network", "distances", "weights", "wiring", *(["degrees"] if is_pruned(network) else [])]
    return [panel(name, network, synapses) for name in names]


def compression_parts(item: Item) -> list[Part]:
    """Figures before and after a compression."""
    warnings = [str(warning) for warning in item.value.get("warnings", [])]
    return [
        Heading(item.name, 3),
        model_tables.compression_table("Compression", item.value),
        model_tables.weights_table("Layers after compression", item.value.get("layers", [])),
        *([Note("", warnings)] if warnings else []),
    ]


def export_parts(rows: Sequence[Sequence[str]]) -> list[Part]:
    """A table of `export_rows`."""
    headings = ["file", "model", "size", "engine", "verified", "max error / std", "same argmax", "accuracy (model)"]
    return [Table("Exported files, compared with their models in every engine", headings, rows)] if rows else []


def export_rows(item: Item) -> list[Sequence[str]]:
    """Every file of an export with its verification in every engine."""
    rows: list[Sequence[str]] = []
    model = str(item.value["input"]["file"])
    for artifact in item.value["artifacts"]:
        name, facts = next(iter(artifact["files"].items()))
        for found in artifact["verification"]:
            data = found["data"]
            rows.append(
                [
                    name,
                    model,
                    size(facts["bytes"]),
                    str(found["engine"]),
                    "✓ agrees" if found["passed"] else f"{WRONG} differs",
                    f"{found['max_rel_error']:.2g}",
                    f"{found['argmax_agreement']:.2%}",
                    UNKNOWN if data is None else f"{data['artifact']:.2f} % ({data['model']:.2f} %)",
                ]
            )
    return rows


def file_parts(items: Sequence[Item]) -> list[Part]:
    """Sizes and SHA-256 of all files, and the manifests."""
    rows = []
    for item in {item.path: item for item in items}.values():
        try:
            rows.append([item.path.name, item.kind, size(item.path.stat().st_size), _sha256(item)])
        except OSError as error:
            rows.append([item.path.name, item.kind, UNKNOWN, f"cannot be read: {error.strerror}"])
    manifests = [
        Verbatim(json.dumps(item.value, indent=2, sort_keys=True), item.name)
        for item in items
        if item.kind in ("export", "compression")
    ]
    return [Table("Files", ["file", "content", "size", "SHA-256"], rows, is_text=True), *manifests]


def _sha256(item: Item) -> str:
    digest = hashlib.sha256()
    with open_regular(item.path) as file:
        while block := file.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()
