"""Demo page: module, loader, view and controls in one file without external resources."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from sen_exporters.view.data import View, labels_of, layer_names, legend
from sen_exporters.view.layout import arrange, find_strongest, gap_of, has_layer_axis, project, sample
from sen_exporters.view.page import VIEW_SCRIPTS, environment, hash_source, join_scripts
from sen_runtime.ir.network import Network, feature_ranges, positions_of
from sen_runtime.ir.standardization import LEFT_TO_CALLER, scaling_of

#: Max neurons of a page, and max synapses of a layer.
MAX_NEURONS, STRONGEST = 4000, 300
#: Sides of images that are drawn on a canvas, and max features with a slider each.
MIN_SIDE, MAX_SIDE, MAX_SLIDERS = 8, 256, 40
PAGE_SCRIPTS = ("page_input.js", "page_output.js", "page.js")
_MODULE = re.compile(rb'(<script type="text/plain" id="module">)[^<]*')


def build_page(network: Network, name: str, loader: str, module: bytes) -> bytes:
    """The page of a network called `name`, with the source of the loader."""
    view = lay_out(network)
    script = f"{loader}\n{join_scripts((*VIEW_SCRIPTS, *PAGE_SCRIPTS), __package__)}"
    page = environment(__package__).get_template("page.html.jinja")
    text = page.render(
        title=name,
        network=network,
        architecture="-".join(map(str, network.layer_sizes)),
        legend=legend(view.kinds),
        layers=view.names,
        steps=network.timesteps,
        steps_note="A neuron that spikes has a halo. Step 0 is the mean over all steps.",
        data={**view.to_dict(), "isLive": True, **_describe(network)},
        script=script,
        script_source=f"{hash_source(script)} 'wasm-unsafe-eval'",
    )
    return with_module(text.encode(errors="replace"), module)


def with_module(page: bytes, module: bytes) -> bytes:
    """The page with another module."""
    return _MODULE.sub(lambda found: found[1] + base64.b64encode(module), page, count=1)


def lay_out(network: Network) -> View:
    """Positions of the neurons, learned ones or by layers, and their strongest synapses."""
    sizes, learned = network.layer_sizes, positions_of(network)
    if learned:
        placed, axes, _ = project(learned, is_axis_fixed=has_layer_axis(learned))
    else:
        placed, axes = arrange(sizes), ("layer", "", "")
    neurons = sample(sizes, MAX_NEURONS)
    positions = [at[chosen] for at, chosen in zip(placed, neurons, strict=True)]
    links, kinds = [], []
    for index, layer in enumerate(network.layers):
        before, after = neurons[index : index + 2]
        weights = layer.weight.to_dense().astype(np.float32)
        signs = np.sign(weights.sum(axis=0, dtype=np.float64))[before]
        kinds.append([("silent", "excitatory", "inhibitory")[int(sign)] for sign in signs])
        drawn = weights[np.ix_(after, before)]
        sources, targets = find_strongest(np.abs(drawn), STRONGEST)
        links.append((sources, targets, drawn[targets, sources]))
    return View(
        names=layer_names(sizes),
        axes=axes,
        labels=labels_of(network, neurons),
        gap=gap_of(positions),
        dimensions=learned[0].shape[1] if learned else 0,
        neurons=neurons,
        positions=positions,
        kinds=[*kinds, ["output"] * len(neurons[-1])],
        masks=[np.full(len(chosen), np.nan) for chosen in neurons],
        coordinates=[
            at[chosen] for at, chosen in zip(learned or [np.zeros((n, 0)) for n in sizes], neurons, strict=True)
        ],
        synapses=links,
    )


def _describe(network: Network) -> Mapping[str, Any]:
    """Data of page.js about inputs: form, ranges and standardization."""
    n, names = network.n_features, network.names("feature_names")
    scaling = network.input_scaling or network.folded_scaling or scaling_of(network.metadata, n)
    low, high = (np.broadcast_to(ends, n) for ends in feature_ranges(replace(network, input_scaling=scaling)))
    side = round(n**0.5)
    form = "text"
    if side * side == n and MIN_SIDE <= side <= MAX_SIDE and not names:
        form = "image"
    elif n <= MAX_SLIDERS:
        form = "sliders"
    return {
        "form": "text" if network.coding.has_steps else form,
        "side": side,
        "low": _shorten(low),
        "high": _shorten(high),
        "mean": [] if scaling is None else scaling.mean.tolist(),
        "std": [] if scaling is None else scaling.std.tolist(),
        "isLeftToCaller": network.metadata.get("preprocess") == LEFT_TO_CALLER,
        "isBinary": network.coding.is_binary,
        "isCurrent": not network.coding.gives_spikes,
        "isMembrane": network.is_spiking and network.readout != "spike_count",
        "delta": network.delta,
        "steps": network.timesteps,
        "spikes": [0] * (network.timesteps + 1),
    }


def _shorten(values: Any) -> list[float]:
    """Round to six digits; one value if all are equal."""
    found = [float(f"{value:.6g}") for value in values]
    return found[:1] if len(set(found)) == 1 else found
