"""Schema, reading and writing of the record of a benchmark.

`record.schema.json` defines a record. The keywords of JSON Schema (draft 2020-12) that it uses are validated here, so
that a device needs no package for it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any

from sen_runtime.errors import SenError
from sen_runtime.untrusted import load_json, printable, quote, read_regular

SCHEMA = "sen-edge/bench/1"
SCHEMA_FILE = Path(__file__).with_name("record.schema.json")
#: In place of a row's name: the reference forward pass of the row's own file.
REFERENCE = "reference"
#: With --raw a row has up to 262,144 samples.
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


def schema_text() -> str:
    """The JSON Schema of a record."""
    return SCHEMA_FILE.read_text(encoding="utf-8")


def dumps(record: Any) -> str:
    """A record, or a list of records, as JSON with all digits."""
    return json.dumps(record, indent=1, allow_nan=False) + "\n"


def is_wrong(row: Mapping[str, Any]) -> bool:
    """Whether the outputs of a row do not match."""
    return row["agreement"] is not None and not row["agreement"]["matches"]


def read(path: Path) -> dict[str, Any]:
    """Read and check a record.

    Raises:
        RecordError: the file cannot be read, or is not a record of this version; names the place.
    """
    return loads(read_regular(path, MAX_BYTES, error=RecordError), str(path))


def loads(content: str | bytes, where: str = "the record") -> dict[str, Any]:
    """Parse and check a record; `where` starts each message.

    Raises:
        RecordError: see `read`.
    """
    return parse(load_json(content, where, error=RecordError), where)


def parse(value: Any, where: str) -> dict[str, Any]:
    """Check a record that is parsed JSON; `where` starts each message.

    Raises:
        RecordError: see `read`.
    """
    found = value.get("schema") if isinstance(value, dict) else None
    if found != SCHEMA:
        raise RecordError(
            f"{where}: schema is {quote(found)}; expected {SCHEMA!r}",
            "records are written by `sen-runtime bench --json FILE`",
        )
    try:
        check(value)
    except RecordError as error:
        raise RecordError(f"{where}: {error.message}", error.hint) from error
    record: dict[str, Any] = value
    return record


def check(record: Any) -> None:
    """Validate a record.

    Raises:
        RecordError: names the place, what is there and what was expected.
    """
    validate(record, _schema(), "record")
    try:
        began_s(record)
    except ValueError:
        raise _wrong("record.created", record["created"], "a time such as 2026-11-25T08:00:00Z") from None
    names: set[str] = set()
    for row in record["rows"]:
        if row["name"] in names:
            raise RecordError(f"two rows are called {quote(row['name'])}; expected different names")
        names.add(row["name"])
    for index, row in enumerate(record["rows"]):
        where, histogram = f"record.rows[{index}]", row["histogram"]
        if len(histogram["edges_us"]) != len(histogram["counts"]) + 1:
            raise RecordError(f"{where}.histogram: there must be one more of edges_us than of counts")
        for key in ("ratio", "agreement"):
            if row[key] is not None and row[key]["to"] not in (*names, *([REFERENCE] if key == "agreement" else [])):
                raise RecordError(f"{where}.{key}.to is {quote(row[key]['to'])}, which is not a row")


def began_s(entry: Mapping[str, Any]) -> float:
    """Begin of a record or an entry of a history, seconds since 1970."""
    created = datetime.strptime(entry["created"], "%Y-%m-%dT%H:%M:%SZ")
    return created.replace(tzinfo=timezone.utc).timestamp()


@lru_cache(maxsize=1)
def _schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(schema_text())
    return schema


def validate(value: Any, schema: Mapping[str, Any], where: str) -> None:
    """Check a value against a JSON Schema of the keywords that `record.schema.json` uses.

    Raises:
        RecordError: names the place, what is there and what was expected.
    """
    if "$ref" in schema:
        validate(value, _schema()["$defs"][schema["$ref"].rpartition("/")[2]], where)
        return
    if "const" in schema and value != schema["const"]:
        raise _wrong(where, value, repr(schema["const"]))
    if "type" in schema:
        types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        if not any(TYPES[name](value) for name in types):
            raise _wrong(where, value, " or ".join(types))
    if "enum" in schema and value not in schema["enum"]:
        raise _wrong(where, value, f"one of {', '.join(schema['enum'])}")
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        raise _wrong(where, value, f"text like {schema['pattern']}")
    if TYPES["number"](value):
        _check_range(value, schema, where)
    if isinstance(value, list):
        _check_items(value, schema, where)
    if isinstance(value, dict):
        _check_fields(value, schema, where)


def _check_range(value: float, schema: Mapping[str, Any], where: str) -> None:
    if value < schema.get("minimum", value):
        raise _wrong(where, value, f"at least {schema['minimum']}")
    if value > schema.get("maximum", value):
        raise _wrong(where, value, f"at most {schema['maximum']}")


def _check_items(value: list[Any], schema: Mapping[str, Any], where: str) -> None:
    low, high = schema.get("minItems", 0), schema.get("maxItems", len(value))
    if not low <= len(value) <= high:
        raise RecordError(f"{where} has {len(value)} values; expected {low} to {high if high > low else 'any'}")
    for index, item in enumerate(value):
        validate(item, schema["items"], f"{where}[{index}]")


def _check_fields(value: dict[str, Any], schema: Mapping[str, Any], where: str) -> None:
    known, others = schema.get("properties", {}), schema.get("additionalProperties", {})
    for name in schema.get("required", ()):
        if name not in value:
            raise RecordError(f"{where} has no {name}")
    for name, item in value.items():
        if name in known:
            validate(item, known[name], f"{where}.{name}")
        elif others is False:
            raise RecordError(f"{where} has an unknown field {quote(name)}")
        else:
            validate(item, others, f"{where}.{printable(name, 40)}")


def _wrong(where: str, value: Any, expected: str) -> RecordError:
    return RecordError(f"{where} is {quote(value)}; expected {expected}")
