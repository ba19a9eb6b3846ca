"""Exported C: compiled without warnings, run, and compared with the reference."""

import itertools
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import c_code_size
from sen_edge.passes.quantize import to_float16, to_int8, to_int8_weights
from sen_exporters.base import Artifact, ExportError, NoFormError, exporter_for
from sen_exporters.c import budget, library
from sen_exporters.c.budget import BudgetError, footprint
from sen_exporters.c.exporter import CExporter, COptions
from sen_exporters.c.program import lower_network
from sen_runtime import reference
from sen_runtime.engines import c as engine
from sen_runtime.errors import EngineError
from sen_runtime.ir.network import Layer, Network
from sen_runtime.ir.neurons import Identity, Relu
from sen_runtime.ir.operators import Coordinates, Dense, Sparse
from tests.support.networks import KINDS, random_input, random_network

EXPORTER = CExporter()
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wpedantic", "-Werror")
SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
SHARED = (*STRICT, "-O1", "-fPIC", "-shared", "-fsanitize=undefined", "-fno-sanitize-recover=all")
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
STORAGES = {"float32": lambda network: network, "float16": to_float16, "int8": to_int8_weights}
NO_SUCH = ("coordinates", "int8")
needs_arm = pytest.mark.needs("arm-none-eabi-gcc")


def export(network: Network, name: str = "net", **options) -> Artifact:
    return EXPORTER.export(network, COptions(name=name, **options))


def compile_and_run(folder: Path, *sources: Path, flags: tuple[str, ...] = (), compiler: str = "gcc") -> int:
    """Exit code of a program."""
    program = folder / "program"
    subprocess.run([compiler, *STRICT, "-O1", *flags, *sources, "-lm", "-o", program], check=True)
    return subprocess.run([program], capture_output=True).returncode


def small(kind: str = "dense", storage: str = "float32", seed: int = 0, **given) -> Network:
    rng = np.random.default_rng(seed)
    return STORAGES[storage](random_network(rng, kinds=(kind,), sizes=(9, 12, 7, 4), **given))


def assert_close(actual: np.ndarray, expected: np.ndarray, allowed: float = 0.0) -> None:
    """All but a share of the rows are equal up to rounding."""
    error = np.abs(actual - expected).max(axis=1)
    assert np.mean(error > 1e-5 * max(1.0, np.abs(expected).max())) <= allowed


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
    membranes = reference.initial_membranes(network, 1)
    session.reset()
    for _ in range(6):
        membranes, spikes = reference.step(network, membranes, x.astype(np.float64))
        np.testing.assert_allclose(session.step(x[0]), membranes[-1][0], rtol=1e-4, atol=1e-5)
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


# --- how it compiles -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("weights", ["array", "incbin"])
def test_every_file_compiles_without_a_warning_and_keeps_to_its_arena(
    weights: str, compiler: str, tmp_path: Path
) -> None:
    for index, storage in enumerate(STORAGES):
        kinds = KINDS if storage != "int8" else KINDS[1:]
        network = STORAGES[storage](
            random_network(np.random.default_rng(index), kinds=kinds, sizes=(7, 6, 5, 6, 5, 4, 3), spiking=index == 1)
        )
        folder = export(network, f"n{index}", weights=weights).write(tmp_path).parent
        assembly = list(folder.glob("*.S"))
        assert len(assembly) == (weights == "incbin")
        has_positions = "_init(" in (folder / f"n{index}.h").read_text()
        for expand in ((), (f"-DN{index}_EXPAND",))[: 1 + has_positions]:
            flags = ("-DSEN_SELFTEST_PRINT", "-I", folder, *SANITIZED, *expand)
            assert compile_and_run(tmp_path, *folder.glob("*.c"), *assembly, flags=flags, compiler=compiler) == 0


