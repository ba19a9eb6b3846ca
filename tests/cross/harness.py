"""C sources built for other processors and run under emulators, with counts of executed instructions that never vary.

Some targets are Linux on emulated processors, others boards without an operating system, whose programs talk to QEMU
through semihosting of newlib or picolibc (exit code, output; arguments on ARM). An ATmega2560 runs in simavr.
"""

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

HERE = Path(__file__).parent
LIBRARY = HERE.parents[1] / "runtime/sen_runtime/c"
#: Sources of the programs here; both want the folder of a `write_case` among the includes.
RUN_IMAGE = (HERE / "run_image.c",)
COUNT_IMAGE = (HERE / "count_image.c", HERE / "markers.c")
#: Warnings of the project's own sources.
STRICT = ("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wcast-qual", "-Werror")
SECTIONS = ("-ffunction-sections", "-fdata-sections")
#: Exit code of a bare-metal program that ran into a fault (startup.c).
FAULT = 70
TIMEOUT_SECONDS = 300


@dataclass(frozen=True)
class Memory:
    """Where a board's vector table, flash and RAM are, in bytes."""

    vectors_origin: int
    flash_origin: int
    flash_length: int
    ram_origin: int
    ram_length: int


@dataclass(frozen=True)
class Target:
    """A processor, its compiler and its emulator.

    Attributes:
        name: of the processor.
        prefix: of the compiler's tools.
        emulator: QEMU's program.
        flags: what the compiler needs for this processor, when it links too.
        machine: QEMU's board; empty for Linux.
        memory: of a board that startup.c starts; None for all others.
        library: a file that the compiler finds if its C library is installed.
    """

    name: str
    prefix: str
    emulator: str
    flags: tuple[str, ...]
    machine: str = ""
    memory: Memory | None = None
    library: str = "libc.a"


@dataclass(frozen=True)
class Completed:
    """How a program ended, and what it printed."""

    code: int
    stdout: str
    stderr: str


def _board(name: str, machine: str, memory: Memory, *flags: str) -> Target:
    flags = (f"-mcpu={name}", "-mthumb", *flags, "--specs=rdimon.specs")
    return Target(name, "arm-none-eabi-", "qemu-system-arm", flags, machine, memory)


def _fpu(name: str) -> tuple[str, str]:
    return "-mfloat-abi=hard", f"-mfpu={name}"


def _memory(flash_origin: int, flash_length: int, ram_origin: int, ram_length: int) -> Memory:
    """Memory with the vector table at the start of the flash."""
    return Memory(flash_origin, flash_origin + VECTORS_BYTES, flash_length - VECTORS_BYTES, ram_origin, ram_length)


def _riscv(march: str, mabi: str, bits: int) -> Target:
    memory = {"__flash": 0x80000000, "__flash_size": 4 * MB, "__ram": 0x80000000 + 4 * MB, "__ram_size": 4 * MB}
    flags = (f"-march={march}", f"-mabi={mabi}", "-mcmodel=medany", "--specs=picolibc.specs", "--oslib=semihost")
    flags += ("--crt0=hosted", *(f"-Wl,--defsym={name}={value:#x}" for name, value in memory.items()))
    return Target(march, "riscv64-unknown-elf-", f"qemu-system-riscv{bits}", flags, "virt", library="picolibc.specs")


MB, VECTORS_BYTES = 1 << 20, 64
MPS2 = _memory(0, 4 * MB, 0x20000000, 4 * MB)
MICROBIT = _memory(0, 256 << 10, 0x20000000, 16 << 10)
TARGETS = {
    target.name: target
    for target in (
        Target("aarch64", "aarch64-linux-gnu-", "qemu-aarch64", ("-static",)),
        Target("armhf", "arm-linux-gnueabihf-", "qemu-arm", ("-static",)),
        _board("cortex-m0", "microbit", MICROBIT, "-mfloat-abi=soft", "--specs=nano.specs"),
        _board("cortex-m3", "mps2-an385", MPS2, "-mfloat-abi=soft"),
        _board("cortex-m4", "mps2-an386", MPS2, *_fpu("fpv4-sp-d16")),
        _board("cortex-m7", "mps2-an500", MPS2, *_fpu("fpv5-sp-d16")),
        _board("cortex-m33", "mps2-an505", _memory(0x10000000, 4 * MB, 0x38000000, 4 * MB), *_fpu("fpv5-sp-d16")),
    )
}

