"""The record: schema and reader; real records are also validated by `jsonschema`."""

import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sen_runtime.bench import measure, record, rounds
from sen_runtime.bench.plan import BenchRequest
from sen_runtime.bench.record import RecordError
from tests.support.bench import Machine, small_network, write

SCHEMA = json.loads(record.schema_text())
Made = dict[str, Any]
#: Words of JSON Schema that `record.check` knows, and those that say nothing about a value.
KNOWN = {
    *(
        "$ref",
        "additionalProperties",
        "const",
        "enum",
        "items",
        "maxItems",
        "maximum",
        "minItems",
        "minimum",
        "pattern",
    ),
    *("properties", "required", "type"),
}
WORDS = {"$schema", "$id", "$defs", "title", "description"}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Of a spiking network and a perceptron in two formats, with all that is optional."""
    folder = tmp_path_factory.mktemp("artifacts")
    paths = [write(folder, name, small_network()) for name in ("net.sen", "net.onnx")]
    paths.append(write(folder, "snn.sen", small_network(spiking=True), {"checkpoint_sha256": "other"}))
    request = BenchRequest(
        tuple(paths), seconds=0.1, sustained=True, raw=True, rate=5000.0, command=("sen-runtime", "bench")
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "WATCH_S", 0.0)
        return measure.run(request, device=Machine()).record


def is_refused_by_both(value: Made) -> bool:
    found = list(jsonschema.Draft202012Validator(SCHEMA).iter_errors(value))
    try:
        record.check(value)
    except RecordError:
        return bool(found)
    assert not found, found[0].message
    return False


def test_the_schema_is_one_and_uses_known_words_only() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)

    def words(schema: Any) -> set[str]:
        if not isinstance(schema, dict):
            return set()
        found = set(schema)
        inner = [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values(), schema.get("items")]
        return found.union(*map(words, [*inner, schema.get("additionalProperties")]))

    assert words(SCHEMA) <= KNOWN | WORDS


def test_every_object_of_the_schema_is_strict() -> None:
    def check(schema: Any) -> None:
        if isinstance(schema, dict):
            if "object" in schema.get("type", []):
                assert "additionalProperties" in schema
            for value in schema.values():
                check(value)

    check(SCHEMA)
    assert SCHEMA["additionalProperties"] is False and "rows" in SCHEMA["required"]


def test_a_real_record_is_one(real: Made) -> None:
    jsonschema.validate(real, SCHEMA, jsonschema.Draft202012Validator)
    record.check(real)


def test_a_record_is_read_as_it_was_written(real: Made, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(record.dumps(real))
    assert record.read(tmp_path / "a.json") == real


def test_a_record_may_lack_loads_and_batches(real: Made) -> None:
    value = copy.deepcopy(real)
    del value["settings"]["loads"]
    for row in value["rows"]:
        del row["batch"]
    assert not is_refused_by_both(value)
    assert [row["batch"] for row in record.loads(record.dumps(value))["rows"]] == [1] * len(value["rows"])


def put(*path: Any, to: Any) -> Callable[[Made], None]:
    def change(value: Any) -> None:
        for key in path[:-1]:
            value = value[key]
        value[path[-1]] = to

    return change


def drop(*path: Any) -> Callable[[Made], None]:
    def change(value: Any) -> None:
        for key in path[:-1]:
            value = value[key]
        del value[path[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(drop("rows"), "rows", id="no rows"),
        pytest.param(put("rows", to=[]), r"record\.rows.*\b0\b.*\b1\b", id="empty rows"),
        pytest.param(put("more", to=1), "'more'", id="more"),
        pytest.param(put("rows", 0, "more", to=1), r"record.rows\[0\] .*'more'", id="more in a row"),
        pytest.param(drop("rows", 1, "latency_us", "p99_9"), r"rows\[1\]\.latency_us.*p99_9", id="no p99.9"),
        pytest.param(put("status", to="done"), r"status.*'done'.*complete, interrupted", id="status"),
        pytest.param(put("valid", to=1), r"valid.*\b1\b.*boolean", id="1 is not true"),
        pytest.param(put("rows", 0, "threads", to=True), r"threads.*True.*integer", id="true is not 1"),
        pytest.param(put("rows", 0, "threads", to=0), r"threads.*\b0\b.*\b1\b", id="no threads"),
        pytest.param(put("rows", 0, "batch", to=0), r"batch.*\b0\b.*\b1\b", id="no inputs"),
        pytest.param(put("rows", 0, "sha256", to="x"), r"sha256.*'x'", id="checksum"),
        pytest.param(put("created", to="today"), r"created.*'today'", id="time"),
        pytest.param(put("rows", 1, "ratio", "confidence", to=95), r"confidence.*\b95\b.*\b1\b", id="percent"),
        pytest.param(put("rows", 0, "ratio", to=[]), r"ratio.*\[\].*object", id="ratio"),
        pytest.param(put("device", "before", to=None), r"before.*None.*object", id="state"),
        pytest.param(put("device", "caches", "l1d", to="32K"), r"l1d.*'32K'.*integer", id="cache"),
        pytest.param(put("rows", 0, "turns_us", to=[1.0] * 2001), r"turns_us.*\b2001\b", id="too many turns"),
        pytest.param(put("rows", 0, "turns_us", 0, to=None), r"turns_us\[0\].*None.*number", id="a hole"),
        pytest.param(put("sustained", 0, "latency_us", "x", to="1"), r"sustained\[0\]", id="sustained"),
    ],
)
def test_what_is_no_record(real: Made, change: Callable[[Made], None], message: str) -> None:
    value = copy.deepcopy(real)
    change(value)
    with pytest.raises(RecordError, match=message):
        record.check(value)
    assert is_refused_by_both(value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(put("rows", 1, "name", to="net.sen native 1"), r"'net\.sen native 1'", id="one name twice"),
        pytest.param(put("rows", 1, "ratio", "to", to="x"), r"rows\[1\]\.ratio\.to.*'x'", id="to"),
        pytest.param(put("rows", 0, "histogram", "edges_us", to=[1.0, 2.0]), "edges_us", id="edges"),
        pytest.param(put("clock", "loop_ns", to=float("inf")), r"loop_ns.*inf", id="infinite"),
    ],
)
def test_what_a_schema_cannot_say(real: Made, change: Callable[[Made], None], message: str) -> None:
    value = copy.deepcopy(real)
    change(value)
    with pytest.raises(RecordError, match=message):
        record.check(value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", r"a\.json.*JSON", id="empty"),
        pytest.param(b"\xff\xfe", "UTF-8", id="no text"),
        pytest.param(b"[" * 100_000, "deep", id="deep"),
        pytest.param(b"[]", r"schema.*None.*'sen-edge/bench/1'", id="list"),
        pytest.param(b'{"schema": "sen-edge/bench/2"}', r"schema.*'sen-edge/bench/2'", id="version"),
        pytest.param(b'{"schema": "sen-edge/bench/1"}', "created", id="nothing else"),
    ],
)
def test_file_that_is_not_a_record_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=message) as found:
        record.read(path)
    assert "a.json" in found.value.message and found.value.exit_code == 1


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"a\.json"):
        record.read(tmp_path / "a.json")


def test_nonfinite_numbers_are_not_written(real: Made) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        record.dumps({**real, "clock": {"loop_ns": float("nan")}})


PAGE = (Path(__file__).parents[2] / "docs/reference/bench.md").read_text(encoding="utf-8")


def test_every_field_is_in_the_documentation() -> None:
    row, whole = SCHEMA["$defs"]["row"]["properties"], SCHEMA["properties"]
    names = {*row, *whole, *whole["settings"]["properties"], *whole["clock"]["properties"]}
    names |= {*row["latency_us"]["properties"], *row["agreement"]["properties"], *row["histogram"]["properties"]}
    assert [name for name in sorted(names) if not re.search(rf"[`.]{name}`", PAGE)] == []


def test_every_option_is_in_the_documentation() -> None:
    done = subprocess.run([sys.executable, "-m", "sen_runtime", "bench", "--help"], capture_output=True, text=True)
    options = set(re.findall(r"--[a-z-]+", done.stdout)) - {"--help"}
    assert len(options) > 10
    assert [option for option in sorted(options) if not re.search(rf"{option}\b", PAGE)] == []


def test_a_number_beyond_all_floats_is_refused(tmp_path: Path, real: dict[str, Any]) -> None:
    (tmp_path / "a.json").write_text(record.dumps({**real, "clock": {**real["clock"], "loop_ns": 10**400}}))
    with pytest.raises(record.RecordError, match=r"a\.json.*\b401\b"):
        record.read(tmp_path / "a.json")
