"""Exported C for tests: export, compile, run, measure."""

import subprocess
from pathlib import Path

import numpy as np

from benchmarks import c_code_size
from sen_edge.passes.quantize import to_float16, to_int8, to_int8_weights
from sen_exporters.base import Artifact
from sen_exporters.c.exporter import CExporter, COptions
from sen_runtime.ir.network import Network
from tests.support.networks import random_input, random_network

EXPORTER = CExporter()
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wcast-qual", "-Wpedantic", "-Werror")
SHARED = (*STRICT, "-O1", "-fPIC", "-shared", "-fsanitize=undefined", "-fno-sanitize-recover=all")
STORAGES = {"float32": lambda network: network, "float16": to_float16, "int8": to_int8_weights}


def export(network: Network, name: str = "net", **options) -> Artifact:
    return EXPORTER.export(network, COptions(name=name, **options))


def compile_and_run(folder: Path, *sources: Path, flags: tuple[str, ...] = (), compiler: str = "gcc") -> int:
    """Exit code of a program."""
    program = folder / "program"
    subprocess.run([compiler, *STRICT, "-O1", *flags, *sources, "-lm", "-o", program], check=True)
    return subprocess.run([program], capture_output=True).returncode


def small(kind: str = "dense", storage: str = "float32", seed: int = 0, **given) -> Network:
    rng = np.random.default_rng(seed)
    return STORAGES[storage](random_network(rng, kinds=(kind,), sizes=(9, 12, 7, 4), **given))


def integers(network: Network) -> Network:
    """The network with int8 activations."""
    return to_int8(network, random_input(np.random.default_rng(0), network, 64))


def assert_close(actual: np.ndarray, expected: np.ndarray, allowed: float = 0.0) -> None:
    """All but a share of the rows are equal up to rounding."""
    error = np.abs(actual - expected).max(axis=1)
    assert np.mean(error > 1e-5 * max(1.0, np.abs(expected).max())) <= allowed


def assert_flash(artifact: Artifact, folder: Path) -> None:
    """The code for Cortex-M4 is at most as large as estimated, and no smaller than by a quarter."""
    path = artifact.write(folder)
    command = ["arm-none-eabi-gcc", *c_code_size.CORTEX_M4, *STRICT, "-Os", "-ffunction-sections", "-c", path]
    subprocess.run([*command, "-o", folder / "net.o"], check=True)
    table = subprocess.run(["arm-none-eabi-size", folder / "net.o"], capture_output=True, text=True).stdout
    text, data, bss = map(int, table.splitlines()[1].split()[:3])
    assert text + data <= artifact.footprint["flash"] <= 1.35 * (text + data)
    assert data == bss == 0
