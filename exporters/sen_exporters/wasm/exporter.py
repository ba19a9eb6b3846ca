"""Browsers: exported C as a WebAssembly module, with a loader in JavaScript, its types, and a demo page.

NAME.wasm holds the network and its metadata; NAME.js and NAME.d.ts are the same for all networks. NAME.html is one file
that needs no network access.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files

from sen_exporters.base import Artifact, Exporter, ExportOptions, check_float_activations, describe
from sen_exporters.c.files import render, source
from sen_exporters.c.memory import binary
from sen_exporters.c.program import Program, lower_network
from sen_exporters.wasm.compiler import compile_module, find_toolchain
from sen_exporters.wasm.page import build_page, with_module
from sen_exporters.wasm.storage import is_plain, store, to_float32
from sen_runtime.engines import wasm_file
from sen_runtime.ir.network import Network

#: Name of the network in C.
NAME = "net"


class WasmExporter(Exporter):
    """`NAME.wasm`, `NAME.js`, `NAME.d.ts` and `NAME.html`."""

    name = "wasm"
    suffixes = (".wasm",)
    Options = ExportOptions
    uses_batch_size = False
    is_optional = True

    def check(self, network: Network, options: ExportOptions) -> None:
        """Refuse int8 activations, and forms that C does not have.

        Raises:
            MissingExtraError: no compiler is installed.
        """
        del options
        _lower(network)
        find_toolchain()

    def export(self, network: Network, options: ExportOptions) -> Artifact:
        """Compile the network, and build the page."""
        module = wasm_file.with_properties(_compile(network), describe(network))
        scripts = {
            ending: (files("sen_runtime") / "js" / f"loader{ending}").read_bytes() for ending in (".js", ".d.ts")
        }
        page = build_page(network, options.name, scripts[".js"].decode(), module)
        content = {".wasm": module, **scripts, ".html": page}
        return Artifact(self.name, {f"{options.name}{ending}": data for ending, data in content.items()})

    def stamp(self, artifact: Artifact, properties: Mapping[str, str]) -> Artifact:
        """The artifact with `properties` added to those of the module, also in the page."""
        found = wasm_file.read(artifact.main).properties
        module = wasm_file.with_properties(artifact.main, {**found, **properties})
        pages = {name: with_module(text, module) for name, text in artifact.files.items() if name.endswith(".html")}
        return replace(artifact, files={**artifact.files, artifact.main_name: module, **pages})

    def properties(self, model: bytes) -> Mapping[str, str]:
        """Properties of the module."""
        return wasm_file.read(model).properties

    def engines(self, model: bytes) -> tuple[str, ...]:
        """Node.js."""
        del model
        return ("node",)


def _lower(network: Network) -> Program:
    check_float_activations(network, "the WebAssembly export")
    return lower_network(network, NAME, "incbin")


def _compile(network: Network) -> bytes:
    """The module of a network; weights in coordinates are computed when it is loaded."""
    program = _lower(to_float32(network))
    weights, parts = store(program, _lower(network))
    is_unpacked, constants = not is_plain(parts), binary(program.constants)
    sources: dict[str, str | bytes] = {
        f"{NAME}.c": source(program, [], {}),
        f"{NAME}.h": render("network.h", program),
        f"{NAME}_weights.bin": weights if is_unpacked else constants,
        "module.c": render("module.c", program, __package__, is_unpacked=is_unpacked),
        "weights.s": render("weights.s", program, __package__, symbol=f"{NAME}_{'stored' if is_unpacked else 'blob'}"),
    }
    if is_unpacked:
        sources["weights.c"] = render("weights.c", program, __package__, parts=parts, nbytes=len(constants))
    names = [name for name in sources if name in ("module.c", "weights.c", "weights.s")]
    vectors = program.arena_bytes + 4 * (program.input_size + network.n_out)
    n_bytes = len(constants) + is_unpacked * len(weights) + program.expanded_bytes + vectors
    return compile_module(sources, names, n_bytes)
