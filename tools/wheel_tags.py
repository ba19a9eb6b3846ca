"""Checks that the libraries of a wheel match its platform tag, from the headers and symbols of the files.

A tag that promises too much is found by users only: pip installs the wheel, and the loader refuses the library.
"""

from __future__ import annotations

import re
import struct
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from elftools.elf.elffile import ELFFile

MAX_BYTES = 2_000_000
#: Files in `sen_runtime/c`, by the beginning of the tag.
LIBRARIES = {
    "macosx": {"libsen.dylib", "libsen_call.so"},
    "win": {"sen.dll"},
    "": {"libsen.so", "libsen_call.so"},
}
#: Processor in the file's header, by the end of the tag.
MACHINES = {
    "x86_64": "x86_64",
    "aarch64": "aarch64",
    "arm64": "aarch64",
    "armv7l": "arm",
    "armv6l": "arm",
    "amd64": "x86_64",
}
MACHO = {0x01000007: "x86_64", 0x0100000C: "aarch64"}
PE = {0x8664: "x86_64", 0xAA64: "aarch64"}
ELF = {"EM_X86_64": "x86_64", "EM_AARCH64": "aarch64", "EM_ARM": "arm"}
#: What every system has; musl has all in one.
SYSTEM = {"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "ld-linux-armhf.so.3"}
MUSL = {"libc.so"}
#: Newest glibc of wheels whose tag names none: Raspberry Pi OS 11 has 2.31.
DEFAULT_GLIBC = (2, 31)
#: Values of Tag_CPU_arch that the oldest processor of the tag runs: up to v6KZ and v6K, and v7. 8 is v6T2.
ARM_ARCHITECTURES = {"armv6l": {0, 1, 2, 3, 4, 5, 6, 7, 9}, "armv7l": {*range(11)}}


def problems(wheel: Path) -> list[str]:
    """Contradictions between a wheel and the tag in its name, each with the name of the wheel."""
    tag = wheel.stem.split("-")[-1]
    return [f"{wheel.name}: {each}" for each in _problems(wheel, tag)]


def _problems(wheel: Path, tag: str) -> Iterator[str]:
    if wheel.stat().st_size > MAX_BYTES:
        yield f"{wheel.stat().st_size:,} bytes; expected at most {MAX_BYTES:,}"
    with zipfile.ZipFile(wheel) as archive:
        metadata = next(name for name in archive.namelist() if name.endswith(".dist-info/WHEEL"))
        if f"Tag: py3-none-{tag}" not in archive.read(metadata).decode().splitlines():
            yield f"its metadata has no tag py3-none-{tag}"
        files = {name for name in archive.namelist() if re.fullmatch(r"sen_runtime/c/[^/]*\.(so|dylib|dll|a)", name)}
        expected = next(names for start, names in LIBRARIES.items() if tag.startswith(start))
        if {Path(name).name for name in files} != expected:
            yield f"libraries {sorted(files)}; expected {sorted(expected)}"
        for name in sorted(files):
            for each in library_problems(archive.read(name), tag):
                yield f"{Path(name).name}: {each}"


def library_problems(data: bytes, tag: str) -> Iterator[str]:
    """Contradictions between a library and a platform tag."""
    machine, expected = machine_of(data), next(value for end, value in MACHINES.items() if tag.endswith(end))
    if machine != expected:
        yield f"is for {machine}; expected {expected}"
    if data[:4] == b"\x7fELF":
        yield from elf_problems(ELFFile(BytesIO(data)), tag)


def machine_of(data: bytes) -> str:
    """Processor that a library is for."""
    if data[:4] == b"\x7fELF":
        return ELF.get(ELFFile(BytesIO(data))["e_machine"], "another processor")
    if data[:2] == b"MZ":
        (start,) = struct.unpack_from("<I", data, 0x3C)
        return PE.get(struct.unpack_from("<H", data, start + 4)[0], "another processor")
    magic, processor = struct.unpack_from("<II", data)
    return MACHO.get(processor, "another processor") if magic == 0xFEEDFACF else "an unknown format"


def elf_problems(library: ELFFile, tag: str) -> Iterator[str]:
    """Libraries and versions of symbols that systems of the tag lack, and instructions that its processor lacks."""
    is_musl = tag.startswith("musllinux")
    dynamic = library.get_section_by_name(".dynamic")
    needed = {each.needed for each in dynamic.iter_tags("DT_NEEDED")}
    if surplus := needed - (MUSL if is_musl else SYSTEM):
        yield f"requires {', '.join(sorted(surplus))}"
    named = re.match(r"manylinux_(\d+)_(\d+)_", tag)
    newest = (int(named[1]), int(named[2])) if named else DEFAULT_GLIBC
    for symbol, version in sorted(glibc_symbols(library).items()):
        if is_musl or version > newest:
            yield f"symbol {symbol} is of glibc {'.'.join(map(str, version))}"
    processor = tag.rpartition("_")[2]
    if processor in ARM_ARCHITECTURES:
        attributes = arm_attributes(library)
        if attributes.get("TAG_CPU_ARCH") not in ARM_ARCHITECTURES[processor]:
            yield f"has instructions of a newer processor (Tag_CPU_arch {attributes.get('TAG_CPU_ARCH')})"
        if attributes.get("TAG_ABI_VFP_ARGS") != 1:
            yield "passes floats in integer registers"


def glibc_symbols(library: ELFFile) -> dict[str, tuple[int, ...]]:
    """Symbols of glibc that a library requires, and the version that introduced each."""
    required = library.get_section_by_name(".gnu.version_r")
    if required is None:
        return {}
    names = {aux["vna_other"]: aux.name for _, versions in required.iter_versions() for aux in versions}
    versions = library.get_section_by_name(".gnu.version")
    found = {}
    for number, symbol in enumerate(library.get_section_by_name(".dynsym").iter_symbols()):
        name = names.get(versions.get_symbol(number)["ndx"], "")
        if symbol["st_shndx"] == "SHN_UNDEF" and name.startswith("GLIBC_"):
            found[symbol.name] = tuple(map(int, name.removeprefix("GLIBC_").split(".")))
    return found


def arm_attributes(library: ELFFile) -> dict[str, int]:
    """Build attributes of 32-bit ARM."""
    section = library.get_section_by_name(".ARM.attributes")
    if section is None:
        return {}
    parts = [part for each in section.iter_subsections() for part in each.iter_subsubsections()]
    return {attribute.tag: attribute.value for part in parts for attribute in part.iter_attributes()}