#: Where exported C alone runs, not the C library. The code of Cortex-M55 lies in SRAM, which is larger than the memory
#: that holds its vector table.
EXPORTED_ONLY = {
    target.name: target
    for target in (
        _board("cortex-m55", "mps3-an547", Memory(0x10000000, 0x11000000, 2 * MB, 0x31000000, 4 * MB), *_fpu("auto")),
        _riscv("rv32imc", "ilp32", 32),
        _riscv("rv32imafc", "ilp32f", 32),
        _riscv("rv64gc", "lp64d", 64),
    )
}
#: The most significant byte first: exported C alone runs there.
BIG_ENDIAN = {
    target.name: target
    for target in (
        Target("powerpc", "powerpc-linux-gnu-", "qemu-ppc", ("-static",)),
        Target("s390x", "s390x-linux-gnu-", "qemu-s390x", ("-static",)),
    )
}
#: int has 16 bits, and constants lie in an address space of GNU C.
AVR = Target("atmega2560", "avr-", "simavr", ("-mmcu=atmega2560", "-std=gnu11"))


def missing(target: Target) -> list[str]:
    """What this target needs and this machine lacks: programs, and the C library of the compiler."""
    compiler = f"{target.prefix}gcc"
    tools = (compiler, f"{target.prefix}nm", f"{target.prefix}size", target.emulator, "gcc")
    lacking = [tool for tool in tools if not shutil.which(tool)]
    if (
        compiler not in lacking
        and not Path(_tool([compiler, f"-print-file-name={target.library}"]).strip()).is_absolute()
    ):
        lacking.append(f"{target.library} of {compiler}")
    return lacking


def library_sources() -> list[Path]:
    """The C library's sources, without those that need vector extensions."""
    return sorted(path for path in (LIBRARY / "src").glob("*.c") if not path.stem.endswith("vector"))


def build_objects(
    target: Target,
    sources: Iterable[Path],
    folder: Path,
    *,
    includes: Iterable[Path] = (),
    defines: Iterable[str] = (),
    optimize: str = "-O2",
    warnings: Sequence[str] = STRICT,
) -> list[Path]:
    """Object files in `folder`, one a source; arguments as for `build`."""
    sources = [path.resolve() for path in sources]
    folder.mkdir(parents=True, exist_ok=True)
    _tool([*_compiler(target, includes, defines, optimize, warnings), "-c", *sources], folder)
    return [folder / f"{path.stem}.o" for path in sources]


def build(
    target: Target,
    sources: Iterable[Path],
    out: Path,
    *,
    includes: Iterable[Path] = (),
    defines: Iterable[str] = (),
    optimize: str = "-O2",
    warnings: Sequence[str] = STRICT,
) -> Path:
    """A program that `run` can run.

    Args:
        target: what for.
        sources: C files, and objects of `build_objects`.
        out: where to.
        includes: folders of headers, besides the library's.
        defines: NAME or NAME=VALUE.
        optimize: the compiler's level.
        warnings: the compiler's; of sources that are not the project's own, fewer.

    Returns:
        `out`.

    Raises:
        RuntimeError: the compiler refused; with its words.
    """
    command = [*_compiler(target, includes, defines, optimize, warnings), *sources]
    if target.memory:
        command += [HERE / "startup.c", "-T", HERE / "memory.ld"]
        command += [f"-Wl,--defsym={name}={value:#x}" for name, value in vars(target.memory).items()]
    _tool([*command, "-Wl,--gc-sections", "-lm", "-o", out])
    return out


def run(target: Target, program: Path, arguments: Sequence[str] = ()) -> Completed:
    """The program on the target, to its end; arguments without spaces and commas, which semihosting would split.

    Raises:
        subprocess.TimeoutExpired: it does not end.
    """
    return _run(target, program, arguments, ())


