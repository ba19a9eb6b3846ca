"""Chart of the delays of a network: a histogram for each connection."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from sen_edge.model.wiring_figures import MAX_SYNAPSES, SOURCES, of_synapses
from sen_edge.report.drawing import LINES, SERIES, SOFT, Chart
from sen_runtime.errors import NetworkError
from sen_runtime.ir.delays import Steps
from sen_runtime.ir.network import Network

MAX_BARS = 60


def delay_chart(network: Network) -> Chart | None:
    """Draw the delays of every connection with different ones, and the last step of an input; None without any.

    Connections whose delays cannot be computed, or are more than `MAX_SYNAPSES`, are left out.
    """
    found = _delays(network)
    if not found:
        return None
    words = [f"{name}: {steps.min()} to {steps.max()} steps, mean {steps.mean():.1f}" for name, steps in found.items()]

    def draw(axes: Any) -> None:
        _draw(axes, found, network.timesteps)

    return Chart("Delays", draw, (3.5, 3.0), description="; ".join(words))


def _delays(network: Network) -> dict[str, Steps]:
    """Delays of the connections whose delays differ, by a name."""
    found = {}
    for index, layer in enumerate(network.layers):
        for source, (weight, delay) in zip(SOURCES, layer.connections, strict=False):
            if delay.bounds[0] == delay.bounds[1] or math.prod(weight.shape) > MAX_SYNAPSES:
                continue
            try:
                steps = of_synapses(weight, delay.steps(weight.shape))
            except NetworkError:  # a distance beyond the limit, which the tables state
                continue
            if steps.size:
                found[f"layer {index}, from {source}"] = steps
    return found


def _draw(axes: Any, found: Mapping[str, Steps], timesteps: int) -> None:
    """Outline one histogram for each connection, on common bins of whole steps, as shares of its synapses."""
    low = min(int(steps.min()) for steps in found.values())
    high = max(int(steps.max()) for steps in found.values())
    width = math.ceil((high - low + 1) / MAX_BARS)
    edges = np.arange(low, high + width + 1, width) - 0.5
    for index, (name, steps) in enumerate(found.items()):
        shares = np.histogram(steps, edges)[0] / steps.size
        style = {"color": SERIES[index % len(SERIES)], "linestyle": LINES[index % len(LINES)], "linewidth": 1.4}
        axes.stairs(shares, edges, label=name, **style)
    if low < timesteps <= high:
        axes.axvline(timesteps - 0.5, color=SOFT, linewidth=1, linestyle="--", label=f"T = {timesteps}")
    axes.set(xlabel="delay in steps", ylabel="share of synapses", xlim=(edges[0], edges[-1]))
    axes.set_ylim(0, axes.get_ylim()[1] * (1.1 + 0.1 * len(found)))  # the legend has room of its own
    axes.legend(loc="upper left", borderaxespad=0.1)
