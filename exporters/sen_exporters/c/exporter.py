"""C99: a folder that a firmware project takes in as it is.

NAME.c holds the functions of the C library that the network needs, its weights and its description as constants, and
the interface that NAME.h declares. The other files build and test it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version

from sen_exporters.base import Artifact, NoFormError
from sen_exporters.c.budget import Footprint, check_budget, footprint, size
from sen_exporters.c.files import arduino, assembly, cmake, readme, zephyr
from sen_exporters.c.golden import golden
from sen_exporters.c.names import identifier
from sen_exporters.c.options import COptions
from sen_exporters.c.plan import Plan, plan
from sen_exporters.c.selftest import selftest
from sen_exporters.c.source import blob, header, source, takes_binary
from sen_exporters.c.text import read_properties, with_properties
from sen_runtime.ir.network import Network


class CExporter:
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
            ExportError: with what was found, what was expected, and the next step.
        """
        name = identifier(options.name)
        if network.input_grid is not None:
            raise NoFormError(
                "the C export has no int8 activations",
                hint="--dtype int8-dynamic stores int8 weights here; --to tflite takes int8 activations",
            )
        planned = plan(network, name)
        check_budget(name, footprint(planned, is_binary=takes_binary(planned, options)), options)

    def export(self, network: Network, options: COptions) -> Artifact:
        """Build the folder.

        Raises:
            ExportError: see `check`.
        """
        self.check(network, options)
        planned = plan(network, identifier(options.name))
        found = footprint(planned, is_binary=takes_binary(planned, options))
        files = {
            f"{planned.prefix}/{name}": content.encode() if isinstance(content, str) else content
            for name, content in _files(planned, found, is_binary=takes_binary(planned, options)).items()
        }
        return Artifact(self.name, files, {"flash": found.flash_bytes, "RAM": found.ram_bytes})

    def stamp(self, artifact: Artifact, properties: Mapping[str, str]) -> Artifact:
        """The artifact with `properties` in the comment at the head of NAME.c."""
        text = artifact.main.decode()
        stamped = with_properties(text, {**read_properties(text), **properties})
        return replace(artifact, files={**artifact.files, artifact.main_name: stamped.encode()})

    def properties(self, model: bytes) -> Mapping[str, str]:
        """What the comment at the head of NAME.c says."""
        return read_properties(model.decode("utf-8", "replace"))

    def engines(self, model: bytes) -> tuple[str, ...]:
        """The host's C compiler."""
        del model
        return ("c",)

    def instrument(self, model: bytes) -> bytes:
        """The model itself: it shows every layer."""
        return model


def _files(planned: Plan, found: Footprint, *, is_binary: bool) -> dict[str, str | bytes]:
    """Names in the folder and their content, NAME.c first."""
    name, network = planned.prefix, planned.network
    facts = {**network.metadata, "architecture": "-".join(map(str, network.layer_sizes))}
    if network.is_spiking:
        facts |= {
            "timesteps": str(network.timesteps),
            "input_coding": network.input_coding,
            "readout": network.readout,
        }
    number = version("sen-edge")
    title = [
        f"{name}: a {facts['architecture']} network, exported by sen-edge {number}. Do not edit; export again.",
        f"Flash {size(found.flash_bytes)}, RAM {size(found.ram_bytes)}: README.md says what takes how much.",
        "SPDX-License-Identifier: Apache-2.0 (the functions; the weights are their owner's)",
    ]
    files: dict[str, str | bytes] = {
        f"{name}.c": source(planned, title, facts, is_binary=is_binary),
        f"{name}.h": header(planned),
    }
    if is_binary:
        files |= {f"{name}_weights.bin": blob(planned)[0], f"{name}_weights.S": assembly(name)}
    files[f"{name}_selftest.c"] = selftest(planned, golden(planned))
    files["CMakeLists.txt"] = cmake(planned, is_binary=is_binary)
    files |= zephyr(planned, is_binary=is_binary)
    files["README.md"] = readme(planned, found, is_binary=is_binary)
    files |= arduino(planned, number, files, is_binary=is_binary)
    return files