@contextmanager
def serial(target: Target, program: Path) -> Iterator[subprocess.Popen[bytes]]:
    """QEMU with the board's first serial line at its stdin and stdout; it ends with the context.

    An instruction takes 1 ns of virtual time, by which timers of the board count.
    """
    command = [target.emulator, "-M", target.machine, "-display", "none", "-monitor", "none", "-serial", "stdio"]
    command += ["-icount", "shift=0", "-semihosting-config", "enable=on,target=native", "-kernel", str(program)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        try:
            yield process
        finally:
            process.kill()


def run_avr(program: Path) -> str:
    """What a program for `AVR` prints.

    Raises:
        subprocess.TimeoutExpired: it does not end.
    """
    command = [AVR.emulator, "-m", AVR.name, "-f", "16000000", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    return done.stdout + done.stderr


def count(
    target: Target,
    program: Path,
    arguments: Sequence[str] = (),
    *,
    start: str = "sen_count_start",
    stop: str = "sen_count_stop",
) -> int:
    """Instructions executed between the entries of two functions, each time that the program enters them.

    The call of `stop`, one instruction, counts as well; n equal regions count n times as much.

    Raises:
        RuntimeError: the program failed, or never entered `start`.
    """
    return _count(target, program, arguments, start, stop)["instructions"][0]


def count_cycles(target: Target, program: Path) -> tuple[int, int, int]:
    """Instructions between the markers on Cortex-M3, and the estimate of plugin.c of min and max cycles."""
    found = _count(target, program, (), "sen_count_start", "sen_count_stop", "cortex-m3=on")
    return found["instructions"][0], found["cycles"][0], found["cycles"][1]


def _count(
    target: Target, program: Path, arguments: Sequence[str], start: str, stop: str, *options: str
) -> dict[str, list[int]]:
    """What the plugin prints, by the first word of a line."""
    symbols = _tool([f"{target.prefix}nm", program])
    addresses = []
    for name in (start, stop):
        found = re.search(rf"^([0-9a-f]+) [Tt] {name}$", symbols, re.MULTILINE)
        if not found:
            raise RuntimeError(f"{program.name} has no function {name}")
        addresses.append(int(found[1], 16) & ~1)  # without the bit that says Thumb
    given = [f"start={addresses[0]:#x}", f"stop={addresses[1]:#x}", *options]
    done = _run(target, program, arguments, ("-plugin", ",".join((str(_plugin(program.parent)), *given))))
    rows = re.findall(r"^(instructions|cycles) ([\d ]+)$", done.stderr, re.MULTILINE)
    told = {name: [int(each) for each in values.split()] for name, values in rows}
    if done.code or not told or not told["instructions"][0]:
        raise RuntimeError(f"{program.name} on {target.name}: exit code {done.code}\n{done.stdout}{done.stderr}")
    return told


def text_bytes(
    target: Target,
    sources: Iterable[Path],
    folder: Path,
    *,
    includes: Iterable[Path] = (),
    defines: Iterable[str] = (),
    optimize: str = "-Os",
    warnings: Sequence[str] = STRICT,
) -> int:
    """Bytes of code and constants of all functions of these sources, built in `folder`; arguments as for `build`."""
    objects = build_objects(
        target, sources, folder, includes=includes, defines=defines, optimize=optimize, warnings=warnings
    )
    rows = _tool([f"{target.prefix}size", *objects]).splitlines()[1:]
    return sum(int(row.split()[0]) for row in rows)


def write_case(folder: Path, image: bytes, x: Array, y: Array, *, arena_bytes: int, tolerance: float = 2e-5) -> Path:
    """An image with its inputs and expected outputs, as RUN_IMAGE and COUNT_IMAGE embed it.

    Args:
        folder: made if need be, for `includes`.
        image: a `.sen` image.
        x: `[rows, ...]` inputs.
        y: `[rows, n_out]` what they should give.
        arena_bytes: set aside for the model; the programs print how many it needs.
        tolerance: the error allowed, over the row's greatest output.

    Returns:
        `folder`.
    """
    aligned = "__attribute__((aligned(64)))"
    lines = [
        f"#define CASE_ROWS {len(x)}u",
        f"#define CASE_OUTPUTS {y.shape[1]}u",
        f"#define CASE_ARENA_BYTES {arena_bytes}u",
        f"#define CASE_TOLERANCE {round(tolerance * 1e9)}ul",
        f"static const unsigned char case_image[{len(image)}] {aligned} = {{{','.join(map(str, image))}}};",
        f"static const float case_x[{x.size}] = {{{_floats(x)}}};",
        f"static const float case_y[{y.size}] = {{{_floats(y)}}};",
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "image_data.h").write_text("\n".join(lines) + "\n")
    return folder


def _floats(values: Array) -> str:
    return ",".join(f"{float(value).hex()}f" for value in values.astype(np.float32).ravel())


def _compiler(
    target: Target, includes: Iterable[Path], defines: Iterable[str], optimize: str, warnings: Sequence[str]
) -> list[str | Path]:
    folders = (LIBRARY / "include", *includes)
    command = [f"{target.prefix}gcc", "-std=c99", *target.flags, optimize, *SECTIONS, *warnings]
    return [*command, *(f"-I{Path(folder).resolve()}" for folder in folders), *(f"-D{define}" for define in defines)]


def _plugin(folder: Path) -> Path:
    """plugin.c for QEMU, built anew only if it changed."""
    source, plugin = HERE / "plugin.c", folder.resolve() / "count_plugin.so"
    if not plugin.exists() or plugin.stat().st_mtime < source.stat().st_mtime:
        _tool(["gcc", "-std=c99", *STRICT, "-O2", "-shared", "-fPIC", source, "-o", plugin])
    return plugin


def _run(target: Target, program: Path, arguments: Sequence[str], options: Sequence[str]) -> Completed:
    command = [target.emulator, *options]
    if target.machine:
        passed = "".join(f",arg={value}" for value in (program.name, *arguments))
        command += ["-M", target.machine, "-display", "none", "-monitor", "none", "-serial", "none", "-bios", "none"]
        command += ["-semihosting-config", f"enable=on,target=native{passed}", "-kernel", str(program)]
    else:
        command += [str(program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=TIMEOUT_SECONDS)
    return Completed(done.returncode, done.stdout, done.stderr)


def _tool(command: Sequence[str | Path], folder: Path | None = None) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=folder)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stderr}")
    return done.stdout
