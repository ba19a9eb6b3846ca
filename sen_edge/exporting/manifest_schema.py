"""JSON Schema of `NAME.manifest.json`, from the dataclasses whose fields it contains."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import MinLen

from sen_edge import manifest_file
from sen_edge.exporting.verify.expectation import Agreement
from sen_edge.exporting.verify.result import Verification
from sen_edge.model.config import SpatialConfig, Task
from sen_edge.model.parameters import AppliedMap
from sen_edge.model.statistics import LayerFigures
from sen_edge.passes.quantize import LayerError
from sen_edge.schema import Whole
from sen_runtime.ir.int8 import Grid

ID = f"urn:sen-edge:manifest:{manifest_file.VERSION}"
#: Definitions whose numbers are null where they are not finite.
FIGURES = ("DataFigures", "ScoreFigures", "Verification")


@dataclass(frozen=True)
class File:
    """A written file."""

    bytes: Whole
    sha256: str


@dataclass(frozen=True)
class Artifact:
    """Files of one target, and figures of each engine."""

    target: str
    files: Annotated[Mapping[str, File], MinLen(1)]
    footprint: Mapping[str, Whole] | None
    verification: tuple[Verification, ...]
    not_run_in: Mapping[str, str]
    request: Mapping[str, Any]


@dataclass(frozen=True)
class Input:
    """Source model."""

    file: str
    sha256: str
    config: SpatialConfig | None
    map: AppliedMap | None
    expect: Agreement | None


@dataclass(frozen=True)
class NetworkFigures:
    """Figures of the exported network."""

    layer_sizes: tuple[int, ...]
    parameters: int
    macs: int
    weight_bytes: int
    layers: tuple[LayerFigures, ...]
    task: Task
    feature_names: tuple[str, ...] | None = None
    output_names: tuple[str, ...] | None = None


@dataclass(frozen=True)
class CalibrationNote:
    """Calibration inputs."""

    data: str
    sha256: str
    samples: int
    held_out: int


@dataclass(frozen=True)
class QuantizedLayer(LayerError):  # noqa: N818 - not an exception
    """Quantization error of one layer, and the grid of its output."""

    grid: Grid | None


@dataclass(frozen=True)
class QuantizationFigures:
    """Quantization of the exported network."""

    granularity: str
    activation_range: str | None
    calibration: CalibrationNote | None
    input_grid: Grid | None
    output_grid: Grid | None
    layers: tuple[QuantizedLayer, ...]


@dataclass(frozen=True)
class Manifest:
    """Manifest of an export."""

    manifest_version: Literal[4]
    sen_edge: str
    input: Input
    request: Mapping[str, Any]
    compression: Mapping[str, Any] | None
    network: NetworkFigures
    quantization: QuantizationFigures | None
    left_out: Mapping[str, str]
    warnings: tuple[str, ...]
    artifacts: tuple[Artifact, ...]


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a manifest."""
    from pydantic import TypeAdapter

    found: dict[str, Any] = TypeAdapter(Manifest).json_schema(mode="serialization")
    definitions = found["$defs"]
    verification = definitions["Verification"]
    verification["properties"] |= {
        "failures": {"type": "array", "items": {"type": "string"}},
        "passed": {"type": "boolean"},
    }
    verification["required"] += ["failures", "passed"]
    for name in FIGURES:
        definitions[name] = _nullable(definitions[name])
    for definition in (found, *definitions.values()):
        definition["additionalProperties"] = False
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": ID, **_without_titles(found)}


def schema_text() -> str:
    """Return the schema as JSON."""
    return json.dumps(schema(), indent=2) + "\n"


def _nullable(schema: Any) -> Any:
    """Accept null wherever a number is expected."""
    if isinstance(schema, list):
        return [_nullable(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {key: _nullable(value) for key, value in schema.items()}
    return {**changed, "type": ["number", "null"]} if schema.get("type") == "number" else changed


def _without_titles(schema: Any) -> Any:
    """Remove the titles that pydantic derives from names, and the sections of docstrings."""
    if isinstance(schema, list):
        return [_without_titles(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: _without_titles(value) for key, value in schema.items() if not _is_title(key, value)}
    if isinstance(kept.get("description"), str):
        kept["description"] = " ".join(kept["description"].partition("\n\n")[0].split())
    return kept


def _is_title(key: str, value: Any) -> bool:
    """Return whether an entry is a title, not a property of that name."""
    return key == "title" and isinstance(value, str)
