"""The TFLite exporter: file content and errors."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from sen_edge.passes.quantize import to_float16, to_int8, to_int8_weights
from sen_exporters.base import Artifact, ExportError, NoFormError, exporter
from sen_exporters.tflite.exporter import TfliteExporter
from sen_exporters.tflite.graph import Graph, Signal
from sen_exporters.tflite.schema import MAX_BYTES, parse, serialize
from sen_runtime import reference
from sen_runtime.engines import litert
from sen_runtime.engines.tflite_file import read_properties
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif, Relu
from sen_runtime.ir.operators import Coordinates, Dense, LowRank, Sparse, Sum
from tests.support.networks import random_input, random_network

EXPORTER = TfliteExporter()
BUILTIN = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
VARIANTS = ("float32", "float16", "int8-dynamic", "int8")


def network(*weights, bias=True, seed=0):
    rng = np.random.default_rng(seed)
    layers = [
        Layer(
            weight,
            rng.normal(size=weight.shape[0]).astype(np.float32) if bias else None,
            Relu() if index < len(weights) - 1 else Identity(),
        )
        for index, weight in enumerate(weights)
    ]
    return Network(tuple(layers), metadata={"input_range": "0 1"})


def dense(n_out, n_in, seed=0):
    return Dense((np.random.default_rng(seed).normal(size=(n_out, n_in)) * n_in**-0.5).astype(np.float32))


def blocks(n_out, n_in, block=(1, 4), density=0.3, dtype=np.float32):
    rng = np.random.default_rng(1)
    kept = np.repeat(rng.random((n_out, -(-n_in // block[1]))) < density, block[1], axis=1)[:, :n_in]
    return Sparse.from_dense((rng.normal(size=(n_out, n_in)) * kept).astype(dtype), block)


def quantized(net, variant, seed=0):
    calibration = random_input(np.random.default_rng(seed), net, 64)
    if variant == "float16":
        return to_float16(net)
    if variant == "int8-dynamic":
        return to_int8_weights(net, "channel", calibration)
    return to_int8(net, calibration) if variant == "int8" else net


def export(net, **options):
    return EXPORTER.export(net, EXPORTER.Options(**options)).main


def operators(model):
    """Name and version of each operator, in order."""
    loaded = parse(model)
    codes = [(BUILTIN[code.builtinCode], code.version) for code in loaded.operatorCodes]
    return [codes[operator.opcodeIndex] for operator in loaded.subgraphs[0].operators]


# --- what is in a file ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("net", "options", "expected"),
    [
        pytest.param(network(dense(5, 4), dense(3, 5)), {}, ["FULLY_CONNECTED 1"] * 2, id="dense"),
        pytest.param(to_float16(network(dense(5, 4))), {}, ["DEQUANTIZE 3", "FULLY_CONNECTED 1"], id="float16"),
        pytest.param(
            to_int8_weights(network(dense(5, 4))), {}, ["FULLY_CONNECTED 9", "MUL 1"], id="int8 by channel, any"
        ),
        pytest.param(
            to_int8_weights(network(dense(5, 4))),
            {"tflite_target": "tflite-runtime"},
            ["FULLY_CONNECTED 9", "MUL 1"],
            id="int8 by channel, tflite-runtime",
        ),
        pytest.param(
            to_int8_weights(network(dense(5, 4))),
            {"tflite_target": "litert"},
            ["FULLY_CONNECTED 12"],
            id="int8 by channel, litert",
        ),
        pytest.param(to_int8_weights(network(dense(5, 4)), "tensor"), {}, ["FULLY_CONNECTED 9"], id="int8 by tensor"),
        pytest.param(
            quantized(network(dense(5, 4)), "int8"),
            {},
            ["QUANTIZE 1", "FULLY_CONNECTED 4", "DEQUANTIZE 2"],
            id="int8",
        ),
        pytest.param(
            quantized(network(dense(5, 4)), "int8"), {"int8_io": True}, ["FULLY_CONNECTED 4"], id="int8 to the border"
        ),
        pytest.param(network(blocks(6, 8)), {}, ["DENSIFY 1", "FULLY_CONNECTED 1"], id="densify"),
        pytest.param(network(blocks(6, 8)), {"sparse_format": "block"}, ["FULLY_CONNECTED 8"], id="block"),
        pytest.param(network(blocks(6, 8)), {"sparse_format": "dense"}, ["FULLY_CONNECTED 1"], id="zeros stored"),
        pytest.param(
            network(Sum(LowRank(np.ones((3, 1), np.float32), np.ones((1, 4), np.float32)), dense(3, 4))),
            {},
            ["FULLY_CONNECTED 1", "FULLY_CONNECTED 1", "FULLY_CONNECTED 1", "ADD 1"],
            id="sum",
        ),
    ],
)
def test_operators_have_the_versions_that_both_interpreters_read_alike(net, options, expected):
    assert [f"{name} {version}" for name, version in operators(export(net, **options))] == expected


@pytest.mark.parametrize("variant", VARIANTS)
def test_size_is_the_weights_and_little_more(variant):
    net = quantized(network(dense(512, 784), dense(10, 512)), variant)
    rows = 522 if variant == "int8" else 0  # which the format wants a zero point and a bias scale for, 12 bytes
    assert 0 < len(export(net)) - net.nbytes < 2048 + 12 * rows


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_buffer_is_aligned(variant):
    data = export(quantized(network(dense(33, 7), blocks(11, 33), dense(3, 11)), variant))
    arrays = [bytes(buffer.data) for buffer in parse(data).buffers if buffer.data is not None and len(buffer.data)]
    assert len(arrays) > 3
    for array in (array for array in arrays if len(array) > 8):
        assert data.index(array) % 16 == 0


def test_border_signature_names_and_properties():
    model = parse(export(network(dense(5, 4), dense(3, 5)), name="tiny"))
    graph, (signature,) = model.subgraphs[0], model.signatureDefs
    assert (graph.name, signature.signatureKey) == (b"tiny", b"serving_default")
    assert model.description.startswith(b"sen-edge ")
    assert ([each.name for each in signature.inputs], [each.name for each in signature.outputs]) == (
        [b"input"],
        [b"output"],
    )
    assert list(graph.tensors[graph.inputs[0]].shapeSignature) == [-1, 4]
    names = {tensor.name.decode() for tensor in graph.tensors}
    assert names == {"input", "layer0/weight", "layer0/bias", "layer0/activation"} | {
        "layer1/weight",
        "layer1/bias",
        "output",
    }
    assert EXPORTER.properties(export(network(dense(5, 4)))) == {
        "architecture": "4-5",
        "input_range": "0 1",
    }
    for_one = EXPORTER.export(network(dense(5, 4)), EXPORTER.Options(tflite_target="litert"))
    assert EXPORTER.properties(for_one.main)["tflite_target"] == "litert"


def test_stamp_changes_the_properties_only():
    plain = EXPORTER.export(network(dense(5, 4)), EXPORTER.Options())
    extra = Artifact("tflite", {**plain.files, "side.txt": b"kept"})
    stamped = EXPORTER.stamp(extra, {"version": "9", "checkpoint_sha256": "ab"})
    assert list(stamped.files) == ["model.tflite", "side.txt"]
    assert EXPORTER.properties(stamped.main) == {
        **EXPORTER.properties(plain.main),
        "version": "9",
        "checkpoint_sha256": "ab",
    }
    assert stamped.main == EXPORTER.stamp(extra, {"checkpoint_sha256": "ab", "version": "9"}).main
    x = np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(litert.ENGINE.load(stamped.main).run(x), litert.ENGINE.load(plain.main).run(x))


def test_equal_weights_are_stored_once():
    same = dense(40, 40)
    once, twice = export(network(same, bias=False)), export(network(same, same, bias=False))
    assert len(twice) < len(once) + 1000
    half = to_float16(network(same, same, bias=False))
    assert [name for name, _ in operators(export(half))].count("DEQUANTIZE") == 1


def test_found_by_its_entry_point():
    found = exporter("tflite")
    assert isinstance(found, TfliteExporter)
    assert found.suffixes == (".tflite",)
    for target, engines in (("any", ("litert", "tflite-runtime")), ("litert", ("litert",))):
        assert found.engines(export(network(dense(2, 3)), tflite_target=target)) == engines


SCRIPT = """
import hashlib
from tests.exporters.test_tflite import VARIANTS, dense, blocks, export, network, quantized
digest = hashlib.sha256()
for variant in VARIANTS:
    digest.update(export(quantized(network(dense(33, 8), blocks(12, 33, (1, 1)), dense(3, 12)), variant)))
