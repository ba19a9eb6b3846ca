"""Check exported C against the rules of MISRA C:2012 that cppcheck knows, and explain each rule that it does not keep.

    python benchmarks/misra.py [--write]

`--write` writes the table of docs/reference/misra.md. Exits with code 3 if a rule is broken that `DEVIATIONS` does not
explain. Requires cppcheck with its addon `misra`.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from benchmarks.pages import write_section
from sen_edge.passes.quantize import to_int8_weights
from sen_exporters.c.exporter import CExporter, COptions
from sen_runtime.ir.network import Network
from tests.support.c_exports import integers, small

PAGE = Path(__file__).parents[1] / "docs/reference/misra.md"
KERNELS = "sen_kernels"
#: Weight form and storage of a network, and whether it is spiking.
NETWORKS = (
    ("dense", "float32", False),
    ("dense", "int8-dynamic", False),
    ("sparse", "float32", False),
    ("coordinates", "float32", False),
    ("sum", "float32", True),
    ("sum", "int8", False),
    ("sum", "int8", True),
)
STORED = {"float32": lambda network: network, "int8-dynamic": to_int8_weights, "int8": integers}
#: Why exported C does not keep a rule, by rule; with its category, required or advisory.
DEVIATIONS = {
    "2.4": ("advisory", "Constants of one subject are an enumeration without a tag; no object has that type."),
    "2.5": ("advisory", "Macros of `NAME.h` are for the user of the network; NAME.c alone does not use all."),
    "2.7": ("advisory", "Reported for functions whose parameters only assembly uses, which cppcheck does not read."),
    "5.7": ("required", "Reported for enumerations without a tag in headers that several files include."),
    "8.7": (
        "advisory",
        "Functions for other files: of `sen_kernels.c` for networks, of the self-test for the firmware.",
    ),
    "8.9": ("advisory", "Constant structures are next to each other at file scope, so that all flash is in one place."),
    "10.1": ("required", "Right shifts of negative numbers, which keep the sign in every supported compiler."),
    "10.3": (
        "required",
        "Integer literals in expressions of floats, and results of comparisons in `int`; no value changes.",
    ),
    "10.4": ("required", "Integer literals and enumeration constants next to `uint32_t` or floats; no value changes."),
    "10.7": ("required", "Offsets are computed in `size_t` from `uint32_t` factors, the first of which is converted."),
    "10.8": ("required", "Sums and masks are converted to another type where their range fits it."),
    "11.5": (
        "advisory",
        "Weights of several types are `const void *` with a number for the type, so that one structure has all.",
    ),
    "11.6": ("required", "Comparison of addresses in a loop that reads whole groups of words; Thumb-2 only."),
    "11.8": ("required", "Reported for the address of a constant that is passed as a pointer to constants."),
    "12.1": (
        "advisory",
        "Precedence of `*` over `+`, of comparisons over `&&`, and of all over `?:` is taken as known.",
    ),
    "12.3": ("advisory", "Reported for declarations with several names; no expression has a comma operator."),
    "13.3": ("advisory", "`*p++ = value` in loops over arrays."),
    "14.4": ("required", "Pointers and `int` as conditions: the code has no type for truth values."),
    "15.1": ("advisory", "Reported for `asm goto`, which leaves a check of four inputs; Thumb-2 only."),
    "15.5": ("advisory", "Functions return where the result is known."),
    "15.6": ("required", "Single statements without braces; `-Wmisleading-indentation` is an error in the tests."),
    "17.7": ("required", "Results of `memset`, `memcpy` and `printf`, and of a function that returns where it wrote."),
    "17.8": ("advisory", "A parameter that advances through an array, or through the layers."),
    "18.4": ("advisory", "Vectors are offsets into one arena, so pointers to them are sums."),
    "19.2": ("advisory", "The arena is a union, which aligns it to 8 bytes without an extension of C99."),
    "20.1": ("advisory", "Headers that only some kernels or processors need are included next to them."),
    "20.7": ("required", "A parameter of a macro that is a type, a name, or a part of a string of assembly."),
    "20.9": ("required", "Macros of stdint.h, which the check does not read."),
    "20.10": ("advisory", "Reported for `#` in strings of assembly, where it marks a number; Thumb only."),
    "21.6": ("required", "`printf` in the self-test, only if `SEN_SELFTEST_PRINT` is defined."),
}
_SITE = re.compile(r"^([\w./]+):(\d+):(\d+): .*\[misra-c2012-([\d.]+)\]$", re.MULTILINE)


def networks() -> dict[str, Network]:
    """Return small networks of all kinds by name."""
    return {
        f"{kind} {storage}{' spiking' * spiking}": STORED[storage](small(kind, spiking=spiking))
        for kind, storage, spiking in NETWORKS
    }


def count() -> dict[str, Counter[str]]:
    """Return the number of places at which each rule is broken: in the shared kernels, and in the files of networks."""
    found: dict[str, set[tuple[str, ...]]] = {"kernels": set(), "networks": set()}
    with tempfile.TemporaryDirectory() as folder:
        for name, network in networks().items():
            options = COptions(name=f"net {name}", kernels="shared", weights="array")
            path = CExporter().export(network, options).write(Path(folder))
            sources = [path, path.with_name(f"{path.stem}_selftest.c"), path.with_name(f"{KERNELS}.c")]
            for file, *place in _check(path.parent, sources if name == next(iter(networks())) else sources[:-1]):
                found["kernels" if Path(file).stem == KERNELS else "networks"].add((Path(file).name, *place))
    return {part: Counter(rule for *_, rule in places) for part, places in found.items()}


def _check(folder: Path, sources: Iterable[Path]) -> list[tuple[str, ...]]:
    """Return file, line, column and rule of each place; not on AVR, whose address spaces cppcheck does not know."""
    command = [
        "cppcheck",
        "-q",
        "--force",
        "-U__AVR__",
        "--addon=misra",
        "--std=c99",
        f"-I{folder}",
        *map(str, sources),
    ]
    return _SITE.findall(subprocess.run(command, check=True, capture_output=True, text=True).stderr)


def unexplained(counts: dict[str, Counter[str]]) -> list[str]:
    """Return rules that are broken and not in `DEVIATIONS`."""
    return sorted({rule for part in counts.values() for rule in part} - set(DEVIATIONS))


def table(counts: dict[str, Counter[str]]) -> list[str]:
    """Return the table of the page."""
    version = subprocess.run(["cppcheck", "--version"], check=True, capture_output=True, text=True).stdout.strip()
    lines = [
        f"{version}; networks: {', '.join(networks())}.",
        "",
        "| rule | category | kernels | networks | reason |",
        "| --- | --- | ---: | ---: | --- |",
    ]
    for rule, (category, reason) in DEVIATIONS.items():
        kernels, others = (counts[part][rule] for part in ("kernels", "networks"))
        if kernels or others:
            lines.append(f"| {rule} | {category} | {kernels or ''} | {others or ''} | {reason} |")
    return lines


def main(arguments: list[str]) -> int:
    """Print or write the table."""
    counts = count()
    if new := unexplained(counts):
        print(f"rules without an explanation: {', '.join(new)}", file=sys.stderr)
        return 3
    if arguments == ["--write"]:
        write_section(PAGE, table(counts))
    else:
        print("\n".join(table(counts)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
