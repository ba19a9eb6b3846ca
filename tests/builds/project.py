"""A user's project: networks, files, CMake, and programs."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from sen_runtime.ir.network import Network
from tests.support.c_exports import integers, small

NAMES = ("far", "snn", "ints", "both")
#: To call the self-tests of all networks.
HEADERS = "".join(f'#include "{name}.h"\n' for name in NAMES)
SELF_TESTS = " + ".join(f"{name}_selftest()" for name in NAMES)
#: For a build whose options have `far` compute its weights once.
EXPANDED = """
#ifndef FAR_EXPAND
#error "the option does not reach the compiler"
#endif
"""


def networks() -> dict[str, Network]:
    """Networks of 9 inputs and 4 outputs: coordinates, spiking, integer-only, and of several forms of weights."""
    found = (small("coordinates"), small(spiking=True), integers(small(spiking=True)), small("nested_sum"))
    return dict(zip(NAMES, found, strict=True))


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """Write the files, by name, and return the folder."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def cmake(source: Path, build: Path, *options: str, **environment: str) -> str:
    """Configure and build; what CMake prints.

    Raises:
        AssertionError: CMake or the compiler fails; with their words.
    """
    configured = run("cmake", "-S", source, "-B", build, *options, **environment)
    return configured + run("cmake", "--build", build, **environment)


def run(*command: str | Path, folder: Path | None = None, **environment: str) -> str:
    """What a command prints.

    Raises:
        AssertionError: it fails; with its words.
    """
    kept = {**os.environ, **environment}
    done = subprocess.run(command, cwd=folder, env=kept, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout
