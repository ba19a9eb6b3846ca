"""NIR: writes a network as a chain of delays, affine maps and neurons; equations are in `sen_exporters.nir.reader`.

Neurons have r = 1, and membranes and thresholds are scaled by 1 - beta, which changes no spike: Norse ignores r, and
snnTorch divides the threshold by the same factor. The readout keeps its scale by r = tau / dt, as do neurons with
synaptic currents, of which snnTorch takes no other r, and Norse any.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import singledispatch
from io import BytesIO
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
from annotated_types import Gt, Lt, doc

from sen_exporters.base import (
    Artifact,
    Exporter,
    ExportOptions,
    NoFormError,
    check_float_activations,
    describe,
)
from sen_exporters.nir import hdf5
from sen_runtime.engines import library
from sen_runtime.ir.checks import Array, Parameter
from sen_runtime.ir.delays import ConstantDelay, Delay, Steps, StoredDelay
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif, Neuron
from sen_runtime.ir.operators import Coordinates, leaves

OTHERS = "--to onnx, tflite, c, wasm and sen have one"
#: Targets of networks with delays, recurrence and currents.
WIRED = "take --to onnx, tflite, c or sen"


@dataclass(frozen=True)
class NirOptions(ExportOptions):
    """Options of the NIR exporter.

    Attributes:
        dt: time step in seconds that time constants are multiples of: tau = dt / (1 - beta).
    """

    dt: Annotated[float, Gt(0), Lt(1e6), doc("Time step in seconds of the time constants; snnTorch has 0.0001.")] = 1e-4


class NirExporter(Exporter):
    """`.nir` files: delays of source neurons, dense float weights, and identity, LIF or membrane neurons."""

    name = "nir"
    suffixes = (".nir",)
    Options = NirOptions
    uses_batch_size = False
    is_optional = True

    def check(self, network: Network, options: NirOptions) -> None:
        """Refuse networks without equivalent nodes."""
        check_float_activations(network, "NIR")
        if network.coding.is_computed:
            raise NoFormError(f"NIR has no node for the input coding {network.input_coding!r}", OTHERS)
        if network.input_scaling is not None or network.output_scaling is not None:
            raise NoFormError("NIR has no node for a standardization", "add --preprocess fold or none")
        if network.output_activation != "none":
            raise NoFormError(f"NIR has no node for a {network.output_activation}", "omit --probabilities")
        if network.readout_decay != 1:
            raise NoFormError("NIR has no node for a mean whose steps differ in weight", WIRED)
        for index, layer in enumerate(network.layers):
            try:
                _check_weight(layer)
                _check_wiring(layer)
                check_neuron(layer.neuron, layer.synapse)
            except NoFormError as error:
                raise NoFormError(f"layer {index}: {error.message}", error.hint) from error

    def export(self, network: Network, options: NirOptions) -> Artifact:
        """Build the file `name.nir`.

        Raises:
            NoFormError: see `check`.
            MissingExtraError: nir is not installed.
        """
        self.check(network, options)
        nir = library("nir", "nir")
        nodes = {"input": nir.Input(np.array([network.n_in]))}
        for index, layer in enumerate(network.layers):
            nodes |= dict(_nodes(nir, f"layer{index}", layer, options.dt))
        nodes["output"] = nir.Output(np.array([network.n_out]))
        names = list(nodes)
        graph = nir.NIRGraph(nodes, list(pairwise(names)))
        properties = describe(network) | ({"dt": repr(options.dt)} if network.is_spiking else {})
        return Artifact(self.name, {self.main_file(options): hdf5.dumps(graph, properties)})

    def stamp(self, artifact: Artifact, properties: Mapping[str, str]) -> Artifact:
        """Add `properties` to those of the file."""
        graph = library("nir", "nir").read(BytesIO(artifact.main))
        return artifact.with_main(hdf5.dumps(graph, {**self.properties(artifact.main), **properties}))

    def properties(self, model: bytes) -> Mapping[str, str]:
        """Read the properties in the graph's metadata."""
        return hdf5.read_properties(model)

    def engines(self, model: bytes) -> tuple[str, ...]:
        """The reference interpreter on the network that the file is read as."""
        del model
        return ("nir",)


def _check_weight(layer: Layer) -> None:
    for leaf in leaves(layer.weight):
        if isinstance(leaf, Coordinates):
            raise NoFormError("NIR has no node for weights computed from coordinates", "omit --weights coordinates")
        if leaf.scale is not None:
            raise NoFormError("NIR has no node for int8 weights", "--dtype float16 has one")


def _check_wiring(layer: Layer) -> None:
    """Refuse delays of single synapses, recurrent synapses, and biases next to synaptic currents."""
    if layer.delay is not None:
        source_delays(layer.delay, layer.weight.shape[1])
    if layer.recurrent is not None:
        raise NoFormError("NIR does not define the time step of recurrent synapses", WIRED)
    if layer.synapse != 0 and layer.bias is not None and np.any(layer.bias):
        raise NoFormError("NIR has no node for synaptic currents and a bias that they do not filter", WIRED)


