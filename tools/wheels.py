"""Cross-build wheels of sen-edge-runtime for devices, on Linux x86-64.

    python tools/wheels.py [--output DIR] [TAG ...]

TAG is a platform tag of `TARGETS`; all by default. Requires cmake, ninja, Debian's cross compilers, and in this Python
the packages auditwheel, build, scikit-build-core and ziglang. `make wheels` prepares them.

Wheels for glibc are compiled by GCC, for which the kernels are tuned, and linked by zig, which has the symbols of
every glibc, so that they load on systems older than the compiler's. zig compiles the other wheels. All are built from
the sdist, which is written too; then their libraries are checked. The same sources, compilers and SOURCE_DATE_EPOCH, by
default the time of the last commit, give the same bytes. Exit code 1: a build failed; 3: a wheel contradicts its tag.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from wheel_tags import problems

REPOSITORY = Path(__file__).parents[1]
#: Flags that zig spells in its own way.
DOTPROD, NEON = "-mcpu=generic+v8_2a+dotprod", "-mcpu=generic+v7a+neon+vfp4;-marm"


@dataclass(frozen=True)
class Target:
    """A platform.

    Attributes:
        triple: of zig, with the version of glibc or the oldest macOS.
        processor: as CMake calls it.
        system: as CMake calls it.
        gcc: compiler, or "" for zig.
        cpu: oldest processor, as zig calls it; "" for that of the triple.
        flags: of the compiler.
        defines: of CMake, in addition.
    """

    triple: str
    processor: str
    system: str = "Linux"
    gcc: str = ""
    cpu: str = ""
    flags: str = ""
    defines: dict[str, str] = field(default_factory=dict)


#: By platform tag. Hard-float ARMv6 has no manylinux tag, and no kernels for NEON: processors that have it take the
#: wheel for ARMv7. Every arm64 Mac has dot products.
TARGETS = {
    "manylinux_2_17_x86_64": Target("x86_64-linux-gnu.2.17", "x86_64", gcc="x86_64-linux-gnu-gcc"),
    "manylinux_2_17_aarch64": Target("aarch64-linux-gnu.2.17", "aarch64", gcc="aarch64-linux-gnu-gcc"),
    "manylinux_2_17_armv7l": Target(
        "arm-linux-gnueabihf.2.17", "armv7l", gcc="arm-linux-gnueabihf-gcc", cpu="generic+v7a+vfp3d16"
    ),
    "linux_armv6l": Target(
        "arm-linux-gnueabihf.2.17",
        "armv6l",
        gcc="arm-linux-gnueabihf-gcc",
        cpu="arm1176jzf_s",
        flags="-march=armv6 -mfpu=vfp -marm",
        defines={"SEN_BUILDS_ARMV7": "OFF"},
    ),
    "musllinux_1_2_x86_64": Target("x86_64-linux-musl", "x86_64"),
    "musllinux_1_2_aarch64": Target("aarch64-linux-musl", "aarch64"),
    "macosx_11_0_arm64": Target("aarch64-macos.11.0", "arm64", "Darwin", cpu="apple_m1"),
    "macosx_10_13_x86_64": Target("x86_64-macos.10.13", "x86_64", "Darwin"),
    "win_amd64": Target("x86_64-windows-gnu", "AMD64", "Windows"),
}


class BuildError(Exception):
    """A command failed; the message has the end of its output."""


def run(command: list[str], environment: dict[str, str], cwd: Path = REPOSITORY) -> str:
    """Run a command and return its stdout.

    Raises:
        BuildError: it failed.
    """
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        end = "\n".join((done.stdout + done.stderr).strip().splitlines()[-20:])
        raise BuildError(f"{' '.join(command[:6])} ... ended with {done.returncode}:\n{end}")
    return done.stdout


def zig() -> str:
    """Path of zig."""
    import ziglang

    return str(Path(ziglang.__file__).with_name("zig"))


def link_rule(target: Target) -> str:
    """How CMake links objects of GCC: by zig, against the oldest glibc, without the flags of the compiler.

    Symbols of Python stay undefined, in `libsen_call`. GCC's run-time library chooses versions of functions on x86;
    zig's chooses the slowest.
    """
    cpu = f"-mcpu={target.cpu} " if target.cpu else ""
    is_x86 = target.processor == "x86_64"
    runtime = run([target.gcc, "-print-libgcc-file-name"], dict(os.environ)).strip() if is_x86 else ""
    names = "<SONAME_FLAG><TARGET_SONAME> -o <TARGET> <OBJECTS> <LINK_LIBRARIES>"
    return f"{zig()} cc -target {target.triple} {cpu}-shared -O3 -s -Wl,--gc-sections {names} {runtime} -lpthread -lm"


def defines(target: Target) -> dict[str, str]:
    """Variables of CMake."""
    common = {"CMAKE_SYSTEM_NAME": target.system, "CMAKE_SYSTEM_PROCESSOR": target.processor, **target.defines}
    if target.gcc:
        linking = {"CMAKE_C_CREATE_SHARED_LIBRARY": link_rule(target)}
        return {**common, **linking, "CMAKE_C_COMPILER": target.gcc, "CMAKE_C_FLAGS": target.flags}
    return {
        **common,
        "CMAKE_C_COMPILER": f"{zig()};cc",
        "CMAKE_C_COMPILER_TARGET": target.triple,
        "CMAKE_C_FLAGS": f"-mcpu={target.cpu}" if target.cpu else "",
        "CMAKE_SHARED_LINKER_FLAGS": "-s",
        "SEN_DOTPROD_FLAGS": DOTPROD,
        "SEN_ARMV7_FLAGS": NEON,
    }


def build_environment(folder: Path) -> dict[str, str]:
    """Variables of the builds: a time that all files have, and a cache that no earlier build filled."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH") or run(["git", "log", "-1", "--format=%ct"], dict(os.environ)).strip()
    caches = {"ZIG_GLOBAL_CACHE_DIR": str(folder / "zig"), "ZIG_LOCAL_CACHE_DIR": str(folder / "zig")}
    inherited = {name: value for name, value in os.environ.items() if name not in ("CC", "CFLAGS", "LDFLAGS")}
    return {**inherited, **caches, "SOURCE_DATE_EPOCH": epoch, "CMAKE_GENERATOR": "Ninja"}


