"""What a network costs on an engine, by measurement: a model that is asked often, and the real thing.

A search asks for the latency of hundreds of networks that were compressed from one. So every form that its layers can
take is measured once, at a few sizes, in a network of that layer alone (`cost_layers`), and a latency is put together:

    latency = overhead + neurons + sum over layers, and over the leaves of their weights, of product(form, dtype, MACs)
              + crowding

Products are curves between the measured sizes, because straight lines they are not: caches end, vectors are filled up.
Layers that fit a cache one by one may not do so together: that is crowding, what the whole network takes longer than
its layers do alone, and less for less weights. All of it is for one input at a time and one thread. Engines that
announce themselves on stderr do so here as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import cycle
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_edge.compress.cost_layers import (
    DTYPES,
    FORMS,
    ROWS,
    SAMPLES,
    Place,
    Point,
    check_inputs,
    is_per_step,
    neurons_alone,
    places,
    points,
    product_of,
    products_of,
    some,
    spiking_neurons,
    with_rank_one,
    written_out,
)
from sen_edge.errors import UsageError
from sen_exporters.base import Exporter, ExportError, ExportOptions, exporter_for
from sen_exporters.tflite.options import TfliteOptions
from sen_runtime import engines
from sen_runtime import format as image
from sen_runtime.bench.interleaved import Latencies, interleaved
from sen_runtime.engines.native import NativeSession
from sen_runtime.engines.onnxruntime import OnnxRuntimeSession
from sen_runtime.engines.tflite import TfliteSession
from sen_runtime.ir.network import Network
from sen_runtime.ir.operators import leaves
from sen_runtime.untrusted import quote

FloatArray = NDArray[np.float32]
Call = Callable[[], object]

ENGINES = ("native", "onnxruntime", "litert")
#: Sizes that a product is measured at: as many as there is time for.
FEWEST_SIZES, MOST_SIZES = 2, 5
#: Seconds that a network needs to be built, loaded and measured well; and those in which it is only warmed up.
SECONDS_PER_NETWORK, SECONDS_TO_WARM_UP = 0.05, 0.01
#: Names of what is measured beside points.
DENSE, LEAST, NEURONS, NEURON, IDLE, CLOCK = "dense network", "network of rank 1", "neurons", "neuron", "idle", "clock"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True)
class Curve:
    """What a product takes on an engine, by its size.

    Attributes:
        shape: `(n_out, n_in)` of the layer that it was measured in.
        per_step: whether it is multiplied in every time step, with spikes, or once for an inference.
        form: one of `cost_layers.FORMS`.
        dtype: of the stored weights, one of `cost_layers.DTYPES`.
        macs: multiply-accumulates of one product, rising.
        us: microseconds in an inference, all its time steps, >= 0 and never falling.
    """

    shape: tuple[int, int]
    per_step: bool
    form: str
    dtype: str
    macs: tuple[int, ...]
    us: tuple[float, ...]

    def at(self, macs: int) -> float:
        """Microseconds of a product of some size; outside of those measured, on the line of the nearest two."""
        if len(self.macs) == 1:
            return self.us[0]
        high = min(max(int(np.searchsorted(self.macs, macs)), 1), len(self.macs) - 1)
        slope = (self.us[high] - self.us[high - 1]) / (self.macs[high] - self.macs[high - 1])
        return max(0.0, self.us[high] + slope * (macs - self.macs[high]))

    def is_sound(self) -> bool:
        """Whether a curve that comes from a file has the types and the order of its figures."""
        return (
            len(self.shape) == 2
            and all(_is_number(each) for each in (*self.shape, *self.macs, *self.us))
            and len(self.macs) == len(self.us) > 0
            and all(before < after for before, after in zip(self.macs, self.macs[1:], strict=False))
        )


@dataclass(frozen=True)
class CostModel:
    """Latencies of what one network can become, on one engine of one machine.

    Attributes:
        engine: one of `ENGINES`.
        version: of the engine.
        timesteps: of the network; 0 for a perceptron.
        overhead_us: microseconds of an inference without products and spiking neurons.
        neuron_us: microseconds that a spiking neuron takes in all time steps, beside its product.
        crowding_us: microseconds that the layers of the dense network take longer together than alone.
        alone_bytes: of the weights of its greatest layer, which is not crowded.
        dense_bytes: of all its weights.
        curves: one for each shape, kind of product and dtype that was measured.
    """

    engine: str
    version: str
    timesteps: int
    overhead_us: float
    neuron_us: float
    crowding_us: float
    alone_bytes: int
    dense_bytes: int
    curves: tuple[Curve, ...]

    def latency_us(self, network: Network) -> float:
        """Predicted latency of one inference, in microseconds, exported with `options(network)`.

        A layer of a shape that was not measured, because neurons were removed, goes by the most similar one.

        Raises:
            UsageError: weights that there are no figures for, int8 activations, or other time steps.
        """
        return min(self._latencies_us(network).values())

    def options(self, network: Network) -> ExportOptions:
        """How to export the network for this engine, so that it is fast; raises what `latency_us` does."""
        found = self._latencies_us(network)
        return export_options(self.engine, blocks=min(found, key=lambda blocks: found[blocks]))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CostModel:
        """What `to_dict` gave. It holds for the machine that it was measured on, which is not checked.

        Raises:
            UsageError: it is something else, or another version of the engine is installed now.
            MissingExtraError: the engine is not installed any more.
        """
        try:
            curves = tuple(
                Curve(**{**curve, **{name: tuple(curve[name]) for name in ("shape", "macs", "us")}})
                for curve in values["curves"]
            )
            model = cls(**{**values, "curves": curves})
        except (KeyError, TypeError) as error:
            raise UsageError(f"this is no cost model: {quote(str(error))}", hint="measure again") from None
        if not _is_sound(model):
            raise UsageError("this is no cost model: its figures have other types or orders", hint="measure again")
        installed = _version(model.engine)
        if model.version != installed:
            raise UsageError(
                f"latencies were measured with {model.engine} {model.version}; installed is {installed}",
                hint="measure again",
            )
        return model

    def _latencies_us(self, network: Network) -> dict[bool, float]:
        """Latency by whether sparse weights are exported as blocks; without the key True where that is no choice."""
        if network.timesteps != self.timesteps:
            raise UsageError(
                f"the network has {network.timesteps} time steps; latencies were measured with {self.timesteps}",
                hint="measure the network that this one was made from",
            )
        if network.input_grid is not None:
            raise UsageError("latency of int8 activations is not predicted", hint="measure() measures it")
        ways = (False, True) if self.engine == "litert" and takes_blocks(network) else (False,)
        return {blocks: self._latency_us(network, blocks=blocks) for blocks in ways}

    def _latency_us(self, network: Network, *, blocks: bool) -> float:
        total, multiplied_bytes = self.overhead_us + self.neuron_us * spiking_neurons(network), 0
        for index, layer in enumerate(network.layers):
            for leaf in leaves(layer.weight):
                form, dtype, macs = product_of(leaf, self.engine, blocks=blocks)
                total += self._curve(index, leaf.shape, is_per_step(network, index), form, dtype).at(macs)
                multiplied_bytes += macs * np.dtype(dtype).itemsize
        crowded = (multiplied_bytes - self.alone_bytes) / max(1, self.dense_bytes - self.alone_bytes)
        return total + self.crowding_us * min(max(crowded, 0.0), 1.0)

    def _curve(self, index: int, shape: tuple[int, int], per_step: bool, form: str, dtype: str) -> Curve:
        """The curve of a product, in the layer whose sizes are the least factor away."""
        alike = [curve for curve in self.curves if curve.per_step == per_step]
        found = [curve for curve in alike if (curve.form, curve.dtype) == (form, dtype)]
        if not found:
            measured = ", ".join(dict.fromkeys(f"{curve.form} {curve.dtype}" for curve in alike)) or "nothing"
            raise UsageError(
                f"layer {index} has {form} {dtype} weights{' that meet spikes' if per_step else ''}; measured on "
                f"{self.engine} was {measured}",
                hint="measure them as well, or leave them out",
            )
        return min(found, key=lambda curve: sum(abs(log(a / b)) for a, b in zip(curve.shape, shape, strict=True)))


def _is_sound(model: CostModel) -> bool:
    numbers = (
        model.timesteps,
        model.overhead_us,
        model.neuron_us,
        model.crowding_us,
        model.alone_bytes,
        model.dense_bytes,
    )
    return model.engine in ENGINES and all(map(_is_number, numbers)) and all(curve.is_sound() for curve in model.curves)


def calibrate(
    network: Network,
    engine: str,
    x: FloatArray,
    *,
    seconds: float = 10.0,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
    forms: Sequence[str] = FORMS,
    dtypes: Sequence[str] = DTYPES,
) -> CostModel:
    """Measure what the layers of a network take in every form that an engine has a product for.

    A layer gets the inputs that reach it in `network`; one that meets spikes is a spiking network of its own, in all
    time steps. So neurons are taken to be as active in what `network` becomes.

    Args:
        network: that is to be compressed.
        engine: one of `ENGINES`.
        x: inputs like those that it will see, `[n, n_in]`, or `[n, T, n_in]` for input coding "spikes".
        seconds: about how long to take; it is longer where that is too short for the fewest sizes.
        seed: of random factors, and of the order of measurements.
        progress: told the share of `seconds` that is over, often.
        forms: those of `FORMS` to measure. Dense and low-rank are always there: what has no product of its own is
            multiplied dense, and the overhead is that of a network of rank 1.
        dtypes: those of `DTYPES` to measure. float32 is always there.

    Raises:
        UsageError: no such engine, form or dtype.
        DataError: no inputs.
        NetworkError: inputs of another shape.
        MissingExtraError: the engine is not installed.
    """
    start, tell = time.perf_counter(), progress or (lambda _: None)

    def report() -> None:
        tell(min(1.0, (time.perf_counter() - start) / seconds))

    version, products = _version(engine), products_of(engine, forms, dtypes)
    network, x, rng = written_out(network), check_inputs(network, x), np.random.default_rng(seed)
    found = places(network, some(x, SAMPLES), seed)
    n_sizes = int(seconds / SECONDS_PER_NETWORK / len(found) / len(products))
    n_sizes = min(max(n_sizes, FEWEST_SIZES), MOST_SIZES)
    least = with_rank_one(network, rng)
    calls = {name: _call(whole, engine, some(x, ROWS)) for name, whole in ((DENSE, network), (LEAST, least))}
    calls |= _resting(network, found, engine)
    measurable: list[Point] = []
    for point, alone in points(found, products, n_sizes, rng):
        if (options := _options_for(point, alone, engine)) is not None:
            calls[point.name] = _call(alone, engine, point.place.x, options)
            measurable.append(point)
        report()
    if progress is not None:
        calls[CLOCK] = report
    left = seconds - (time.perf_counter() - start) - SECONDS_TO_WARM_UP * len(calls)
    measured = interleaved(calls, max(left, 0.0), seed)
    tell(1.0)
    model = CostModel(engine, version, network.timesteps, 0.0, 0.0, 0.0, 0, 0, _curves(measured, measurable))
    return _with_the_rest(model, measured, network, least)


def _with_the_rest(model: CostModel, measured: Latencies, network: Network, least: Network) -> CostModel:
    """A model of products with what neurons take, then what is left of the least network, then of the dense one."""
    if count := spiking_neurons(network):
        model = replace(model, neuron_us=max(0.0, _beyond_us(measured, NEURONS, NEURON)) / count)
    model = replace(model, overhead_us=max(0.0, measured.median_us(LEAST) - model.latency_us(least)))
    layer_bytes = [layer.weight.nbytes for layer in network.layers]
    return replace(
        model,
        crowding_us=max(0.0, measured.median_us(DENSE) - model.latency_us(network)),
        alone_bytes=max(layer_bytes),
        dense_bytes=sum(layer_bytes),
    )


def _resting(network: Network, found: Sequence[Place], engine: str) -> dict[str, Call]:
    """What is left of places without their products; and in a spiking network its neurons, all of them and one."""
    alone = {f"{place.name} {IDLE}": place.idle() for place in found}
    if count := spiking_neurons(network):
        alone |= {NEURONS: neurons_alone(network, count + 1), NEURON: neurons_alone(network, 1)}
    return {name: _call(small, engine, np.zeros((1, *small.input_shape), np.float32)) for name, small in alone.items()}


def _options_for(point: Point, alone: Network, engine: str) -> ExportOptions | None:
    """How to export a point, so that its product is the one that is meant; None where its shape has no such product."""
    if engine != "litert" or point.form in ("dense", "low-rank"):
        return export_options(engine)
    return export_options(engine, blocks=True) if takes_blocks(alone) else None


def _beyond_us(measured: Latencies, name: str, baseline: str) -> float:
    """Median of what one takes more than the other in the same round, microseconds."""
    return float(np.median(measured.blocks_us[name] - measured.blocks_us[baseline]))


def _curves(measured: Latencies, measurable: Sequence[Point]) -> tuple[Curve, ...]:
    """What products take: the medians of what a network of one layer takes beyond an idle one in the same round."""
    found: dict[tuple[tuple[int, int], bool, str, str], dict[int, float]] = {}
    for point in measurable:
        curve = found.setdefault((point.place.shape, point.place.per_step, point.form, point.dtype), {})
        curve[point.macs] = _beyond_us(measured, point.name, f"{point.place.name} {IDLE}")
    result = []
    for key, us in found.items():
        macs = sorted(us)
        rising = np.maximum.accumulate([0.0, *(us[size] for size in macs)])[1:]  # but for noise, more work takes longer
        result.append(Curve(*key, tuple(macs), tuple(rising.tolist())))
    return tuple(result)


def measure(
    networks: Mapping[str, Network],
    engine: str,
    x: FloatArray,
    seconds: float,
    seed: int = 0,
    options: Callable[[Network], ExportOptions] | None = None,
) -> Latencies:
    """Latency of whole networks in one interleaved run: input copied in, output copied out, nothing checked.

    Args:
        networks: by name.
        engine: one of `ENGINES`.
        x: inputs `[n, n_in]`, or `[n, T, n_in]` for input coding "spikes"; some of them take turns.
        seconds: how long to measure, once everything is loaded and warm.
        seed: of the order.
        options: how to export each, such as `CostModel.options`; by default without sparse kernels in litert.

    Raises:
        UsageError: no such engine.
        ExportError: a network that the engine has no form for.
        DataError: no inputs.
        NetworkError: inputs of another shape.
        MissingExtraError: the engine is not installed.
    """
    _version(engine)
    calls = {
        name: _call(network, engine, some(check_inputs(network, x), ROWS), options and options(network))
        for name, network in networks.items()
    }
    return interleaved(calls, seconds, seed)


def weight_bytes(network: Network) -> int:
    """Bytes of the network's `.sen` image without metadata: its arrays, columns in 16 bits where they fit, and headers.

    Raises:
        ImageError: what an image does not hold, such as int8 activations.
    """
    return len(image.dumps(replace(network, metadata={})))


def export_options(engine: str, *, blocks: bool = False) -> ExportOptions:
    """How networks are exported for an engine; `blocks` for sparse kernels, where the engine has to be told."""
    if engine == "litert":
        return TfliteOptions(sparse_format="block" if blocks else None, tflite_target="litert")
    return _exporter(engine).Options()


def takes_blocks(network: Network) -> bool:
    """Whether all sparse weights of the network have the kernel that TFLite has for them."""
    try:
        _exporter("litert").check(network, export_options("litert", blocks=True))
    except ExportError:
        return False
    return True


def _call(network: Network, engine: str, x: FloatArray, options: ExportOptions | None = None) -> Call:
    """An inference in a fresh session: at every call of the next row of `x [rows, ...]`."""
    model = _exporter(engine).export(network, options or export_options(engine)).main
    session = engines.engine(engine).load(model)
    turns = cycle([_bare_call(session, x[row : row + 1]) for row in range(len(x))])

    def call(session: engines.Session = session) -> object:  # which holds what the turns work on
        return next(turns)()

    return call


def _bare_call(session: engines.Session, x: FloatArray) -> Call:
    assert isinstance(
        session, (NativeSession, OnnxRuntimeSession, TfliteSession)
    )  # of the engines that there are; this is for mypy
    return session.bare_call(x)


def _version(engine: str) -> str:
    if engine not in ENGINES:
        raise UsageError(f"engine is {engine!r}; expected one of {', '.join(ENGINES)}")
    return engines.engine(engine).version()


@lru_cache(maxsize=len(ENGINES))
def _exporter(engine: str) -> Exporter:
    return exporter_for(engines.engine(engine).suffix)
