"""Schema, reading and writing of the record of a benchmark.

`record.schema.json` defines a record. The keywords of JSON Schema (draft 2020-12) that it and the other schemas of this
folder use are validated here, so that a device needs no package for it.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

from sen_runtime.errors import SenError
from sen_runtime.task import ACCURACY
from sen_runtime.untrusted import load_json, printable, quote, read_regular

SCHEMA = "sen-edge/bench/1"
#: In place of a row's name: the reference forward pass of the row's own file.
REFERENCE = "reference"
#: Tolerated load of other programs beyond the free cores: averages lag behind by a minute.
SPARE_LOAD = 0.5
#: With all samples a row has up to 262,144 samples.
MAX_BYTES = 1 << 28

#: Predicates by JSON type.
TYPES: Mapping[str, Callable[[Any], bool]] = {
    "array": lambda value: isinstance(value, list),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: (
        isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    ),
    "object": lambda value: isinstance(value, dict),
    "string": lambda value: isinstance(value, str),
}


class RecordError(SenError):
    """A file that is not a record of a benchmark."""


def schema_text(name: str = "record") -> str:
    """The JSON Schema `NAME.schema.json` of this folder."""
    return Path(__file__).with_name(f"{name}.schema.json").read_text(encoding="utf-8")


def dumps(record: Any) -> str:
    """A record, or a list of records, as JSON with all digits."""
    return json.dumps(record, indent=1, allow_nan=False) + "\n"


def is_wrong(row: Mapping[str, Any]) -> bool:
    """Whether the outputs of a row do not match."""
    return row["agreement"] is not None and not row["agreement"]["matches"]


def busy(record: Mapping[str, Any]) -> str:
    """A sentence, where other programs left fewer cores than the run needs; else empty.

    The load of other programs is the larger average of the start, and of the end without the threads of the run.
    """
    device, cores = record["device"], record["device"]["cpus"]
    threads = max((int(row["threads"]) for row in record["rows"]), default=1)
    loads = device["before"]["load"], device["after"]["load"]
    found = [load - own for load, own in zip(loads, (0, threads)) if isinstance(load, (int, float))]
    others = max(0.0, *found) if found else None
    if others is None or not isinstance(cores, int) or others + min(threads, cores) <= cores + SPARE_LOAD:
        return ""
    return (
        f"a load of {others:.3g} from other programs on {cores} {'core' if cores == 1 else 'cores'}: latencies may be "
        "longer and vary more than on an idle machine"
    )


def read(path: Path) -> dict[str, Any]:
    """Read and check a record; a RecordError names the place."""
    return loads(read_regular(path, MAX_BYTES, error=RecordError), str(path))


def loads(content: str | bytes, where: str = "the record") -> dict[str, Any]:
    """Parse and check a record; `where` starts each message."""
    return parse(load_json(content, where, error=RecordError), where)


def parse(value: Any, where: str) -> dict[str, Any]:
    """Check a record that is parsed JSON; `where` starts each message.

    Rows of older versions of this package, which have no `batch` or `score`, get it.
    """
    found = value.get("schema") if isinstance(value, dict) else None
    if found != SCHEMA:
        hint = "records are written by `sen-runtime bench --json FILE`"
        raise RecordError(f"{where}: schema is {quote(found)}; expected {SCHEMA!r}", hint)
    check(value, f"{where}: record")
    record: dict[str, Any] = value
    for row in record["rows"]:
        row.setdefault("batch", 1)
        percent = row["accuracy_percent"]
        row.setdefault("score", None if percent is None else {**asdict(ACCURACY), "value": percent})
    return record


def check(record: Any, where: str = "record") -> None:
    """Validate a record.

    Raises:
        RecordError: names the place, found and expected values.
    """
    validate(record, load_schema(), where)
    try:
        began_s(record)
    except ValueError:
        raise _wrong(f"{where}.created", record["created"], "a time such as 2026-11-25T08:00:00Z") from None
    names = Counter(row["name"] for row in record["rows"])
    targets = {"ratio": {*names}, "agreement": {*names, REFERENCE}}
    for index, row in enumerate(record["rows"]):
        place, histogram = f"{where}.rows[{index}]", row["histogram"]
        if names[row["name"]] > 1:
            raise RecordError(f"{place}: two rows are called {quote(row['name'])}; expected different names")
        if len(histogram["edges_us"]) != len(histogram["counts"]) + 1:
            raise RecordError(f"{place}.histogram: there must be one more of edges_us than of counts")
        for key, others in targets.items():
            if row[key] is not None and row[key]["to"] not in others:
                raise _wrong(f"{place}.{key}.to", row[key]["to"], "the name of a row")


def began_s(entry: Mapping[str, Any]) -> float:
    """Begin of a record or an entry of a history, seconds since 1970."""
    created = datetime.strptime(entry["created"], "%Y-%m-%dT%H:%M:%SZ")
    return created.replace(tzinfo=timezone.utc).timestamp()


@cache
def load_schema(name: str = "record") -> dict[str, Any]:
    """The parsed schema of `schema_text`."""
    schema: dict[str, Any] = json.loads(schema_text(name))
    return schema


def validate(value: Any, schema: Mapping[str, Any], where: str) -> None:
    """Check a value against a JSON Schema of the keywords that the schemas of this folder use.

    Raises:
        RecordError: names the first place in the order of the document, found and expected values.
    """
    if "$ref" in schema:
        schema = load_schema()["$defs"][schema["$ref"].rpartition("/")[2]]
    types = schema.get("type", [])
    types = types if isinstance(types, list) else [types]
    low, high = schema.get("minimum", value), schema.get("maximum", value)
    if value != schema.get("const", value):
        raise _wrong(where, value, repr(schema["const"]))
    if types and not any(TYPES[name](value) for name in types):
        raise _wrong(where, value, " or ".join(types))
    if value not in schema.get("enum", [value]):
        raise _wrong(where, value, f"one of {', '.join(schema['enum'])}")
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        raise _wrong(where, value, f"text like {schema['pattern']}")
    if TYPES["number"](value) and not low <= value <= high:
        raise _wrong(where, value, f"at least {low}" if value < low else f"at most {high}")
    if isinstance(value, list):
        _validate_items(value, schema, where)
    elif isinstance(value, dict):
        _validate_fields(value, schema, where)


def _validate_items(value: list[Any], schema: Mapping[str, Any], where: str) -> None:
    low, high = schema.get("minItems", 0), schema.get("maxItems", len(value))
    if not low <= len(value) <= high:
        raise RecordError(f"{where} has {len(value)} values; expected {low} to {high if high > low else 'any'}")
    for index, item in enumerate(value if "items" in schema else ()):
        validate(item, schema["items"], f"{where}[{index}]")


def _validate_fields(value: dict[str, Any], schema: Mapping[str, Any], where: str) -> None:
    known, others = schema.get("properties", {}), schema.get("additionalProperties", {})
    for name in schema.get("required", ()):
        if name not in value:
            raise RecordError(f"{where} has no {name}")
    for name, item in value.items():
        if others is False and name not in known:
            raise RecordError(f"{where} has an unknown field {quote(name)}")
        validate(item, known.get(name, others), f"{where}.{printable(name, 40)}")


def _wrong(where: str, value: Any, expected: str) -> RecordError:
    return RecordError(f"{where} is {quote(value)}; expected {expected}")