def build_sdist(folder: Path, output: Path, environment: dict[str, str]) -> Path:
    """Write the sdist to `output`, and return the folder of its unpacked sources."""
    run([sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(folder), "runtime"], environment)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    shutil.copy(sdist, output)
    return folder / sdist.name.removesuffix(".tar.gz")


def build_wheel(tag: str, sources: Path, output: Path, environment: dict[str, str]) -> Path:
    """Build the wheel for a platform."""
    settings = {f"cmake.define.{name}": value for name, value in defines(TARGETS[tag]).items()}
    settings |= {"wheel.tags": f"py3-none-{tag}", "install.strip": "false", "cmake.build-type": "Release"}
    settings["wheel.cmake"] = "true"  # also after a failure, which pyproject.toml forgives where a user has no compiler
    options = [f"-C{name}={value}" for name, value in settings.items()]
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(output), *options]
    run([*command, str(sources)], environment)
    (wheel,) = output.glob(f"*-{tag}.whl")
    return wheel


def audit(wheel: Path, environment: dict[str, str]) -> str:
    """What auditwheel says of a wheel, in one line."""
    return " ".join(run([sys.executable, "-m", "auditwheel", "show", str(wheel)], environment).split())


def main(arguments: argparse.Namespace) -> int:
    """Build and check; return the exit code."""
    output = arguments.output.absolute()
    output.mkdir(parents=True, exist_ok=True)
    found = []
    with tempfile.TemporaryDirectory(prefix="wheels-") as name:
        folder = Path(name)
        environment = build_environment(folder)
        sources = build_sdist(folder, output, environment)
        for tag in arguments.tags or TARGETS:
            wheel = build_wheel(tag, sources, output, environment)
            print(f"{wheel.name}: {wheel.stat().st_size:,} bytes", flush=True)
            found += problems(wheel)
            if tag.startswith("manylinux") and f'tag: "{tag}"' not in audit(wheel, environment):
                found.append(f"{wheel.name}: auditwheel does not find it consistent with its tag")
    print("\n".join(found))
    return 3 if found else 0


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line; an unknown tag ends the process with exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=REPOSITORY / "dist", metavar="DIR")
    parser.add_argument("tags", nargs="*", metavar="TAG", help=", ".join(TARGETS))
    options = parser.parse_args(arguments)
    if unknown := [tag for tag in options.tags if tag not in TARGETS]:
        parser.error(f"{', '.join(unknown)}: expected {', '.join(TARGETS)}")
    return options


if __name__ == "__main__":
    try:
        sys.exit(main(parse(sys.argv[1:])))
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
