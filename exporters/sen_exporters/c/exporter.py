"""C99: a folder that a firmware project includes as it is.

NAME.c contains the kernels of the C library that the network needs, its weights and structures as constants, and the
functions that NAME.h declares. The other files build and test it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.resources import files
from typing import Annotated, Literal

from annotated_types import Ge, Unit, doc

from sen_exporters.base import Artifact, Exporter, ExportError, ExportOptions, describe
from sen_exporters.c.budget import Footprint, choose, footprint
from sen_exporters.c.files import folder, read_properties, render, source, with_hash, with_properties
from sen_exporters.c.integer import lower_integers
from sen_exporters.c.program import Program, lower_network
from sen_exporters.c.wiring import FORMS, has_forms
from sen_runtime.ir.network import Network

_LINES = (files(__package__) / "reserved_names.txt").read_text(encoding="utf-8").splitlines()
#: What the files, their header, and a CMake target cannot be called, in lower case.
RESERVED = frozenset(name for line in _LINES if not line.startswith("#") for name in line.split())


@dataclass(frozen=True)
class COptions(ExportOptions):
    """Options of the C exporter.

    Attributes:
        max_flash: bytes of flash that code and constants may take; None for any number.
        max_ram: bytes of RAM that the arena may take; None for any number.
        weights: "array" (C text) or "incbin" (a binary file that the assembler includes); None is by size.
        harness: whether to write NAME_harness.c.
        kernels: "private" (in NAME.c) or "shared" (in sen_kernels.c).
        simd: "dsp" stores int8 weights whose inputs are rarely 0 for the DSP instructions of Cortex-M4, M7 and M33,
            "mve" blocks of 1x4 for Helium of Cortex-M55 and M85.
    """

    max_flash: Annotated[
        int | None, Ge(0), Unit("B"), doc("Max size of code and constants, e.g. 64KiB; exit code 3 if exceeded.")
    ] = None
    max_ram: Annotated[
        int | None, Ge(0), Unit("B"), doc("Max size of the arena, e.g. 16KiB; exit code 3 if exceeded.")
    ] = None
    weights: Literal["array", "incbin"] | None = None
    harness: Annotated[bool, doc("Also write NAME_harness.c, for the runner of MLPerf Tiny.")] = False
    kernels: Annotated[
        Literal["private", "shared"],
        doc("Kernels as a part of NAME.c, or as sen_kernels.c, which several networks in one program share."),
    ] = "private"
    simd: Annotated[
        Literal["none", "dsp", "mve"],
        doc(
            "dsp: int8 weights whose inputs are rarely 0 in the order of DSP instructions (Cortex-M4, M7, M33). "
            "mve: blocks of 1x4 in the order of Helium (Cortex-M55, M85)."
        ),
    ] = "none"


class CExporter(Exporter):
    """A folder `NAME/` of C99 source and build files; NAME is the stem of the files as a C identifier."""

    name = "c"
    suffixes = (".c",)
    int4_dtypes = ("int4",)
    Options = COptions
    uses_batch_size = False

    def main_file(self, options: COptions) -> str:
        """`NAME/NAME.c`."""
        name = identifier(options.name)
        return f"{name}/{name}.c"

    def check(self, network: Network, options: COptions) -> None:
        """Refuse networks that integers do not hold, names that C has no form for, and networks beyond the budgets."""
        _lower(network, options)

    def footprint(self, network: Network, options: COptions) -> Footprint:
        """Memory that the network takes on a device; errors as of `check`."""
        return _lower(network, options)[1]

    def export(self, network: Network, options: COptions) -> Artifact:
        """Build the folder."""
        program, found = _lower(network, options)
        content = {
            f"{program.name}/{name}": text.encode() if isinstance(text, str) else text
            for name, text in _files(program, found, options).items()
        }
        return Artifact(self.name, content, {"flash": found.flash_bytes, "RAM": found.ram_bytes})

    def stamp(self, artifact: Artifact, properties: Mapping[str, str]) -> Artifact:
        """The artifact with `properties` in the comment at the top of NAME.c, and the hash of the source in NAME.h."""
        text = artifact.main.decode()
        stamped = artifact.with_main(with_properties(text, {**read_properties(text), **properties}).encode())
        hashes = [value for key, value in properties.items() if key.endswith("_sha256")]
        if not hashes:
            return stamped
        header = artifact.main_name.removesuffix(".c") + ".h"
        content = with_hash(artifact.files[header].decode(), hashes[0]).encode()
        return replace(stamped, files={**stamped.files, header: content})

    def properties(self, model: bytes) -> Mapping[str, str]:
        """Properties in the comment at the top of NAME.c."""
        return read_properties(model.decode("utf-8", "replace"))

    def engines(self, model: bytes) -> tuple[str, ...]:
        """The C compiler of the host."""
        del model
        return ("c",)


def identifier(stem: str) -> str:
    """The stem of a file as a C identifier: letters, digits, and `_` for all else.

    Raises:
        ExportError: the identifier is empty, or has a meaning of its own.
    """
    name = re.sub(r"[^A-Za-z0-9]+", "_", stem).strip("_")
    if re.match(r"[0-9]", name):
        name = f"net_{name}"
    hint = "give another with --name"
    if not name:
        raise ExportError(f"the name {stem!r} has no letters or digits that C takes", hint)
    if name.lower() in RESERVED or re.match(r"sen(_|$)", name.lower()):
        raise ExportError(
            f"the name {stem!r} becomes {name!r} in C, which has a meaning of its own there or in CMake", hint
        )
    return name


def _lower(network: Network, options: COptions) -> tuple[Program, Footprint]:
    name = identifier(options.name)
    if network.input_grid is None and options.simd != "none":
        raise ExportError(
            f"simd is {options.simd}, which has no effect on networks with activations in floating point",
            hint="add --dtype int8, or omit it",
        )
    programs: list[Program]
    if network.input_grid is None:
        forms = FORMS if has_forms(network) else FORMS[:1]
        programs = [lower_network(network, name, options.weights, form) for form in forms]
    else:
        programs = [lower_integers(network, name, options.weights, options.simd)]
    programs = [replace(program, shares_kernels=options.kernels == "shared") for program in programs]
    found = [footprint(program) for program in programs]
    chosen = choose(name, found, options.max_flash, options.max_ram)
    return programs[chosen], found[chosen]


def _files(program: Program, found: Footprint, options: COptions) -> dict[str, str | bytes]:
    """Content of the folder by file name, NAME.c first."""
    name, number = program.name, version("sen-edge")
    title = [
        f"{name}: a {program.architecture} network, exported by sen-edge {number}. Do not edit; export again.",
        f"Flash {found.flash_bytes} B, RAM {found.ram_bytes} B; README.md lists all items.",
        "SPDX-License-Identifier: Apache-2.0 (the functions; the weights are their owner's)",
    ]
    additional = {f"{name}_harness.c": render("harness.c", program)} if options.harness else {}
    content = source(program, title, describe(program.network))
    return {f"{name}.c": content, **folder(program, found, additional)}
