"""`sen_bench` as a program: compilers, sanitizers, static builds, version and help."""

import ctypes
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sen_runtime import __version__
from sen_runtime.ir.network import Network
from tests.cross import harness
from tests.support.clibrary import LIBRARY, STRICT, cmake_target, compile_c
from tests.support.hostile_images import HOSTILE
from tests.support.sen_bench import POSIX, SHORT, TOOLS, record_of

SOURCES = sorted(TOOLS.glob("*.c"))
SANITIZERS = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
PT_INTERP = 3


@pytest.fixture(scope="session")
def checked_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """sen_bench under AddressSanitizer and UndefinedBehaviorSanitizer."""
    path = tmp_path_factory.mktemp("checked") / "sen_bench"
    compile_c("gcc", *STRICT, *SANITIZERS, *POSIX, *SOURCES, *sorted((LIBRARY / "src").glob("*.c")), "-lm", "-o", path)
    return path


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_no_warnings(compiler: str, source: Path, tmp_path: Path) -> None:
    compile_c(compiler, *STRICT, *POSIX, "-O2", "-c", source, "-o", tmp_path / "object.o")


@pytest.mark.slow
def test_sanitizers(checked_program: Path, models: dict[str, Network], tmp_path: Path) -> None:
    (tmp_path / "x.f32").write_bytes(bytes(96 * 3))
    for arguments, code in (
        (["mlp.sen", "int8.sen", "--inputs", "x.f32"], 0),
        (["train.sen", "--cold-cache"], 0),
        (["mlp.sen", "wide.sen"], 2),
    ):
        done = subprocess.run([checked_program, *arguments, *SHORT], capture_output=True, cwd=tmp_path)
        assert done.returncode == code and b"Sanitizer" not in done.stderr, done.stderr.decode()


@pytest.mark.slow
def test_hostile_images_are_refused(checked_program: Path, tmp_path: Path) -> None:
    for number, (data, _) in enumerate(HOSTILE.values()):
        (tmp_path / f"{number}.sen").write_bytes(data)
        command = [checked_program, f"{number}.sen", "--seconds", "0.01"]
        done = subprocess.run(command, capture_output=True, cwd=tmp_path)
        assert done.returncode in (0, 1) and b"Sanitizer" not in done.stderr, done.stderr.decode()
        assert (done.returncode == 1) == done.stderr.startswith(b"error: ")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["aarch64", "armhf"])
def test_one_file_that_runs_on_arm(name: str, models: dict[str, Network], tmp_path: Path) -> None:
    target = harness.TARGETS[name]
    lacking = harness.missing(target)
    if lacking:
        pytest.skip(f"{name} needs {', '.join(lacking)}")
    cross = [f"-DCMAKE_C_COMPILER={target.prefix}gcc", "-DCMAKE_SYSTEM_NAME=Linux", f"-DCMAKE_SYSTEM_PROCESSOR={name}"]
    program = cmake_target("sen_bench", tmp_path / "build", *cross) / "sen_bench"
    assert not has_interpreter(program.read_bytes())
    command = [target.emulator, program, "mlp.sen", "int8.sen", "mlp.sen", *SHORT]
    with (tmp_path / "bench.raw").open("wb") as out:
        subprocess.run(command, stdout=out, stderr=subprocess.PIPE, cwd=tmp_path, timeout=300, check=True)
    found = record_of(tmp_path / "bench.raw")
    first, int8, same = found["rows"]
    assert found["device"]["userland_bits"] == {"aarch64": 64, "armhf": 32}[name]
    assert first["kernels"] == {"aarch64": "neon_dotprod", "armhf": "neon"}[name]
    assert first["agreement"]["matches"] and same["agreement"]["max_error"] == 0 and int8["agreement"]["matches"]


def has_interpreter(elf: bytes) -> bool:
    """Whether an ELF file asks for a dynamic loader."""
    is_64 = elf[4] == 2
    at = struct.unpack_from("<Q", elf, 32)[0] if is_64 else struct.unpack_from("<I", elf, 28)[0]
    size, count = struct.unpack_from("<HH", elf, 54 if is_64 else 42)
    return any(struct.unpack_from("<I", elf, at + size * row)[0] == PT_INTERP for row in range(count))


def test_it_needs_no_other_file(program: Path) -> None:
    assert not has_interpreter(program.read_bytes())
    assert has_interpreter(Path(sys.executable).resolve().read_bytes())


def test_the_python_package_is_built_without_it(tmp_path: Path) -> None:
    targets = []
    for options in ([], ["-DSKBUILD=2"]):
        folder = tmp_path / str(len(targets))
        subprocess.run(["cmake", "-S", LIBRARY, "-B", folder, *options], check=True, capture_output=True)
        listed = subprocess.run(["cmake", "--build", folder, "--target", "help"], check=True, capture_output=True)
        targets.append("sen_bench" in listed.stdout.decode())
    assert targets == [True, False]


def test_version_and_help(program: Path) -> None:
    version, text = (subprocess.check_output([program, word]).decode() for word in ("--version", "--help"))
    assert version == f"sen_bench {__version__}\n"
    listed = re.findall(r"^  (--[a-z-]+)", text, re.MULTILINE)
    page = (LIBRARY.parents[2] / "docs/how-to/benchmark-without-python.md").read_text()
    assert len(listed) == 6 and not [option for option in listed if f"`{option}" not in page]


def test_bandwidth_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "part.so"
    compile_c("gcc", *STRICT, *POSIX, "-O2", "-shared", "-fPIC", TOOLS / "bandwidth.c", "-o", path)
    library = ctypes.CDLL(str(path))
    library.sen_bench_bandwidth.restype = ctypes.c_double
    library.sen_bench_read.restype = ctypes.c_uint32
    data = np.random.default_rng(0).integers(0, 2**32, 1 << 16, np.uint32)
    start, size = ctypes.c_void_p(data.ctypes.data), ctypes.c_size_t(data.nbytes)
    assert library.sen_bench_read(start, size, 3) == 3 * int(data.sum(dtype=np.uint64)) % 2**32
    assert 0 < library.sen_bench_bandwidth(start, size, ctypes.c_double(0.01)) < 10_000
