"""Exported C: compiled without warnings, run, and compared with the reference."""

import itertools
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sen_exporters.base import exporter_for
from sen_runtime import reference
from sen_runtime.engines import c as engine
from sen_runtime.errors import EngineError
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, Relu
from sen_runtime.ir.operators import Coordinates, Dense, Sparse
from tests.support.c_exports import (
    EXPORTER,
    SHARED,
    STORAGES,
    STRICT,
    assert_close,
    compile_and_run,
    export,
    small,
)
from tests.support.networks import KINDS, random_input, random_network

NO_SUCH = ("coordinates", "int8")


# --- what it computes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "storage", "flags"),
    [
        *((kind, storage, ()) for kind, storage in itertools.product(KINDS, STORAGES) if (kind, storage) != NO_SUCH),
        *(("coordinates", storage, ("-DNET_EXPAND",)) for storage in ("float32", "float16")),
    ],
)
def test_perceptrons(kind: str, storage: str, flags: tuple[str, ...], tmp_path: Path) -> None:
    network = small(kind, storage, seed=len(kind))
    session = engine.load(export(network).write(tmp_path), flags=(*SHARED, *flags))
    x = random_input(np.random.default_rng(1), network, 5)
    found = session.run_all(x)
    names = ["layer0/activation", "layer1/activation", "output"]
    if storage == "int8":  # to the bit
        for name, values in zip(names, reference.trace_int8(network, x), strict=True):
            np.testing.assert_array_equal(found[name], values)
        return
    for name, values in zip(names, reference.trace(network, x), strict=True):
        assert_close(found[name], values)


