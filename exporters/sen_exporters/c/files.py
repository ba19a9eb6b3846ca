"""Build files for CMake, Zephyr, PlatformIO and Arduino, and a README."""

from __future__ import annotations

import json
from collections.abc import Iterable

from sen_exporters.c.budget import STACK_BYTES, STACK_BYTES_UNOPTIMIZED, Footprint
from sen_exporters.c.program import Program


def cmake(program: Program) -> str:
    """CMakeLists.txt: the library NAME, and the test NAME_selftest where this is the top-level project."""
    name, macro = program.name, program.macro
    weights = f" {name}_weights.S" if program.is_binary else ""
    depends = ""
    if program.is_binary:
        depends = (
            f"set_source_files_properties({name}_weights.S PROPERTIES\n"
            f"  OBJECT_DEPENDS ${{CMAKE_CURRENT_SOURCE_DIR}}/{name}_weights.bin)\n"
        )
    libraries = f"if(UNIX)\n  target_link_libraries({name} PUBLIC m)\nendif()\n" if program.positions else ""
    expand = ""
    if program.positions:
        expand = f"""\
option({macro}_EXPAND "Write the weights out into RAM once, in {name}_init" OFF)
if({macro}_EXPAND)
  target_compile_definitions({name} PUBLIC {macro}_EXPAND)
endif()
"""
    return f"""\
# add_subdirectory(.../{name}) and target_link_libraries(your_target {name}); alone it builds the self-test as well.
cmake_minimum_required(VERSION 3.13)
project({name} LANGUAGES C{" ASM" if program.is_binary else ""})

add_library({name} STATIC {name}.c{weights})
target_include_directories({name} PUBLIC ${{CMAKE_CURRENT_SOURCE_DIR}})
target_compile_features({name} PRIVATE c_std_99)
{depends}{libraries}{expand}if(CMAKE_C_COMPILER_ID MATCHES "GNU|Clang")
  # link with -Wl,--gc-sections, and functions that you do not call take no flash
  target_compile_options({name} PRIVATE -ffunction-sections -fdata-sections)
endif()

if(CMAKE_SOURCE_DIR STREQUAL CMAKE_CURRENT_SOURCE_DIR)
  set({macro}_SELFTEST_DEFAULT ON)
endif()
option({macro}_SELFTEST "Build {name}_selftest and register it with CTest" ${{{macro}_SELFTEST_DEFAULT}})
if({macro}_SELFTEST)
  enable_testing()
  add_executable({name}_selftest {name}_selftest.c)
  target_compile_definitions({name}_selftest PRIVATE SEN_SELFTEST_PRINT)
  target_link_libraries({name}_selftest PRIVATE {name})
  if(CMAKE_C_COMPILER_ID MATCHES "GNU" AND NOT APPLE)
    target_link_options({name}_selftest PRIVATE -Wl,--gc-sections)
  endif()
  add_test(NAME {name}_selftest COMMAND {name}_selftest)
endif()
"""


def zephyr(program: Program) -> dict[str, str]:
    """A Zephyr module: its description, its CMakeLists.txt and its Kconfig.

    Zephyr has options, libraries and modules called `net`, `log` or `sensor`, and merges what has the same name.
    """
    name, macro = program.name, program.macro
    weights = f"  zephyr_library_sources(../{name}_weights.S)\n" if program.is_binary else ""
    expand, choose, library = "", "", ""
    if program.positions:
        library = "    select REQUIRES_FULL_LIBC # for sqrtf\n"
        expand = f"  zephyr_compile_definitions_ifdef(CONFIG_SEN_{macro}_EXPAND {macro}_EXPAND)\n"
        choose = f"""
config SEN_{macro}_EXPAND
    bool "Write the weights of {name} out into RAM once"
    depends on SEN_{macro}
"""
    return {
        "zephyr/module.yml": f"name: sen_{name}\nbuild:\n  cmake: zephyr\n  kconfig: zephyr/Kconfig\n",
        "zephyr/CMakeLists.txt": f"""\
if(CONFIG_SEN_{macro})
  zephyr_library_named(sen_{name})
  zephyr_library_sources(../{name}.c)
{weights}  zephyr_library_sources_ifdef(CONFIG_SEN_{macro}_SELFTEST ../{name}_selftest.c)
  zephyr_include_directories(${{CMAKE_CURRENT_LIST_DIR}}/..)
{expand}endif()
""",
        "zephyr/Kconfig": f"""\
config SEN_{macro}
    bool "{name}, a neural network"
{library}    help
      A network exported by sen-edge: include {name}.h and call {name}_run().

config SEN_{macro}_SELFTEST
    bool "Golden vectors of {name}"
    depends on SEN_{macro}
    help
      {name}_selftest() is 0 if this device computes what was computed at export.
{choose}""",
    }


