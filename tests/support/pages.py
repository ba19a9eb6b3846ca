"""Pages for tests: parsed, rendered from records, drawn of networks."""

import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from sen_edge.model import checkpoint as checkpoints
from sen_edge.model.config import SpatialConfig
from sen_edge.model.model import Model
from sen_edge.report import report
from sen_edge.report.contents import Contents, Item
from sen_edge.report.network.scene import of_checkpoint
from sen_exporters.view.data import ARRAYS
from sen_runtime.bench.history import History
from tests.conftest import make_checkpoint


class Page(HTMLParser):
    """Elements, attributes and words of a page; fails if elements are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attributes)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)


def contents_of(*values: Any) -> Contents:
    items = tuple(
        Item(f"r{index}.json", Path(f"r{index}.json"), "history" if isinstance(value, History) else "record", value)
        for index, value in enumerate(values)
    )
    return Contents(items, tuple(item.path for item in items))


def render_as(format_name: str, *values: Any) -> str:
    return report.render(contents_of(*values), format_name, lambda _: None).decode()


def model_of(config: SpatialConfig, **changes: object) -> Model:
    return of_checkpoint(replace(make_checkpoint(config), **changes), Path("net.pt"))


def save(path: Path, config: SpatialConfig, **changes: object) -> Path:
    checkpoints.save(replace(make_checkpoint(config), **changes), path)
    return path


def data_of(page: str) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(found.group(1))


def array_of(data: dict, name: str) -> np.ndarray:
    kind, text = data["arrays"][name]
    return np.frombuffer(base64.b64decode(text), ARRAYS[kind])
