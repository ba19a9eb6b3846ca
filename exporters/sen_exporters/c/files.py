"""What surrounds NAME.c: build files for CMake, Zephyr, PlatformIO and Arduino, and a README."""

from __future__ import annotations

import json
from collections.abc import Iterable

from sen_exporters.c.budget import STACK_BYTES, STACK_BYTES_UNOPTIMIZED, Footprint, Item, size, total
from sen_exporters.c.plan import Plan
from sen_exporters.c.source import blob_symbol


def assembly(name: str) -> str:
    """NAME_weights.S: puts NAME_weights.bin into the program."""
    symbol = blob_symbol(name)
    return f"""\
/* The weights of {name}, from {name}_weights.bin beside this file; for ELF, little endian. */
    .section .rodata.{symbol}, "a", %progbits
    .balign 16
    .global {symbol}
    .hidden {symbol}
    .type {symbol}, %object
{symbol}:
    .incbin "{name}_weights.bin"
    .size {symbol}, . - {symbol}

#ifdef __linux__
    .section .note.GNU-stack, "", %progbits
#endif
"""


def cmake(plan: Plan, *, is_binary: bool) -> str:
    """CMakeLists.txt: the library NAME, and the test NAME_selftest where this is the top-level project."""
    name, macro = plan.prefix, plan.prefix.upper()
    weights = f" {name}_weights.S" if is_binary else ""
    depends = ""
    if is_binary:
        depends = (
            f"set_source_files_properties({name}_weights.S PROPERTIES\n"
            f"  OBJECT_DEPENDS ${{CMAKE_CURRENT_SOURCE_DIR}}/{name}_weights.bin)\n"
        )
    mathematics = f"if(UNIX)\n  target_link_libraries({name} PUBLIC m)\nendif()\n" if plan.has_positions else ""
    expand = ""
    if plan.has_positions:
        expand = f"""\
option({macro}_EXPAND "Write the weights out into RAM once, in {name}_init" OFF)
if({macro}_EXPAND)
  target_compile_definitions({name} PUBLIC {macro}_EXPAND)
endif()
"""
    return f"""\
# add_subdirectory(.../{name}) and target_link_libraries(your_target {name}); alone it builds the self-test as well.
cmake_minimum_required(VERSION 3.13)
project({name} LANGUAGES C{" ASM" if is_binary else ""})

add_library({name} STATIC {name}.c{weights})
target_include_directories({name} PUBLIC ${{CMAKE_CURRENT_SOURCE_DIR}})
target_compile_features({name} PRIVATE c_std_99)
{depends}{mathematics}{expand}if(CMAKE_C_COMPILER_ID MATCHES "GNU|Clang")
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


def zephyr(plan: Plan, *, is_binary: bool) -> dict[str, str]:
    """A Zephyr module: its description, its CMakeLists.txt and its Kconfig.

    Zephyr has options, libraries and modules called `net`, `log` or `sensor`, and merges what has the same name.
    """
    name, macro = plan.prefix, plan.prefix.upper()
    weights = f"  zephyr_library_sources(../{name}_weights.S)\n" if is_binary else ""
    expand, choose, library = "", "", ""
    if plan.has_positions:
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


def arduino(plan: Plan, version: str, others: Iterable[str], *, is_binary: bool) -> dict[str, str]:
    """library.json for PlatformIO, library.properties for Arduino.

    Args:
        plan: of the network.
        version: of the library.
        others: all other files of the folder.
        is_binary: whether the constants are a binary file.
    """
    name = plan.prefix
    sources = [f"{name}.c", f"{name}_selftest.c", *([f"{name}_weights.S"] if is_binary else [])]
    sizes = "-".join(map(str, plan.network.layer_sizes))
    manifest = {
        "name": name,
        "version": version,
        "description": f"A {sizes} neural network, exported by sen-edge.",
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
        "sentence": f"A {sizes} neural network.",
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


def readme(plan: Plan, found: Footprint, *, is_binary: bool) -> str:
    """README.md: how to use the folder, and what the network takes."""
    name, macro, network = plan.prefix, plan.prefix.upper(), plan.network
    what = f"{'-'.join(map(str, network.layer_sizes))} {'spiking ' if network.is_spiking else ''}network"
    n_input = f"{macro}_TIMESTEPS * {macro}_INPUTS" if network.input_coding == "spikes" else f"{macro}_INPUTS"
    initialize = f"{name}_init(); /* once */\n" if plan.has_positions else ""
    sources = f"`{name}.c`" + (f" and `{name}_weights.S`" if is_binary else "")
    mathematics = "; link with -lm" if plan.has_positions else ""
    return f"""\
