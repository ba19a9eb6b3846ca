"""Model card: README.md with the metadata of the Hugging Face Hub; every figure comes from a file or a manifest.

Keys of the metadata: https://github.com/huggingface/hub-docs/blob/main/modelcard.md. Its values are written as JSON,
which YAML contains.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sen_edge.display import to_markdown
from sen_edge.model.parameters import metric_of
from sen_runtime import __version__, task
from sen_runtime.errors import SenError
from sen_runtime.ir.network import Network
from sen_runtime.untrusted import finite_float, listing, load_json, printable

PAPER = "arXiv:2506.13410"
TAGS = ("spatially-embedded-network", PAPER.lower())
#: Pipelines of the Hub by task, for inputs with names: columns of a table.
PIPELINES = {task.CLASSIFICATION: "tabular-classification", task.REGRESSION: "tabular-regression"}
MAX_CELL = 300

Rows = Iterable[Sequence[object]]


@dataclass(frozen=True)
class SavedModel:
    """File of a model with the facts that a card and config.json state.

    Attributes:
        file: name.
        data: content.
        source: `file` and `sha256` of the file that the model was first saved from.
        network: as stored.
        summary: of the model.
        metadata: text in the file.
        config: configuration of a checkpoint, plain values, or None.
    """

    file: str
    data: bytes
    source: Mapping[str, str]
    network: Network
    summary: Mapping[str, object]
    metadata: Mapping[str, str]
    config: Mapping[str, Any] | None

    @cached_property
    def sha256(self) -> str:
        """Hash of the file."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True)
