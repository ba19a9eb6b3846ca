"""The ONNX exporter on multilayer perceptrons: every weight operator, through onnxruntime."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sen_exporters import lowering
from sen_exporters.base import Artifact, ExportError, NoFormError, exporter
from sen_exporters.onnx.exporter import OnnxExporter
from sen_exporters.onnx.graph import MAX_OPSET, MIN_OPSET
from sen_runtime import reference
from sen_runtime.engines.onnxruntime import load
from sen_runtime.errors import EngineError
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, Relu
from sen_runtime.ir.operators import Coordinates, Dense, LowRank, Sparse, Sum

EXPORTER = OnnxExporter()
KINDS = ("dense", "sparse", "blocks", "low_rank", "sum", "coordinates")
OPSETS = tuple(range(MIN_OPSET, MAX_OPSET + 1))


def make_operator(rng, n_out, n_in, kind, dtype=np.float32):
    """Random weights of order 1 / sqrt(n_in)."""

    def normal(*shape):
        return rng.normal(0, n_in**-0.5, shape).astype(dtype)

    if kind == "dense":
        return Dense(normal(n_out, n_in))
    if kind in ("sparse", "blocks"):
        w = np.where(rng.random((n_out, n_in)) < 0.3, normal(n_out, n_in), dtype(0))
        return Sparse.from_dense(w, (1, 1) if kind == "sparse" else (2, 4))
    if kind == "low_rank":
        return LowRank(normal(n_out, 2), normal(2, n_in) * dtype(n_in**0.5))
    if kind == "sum":
        return Sum(make_operator(rng, n_out, n_in, "low_rank", dtype), make_operator(rng, n_out, n_in, "sparse", dtype))
    source, goal = rng.normal(0, 2, (n_in, 3)), rng.normal(0, 2, (n_out, 3)) + 5
    mask = rng.uniform(-1, 1, n_in)
    return Coordinates(source.astype(dtype), goal.astype(dtype), mask.astype(dtype), gain=5 * n_in**-0.5)


def make_mlp(rng, sizes, kinds, dtype=np.float32, *, bias=True):
    layers = []
    for index, ((n_in, n_out), kind) in enumerate(zip(pairwise(sizes), kinds, strict=True)):
        b = rng.normal(size=n_out).astype(dtype) if bias else None
        neuron = Identity() if index == len(kinds) - 1 else Relu()
        layers.append(Layer(make_operator(rng, n_out, n_in, kind, dtype), b, neuron))
    return Network(tuple(layers), metadata={"input_range": "0 1"})


def export(network, **options):
    return EXPORTER.export(network, EXPORTER.Options(**options)).main


def graph_of(model):
    return onnx.load_from_string(model).graph


def names(graph):
    return {name for node in graph.node for name in node.output} | {array.name for array in graph.initializer}


def optimized(model, tmp_path):
    """The graph that onnxruntime runs, at its default optimization level."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return onnx.load(tmp_path / "optimized.onnx").graph


def assert_close(actual, expected):
    assert actual.dtype == np.float32
    assert actual.shape == expected.shape
    scale = expected.std() or 1.0
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-5 * scale)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=5),
    data=st.data(),
    bias=st.booleans(),
    dtype=st.sampled_from([np.float32, np.float16]),
    batch_size=st.sampled_from([None, 7]),
    sparse_format=st.sampled_from(["densify", "dense"]),
)
def test_every_operator_agrees_with_the_reference(seed, sizes, data, bias, dtype, batch_size, sparse_format):
    kinds = data.draw(st.lists(st.sampled_from(KINDS), min_size=len(sizes) - 1, max_size=len(sizes) - 1))
    rng = np.random.default_rng(seed)
    network = make_mlp(rng, sizes, kinds, dtype, bias=bias)
    x = rng.normal(size=(7, sizes[0])).astype(np.float32)
    model = export(network, batch_size=batch_size, sparse_format=sparse_format)
    assert_close(load(model).run(x), reference.run(network, x, np.float32))


@pytest.mark.parametrize("opset", OPSETS)
def test_every_operator_set_loads_and_agrees(opset):
    rng = np.random.default_rng(opset)
    network = make_mlp(rng, (5, 9, 8, 7, 6, 5, 4), KINDS, np.float16)
    x = rng.normal(size=(3, 5)).astype(np.float32)
    model = export(network, opset=opset)
    assert onnx.load_from_string(model).opset_import[0].version == opset
    assert_close(load(model).run(x), reference.run(network, x, np.float32))


