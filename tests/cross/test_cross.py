"""The C library on ARM: emulated Linux, and microcontrollers with and without FPU."""

import re
import subprocess
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from sen_edge.passes.quantize import to_int8, to_int8_weights
from sen_runtime import format as image
from sen_runtime import integer, reference
from sen_runtime.ir.network import Network
from tests.cross import harness
from tests.cross.harness import COUNT_IMAGE, RUN_IMAGE, TARGETS, Target
from tests.support.clibrary import LIBRARY, STRICT, cmake_library, compile_c, write_comparisons
from tests.support.networks import random_input, random_network
from tests.support.scalings import scaled

#: Small enough for the 16 KB of RAM of a Cortex-M0 board.
SIZES = (24, 16, 5)
ARENA_BYTES = 8192
#: Three times 100 instructions; each time the call of the second marker is the 101st.
KNOWN = """
#include "markers.h"
static __attribute__((noinline)) void region(void)
{
    sen_count_start();
    __asm__ volatile(".rept 100\\n\\tnop\\n\\t.endr");
    sen_count_stop();
    __asm__ volatile("");
}
int main(void)
{
    region();
    region();
    region();
    return 0;
}
"""
FAULT = "int main(void) { __builtin_trap(); return 0; }\n"


@pytest.fixture(scope="session", params=TARGETS)
def target(request: pytest.FixtureRequest) -> Target:
    """Each target."""
    return with_tools(TARGETS[request.param])


def with_tools(target: Target) -> Target:
    """The same target; where its tools are missing, the test is skipped."""
    lacking = harness.missing(target)
    if lacking:
        pytest.skip(f"{target.name} needs {', '.join(lacking)}")
    return target


