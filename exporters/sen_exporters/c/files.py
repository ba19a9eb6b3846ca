"""Files of the folder: templates, and the manifests of PlatformIO and Arduino.

Names for Zephyr begin with `sen_`: Zephyr has options, libraries and modules called `net`, `log` or `sensor`, and
merges entries with the same name.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import version

from jinja2 import Environment, PackageLoader, StrictUndefined

from sen_exporters.c import names
from sen_exporters.c.budget import STACK_BYTES, STACK_BYTES_UNOPTIMIZED, Footprint
from sen_exporters.c.golden import golden
from sen_exporters.c.integer import IntegerProgram
from sen_exporters.c.integer_golden import integer_golden
from sen_exporters.c.library import closure, regions
from sen_exporters.c.memory import ALIGNMENT, WIDTH, Constant, binary, definition, literals, number, placed, rows
from sen_exporters.c.program import Program
from sen_exporters.c.shared_kernels import kernels_id, shared_kernels
from sen_exporters.c.weights import Member

#: Of the header, in the order of `with_hash`.
_HASH = re.compile(r"^(#define \w+_MODEL_HASH ).*\n(#define \w+_MODEL_ID ).*$", re.MULTILINE)
#: Templates of files that build the sources of a `Program`.
BUILD_FILES = (
    *("CMakeLists.txt", "Makefile", "zephyr/module.yml", "zephyr/CMakeLists.txt", "zephyr/Kconfig"),
    *("micropython.mk", "micropython.cmake", "micropython/module.c"),
    "examples/SelfTest/SelfTest.ino",
)
_PROPERTY = re.compile(r"^ \*   (.+?): (.*)$", re.MULTILINE)


def folder(program: Program, found: Footprint, additional: Mapping[str, str]) -> dict[str, str | bytes]:
    """Header, weights, self-test, README, and files for CMake, Zephyr, PlatformIO and Arduino, by file name.

    Those of `additional` are listed in the manifests.
    """
    name = program.name
    files: dict[str, str | bytes] = {f"{name}.{kind}": render(f"network.{kind}", program) for kind in ("h", "hpp")}
    files |= additional
    if given := names.names(program.network):
        files[f"{name}_names.h"] = render("names.h", program, names=given)
    if program.is_binary:
        files[f"{name}_weights.bin"] = binary(program.constants)
        files[f"{name}_weights.S"] = render("weights.S", program, alignment=ALIGNMENT)
    is_train = program.network.coding.is_binary
    if program.shares_kernels:
        files |= shared_kernels()
    vectors = integer_golden(program) if isinstance(program, IntegerProgram) else golden(program)
    files[f"{name}_selftest.c"] = render(
        "selftest.c", program, golden=vectors, is_train=is_train, flash=regions()["flash_types"].text
    )
    for template in BUILD_FILES:
        files[template] = render(template, program)
    files["README.md"] = render(
        "README.md",
        program,
        found=found,
        names_bytes=names.nbytes(program.network),
        stack=STACK_BYTES,
        stack_unoptimized=STACK_BYTES_UNOPTIMIZED,
    )
    return files | _arduino(program, [f"{name}.c", *files])


def source(program: Program, title: Sequence[str], properties: Mapping[str, str]) -> str:
    """NAME.c, which begins with a comment of `title` and `properties`."""
    kernels = () if program.shares_kernels else _kernels(program)
    return render("network.c", program, head=comment(title, properties), kernels=kernels, kernels_id=kernels_id())


def _kernels(program: Program) -> Iterable[str]:
    """Regions of the library; those of one build only are conditional on NAME_EXPAND."""
    plain, expanded = closure(program.functions), closure(program.expanded_functions)
    for name, region in closure({*plain, *expanded}).items():
        text = region.text.replace("SEN_PRIVATE", "static")
        if name in plain and name in expanded:
            yield text
        else:
            yield f"#if{'n' * (name in plain)}def {program.macro}_EXPAND\n{text}#endif\n"
    for end, functions in program.conditional_functions.items():
        for name, region in closure(functions).items():
            if name not in plain:
                yield f"#ifdef {program.macro}_{end}\n{region.text.replace('SEN_PRIVATE', 'static')}#endif\n"


def _arduino(program: Program, others: Iterable[str]) -> dict[str, str]:
    """library.json for PlatformIO, library.properties for Arduino; `others` are all other files of the folder."""
    name, sentence = program.name, f"A {program.architecture} neural network"
    sources = [*program.sources, *program.kernel_sources, f"{name}_selftest.c"]
    manifest = {
        "name": name,
        "version": version("sen-edge"),
        "description": f"{sentence}, exported by sen-edge.",
        "headers": f"{name}.h",
        "frameworks": "*",
        "platforms": "*",
        "build": {
            "srcDir": ".",
            "includeDir": ".",
            "srcFilter": [f"+<{source}>" for source in sources],
            **({"flags": "-lm"} if program.needs_libm else {}),
        },
        # without a list `pio pkg pack` leaves out *.bin
        "export": {"include": sorted([*others, "library.json", "library.properties"])},
    }
    properties = {
        "name": name,
        "version": version("sen-edge"),
        "author": "sen-edge",
        "maintainer": "sen-edge",
        "sentence": f"{sentence}.",
        "paragraph": "Exported by sen-edge. The example runs its self-test.",
        "category": "Data Processing",
        "url": "https://arxiv.org/abs/2506.13410",
        "architectures": "*",
        "includes": f"{name}.h",
        **({"dot_a_linkage": "true"} if program.shares_kernels else {}),  # else the kernels of two libraries collide
    }
    return {
        "library.json": json.dumps(manifest, indent=2) + "\n",
        "library.properties": "".join(f"{key}={value}\n" for key, value in properties.items()),
    }


def comment(title: Iterable[str], properties: Mapping[str, str]) -> str:
    """The comment at the top of a file: a title, and `properties`, which `read_properties` reads."""
    entries = [f"{_escape(key)}: {_escape(value)}" for key, value in sorted(properties.items())]
    lines = [*title, "", *(f"  {line}" for line in entries)]
    return "/*\n" + "".join(f" * {line}".rstrip() + "\n" for line in lines) + " */\n"


def render(template: str, program: Program, package: str = __package__, **values: object) -> str:
    """Fill the template of that name in the folder `templates` of `package`."""
    found = _templates(package).get_template(f"{template}.jinja")
    shared = {"network": program.network, "scaling": program.scaling, "version": version("sen-edge")}
    return found.render(program=program, name=program.name, macro=program.macro, **shared, **values)


@cache
def _templates(package: str) -> Environment:
    found = Environment(
        loader=PackageLoader(package),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters |= {
        "binary": binary,
        "comment": _wrapped,
        "definition": definition,
        "literal": _literal,
        "number": number,
        "placed": placed,
        "string": names.string,
        "rows": lambda array: rows(literals(array.ravel())),
    }
    return found


def _literal(value: Member) -> str:
    if isinstance(value, Constant):
        return value.symbol
    return number(value) if isinstance(value, float) else str(value)


def _wrapped(text: str) -> str:
    return textwrap.fill(f"/* {text} */", WIDTH, subsequent_indent="   ", break_on_hyphens=False)


def read_properties(text: str) -> dict[str, str]:
    """Properties in the first comment of a file."""
    head = text[: text.find("*/")]
    return {_unescape(key): _unescape(value) for key, value in _PROPERTY.findall(head)}


def with_properties(text: str, properties: Mapping[str, str]) -> str:
    """The file with the properties of its first comment replaced."""
    end = text.index("*/") + 3
    title = [line[3:] for line in text[:end].splitlines()[1:-1] if line.startswith(" * ") and line[3] != " "]
    return comment(title, properties) + text[end:]


def with_hash(header: str, sha256: str) -> str:
    """NAME.h with the hash of the model's file."""
    return _HASH.sub(rf'\g<1>"{sha256}"\n\g<2>0x{sha256[:8]}ul', header, count=1)


def _escape(text: str) -> str:
    """Text that cannot end a comment: plain, or as a JSON string."""
    is_plain = text.isascii() and text.isprintable() and not re.search(r'[*/]{2}|[\\":?]|^ | $|^$', text)
    if is_plain:
        return text
    quoted = json.dumps(text)
    for character in "/?:":
        quoted = quoted.replace(character, f"\\u{ord(character):04x}")
    return quoted


def _unescape(text: str) -> str:
    try:
        return str(json.loads(text)) if text.startswith('"') else text
    except ValueError:  # not written by `with_properties`
        return text
