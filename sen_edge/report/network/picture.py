"""Picture of a network as one file: charts on a sheet, or an interactive page.

The page loads nothing and runs no script but its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import sen_edge
from sen_edge.data.datasets import load_part
from sen_edge.errors import UsageError
from sen_edge.model import checkpoint as checkpoints
from sen_edge.model.model import Model
from sen_edge.report import drawing
from sen_edge.report.document import UNKNOWN, Table, to_page
from sen_edge.report.network.panels import default_panels, panel
from sen_edge.report.network.request import BEFORE_AFTER, PAGE, PlotRequest
from sen_edge.report.network.scene import STRONGEST, Scene, load_positions, scene
from sen_exporters.view.data import View, encode, legend
from sen_exporters.view.page import VIEW_SCRIPTS, hash_source, join_scripts
from sen_runtime import reference
from sen_runtime.bench.loops import random_inputs
from sen_runtime.data import TEST
from sen_runtime.errors import NetworkError
from sen_runtime.ir.network import Network
from sen_runtime.task import CLASSIFICATION
from sen_runtime.untrusted import quote

FloatArray = NDArray[np.float32]

#: Weights of a network that is run for a picture.
MAX_WEIGHTS = 1 << 26


def draw(model: Model, request: PlotRequest, note: Callable[[str], None]) -> bytes:
    """Draw a model of `load_positions`; the same network gives the same bytes.

    `note` receives remarks for the reader of the picture, which the file holds as well.

    Raises:
        UsageError: an option without effect; a panel in which the network has nothing to show; an example that the
            data lack.
        DataError: the data are missing or do not fit.
        MissingExtraError: matplotlib, which draws charts, is not installed.
    """
    if request.data is not None and not model.network.is_spiking:
        raise UsageError("--data gives a spiking network its input; this is a perceptron", hint="leave it out")
    if request.data is not None and not request.is_page:
        raise UsageError("--data is for the spikes on a page", hint=f"leave it out, or write a {PAGE}")
    if not request.is_page:
        drawing.check_matplotlib()
    other = request.panels.get(BEFORE_AFTER)
    before = None if other is None else load_positions(other, map_path=request.map_path)
    strongest = STRONGEST if request.synapses is None else request.synapses
    network = scene(model, strongest=strongest, max_distance=request.max_distance)
    notes = list(network.notes)
    spikes, input_name = None, ""
    if request.is_page and model.network.is_spiking:
        try:
            spikes, input_name = simulate(model, request)
        except NetworkError as error:
            notes.append(f"Spikes are not shown, as the network does not run: {error.message}.")
    for line in notes:
        note(line)
    if not request.is_page:
        charts = [panel(name, network, before) for name in request.panels or default_panels(network)]
        return drawing.to_file(charts, f"{model.name}: {network.description}", " ".join(notes), request.suffix)
    if spikes is not None:
        note(f"spikes: input {input_name}")
    return _page(network, spikes, input_name, notes, note).encode(errors="replace")  # names may hold lone surrogates


# --- activity ------------------------------------------------------------------------------------


def simulate(model: Model, request: PlotRequest) -> tuple[list[FloatArray], str]:
    """Run a spiking network on the requested input: `record`, and the name of the input.

    Raises:
        NetworkError: the network does not run.
    """
    network = model.network
    if network.macs > MAX_WEIGHTS:
        raise NetworkError(f"it has {network.macs:,} weights, too many to run it here")
    name = f"random, seed {request.seed}"
    if request.data is None:
        is_binary = network.coding.is_binary
        x = random_inputs(network.input_shape, 1, request.seed, *network.input_range, is_binary=is_binary)[0]
    else:
        found, index = load_part(request.data, TEST, request.data_dir, network), request.example
        if index >= len(found.inputs):
            raise UsageError(f"--example is {index}; {found.title} has the examples 0 to {len(found.inputs) - 1}")
        label = "" if found.targets is None else f", label {_class_name(network, found.targets[index])}"
        x, name = found.inputs[index], f"example {index} of {found.title}{label}"
    if model.checkpoint is not None:
        network = checkpoints.to_network(model.checkpoint)  # with its pattern of synapses
    return record(network, x), name


def _class_name(network: Network, target: Any) -> str:
    """Name of a class, or the target as it is."""
    names = network.names("output_names") if network.task == CLASSIFICATION else ()
    return quote(names[target]) if len(names) == network.n_out else str(target)


def record(network: Network, x: FloatArray) -> list[FloatArray]:
    """Activity `[T, n]` of each layer with spikes for one input.

    The input is the first layer; 1 is a spike, and an input current ranges from 0 to 1.
    """
    network = reference.expand(network)
    states = reference.initial_state(network, 1, np.float32)
    steps: list[list[FloatArray]] = []
    for x_t in reference.arriving(network, reference.standardize(network, x[np.newaxis])):
        states, spikes = reference.step(network, states, x_t)
        steps.append([spike[0] for spike in spikes])
    inputs = np.concatenate(list(reference.arriving(network, x[np.newaxis])))
    low, high = network.input_range
    levels = inputs if network.coding.gives_spikes else np.clip((inputs - low) / (high - low), 0, 1)
    return [levels.astype(np.float32), *map(np.stack, zip(*steps, strict=True))]


# --- the page ------------------------------------------------------------------------------------


def _page(
    scene: Scene,
    spikes: Sequence[FloatArray] | None,
    input_name: str,
    notes: Sequence[str],
    note: Callable[[str], None],
) -> str:
    script = join_scripts(VIEW_SCRIPTS)
    model = scene.model
    has_delays = any(layer.delay is not None for layer in model.network.layers)
    travel = "; dots are spikes on their way along synapses with a delay" * has_delays
    metadata = (model.network if model.checkpoint is None else model.checkpoint).metadata
    facts = [[name, value] for name, value in {**metadata, "sha256": model.sha256}.items() if value]
    return to_page(
        f"Network: {model.name}",
        [_layer_table(scene), Table("Metadata", ["name", "value"], facts, is_text=True)],
        note,
        "viewer.html",
        subtitle=f"{scene.description} · sen-edge {sen_edge.__version__}",
        notes=notes,
        legend=legend(scene.kinds),
        layers=scene.layer_names,
        steps=0 if spikes is None else len(spikes[0]),
        steps_note=f"Input: {input_name}. A neuron that spikes has a halo{travel}.",
        data=_data(scene, spikes),
        script=script,
        script_source=hash_source(script),
    )


def _layer_table(scene: Scene) -> Table:
    rows = []
    for name, kinds, link in zip(scene.layer_names, scene.kinds, scene.links, strict=False):
        lengths, strongest = link.lengths, link.strongest
        rows.append(
            {
                "layer": name,
                "neurons": f"{len(kinds):,}",
                "excitatory": f"{kinds.count('excitatory'):,}",
                "inhibitory": f"{kinds.count('inhibitory'):,}",
                "synapses": f"{lengths.size:,}",
                "drawn": f"{len(strongest):,}",
                "median distance": f"{np.median(lengths):.3g}" if lengths.size else UNKNOWN,
                "strongest weight": f"{strongest[0]:.3g}" if len(strongest) else UNKNOWN,
            }
        )
    last = {"layer": scene.layer_names[-1], "neurons": f"{len(scene.kinds[-1]):,}"}
    return Table.of("Layers, and the synapses from each to the next", [*rows, dict.fromkeys(rows[0], UNKNOWN) | last])


def _delays(scene: Scene) -> dict[str, Any]:
    """Delays of the drawn synapses in steps, along which the script moves spikes; empty for a network without any."""
    layers = scene.model.network.layers
    if all(layer.delay is None for layer in layers):
        return {}
    found = []
    for index, (layer, link) in enumerate(zip(layers, scene.links, strict=True)):
        weight, delay = layer.connections[0]
        steps = delay.steps(weight.shape)
        found.append(steps[scene.neurons[index + 1][link.targets], scene.neurons[index][link.sources]])
    return {"delays": encode("Uint16Array", found)}


def _data(scene: Scene, spikes: Sequence[FloatArray] | None) -> dict[str, Any]:
    """Data of the script: the view, and the activity in each step."""
    links = scene.links
    view = View(
        names=scene.layer_names,
        axes=scene.axes,
        labels=scene.labels,
        gap=scene.gap,
        dimensions=scene.dimensions,
        neurons=scene.neurons,
        positions=scene.positions,
        kinds=scene.kinds,
        masks=[*(link.operator.mask for link in links), np.full(len(scene.neurons[-1]), np.nan)],
        coordinates=[*(link.operator.source for link in links), links[-1].operator.target],
        synapses=[(link.sources, link.targets, link.strongest) for link in links],
    )
    data = view.to_dict()
    if spikes is not None:
        is_current = not scene.model.network.coding.gives_spikes
        levels = np.concatenate([layer[:, drawn] for layer, drawn in zip(spikes, scene.neurons, strict=False)], axis=1)
        counts = levels[:, len(scene.neurons[0]) if is_current else 0 :].sum(axis=1)
        # Step 0 is the mean over all steps.
        data["arrays"]["activity"] = encode("Uint8Array", [np.rint(255 * levels.mean(axis=0)), *np.rint(255 * levels)])
        data["arrays"] |= _delays(scene)
        data |= {"steps": len(levels), "isCurrent": is_current, "spikes": [int(counts.sum()), *map(int, counts)]}
    return data
