"""Source distribution for devices: builds from every kind of installation."""

import subprocess
import sys
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

import sen_runtime
from sen_edge.remote.source import Source, SourceError, pack


def members(packed: Source) -> dict[str, bytes]:
    with tarfile.open(fileobj=BytesIO(packed.data)) as archive:
        return {entry.name: archive.extractfile(entry).read() for entry in archive}  # type: ignore[union-attr]


@pytest.mark.slow
def test_what_is_sent_builds_a_wheel_from_which_the_same_can_be_sent(tmp_path: Path) -> None:
    packed = pack()
    assert packed == pack()  # the environment there is named by the bytes
    assert packed.environment.startswith(f"venv-{sen_runtime.__version__}-")
    assert not [name for name in members(packed) if name.endswith((".so", ".pyc", ".a"))]
    with tarfile.open(fileobj=BytesIO(packed.data)) as archive:
        archive.extractall(tmp_path, filter="data")
    project = tmp_path / packed.file_name.removesuffix(".tar.gz")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, project]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    assert list((tmp_path / "installed/sen_runtime/c").glob("libsen.*"))
    assert members(pack(tmp_path / "installed/sen_runtime")) == members(packed)


def test_installation_without_sources_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"pyproject\.toml"):
        pack(tmp_path / "sen_runtime")
