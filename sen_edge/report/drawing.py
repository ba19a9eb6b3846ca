"""Charts drawn by matplotlib: their style, SVG for pages, and sheets as picture files.

Colours of series are those of Okabe and Ito ("Color Universal Design", 2008), darkened for white paper. Markers and
line styles differ as well.
"""

from __future__ import annotations

import io
import os
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sen_runtime.errors import MissingExtraError
from sen_runtime.untrusted import printable

#: Suffixes of picture files, and the metadata that keep their bytes the same.
PICTURES = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
PAPER, INK, SOFT, RULE = "#ffffff", "#1b1f24", "#57606a", "#d0d7de"
SERIES = ("#0063a6", "#b34700", "#00795a", "#9c3f80", "#6b5b00")
MARKERS = "osD^v"
LINES = ("-", "--", ":", "-.")
#: Variables of style.css that replace the colours on a page, so that dark screens have others.
VARIABLES = {PAPER: "--paper", INK: "--ink", SOFT: "--soft", RULE: "--rule"} | {
    colour: f"--s{index}" for index, colour in enumerate(SERIES)
}
STYLE: Any = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": SOFT,
    "axes.axisbelow": True,
    "axes.labelcolor": SOFT,
    "grid.color": RULE,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.markeredgecolor": PAPER,
    "lines.markersize": 6.5,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "svg.fonttype": "none",
    "svg.hashsalt": "sen-edge",
    "pdf.fonttype": 42,
}
SHEET_INCHES = 15.5


@dataclass(frozen=True)
class Chart:
    """A chart for pages and picture files.

    Attributes:
        caption: heading of the figure.
        draw: draws it on axes of matplotlib.
        size: width and height in inches.
        note: explanation below it.
        description: its main figures in words, for screen readers.
    """

    caption: str
    draw: Callable[[Any], None]
    size: tuple[float, float] = (3.5, 1.9)
    note: str = ""
    description: str = ""


def check_matplotlib() -> None:
    """Refuse to draw without matplotlib.

    Raises:
        MissingExtraError: it is not installed.
    """
    # A command in a notebook inherits the name of a display that this environment may lack, and that no chart needs.
    display = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib.figure  # noqa: F401  not pyplot, which selects a display
    except ImportError:
        raise MissingExtraError("matplotlib, which draws charts,", "pip install 'sen-edge[plot]'") from None
    finally:
        if display is not None:
            os.environ["MPLBACKEND"] = display


def to_svg(chart: Chart, ident: str) -> str:
    """Draw a chart as an `<svg>` element for a page; its ids start with `ident`."""
    from matplotlib.figure import Figure

    with _style():
        figure = Figure(figsize=chart.size, layout="constrained")
        chart.draw(figure.add_subplot())
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = re.sub(r"<defs>\s*<style.*?</defs>|font-family: [^;\"]*;", "", buffer.getvalue(), count=0, flags=re.DOTALL)
    svg = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{ident}-", svg[svg.index("<svg") :])
    for colour, variable in VARIABLES.items():
        svg = svg.replace(f": {colour}", f": var({variable})")
    return svg


def to_file(charts: Sequence[Chart], title: str, footnote: str, suffix: str) -> bytes:
    """Draw charts on one sheet, in rows; the same charts give the same bytes.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    check_matplotlib()
    from matplotlib.figure import Figure

    rows: list[list[Chart]] = []
    for chart in charts:
        if not rows or sum(each.size[0] for each in (*rows[-1], chart)) > SHEET_INCHES:
            rows.append([])
        rows[-1].append(chart)
    width = max(sum(chart.size[0] for chart in row) for row in rows)
    heights = [max(chart.size[1] for chart in row) for row in rows]
    with _style():
        figure = Figure(figsize=(width, sum(heights) + 0.7), layout="constrained", facecolor=PAPER)
        strips = figure.add_gridspec(len(rows), 1, height_ratios=heights)
        for index, row in enumerate(rows):
            spots = strips[index].subgridspec(1, len(row), width_ratios=[chart.size[0] for chart in row])
            for column, chart in enumerate(row):
                axes = figure.add_subplot(spots[column])
                chart.draw(axes)
                axes.set_title(short(chart.caption, 60), loc="left")
        figure.suptitle(printable(title), fontsize=12, fontweight="bold")
        figure.supxlabel("\n".join(textwrap.wrap(footnote, round(16 * width))), fontsize=8, color=SOFT)
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix[1:], dpi=160, metadata=PICTURES[suffix])
    return buffer.getvalue()


def short(name: str, width: int = 40) -> str:
    """Name of a file or row for a label: one or two lines, shortened in the middle, without control characters."""
    text = printable(name)
    if len(text) > 2 * width:  # the end names the engine and its threads
        text = f"{text[: width - 2]}\N{HORIZONTAL ELLIPSIS}{text[-width + 2 :]}"
    return "\n".join(textwrap.wrap(text, width)) or text


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib

    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a browser has other fonts
        yield