def test_border_metadata_and_names():
    network = make_mlp(np.random.default_rng(0), (6, 5, 4, 3, 2), ("dense", "low_rank", "sum", "coordinates"))
    model = onnx.load_from_string(export(network, name="tiny"))
    graph = model.graph
    assert (graph.name, model.producer_name, model.producer_version) == ("tiny", "sen-edge", "0.1.0")
    assert (model.ir_version, model.opset_import[0].version) == (7, 13)
    assert [value.name for value in (*graph.input, *graph.output)] == ["input", "output"]
    assert [dim.dim_param for dim in graph.input[0].type.tensor_type.shape.dim] == ["batch", ""]
    assert EXPORTER.properties(model.SerializeToString()) == {"architecture": "6-5-4-3-2", "input_range": "0 1"}
    assert names(graph) >= {
        *("layer0/weight", "layer0/bias", "layer0/preactivation", "layer0/activation"),
        *("layer1/right", "layer1/left", "layer1/bias", "layer1/activation"),
        *("layer2/a/right", "layer2/a/left", "layer2/b/weight", "layer2/b/product", "layer2/activation"),
        *("layer3/source_positions", "layer3/target_positions", "layer3/numerator", "layer3/weight", "output"),
    }
    assert all(node.name for node in graph.node)


def test_fixed_batch_is_in_the_border():
    model = export(make_mlp(np.random.default_rng(0), (3, 2), ("dense",)), batch_size=4)
    shapes = [
        value.type.tensor_type.shape.dim[0].dim_value for value in (*graph_of(model).input, *graph_of(model).output)
    ]
    assert shapes == [4, 4]
    assert load(model).batch_size == 4


def test_dense_is_one_gemm_and_low_rank_two_products(tmp_path):
    rng = np.random.default_rng(0)
    dense = make_mlp(rng, (30, 20, 10), ("dense", "low_rank"))
    plain = [node.op_type for node in graph_of(export(dense)).node]
    assert plain == ["MatMul", "Add", "Relu", "MatMul", "MatMul", "Add"]
    assert [node.op_type for node in optimized(export(dense), tmp_path).node] == ["FusedGemm", "MatMul", "Gemm"]


SCRIPT = """
import hashlib, sys
from tests.exporters.test_onnx import KINDS, export, make_mlp
import numpy as np
network = make_mlp(np.random.default_rng(3), (8, 7, 6, 5, 4, 3, 2), KINDS)
print(hashlib.sha256(export(network)).hexdigest())
"""