def _nodes(nir: Any, name: str, layer: Layer, dt: float) -> Iterator[tuple[str, Any]]:
    """The delays of a layer, its affine map and its neurons, by name."""
    if layer.delay is not None:
        yield f"{name}_delay", nir.Delay(source_delays(layer.delay, layer.weight.shape[1]) * dt)
    weight = layer.weight.to_dense()
    if layer.weight.stored_matrix().dtype == np.float16:
        weight = weight.astype(np.float16)
    yield name, nir.Linear(weight) if layer.bias is None else nir.Affine(weight, layer.bias)
    if (neurons := neuron_node(layer.neuron, nir, layer.weight.shape[0], dt, layer.synapse)) is not None:
        yield f"{name}_neurons", neurons


# --- delays --------------------------------------------------------------------------------------


@singledispatch
def source_delays(delay: Delay, n_in: int) -> Steps:
    """Delays `[n_in]` of the source neurons in steps; delays of single synapses are refused."""
    raise NoFormError(f"NIR has no node for delays from {delay.kind}: a Delay node has one for each source", WIRED)


@source_delays.register
def _constant(delay: ConstantDelay, n_in: int) -> Steps:
    return np.full(n_in, delay.value, np.int32)


@source_delays.register
def _stored(delay: StoredDelay, n_in: int) -> Steps:
    found = delay.steps((len(delay.values), n_in))
    differ = np.argwhere(found != found[0])
    if differ.size:
        j, i = differ[0]
        raise NoFormError(
            f"the delays of source neuron {i} are {found[0, i]} steps to neuron 0 and {found[j, i]} to neuron {j}; "
            "a Delay node of NIR has one for each source",
            WIRED,
        )
    first: Steps = found[0]
    return first


# --- neurons -------------------------------------------------------------------------------------


@singledispatch
def check_neuron(neuron: Neuron, synapse: float) -> None:
    """Refuse neurons without a node; `synapse` is the decay of their current; one function for each model."""
    raise NoFormError(f"NIR has no node for {type(neuron).__name__} neurons", OTHERS)


@check_neuron.register
def _identity(neuron: Identity, synapse: float) -> None:
    del neuron, synapse


@check_neuron.register
def _leaky_integrator(neuron: LeakyIntegrator, synapse: float) -> None:
    _check_leak(neuron.beta, synapse)


@check_neuron.register
def _lif(neuron: Lif, synapse: float) -> None:
    if neuron.reset != "zero":
        raise NoFormError(
            f"NIR has no node for Lif neurons with the reset {neuron.reset!r}: its neurons are set to v_reset",
            "train with the reset zero, or take --to onnx, tflite, c, wasm or sen",
        )
    _check_leak(neuron.beta, synapse)


def _check_leak(beta: Parameter, synapse: float) -> None:
    """Refuse neurons without leak next to others, or with a synaptic current."""
    n_without = int(np.sum(np.asarray(beta) == 1))
    index = int(np.argmax(np.asarray(beta) == 1))
    if 0 < n_without < np.size(beta):
        raise NoFormError(f"neuron {index} has beta 1 and others leak, for which NIR has no common node", OTHERS)
    if n_without and synapse != 0:
        raise NoFormError("NIR has no node for synaptic currents of neurons with beta 1", WIRED)


@singledispatch
def neuron_node(neuron: Neuron, nir: Any, size: int, dt: float, synapse: float) -> Any:
    """The node of `size` neurons that `check_neuron` accepts; None for the identity."""
    return None


@neuron_node.register
def _leaky_integrator_node(neuron: LeakyIntegrator, nir: Any, size: int, dt: float, synapse: float) -> Any:
    if np.all(np.asarray(neuron.beta) == 1):
        return nir.I(np.full(size, 1 / dt))
    tau = _time_constant(neuron.beta, size, dt)
    if synapse == 0:
        return nir.LI(tau, tau / dt, np.zeros(size))
    tau_syn = _time_constant(synapse, size, dt)
    return nir.CubaLI(tau_syn, tau, tau / dt, np.zeros(size), w_in=tau_syn / dt)


@neuron_node.register
def _lif_node(neuron: Lif, nir: Any, size: int, dt: float, synapse: float) -> Any:
    threshold = np.broadcast_to(np.float64(1) * neuron.threshold, (size,))
    if np.all(np.asarray(neuron.beta) == 1):
        return nir.IF(np.full(size, 1 / dt), threshold, np.zeros(size))
    tau = _time_constant(neuron.beta, size, dt)
    if synapse == 0:
        return nir.LIF(tau, np.ones(size), np.zeros(size), threshold * (dt / tau), np.zeros(size))
    tau_syn = _time_constant(synapse, size, dt)
    return nir.CubaLIF(tau_syn, tau, tau / dt, np.zeros(size), threshold, np.zeros(size), w_in=tau_syn / dt)


def _time_constant(decay: Parameter, size: int, dt: float) -> Array:
    """Time constants `[n]` in float64, from which a decay per step follows to the last bit."""
    return np.broadcast_to(dt / (1 - np.asarray(decay, np.float64)), (size,))
