"""Exported C in builds: compilers, frameworks, self-test, flash and RAM, regions of the library."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import c_code_size
from sen_exporters.base import ExportError
from sen_exporters.c import budget, library
from sen_exporters.c.budget import BudgetError, footprint
from sen_exporters.c.program import lower_network
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity
from sen_runtime.ir.operators import Dense
from tests.support.c_exports import STORAGES, assert_flash, compile_and_run, export, small
from tests.support.networks import KINDS, random_network

SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
needs_arm = pytest.mark.needs("arm-none-eabi-gcc")


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
    assert {"sen_dense_int8", "sen_quantize", "apply", "sen_perceptron_run"} <= defined
    assert (
        not {"sen_dense_int8_reference", "sen_dense_f32", "sen_panel_width", "sen_spiking_run", "sen_nonzero"} & defined
    )
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
    for macro in ("ARDUINO=10800", "PLATFORMIO=60100", "__ZEPHYR__", "ESP_PLATFORM"):  # they bring their own main
        subprocess.run(["gcc", f"-D{macro}", "-c", folder / "my_net_selftest.c", "-o", tmp_path / "s.o"], check=True)
        table = subprocess.run(["nm", tmp_path / "s.o"], capture_output=True, text=True).stdout
        assert " T main" not in table and " T my_net_selftest" in table


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
    assert len(frames) == 3 and sum(frames) <= budget.STACK_BYTES


def test_vectors_cover_the_input_range_and_fit_a_device() -> None:
    network = replace(small("dense"), metadata={"input_range": "-3 5"})
    text = export(network).files["net/net_selftest.c"].decode()
    inputs = text.split("inputs[VECTORS]")[1].split("golden")[0]
    values = [float(value) for value in re.findall(r"(-?\d[\d.e+-]*)f", inputs)]
    assert len(values) == 4 * 9 and min(values) < -2 and max(values) > 4 and max(values) <= 5
    wide = Network((Layer(Dense(np.ones((1, 5000), np.float32)), None, Identity()),), metadata={"input_range": "?"})
    assert "#define VECTORS 1\n" in export(wide).files["net/net_selftest.c"].decode()


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