def test_only_public_names_are_visible(tmp_path: Path) -> None:
    network = small("sum", "int8", spiking=True)
    path = export(network).write(tmp_path)
    subprocess.run(["gcc", "-std=c99", "-c", path, "-o", tmp_path / "net.o"], check=True)
    table = subprocess.run(["nm", "-g", "--defined-only", tmp_path / "net.o"], capture_output=True, text=True)
    names = {line.split()[-1] for line in table.stdout.splitlines()}
    assert names == {"net_run", "net_reset", "net_step", "net_layer_output"}


def test_only_needed_functions_are_there() -> None:
    text = export(small("dense", "int8")).main.decode()
    defined = set(re.findall(r"^static [^\n=;]*?(\w+)\(", text, re.MULTILINE))
    assert {"sen_dense_int8", "sen_quantize", "apply", "run_perceptron"} <= defined
    assert not {"sen_dense_int8_reference", "sen_dense_f32", "sen_panel_width", "run_spiking", "sen_nonzero"} & defined
    assert "math.h" not in text and "SEN_ISA" not in text


def test_two_networks_in_one_program(tmp_path: Path) -> None:
    folders = [export(small(kind, seed=seed), name).write(tmp_path).parent for kind, seed, name in
               (("dense", 1, "first"), ("sparse", 2, "second-net"))]  # fmt: skip
    main = tmp_path / "main.c"
    main.write_text(
        '#include "first.h"\n#include "second_net.h"\n'
        "int main(void) { return first_selftest() + second_net_selftest(); }\n"
    )
    flags = ("-DSEN_SELFTEST_NO_MAIN", *(f"-I{folder}" for folder in folders))
    sources = [source for folder in folders for source in folder.glob("*.c")]
    assert compile_and_run(tmp_path, main, *sources, flags=flags) == 0


@pytest.mark.needs("g++")
def test_the_header_is_for_cpp_too(tmp_path: Path) -> None:
    path = export(small("coordinates", spiking=True)).write(tmp_path)
    main = tmp_path / "main.cpp"
    main.write_text(
        '#include "net.h"\n#include "net.h"\n'
        "int main() { static net_arena arena; float x[NET_INPUTS] = {}, y[NET_OUTPUTS]; uint32_t n;\n"
        "  net_init(); net_reset(&arena); net_step(&arena, x, y); net_run(&arena, x, y);\n"
        "  return net_layer_output(&arena, 9, &n) || n; }\n"
    )
    subprocess.run(["gcc", "-std=c99", "-c", path, "-o", tmp_path / "net.o"], check=True)
    flags = ("-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{path.parent}")
    subprocess.run(["g++", *flags, main, tmp_path / "net.o", "-lm", "-o", tmp_path / "program"], check=True)
    assert subprocess.run([tmp_path / "program"]).returncode == 0


@pytest.mark.needs("cmake")
@pytest.mark.parametrize("weights", ["array", "incbin"])
def test_cmake_builds_the_library_and_its_test(weights: str, tmp_path: Path) -> None:
    folder = export(small("coordinates"), weights=weights).write(tmp_path).parent
    for options in ((), ("-DNET_EXPAND=ON",)):
        subprocess.run(["cmake", "-S", folder, "-B", tmp_path / "b", *options], check=True, capture_output=True)
        subprocess.run(["cmake", "--build", tmp_path / "b"], check=True, capture_output=True)
        tested = subprocess.run(["ctest", "--test-dir", tmp_path / "b"], capture_output=True, text=True)
        assert "100% tests passed, 0 tests failed out of 1" in tested.stdout


