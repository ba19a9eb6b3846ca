"""Environments of `requirements/PYTHON-LABEL.txt`, each with all packages pinned, and the page about them."""

import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import tomllib

ROOT = Path(__file__).parents[2]
REQUIREMENTS = Path(__file__).parent / "requirements"
PAGE = ROOT / "docs/reference/versions.md"
#: Packages of the table.
SHOWN = ("numpy", "onnx", "onnxruntime", "ai-edge-litert", "typer", "pydantic", "safetensors")
HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"

HEADER = """# Supported versions

`make test-versions` installs the wheels of this checkout with these pinned versions, and runs a part of the tests; CI
runs it. A test compares this page and the lower bounds of the packages with `tests/versions/requirements`.

"""
FOOTER = """
- `oldest` has the lower bounds of `pyproject.toml`; on Python 3.9, which only `sen-edge-runtime` supports, those of
  that package.
- Python 3.9: import of every module, images of every version, `sen-runtime bench`. Other environments: also operators,
  the reference, ONNX and TFLite files in their engines, and data sources. With torch: also checkpoints, commands, and
  exports compared with torch.
- torch is not pinned here: it is 2.13.0, the version of `constraints.txt`, on Python {python}. The lower bound of torch
  is tested by the hosted workflow only, as is Python 3.14.
- onnxruntime 1.16 reads ONNX operator sets up to 19.
- `typer` before 0.16 fails with the current click, `annotated-types` before 0.7 lacks `Unit`.
"""


@dataclass(frozen=True)
class Environment:
    """Pinned packages on one Python; those of the running one borrow torch from its environment.

    Attributes:
        name: such as "3.10-oldest".
        packages: name -> version.
    """

    name: str
    packages: dict[str, str]

    @property
    def python(self) -> str:
        """Minor version of Python."""
        return self.name.partition("-")[0]

    @property
    def is_oldest(self) -> bool:
        """Whether the packages are the lower bounds."""
        return self.name.endswith("-oldest")

    @property
    def is_runtime(self) -> bool:
        """Whether sen-edge does not support this Python, and the runtime does."""
        return "onnx" not in self.packages

    @property
    def has_torch(self) -> bool:
        """Whether torch of the running environment can be used."""
        return self.python == HERE

    @property
    def requirements(self) -> Path:
        """The file."""
        return REQUIREMENTS / f"{self.name}.txt"

    def interpreter(self) -> str | None:
        """Return the path of an interpreter, or None."""
        if (found := shutil.which(f"python{self.python}")) and "shims" not in found:
            return found
        root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
        return next(map(str, sorted(root.glob(f"versions/{self.python}.*/bin/python{self.python}"))), None)


def environments() -> list[Environment]:
    """Return all environments, by Python."""
    found = [Environment(path.stem, _pins(path)) for path in REQUIREMENTS.glob("*.txt")]
    return sorted(found, key=lambda each: (int(each.python.partition(".")[2]), not each.is_oldest))


def _pins(path: Path) -> dict[str, str]:
    return dict(line.split("==") for line in path.read_text(encoding="utf-8").splitlines())


def lower_bounds(project: Path) -> dict[str, str]:
    """Return the lower bounds of the dependencies in a `pyproject.toml`, those of extras included."""
    document = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    lines = [*document["dependencies"], *(line for extra in ("onnx", "tflite") for line in _extra(document, extra))]
    found = (re.match(r"([\w-]+)>=([\d.]+)", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


def _extra(document: dict[str, dict[str, list[str]]], name: str) -> list[str]:
    return document.get("optional-dependencies", {}).get(name, [])


def page() -> str:
    """Return docs/reference/versions.md."""
    rows = [f"| Python | packages | torch | {' | '.join(SHOWN)} |", "| --- " * (len(SHOWN) + 3) + "|"]
    for each in environments():
        versions = " | ".join(each.packages.get(name, "") for name in SHOWN)
        torch = "yes" if each.has_torch else ""
        rows.append(f"| {each.python} | {each.name.partition('-')[2]} | {torch} | {versions} |")
    return HEADER + "\n".join(rows) + "\n" + FOOTER.format(python=HERE)
