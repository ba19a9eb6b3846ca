"""PlatformIO packs an exported folder, and the package computes the network."""

import os
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest

from sen_exporters.c.exporter import CExporter, COptions
from tests.support.networks import random_network


@pytest.mark.needs("pio")
@pytest.mark.parametrize("weights", ["array", "incbin"])
def test_a_packed_export_passes_its_self_test(tmp_path: Path, weights: str) -> None:
    network = random_network(np.random.default_rng(0), kinds=("dense",), sizes=(8, 6, 3))
    folder = CExporter().export(network, COptions("net", weights=weights)).write(tmp_path).parent
    (folder / "stray.bin").write_bytes(b"of the user")
    environment = {**os.environ, "PLATFORMIO_CORE_DIR": str(tmp_path / "core")}
    command = ["pio", "pkg", "pack", folder, "-o", tmp_path / "net.tar.gz"]
    subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True)
    packed = tmp_path / "packed"
    with tarfile.open(tmp_path / "net.tar.gz") as archive:
        archive.extractall(packed, filter="data")
    assert not (packed / "stray.bin").exists()
    sources = [path for path in packed.iterdir() if path.suffix in (".c", ".S")]
    subprocess.run(["gcc", "-std=c99", "-I", packed, *sources, "-lm", "-o", tmp_path / "selftest"], check=True)
    subprocess.run([tmp_path / "selftest"], check=True, capture_output=True)
