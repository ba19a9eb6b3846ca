"""The emulated device: Debian's Python, the engines' wheels, and `sen_runtime`, each for the device's architecture.

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

from tests.arm.boards import Architecture, Board

REPOSITORY = Path(__file__).parents[2]
BUILD = REPOSITORY / "build" / "arm"

#: What unpacks and builds for a device, and the Debian package that has it.
TOOLS = {"cmake": "cmake", "apt-get": "apt", "dpkg": "dpkg", "prlimit": "util-linux"}
#: Debian packages of every device: Python and what its modules and the wheels link to.
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
#: Wheels of every device, the engine's and pytest's; constraints.txt has their versions.
WHEELS = (
    "Pygments",
    "hypothesis",
    "iniconfig",
    "packaging",
    "pluggy",
    "pytest",
    "sortedcontainers",
    "tflite-runtime",
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
APT::Architecture "{debian}";
APT::Architectures {{ "{debian}"; }};
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

    def emulate(self, program: str, *arguments: str, plugin: str = "") -> list[str]:
        """A program of its own with these arguments, as a command of this machine; with a plugin of qemu."""
        limit = MEMORY_BYTES + self.board.architecture.reserved_bytes
        options = ["-L", str(self.root), *(["-plugin", plugin] if plugin else [])]
        return ["prlimit", f"--as={limit}", *self.board.qemu, *options, program, *arguments]

    def command(self, *arguments: str, plugin: str = "") -> list[str]:
        """Its Python with these arguments, as a command of this machine."""
        return self.emulate(str(self.root / "usr" / "bin" / f"python{PYTHON}"), "-s", *arguments, plugin=plugin)

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
    return Device(board, prepare_root(board), build_runtime(board.architecture))


def prepare_root(board: Board) -> Path:
    """The file system of a device, without `sen_runtime`.

    Raises:
        MissingToolsError: no qemu or no compiler for it.
        NotReadyError: a package or wheel is not to be had.
    """
    architecture = board.architecture
    check_tools(architecture)
    names = (*WHEELS, *architecture.wheels)
    wheels = pinned((REPOSITORY / "constraints.txt").read_text(encoding="utf-8"), names)
    packages = (*PACKAGES, *architecture.packages)
    content = "\n".join([*packages, *wheels, *PLATFORMS])
    family = f"root-{architecture.machine}"
    root = BUILD / f"{family}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    if not root.exists():
        for old in BUILD.glob(f"{family}-*"):
            shutil.rmtree(old)
        unfinished = BUILD / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unpack_packages(unfinished, architecture, packages)
        unpack_wheels(unfinished / "wheels", architecture, wheels)
        (unfinished / "proc").mkdir()
        unfinished.rename(root)
    (root / "proc" / "cpuinfo").write_text(board.cpuinfo, encoding="ascii")
    return root


def check_tools(architecture: Architecture) -> None:
    """Name the packages that are missing, in the line that installs them.

    Raises:
        MissingToolsError: some are.
    """
    triplet, compiler = architecture.triplet, f"{architecture.triplet}-gcc"
    tools = {**TOOLS, architecture.qemu: "qemu-user", compiler: f"gcc-{triplet}"}
    missing = [package for tool, package in tools.items() if shutil.which(tool) is None]
    check = [compiler, "-fsyntax-only", "-xc", "-"]
    include = "#include <stdio.h>\n"
    if f"gcc-{triplet}" in missing or subprocess.run(check, input=include, text=True, capture_output=True).returncode:
        missing.append(f"libc6-dev-{architecture.debian}-cross")
    if missing:
        line = f"apt-get install -y --no-install-recommends {' '.join(missing)}"
        raise MissingToolsError(f"packages are missing on this machine; as root:\n  {line}")


def pinned(constraints: str, names: Sequence[str]) -> list[str]:
    """`NAME==VERSION` of every wheel.

    Raises:
        NotReadyError: constraints.txt does not pin one.
    """
    pins = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", constraints, re.MULTILINE))
    unpinned = [name for name in names if name not in pins]
    if unpinned:
        raise NotReadyError(f"constraints.txt has no version of {', '.join(unpinned)}")
    return [f"{name}=={pins[name]}" for name in names]


def unpack_packages(root: Path, architecture: Architecture, packages: Sequence[str]) -> None:
    """Fetch packages with an apt of their own, and unpack them into `root`."""
    progress(f"Debian packages for {architecture.debian}")
    apt = BUILD / "apt"
    shutil.rmtree(apt, ignore_errors=True)
    sources = next((path for path in SOURCES if path.exists()), None)
    if sources is None:
        raise NotReadyError(f"there is no list of Debian's packages: {' or '.join(map(str, SOURCES))}")
    for folder in ("state/lists/partial", "cache/archives/partial", "packages"):
        (apt / folder).mkdir(parents=True)
    (apt / "status").touch()
    text = APT_CONF.format(apt=apt, sources=sources, debian=architecture.debian)
    (apt / "apt.conf").write_text(text, encoding="utf-8")
    try:
        run(["apt-get", "-c", str(apt / "apt.conf"), "-q", "update"])
    except NotReadyError as error:  # a mirror may lack a list of updates; apt leaves that one out
        progress(str(error).splitlines()[-1])
    run(["apt-get", "-c", str(apt / "apt.conf"), "-q", "download", *packages], cwd=apt / "packages")
    root.mkdir(parents=True)
    for package in sorted((apt / "packages").iterdir()):
        run(["dpkg", "-x", str(package), str(root)])
    for library in ("blas", "lapack"):  # Debian's alternatives, which dpkg would link
        for path in root.glob(f"usr/lib/*/{library}/lib{library}.so.3"):
            (path.parents[1] / path.name).symlink_to(Path(library) / path.name)
    shutil.rmtree(apt)


def unpack_wheels(folder: Path, architecture: Architecture, wheels: Sequence[str]) -> None:
    """Install wheels for the device into `folder`; pip checks their hashes against the index's."""
    progress(f"wheels for {architecture.machine}")
    platforms = [f"--platform={name}_{architecture.machine}" for name in PLATFORMS]
    target = ["--target", str(folder), "--only-binary=:all:", "--no-deps", "--no-compile", "--implementation=cp"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, *target, f"--python-version={PYTHON}", *platforms, *wheels])


def build_runtime(architecture: Architecture) -> Path:
    """`sen_runtime` with its C library for the device, always as the sources are now."""
    machine = architecture.machine
    progress(f"sen_runtime for {machine}")
    source, objects, site = REPOSITORY / "runtime", BUILD / f"libsen-{machine}", BUILD / f"site-{machine}"
    shutil.rmtree(site, ignore_errors=True)
    settings = {
        "CMAKE_SYSTEM_NAME": "Linux",
        "CMAKE_SYSTEM_PROCESSOR": machine,
        "CMAKE_C_COMPILER": f"{architecture.triplet}-gcc",
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
