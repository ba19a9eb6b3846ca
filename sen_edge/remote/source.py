"""Source distribution of the installed runtime; pip builds it on the device, for the device's processor.

An editable install has pyproject.toml and CMakeLists.txt next to the package, a wheel in `sen_runtime/source`.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

import sen_runtime
from sen_runtime.errors import SenError

BUILD_FILES = ("pyproject.toml", "CMakeLists.txt", "README.md", "LICENSE")
#: In the folder of the package, but not sources: compiled for this machine, or written by CMake.
EXCLUDED_NAMES = {"__pycache__", "CMakeFiles", "cmake_install.cmake", "Makefile", "source"}
EXCLUDED_SUFFIXES = {".pyc", ".so", ".dylib", ".dll", ".a", ".lib", ".o"}


class SourceError(SenError):
    """The installed runtime has no sources."""


@dataclass(frozen=True)
class Source:
    """A source distribution, whose file name is NAME-VERSION.tar.gz, as pip expects it."""

    file_name: str
    data: bytes

    @property
    def environment(self) -> str:
        """Name of the virtual environment for exactly this source."""
        return f"venv-{sen_runtime.__version__}-{hashlib.sha256(self.data).hexdigest()[:12]}"


def pack(package: Path | None = None) -> Source:
    """Pack the runtime, by default the imported one; equal files give equal bytes.

    Raises:
        SourceError: files of the build are missing.
    """
    package = package or Path(sen_runtime.__file__).parent
    folder = package / "source" if (package / "source").exists() else package.parent
    contents = {name: folder / name for name in BUILD_FILES}
    missing = [str(path) for path in contents.values() if not path.is_file()]
    if missing:
        raise SourceError(
            f"the installed runtime has no sources for another machine: {', '.join(missing)} missing",
            "reinstall sen-edge-runtime with a C compiler at hand; or install the runtime on the device, and name its "
            "interpreter in the inventory: python = ...",
        )
    for path in sorted(package.rglob("*")):
        parts = path.relative_to(package).parts
        if path.is_file() and path.suffix not in EXCLUDED_SUFFIXES and not EXCLUDED_NAMES.intersection(parts):
            contents["/".join(("sen_runtime", *parts))] = path
    stem = f"sen_edge_runtime-{sen_runtime.__version__}"
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(contents):
            data = contents[name].read_bytes()
            entry = tarfile.TarInfo(f"{stem}/{name}")
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    return Source(f"{stem}.tar.gz", gzip.compress(raw.getvalue(), mtime=0))
