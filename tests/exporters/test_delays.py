"""Delays, recurrent synapses, synaptic currents and refractory neurons in ONNX and TFLite, against the reference."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sen_exporters.base import ExportError, NoFormError, exporter
from sen_exporters.tflite.exporter import TfliteExporter
from sen_exporters.tflite.schema import parse
from sen_runtime import reference
from sen_runtime.engines import Session, litert, onnxruntime
from sen_runtime.ir.delays import ConstantDelay, Delay, SpatialDelay, StoredDelay
from sen_runtime.ir.layer import Layer, Recurrence
from sen_runtime.ir.network import READOUTS, Network
from sen_runtime.ir.neurons import LeakyIntegrator, Lif, Neuron, RefractoryLif
from sen_runtime.ir.operators import Coordinates, Dense, LowRank, Sparse, Sum, WeightOperator
from sen_runtime.ir.standardization import Standardization
from tests.support.c_exports import STORAGES, integers, small
from tests.support.networks import read_out

FORMS = [("onnx", "unrolled"), ("onnx", "scan"), ("onnx", "step"), ("tflite", "unrolled"), ("tflite", "step")]
LOAD = {"onnx": onnxruntime.load, "tflite": litert.ENGINE.load}
N_IN, HIDDEN, N_OUT, STEPS = 6, 5, 3, 9


def dense(rng: np.random.Generator, n_out: int, n_in: int) -> Dense:
    """Multiples of 2^-6: float32 sums of them are exact."""
    return Dense((rng.integers(-20, 40, (n_out, n_in)) / 64).astype(np.float32))


def make_delay(rng: np.random.Generator, kind: str, n_out: int, n_in: int, lowest: int = 0) -> Delay | None:
    if kind == "none":
        return None
    if kind == "constant":
        return ConstantDelay(2)
    if kind == "stored":
        return StoredDelay(rng.integers(lowest, 5, (n_out, n_in)).astype(np.uint8))
    if kind == "wide":  # beyond 8 bits, and most of it beyond all steps
        return StoredDelay(rng.choice(np.array([lowest, 3, 300], np.uint16), (n_out, n_in)))
    if kind == "zero":
        return StoredDelay(np.full((n_out, n_in), lowest, np.uint8))
    source, target = (rng.normal(size=(n, 3)).astype(np.float32) for n in (n_in, n_out))
    return SpatialDelay(source, target, 1.5, limit=4, overflow="clamp", shift=lowest)


KINDS = ("none", "constant", "stored", "wide", "zero", "spatial")


def make(
    seed: int = 0,
    *,
    delay: str = "none",
    recurrent: str = "none",
    synapse: float = 0.0,
    neuron: Neuron | None = None,
    readout: str = "mean_membrane",
    coding: str = "spikes",
    readout_delay: str = "none",
    readout_synapse: float = 0.0,
    steps: int = STEPS,
) -> Network:
    rng = np.random.default_rng(seed)
    own = make_delay(rng, recurrent, HIDDEN, HIDDEN, 1)
    hidden = Layer(
        dense(rng, HIDDEN, N_IN),
        (rng.integers(0, 8, HIDDEN) / 64).astype(np.float32),
        neuron or Lif(0.5, 0.75),
        delay=make_delay(rng, delay, HIDDEN, N_IN),
        recurrent=None if own is None else Recurrence(dense(rng, HIDDEN, HIDDEN), own),
        synapse=synapse,
    )
    last = Layer(
        dense(rng, N_OUT, HIDDEN),
        (rng.integers(0, 8, N_OUT) / 64).astype(np.float32),
        Lif(0.5, 0.5) if readout == "spike_count" else LeakyIntegrator(0.5),
        delay=make_delay(rng, readout_delay, N_OUT, HIDDEN),
        synapse=readout_synapse,
    )
    return Network((hidden, last), steps, coding, readout, delta=0.25 if coding == "delta" else 0.0)


def draw(network: Network, rows: int = 4) -> np.ndarray:
    rng = np.random.default_rng(1)
    shape = (rows, *network.input_shape)
    return (rng.integers(0, 2, shape) if network.coding.is_binary else rng.integers(0, 5, shape) / 4).astype(np.float32)


def load(network: Network, target: str, form: str, **options: object) -> tuple[Session, Session]:
    """A session, and one that shows hidden layers."""
    chosen = exporter(target)
    model = chosen.export(network, chosen.Options(name="model", snn=form, **options)).main
    return LOAD[target](model), LOAD[target](chosen.instrument(model))


def assert_same(network: Network, target: str, form: str, x: np.ndarray | None = None, **options: object) -> None:
    """Spikes of hidden layers are equal, and outputs but for rounding, of several rows and of one."""
    x = draw(network) if x is None else x
    *hidden, expected = reference.trace(network, x)
    assert all(counts.any() for counts in hidden)
    session, shown = load(network, target, form, **options)
    with session, shown:
        np.testing.assert_allclose(session.run(x), expected, rtol=1e-5, atol=1e-6)
        if session.batch_size is None:
            np.testing.assert_allclose(session.run(x[:1]), expected[:1], rtol=1e-5, atol=1e-6)
        values = shown.run_all(x)
        for index, counts in enumerate(hidden):
            np.testing.assert_array_equal(values[f"layer{index}/activation"], counts)


@pytest.mark.parametrize(("target", "form"), FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_delays_of_every_kind(target: str, form: str, kind: str) -> None:
    assert_same(make(delay=kind), target, form)
    assert_same(make(recurrent=kind), target, form)
    assert_same(make(readout_delay=kind), target, form)


@pytest.mark.parametrize(("target", "form"), FORMS)
@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("neuron", [Lif(0.5, 0.75, "zero"), RefractoryLif(0.5, 0.75)])
def test_all_together_with_every_readout(target: str, form: str, readout: str, neuron: Neuron) -> None:
    parts = {"recurrent": "stored", "synapse": 0.25, "neuron": neuron, "readout": readout}
    assert_same(make(delay="spatial", **parts), target, form)
    assert_same(make(delay="stored", readout_delay="stored", readout_synapse=0.5, **parts), target, form)
    assert_same(make(synapse=0.5, readout=readout, neuron=neuron), target, form)
    assert_same(make(neuron=neuron, readout=readout), target, form)


@pytest.mark.parametrize(("target", "form"), FORMS)
@pytest.mark.parametrize("coding", ["direct", "current", "rate", "delta"])
def test_every_coding(target: str, form: str, coding: str) -> None:
    for kind in ("constant", "stored"):
        network = make(coding=coding, delay=kind, recurrent="stored")
        assert_same(network, target, form)
    assert_same(make(coding=coding, recurrent="stored", synapse=0.5), target, form)


@pytest.mark.parametrize(("target", "form"), FORMS)
def test_a_network_of_one_layer(target: str, form: str) -> None:
    for coding in ("direct", "spikes"):
        for readout in READOUTS:
            for kind in ("constant", "stored", "none"):
                network = make(coding=coding, readout=readout, readout_synapse=0.5)
                last = replace(network.layers[-1], delay=make_delay(np.random.default_rng(0), kind, N_OUT, HIDDEN))
                assert_same(replace(network, layers=(last,)), target, form)


@pytest.mark.parametrize(("target", "form"), FORMS)
def test_one_step_and_a_fixed_batch(target: str, form: str) -> None:
    parts = {"delay": "stored", "recurrent": "stored", "synapse": 0.5, "neuron": RefractoryLif(0.5, 0.25)}
    network = make(steps=1, **parts)
    network = replace(network, layers=(replace(network.layers[0], delay=ConstantDelay(0)), network.layers[1]))
    assert_same(network, target, form)
    assert_same(make(**parts), target, form, batch_size=4)


def inner_shapes(network: Network, form: str, batch_size: int | None) -> dict[bytes, list[int]]:
    options = TfliteExporter.Options(name="model", snn=form, batch_size=batch_size)
    tensors = parse(TfliteExporter().export(network, options).main).subgraphs[0].tensors
    return {tensor.name: list(tensor.shape) for tensor in tensors}


@pytest.mark.parametrize("form", ["unrolled", "step"])
@pytest.mark.parametrize("coding", ["spikes", "delta", "direct", "current", "rate"])
@pytest.mark.parametrize("delay", ["none", "stored"])
def test_inner_shapes_of_a_dynamic_batch_are_those_of_one_row(form: str, coding: str, delay: str) -> None:
    # TFLite Micro allocates them, and overwrites other values if they are too small
    network = make(coding=coding, delay=delay, recurrent=delay, synapse=0.5)
    assert inner_shapes(network, form, None) == inner_shapes(network, form, 1)


@pytest.mark.parametrize("kind", ["dense", "low_rank", "sparse", "sum"])
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("spiking", [False, True])
def test_inner_shapes_of_every_storage_are_those_of_one_row(spiking: bool, storage: str, kind: str) -> None:
    network = small(kind, storage, spiking=spiking, input_coding="spikes")
    networks = [network, integers(network)] if storage == "float32" else [network]
    for each in networks:
        assert inner_shapes(each, "unrolled", None) == inner_shapes(each, "unrolled", 1)


@pytest.mark.parametrize("place", ["delay", "recurrent"])
def test_unrolled_delays_that_allocate_gigabytes_are_refused_before_any_work(place: str) -> None:
    weight, delay = Dense(np.ones((1000, 1000), np.float32)), StoredDelay(np.ones((1000, 1000), np.uint8))
    parts = {"delay": delay} if place == "delay" else {"recurrent": Recurrence(weight, delay)}
    hidden = Layer(weight, None, Lif(0.5), **parts)
    last = Layer(Dense(np.ones((1, 1000), np.float32)), None, LeakyIntegrator(0.5))
    network, chosen = Network((hidden, last), 134, "spikes"), TfliteExporter()  # 8 bytes of a million synapses
    chosen.check(network, chosen.Options())
    longer = replace(network, timesteps=135)
    chosen.check(longer, chosen.Options(snn="step"))
    for refused, options in ((longer, chosen.Options()), (network, chosen.Options(batch_size=2))):
        with pytest.raises(ExportError) as caught:
            chosen.export(refused, options)
        assert "--snn step" in caught.value.hint


def operators(rng: np.random.Generator, n_out: int, n_in: int) -> list[WeightOperator]:
    low_rank = LowRank(
        (rng.integers(-3, 4, (n_out, 2)) / 4).astype(np.float32),
        (rng.integers(-3, 4, (2, n_in)) / 8).astype(np.float32),
    )
    sparse = Sparse.from_dense(dense(rng, n_out, n_in).w * (rng.random((n_out, n_in)) < 0.6).astype(np.float32))
    half = Dense(dense(rng, n_out, n_in).w.astype(np.float16))
    int8 = Dense(rng.integers(-20, 40, (n_out, n_in)).astype(np.int8), np.full(n_out, 1 / 64, np.float32))
    return [low_rank, sparse, Sum(low_rank, sparse), half, int8]


@pytest.mark.parametrize(("target", "form"), FORMS)
@pytest.mark.parametrize("which", range(5))
@pytest.mark.parametrize("kind", ["constant", "stored"])
def test_every_operator(target: str, form: str, which: int, kind: str) -> None:
    network = make(delay=kind, recurrent=kind)
    rng = np.random.default_rng(5)
    hidden, last = network.layers
    assert hidden.recurrent is not None
    weight, own = operators(rng, HIDDEN, N_IN)[which], operators(rng, HIDDEN, HIDDEN)[which]
    hidden = replace(hidden, weight=weight, recurrent=replace(hidden.recurrent, weight=own), bias=hidden.bias + 0.5)
    assert_same(replace(network, layers=(hidden, last)), target, form)


@pytest.mark.parametrize("form", ["unrolled", "scan", "step"])
def test_weights_from_coordinates(form: str) -> None:
    """Weights that the graph computes, and delays of the same positions."""
    rng = np.random.default_rng(0)
    network = make(recurrent="stored")
    here, there = (rng.normal(size=(n, 3)).astype(np.float32) for n in (N_IN, HIDDEN))
    weight = Coordinates(here, there, rng.uniform(0.2, 1, N_IN).astype(np.float32), exponent=2.0)
    hidden = replace(network.layers[0], weight=weight, delay=SpatialDelay(here, there, 1.5))
    assert_same(replace(network, layers=(hidden, network.layers[1])), "onnx", form)


@pytest.mark.parametrize("target", ["onnx", "tflite"])
def test_steps_are_those_of_the_sequence(target: str) -> None:
    network = make(delay="spatial", recurrent="stored", synapse=0.5, neuron=RefractoryLif(0.5, 0.75))
    x = draw(network)
    expected = reference.run(network, x)
    session, _ = load(network, target, "step")
    with session:
        for row, output in zip(x, expected, strict=True):
            session.reset()
            steps = [session.step(each) for each in row]
            np.testing.assert_allclose(read_out(network, steps), output, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("target", "form"), FORMS)
def test_a_mean_whose_steps_differ_in_weight(target: str, form: str) -> None:
    for parts in ({"delay": "stored"}, {}, {"readout_synapse": 0.5}):
        assert_same(replace(make(**parts), readout_decay=0.75), target, form)


def test_the_step_form_has_no_restored_mean_whose_steps_differ_in_weight() -> None:
    ones = np.ones(N_OUT, np.float32)
    network = replace(make(), readout_decay=0.75, output_scaling=Standardization(ones, ones))
    for target in LOAD:
        with pytest.raises(ExportError):
            exporter(target).check(network, exporter(target).Options(snn="step"))
        assert_same(network, target, "unrolled")


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        ({"delay": "constant"}, "delays"),
        ({"recurrent": "stored"}, "recurrent synapses"),
        ({"synapse": 0.5}, "synaptic currents"),
        ({"neuron": RefractoryLif(0.5)}, "refractory neurons"),
    ],
)
def test_micro_has_no_form_and_names_what_is_present(parts: dict[str, Any], name: str) -> None:
    chosen = exporter("tflite")
    with pytest.raises(NoFormError, match=name) as caught:
        chosen.check(make(**parts), chosen.Options(tflite_target="micro"))
    assert caught.value.hint


def test_the_scan_does_not_grow_with_time() -> None:
    parts = {"delay": "stored", "recurrent": "stored", "synapse": 0.5, "coding": "spikes"}
    sizes = []
    for steps in (10, 1000):
        chosen = exporter("onnx")
        network = make(steps=steps, **parts)
        sizes.append(len(chosen.export(network, chosen.Options(snn="scan")).main))
    assert sizes[1] - sizes[0] < 4 * 990 + 200  # a factor of the readout for each step
