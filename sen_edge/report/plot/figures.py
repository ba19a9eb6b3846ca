"""Figures for papers, drawn by matplotlib: panels on one sheet."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Literal

from sen_edge.errors import UsageError
from sen_edge.report.plot import panels
from sen_edge.report.plot.scene import Scene
from sen_edge.report.plot.source import Source
from sen_edge.report.plot.synapses import Drawn
from sen_runtime.errors import MissingExtraError

PIP_LINE = "pip install 'sen-edge[plot]'"

Panel = Literal["network", "distances", "weights", "degrees", "wiring", "input-grid", "before-after"]
PANELS: tuple[Panel, ...] = ("network", "distances", "weights", "degrees", "wiring", "input-grid", "before-after")
#: Rows and columns of the panels that need more than one of each.
SIZES: dict[Panel, tuple[int, int]] = {"network": (2, 2), "before-after": (1, 2)}
MOST_COLUMNS = 5
CELL_INCHES = (3.5, 3.0)
DPI = 160


def check_matplotlib() -> None:
    """Whether figures can be drawn here.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401  without pyplot, which would look for a display
    except ImportError:
        raise MissingExtraError("matplotlib, which draws .png, .svg and .pdf,", PIP_LINE) from None


def sheet(
    scene: Scene,
    synapses: Sequence[Drawn],
    asked: Sequence[Panel],
    before: Source | None,
    ending: str,
    notes: Sequence[str] = (),
) -> bytes:
    """A sheet of panels as `ending`: ".png", ".svg" or ".pdf"; the same bytes each time.

    Args:
        scene: the network.
        synapses: of each layer but the last those to draw.
        asked: panels; empty for those that the network has something to show in.
        before: the network before training, for "before-after".
        ending: of the file.
        notes: what to say below it, beside how the scene was laid out.

    Raises:
        UsageError: a panel that the network has nothing for.
        MissingExtraError: matplotlib is not installed.
    """
    check_matplotlib()
    import matplotlib
    from matplotlib.figure import Figure

    shown = tuple(asked) or default_panels(scene, before)
    _check_panels(scene, shown, before)
    spots, n_columns, n_rows = layout(shown)
    with matplotlib.rc_context(panels.STYLE):
        figure = Figure(
            figsize=(CELL_INCHES[0] * n_columns, CELL_INCHES[1] * n_rows + 0.7), layout="constrained", facecolor="white"
        )
        grid = figure.add_gridspec(n_rows, n_columns)
        for panel, (rows, columns) in zip(shown, spots, strict=True):
            DRAWERS[panel](figure, grid[rows, columns], scene, synapses, before)
        figure.suptitle(panels.title(scene), fontsize=12, fontweight="bold")
        figure.supxlabel(panels.footnote([*scene.notes, *notes], n_columns), fontsize=8, color=panels.SOFT)
        buffer = io.BytesIO()
        figure.savefig(buffer, format=ending[1:], dpi=DPI, metadata=_metadata(ending))
    return buffer.getvalue()


def default_panels(scene: Scene, before: Source | None) -> tuple[Panel, ...]:
    """The panels that a network has something to show in."""
    has: dict[Panel, bool] = {
        "degrees": panels.is_pruned(scene),
        "input-grid": panels.image_side(scene) is not None,
        "before-after": before is not None,
    }
    return tuple(panel for panel in PANELS if has.get(panel, True))


def _check_panels(scene: Scene, shown: Sequence[Panel], before: Source | None) -> None:
    n_in = scene.source.network.n_in
    if "input-grid" in shown and panels.image_side(scene) is None:
        raise UsageError(
            f"input-grid shows the input as a square image; {n_in:,} input neurons are none, or are too many to draw"
        )
    if "before-after" not in shown:
        return
    if before is None:
        raise UsageError("before-after needs another checkpoint", hint="--what before-after=OTHER.pt")
    found = (before.network.layer_sizes, before.dimensions)
    expected = (scene.source.network.layer_sizes, scene.source.dimensions)
    if found != expected:
        raise UsageError(
            f"{before.name} has layers {'-'.join(map(str, found[0]))} and d = {found[1]}; "
            f"expected {'-'.join(map(str, expected[0]))} and d = {expected[1]}, as {scene.source.name}"
        )


def layout(shown: Sequence[Panel]) -> tuple[list[tuple[slice, slice]], int, int]:
    """Where each panel goes: rows and columns of a grid, and how many of both there are."""
    sizes = [SIZES.get(panel, (1, 1)) for panel in shown]
    heights = [height for height, _ in sizes]
    cells = sum(height * width for height, width in sizes)
    n_columns = max(*(width for _, width in sizes), min(MOST_COLUMNS, -(-cells // max(2, *heights)), cells), 1)
    taken: set[tuple[int, int]] = set()
    spots = []
    for height, width in sizes:
        row, column = _free(taken, height, width, n_columns)
        taken |= {(row + i, column + j) for i in range(height) for j in range(width)}
        spots.append((slice(row, row + height), slice(column, column + width)))
    return spots, n_columns, max(row for row, _ in taken) + 1


def _free(taken: set[tuple[int, int]], height: int, width: int, n_columns: int) -> tuple[int, int]:
    """The first place, row by row, that is free."""
    row = 0
    while True:
        for column in range(n_columns - width + 1):
            if not taken & {(row + i, column + j) for i in range(height) for j in range(width)}:
                return row, column
        row += 1


def _metadata(ending: str) -> dict[str, Any]:
    """No date, so that the same network gives the same file."""
    if ending == ".png":
        return {"Software": None}
    return {"Date": None} if ending == ".svg" else {"CreationDate": None}


DRAWERS = {
    "network": panels.network,
    "distances": panels.distances,
    "weights": panels.weights,
    "degrees": panels.degrees,
    "wiring": panels.wiring,
    "input-grid": panels.input_grid,
    "before-after": panels.before_after,
}
