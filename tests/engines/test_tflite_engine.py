"""TFLite files in both interpreters: outputs, errors, damaged files."""

import struct
import sys
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from itertools import product
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sen_edge.passes.quantize import to_int8
from sen_exporters.tflite.exporter import TfliteExporter
from sen_exporters.tflite.schema import parse, serialize
from sen_runtime import engines, reference
from sen_runtime.engines import litert, tflite_file, tflite_runtime
from sen_runtime.engines.tflite_file import BEGINNING, encode_properties, read_properties
from sen_runtime.errors import EngineError, MissingExtraError
from tests.support.networks import random_input, random_network

EXPORTER = TfliteExporter()
KINDS = ("dense", "sparse", "blocks", "low_rank", "sum", "nested_sum")
BOTH = {"litert": litert.ENGINE, "tflite-runtime": tflite_runtime.ENGINE}
INSTALLED = engines.installed([*BOTH, "reference"])

in_each_interpreter = pytest.mark.parametrize(
    "load",
    [
        pytest.param(
            partial(engine.load, xnnpack=xnnpack),
            id=f"{name}{'' if xnnpack else ' without xnnpack'}",
            marks=pytest.mark.skipif(name not in INSTALLED, reason=f"{name} is not installed"),
        )
        for (name, engine), xnnpack in product(BOTH.items(), (True, False))
    ],
)
for_each_package = pytest.mark.parametrize("engine", BOTH.values(), ids=BOTH)


def export(network, **options):
    return EXPORTER.export(network, EXPORTER.Options(**options)).main


def make_network(seed=0, sizes=(6, 5, 4, 3), **options):
    return random_network(np.random.default_rng(seed), kinds=KINDS, sizes=sizes, **options)


def inputs(network, batch=3, seed=0):
    return random_input(np.random.default_rng(seed), network, batch)


SMALL = export(make_network(sizes=(3, 2)))


def assert_close(actual, expected):
    assert (actual.dtype, actual.shape) == (np.float32, expected.shape)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


@in_each_interpreter
@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.sampled_from([np.float32, np.float16]), st.lists(st.integers(1, 9), max_size=4))
def test_a_perceptron_agrees_with_the_reference_at_any_batch(load, seed, dtype, batches):
    network = make_network(seed, None, dtype=dtype)
    session = load(export(network))
    assert session.batch_size is None
    for batch in (*batches, 3, 8, 1):
        x = inputs(network, batch)
        assert_close(session.run(x), reference.run(network, x, np.float32))


@in_each_interpreter
def test_paths_threads_and_the_layout_of_the_input_change_nothing(load, tmp_path):
    network = make_network(metadata={"input_range": "0 1"})
    path = tmp_path / "model.tflite"
    path.write_bytes(export(network))
    x = inputs(network, 8)
    expected = load(path.read_bytes()).run(x)
    for threads in (1, 2):
        session = load(path, threads)
        assert session.properties == {"architecture": "6-5-4-3", "input_range": "0 1"}
        for same in (x, np.asfortranarray(x), x.astype(np.float64), np.repeat(x, 2, axis=0)[::2]):
            assert_close(session.run(same), expected)


@in_each_interpreter
@pytest.mark.parametrize("batch_size", [None, 4])
def test_run_all_gives_every_output(load, batch_size):
    network = make_network()
    x = inputs(network, 4)
    session = load(EXPORTER.instrument(export(network, batch_size=batch_size)))
    outputs = session.run_all(x)
    assert sorted(outputs) == ["layer0/activation", "layer1/activation", "output"]
    expected = reference.trace(network, x, np.float32)
    for name, values in zip(sorted(outputs), expected, strict=True):
        assert_close(outputs[name], values)
    np.testing.assert_array_equal(session.run(x), outputs["output"])


@in_each_interpreter
def test_a_fixed_batch_takes_no_other(load):
    network = make_network()
    session = load(export(network, batch_size=4))
    assert session.batch_size == 4
    x = inputs(network, 6)
    for rows in (1, 3, 6):
        with pytest.raises(EngineError, match=rf"\b4\b.*\b{rows}\b"):
            session.run(x[:rows])
    assert_close(session.run(x[:4]), reference.run(network, x[:4], np.float32))


@in_each_interpreter
@pytest.mark.parametrize("int8_io", [True, False])
def test_an_int8_model_takes_and_gives_float32(load, int8_io):
    network = make_network(2)
    quantized = to_int8(network, inputs(network, 64, seed=1))
    output_grid = quantized.layers[-1].grid
    session = load(export(quantized, int8_io=int8_io))
    assert session.grids == ({"input": quantized.input_grid, "output": output_grid} if int8_io else {})
    x = inputs(network, 8)
    expected = reference.run(quantized, x, np.float32)
    assert expected.std() > 8 * output_grid.scale
    for batch in (8, 3):
        actual = session.run(x[:batch])
        assert_close(actual, output_grid.round(actual))
        np.testing.assert_allclose(actual, expected[:batch], atol=1.01 * output_grid.scale)
    np.testing.assert_array_equal(
        session.run(3 * x),
        session.run(np.clip(3 * x, *quantized.input_grid.dequantize(np.array([-128, 127], np.int8)))),
    )


