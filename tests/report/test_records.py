"""Reports in HTML: complete, escaped, and readable without colour, network or script."""

import copy
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sen_edge.report import charts, svg
from sen_edge.report import records as html
from sen_edge.report.style import STYLE
from sen_runtime.bench.text import table
from tests.support import records

HOSTILE = '</title><script>alert("1")</script>&amp;\' onload="x" \\ .sen native 1'
LONG = "a-rather-long-name-of-a-model-with-many-words-v{}-pruned-lowrank-int8.tflite litert {}"


class Page(HTMLParser):
    """Elements, attributes and words of a page; fails where elements are not closed in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes, self.words = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attributes)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)


def drawings(page):
    return [ElementTree.fromstring("<svg" + part.split("</svg>")[0] + "</svg>") for part in page.split("<svg")[1:]]


def many(count, **others):
    names = [LONG.format(i, i) for i in range(count)]
    return records.record([0.8 * 1.9**i for i in range(count)], names, rounds=2000, **others)


SHELF = [records.record(), records.record((21.0, 30.0, 5.0), seed=1), many(12)]


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(records.record((42.0,), records.NAMES[:1]), id="one row"),
        pytest.param(records.record(), id="three rows"),
        pytest.param(many(12), id="twelve rows"),
        pytest.param(records.record((), ()), id="no row"),
        pytest.param(records.sustained(), id="sustained"),
        pytest.param(SHELF, id="several devices"),
        pytest.param([records.record((), ()), records.record((), ())], id="several without rows"),
    ],
)
def test_page_is_whole_and_self_contained(record):
    text = html.report(record)
    page = Page(text)
    assert len(text.encode()) < 500_000
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    for tag, attributes in page.attributes:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in ("src", "srcset"), (tag, name)
            assert name != "href" or value.startswith("#"), (tag, value)
    assert "url(" not in text
    assert "@import" not in text
    identities = [attributes["id"] for _, attributes in page.attributes if "id" in attributes]
    assert len(identities) == len(set(identities))


def test_all_that_comes_from_a_record_is_escaped():
    record = records.sustained(1)

    def poisoned(value):
        if isinstance(value, str):
            return value if re.fullmatch(r"[0-9]{4}-.*Z|complete|sen-edge/bench/1", value) else HOSTILE
        if isinstance(value, dict):
            return {key: poisoned(item) for key, item in value.items()}
        return [poisoned(item) for item in value] if isinstance(value, list) else value

    bad = poisoned(record)
    bad["invalid_because"] = [HOSTILE]
    bad["rows"][0]["warnings"] = [{"kind": HOSTILE, "message": HOSTILE}]
    for sample in bad["sustained"]:
        sample["latency_us"] = {HOSTILE: 1.0}
    for shown in (bad, [bad, bad]):
        text = html.report(shown)
        assert "<script" not in text
        assert set(Page(text).tags) == set(
            Page(html.report([record, record] if isinstance(shown, list) else record)).tags
        )
        assert not any("onload" in attributes for _, attributes in Page(text).attributes)


@given(st.text(max_size=30))
def test_any_name_stays_text(name):
    record = records.record((1.0, 2.0), ("a.sen native 1", "b.sen native 1"), rounds=30)
    record["rows"][1]["name"] = name
    Page(html.report(record))


def test_tables_are_accessible():
    page = Page(html.report(records.record()))
    assert page.tags.count("table") == page.tags.count("caption") == 5
    heads = [attributes for tag, attributes in page.attributes if tag == "th"]
    assert {head.get("scope") for head in heads} == {"col", "row"}


def test_pictures_have_words():
    text = html.report([records.sustained(), records.record()])
    pictures = [picture for picture in drawings(text) if picture.get("aria-hidden") is None]
    assert len(pictures) == 1 + (1 + 3 + 3 + 3 + 2) + (1 + 3 + 3)
    for picture in pictures:
        assert picture.get("role") == "img"
        title, description = picture[0], picture[1]
        assert picture.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
        assert title.text
        assert description.text


def test_what_is_wrong_is_said_in_words():
    record = records.record(status="interrupted", valid=False, invalid_because=["the clock fell"])
    record["rows"][1]["agreement"]["matches"] = False
    record["rows"][2]["warnings"] = [{"kind": "trend", "message": "latency rose"}]
    words = " ".join(Page(html.report(record)).words)
    for expected in (
        "Not valid",
        "the clock fell",
        "interrupted",
        "wrong outputs",
        "digits.sen native 1: latency rose",
    ):
        assert expected in words
    assert "Not valid" not in " ".join(Page(html.report(records.record())).words)


def test_throttling_that_was_allowed_is_still_said():
    record = records.record()
    record["device"]["throttled_during"] = ["the clock fell"]
    assert "the clock fell" in " ".join(Page(html.report(record)).words)
    assert "the clock fell" in table(record, 100)


def test_figures_are_in_the_table():
    record = records.record()
    words = Page(html.report(record)).words
    assert f"{record['rows'][0]['latency_us']['median']:.2f}" in words
    assert "97.12 %" in words
    assert "sen-runtime bench digits.onnx digits.tflite digits.sen --seconds 10" in words


def test_a_record_that_knows_little():
    record = records.record()
    unknown = ("kernels", "macs", "nnz", "weight_bytes", "rss_growth_bytes", "arena_bytes", "bytes_per_ns",
               "share_of_l2", "share_of_memory", "accuracy_percent", "agreement", "ratio", "call_us")  # fmt: skip
    for row in record["rows"]:
        row.update(dict.fromkeys(unknown), turns_us=[])
    record["bandwidth"] = dict.fromkeys(record["bandwidth"])
    record["settings"]["cpus"] = None
    state = dict.fromkeys(record["device"]["before"], "unavailable")
    record["device"] = {
        **dict.fromkeys(record["device"], "unavailable"),
        "libraries": {"numpy": "1.26.4"}, "before": state, "after": state, "throttled_during": [],
    }  # fmt: skip
    text = html.report(record)
    assert "unknown device" in text
    assert "None" not in text
    assert "nan" not in " ".join(Page(text).words).split()


def test_no_record():
    with pytest.raises(ValueError, match="no record"):
        html.report([])


def test_two_devices_of_a_kind_are_numbered():
    words = Page(html.report([records.record(), records.record()])).words
    assert "Raspberry Pi 4 Model B Rev 1.4 (1)" in words
    assert "Raspberry Pi 4 Model B Rev 1.4 (2)" in words


def boxes(picture):
    """Left, right, and base line of every text."""
    found = []
    for item in picture.iter():
        if item.tag.endswith("text"):
            width = len(item.text) * 6.2
            x, y = float(item.get("x")), float(item.get("y"))
            left = x - width * {"start": 0, "middle": 0.5, "end": 1}[item.get("text-anchor")]
            found.append((left, left + width, y))
    return found


@pytest.mark.parametrize("record", [records.record(), many(12), many(2), records.sustained(), SHELF])
def test_labels_of_charts_do_not_overlap(record):
    for picture in drawings(html.report(record)):
        found = boxes(picture)
        for index, (left, right, y) in enumerate(found):
            assert left >= -1
            for other_left, other_right, other_y in found[index + 1 :]:
                assert abs(y - other_y) >= 11 or right <= other_left or other_right <= left, picture[0].text


def test_histogram_with_a_long_tail_is_logarithmic():
    row = copy.deepcopy(records.record()["rows"][0])
    row["histogram"] = {"edges_us": [40.0, 41.0, 42.0, 1000.0], "counts": [5, 0, 1]}
    ticks = [item.text for item in drawings(charts.histogram(row, "h"))[0].iter() if item.get("class") == "tick"]
    assert {"50", "100"} & set(ticks)
    row["histogram"] = {"edges_us": [42.0, 42.0], "counts": [5]}
    assert charts.histogram(row, "h")


@given(
    st.lists(st.floats(1e-3, 1e9), min_size=1, max_size=6),
    st.integers(2, 8),
)
def test_scales_and_ticks(values, count):
    across = svg.scale(values, 10, 200)
    assert all(10 <= across(value) <= 200 for value in values)
    ticks = across.ticks(count)
    assert 1 <= len(ticks) <= 3 * count
    assert ticks == sorted(ticks)
    assert across.low * (1 - 1e-9) <= ticks[0] <= ticks[-1] <= across.high * (1 + 1e-9)


@pytest.mark.parametrize(
    ("words", "most"), [("short", 2), ("x" * 200, 2), ("a b " * 50, 2), (LONG.format(11, 11), 2), ("", 2)]
)
def test_wrapped_names_keep_their_ends(words, most):
    lines = svg.wrapped(words, 250, most)
    assert len(lines) <= most
    assert all(len(line) * svg.LETTER_PX <= 250 for line in lines)
    assert lines[0][:10] == words[:10].rstrip() or lines[0][:10] == words[:10]
    assert lines[-1].strip()[-4:] == words[-4:].strip() or lines[-1][-4:] == words[-4:]


def luminance(colour):
    values = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def contrast(one, two):
    """WCAG 2, "contrast ratio"."""
    light, dark = sorted((luminance(one), luminance(two)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1])
def test_contrast(scheme):
    block = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)[scheme]
    colours = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", block))
    for name in ("ink", "soft"):
        assert contrast(colours[name], colours["paper"]) >= 4.5
    for name in ("good", "bad", "warn"):
        assert contrast(colours[f"{name}-ink"], colours[name]) >= 4.5
    for name in ("s0", "s1", "s2", "s3", "s4"):
        assert contrast(colours[name], colours["paper"]) >= 4.5
