"""What NAME.h and NAME.hpp offer a firmware, and what macros of the compiler change."""

import re
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from sen_exporters.c.memory import binary
from sen_exporters.c.program import lower_network
from tests.support.c_exports import EXPORTER, STRICT, export, integers, small

CPP = ("-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wcast-qual", "-Wold-style-cast", "-Werror")
SHA256 = "4e1147f5af2ede68efa4608c1189fbaa521dd89ea3c6044ac0535d93f6d5caff"


def output_of(folder: Path, main: str, sources: Iterable[Path], *flags: str, suffix: str = ".c") -> list[str]:
    """Words that a program prints."""
    path, objects = folder / f"main{suffix}", folder / "objects"
    path.write_text(main)
    objects.mkdir()
    sources = [source.resolve() for source in sources]
    subprocess.run(["gcc", *STRICT, *flags, "-c", *sources], check=True, cwd=objects)
    compiler = ("g++", *CPP) if suffix == ".cpp" else ("gcc", *STRICT)
    includes = [f"-I{source.parent}" for source in sources]
    program = folder / "program"
    subprocess.run([*compiler, *includes, path, *objects.glob("*.o"), "-lm", "-o", program], check=True)
    return subprocess.run([program], check=True, capture_output=True, text=True).stdout.split()


def test_the_header_describes_the_model(tmp_path: Path) -> None:
    network = replace(small("dense"), metadata={"task": "classification"})
    artifact = EXPORTER.stamp(export(network), {"checkpoint_sha256": SHA256, "dtype": "float32"})
    artifact = EXPORTER.stamp(artifact, {"verified_inputs": "7"})
    other = export(small("sparse", spiking=True), "other").write(tmp_path).parent
    assert EXPORTER.properties(artifact.main)["checkpoint_sha256"] == SHA256
    main = (
        '#include <stdio.h>\n#include "net.h"\n#include "other.h"\nint main(void) {\n'
        "    static const unsigned sizes[NET_LAYERS] = NET_LAYER_SIZES;\n"
        '    printf("%s %lu %s ", NET_MODEL_HASH, NET_MODEL_ID, NET_SEN_EDGE_VERSION);\n'
        '    printf("%d %d ", NET_API_VERSION, NET_CLASSES);\n'
        '    printf("%u %u %u ", sizes[0], sizes[1], sizes[2]);\n'
        '    printf("%d %d [%s] %lu", NET_OK + OTHER_OK, NET_NONFINITE, OTHER_MODEL_HASH, OTHER_MODEL_ID);\n}\n'
    )
    path = artifact.write(tmp_path)
    version = re.search(r"sen-edge ([\w.]+)\. Do not", artifact.main.decode())[1]
    expected = [SHA256, str(int(SHA256[:8], 16)), version, "1", "4", "12", "7", "4", "0", "1", "[]", "0"]
    assert output_of(tmp_path, main, [path, other / "other.c"]) == expected
    assert "OTHER_CLASSES" not in (other / "other.h").read_text()  # its task is not stated


def test_status_codes(tmp_path: Path) -> None:
    main = (
        '#include <math.h>\n#include <stdio.h>\n#include "net.h"\nint main(void) {\n'
        "    static net_arena arena;\n    static float x[NET_INPUTS], y[NET_OUTPUTS];\n"
        '    printf("%d ", net_run(&arena, x, y) == NET_OK);\n    x[0] = NAN;\n'
        '    printf("%d", net_run(&arena, x, y) == NET_NONFINITE);\n}\n'
    )
    assert output_of(tmp_path, main, [export(small("dense")).write(tmp_path)]) == ["1", "1"]


@pytest.mark.parametrize("storage", ["array", "incbin"])
@pytest.mark.parametrize("section", [".external", None])
def test_weights_are_in_the_section_of_the_user(section: str | None, storage: str, tmp_path: Path) -> None:
    network = small("nested_sum", "int8")
    folder = export(network, weights=storage).write(tmp_path).parent
    constants = lower_network(network, "net", storage).constants
    sources = [*folder.glob("net.c"), *folder.glob("*.S")]
    flags = [f'-DNET_WEIGHTS_SECTION="{section}"'] if section else []
    subprocess.run(["gcc", *STRICT, *flags, "-I", folder, "-c", *sources], check=True, cwd=tmp_path)
    sizes = {}
    for built in tmp_path.glob("*.o"):
        table = subprocess.run(["size", "-A", built], check=True, capture_output=True, text=True).stdout
        sizes |= {name: int(size) for name, size in re.findall(r"^(\.\w+)\s+(\d+)", table, re.MULTILINE)}
    if section is None:
        assert ".external" not in sizes
        return
    least = len(binary(constants)) if storage == "incbin" else sum(each.nbytes for each in constants)
    assert least <= sizes[section] <= least + 64 * len(constants)  # the host aligns large arrays


@pytest.mark.needs("cmake")
def test_cmake_places_weights_in_the_section_of_the_user(tmp_path: Path) -> None:
    folder = export(small("dense"), weights="incbin").write(tmp_path).parent
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.13)\nproject(app C ASM)\nadd_subdirectory(net)\n"
        'target_compile_definitions(net PRIVATE "NET_WEIGHTS_SECTION=\\".external\\"")\n'
    )
    subprocess.run(["cmake", "-S", tmp_path, "-B", tmp_path / "build"], check=True, capture_output=True)
    subprocess.run(["cmake", "--build", tmp_path / "build"], check=True, capture_output=True)
    (library,) = tmp_path.rglob("libnet.a")
    table = subprocess.run(["size", "-A", library], check=True, capture_output=True, text=True).stdout
    (size,) = re.findall(r"^\.external\s+(\d+)", table, re.MULTILINE)
    assert int(size) == (folder / "net_weights.bin").stat().st_size


