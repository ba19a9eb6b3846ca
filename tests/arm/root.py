"""The emulated device: Debian's aarch64 Python, the engines' aarch64 wheels, and `sen_runtime` built for it.

Everything lies in `build/arm`. Neither apt nor dpkg of this machine is asked or told anything: apt gets folders of its
own, and packages are only unpacked.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
BUILD = REPOSITORY / "build" / "arm"

#: What runs the device and builds for it, and the Debian package that has it.
TOOLS = {
    "qemu-aarch64": "qemu-user",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
    "cmake": "cmake",
    "apt-get": "apt",
    "dpkg": "dpkg",
    "prlimit": "util-linux",
}
#: Debian packages of the device: Python and what its modules and the wheels link to.
PACKAGES = (
    "libbz2-1.0",
    "libc6",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "liblzma5",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libssl3",
    "libstdc++6",
    "python3.11-minimal",
    "zlib1g",
)
PYTHON = "3.11"
#: Wheels of the device, its engines' and pytest's; constraints.txt has their versions.
WHEELS = (
    "Pygments",
    "ai-edge-litert",
    "backports.strenum",
    "flatbuffers",
    "hypothesis",
    "iniconfig",
    "ml_dtypes",
    "numpy",
    "onnxruntime",
    "packaging",
    "pluggy",
    "protobuf",
    "pytest",
    "sortedcontainers",
    "tflite-runtime",
    "tqdm",
    "typing_extensions",
)
#: glibc 2.36 of Debian 12, and the older ones that wheels were built against.
PLATFORMS = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_27", "manylinux2014")
#: Where Debian keeps its own list; lists of other origin are left alone.
SOURCES = (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list"))

APT_CONF = """\
// Hooks of the machine would clean its own caches.
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
#clear APT::Architectures;
APT::Architecture "arm64";
APT::Architectures {{ "arm64"; }};
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
Dir::State "{apt}/state";
Dir::State::status "{apt}/status";
Dir::Cache "{apt}/cache";
Dir::Etc::sourcelist "{sources}";
Dir::Etc::sourceparts "-";
Dir::Etc::preferences "-";
Dir::Etc::preferencesparts "-";
"""

#: Of the device: an image that asks for more is refused, as on a board. qemu itself spends minutes and gigabytes on the
#: books it keeps of pages that nobody touches.
MEMORY_BYTES = 4 << 30


@dataclass(frozen=True)
class Board:
    """A Raspberry Pi.

    Attributes:
        title: its name, as it gives it itself.
        cpu: its processor, as qemu calls it.
        part: number of that processor.
        features: instructions that Linux tells of it.
        kernels: of the C library, that it must choose.
    """

    title: str
    cpu: str
    part: str
    features: str
    kernels: str

    @property
    def cpuinfo(self) -> str:
        """Its `/proc/cpuinfo`: onnxruntime and litert choose kernels by it, and crash where it is an x86's."""
        cores = [
            f"processor\t: {core}\nBogoMIPS\t: 108.00\nFeatures\t: {self.features}\nCPU implementer\t: 0x41\n"
            f"CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: {self.part}\nCPU revision\t: 3\n"
            for core in range(4)
        ]
        return "\n".join([*cores, f"Model\t\t: {self.title}\n"])


BOARDS = {
    "pi3": Board("Raspberry Pi 3 Model B Rev 1.2", "cortex-a53", "0xd03", "fp asimd evtstrm crc32 cpuid", "neon"),
    "pi4": Board("Raspberry Pi 4 Model B Rev 1.1", "cortex-a72", "0xd08", "fp asimd evtstrm crc32 cpuid", "neon"),
    "pi5": Board(
        "Raspberry Pi 5 Model B Rev 1.0",
        "cortex-a76",
        "0xd0b",
        "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
        "neon_dotprod",
    ),
}


class NotReadyError(Exception):
    """The device cannot be prepared."""


class MissingToolsError(NotReadyError):
    """This machine lacks packages; the message has the line that installs them."""


@dataclass(frozen=True)
class Device:
    """The emulated machine.

    Attributes:
        board: what it is.
        root: its file system, as far as it differs from this machine's.
        site: folder of its `sen_runtime`.
    """

    board: Board
    root: Path
    site: Path

    def command(self, *arguments: str) -> list[str]:
        """Its Python with these arguments, as a command of this machine."""
        python = self.root / "usr" / "bin" / f"python{PYTHON}"
        qemu = ["qemu-aarch64", "-cpu", self.board.cpu, "-L", str(self.root)]
        return ["prlimit", f"--as={MEMORY_BYTES}", *qemu, str(python), "-s", *arguments]

    @property
    def environment(self) -> dict[str, str]:
        """Its environment, and nothing of this machine's but the path that finds qemu."""
        libraries = f"{self.site}:{self.root / 'wheels'}"
        return {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "PYTHONPATH": libraries}