@pytest.fixture(scope="session")
def library(target: Target, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Objects of the C library for the target."""
    return harness.build_objects(target, harness.library_sources(), tmp_path_factory.mktemp(target.name))


def network_of(kind: str) -> Network:
    rng = np.random.default_rng(0)
    if kind == "float32 sparse":
        return random_network(rng, kinds=("sparse",), sizes=SIZES)
    if kind == "int8 low rank":
        return to_int8_weights(random_network(rng, kinds=("low_rank",), sizes=SIZES))
    if kind == "int4":
        network = random_network(rng, kinds=("dense",), sizes=(70, 9, 9))
        return to_int8(network, random_input(rng, network, 64), bits=4)
    if kind == "coordinates":
        return random_network(rng, kinds=("coordinates",), sizes=SIZES)
    network = random_network(rng, kinds=("dense", "sparse"), sizes=SIZES, spiking=True)
    return scaled(rng, network, "softmax") if kind == "scaled" else network


def write_case(folder: Path, kind: str, *, wrong_by: float = 0.0, magic: bytes = b"") -> Path:
    """What `network_of` gives, its expected outputs and its first bytes changed if asked for."""
    network = network_of(kind)
    x = random_input(np.random.default_rng(1), network)
    if kind.startswith("int8"):
        y = reference.trace_int8(network, x)[-1]
    else:
        y = (reference if network.input_grid is None else integer).run(network, x)
    assert np.ptp(y) > 0
    data = magic + image.dumps(network)[len(magic) :]
    return harness.write_case(folder, data, x, y + wrong_by, arena_bytes=ARENA_BYTES)


@pytest.mark.parametrize("kind", ["float32 sparse", "int8 low rank", "int4", "coordinates", "spiking", "scaled"])
def test_outputs_are_those_of_the_reference(target: Target, library: list[Path], kind: str, tmp_path: Path) -> None:
    case = write_case(tmp_path, kind)
    done = harness.run(target, harness.build(target, [*RUN_IMAGE, *library], tmp_path / "run", includes=[case]))
    assert done.code == 0, done
    assert "worst error" in done.stdout


def test_products_of_int8_are_those_of_the_reference(target: Target, library: list[Path], tmp_path: Path) -> None:
    """To the bit, on every processor; compiled for size as well, which takes other instructions."""
    sources = [harness.HERE / "compare_int8.c"]
    program = harness.build(target, [*sources, *library], tmp_path / "compare", includes=[LIBRARY / "src"])
    done = harness.run(target, program)
    assert done.code == 0, done
    sources += [LIBRARY / f"src/{name}.c" for name in ("pairs", "quantize", "int8", "sparse_int8", "streams")]
    program = harness.build(target, sources, tmp_path / "small", includes=[LIBRARY / "src"], optimize="-Os")
    assert harness.run(target, program) == done
    assert "588 matrices" in done.stdout


def test_failure_is_reported(target: Target, library: list[Path], tmp_path: Path) -> None:
    case = write_case(tmp_path, "float32 sparse", wrong_by=1e-4)
    done = harness.run(target, harness.build(target, [*RUN_IMAGE, *library], tmp_path / "run", includes=[case]))
    assert done.code == 1 and "worst error" in done.stdout
    with pytest.raises(RuntimeError, match="exit code 1"):
        harness.count(target, harness.build(target, [*COUNT_IMAGE, *library], tmp_path / "count", includes=[case]))
    case = write_case(tmp_path, "float32 sparse", magic=b"ELF!")
    done = harness.run(target, harness.build(target, [*RUN_IMAGE, *library], tmp_path / "run", includes=[case]))
    assert done.code == 1 and "not a .sen image" in done.stdout


def test_a_fault_ends_the_program(target: Target, tmp_path: Path) -> None:
    (tmp_path / "fault.c").write_text(FAULT)
    done = harness.run(target, harness.build(target, [tmp_path / "fault.c"], tmp_path / "fault"))
    assert done.code == harness.FAULT if target.memory else done.code < 0, done


def test_a_warning_is_an_error(target: Target, tmp_path: Path) -> None:
    (tmp_path / "careless.c").write_text("int main(int argc, char **argv) { return (char)argc; }\n")
    with pytest.raises(RuntimeError, match="unused parameter"):
        harness.build(target, [tmp_path / "careless.c"], tmp_path / "careless")
    harness.build(target, [tmp_path / "careless.c"], tmp_path / "careless", warnings=())


def test_the_counter_is_exact(target: Target, tmp_path: Path) -> None:
    (tmp_path / "known.c").write_text(KNOWN)
    sources, includes = [tmp_path / "known.c", COUNT_IMAGE[1]], [harness.HERE]
    program = harness.build(target, sources, tmp_path / "known", includes=includes)
    assert harness.count(target, program) == 3 * 101
    with pytest.raises(RuntimeError, match="absent"):
        harness.count(target, program, start="absent")


#: Instructions of Cortex-M3, and the estimate of their min and max cycles; the call of the second marker is 3.
CYCLES = {
    "ldr r0, [sp]": (2, 2),
    "ldrb.w r0, [sp, #200]": (2, 2),
    "ldrd r0, r1, [sp]": (3, 3),
    "push {r0, r1}": (3, 3),
    "ldmia.w sp!, {r0, r1}": (3, 3),
    "muls r0, r1": (1, 1),
    "mla r0, r1, r1, r1": (2, 2),
    "umull r0, r1, r2, r2": (3, 5),
    "umlal r0, r1, r2, r2": (4, 7),
    "udiv r0, r1, r1": (2, 12),
    "b.n 1f; 1:": (3, 3),
    "b.w 1f; 1:": (3, 3),
    "1: eors r0, r0": (1, 1),
    "bne.n 1b": (3, 3),
    "beq.n 1f; nop; 1:": (1, 3),
    "cbz r0, 1f; nop; 1:": (1, 3),
    "eor.w r0, r1, r2": (1, 1),
}


def test_cycles_are_estimated(tmp_path: Path) -> None:
    target = with_tools(TARGETS["cortex-m3"])
    code = "".join(f"{each}\\n" for each in CYCLES)
    clobbered = '"r0", "r1", "cc", "memory"'
    body = KNOWN.replace('".rept 100\\n\\tnop\\n\\t.endr"', f'"{code}" : : : {clobbered}')
    (tmp_path / "known.c").write_text(body)
    program = harness.build(target, [tmp_path / "known.c", COUNT_IMAGE[1]], tmp_path / "known", includes=[harness.HERE])
    expected = (len(CYCLES) + 1, *(sum(each[index] for each in CYCLES.values()) + 3 for index in (0, 1)))
    assert harness.count_cycles(target, program) == tuple(3 * each for each in expected)


def test_instructions_of_inferences_are_the_same_each_time(target: Target, library: list[Path], tmp_path: Path) -> None:
    case = write_case(tmp_path, "spiking")
    program = harness.build(target, [*COUNT_IMAGE, *library], tmp_path / "count", includes=[case])
    once = harness.count(target, program)
    assert once > 1000
    assert harness.count(target, program, ["1"]) == once
    assert harness.count(target, program, ["7"]) == 7 * once
    with pytest.raises(RuntimeError, match="exit code 0"):
        harness.count(target, program, ["0"])


def test_bytes_of_code(target: Target, tmp_path: Path) -> None:
    sources = harness.library_sources()
    small = harness.text_bytes(target, sources, tmp_path)
    assert 0 < harness.text_bytes(target, sources[:2], tmp_path) < small
    assert small < harness.text_bytes(target, sources, tmp_path, optimize="-O3")


#: Kernels chosen on processors: a Cortex-A9 may have NEON, but no fused multiply-add.
CHOICES = {
    "aarch64": {"max": {"neon", "neon_dotprod"}, "cortex-a53": {"neon"}},
    "armhf": {"cortex-a7": {"neon"}, "cortex-a9": set()},
}


@pytest.mark.parametrize("name", CHOICES)
def test_all_kernels_agree(name: str, tmp_path: Path) -> None:
    """NEON with dot products, without, and the portable kernels, each with the reference."""
    target = with_tools(TARGETS[name])
    compiler = f"{target.prefix}gcc"
    cross = [f"-DCMAKE_C_COMPILER={compiler}", "-DCMAKE_SYSTEM_NAME=Linux", f"-DCMAKE_SYSTEM_PROCESSOR={name}"]
    library = cmake_library(tmp_path / "library", *cross)
    driver = Path(__file__).parents[1] / "c/compare_kernels.c"
    compile_c(
        compiler, *STRICT, "-static", "-I", LIBRARY / "include", driver, library, "-lm", "-o", tmp_path / "compare"
    )
    for (cpu, kernels), (path, allowed) in product(CHOICES[name].items(), write_comparisons(tmp_path)):
        command = [target.emulator, "-cpu", cpu, tmp_path / "compare", path, allowed]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        chosen = set(re.findall("[a-z][a-z0-9_]+", done.stdout)) - {"images"}
        assert chosen == kernels | {"reference", "portable"}