@pytest.mark.needs("cmake")
def test_the_zephyr_module_names_files_that_are_there(tmp_path: Path) -> None:
    """Zephyr's own functions, as far as the module calls them, in six lines of CMake."""
    path = export(small("coordinates"), weights="incbin").write(tmp_path)
    project = tmp_path / "CMakeLists.txt"
    project.write_text(
        "cmake_minimum_required(VERSION 3.20)\nproject(app C ASM)\n"
        "set(CONFIG_SEN_NET y)\nset(CONFIG_SEN_NET_SELFTEST y)\n"
        "macro(zephyr_library_named name)\n add_library(${name} STATIC)\n set(it ${name})\nendmacro()\n"
        "macro(zephyr_library_sources)\n target_sources(${it} PRIVATE ${ARGN})\nendmacro()\n"
        "macro(zephyr_library_sources_ifdef on)\n zephyr_library_sources(${ARGN})\nendmacro()\n"
        "macro(zephyr_include_directories)\n target_include_directories(${it} PUBLIC ${ARGN})\nendmacro()\n"
        "macro(zephyr_compile_definitions_ifdef on)\nendmacro()\n"
        f"add_subdirectory({path.parent}/zephyr zephyr)\n"
    )
    subprocess.run(["cmake", "-S", tmp_path, "-B", tmp_path / "b"], check=True, capture_output=True)
    subprocess.run(["cmake", "--build", tmp_path / "b"], check=True, capture_output=True)
    kconfig = (path.parent / "zephyr/Kconfig").read_text()
    assert re.findall(r"^config (\w+)", kconfig, re.MULTILINE) == ["SEN_NET", "SEN_NET_SELFTEST", "SEN_NET_EXPAND"]
    assert "    select REQUIRES_FULL_LIBC" in kconfig  # minimal libc may lack sqrtf, which no other form needs
    assert "select" not in export(small("nested_sum")).files["net/zephyr/Kconfig"].decode()
    assert "kconfig: zephyr/Kconfig" in (path.parent / "zephyr/module.yml").read_text()
    assert "`CONFIG_SEN_NET=y`" in (path.parent / "README.md").read_text()


def test_libraries_of_frameworks_name_files_that_are_there(tmp_path: Path) -> None:
    folder = export(small("dense"), "my net", weights="incbin").write(tmp_path).parent
    manifest = json.loads((folder / "library.json").read_text())
    for source in manifest["build"]["srcFilter"]:
        assert (folder / source.removeprefix("+<").removesuffix(">")).exists()
    assert (folder / manifest["headers"]).exists()
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert set(manifest["export"]["include"]) == files and "my_net_weights.bin" in files
    properties = dict(line.split("=", 1) for line in (folder / "library.properties").read_text().splitlines())
    assert properties["name"] == "my_net" and (folder / properties["includes"]).exists()
    for macro in ("ARDUINO=10800", "PLATFORMIO=60100", "__ZEPHYR__"):  # they bring their own main
        subprocess.run(["gcc", f"-D{macro}", "-c", folder / "my_net_selftest.c", "-o", tmp_path / "s.o"], check=True)
        table = subprocess.run(["nm", tmp_path / "s.o"], capture_output=True, text=True).stdout
        assert " T main" not in table and " T my_net_selftest" in table


# --- the self-test -------------------------------------------------------------------------------


def test_the_self_test_finds_a_changed_weight_and_a_changed_vector(tmp_path: Path) -> None:
    folder = export(small("dense"), weights="incbin").write(tmp_path).parent
    sources = [*folder.glob("*.c"), *folder.glob("*.S")]
    assert compile_and_run(tmp_path, *sources, flags=("-I", folder)) == 0
    weights = bytearray((folder / "net_weights.bin").read_bytes())
    weights[3] ^= 0x40  # an exponent bit of the first weight
    (folder / "net_weights.bin").write_bytes(weights)
    assert compile_and_run(tmp_path, *sources, flags=("-I", folder)) == 1
    folder = export(small("dense"), "other").write(tmp_path).parent
    test = folder / "other_selftest.c"
    golden = re.search(r"golden.*?\{\n\{\n\s+(-?[\d.e-]+f),", test.read_text(), re.DOTALL)
    test.write_text(test.read_text().replace(golden.group(1), "77.0f", 1))
    assert compile_and_run(tmp_path, folder / "other.c", test) == 1


def test_the_self_test_finds_what_is_not_a_number(tmp_path: Path) -> None:
    folder = export(small("dense"), weights="incbin").write(tmp_path).parent
    (folder / "net_weights.bin").write_bytes(b"\xff" * (folder / "net_weights.bin").stat().st_size)
    assert compile_and_run(tmp_path, *folder.glob("*.c"), *folder.glob("*.S"), flags=("-I", folder)) == 1


