"""WebAssembly: parity in node, the loader, damaged and hostile modules."""

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from sen_edge.passes.materialize import materialize
from sen_edge.passes.quantize import to_float16, to_int8, to_int8_weights
from sen_exporters.base import Artifact, ExportError, ExportOptions
from sen_exporters.wasm import compiler
from sen_exporters.wasm.exporter import WasmExporter
from sen_runtime import reference
from sen_runtime.engines import node, wasm_file
from sen_runtime.errors import EngineError, MissingExtraError
from sen_runtime.ir.network import READOUTS, Network
from sen_runtime.ir.standardization import Standardization
from tests.conftest import MLP, Outcome, make_network
from tests.exporters.test_codings import COMPUTED, coded, draw
from tests.exporters.test_neuron_parameters import draw_inputs, make
from tests.support.networks import KINDS, random_input, random_network, stream

Run = Callable[..., Outcome]
compiles = pytest.mark.needs("clang", "wasm-ld")
runs = pytest.mark.needs("clang", "wasm-ld", "node")
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
MAX_CODE_BYTES = 100_000


def export(network: Network, name: str = "net") -> Artifact:
    return WasmExporter().export(network, ExportOptions(name=name))


def scaled(network: Network, **changes: object) -> Network:
    """With raw inputs and named features."""
    n, rng = network.n_features, np.random.default_rng(1)
    scaling = Standardization(rng.normal(0, 3, n).astype(np.float32), rng.uniform(0.5, 2, n).astype(np.float32))
    names = {"feature_names": json.dumps([f"f{i}" for i in range(n)])}
    return replace(network, input_scaling=scaling, metadata={**names, **network.metadata}, **changes)


# --- parity --------------------------------------------------------------------------------------


def assert_same(network: Network, x: np.ndarray) -> None:
    expected = reference.run(network, x)
    with node.load(export(network).main) as session:
        assert session.input_shape == network.input_shape
        np.testing.assert_allclose(session.run(x), expected, **CLOSE)
        np.testing.assert_allclose(session.run(x[0]), expected[0], **CLOSE)
        layers = session.run_all(x)
        traced = reference.trace(network, x)
        for index in range(len(network.layers) - 1):
            np.testing.assert_allclose(layers[f"layer{index}/activation"], traced[index], **CLOSE)
        if network.is_spiking:
            readout = stream(session, network, x[0])
            np.testing.assert_allclose(session.finish(readout), expected[0], **CLOSE)


@runs
@pytest.mark.parametrize("kind", KINDS)
def test_weights(kind: str) -> None:
    rng = np.random.default_rng(3)
    network = random_network(rng, kinds=(kind, "dense"), sizes=(7, 12, 9, 4))
    assert_same(network, random_input(rng, network, 20))


@runs
@pytest.mark.parametrize("spiking", [False, True])
@pytest.mark.parametrize("kinds", [("dense",), ("low_rank",)])
@pytest.mark.parametrize(
    ("transform", "share"),
    [(to_float16, 0.5), (to_int8_weights, 0.25), (partial(to_int8_weights, granularity="tensor"), 0.25)],
)
def test_small_weights_are_stored_as_they_are(
    transform: Callable[[Network], Network], share: float, kinds: tuple[str], spiking: bool
) -> None:
    rng = np.random.default_rng(3)
    plain = random_network(
        rng, kinds=kinds, sizes=(640, 96, 4), spiking=spiking, input_coding="spikes" if spiking else "direct"
    )
    network = transform(plain)
    assert_same(network, random_input(rng, network))
    if kinds == ("dense",):
        assert len(export(network).main) < 4 * share * 1.1 * plain.layers[0].weight.w.size + 16_000


@runs
def test_sparse_int8_weights() -> None:
    rng = np.random.default_rng(3)
    network = to_int8_weights(random_network(rng, kinds=("sparse", "blocks"), sizes=(64, 12, 4)))
    with node.load(export(network).main) as session:
        x = random_input(rng, network)
        np.testing.assert_allclose(session.run(x), reference.run(network, x), rtol=0.02, atol=0.02)


@runs
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_raw_inputs_and_probabilities(activation: str) -> None:
    rng = np.random.default_rng(3)
    network = scaled(random_network(rng, kinds=("dense",), sizes=(7, 9, 4)), output_activation=activation)
    assert_same(network, random_input(rng, network))


@runs
@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("coding", ["direct", "spikes"])
def test_spiking_networks(readout: str, coding: str) -> None:
    network = make((6, 9, 7, 4), readout, coding=coding)
    assert_same(network, draw_inputs(network))


@runs
@pytest.mark.parametrize("coding", COMPUTED)
def test_input_codings(coding: str) -> None:
    network = coded(coding, (6, 9, 4), "spike_count")
    assert_same(network, draw(network))


# --- files ---------------------------------------------------------------------------------------


@compiles
def test_a_network_gives_the_same_bytes_each_time() -> None:
    network = random_network(np.random.default_rng(0), sizes=(7, 9, 4))
    assert export(network).files == export(network).files