print(digest.hexdigest())
"""


def test_bytes_are_the_same_in_every_process():
    printed = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1 and len(printed.pop().strip()) == hashlib.sha256().digest_size * 2


def test_no_torch_is_loaded():
    script = "import sys, sen_exporters.tflite.exporter; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("spiking", [False, True])
def test_instrument_shows_every_hidden_layer(variant, spiking):
    rng = np.random.default_rng(3)
    net = random_network(rng, spiking=spiking, kinds=("dense",), sizes=(12, 9, 8, 4))
    net = quantized(net, variant)
    x = random_input(rng, net, 5)
    shown = EXPORTER.instrument(export(net))
    outputs = litert.ENGINE.load(shown).run_all(x)
    assert set(outputs) == {"output", "layer0/activation", "layer1/activation"}
    for index, expected in enumerate(reference.trace(net, x, np.float32)[:-1]):
        actual = outputs[f"layer{index}/activation"]
        if spiking:
            assert np.mean(actual == expected) >= 0.9
        else:
            np.testing.assert_allclose(actual, expected, atol=0.03 * expected.max())


# --- what is refused -----------------------------------------------------------------------------

SNN = random_network(np.random.default_rng(0), spiking=True, kinds=("dense",), sizes=(6, 5, 3))
FAINT = Network(
    (Layer(dense(2, 3), None, Lif(0.9, 1e-35)), Layer(dense(2, 2), None, LeakyIntegrator(0.9))), timesteps=2
)
COORDINATES = Coordinates(np.zeros((3, 2), np.float32), np.ones((2, 2), np.float32), np.ones(3, np.float32))


BLOCK, DENSIFY = {"sparse_format": "block"}, {"sparse_format": "densify"}
BLOCKS = network(blocks(5, 8))
PLAIN = network(dense(2, 4))
REFUSED = {
    "coordinates": (network(COORDINATES), {}, r"layer 0.*\b400\b", "onnx"),
    "pattern": (network(blocks(5, 8, (1, 1))), BLOCK, r"\b1x4\b", "densify"),
    "width": (network(blocks(5, 6)), BLOCK, r"\b6\b.*\b4\b", "densify"),
    "nothing sparse": (PLAIN, BLOCK, "sparse", "leave"),
    "float16 blocks": (to_float16(BLOCKS), BLOCK, r"block\b.*float16", "float32"),
    "int8 blocks": (to_int8_weights(BLOCKS), BLOCK, r"block\b.*int8", "float32"),
    "int8 densify": (to_int8_weights(BLOCKS), DENSIFY, r"densify\b.*int8", "float32"),
    "float16 densify": (to_float16(BLOCKS), DENSIFY, r"densify\b.*float16", "float32"),
    "int8 border": (PLAIN, {"int8_io": True}, "int8", "--dtype int8"),
    "scan": (SNN, {"snn": "scan"}, "TFLite", "unrolled"),
    "int8 step": (quantized(SNN, "int8"), {"snn": "step"}, r"step\b.*int8", "int8-dynamic"),
    "threshold": (FAINT, {}, r"layer 0.*threshold.*1e-35", "scale"),
}


@pytest.mark.parametrize(("net", "options", "message", "hint"), REFUSED.values(), ids=REFUSED)
def test_what_would_be_wrong_or_slow_is_refused(net, options, message, hint):
    for call in (EXPORTER.check, EXPORTER.export):
        with pytest.raises(ExportError, match=message) as raised:
            call(net, EXPORTER.Options(**options))
        assert raised.value.exit_code == 2
        assert hint in raised.value.hint


def test_pruning_is_advised_only_where_it_makes_whole_blocks():
    for n_in, is_advised in ((8, True), (6, False)):
        with pytest.raises(ExportError) as raised:
            EXPORTER.check(network(blocks(5, n_in, (1, 1))), EXPORTER.Options(**BLOCK))
        assert ("prune" in raised.value.hint) == is_advised


def test_requests_of_other_targets_raise_no_form_error():
    with pytest.raises(NoFormError):
        EXPORTER.check(network(COORDINATES), EXPORTER.Options())
    with pytest.raises(NoFormError):
        EXPORTER.check(SNN, EXPORTER.Options(snn="scan"))


def test_patterns_that_are_made_of_blocks_are_taken_as_such():
    w = blocks(6, 16).to_dense()
    for pattern in ((1, 1), (1, 8), (2, 4)):
        stored = Sparse.from_dense(w, pattern)
        if pattern == (1, 1):
            model = export(network(stored), sparse_format="block")
            x = np.random.default_rng(0).random((2, 16), np.float32)
            expected = reference.run(network(stored), x, np.float32)
            np.testing.assert_allclose(litert.ENGINE.load(model).run(x), expected, rtol=1e-5, atol=1e-6)
        else:  # whole blocks of zeros inside larger ones are left out
            assert operators(export(network(stored), sparse_format="block")) == [("FULLY_CONNECTED", 8)]


def test_an_int8_product_beyond_32_bits_is_refused():
    wide = Layer(Dense(np.full((1, 70_000), 127, np.int8), np.ones(1, np.float32)), None, Identity())
    grid = quantized(network(dense(1, 2)), "int8").layers[0].grid
    with pytest.raises(ExportError, match=r"layer 0.*neuron 0.*\b32\b") as raised:
        export(Network((replace(wide, grid=grid),), input_grid=grid))
    assert "int8-dynamic" in raised.value.hint


def test_bias_beyond_the_row_scale_is_rejected():
    layer = Layer(
        Dense(np.ones((2, 2), np.int8), np.array([1, 1e-37], np.float32)), np.full(2, 100, np.float32), Relu()
    )
    with pytest.raises(ExportError, match=r"bias.*\b100\b.*neuron 1") as raised:
        export(Network((replace(layer, neuron=Identity()),)))
    assert "litert" in raised.value.hint


def test_a_file_beyond_two_gigabytes_is_refused():
    class Large:
        def __init__(self):
            self.data = self

        def __len__(self):
            return MAX_BYTES

    class Model:
        def __init__(self):
            self.buffers = [Large()]

    with pytest.raises(ExportError, match=r"\b2\.1 GB.*\b2 GB"):
        serialize(Model())


def test_two_values_of_one_name_are_a_defect():
    builder = Graph(EXPORTER.Options())
    builder.declare(Signal("x", 1))
    with pytest.raises(ExportError, match="'x'"):
        builder.declare(Signal("x", 1))


def test_properties_survive_and_the_checksum_guards_them():
    model = export(network(dense(2, 3)))
    assert serialize(parse(model)) == model
    assert read_properties(model)["architecture"] == "3-2"