class Card:
    """Content of a model card.

    Attributes:
        name: title.
        saved: the model.
        exports: manifests.
        license_id: identifier of the Hub, or None.
    """

    name: str
    saved: SavedModel
    exports: Sequence[Mapping[str, Any]]
    license_id: str | None

    def text(self) -> str:
        """Return the card."""
        parts = (self._front_matter(), self._introduction(), self._model(), self._scores(), self._files())
        return "\n".join((*parts, self._origin(), self._use()))

    @property
    def _artifacts(self) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        """Each artifact with its manifest."""
        return [(manifest, artifact) for manifest in self.exports for artifact in manifest["artifacts"]]

    @property
    def _is_spatial(self) -> bool:
        """Whether the model is a checkpoint or from one, unlike NIR graphs of other tools."""
        return self.saved.config is not None or "checkpoint_sha256" in self.saved.metadata

    @property
    def _data(self) -> str:
        """Data of the scores in the model file."""
        return self.saved.metadata.get("test_data") or self.saved.metadata.get("dataset", "")

    def _measured(self) -> list[tuple[task.Metric, float]]:
        """Test scores in the model file."""
        found = []
        for metric in task.of(self.saved.network.task).metrics:
            try:
                found.append((metric, finite_float(self.saved.metadata[f"test_{metric.key}"])))
            except (KeyError, ValueError):
                continue
        return found

    def _front_matter(self) -> str:
        network, measured = self.saved.network, self._measured()
        entries: dict[str, object] = {"library_name": "sen-edge"}
        if self.license_id is not None:
            entries["license"] = self.license_id
        if network.names("feature_names") and network.task in PIPELINES:
            entries["pipeline_tag"] = PIPELINES[network.task]
        tags = [*(TAGS if self._is_spatial else ()), *(["spiking-neural-network"] if network.is_spiking else [])]
        entries["tags"] = list(dict.fromkeys([*tags, *(each["target"] for _, each in self._artifacts)]))
        if measured:
            entries["metrics"] = [metric.key.lower() for metric, _ in measured]
        if measured and self._data:
            data = printable(self._data, MAX_CELL)
            result = {
                "task": {"type": str(entries.get("pipeline_tag", network.task)), "name": network.task},
                "dataset": {"type": data.partition(" (")[0], "name": data},
                "metrics": [
                    {"type": metric.key.lower(), "name": f"{metric.name} {metric.unit}".strip(), "value": value}
                    for metric, value in measured
                ],
            }
            entries["model-index"] = [{"name": printable(self.name, MAX_CELL), "results": [result]}]
        lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in entries.items()]
        return "\n".join(["---", *lines, "---", ""])

    def _introduction(self) -> str:
        spatial = (
            "A spatially embedded network: its neurons have learned positions, and its weights are inverse distances "
            f"([{PAPER}](https://arxiv.org/abs/{PAPER.partition(':')[2]})). "
        )
        return (
            f"# {to_markdown(self.name)}\n\n{spatial if self._is_spatial else ''}"
            f"Written by sen-edge {__version__}; figures come from the model file and the manifests of its exports.\n"
        )

    def _model(self) -> str:
        network = self.saved.network
        features, outputs = network.names("feature_names"), network.names("output_names")
        named = f": {listing(features)}" if features else ""
        rows = [
            ("task", network.task),
            *((name, value) for name, value in self.saved.summary.items() if name != "name"),
            ("inputs", f"{list(network.input_shape)}{named}"),
            ("outputs", f"[{network.n_out}]{f': {listing(outputs)}' if outputs else ''}"),
            ("standardization", "in the model" if network.input_scaling is not None else "none"),
            ("licence", "not stated" if self.license_id is None else self.license_id),
        ]
        return _table("Model", ("", ""), rows)

    def _scores(self) -> str:
        data = self._data or "not stated"
        rows = [(self.saved.file, metric.name, metric.text(value), data) for metric, value in self._measured()]
        for _, artifact in self._artifacts:
            for judged in [each["data"] for each in artifact["verification"] if each["data"] is not None][:1]:
                for score in judged["scores"]:
                    metric = metric_of(score)
                    value = "-" if score["artifact"] is None else metric.text(score["artifact"])
                    rows.append((_main_file(artifact), metric.name, value, judged["name"]))
        if not rows:
            return "## Scores\n\nNot measured.\n"
        return _table("Scores", ("file", "metric", "value", "data"), rows)

    def _files(self) -> str:
        rows = [(self.saved.file, len(self.saved.data), self.saved.summary["dtype"], "", "", "")]
        for manifest, artifact in self._artifacts:
            verified = artifact["verification"]
            rows.append(
                (
                    _main_file(artifact),
                    sum(int(facts["bytes"]) for facts in artifact["files"].values()),
                    artifact["request"]["dtype"],
                    "no" if manifest["compression"] is None else "yes",
                    f"{max(float(each['max_rel_error']) for each in verified):.2g}" if verified else "-",
                    ", ".join(dict.fromkeys(str(each["engine"]) for each in verified)),
                )
            )
        headings = ("file", "bytes", "data type", "compressed", "max error / std", "verified in")
        return _table("Files", headings, rows)

    def _origin(self) -> str:
        source = self.saved.source
        compressed = [each for each in self.exports if each["compression"] is not None]
        made = [
            ("saved from", source["file"]),
            ("its SHA-256", source["sha256"]),
            (f"SHA-256 of {self.saved.file}", self.saved.sha256),
            *((f"compression of {each['request']['name']}", _request(each["compression"])) for each in compressed),
        ]
        metadata = dict(self.saved.metadata)
        with suppress(KeyError, SenError, TypeError, AttributeError):  # text of any kind
            metadata["compression"] = _request(load_json(metadata["compression"], "compression"))
        return _table("Origin", ("", ""), [*made, *sorted(metadata.items())])

    def _use(self) -> str:
        n_in = ", ".join(map(str, self.saved.network.input_shape))
        code = [
            "import sen_edge",
            "",
            'model = sen_edge.Model.from_pretrained("FOLDER")  # or OWNER/NAME on the Hub',
            f"outputs = model.predict(inputs)  # [n, {n_in}] -> [n, {self.saved.network.n_out}]",
        ]
        return "\n".join(["## Use", "", "```python", *code, "```", ""])


def _request(figures: Mapping[str, Any]) -> str:
    """Return the settings of a compression that are not off."""
    return json.dumps({name: value for name, value in figures["request"].items() if value}, sort_keys=True)


def _main_file(artifact: Mapping[str, Any]) -> str:
    """Return the name of an artifact: its file, or its folder."""
    first = min(artifact["files"])
    folder, slash, _ = first.partition("/")
    return f"artifacts/{folder}{slash}"


def _table(title: str, headings: Sequence[str], rows: Rows) -> str:
    lines = [[to_markdown(str(cell), MAX_CELL) for cell in row] for row in rows]
    table = [list(headings), ["---"] * len(headings), *lines]
    return "\n".join([f"## {title}", "", *(f"| {' | '.join(line)} |" for line in table), ""])
