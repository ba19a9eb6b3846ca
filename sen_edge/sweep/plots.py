"""Validation accuracy over each searched setting, drawn by matplotlib."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

#: Settings that are drawn; more would not be read.
MOST_AXES = 12
COLUMNS = 3
COLOUR = "#0063a6"


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def drawn(table: Sequence[Mapping[str, Any]], names: Sequence[str]) -> bytes | None:
    """An SVG with a panel for each searched setting and a dot for each trial; None where nothing is finished.

    Args:
        table: rows of `sen_edge.sweep.results.rows`.
        names: of the searched settings.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure  # without pyplot, which would look for a display

    done = [row for row in table if row["validation_accuracy"] is not None]
    if not done:
        return None
    names = names[:MOST_AXES]
    n_rows, n_columns = -(-len(names) // COLUMNS), min(len(names), COLUMNS)
    figure = Figure(figsize=(3.6 * n_columns, 2.9 * n_rows), layout="constrained")
    panels = figure.subplots(n_rows, n_columns, squeeze=False, sharey=True).ravel()
    for panel, name in zip(panels, names, strict=False):
        _draw(panel, [row[name] for row in done], [row["validation_accuracy"] for row in done])
        panel.set_xlabel(name)
    for panel in panels[:: COLUMNS if n_rows > 1 else len(panels)]:
        panel.set_ylabel("validation accuracy, %")
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "sen-edge"}):  # the same rows give the same bytes
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _draw(panel: Any, values: Sequence[Any], accuracies: Sequence[float]) -> None:
    """Numbers along an axis, all else side by side."""
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        panel.plot(values, accuracies, "o", color=COLOUR, alpha=0.6, markersize=5)
        if min(values) > 0 and max(values) > 20 * min(values):
            panel.set_xscale("log")
    else:
        choices = list(dict.fromkeys(map(str, values)))
        places = [choices.index(str(value)) for value in values]
        panel.plot(places, accuracies, "o", color=COLOUR, alpha=0.6, markersize=5)
        panel.set_xticks(range(len(choices)), choices)
        panel.set_xlim(-0.5, len(choices) - 0.5)
    panel.grid(axis="y", alpha=0.3)
