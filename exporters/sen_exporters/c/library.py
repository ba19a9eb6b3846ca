"""The regions of the C library's sources that exported C consists of.

A region lies between the lines `/* export: NAME, needs OTHER, ... */` and `/* end */`. It compiles after the regions
that it needs; all need `types`. `SEN_PRIVATE`, before functions that several files call, becomes `static`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_REGION = re.compile(r"^/\* export: (\w+)(?:, needs ([\w, ]+))? \*/\n(.*?)^/\* end \*/$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Region:
    """A part of a source file.

    Attributes:
        file: name of the source file.
        needs: names of other regions.
        text: the lines between the markers.
    """

    file: str
    needs: tuple[str, ...]
    text: str


def parse(sources: Mapping[str, str]) -> dict[str, Region]:
    """The regions of `sources`, file name -> text, by name.

    Raises:
        ValueError: a region is not closed, or its name or a region that it needs is not unique or unknown.
    """
    found: dict[str, Region] = {}
    for file, text in sources.items():
        regions = _REGION.findall(text)
        if not len(regions) == text.count("/* export:") == text.count("/* end */"):
            raise ValueError(f"{file}: a marker `export` or `end` has no counterpart")
        for name, needs, body in regions:
            if name in found:
                raise ValueError(f"{file}: region {name} is also in {found[name].file}")
            found[name] = Region(file, tuple(re.findall(r"\w+", needs)), body)
    for name, region in found.items():
        if unknown := set(region.needs) - set(found):
            raise ValueError(
                f"{region.file}: region {name} needs {', '.join(sorted(unknown))}; no region has that name"
            )
    return found


@cache
def regions() -> Mapping[str, Region]:
    """All regions of the library, by name."""
    folder = files("sen_runtime") / "c" / "src"
    sources = sorted(
        (path for path in folder.iterdir() if path.name.endswith((".c", ".h"))), key=lambda path: path.name
    )
    return parse({path.name: path.read_text(encoding="utf-8") for path in sources})


def closure(names: Iterable[str]) -> dict[str, Region]:
    """The regions called `names` and all that they need, in an order that compiles."""
    found: dict[str, Region] = {}

    def visit(name: str) -> None:
        if name not in found:
            for need in regions()[name].needs:
                visit(need)
            found[name] = regions()[name]

    for name in ("types", *sorted(names)):
        visit(name)
    return found


def dense_kernel(dtype: str, columns: int) -> str:
    """Function for a dense matrix."""
    if dtype == "int8" and columns <= _kernel_choice()[0]:
        return "sen_dense_int8"
    return "sen_dense_f32" if dtype == "float32" else "sen_dense_reference"


def sparse_kernel(dtype: str, block: tuple[int, int], columns: int, index_dtype: str) -> str:
    """Function for a sparse matrix: `sparse_kernel` in place.c."""
    max_columns, portable = _kernel_choice()
    is_int8 = dtype == "int8" and columns <= max_columns
    reference = "sen_sparse_int8_reference" if is_int8 else "sen_sparse_reference"
    if index_dtype != "uint16" or columns % block[1] or (dtype == "int8" and not is_int8):
        return reference
    return portable.get((dtype, block), reference)


@cache
def _kernel_choice() -> tuple[int, dict[tuple[str, tuple[int, int]], str]]:
    """The table of internal.h: max columns of an int8 product; functions by dtype and block of a sparse matrix."""
    text = regions()["kernel_choice"].text
    (limit,) = re.findall(r"#define SEN_MAX_INT8_COLUMNS (\d+)u", text)
    rows = re.findall(r"KERNEL\(SEN_(\w+), (\d+), (\d+), \w+, (sen_\w+)\)", text)
    return int(limit), {(dtype.lower(), (int(a), int(b))): function for dtype, a, b, function in rows}
