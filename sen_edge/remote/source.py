"""The source distribution of the runtime, made from the one that is installed here.

Its C library is of this machine's processor, so what is sent to a device is the source, and pip builds it there. An
editable install has pyproject.toml and CMakeLists.txt beside the package, a wheel carries them in `sen_runtime/source`.
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
#: What is in the folder of the package and is no source: compiled for this machine, or made by CMake.
LEFT_OUT = {"__pycache__", "CMakeFiles", "cmake_install.cmake", "Makefile", "source"}
COMPILED = {".pyc", ".so", ".dylib", ".dll", ".a", ".lib", ".o"}


class SourceError(SenError):
    """There is no source to send."""


@dataclass(frozen=True)
class Source:
    """A source distribution.

    Attributes:
        version: of the runtime.
        file_name: as pip knows it, NAME-VERSION.tar.gz.
        data: the archive.
    """

    version: str
    file_name: str
    data: bytes

    @property
    def environment(self) -> str:
        """Name of the virtual environment for exactly this source."""
        return f"venv-{self.version}-{hashlib.sha256(self.data).hexdigest()[:12]}"


def source(package: Path | None = None) -> Source:
    """Pack the runtime; the same files give the same bytes.

    Args:
        package: folder of `sen_runtime`; that of the one in use by default.

    Raises:
        SourceError: the files that it is built with are not there.
    """
    package = package or Path(sen_runtime.__file__).parent
    folder = package / "source" if (package / "source").exists() else package.parent
    contents = {name: folder / name for name in BUILD_FILES}
    missing = [str(path) for path in contents.values() if not path.is_file()]
    if missing:
        raise SourceError(
            f"the runtime that is installed here has no sources for another machine: {', '.join(missing)} missing",
            hint="install sen-edge-runtime anew, with a C compiler at hand; or install the runtime on the device, and "
            "name its interpreter in the inventory: python = ...",
        )
    for path in sorted(package.rglob("*")):
        parts = path.relative_to(package).parts
        if path.is_file() and path.suffix not in COMPILED and not LEFT_OUT.intersection(parts):
            contents["/".join(("sen_runtime", *parts))] = path
    stem = f"sen_edge_runtime-{sen_runtime.__version__}"
    return Source(sen_runtime.__version__, f"{stem}.tar.gz", _pack(stem, contents))


def _pack(stem: str, contents: dict[str, Path]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(contents):
            data = contents[name].read_bytes()
            entry = tarfile.TarInfo(f"{stem}/{name}")
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    return gzip.compress(raw.getvalue(), mtime=0)
