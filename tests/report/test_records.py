"""Reports on records: complete, escaped, accessible, without scripts."""

import csv
import io
import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sen_edge.report import benchmarks, charts, report
from sen_edge.report.document import Table
from sen_edge.report.drawing import Chart, short, to_svg
from sen_exporters.view.page import environment
from sen_runtime.bench import record as records
from tests.support import records as made
from tests.support.pages import Page, contents_of, render_as

HOSTILE = '</title><script>alert("1")</script>&amp;\' onload="x" \\ $\\frac{$ .sen native 1'
LONG = "a-rather-long-name-of-a-model-with-many-words-v{}-pruned-lowrank-int8.tflite litert {}"


def many(count: int) -> dict[str, Any]:
    names = [LONG.format(i, i) for i in range(count)]
    return made.record([0.8 * 1.9**i for i in range(count)], names, rounds=2000)


@pytest.mark.parametrize(
    "found",
    [
        pytest.param([made.record((42.0,), made.NAMES[:1])], id="one row"),
        pytest.param([many(12)], id="twelve rows"),
        pytest.param([made.record((), ())], id="no row"),
        pytest.param([made.sustained()], id="sustained"),
        pytest.param([made.record(), made.record((21.0, 30.0, 5.0), seed=1), many(3)], id="several devices"),
        pytest.param([made.record((), ()), made.record((), ())], id="several without rows"),
    ],
)
def test_page_is_whole_and_self_contained(found: list[dict[str, Any]]) -> None:
    pytest.importorskip("matplotlib")
    text = render_as("html", *found)
    shown = Page(text)
    assert len(text.encode()) < 500_000
    assert not {"script", "link", "img", "iframe", "object"} & set(shown.tags)
    for tag, attributes in shown.attributes:
        for name, value in attributes.items():
            assert not name.startswith("on") and name not in ("src", "srcset"), (tag, name)
            assert not name.endswith("href") or str(value).startswith("#"), (tag, value)
    assert not re.search(r"@import|url\((?!#)", text)
    identities = [attributes["id"] for _, attributes in shown.attributes if "id" in attributes]
    assert len(identities) == len(set(identities))
    assert "nan" not in " ".join(shown.words).split()


def test_all_text_of_a_record_is_escaped() -> None:
    pytest.importorskip("matplotlib")
    record = made.sustained(1)

    def poison(value: Any) -> Any:
        if isinstance(value, str):
            return value if re.fullmatch(r"[0-9]{4}-.*Z|complete|sen-edge/bench/1", value) else HOSTILE
        if isinstance(value, dict):
            return {key: poison(item) for key, item in value.items()}
        return [poison(item) for item in value] if isinstance(value, list) else value

    bad = poison(record)
    bad["invalid_because"] = [HOSTILE]
    bad["rows"][0]["warnings"] = [{"kind": HOSTILE, "message": HOSTILE}]
    for sample in bad["sustained"]:
        sample["latency_us"] = {HOSTILE: 1.0}
    for values in ([bad], [bad, bad]):
        shown = Page(render_as("html", *values))
        assert "script" not in shown.tags
        assert not any("onload" in attributes for _, attributes in shown.attributes)
    assert "<script" not in render_as("markdown", bad)


@settings(max_examples=10, deadline=None)
@given(st.text(max_size=30))
def test_any_name_stays_text(name: str) -> None:
    record = made.record((1.0, 2.0), ("a.sen native 1", "b.sen native 1"), rounds=30)
    record["rows"][1]["name"] = name
    text = render_as("html", record)
    Page(text)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
    for format_name in ("text", "markdown", "csv"):
        assert render_as(format_name, record)


def test_tables_and_charts_are_accessible() -> None:
    pytest.importorskip("matplotlib")
    shown = Page(render_as("html", made.sustained(), made.record()))
    assert shown.tags.count("table") == shown.tags.count("caption") == 1 + 2 * 7
    assert {attributes.get("scope") for tag, attributes in shown.attributes if tag == "th"} == {"col", "row"}
    labels = [attributes["aria-label"] for _, attributes in shown.attributes if attributes.get("role") == "img"]
    assert len(labels) == shown.tags.count("svg") == 1 + (1 + 3 + 3 + 3 + 2) + (1 + 3 + 3)
    assert any("median" in str(label) for label in labels)


