"""Properties of every benchmark record: its schema, and constraints beyond it."""

import json
from typing import Any

import jsonschema

from sen_runtime.bench import record as records

SCHEMA: dict[str, Any] = json.loads(records.schema_text())


def check(record: dict[str, Any]) -> None:
    """Assert that it is a record as every producer writes it."""
    jsonschema.validate(record, SCHEMA, jsonschema.Draft202012Validator)
    assert record["valid"] == (record["invalid_because"] == [])
    rows = record["rows"]
    assert len({row["name"] for row in rows}) == len(rows)
    assert len({len(row["turns_us"]) for row in rows}) == 1
    for row in rows:
        _check_row(row)


def check_device(device: dict[str, Any]) -> None:
    """Assert that it is the record's description of a machine."""
    part = {**SCHEMA["properties"]["device"], "$defs": SCHEMA.get("$defs", {})}
    jsonschema.validate(device, part, jsonschema.Draft202012Validator)


def _check_row(row: dict[str, Any]) -> None:
    assert len(row.get("samples_us", range(row["n_samples"]))) == row["n_samples"]
    edges, counts = row["histogram"]["edges_us"], row["histogram"]["counts"]
    assert len(edges) == len(counts) + 1 <= 61 and edges == sorted(edges)
    latency = row["latency_us"]
    order = [latency[name] for name in ("min", "median", "p90", "p95", "p99", "p99_9")]
    assert order == sorted(order) and latency["min"] > 0