@pytest.mark.parametrize("coding", ["direct", "spikes"])
@pytest.mark.parametrize("readout", ["mean_membrane", "last_membrane", "spike_count"])
@pytest.mark.parametrize("storage", STORAGES)
def test_spiking_networks(storage: str, readout: str, coding: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(len(storage) + len(readout))
    kinds = tuple(kind for kind in KINDS if storage != "int8" or kind != "coordinates")
    options = {"readout": readout, "input_coding": coding, "reset_delay": readout == "mean_membrane"}
    options["reset"] = "zero" if readout == "last_membrane" else "subtract"
    network = random_network(rng, spiking=True, kinds=kinds, sizes=(6, 11, 8, 3), **options)
    network = STORAGES[storage](network)
    artifact = export(network)
    session = engine.load(artifact.write(tmp_path), flags=SHARED)
    x = random_input(rng, network, 20)
    expected = reference.trace(network, x)
    if storage == "int8":  # the reference rounds no inputs
        difference = np.abs(session.run(x) - expected[-1]).max(axis=1)
        assert np.mean(difference > 0.1 * max(1.0, np.abs(expected[-1]).max())) <= 0.2
    else:
        found = session.run_all(x)
        assert_close(found["output"], expected[-1], allowed=0.1)
        for index, counts in enumerate(expected[:-1]):
            assert np.mean(found[f"layer{index}/activation"] != counts) <= 0.05
    folder = tmp_path / "net"
    assert compile_and_run(tmp_path, folder / "net.c", folder / "net_selftest.c") == 0


@pytest.mark.parametrize("readout", ["mean_membrane", "spike_count"])
@pytest.mark.parametrize("coding", ["direct", "spikes"])
def test_spiking_networks_of_one_and_two_layers(coding: str, readout: str, tmp_path: Path) -> None:
    """Their layers are first and last at once, or meet a constant current."""
    for sizes in ((5, 4), (5, 9, 4)):
        rng = np.random.default_rng(3)
        network = random_network(
            rng, spiking=True, kinds=("dense", "sparse"), sizes=sizes, readout=readout, input_coding=coding
        )
        session = engine.load(export(network).write(tmp_path / str(len(sizes))), flags=SHARED)
        x = random_input(rng, network, 20)
        assert_close(session.run(x), reference.run(network, x), allowed=0.1)


@pytest.mark.parametrize("flags", [(), ("-DNET_EXPAND",)], ids=["computed", "expanded"])
@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_synapses_beyond_max_distance_have_no_weight(storage: str, flags: tuple[str, ...], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    source, target = rng.integers(-8, 9, (20, 3)) / 4, rng.integers(-8, 9, (30, 3)) / 4
    target[0] = source[0] + [1, 2, 2]  # as long as max_distance
    mask = rng.uniform(0.5, 1, 20).astype(np.float32)
    operator = Coordinates(source.astype(np.float32), target.astype(np.float32), mask, min_distance=0.5, max_distance=3)
    network = STORAGES[storage](Network((Layer(operator, None, Identity()),)))
    stored = network.layers[0].weight
    assert stored.max_distance == 3
    artifact = export(network)
    weights = engine.load(artifact.write(tmp_path), flags=(*SHARED, *flags)).run(np.eye(20, dtype=np.float32)).T
    np.testing.assert_allclose(weights, stored.to_dense(), rtol=1e-6)
    assert weights[0, 0] != 0 and 0.3 < np.mean(weights == 0) < 0.8
    without = export(Network((Layer(replace(stored, max_distance=np.inf), None, Identity()),)))
    assert ".max_distance = 3.0f" in artifact.main.decode() and ".max_distance =" not in without.main.decode()


def test_steps_are_those_of_the_reference(tmp_path: Path) -> None:
    network = small("dense", spiking=True, timesteps=6)
    session = engine.load(export(network).write(tmp_path), flags=SHARED)
    x = random_input(np.random.default_rng(2), network, 1)
    states = reference.initial_state(network, 1)
    session.reset()
    for _ in range(6):
        states, spikes = reference.step(network, states, x.astype(np.float64))
        np.testing.assert_allclose(session.step(x[0]), states[-1].membrane[0], rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(session.layer_output(1), spikes[1][0])


@pytest.mark.parametrize(
    "weights",
    [
        Sparse.from_dense(np.zeros((3, 5), np.float32)),
        Sparse(np.ones((1, 1), np.float32), np.array([69_999], np.int32), np.array([0, 1], np.int32), (1, 70_000)),
        Dense(np.array([[1.5]], np.float32)),
    ],
    ids=["no weight at all", "columns beyond 65,536", "one weight"],
)
def test_borders(weights: Sparse | Dense, tmp_path: Path) -> None:
    network = Network((Layer(weights, None, Identity()),))
    session = engine.load(export(network).write(tmp_path), flags=SHARED)
    x = np.random.default_rng(0).random((2, network.n_in)).astype(np.float32)
    np.testing.assert_allclose(session.run(x), reference.run(network, x), rtol=1e-6)


# --- what a caller must know ---------------------------------------------------------------------


@pytest.mark.parametrize("is_spiking", [False, True])
def test_header_and_readme_name_what_a_caller_uses(is_spiking: bool) -> None:
    files = export(small(spiking=is_spiking)).files
    header, readme = (files[f"net/{name}"].decode() for name in ("net.h", "README.md"))
    for text in (header, readme):
        for name in ("net_run", "net_layer_output", "net_arena", "NaN"):
            assert name in text
        for name in ("net_step", "net_reset"):
            assert (name in text) == is_spiking
    assert "SEN_ALLOW_NONFINITE" in readme and "net_selftest" in readme


# --- files, names, metadata ----------------------------------------------------------------------


def test_bytes_are_deterministic() -> None:
    for kind, weights in (("nested_sum", "array"), ("coordinates", "incbin")):
        first, second = (export(small(kind), weights=weights) for _ in range(2))
        assert first.files == second.files


def test_large_weights_are_a_binary_file_and_small_ones_text() -> None:
    large = Network((Layer(Dense(np.ones((300, 300), np.float32)), None, Identity()),))
    assert "net/net_weights.bin" in export(large).files
    assert "net/net_weights.bin" not in export(large, weights="array").files
    assert "net/net_weights.bin" not in export(small()).files


def test_both_forms_hold_the_same(tmp_path: Path) -> None:
    network = small("nested_sum", "float16")
    x = random_input(np.random.default_rng(0), network, 3)
    array, incbin = (
        engine.load(export(network, weights=form).write(tmp_path / form)).run(x) for form in ("array", "incbin")
    )
    np.testing.assert_array_equal(array, incbin)


def test_properties_are_what_was_stamped() -> None:
    nasty = {
        "note": '*/ int main; /* ??/ \\ "quoted"',
        "a: b": "c: d",
        "lines": "one\ntwo",
        "": " ",
        "url": "https://x/y",
        "ß": "→",
    }
    artifact = export(replace(small(), metadata=nasty))
    stamped = EXPORTER.stamp(EXPORTER.stamp(artifact, {"version": "1", "dtype": "float32"}), {"version": "2"})
    found = EXPORTER.properties(stamped.main)
    assert found == {**nasty, "architecture": "9-12-7-4", "version": "2", "dtype": "float32"}
    body = artifact.main.split(b"*/", 1)[1]
    assert stamped.main.split(b"*/", 1)[1] == body and {**stamped.files, "net/net.c": b""} == {
        **artifact.files,
        "net/net.c": b"",
    }


def test_nasty_properties_compile(tmp_path: Path) -> None:
    nasty = replace(small(), metadata={"note": "*/ int main; /* ??/", "end": "\\", "q": "?" * 9})
    path = export(nasty).write(tmp_path)
    subprocess.run(["gcc", *STRICT, "-c", path, "-o", tmp_path / "net.o"], check=True)


def test_the_exporter_is_found_by_suffix() -> None:
    found = exporter_for(".c")
    assert (found.name, found.engines(b""), found.instrument(b"x")) == ("c", ("c",), b"x")


# --- the engine ----------------------------------------------------------------------------------


def test_engine_reports_the_error(tmp_path: Path) -> None:
    path = export(small()).write(tmp_path)
    session = engine.load(path)
    with pytest.raises(EngineError, match=r"\[1, 8\].*\[batch, 9\]"):
        session.run(np.zeros((1, 8), np.float32))
    with pytest.raises(EngineError, match="layer 2"):
        session.layer_output(2)
    with pytest.raises(EngineError, match="folder"):
        engine.load(path.read_bytes())
    broken = tmp_path / "net" / "broken.c"
    broken.write_text("int x = ;\n")
    with pytest.raises(EngineError, match=r"broken\.h"):
        engine.load(broken)
    broken.with_suffix(".h").write_text("int x;\n")
    with pytest.raises(EngineError, match="header"):
        engine.load(broken)
    shutil.copy(path.with_suffix(".h"), broken.with_suffix(".h"))
    with pytest.raises(EngineError, match="error"):
        engine.load(broken)
    broken.write_text("int x;\n")
    with pytest.raises(EngineError, match="broken_run"):
        engine.load(broken)


#: What -Ofast allows; by that name gcc would link code that flushes subnormal numbers to 0 in the whole process.
FAST = ("-O3", "-ffinite-math-only", "-fno-signed-zeros", "-fno-trapping-math", "-fassociative-math", "-fno-math-errno")


@pytest.mark.parametrize("flags", [(), FAST], ids=["strict", "fast"])
@pytest.mark.parametrize("storage", ["float32", "int8"])
@pytest.mark.parametrize("given", [{}, {"spiking": True}, {"spiking": True, "input_coding": "spikes"}], ids=str)
def test_inputs_that_are_not_finite_are_refused(
    given: dict, storage: str, flags: tuple[str, ...], tmp_path: Path
) -> None:
    network = small("dense", storage, **given)
    session = engine.load(export(network).write(tmp_path), flags=(*engine.FLAGS, *flags))
    x = random_input(np.random.default_rng(0), network, 1)[0]
    greatest = np.where(x > 0.5, np.finfo(np.float32).max, -np.finfo(np.float32).smallest_subnormal).astype(np.float32)
    y = np.zeros(network.n_out, np.float32)
    calls = [(session._infer, x)]
    if network.is_spiking:
        session.reset()
        calls.append((session._advance, x[: network.n_in] if x.ndim == 1 else x[0]))
    for call, given_x in calls:
        assert call(greatest.ctypes.data, y.ctypes.data) == 0
        before = session._arena.copy(), y.copy()
        for value, at in itertools.product((np.nan, -np.nan, np.inf, -np.inf), (0, -1)):
            wrong = given_x.copy()
            wrong.reshape(-1)[at] = value
            assert call(wrong.ctypes.data, y.ctypes.data) == 1
        np.testing.assert_array_equal(session._arena, before[0])
        np.testing.assert_array_equal(y, before[1])


def test_the_check_of_inputs_can_be_left_out(tmp_path: Path) -> None:
    path = export(small("dense", spiking=True)).write(tmp_path)
    session = engine.load(path, allow_nonfinite=True, flags=SHARED)
    x = np.full(9, np.nan, np.float32)
    assert session.run(x).shape == (4,)
    session.reset()
    assert session.step(x).shape == (4,)


def test_arenas_are_independent(tmp_path: Path) -> None:
    """Two tasks, one library: nothing is shared but constants."""
    network = small("dense", spiking=True)
    session = engine.load(export(network).write(tmp_path))
    x = random_input(np.random.default_rng(4), network, 2)
    alone = []
    for row in x:
        session.reset()
        alone.append([session.step(row) for _ in range(3)])
    arenas = [np.zeros_like(session._arena) for _ in x]
    y = np.zeros(network.n_out, np.float32)
    for arena in arenas:
        session._reset_membranes.func(arena.ctypes.data)
    for t in range(3):
        for arena, row, expected in zip(arenas, x, alone, strict=True):
            session._advance.func(arena.ctypes.data, row.ctypes.data, y.ctypes.data)
            np.testing.assert_array_equal(y, expected[t])


def test_relu_layers_without_bias(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    w = rng.normal(size=(6, 5)).astype(np.float32)
    network = Network((Layer(Dense(w), None, Relu()),))
    x = rng.normal(size=(4, 5)).astype(np.float32)
    assert_close(engine.load(export(network).write(tmp_path)).run(x), reference.run(network, x))