# {name}

A {what} in C99: no heap, no globals, no stdio. The head of `{name}.c` says
which model it was made from.

```c
#include "{name}.h"

static {name}_arena arena; /* {plan.arena_bytes} bytes; one for each task that runs the network */
static float x[{n_input}], y[{macro}_OUTPUTS];

{initialize}if ({name}_run(&arena, x, y) != 0)
    handle_error(); /* x holds NaN or infinity; nothing was computed */
```
{_steps(plan) if network.is_spiking else ""}
{_rules(plan)}
## What it takes

| | bytes | |
| --- | --- | --- |
{_row("flash: constants", found.constants, "exact")}\
{_row("flash: code", found.code, "upper estimate: Cortex-M4 with FPU, gcc -Os, without the C library's own functions")}\
| **flash** | **{found.flash_bytes}** | {size(found.flash_bytes)} |
{_row("RAM: arena", found.ram, "exact")}\
| RAM: `x` and `y` | {4 * (plan.input_size + network.n_out)} | exact; the caller's |
{_expanded_row(plan)}\
| RAM: stack | {STACK_BYTES} | upper estimate with optimization, -Og included; {STACK_BYTES_UNOPTIMIZED} with -O0 |

| constants | bytes |
| --- | --- |
{_list(found.constants)}
| code | bytes |
| --- | --- |
{_list(found.code)}
| arena | bytes |
| --- | --- |
{_list(found.ram)}
## Build it

| with | how |
| --- | --- |
| any compiler | add {sources} to the sources and this folder to the include path{mathematics} |
| CMake | `add_subdirectory({name})`, `target_link_libraries(your_target {name})` |
| Zephyr | `-DZEPHYR_EXTRA_MODULES=/path/to/{name}`, and `CONFIG_SEN_{macro}=y` in prj.conf |
| PlatformIO, Arduino | this folder into `lib/`, or into the sketchbook's `libraries/` |

Does it compute on your device what was computed at export? `{name}_selftest()` of
`{name}_selftest.c` is 0 if it does. On the host:
`cmake -B build && cmake --build build && ctest --test-dir build`. That file brings a `main`;
where your project builds every file it finds, define `SEN_SELFTEST_NO_MAIN`.
"""


def _steps(plan: Plan) -> str:
    name = plan.prefix
    return f"""
Step by step: `{name}_reset(&arena)`, then `{name}_step(&arena, x, y)` for each input `x [{plan.network.n_in}]`;
the membranes stay in the arena.
"""


def _rules(plan: Plan) -> str:
    name, last, called = plan.prefix, "run", f"`{plan.prefix}_run` returns"
    reset = ""
    if plan.network.is_spiking:
        last, called = "step or run", f"`{name}_run` and `{name}_step` return"
        reset = f"- After `{name}_run` call `{name}_reset` before `{name}_step`: a run leaves membranes of its own.\n"
    return f"""\
- {called} 0, or 1 where `x` holds NaN or infinity; then `y` and the arena are unchanged. Compiled
  with `SEN_ALLOW_NONFINITE` they do not check, and the outputs of such inputs are undefined.
- `x`, `y` and the arena do not overlap.
{reset}- `{name}_layer_output` is what the last {last} left of a layer, and undefined before the first.
"""


def _row(what: str, items: tuple[Item, ...], remark: str) -> str:
    return f"| {what} | {total(items)} | {remark} |\n"


def _list(items: tuple[Item, ...]) -> str:
    return "".join(f"| {item.what} | {item.nbytes} |\n" for item in items)


def _expanded_row(plan: Plan) -> str:
    if not plan.has_positions:
        return ""
    macro, nbytes = plan.prefix.upper(), plan.expanded_bytes
    return (
        f"| RAM with `{macro}_EXPAND` | {nbytes} | more, exact; every weight is then computed once, not in each run |\n"
    )
