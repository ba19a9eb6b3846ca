"""C99: a folder that a firmware project includes as it is.

NAME.c contains the kernels of the C library that the network needs, its weights and structures as constants, and the
functions that NAME.h declares. The other files build and test it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version

from sen_exporters.base import Artifact, Exporter, check_float_activations, describe
from sen_exporters.c.budget import Footprint, check_budget, footprint
from sen_exporters.c.files import folder, source
from sen_exporters.c.names import identifier
from sen_exporters.c.options import COptions
from sen_exporters.c.program import Program, lower_network
from sen_exporters.c.text import read_properties, with_properties
from sen_runtime.ir.network import Network


class CExporter(Exporter):
    """A folder `NAME/` of C99 source and build files; NAME is the stem of the files as a C identifier."""

    name = "c"
    suffixes = (".c",)
    Options = COptions

    def main_file(self, options: COptions) -> str:
        """`NAME/NAME.c`."""
        name = identifier(options.name)
        return f"{name}/{name}.c"

    def check(self, network: Network, options: COptions) -> None:
        """Refuse int8 activations, names that C has no form for, and networks beyond the budgets.

        Raises:
            ExportError: states found and expected values, and the next step.
        """
        _lower(network, options)

    def export(self, network: Network, options: COptions) -> Artifact:
        """Build the folder.

        Raises:
            ExportError: see `check`.
        """
        program, found = _lower(network, options)
        files = {
            f"{program.name}/{name}": content.encode() if isinstance(content, str) else content
            for name, content in _files(program, found).items()
        }
        return Artifact(self.name, files, {"flash": found.flash_bytes, "RAM": found.ram_bytes})

    def stamp(self, artifact: Artifact, properties: Mapping[str, str]) -> Artifact:
        """The artifact with `properties` in the comment at the top of NAME.c."""
        text = artifact.main.decode()
        stamped = with_properties(text, {**read_properties(text), **properties})
        return replace(artifact, files={**artifact.files, artifact.main_name: stamped.encode()})

    def properties(self, model: bytes) -> Mapping[str, str]:
        """Properties in the comment at the top of NAME.c."""
        return read_properties(model.decode("utf-8", "replace"))

    def engines(self, model: bytes) -> tuple[str, ...]:
        """The C compiler of the host."""
        del model
        return ("c",)


def _lower(network: Network, options: COptions) -> tuple[Program, Footprint]:
    name = identifier(options.name)
    check_float_activations(network, "the C export")
    program = lower_network(network, name, options.weights)
    found = footprint(program)
    check_budget(name, found, options)
    return program, found


def _files(program: Program, found: Footprint) -> dict[str, str | bytes]:
    """Content of the folder by file name, NAME.c first."""
    name, number = program.name, version("sen-edge")
    title = [
        f"{name}: a {program.architecture} network, exported by sen-edge {number}. Do not edit; export again.",
        f"Flash {found.flash_bytes} B, RAM {found.ram_bytes} B; README.md lists all items.",
        "SPDX-License-Identifier: Apache-2.0 (the functions; the weights are their owner's)",
    ]
    return {f"{name}.c": source(program, title, describe(program.network)), **folder(program, found, number)}