@in_each_interpreter
@pytest.mark.parametrize("input_coding", ["direct", "spikes"])
@pytest.mark.parametrize("readout", ["mean_membrane", "last_membrane", "spike_count"])
def test_a_step_model_starts_from_zero_membranes_at_each_call(load, input_coding, readout):
    network = make_network(spiking=True, input_coding=input_coding, readout=readout)
    session = load(EXPORTER.instrument(export(network, snn="step")))
    assert list(session.interpreter.get_signature_list()) == ["step"]
    for batch, seed in ((4, 0), (2, 1), (4, 0)):
        x = inputs(network, batch, seed)
        outputs = session.run_all(x)
        expected = reference.trace(network, x, np.float32)
        for name, values in zip(sorted(outputs), expected, strict=True):
            assert_close(outputs[name], values)
        np.testing.assert_array_equal(session.run(x), outputs["output"])
    for options in ({}, {"batch_size": 4}, {"batch_size": 4, "snn": "step"}):
        assert_close(load(export(network, **options)).run(x), expected[-1])


@pytest.mark.parametrize("shape", [(3, 7), (3, 5), (2, 7), (5, 4), (2, 3, 6), (3, 6, 1), (5,), ()], ids=str)
@in_each_interpreter
def test_an_input_of_another_shape_is_refused_and_forgotten(load, shape):
    session = load(export(make_network()))
    x = np.ones((3, 6), np.float32)
    expected = session.run(x)
    with pytest.raises(EngineError):
        session.run(np.ones(shape, np.float32))
    np.testing.assert_array_equal(session.run(x), expected)


@pytest.mark.parametrize("shape", [(3, 4, 6), (3, 6, 6), (3, 5, 7), (3, 5, 5), (3, 6)], ids=str)
@pytest.mark.parametrize("form", ["step", "unrolled"])
@in_each_interpreter
def test_a_spike_train_of_another_shape_is_refused(load, form, shape):
    session = load(export(make_network(spiking=True, input_coding="spikes"), snn=form))
    with pytest.raises(EngineError):
        session.run(np.ones(shape, np.float32))


@in_each_interpreter
def test_what_cannot_be_loaded_is_named(load, tmp_path):
    for path in (tmp_path / "nowhere.tflite", tmp_path):
        with pytest.raises(EngineError, match=str(path)):
            load(path)
    with pytest.raises(EngineError, match="threads"):
        load(SMALL, threads=0)


def foreign(model, **changes):
    """The file as another program would have written it: without our metadata, and with these changes."""
    parsed = parse(model)
    del parsed.buffers[parsed.metadata.pop().buffer]
    vars(parsed).update(changes)
    with patch.object(tflite_file, "seal", bytes):
        return serialize(parsed)


@in_each_interpreter
def test_a_file_of_other_origin_has_no_properties(load):
    model = foreign(SMALL)
    session = load(model)
    assert session.properties == read_properties(model) == {}
    x = np.ones((5, 3), np.float32)
    np.testing.assert_array_equal(session.run(x), load(SMALL).run(x))
    with pytest.raises(EngineError, match="TFLite"):
        load(model[:4] + b"TFL2" + model[8:])


@in_each_interpreter
def test_a_model_without_names_for_its_inputs_is_refused(load):
    with pytest.raises(EngineError, match="signature"):
        load(foreign(SMALL, signatureDefs=[]))
    for border, message in (("inputs", "image.*output"), ("outputs", "input.*image")):
        (signature,) = parse(SMALL).signatureDefs
        getattr(signature, border)[0].name = "image"
        with pytest.raises(EngineError, match=message):
            load(foreign(SMALL, signatureDefs=[signature]))


@in_each_interpreter
def test_a_step_model_that_does_not_say_its_steps_is_refused(load):
    with pytest.raises(EngineError):
        load(foreign(export(make_network(spiking=True), snn="step"))).run(np.ones((3, 6), np.float32))


@pytest.fixture
def device(monkeypatch):
    """Make this another machine, with an empty module for each interpreter that is not absent."""

    def become(python=(3, 11), numpy="1.26.4", machine="x86_64", absent=()):
        monkeypatch.setattr(tflite_runtime, "sys", SimpleNamespace(version_info=(*python, 1, "final", 0)))
        monkeypatch.setattr("platform.machine", lambda: machine)
        monkeypatch.setattr(np, "__version__", numpy)
        for module in (litert, tflite_runtime):
            content = None if module.ENGINE in absent else SimpleNamespace()
            monkeypatch.setitem(sys.modules, module.MODULE, content)

    return become


