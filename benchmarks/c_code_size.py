"""Measure the code size of exported C on Cortex-M4, from which the C exporter computes budgets.

    python benchmarks/c_code_size.py [--write | --check]

`--write` writes exporters/sen_exporters/c/code_size.json: bytes of each region of the C library, of the interface
functions of a network, and of its structures, compiled with -Os; `options` are the regions and structures of a network
with parameters of single neurons or an input coding. Inlining is disabled, because it depends on the network. `--check`
exits with code 3 if that file is out of date. Requires arm-none-eabi-gcc.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np

from sen_exporters.c.files import render, source
from sen_exporters.c.integer import lower_integers
from sen_exporters.c.library import Region, regions
from sen_exporters.c.program import Program, lower_network
from sen_runtime.ir.int8 import Grid
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import LeakyIntegrator, Lif
from sen_runtime.ir.operators import Dense
from sen_runtime.ir.standardization import Standardization

CORTEX_M4 = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")
TABLE = Path(__file__).parents[1] / "exporters/sen_exporters/c/code_size.json"
STRUCTURES = (
    "sen_weights",
    "sen_term",
    "sen_layer",
    "sen_kernels",
    "sen_network",
    "sen_wiring",
    "sen_connection",
    "sen_spatial",
    "sen_integer_weights",
    "sen_operation",
    "sen_integer_layer",
    "sen_integer_network",
)
INTERFACES = ("interface", "interface_with_scaling", "interface_of_integers")
#: Compiles the library without parameters of single neurons, input codings and delays.
PLAIN = "-DSEN_PLAIN"
#: Max ratio to the table, for other compiler versions.
SLACK = 1.15
_SYMBOL = re.compile(r"^[0-9a-f]+ ([0-9a-f]+) (\w) ([\w.]+)(?:\t(.*):(\d+))?$", re.MULTILINE)


def symbols(source: Path, include: Path, *options: str) -> Iterator[tuple[str, int, str, int]]:
    """Yield name with nm kind, bytes, file and line of each symbol of a C file; lower-case kinds are local."""
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "built.o"
        flags = [*CORTEX_M4, "-fno-inline", "-std=c99", "-Os", "-g", "-I", str(include), *options]
        subprocess.run(["arm-none-eabi-gcc", *flags, "-c", str(source), "-o", str(built)], check=True)
        table = subprocess.run(["arm-none-eabi-nm", "-lS", str(built)], check=True, capture_output=True, text=True)
    for size, kind, name, file, line in _SYMBOL.findall(table.stdout):
        if kind != "n":
            yield f"{kind} {name.partition('.')[0]}", int(size, 16), Path(file).name, int(line or 0)


def compiler() -> str:
    """Return the compiler version."""
    done = subprocess.run(["arm-none-eabi-gcc", "-dumpfullversion"], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def code_bytes(*options: str) -> dict[str, int]:
    """Return bytes of code by region, compiled with `options`."""
    found: dict[str, dict[str, int]] = {name: {} for name in regions()}
    with as_file(files("sen_runtime") / "c" / "src") as folder:
        lines = {name: _lines(region, (folder / region.file).read_text()) for name, region in regions().items()}
        for source in sorted({region.file for region in regions().values() if region.file.endswith(".c")}):
            for symbol, size, file, line in symbols(folder / source, folder, *options):
                for name, region in regions().items():
                    if region.file == file and line in lines[name]:
                        found[name][symbol] = max(size, found[name].get(symbol, 0))
    return {name: sum(sizes.values()) for name, sizes in found.items()}


def _lines(region: Region, text: str) -> range:
    first = text[: text.index(region.text)].count("\n") + 1
    return range(first, first + region.text.count("\n"))


def interface_bytes(*, is_scaled: bool) -> int:
    """Return the bytes of the public functions of a spiking network, the max over networks with or without scaling."""
    layers = (
        Layer(Dense(np.ones((2, 2), np.float32)), None, Lif(0.9)),
        Layer(Dense(np.ones((2, 2), np.float32)), None, LeakyIntegrator(0.9)),
    )
    network = Network(layers, 2)
    if is_scaled:
        ones = Standardization(np.ones(2, np.float32), np.ones(2, np.float32))
        network = replace(network, input_scaling=ones, output_scaling=ones, output_activation="sigmoid")
    return _interface_bytes(lower_network(network, "net"))


def interface_bytes_of_integers() -> int:
    """Return the bytes of the public functions of a spiking network with int8 activations."""
    weight, grid = Dense(np.ones((2, 2), np.int8), np.ones(1, np.float32)), Grid(1 / 64, 0)
    layers = (Layer(weight, None, Lif(0.9), grid), Layer(weight, None, LeakyIntegrator(0.9), grid))
    return _interface_bytes(lower_integers(Network(layers, 2, input_grid=grid), "net"))


def _interface_bytes(program: Program) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.c"
        path.write_text(source(program, [], {}))
        path.with_suffix(".h").write_text(render("network.h", program))
        return sum(size for name, size, _, _ in symbols(path, Path(folder)) if name.startswith("T "))


def struct_bytes(*options: str) -> dict[str, int]:
    """Return bytes of each structure of network.h, compiled with `options`."""
    with as_file(files("sen_runtime") / "c" / "src") as folder, tempfile.TemporaryDirectory() as build:
        source = Path(build) / "sizes.c"
        source.write_text('#include "integer.h"\n' + "".join(f"char {name}_[sizeof({name})];\n" for name in STRUCTURES))
        found = symbols(source, folder, *options)
        return dict(sorted((name.split()[1][:-1], size) for name, size, _, _ in found))


def measure() -> dict[str, Any]:
    """Return the content of code_size.json."""
    plain, full = code_bytes(PLAIN), code_bytes()
    structures, larger = struct_bytes(PLAIN), struct_bytes()
    return {
        "compiler": compiler(),
        "code": {name: plain[name] or full[name] for name in full},
        "interface": interface_bytes(is_scaled=False),
        "interface_with_scaling": interface_bytes(is_scaled=True),
        "interface_of_integers": interface_bytes_of_integers(),
        "structures": structures,
        "options": {
            name: size
            for found, usual in ((full, plain), (larger, structures))
            for name, size in found.items()
            if usual[name] not in (0, size)
        },
    }


def differences(measured: Mapping[str, Any], table: Mapping[str, Any]) -> list[str]:
    """List measured sizes that differ from the file; with another compiler, those above `SLACK` times the file's."""
    is_same = measured["compiler"] == table["compiler"]
    pairs = {name: (measured[name], table[name]) for name in INTERFACES}
    for part in ("code", "structures", "options"):
        pairs |= {f"{part} {name}": (size, table[part].get(name, 0)) for name, size in measured[part].items()}
    return [
        f"{name}: {now} B; {TABLE.name}: {before}"
        for name, (now, before) in pairs.items()
        if (now != before if is_same else now > SLACK * before)
    ]


def main(arguments: list[str]) -> int:
    """Print, write or check the sizes."""
    measured = measure()
    text = json.dumps(measured, indent=1) + "\n"
    if arguments == ["--write"]:
        TABLE.write_text(text)
    elif arguments == ["--check"]:
        found = differences(measured, json.loads(TABLE.read_text()))
        print("\n".join(found))
        return 3 if found else 0
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