def test_problems_are_stated_in_text() -> None:
    record = made.record(status="interrupted", valid=False, invalid_because=["the clock fell"])
    record["rows"][1]["agreement"]["matches"] = False
    record["rows"][2]["warnings"] = [{"kind": "trend", "message": "latency rose"}]
    record["left_out"] = [{"kind": "missing", "file": "a.onnx", "engine": "b", "reason": "gone", "hint": "pip"}]
    found = ("the clock fell", "wrong outputs", "digits.sen native 1: latency rose", "left out: a.onnx b (gone: pip)")
    for format_name in ("html", "markdown", "text"):
        words = render_as(format_name, record).replace("\\_", "_")
        if format_name == "html":
            words = " ".join(Page(words).words)
            assert "Not valid" in words and "interrupted" in words.casefold()
        for expected in found:
            assert expected.casefold() in words.casefold()
    assert "Not valid" not in render_as("html", made.record())


def test_throttling_that_was_allowed_is_still_named() -> None:
    record = made.record()
    record["device"]["throttled_during"] = ["the clock fell"]
    for format_name in ("html", "markdown", "text"):
        assert "the clock fell" in render_as(format_name, record)


def test_figures_are_in_the_table() -> None:
    record = made.record()
    words = Page(render_as("html", record)).words
    assert f"{record['rows'][0]['latency_us']['median']:.2f}" in words
    assert "97.12" in words
    assert "sen-runtime bench digits.onnx digits.tflite digits.sen --seconds 10" in words


def test_record_with_unknown_values() -> None:
    record = made.record()
    unknown = ("kernels", "macs", "nnz", "weight_bytes", "rss_growth_bytes", "arena_bytes", "bytes_per_ns",
               "share_of_l2", "share_of_memory", "accuracy_percent", "score", "agreement", "ratio",
               "call_us")  # fmt: skip
    for row in record["rows"]:
        row.update(dict.fromkeys(unknown), turns_us=[])
    record["bandwidth"] = dict.fromkeys(record["bandwidth"])
    record["settings"]["cpus"] = None
    state = dict.fromkeys(record["device"]["before"], "unavailable")
    record["device"] = {
        **dict.fromkeys(record["device"], "unavailable"),
        "libraries": {"numpy": "1.26.4"}, "before": state, "after": state, "throttled_during": [],
    }  # fmt: skip
    text = render_as("html", record)
    assert "None" not in text and "nan" not in " ".join(Page(text).words).split()


def test_a_busy_machine_is_in_every_headline() -> None:
    record = made.record()
    record["device"].update(cpus=2, before={**record["device"]["before"], "load": 16.0})
    text = render_as("html", record)
    assert "Busy machine" in text and "Valid" not in text
    assert "(busy machine)" in render_as("html", record, record)
    assert "BUSY" in render_as("markdown", record)


def test_rows_of_several_records_are_side_by_side() -> None:
    first, second = made.record(), made.record((21.0,), made.NAMES[:1], seed=1)
    table, chart = benchmarks.side_by_side({"a": first, "b": second})
    assert isinstance(table, Table) and isinstance(chart, Chart)
    assert [list(row)[2] == "–" for row in table.rows] == [False, True, True]
    assert table.headings == ["row", "a", "b"]


@pytest.mark.parametrize("name", ["short", "x" * 200, "a b " * 50, LONG.format(11, 11), "", "a\x1bb\u202e"])
def test_labels_keep_the_ends_of_names_in_two_lines(name: str) -> None:
    label = short(name)
    assert len(label.splitlines()) <= 3 and all(line.isprintable() for line in label.splitlines())
    if len(name) < 200 and name.isprintable():
        assert "".join(label.split())[-4:] == "".join(name.split())[-4:]


def test_histogram_with_a_long_tail_is_logarithmic() -> None:
    pytest.importorskip("matplotlib")
    row = made.record()["rows"][0]
    row["histogram"] = {"edges_us": [40.0, 41.0, 42.0, 1000.0], "counts": [5, 0, 1]}
    svg = ElementTree.fromstring(to_svg(charts.histogram(row), "h"))
    words = {item.text for item in svg.iter() if item.tag.endswith("text")}
    assert {"50", "100"} & words
    row["histogram"] = {"edges_us": [42.0, 42.0], "counts": [5]}
    assert to_svg(charts.histogram(row), "h")


def test_charts_take_their_colours_from_the_page() -> None:
    pytest.importorskip("matplotlib")
    for chart in (part for part in benchmarks.record_parts(made.sustained()) if isinstance(part, Chart)):
        assert not re.search(r": #[0-9a-f]{6}", to_svg(chart, "c"))


def contrast(one: str, two: str) -> float:
    """WCAG 2, "contrast ratio"."""

    def luminance(colour: str) -> float:
        values = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    light, dark = sorted((luminance(one), luminance(two)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1])