def prepare(board: Board) -> Device:
    """The device, built or as it was left by an earlier run.

    Raises:
        MissingToolsError: no qemu or no compiler for it.
        NotReadyError: a package or wheel is not to be had, or the C library does not build.
    """
    check_tools()
    wheels = pinned((REPOSITORY / "constraints.txt").read_text(encoding="utf-8"))
    content = "\n".join([*PACKAGES, *wheels, *PLATFORMS])
    root = BUILD / f"root-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    if not root.exists():
        for old in BUILD.glob("root-*"):
            shutil.rmtree(old)
        unfinished = BUILD / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unpack_packages(unfinished)
        unpack_wheels(unfinished / "wheels", wheels)
        (unfinished / "proc").mkdir()
        unfinished.rename(root)
    (root / "proc" / "cpuinfo").write_text(board.cpuinfo, encoding="ascii")
    return Device(board, root, build_runtime())


def check_tools() -> None:
    """Name the packages that are missing, in the line that installs them.

    Raises:
        MissingToolsError: some are.
    """
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    has_compiler = "gcc-aarch64-linux-gnu" not in missing
    include = "#include <stdio.h>\n"
    compiler = ["aarch64-linux-gnu-gcc", "-fsyntax-only", "-xc", "-"]
    if not has_compiler or subprocess.run(compiler, input=include, text=True, capture_output=True).returncode:
        missing.append("libc6-dev-arm64-cross")
    if missing:
        line = f"apt-get install -y --no-install-recommends {' '.join(missing)}"
        raise MissingToolsError(f"packages are missing on this machine; as root:\n  {line}")


def pinned(constraints: str) -> list[str]:
    """`NAME==VERSION` of every wheel.

    Raises:
        NotReadyError: constraints.txt does not pin one.
    """
    pins = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", constraints, re.MULTILINE))
    unpinned = [name for name in WHEELS if name not in pins]
    if unpinned:
        raise NotReadyError(f"constraints.txt has no version of {', '.join(unpinned)}")
    return [f"{name}=={pins[name]}" for name in WHEELS]


def unpack_packages(root: Path) -> None:
    """Fetch `PACKAGES` with an apt of their own, and unpack them into `root`."""
    progress("Debian packages")
    apt = BUILD / "apt"
    shutil.rmtree(apt, ignore_errors=True)
    sources = next((path for path in SOURCES if path.exists()), None)
    if sources is None:
        raise NotReadyError(f"there is no list of Debian's packages: {' or '.join(map(str, SOURCES))}")
    for folder in ("state/lists/partial", "cache/archives/partial", "packages"):
        (apt / folder).mkdir(parents=True)
    (apt / "status").touch()
    (apt / "apt.conf").write_text(APT_CONF.format(apt=apt, sources=sources), encoding="utf-8")
    run(["apt-get", "-c", str(apt / "apt.conf"), "-q", "update"])
    run(["apt-get", "-c", str(apt / "apt.conf"), "-q", "download", *PACKAGES], cwd=apt / "packages")
    root.mkdir(parents=True)
    for package in sorted((apt / "packages").iterdir()):
        run(["dpkg", "-x", str(package), str(root)])
    shutil.rmtree(apt)


def unpack_wheels(folder: Path, wheels: Sequence[str]) -> None:
    """Install wheels for the device into `folder`; pip checks their hashes against the index's."""
    progress("wheels")
    platforms = [f"--platform={name}_aarch64" for name in PLATFORMS]
    target = ["--target", str(folder), "--only-binary=:all:", "--no-deps", "--no-compile", "--implementation=cp"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, *target, f"--python-version={PYTHON}", *platforms, *wheels])


def build_runtime() -> Path:
    """`sen_runtime` with its C library for the device, always as the sources are now."""
    progress("sen_runtime")
    source, objects, site = REPOSITORY / "runtime", BUILD / "libsen", BUILD / "site"
    shutil.rmtree(site, ignore_errors=True)
    settings = {
        "CMAKE_SYSTEM_NAME": "Linux",
        "CMAKE_SYSTEM_PROCESSOR": "aarch64",
        "CMAKE_C_COMPILER": "aarch64-linux-gnu-gcc",
        "CMAKE_BUILD_TYPE": "Release",
        "BUILD_SHARED_LIBS": "ON",
    }
    defines = [f"-D{name}={value}" for name, value in settings.items()]
    run(["cmake", "-S", str(source), "-B", str(objects), *defines])
    run(["cmake", "--build", str(objects)])
    package = source / "sen_runtime"
    for path in (*package.rglob("*.py"), *package.rglob("*.h")):
        copy = site / "sen_runtime" / path.relative_to(package)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    run(["cmake", "--install", str(objects), "--prefix", str(site)])
    installed = distribution("sen-edge-runtime")
    metadata = site / f"sen_edge_runtime-{installed.version}.dist-info"
    metadata.mkdir()
    for name in ("METADATA", "entry_points.txt"):  # by which engines are found
        (metadata / name).write_text(installed.read_text(name) or "", encoding="utf-8")
    return site


def run(command: Sequence[str], cwd: Path | None = None) -> str:
    """What a command prints on stdout.

    Raises:
        NotReadyError: it fails; with the end of what it said.
    """
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        end = "\n".join((done.stdout + done.stderr).strip().splitlines()[-20:])
        raise NotReadyError(f"{' '.join(command[:4])} ... ended with {done.returncode}:\n{end}")
    return done.stdout


def progress(text: str) -> None:
    """A line on stderr."""
    sys.stderr.write(f"test-arm: {text}\n")