def test_bytes_are_the_same_in_every_process():
    network = make_mlp(np.random.default_rng(3), (8, 7, 6, 5, 4, 3, 2), KINDS)
    first = export(network)
    assert first == export(network)
    for seed in ("1", "2"):
        printed = subprocess.run(
            [sys.executable, "-c", SCRIPT], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        assert printed.decode().strip() == hashlib.sha256(first).hexdigest()


def test_no_torch_is_loaded():
    script = "import sys, sen_exporters.onnx.exporter; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_stamp_changes_the_metadata_only():
    network = make_mlp(np.random.default_rng(0), (3, 4, 2), ("dense", "sparse"))
    plain = EXPORTER.export(network, EXPORTER.Options())
    extra = Artifact("onnx", {**plain.files, "side.txt": b"kept"})
    stamped = EXPORTER.stamp(extra, {"version": "9", "checkpoint_sha256": "ab"})
    assert (list(stamped.files), stamped.files["side.txt"]) == (["model.onnx", "side.txt"], b"kept")
    assert stamped.main == EXPORTER.stamp(extra, {"checkpoint_sha256": "ab", "version": "9"}).main
    properties = EXPORTER.properties(stamped.main)
    assert properties == {**EXPORTER.properties(plain.main), "version": "9", "checkpoint_sha256": "ab"}
    assert list(properties) == sorted(properties)
    again = EXPORTER.stamp(stamped, {"version": "10"})
    assert EXPORTER.properties(again.main)["version"] == "10"
    bare, model = onnx.load_from_string(stamped.main), onnx.load_from_string(plain.main)
    del bare.metadata_props[:], model.metadata_props[:]
    assert bare == model


def test_found_by_its_entry_point():
    found = exporter("onnx")
    assert isinstance(found, OnnxExporter)
    assert (found.name, found.suffixes, found.engines(b"")) == ("onnx", (".onnx",), ("onnxruntime",))


def test_float16_weights_are_stored_as_such_and_computed_with_in_float32(tmp_path):
    rng = np.random.default_rng(0)
    network = make_mlp(rng, (300, 200, 10), ("dense", "dense"))
    layers = [replace(each, weight=Dense(each.weight.w.astype(np.float16))) for each in network.layers]
    half = Network(tuple(layers))
    model = export(half)
    assert len(model) < 0.53 * len(export(network))
    stored = {array.name: array.data_type for array in graph_of(model).initializer}
    assert stored["layer0/weight_f16"] == onnx.TensorProto.FLOAT16
    assert "layer0/weight" in names(graph_of(model))
    assert [node.op_type for node in optimized(model, tmp_path).node] == ["FusedGemm", "Gemm"]
    x = rng.normal(size=(4, 300)).astype(np.float32)
    assert_close(load(model).run(x), reference.run(half, x, np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_sparse_weights_are_stored_sparse_unless_asked_otherwise(dtype):
    rng = np.random.default_rng(0)
    w = np.where(rng.random((200, 300)) < 0.1, rng.normal(size=(200, 300)), 0).astype(dtype)
    network = Network((Layer(Sparse.from_dense(w), None, Identity()),))
    sparse, dense = export(network), export(network, sparse_format="dense")
    width = np.dtype(dtype).itemsize
    assert len(sparse) < np.count_nonzero(w) * (4 + width) + 1500
    assert w.nbytes < len(dense) < w.nbytes + 1000
    x = rng.normal(size=(4, 300)).astype(np.float32)
    for model in (sparse, dense):
        assert_close(load(model).run(x), reference.run(network, x, np.float32))


@pytest.mark.parametrize("sparse_format", ["densify", "dense"])
def test_sparse_weights_without_any_value(sparse_format):
    network = Network((Layer(Sparse.from_dense(np.zeros((3, 4), np.float32)), np.ones(3, np.float32), Identity()),))
    model = export(network, sparse_format=sparse_format)
    np.testing.assert_array_equal(load(model).run(np.ones((2, 4), np.float32)), np.ones((2, 3)))


def test_equal_arrays_are_stored_once_and_single_numbers_under_their_own_name():
    w = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    layer = Layer(Dense(w), None, Relu())
    graph = graph_of(export(Network((layer, layer, layer))))
    assert [array.name for array in graph.initializer] == ["layer0/weight"]
    sparse = Layer(Sparse.from_dense(np.triu(w)), None, Relu())
    graph = graph_of(export(Network((sparse, sparse))))
    stored = [array.name for array in graph.initializer if array.name.endswith(("values", "indices_i32"))]
    assert stored == ["layer0/weight_values", "layer0/weight_indices_i32"]


@pytest.mark.parametrize("batch_size", [None, 5])
def test_instrument_shows_every_hidden_layer(batch_size):
    rng = np.random.default_rng(0)
    network = make_mlp(rng, (6, 5, 4, 3), ("dense", "sum", "coordinates"))
    network = replace(network, layers=(replace(network.layers[0], neuron=Identity()), *network.layers[1:]))
    x = rng.normal(size=(5, 6)).astype(np.float32)
    model = export(network, batch_size=batch_size)
    shown = EXPORTER.instrument(model)
    onnx.checker.check_model(onnx.load_from_string(shown), full_check=True)
    outputs = load(shown).run_all(x)
    expected = reference.trace(network, x, np.float32)
    assert list(outputs) == ["output", "layer0/activation", "layer1/activation"]
    for name, values in zip(outputs, (expected[-1], *expected[:-1]), strict=True):
        assert_close(outputs[name], values)
    assert EXPORTER.instrument(model) == shown


SMALL = Network((Layer(Dense(np.ones((2, 3), np.float32)), None, Identity()),))


def test_block_sparse_weights_have_no_form():
    for call in (EXPORTER.check, EXPORTER.export):
        with pytest.raises(NoFormError) as raised:
            call(SMALL, EXPORTER.Options(sparse_format="block"))
        assert raised.value.exit_code == 2
        assert raised.value.hint


def test_check_refuses_what_one_file_cannot_hold():
    starts = np.zeros(30_001, np.int32)
    starts[1:] = 1
    w = Sparse(np.ones((1, 1), np.float32), np.zeros(1, np.int32), starts, (30_000, 30_000))
    network = Network((Layer(w, None, Identity()),))
    EXPORTER.check(network, EXPORTER.Options())
    with pytest.raises(ExportError, match=r"\b3\.6 GB.*\b2 GB") as raised:
        EXPORTER.check(network, EXPORTER.Options(sparse_format="dense"))
    assert "prune" in raised.value.hint


def test_invalid_onnx_graph_is_a_defect(monkeypatch):
    def damage(graph, *rest):
        graph.node("Gemm", ["input", "nothing"], "output")

    monkeypatch.setattr(lowering, "perceptron", damage)
    with pytest.raises(ExportError, match="ONNX") as raised:
        EXPORTER.export(SMALL, EXPORTER.Options())
    assert "defect" in raised.value.hint


@pytest.mark.parametrize("method", [EXPORTER.instrument, EXPORTER.properties])
def test_invalid_onnx_bytes_are_rejected(method):
    with pytest.raises(EngineError, match="ONNX"):
        method(export(SMALL)[:-3])