def arduino(program: Program, version: str, others: Iterable[str]) -> dict[str, str]:
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


def readme(program: Program, found: Footprint) -> str:
    """README.md: use of the folder, and the memory of the network."""
    name, macro, network = program.name, program.macro, program.network
    n_input = f"{macro}_TIMESTEPS * {macro}_INPUTS" if network.input_coding == "spikes" else f"{macro}_INPUTS"
    kind = "spiking network" if network.is_spiking else "network"
    initialize = f"{name}_init(); /* once */\n" if program.positions else ""
    sources = f"`{name}.c`" + (f" and `{name}_weights.S`" if program.is_binary else "")
    mathematics = "; link with -lm" if program.positions else ""
    return f"""\
# {name}

A {program.architecture} {kind} in C99: no heap, no globals, no stdio. The comment at the top of
`{name}.c` names the source model.

```c
#include "{name}.h"

static {name}_arena arena; /* {program.arena_bytes} bytes; one for each task that runs the network */
static float x[{n_input}], y[{macro}_OUTPUTS];

{initialize}if ({name}_run(&arena, x, y) != 0)
    handle_error(); /* x holds NaN or infinity; nothing was computed */
```

{_rules(program)}
## Memory

| memory | item | bytes |
| --- | --- | ---: |
{_memory(program, found)}
Constants and RAM are exact. Code is an upper estimate for Cortex-M4 with FPU, gcc -Os, without functions of the
standard library.

## Build

| with | how |
| --- | --- |
| any compiler | add {sources} to the sources and this folder to the include path{mathematics} |
| CMake | `add_subdirectory({name})`, `target_link_libraries(your_target {name})` |
| Zephyr | `-DZEPHYR_EXTRA_MODULES=/path/to/{name}`, and `CONFIG_SEN_{macro}=y` in prj.conf |
| PlatformIO, Arduino | this folder into `lib/`, or into the `libraries/` of the sketchbook |

`{name}_selftest()` in `{name}_selftest.c` is 0 if the device computes the outputs of the export. On the host:
`cmake -B build && cmake --build build && ctest --test-dir build`. That file has a `main`; if your project builds
every file it finds, define `SEN_SELFTEST_NO_MAIN`.
"""


def _rules(program: Program) -> str:
    name, last, returns = program.name, "run", f"`{program.name}_run` returns"
    steps = ""
    if program.network.is_spiking:
        last, returns = "step or run", f"`{name}_run` and `{name}_step` return"
        steps = f"""\
- Step by step: `{name}_reset(&arena)`, then `{name}_step(&arena, x, y)` for each input `x [{program.network.n_in}]`;
  the membranes stay in the arena. After `{name}_run` call `{name}_reset` before `{name}_step`.
"""
    return f"""\
- {returns} 0, or 1 if `x` holds NaN or infinity; then `y` and the arena are unchanged. Compiled with
  `SEN_ALLOW_NONFINITE` they do not check, and the outputs of such inputs are undefined.
- `x`, `y` and the arena do not overlap.
{steps}- `{name}_layer_output` is the output of a layer in the last {last}, and undefined before the first.
"""


def _memory(program: Program, found: Footprint) -> str:
    """Rows of a table."""
    rows = [("flash", label, nbytes) for label, nbytes in found.flash]
    rows.append(("**flash**", "**constants and code**", found.flash_bytes))
    rows += [("RAM", label, nbytes) for label, nbytes in found.ram]
    rows.append(("**RAM**", "**arena**", found.ram_bytes))
    rows.append(("RAM", "`x` and `y`, provided by the caller", 4 * (program.input_size + program.network.n_out)))
    if program.positions:
        nbytes = sum(4 * weights.shape[0] * weights.shape[1] for weights in program.positions)
        rows.append(("RAM", f"with `{program.macro}_EXPAND`: weights, computed once", nbytes))
    rows.append(("RAM", f"stack, upper bound with optimization; {STACK_BYTES_UNOPTIMIZED} with -O0", STACK_BYTES))
    return "".join(f"| {kind} | {label} | {nbytes} |\n" for kind, label, nbytes in rows)