@compiles
def test_code_is_small() -> None:
    network = make_network(MLP)
    sizes = {form: len(export(each).main) for form, each in (("coordinates", network), ("dense", materialize(network)))}
    assert sizes["coordinates"] < MAX_CODE_BYTES
    assert sizes["dense"] < 4 * (64 * 32 + 32 * 10) + MAX_CODE_BYTES


@compiles
def test_properties_are_in_the_module_and_the_page() -> None:
    exporter, artifact = WasmExporter(), export(replace(make_network(MLP), metadata={"task": "regression"}))
    stamped = exporter.stamp(artifact, {"made by": "</script>\N{SNOWMAN}"})
    assert {"task": "regression", "made by": "</script>\N{SNOWMAN}"}.items() <= exporter.properties(
        stamped.main
    ).items()
    page = stamped.files["net.html"].decode()
    assert base64.b64decode(re.search(r'id="module">([^<]*)<', page).group(1)) == stamped.main
    assert exporter.stamp(artifact, {}).files == artifact.files


@compiles
def test_the_page_loads_nothing_and_escapes_names() -> None:
    names = json.dumps(["<img src=x onerror=alert(1)>", "</script>", "b", "c"])
    network = random_network(np.random.default_rng(0), sizes=(3, 4), metadata={"output_names": names})
    page = export(network, "<b>").files["<b>.html"].decode()
    assert "onerror=alert" not in page.replace("onerror=alert(1)\\u003e", "") and "<b>" not in page
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:|//)", page)
    assert "default-src 'none'" in page


@compiles
def test_int8_activations_are_refused() -> None:
    network = random_network(np.random.default_rng(0), kinds=("dense",), sizes=(6, 5, 3))
    with pytest.raises(ExportError, match="int8 activations"):
        WasmExporter().check(to_int8(network, random_input(np.random.default_rng(0), network, 32)), ExportOptions())


def test_a_missing_compiler_is_one_line(
    sen_edge: Run, mlp_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler.shutil, "which", lambda name: None)
    monkeypatch.setattr(compiler.importlib.util, "find_spec", lambda name: None)
    outcome = sen_edge("export", mlp_path, "--to", "wasm", "-o", tmp_path / "out")
    assert outcome.code == 4 and "sen-edge[wasm]" in outcome.err and not (tmp_path / "out").exists()


def test_a_missing_node_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node.shutil, "which", lambda name: None)
    with pytest.raises(MissingExtraError) as caught:
        node.version()
    assert "nodejs" in caught.value.hint


