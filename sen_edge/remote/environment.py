"""What has to be installed on a host, and what to do where that fails."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from sen_edge.remote.ssh import StageError
from sen_runtime.engines.tflite import litert, tflite_runtime

#: Extra of the runtime by engine; the others need numpy only.
EXTRAS = {"onnxruntime": "onnx", "litert": "tflite", "tflite-runtime": "tflite-legacy"}
PACKAGES = {"onnx": "onnxruntime", "tflite": litert.package, "tflite-legacy": tflite_runtime.package}
#: The first Python that there are wheels of ai-edge-litert for.
LITERT_PYTHON = [3, 10]
#: What a host says that is full.
FULL = ("No space left", "File too large", "quota exceeded")
ROOM = "make some room in ~/.cache/sen-edge there"


def extras_for(engines: Iterable[str], artifacts: Iterable[Path], machine: str, python: Sequence[int]) -> set[str]:
    """Extras of sen-edge-runtime, for the engines that were asked for, or for those that the artifacts need.

    Args:
        engines: by name.
        artifacts: files, of which the endings count.
        machine: as `platform.machine()` says on the host.
        python: version there.
    """
    named = list(engines)
    if not named:
        has_litert = machine in litert.machines and list(python) >= LITERT_PYTHON
        tflite = "litert" if has_litert else "tflite-runtime"
        named = [{".onnx": "onnxruntime", ".tflite": tflite}.get(path.suffix, "") for path in artifacts]
    return {EXTRAS[name] for name in named if name in EXTRAS}


def install_error(lines: Sequence[str]) -> StageError:
    """An installation that failed, from the last lines that venv and pip said."""
    hint = (
        "the host needs an index of packages, for numpy and scikit-build-core; where it has none, prepare an "
        "environment there and name its interpreter in the inventory: python = ..."
    )
    if any("ensurepip" in line for line in lines):
        hint = "the host's Python cannot make virtual environments; on Debian: sudo apt install python3-venv"
    if no_room(lines):
        hint = ROOM
    return StageError("the runtime could not be installed", hint, lines)


def no_room(lines: Iterable[str]) -> bool:
    """Whether a disk is full, by what was said."""
    return any(part in line for part in FULL for line in lines)