def refusal(engine):
    """Message and hint, the same of everything that needs the package."""
    found = set()
    for call in (engine.version, partial(engine.load, b"")):
        with pytest.raises(MissingExtraError) as raised:
            call()
        found.add((raised.value.exit_code, raised.value.message, raised.value.hint))
    ((code, *texts),) = found
    assert code == 4
    return texts


@for_each_package
def test_a_missing_package_names_the_pip_line(engine, device):
    device(absent=[engine])
    assert refusal(engine) == [f"the engine {engine.package} is not installed", engine.pip_line]
    assert engine.pip_line.startswith(f"pip install {engine.package}")


@for_each_package
def test_pip_line_requires_wheels_for_the_machine(engine, device):
    device(absent=[engine], machine="armv7l")
    assert tflite_runtime.ENGINE.pip_line in refusal(engine)[1]
    device(absent=[engine], machine="riscv64")
    assert "pip install" not in refusal(engine)[1]


def test_a_python_and_a_numpy_too_new_for_tflite_runtime(device):
    device(python=(3, 12))
    message, hint = refusal(tflite_runtime.ENGINE)
    assert message == "tflite-runtime, which has no wheel for Python 3.12, is not installed"
    assert hint.startswith("use Python 3.9 to 3.11")
    device(numpy="2.1.3")
    message = "numpy before version 2, which tflite-runtime needs (here is 2.1.3), is not installed"
    assert refusal(tflite_runtime.ENGINE) == [message, "pip install 'numpy<2'"]
    assert engines.installed(["tflite-runtime", "litert"]) == ["litert"]


def test_installed_keeps_what_is_there(device):
    assert {name: engines.engine(name) for name in BOTH} == BOTH
    for name in INSTALLED[:-1]:
        assert BOTH[name].version() == version(BOTH[name].package)
    device(absent=BOTH.values())
    assert engines.installed(["litert", "reference", "onnxruntime"]) == ["reference", "onnxruntime"]
    for names in (["litert", "tflite-runtime"], ["tflite-runtime", "litert"]):
        with pytest.raises(MissingExtraError, match=BOTH[names[0]].package):
            engines.installed(names)
    with pytest.raises(EngineError, match=r"'tvm'.*litert.*onnxruntime"):
        engines.installed(["reference", "tvm"])


@in_each_interpreter
@pytest.mark.parametrize("int8_io", [False, True])
def test_a_bare_call_gives_what_run_gives(load, int8_io):
    network = make_network()
    x = inputs(network, 2)
    network = to_int8(network, inputs(network, 64)) if int8_io else network
    session = load(export(network, int8_io=int8_io))
    stored = session.bare_call(x)()
    grid = session.grids.get("output")
    np.testing.assert_array_equal(stored if grid is None else grid.dequantize(stored), session.run(x))


def with_content(content):
    """SMALL with these bytes in place of its properties, under a right checksum."""
    model = parse(SMALL)
    model.buffers[model.metadata[0].buffer].data = np.frombuffer(content, np.uint8)
    return serialize(model)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.dictionaries(st.text().filter(lambda key: key != "sen_edge_properties"), st.text()))
def test_properties_come_back(properties):
    data = with_content(encode_properties(properties))
    assert read_properties(data) == properties


def test_a_property_called_like_the_mark_is_refused():
    with pytest.raises(EngineError, match="reserved"):
        encode_properties({"sen_edge_properties": "mine"})


@for_each_package
def test_a_damaged_file_never_reaches_the_interpreter(engine, device):
    device()
    cut_off = [SMALL[:size] for size in range(len(SMALL))]
    for data in (*cut_off, SMALL + b"\0", b"no flatbuffer at all"):
        with pytest.raises(EngineError):
            engine.load(data)
    with pytest.raises(AttributeError):
        engine.load(SMALL)


def damaged():
    """A small file with any bit flipped, or any word replaced; a larger one with some bits flipped."""
    larger = export(make_network(spiking=True), snn="step")
    some = np.random.default_rng(0).integers(0, 8 * len(larger), 5000).tolist()
    for data, bits in ((SMALL, range(8 * len(SMALL))), (larger, some)):
        for bit in bits:
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            yield f"bit {bit} of {len(data)} bytes", bytes(flipped)
    for at, value in product(range(0, len(SMALL), 4), (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFF0000, 0xFFFFFFFF)):
        replaced = SMALL[:at] + struct.pack("<I", value) + SMALL[at + 4 :]
        if replaced != SMALL:
            yield f"{value:#x} at {at}", replaced


def test_no_damage_goes_unnoticed():
    found = {}
    for place, data in damaged():
        with suppress(EngineError):
            found[place] = read_properties(data)
    assert found == {}


@pytest.mark.parametrize(
    "content",
    [b"[]", BEGINNING[:-4], BEGINNING, BEGINNING + b', "a": 1}', BEGINNING + b', "a": ' + b"[" * 100_000],
    ids=["list", "no mark", "no end", "a number", "lists without end"],
)
def test_properties_that_are_no_json_object_are_refused(content):
    with pytest.raises(EngineError):
        read_properties(with_content(content))