@runs
def test_an_export_is_verified_and_benchmarked(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    outcome = sen_edge("export", mlp_path, "--to", "wasm,c", "-o", tmp_path)
    assert outcome.code == 0, outcome.err
    manifest = json.loads((tmp_path / "mlp.manifest.json").read_text())
    assert set(manifest["artifacts"][0]["files"]) == {"mlp.wasm", "mlp.js", "mlp.d.ts", "mlp.html"}
    assert manifest["artifacts"][0]["verification"][0]["engine"].startswith("node ")
    assert sen_edge("verify", tmp_path / "mlp.wasm", "--against", mlp_path, "--seed", 3).code == 0
    outcome = sen_edge("bench", tmp_path / "mlp.wasm", "--engine", "node", "--seconds", "0.2")
    assert outcome.code == 0, outcome.err


@runs
def test_node_that_detects_no_modules_has_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Releases before 20.19 do not, such as that of Debian 12."""
    option = "--no-experimental-detect-module"
    is_known = subprocess.run(["node", option, "-e", ""], capture_output=True, check=False).returncode == 0
    monkeypatch.setenv("NODE_OPTIONS", option if is_known else "")
    rng = np.random.default_rng(3)
    network = random_network(rng, kinds=("dense",), sizes=(7, 4))
    assert_same(network, random_input(rng, network, 2))


# --- the loader ----------------------------------------------------------------------------------

SCRIPT = """
import { load } from "./net.js";
import { readFileSync } from "node:fs";
const model = await load("net.wasm");
const other = await load(readFileSync("net.wasm"));
const third = await load(new URL("net.wasm", import.meta.url));
const x = Float32Array.from({ length: model.inputLength }, (_, i) => i / 10);
const error = (action) => { try { action(); return null; } catch (e) { return [e.name, e.message]; } };
console.log(JSON.stringify({
  run: [...model.run(x)], again: [...other.run([...x])], third: [...third.run(x)],
  batch: [...model.runBatch([...x, ...x])],
  classes: model.classes, features: model.features, task: model.task, timesteps: model.timesteps,
  decision: model.decide(model.run(x)),
  errors: [
    error(() => model.run(x.slice(1))), error(() => model.run(x.map((v, i) => (i === 2 ? NaN : v)))),
    error(() => model.run([1e300, ...x.slice(1)])), error(() => model.runBatch([1])), error(() => model.run()),
    error(() => model.step(x)), error(() => model.reset()),
  ],
}));
"""


def run_script(artifact: Artifact, script: str, folder: Path) -> dict:
    artifact.write(folder)
    (folder / "main.mjs").write_text(script)
    (folder / "package.json").write_text('{ "type": "module" }')  # for node before 20.19
    run = subprocess.run(["node", "main.mjs"], cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@runs
def test_the_loader(tmp_path: Path) -> None:
    metadata = {"output_names": '["ant", "bee", "cow"]', "task": "classification"}
    network = scaled(random_network(np.random.default_rng(4), kinds=("dense",), sizes=(5, 8, 3), metadata=metadata))
    found = run_script(export(network), SCRIPT, tmp_path)
    expected = reference.run(network, np.arange(5, dtype=np.float32)[np.newaxis] / 10)[0]
    np.testing.assert_allclose(found["run"], expected, **CLOSE)
    assert found["again"] == found["third"] == found["run"] and found["batch"] == [*found["run"], *found["run"]]
    assert found["classes"] == ["ant", "bee", "cow"] and found["features"] == [f"f{i}" for i in range(5)]
    assert found["decision"] == ["ant", "bee", "cow"][int(expected.argmax())]
    assert [error[0] for error in found["errors"]] == ["RangeError"] * 5 + ["Error"] * 2
    for index, text in ((0, "4 values; expected 5"), (1, "at 2 is NaN"), (2, "at 0 is Infinity"), (3, "multiple of 5")):
        assert text in found["errors"][index][1]


@runs
def test_labels_that_hold(tmp_path: Path) -> None:
    network = random_network(np.random.default_rng(4), kinds=("dense",), sizes=(5, 6), metadata={"task": "multilabel"})
    found = run_script(export(network), SCRIPT, tmp_path)
    assert found["decision"] == [str(i) for i, value in enumerate(found["run"]) if value > 0]


# --- damaged and hostile modules -----------------------------------------------------------------


@pytest.fixture(scope="module")
def module() -> bytes:
    if not shutil.which("clang") or not shutil.which("wasm-ld"):
        pytest.skip("not installed: clang, wasm-ld")
    return export(random_network(np.random.default_rng(0), kinds=("dense",), sizes=(4, 5, 3))).main


def section(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + wasm_file.encode_size(len(body)) + body


def looping() -> bytes:
    """A module whose start function does not return."""
    code = bytes([0, 3, 0x40, 0x0C, 0, 0x0B, 0x0B])  # loop br 0 end
    sections = [
        section(1, b"\x01\x60\x00\x00"),
        section(3, b"\x01\x00"),
        section(5, b"\x01\x01\x01\x01"),
        section(8, b"\x00"),
        section(10, b"\x01" + wasm_file.encode_size(len(code)) + code),
    ]
    return wasm_file.with_properties(wasm_file.HEADER + b"".join(sections), {})


@pytest.mark.needs("node")
def test_every_truncated_module_is_refused(module: bytes) -> None:
    for length in [*range(0, 60), *range(60, len(module), 101), len(module) - 1]:
        with pytest.raises(EngineError):
            wasm_file.read(module[:length])


@pytest.mark.needs("node")
def test_changed_modules_end_with_an_error_or_a_result(module: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "LIMIT_S", 10.0)
    rng = np.random.default_rng(0)
    for _ in range(12):
        data = bytearray(module)
        for at in rng.integers(8, len(data), 4):
            data[at] ^= int(rng.integers(1, 256))
        try:
            with node.load(bytes(data)) as session:
                session.run(np.zeros((1, *session.input_shape), np.float32))
        except EngineError:
            pass


@pytest.mark.needs("node")
def test_a_module_that_does_not_return_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "LIMIT_S", 2.0)
    with pytest.raises(EngineError, match="more than 2 s"):
        node.load(looping())


@pytest.mark.needs("node")
@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda data: b"", "begin with"),
        (lambda data: b"\0asm\2\0\0\0", "version"),
        (lambda data: wasm_file.HEADER, "not exported by sen-edge"),
        (lambda data: data + section(2, b"\x01\x01a\x01b\x00\x00"), "imports"),
        (lambda data: data + section(5, b"\x01\x00\x01"), "max size"),
        (lambda data: data + section(0, b"\x08sen_edge[1]"), "JSON object of strings"),
        (lambda data: data + section(0, b"\x08sen_edge{}"), "not exported by sen-edge"),  # two sets of properties
        (lambda data: wasm_file.with_properties(wasm_file.HEADER + section(5, b"\x01\x01\x01\x01"), {}), "exported"),
    ],
)
def test_other_modules_are_refused(change: Callable[[bytes], bytes], what: str, module: bytes) -> None:
    with pytest.raises(EngineError, match=what):
        node.load(change(module))


def test_a_memory_beyond_the_machine_is_refused() -> None:
    body = b"\x01\x01\x01" + wasm_file.encode_size(1 << 16)
    file = wasm_file.read(wasm_file.with_properties(wasm_file.HEADER + section(5, body), {}))
    assert file.memory_bytes == 1 << 32
