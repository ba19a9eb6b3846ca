"""Files of the folder: templates, and the manifests of PlatformIO and Arduino.

Names for Zephyr begin with `sen_`: Zephyr has options, libraries and modules called `net`, `log` or `sensor`, and
merges entries with the same name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from sen_exporters.c.budget import STACK_BYTES, STACK_BYTES_UNOPTIMIZED, Footprint
from sen_exporters.c.golden import golden
from sen_exporters.c.library import closure
from sen_exporters.c.memory import ALIGNMENT, binary
from sen_exporters.c.program import Program
from sen_exporters.c.text import comment, render


def folder(program: Program, found: Footprint, version: str) -> dict[str, str | bytes]:
    """Header, weights, self-test, README, and files for CMake, Zephyr, PlatformIO and Arduino, by file name."""
    name = program.name
    files: dict[str, str | bytes] = {f"{name}.h": render("network.h", program)}
    if program.is_binary:
        files[f"{name}_weights.bin"] = binary(program.constants)
        files[f"{name}_weights.S"] = render("weights.S", program, alignment=ALIGNMENT)
    is_train = program.network.input_coding == "spikes"
    files[f"{name}_selftest.c"] = render("selftest.c", program, golden=golden(program), is_train=is_train)
    for template in ("CMakeLists.txt", "zephyr/module.yml", "zephyr/CMakeLists.txt", "zephyr/Kconfig"):
        files[template] = render(template, program)
    files["README.md"] = render(
        "README.md", program, found=found, stack=STACK_BYTES, stack_unoptimized=STACK_BYTES_UNOPTIMIZED
    )
    return files | _arduino(program, version, [f"{name}.c", *files])


def source(program: Program, title: Sequence[str], properties: Mapping[str, str]) -> str:
    """NAME.c, which begins with a comment of `title` and `properties`."""
    return render("network.c", program, head=comment(title, properties), kernels=_kernels(program))


def _kernels(program: Program) -> Iterable[str]:
    """Regions of the library; those of one build only are conditional on NAME_EXPAND."""
    plain, expanded = closure(program.functions), closure(program.expanded_functions)
    for name, region in closure({*plain, *expanded}).items():
        text = region.text.replace("SEN_PRIVATE", "static")
        if name in plain and name in expanded:
            yield text
        else:
            yield f"#if{'n' * (name in plain)}def {program.macro}_EXPAND\n{text}#endif\n"


def _arduino(program: Program, version: str, others: Iterable[str]) -> dict[str, str]:
    """library.json for PlatformIO, library.properties for Arduino; `others` are all other files of the folder."""
    name, sentence = program.name, f"A {program.architecture} neural network"
    sources = [f"{name}.c", f"{name}_selftest.c", *([f"{name}_weights.S"] if program.is_binary else [])]
    manifest = {
        "name": name,
        "version": version,
        "description": f"{sentence}, exported by sen-edge.",
        "headers": f"{name}.h",
        "frameworks": "*",
        "platforms": "*",
        "build": {"srcDir": ".", "includeDir": ".", "srcFilter": [f"+<{source}>" for source in sources]},
        # without a list `pio pkg pack` leaves out *.bin
        "export": {"include": sorted([*others, "library.json", "library.properties"])},
    }
    properties = {
        "name": name,
        "version": version,
        "author": "sen-edge",
        "maintainer": "sen-edge",
        "sentence": f"{sentence}.",
        "paragraph": "Exported by sen-edge; for boards with 32-bit processors.",
        "category": "Data Processing",
        "url": "https://arxiv.org/abs/2506.13410",
        "architectures": "*",
        "includes": f"{name}.h",
    }
    return {
        "library.json": json.dumps(manifest, indent=2) + "\n",
        "library.properties": "".join(f"{key}={value}\n" for key, value in properties.items()),
    }
