"""Plots as PNG and SVG files."""

import sys
import xml.etree.ElementTree as ElementTree

import pytest

from sen_edge.report import plots
from sen_edge.report.plots import PlotError
from sen_runtime.errors import EXIT_MISSING, MissingExtraError
from tests.support import records


@pytest.fixture
def matplotlib():
    return pytest.importorskip("matplotlib")


def test_png_and_svg(tmp_path, matplotlib):
    record = records.record()
    record["rows"][0]["name"] = r"a$\frac{$ _x <y> " + "long " * 40
    plots.save(record, tmp_path / "plot.PNG")
    plots.save(record, tmp_path / "plot.svg")
    assert (tmp_path / "plot.PNG").read_bytes().startswith(b"\x89PNG\r\n")
    assert ElementTree.parse(tmp_path / "plot.svg").getroot().tag.endswith("svg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plot.PNG", "plot.svg"]


def test_what_cannot_be_drawn(tmp_path, matplotlib):
    with pytest.raises(PlotError, match="no rows"):
        plots.save(records.record((), ()), tmp_path / "plot.png")
    with pytest.raises(PlotError, match="cannot write"):
        plots.save(records.record(), tmp_path / "missing" / "plot.png")


def test_other_endings(tmp_path):
    with pytest.raises(PlotError, match=r"'\.pdf'; expected one of \.png, \.svg"):
        plots.save(records.record(), tmp_path / "plot.pdf")


def test_without_matplotlib_the_pip_line_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match="matplotlib") as missing:
        plots.check(tmp_path / "plot.png")
    assert missing.value.hint == "pip install 'sen-edge[plot]'"
    assert missing.value.exit_code == EXIT_MISSING
