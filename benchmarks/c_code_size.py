"""Measure the code of every function of the C library on Cortex-M4, and print the table of sen_exporters.c.budget.

A test fails where a figure of the table is too small. Needs arm-none-eabi-gcc.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from importlib.resources import as_file, files
from pathlib import Path

from sen_exporters.c.library import KERNEL_FILES

#: Every function by itself, because which ones share a caller differs between networks.
APART = ("-fno-inline",)
CORTEX_M4 = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")
STRUCTURES = ("sen_weights", "sen_term", "sen_layer", "sen_kernels", "sen_network")
_SYMBOL = re.compile(r"^[0-9a-f]+ ([0-9a-f]+) \w (\w+)", re.MULTILINE)


def symbols(source: Path, include: Path, compiler: str = "arm-none-eabi-gcc") -> dict[str, int]:
    """Bytes of every function and variable of a C file, compiled for size."""
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "built.o"
        command = [compiler, *CORTEX_M4, *APART, "-std=c99", "-Os", "-I", str(include)]
        subprocess.run([*command, "-c", str(source), "-o", str(built)], check=True)
        table = subprocess.run(["arm-none-eabi-nm", "-S", str(built)], check=True, capture_output=True, text=True)
    sizes: dict[str, int] = {}
    for size, name in _SYMBOL.findall(table.stdout):  # a name may end in .isra.0, of which the pattern takes nothing
        sizes[name] = max(sizes.get(name, 0), int(size, 16))
    return sizes


def code_bytes() -> dict[str, int]:
    """Bytes of code by function; a function of network.h where a compiler did not make it part of all callers."""
    found: dict[str, int] = {}
    with as_file(files("sen_runtime") / "c" / "src") as folder:
        for file in KERNEL_FILES:
            for name, size in symbols(folder / file, folder).items():
                found[name] = max(found.get(name, 0), size)
    return found


def struct_bytes() -> dict[str, int]:
    """Bytes of the structures of network.h."""
    with as_file(files("sen_runtime") / "c" / "src") as folder, tempfile.TemporaryDirectory() as build:
        source = Path(build) / "sizes.c"
        arrays = "".join(f"char size_of_{name}[sizeof({name})];\n" for name in STRUCTURES)
        source.write_text(f'#include "network.h"\n{arrays}')
        return {name.removeprefix("size_of_"): size for name, size in symbols(source, folder).items()}


if __name__ == "__main__":
    for title, sizes in (("CODE_BYTES", code_bytes()), ("STRUCT_BYTES", struct_bytes())):
        print(f"{title} = {{")
        for name, size in sizes.items():
            print(f'    "{name}": {size},')
        print("}")
