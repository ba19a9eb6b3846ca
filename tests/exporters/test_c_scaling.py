"""Exported C: standardization, restoration, output activations, tasks and names."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sen_edge.passes.quantize import to_float16, to_int8_weights
from sen_exporters.base import Artifact
from sen_exporters.c import names
from sen_exporters.c.budget import footprint
from sen_exporters.c.golden import golden
from sen_exporters.c.program import lower_network
from sen_runtime import reference
from sen_runtime.engines import c as engine
from sen_runtime.ir.network import OUTPUT_ACTIVATIONS, Network, feature_ranges
from sen_runtime.ir.standardization import Standardization
from tests.support.c_exports import SHARED, STRICT, assert_flash, compile_and_run, export
from tests.support.networks import random_input, random_network, stream
from tests.support.scalings import raw_input, scaled

SIZES = (9, 12, 4)
#: Names that would end a string, a comment or a line, or begin a trigraph or an escape.
NASTY = ('a"b', "back\\slash", "Größe ??/", "*/ /* //", "two\nlines", "日本", "\0", "%s\x7f1")
READOUTS = ("mean_membrane", "last_membrane", "spike_count")


def network_of(activation: str = "softmax", metadata: dict[str, str] | None = None, **given: object) -> Network:
    rng = np.random.default_rng(len(activation))
    network = random_network(
        rng, kinds=("dense", "sparse"), sizes=SIZES, metadata={"input_range": "-50 50", **(metadata or {})}, **given
    )
    return scaled(rng, network, activation)


def inputs_of(network: Network, count: int = 5) -> np.ndarray:
    draw = raw_input if network.input_scaling else random_input
    return draw(np.random.default_rng(1), network, count)


def passes(artifact: Artifact, folder: Path) -> bool:
    """Whether the self-test of an export passes."""
    written = artifact.write(folder).parent
    sources = (*written.glob("*.c"), *written.glob("*.S"))
    return compile_and_run(folder, *sources, flags=(f"-I{written}",)) == 0


@pytest.mark.parametrize("weights", ["array", "incbin"])
@pytest.mark.parametrize("activation", OUTPUT_ACTIVATIONS)
def test_perceptrons(activation: str, weights: str, tmp_path: Path) -> None:
    network = network_of(activation)
    artifact = export(network, weights=weights)
    x = inputs_of(network)
    found = engine.load(artifact.write(tmp_path), flags=SHARED).run_all(x)
    hidden, last = reference.trace(network, x)
    np.testing.assert_allclose(found["layer0/activation"], hidden, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["output"], last, rtol=1e-4, atol=1e-5)
    assert passes(artifact, tmp_path)


@pytest.mark.parametrize("coding", ["direct", "spikes"])
@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("activation", OUTPUT_ACTIVATIONS)
def test_runs_and_steps_of_spiking_networks(activation: str, readout: str, coding: str, tmp_path: Path) -> None:
    network = network_of(activation, spiking=True, readout=readout, input_coding=coding)
    artifact = export(network)
    x = inputs_of(network, 1)
    session = engine.load(artifact.write(tmp_path), flags=SHARED)
    expected = reference.run(network, x)[0]
    np.testing.assert_allclose(session.run(x)[0], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(session.finish(stream(session, network, x[0])), expected, rtol=1e-4, atol=1e-4)
    assert passes(artifact, tmp_path)


@pytest.mark.parametrize("storage", [to_float16, to_int8_weights])
def test_other_weights(storage, tmp_path: Path) -> None:
    """int8 products see standardized inputs; to the bit up to the output activation."""
    network = storage(network_of("none"))
    artifact = export(network)
    x = inputs_of(network, 20)
    found = engine.load(artifact.write(tmp_path), flags=SHARED).run(x)
    if storage is to_int8_weights:
        plain = replace(network, output_scaling=None)
        exact = engine.load(export(plain).write(tmp_path / "plain"), flags=SHARED).run(x)
        np.testing.assert_array_equal(exact, reference.trace_int8(plain, x)[-1])
    else:
        np.testing.assert_allclose(found, reference.run(network, x), rtol=1e-4, atol=1e-4)
    assert passes(artifact, tmp_path)


def test_the_self_test_finds_a_changed_mean(tmp_path: Path) -> None:
    artifact = export(network_of("none"))
    for constant in ("input_mean", "input_inverse", "output_mean", "output_std"):
        text = artifact.main.decode()
        at = text.index(f"{constant}[")
        changed = text[:at] + text[at:].replace("{\n    ", "{\n    99 + ", 1)
        files = {**artifact.files, artifact.main_name: changed.encode()}
        assert not passes(replace(artifact, files=files), tmp_path / constant)


def test_vectors_are_raw_and_cover_each_feature() -> None:
    network = network_of()
    vectors = golden(lower_network(network, "net"))
    low, high = feature_ranges(network)
    assert (vectors.inputs >= low.astype(np.float32)).all() and (vectors.inputs <= high.astype(np.float32)).all()
    assert (np.ptp(vectors.inputs, axis=0) > 0.1 * (high - low)).all()
    np.testing.assert_allclose(vectors.outputs, reference.run(network, vectors.inputs), rtol=1e-6, atol=1e-7)


def test_the_tolerance_of_probabilities_follows_from_that_of_logits() -> None:
    network = random_network(np.random.default_rng(0), kinds=("dense",), sizes=SIZES)
    plain = golden(lower_network(network, "net")).tolerance
    for activation, slope in (("softmax", 0.5), ("sigmoid", 0.25)):
        found = golden(lower_network(replace(network, output_activation=activation), "net")).tolerance
        assert found == pytest.approx(slope * plain, abs=2e-6)


@pytest.mark.parametrize("activation", OUTPUT_ACTIVATIONS)
@pytest.mark.needs("arm-none-eabi-gcc")
def test_flash_is_no_larger_than_estimated(activation: str, tmp_path: Path) -> None:
    for given in ({}, {"spiking": True, "readout": "spike_count"}):
        assert_flash(export(network_of(activation, **given)), tmp_path / str(len(given)))


def test_no_function_of_libm_is_called(tmp_path: Path) -> None:
    path = export(network_of("sigmoid", spiking=True)).write(tmp_path)
    subprocess.run(["gcc", *STRICT, "-O2", "-c", path, "-o", tmp_path / "net.o"], check=True)
    listed = subprocess.run(["nm", "-u", tmp_path / "net.o"], capture_output=True, text=True, check=True).stdout
    assert {line.split()[-1] for line in listed.splitlines()} <= {
        "memcpy",
        "memset",
        "__stack_chk_fail",
        "_GLOBAL_OFFSET_TABLE_",
    }


def test_networks_without_scaling_have_none_of_it() -> None:
    text = export(random_network(np.random.default_rng(0), spiking=True, sizes=SIZES)).main.decode()
    for name in ("sen_exp", "sen_restore", "sen_standardize", "net_finish", "input_mean"):
        assert name not in text
    program = lower_network(random_network(np.random.default_rng(0), sizes=SIZES), "net")
    assert not any("scaling" in label or "standardized" in label for label, _ in footprint(program).flash)


# --- tasks and names -----------------------------------------------------------------------------


def named(**given: tuple[str, ...]) -> Network:
    metadata = {kind: json.dumps(texts, ensure_ascii=False) for kind, texts in given.items()}
    return replace(
        random_network(np.random.default_rng(0), kinds=("dense",), sizes=(8, 3)),
        metadata={"task": "regression", **metadata},
    )


@pytest.mark.parametrize("compiler", [name for name in ("gcc", "clang", "c++") if shutil.which(name)])
def test_names_are_what_was_given(compiler: str, tmp_path: Path) -> None:
    """As bytes, without a warning, included by a file that uses some of them."""
    network = named(feature_names=NASTY, output_names=("cat", "dog", "?"))
    path = export(network).write(tmp_path)
    main = tmp_path / ("main.cpp" if compiler == "c++" else "main.c")
    main.write_text(
        '#include "net_names.h"\n#include <stdio.h>\n'
        "int main(void) { int i; puts(NET_TASK); for (i = 0; i < NET_INPUTS; i++) puts(net_feature_names[i]);"
        " return 0; }\n"
    )
    flags = [flag for flag in STRICT if compiler != "c++" or "std" not in flag]
    subprocess.run([compiler, *flags, f"-I{path.parent}", main, "-o", tmp_path / "main"], check=True)
    printed = subprocess.run([tmp_path / "main"], capture_output=True, check=True).stdout
    assert printed == b"".join(text.split("\0")[0].encode() + b"\n" for text in ("regression", *NASTY))
    header = path.with_name("net_names.h").read_text(encoding="ascii")
    assert '"cat",\n    "dog",' in header


def test_names_that_do_not_fit_are_left_out() -> None:
    artifact = export(named(output_names=("cat", "dog")))
    assert "net/net_names.h" not in artifact.files
    assert export(named(output_names=("cat", "dog", "cow"))).files["net/net_names.h"].count(b"_names[") == 1


def test_half_a_character_is_replaced() -> None:
    assert names.string("\ud800") == '"\\?"'


def test_a_task_may_hold_anything(tmp_path: Path) -> None:
    network = replace(named(), metadata={"task": 'x"\n#error'})
    assert passes(export(network), tmp_path)


def test_names_take_flash_only_where_they_are_included() -> None:
    network = named(feature_names=NASTY, output_names=("cat", "dog", "cow"))
    artifact = export(network)
    assert artifact.footprint == export(replace(network, metadata={})).footprint
    assert names.nbytes(network) == sum(5 + len(name.encode()) for name in (*NASTY, "cat", "dog", "cow"))
    assert str(names.nbytes(network)) in artifact.files["net/README.md"].decode()


def test_a_feature_without_spread_is_a_golden_input() -> None:
    """Ranges may be empty, where a mean lies outside the input range."""
    far = Standardization(np.full(9, 1e6, np.float32), np.ones(9, np.float32))
    network = replace(network_of("none"), input_scaling=far)
    assert (golden(lower_network(network, "net")).inputs == 50).all()
