"""The C library in a C project: warnings as errors, sanitizers, hostile images, C++."""

import platform
import re
import shutil
import struct
import subprocess
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from sen_edge.errors import DataError
from sen_edge.passes.quantize import to_int8, to_int8_weights
from sen_runtime import format as image
from tests.support.clibrary import LIBRARY, STRICT, cmake_library, compile_c, write_comparisons
from tests.support.hostile_images import HOSTILE
from tests.support.networks import by_source, random_input, random_network
from tests.support.scalings import HOSTILE_SCALINGS, scaled

SOURCES = sorted((LIBRARY / "src").glob("*.c"))
SANITIZERS = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
#: The kernel families of each instruction set, beside the portable ones.
BUILDS: dict[str, list[str]] = {
    "portable": [],
    "avx2": ["-DSEN_ISA=avx2", "-mavx2", "-mfma", "-Wno-psabi"],
    "avx512": [
        "-DSEN_ISA=avx512",
        *("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512vbmi", "-mavx512vnni", "-mfma", "-Wno-psabi"),
    ],
}
if platform.machine() not in ("x86_64", "AMD64"):
    BUILDS = {"portable": []}
FAMILIES = re.findall(
    r"src/(\w+\.c)", re.findall(r"set\(SEN_FAMILIES([^)]*)\)", (LIBRARY / "CMakeLists.txt").read_text())[0]
)


def sources(build: str) -> list[Path]:
    """Sources that a build compiles; an instruction set has only the kernel families."""
    return [path for path in SOURCES if build == "portable" or path.name in (*FAMILIES, "isa.c")]


@pytest.mark.slow
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("build", BUILDS)
def test_no_warnings(compiler: str, build: str, tmp_path: Path) -> None:
    flags = [*STRICT, *BUILDS[build], "-O2", "-I", LIBRARY / "include"]
    for source in sources(build):
        compile_c(compiler, *flags, "-c", source, "-o", tmp_path / "object.o")


@pytest.mark.needs("c++")
def test_the_header_is_cxx_too(tmp_path: Path) -> None:
    (tmp_path / "main.cpp").write_text('#include "sen.h"\nint main() { return SEN_OK; }\n')
    compile_c(
        "c++",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-I",
        LIBRARY / "include",
        "-c",
        tmp_path / "main.cpp",
        "-o",
        tmp_path / "o",
    )


@pytest.mark.slow
@pytest.mark.parametrize("build", BUILDS)
def test_the_core_needs_no_heap_no_stdio_and_of_libm_only_sqrtf(build: str, tmp_path: Path) -> None:
    flags = [*STRICT, *BUILDS[build], "-O2", "-fno-pic", "-I", LIBRARY / "include"]
    for source in sources(build):
        compile_c("gcc", *flags, "-c", source, "-o", tmp_path / "object.o")
        listed = subprocess.run(["nm", tmp_path / "object.o"], capture_output=True, text=True, check=True).stdout
        symbols = [line.split()[-2:] for line in listed.splitlines()]
        assert not [name for kind, name in symbols if kind in "BbDdC"], f"{source.name}: a global variable"
        outside = {name for kind, name in symbols if kind == "U" and not name.startswith("sen_")}
        assert outside <= {"memcpy", "memset", "memcmp", "sqrtf", "__stack_chk_fail", "_GLOBAL_OFFSET_TABLE_"}


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["sanitizers", pytest.param("valgrind", marks=pytest.mark.needs("valgrind"))])
def test_all_kernels_agree_and_stay_within_their_memory(tool: str, tmp_path: Path) -> None:
    flags = SANITIZERS if tool == "sanitizers" else ["-g", "-O1", "-DSEN_LEAVE_ARENA"]
    library = cmake_library(tmp_path / "library", f"-DCMAKE_C_FLAGS={' '.join(flags)}")
    driver = Path(__file__).parents[1] / "c/compare_kernels.c"
    compile_c("gcc", *STRICT, *flags, "-I", LIBRARY / "include", driver, library, "-lm", "-o", tmp_path / "compare")
    command = ["valgrind", "--quiet", "--error-exitcode=9", "--leak-check=full"] if tool == "valgrind" else []
    for path, allowed in write_comparisons(tmp_path):
        done = subprocess.run([*command, tmp_path / "compare", path, allowed], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]


def with_checksum(data: bytes) -> bytes:
    import zlib

    return data[:24] + struct.pack("<I", zlib.crc32(data[:24] + bytes(4) + data[28:])) + data[28:]


@pytest.mark.slow
def test_hostile_images_under_sanitizers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [data for data, _ in {**HOSTILE, **HOSTILE_SCALINGS}.values()]
    words = (0, 1, 3, 0x7F800000, 2**31 - 1, 2**32 - 1)  # an infinite float among them
    for kind in ("dense", "sparse", "blocks", "low_rank", "nested_sum", "coordinates"):
        for spiking, sizes in ((False, (5, 4, 3)), (True, (5, 4, 3)), (False, (40, 3))):
            network = random_network(rng, spiking=spiking, kinds=(kind,), sizes=sizes)
            networks = [network]
            if kind != "coordinates":
                networks.append(to_int8_weights(network))
                networks += [by_source(each) for each in networks if kind in ("sparse", "blocks")]
                with suppress(DataError):  # a layer that gives zeros only
                    networks.append(to_int8(network, random_input(rng, network, 64)))
            networks += [scaled(rng, each) for each in networks]
            for data in map(image.dumps, networks):
                images.append(data)
                images += [data[:size] for size in range(0, len(data), 37)]
                for _ in range(150):
                    at, word = 4 * int(rng.integers(len(data) // 4)), int(rng.choice(words))
                    images.append(with_checksum(data[:at] + struct.pack("<I", word) + data[at + 4 :]))
    packed = b"".join(struct.pack("<I", len(data)) + data for data in images)
    (tmp_path / "images").write_bytes(packed)
    driver = Path(__file__).parents[1] / "c/run_images.c"
    include = ("-D_POSIX_C_SOURCE=200112L", "-I", LIBRARY / "include")
    library = cmake_library(tmp_path / "library", f"-DCMAKE_C_FLAGS={' '.join(SANITIZERS)}")
    compile_c("gcc", *STRICT, *SANITIZERS, *include, driver, library, "-lm", "-o", tmp_path / "run")
    done = subprocess.run([tmp_path / "run", tmp_path / "images"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    taken, refused = (int(part.split()[0]) for part in done.stdout.split(",")[:2])
    assert taken > 100 and refused > 1000