def test_contrast(scheme: int) -> None:
    style = environment("sen_edge.report").get_template("style.css").render()
    block = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[scheme]
    colours = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", block))
    for name in ("ink", "soft", *(f"s{index}" for index in range(5))):
        assert contrast(colours[name], colours["paper"]) >= 4.5
    for name in ("good", "bad", "warn"):
        assert contrast(colours[f"{name}-ink"], colours[name]) >= 4.5


def test_markdown_is_one_table_without_markup_of_the_record() -> None:
    record = made.record((1.0, 2.0), ("a|b<script>`x`_y_.sen native 1", "b.sen native 1"))
    table = [line for line in render_as("markdown", record).splitlines() if line.startswith("|")]
    assert len(table) == 4 and len({line.count("|") for line in table}) == 1
    assert "<" not in "".join(table)
    assert r"a&#124;b&#60;script&#62;\`x\`\_y\_.sen" in table[2]


def test_csv_has_every_figure_with_full_precision() -> None:
    record = made.record(names=('=a,"b"\n.sen native 1', *made.NAMES[1:]))
    found = list(csv.DictReader(io.StringIO(render_as("csv", record, record))))
    assert tuple(found[0]) == benchmarks.RECORD_FIELDS and len(found) == 6
    for line, row in zip(found, record["rows"], strict=False):
        assert line["name"] == row["name"]
        assert {key: float(line[f"{key}_us"]) for key in row["latency_us"]} == row["latency_us"]
        assert float(line["load_us"]) == row["load_us"]
        assert line["energy_uj"] == ""
        assert line["source"] == "r0.json" and line["model"] == record["device"]["model"]
    assert found[0]["ratio_to"] == found[0]["agreement_to"] == ""
    assert float(found[1]["ratio_low"]) == record["rows"][1]["ratio"]["low"]
    assert (found[1]["agreement_inputs"], found[1]["matches"]) == ("64", "True")


def test_load_tests_are_in_page_and_csv() -> None:
    record = made.record((42.0, 58.0), made.NAMES[:2])
    latency = {"mean": 50.0, "p50": 45.0, "p90": 70.5, "p99": 123.25, "p99_9": 200.0, "max": 300.0}
    record["rows"][1]["server"] = {
        "rate_per_s": 200.0, "seconds": 5.0, "queries": 1000, "unanswered": 0, "answered_per_s": 199.5,
        "utilization": 0.25, "overloaded": False, "latency_us": latency,
    }  # fmt: skip
    records.check(record)
    first, second = csv.DictReader(io.StringIO(render_as("csv", record)))
    assert (first["server_rate_per_s"], first["server_p99_us"]) == ("", "")
    assert (second["server_rate_per_s"], second["server_p99_us"], second["batch"]) == ("200.0", "123.25", "1")
    shown = render_as("html", record)
    assert "123.2" in shown and "server p99 us" in shown
    assert "server p99 us" not in render_as("html", made.record())


def test_profiles_are_in_text_page_and_markdown() -> None:
    record = made.record((42.0, 58.0), made.NAMES[:2])
    layer = {
        "name": "layer7", "us": 41.25, "share": 1.0, "macs": 12_345, "weight_bytes": 4096, "bytes_per_ns": 0.5,
        "share_of_l2": 0.25, "share_of_memory": None,
    }  # fmt: skip
    events = ("instructions", "cycles", "cache_misses", "branch_misses")
    counters = {"unavailable": "a virtual machine", **dict.fromkeys(events)}
    record["rows"][0]["profile"] = {"unavailable": None, "layers": [layer], "counters": counters}
    record["rows"][1]["profile"] = {"unavailable": "no profiler", "layers": [], "counters": counters}
    records.check(record)
    for format_name in ("text", "html", "markdown"):
        shown = render_as(format_name, record)
        assert all(part in shown for part in ("layer7", "12,345", "no profiler", "a virtual machine")), format_name
        assert format_name == "html" or shown.endswith("\n")


def test_a_record_without_rows() -> None:
    record = made.record((), ())
    assert "row" in render_as("text", record) and "row" in render_as("markdown", record)
    assert render_as("csv", record).splitlines() == [",".join(benchmarks.RECORD_FIELDS)]


def test_pictures_are_the_same_each_time() -> None:
    pytest.importorskip("matplotlib")
    for format_name, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        one, two = (
            report.render(contents_of(made.record((42.0,), made.NAMES[:1])), format_name, print) for _ in range(2)
        )
        assert one == two and one.startswith(start)