@pytest.mark.parametrize("given", ["-1e300 1e300", "-3e38 3e38", "0 1e39", "nan 1", "1 nan", "-inf inf"])
def test_ranges_beyond_float32_are_not_taken(given: str, tmp_path: Path) -> None:
    network = replace(small("dense"), metadata={"input_range": given})
    folder = export(network).write(tmp_path).parent
    assert compile_and_run(tmp_path, *folder.glob("*.c"), flags=("-I", folder)) == 0


def test_outputs_beyond_float32_are_not_compared(tmp_path: Path) -> None:
    large = Dense(np.full((2, 3), 1e30, np.float32))
    network = Network((Layer(large, None, Identity()),), metadata={"input_range": "0 1e10"})
    folder = export(network).write(tmp_path).parent
    assert compile_and_run(tmp_path, *folder.glob("*.c"), flags=("-I", folder)) == 0
    with pytest.raises(ExportError, match="float32"):
        export(Network((*network.layers, Layer(Dense(np.full((1, 2), 1e30, np.float32)), None, Identity()))))


@pytest.mark.parametrize("coding", ["direct", "spikes"])
def test_the_self_test_takes_little_stack(coding: str, tmp_path: Path) -> None:
    network = random_network(
        np.random.default_rng(0), spiking=True, kinds=("dense",), sizes=(9, 2000), input_coding=coding
    )
    folder = export(network).write(tmp_path).parent
    command = ["gcc", "-std=c99", "-O0", "-fstack-usage", "-c", folder / "net_selftest.c", "-o", tmp_path / "s.o"]
    subprocess.run(command, check=True)
    frames = [int(line.split("\t")[1]) for line in (tmp_path / "s.su").read_text().splitlines()]
    assert len(frames) == (3 if coding == "spikes" else 2) and sum(frames) <= budget.STACK_BYTES


def test_vectors_cover_the_input_range_and_fit_a_device() -> None:
    network = replace(small("dense"), metadata={"input_range": "-3 5"})
    text = export(network).files["net/net_selftest.c"].decode()
    inputs = text.split("inputs[VECTORS]")[1].split("golden")[0]
    values = [float(value) for value in re.findall(r"(-?\d[\d.e+-]*)f", inputs)]
    assert len(values) == 4 * 9 and min(values) < -2 and max(values) > 4 and max(values) <= 5
    wide = Network((Layer(Dense(np.ones((1, 5000), np.float32)), None, Identity()),), metadata={"input_range": "?"})
    assert "#define VECTORS 1\n" in export(wide).files["net/net_selftest.c"].decode()


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


def test_int8_activations_are_refused() -> None:
    rng = np.random.default_rng(0)
    network = random_network(rng, kinds=("dense",), sizes=(6, 5, 3))
    with pytest.raises(NoFormError, match="int8"):
        export(to_int8(network, rng.random((64, 6)).astype(np.float32)))


# --- budgets -------------------------------------------------------------------------------------


def test_budgets() -> None:
    network = small("dense")
    found = footprint(lower_network(network, "net"))
    assert export(network, max_flash=found.flash_bytes, max_ram=found.ram_bytes).footprint == {
        "flash": found.flash_bytes,
        "RAM": found.ram_bytes,
    }
    for limits, message in (
        ({"max_flash": found.flash_bytes - 1}, rf"flash.*\b{found.flash_bytes}\b"),
        ({"max_ram": found.ram_bytes - 8}, rf"RAM.*\b{found.ram_bytes}\b"),
    ):
        with pytest.raises(BudgetError, match=message) as raised:
            export(network, **limits)
        assert raised.value.exit_code == 3
        for line in ("layer 0: weights [12, 9]", "layer 0: output", "code of run.c", "total"):
            assert line in raised.value.message