RECORD = (
    '#include <stdio.h>\n#include "net.h"\n'
    'void on_layer(uint32_t layer);\nvoid on_layer(uint32_t layer) { printf("%u ", (unsigned)layer); }\n'
    "int main(void) {\n    static net_arena arena;\n    static float x[NET_INPUTS * 8], y[NET_OUTPUTS];\n"
)


@pytest.mark.parametrize(
    ("given", "call", "expected"),
    [
        ({}, "run", "0 1 2"),
        ({"spiking": True, "timesteps": 3}, "run", "0 1 0 1 0 1 2"),
        ({"spiking": True, "timesteps": 3, "readout": "spike_count"}, "run", "0 1 2 0 1 2 0 1 2"),
        ({"spiking": True, "timesteps": 3}, "step", "0 1 2"),
    ],
    ids=str,
)
def test_a_hook_is_called_after_each_layer(given: dict, call: str, expected: str, tmp_path: Path) -> None:
    path = export(small("dense", **given)).write(tmp_path)
    main = f"{RECORD}    return net_{call}(&arena, x, y);\n}}\n"
    assert output_of(tmp_path, main, [path], "-DSEN_LAYER_HOOK=on_layer") == expected.split()


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "0 1 2"), ({"spiking": True, "timesteps": 3}, "0 1 0 1 0 1 2")],
    ids=["perceptron", "spiking"],
)
def test_a_hook_of_integers(given: dict, expected: str, tmp_path: Path) -> None:
    path = export(integers(small("dense", **given))).write(tmp_path)
    main = f"{RECORD}    return net_run_u8(&arena, x, y);\n}}\n".replace("float", "uint8_t")
    assert output_of(tmp_path, main, [path], "-DSEN_LAYER_HOOK=on_layer") == expected.split()


def test_a_hook_is_called_after_the_steps_of_a_single_spiking_layer(tmp_path: Path) -> None:
    """All of whose steps are one call."""
    network = small("dense", spiking=True)
    network = replace(network, layers=(network.layers[0], replace(network.layers[2], weight=network.layers[1].weight)))
    main = f"{RECORD}    return net_run(&arena, x, y);\n}}\n"
    path = export(network).write(tmp_path)
    assert output_of(tmp_path, main, [path], "-DSEN_LAYER_HOOK=on_layer") == ["0", "1"]


@pytest.mark.needs("g++")
@pytest.mark.parametrize("is_spiking", [False, True])
def test_the_class_of_integers(is_spiking: bool, tmp_path: Path) -> None:
    path = export(integers(small("dense", spiking=is_spiking, timesteps=3))).write(tmp_path)
    steps = (
        "    object.reset();\n    for (int t = 0; t < NET_TIMESTEPS; t++)\n"
        "        is_equal &= object.step(x) == NET_OK;\n"
        "    object.read();\n"
    )
    main = (
        '#include <cstdio>\n#include "net.hpp"\nstatic net_network object;\nstatic net_arena arena;\nint main()\n{\n'
        "    uint8_t x[NET_INPUTS] = {255, 3}, y[NET_OUTPUTS];\n    uint32_t size;\n"
        "    bool is_equal = object.run(x) == NET_OK && net_run_u8(&arena, x, y) == NET_OK;\n"
        f"{steps if is_spiking else ''}"
        "    for (uint32_t i = 0; i < NET_OUTPUTS; i++)\n        is_equal &= object[i] == y[i];\n"
        "    is_equal &= object.argmax() == net_argmax(y) && object.layer_output(0, size) && size == 12;\n"
        '    std::printf("%d", is_equal);\n}\n'
    )
    assert output_of(tmp_path, main, [path], suffix=".cpp") == ["1"]


@pytest.mark.needs("g++")
@pytest.mark.parametrize("kind", ["perceptron", "spiking"])
def test_the_class_is_the_c_interface(kind: str, tmp_path: Path) -> None:
    is_spiking = kind == "spiking"
    path = export(small("coordinates", spiking=is_spiking)).write(tmp_path)
    step = (
        "    object.reset();\n    net_reset(&arena);\n    is_equal &= object.step(x) == net_step(&arena, x, y);\n"
        "    for (uint32_t i = 0; i < NET_OUTPUTS; i++)\n        is_equal &= object[i] >= y[i] && object[i] <= y[i];\n"
    )
    main = (
        '#include <cstdio>\n#include "net.hpp"\n#include "net.hpp"\n'
        "static net_network object;\nstatic net_arena arena;\n"
        "int main()\n{\n    float x[NET_INPUTS] = {1, 0.5f}, y[NET_OUTPUTS];\n    uint32_t sizes[2];\n"
        "    net_network::init();\n    bool is_equal = object.run(x) == net_run(&arena, x, y);\n"
        "    for (uint32_t i = 0; i < NET_OUTPUTS; i++)\n"
        "        is_equal &= object[i] >= y[i] && object[i] <= y[i] && object[object.argmax()] >= y[i];\n"
        f"{step if is_spiking else ''}"
        "    const float *own = object.layer_output(0, sizes[0]), *other = net_layer_output(&arena, 0, &sizes[1]);\n"
        "    is_equal &= sizes[0] == sizes[1] && own[0] >= other[0] && own[0] <= other[0];\n"
        '    std::printf("%d", is_equal);\n}\n'
    )
    assert output_of(tmp_path, main, [path], suffix=".cpp") == ["1"]