def test_figures_are_exact(tmp_path: Path) -> None:
    """Constants and arena as a compiler counts them."""
    for kind, given in (("dense", {}), ("nested_sum", {"spiking": True}), ("coordinates", {})):
        network = small(kind, **given)
        program = lower_network(network, "net")
        path = export(network).write(tmp_path)
        source = tmp_path / "size.c"
        source.write_text(
            '#include "net.h"\n#include <stdio.h>\n'
            'int main(void) { printf("%d %d", (int)sizeof(net_arena), NET_ARENA_BYTES); return 0; }\n'
        )
        subprocess.run(["gcc", f"-I{path.parent}", source, "-o", tmp_path / "size"], check=True)
        sizes = subprocess.run([tmp_path / "size"], capture_output=True, text=True).stdout.split()
        assert sizes == [str(program.arena_bytes)] * 2
        assert footprint(program).ram_bytes == program.arena_bytes


@needs_arm
def test_the_table_of_code_sizes_is_up_to_date() -> None:
    assert not c_code_size.differences(c_code_size.measure(), budget.SIZES), "run benchmarks/c_code_size.py --write"


@needs_arm
@pytest.mark.parametrize(
    ("kind", "storage", "given"),
    [
        ("dense", "float32", {}),
        ("dense", "int8", {}),
        ("blocks", "int8", {}),
        ("nested_sum", "float16", {}),
        ("coordinates", "float32", {}),
        ("dense", "float32", {"spiking": True}),
        ("nested_sum", "int8", {"spiking": True}),
    ],
)
def test_flash_is_no_larger_than_estimated(kind: str, storage: str, given: dict, tmp_path: Path) -> None:
    assert_flash(export(small(kind, storage, **given)), tmp_path)


def assert_flash(artifact: Artifact, folder: Path) -> None:
    """The code for Cortex-M4 is at most as large as estimated, and no smaller than by a quarter."""
    path = artifact.write(folder)
    command = ["arm-none-eabi-gcc", *c_code_size.CORTEX_M4, *STRICT, "-Os", "-ffunction-sections", "-c", path]
    subprocess.run([*command, "-o", folder / "net.o"], check=True)
    table = subprocess.run(["arm-none-eabi-size", folder / "net.o"], capture_output=True, text=True).stdout
    text, data, bss = map(int, table.splitlines()[1].split()[:3])
    assert text + data <= artifact.footprint["flash"] <= 1.35 * (text + data)
    assert data == bss == 0


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


# --- regions of the library ----------------------------------------------------------------------


def test_no_region_depends_on_an_instruction_set_of_the_host() -> None:
    """Compiled for such a processor, an export would otherwise lack a function or hold two."""
    hosts = re.compile(r"SEN_ISA|__AVX\w*|__SSE\w*|__FMA__|__F16C__|__ARM_NEON|__ARM_FEATURE_DOTPROD|vector\.h")
    assert not [name for name, region in library.regions().items() if hosts.search(region.text)]


@pytest.mark.parametrize(
    "text",
    [
        "/* export: one */\nint a;\n",
        "int a;\n/* end */\n",
        "/* export: one */\n/* export: two */\n/* end */\n",
        "/* export: one */\n/* end */\n/* export: one */\n/* end */\n",
        "/* export: one, needs two */\n/* end */\n",
        "/* export: one needs two */\n/* end */\n",
    ],
    ids=["not closed", "not opened", "nested", "a name twice", "an unknown need", "malformed"],
)
def test_wrong_regions_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"a\.c"):
        library.parse({"a.c": text})


def test_an_unknown_region_is_named() -> None:
    with pytest.raises(LookupError, match="sen_nothing"):
        library.closure({"sen_nothing"})


def test_relu_layers_without_bias(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    w = rng.normal(size=(6, 5)).astype(np.float32)
    network = Network((Layer(Dense(w), None, Relu()),))
    x = rng.normal(size=(4, 5)).astype(np.float32)
    assert_close(engine.load(export(network).write(tmp_path)).run(x), reference.run(network, x))
