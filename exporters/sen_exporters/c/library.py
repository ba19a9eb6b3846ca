"""The C library's source, cut into functions, of which an export takes those that it needs.

The library is written so that this works: in each file callees come before their callers, names are unique over all
files, blank lines separate what stands at the top level, conditions around several functions among it, and kernels for
one instruction set of the host lie behind `#ifdef SEN_ISA`. Tests compile what comes out.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

#: The files that may hold what a network runs, callees first.
KERNEL_FILES = (
    "convert.c",
    "coordinates.c",
    "dense.c",
    "panels.c",
    "pairs.c",
    "finite.c",
    "int8.c",
    "sparse.c",
    "sparse_int8.c",
    "streams.c",
    "lif.c",
    "run.c",
)
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_FUNCTION = re.compile(r"^(?:[\w\s*]+?)\b(\w+)\s*\([^;{]*\)\s*\{", re.MULTILINE)
_MACRO = re.compile(r"^#define (\w+)", re.MULTILINE)
_INCLUDE = re.compile(r"^#include <[^>]+>$", re.MULTILINE)
_DIRECTIVE = re.compile(r"#(ifdef|ifndef|if|else|endif)\b[^\n]*")
_WORD = re.compile(r"\w+")
#: Conditions that are about instruction sets a device does not have.
_INSTRUCTION_SET = re.compile(r"SEN_ISA|__AVX\w*|__F16C__|__FMA__")


@dataclass(frozen=True)
class Piece:
    """One thing at the top level of a file, with the comment above it.

    Attributes:
        file: where it stands.
        defines: the function, or the macros; empty for types, which are always kept.
        text: the code.
        words: every word in it, comments aside.
        conditions: the preprocessor's around it, outermost first: lines that begin with `#if`.
    """

    file: str
    defines: tuple[str, ...]
    text: str
    words: frozenset[str]
    conditions: tuple[str, ...] = ()


@cache
def types() -> tuple[Piece, ...]:
    """What describes a network, from network.h: types, constants, and the small functions that all kernels share."""
    text = _source("network.h")
    inside = text[text.index('extern "C" {\n#endif\n') :].split("#endif\n", 1)[1]
    inside = inside[: inside.rindex("#ifdef __cplusplus")]
    return tuple(piece for piece in _pieces("network.h", inside) if not _only_declares(piece))


@cache
def kernels() -> tuple[Piece, ...]:
    """Every function of the library that runs a network, and the macros it uses."""
    return tuple(piece for name in KERNEL_FILES for piece in _pieces(name, _source(name)))


def includes(used: Collection[Piece]) -> list[str]:
    """The standard headers that the files of these pieces include."""
    names = {piece.file for piece in used} & set(KERNEL_FILES)
    return sorted({line for name in names for line in _INCLUDE.findall(_without_instruction_sets(_source(name)))})


def needed(roots: Collection[str]) -> frozenset[Piece]:
    """The functions and macros called `roots`, all that these use, and the types."""
    pieces = [*types(), *kernels()]
    by_name = {name: piece for piece in pieces for name in piece.defines}
    absent = sorted(set(roots) - set(by_name))
    if absent:
        raise LookupError(f"the C library has no function {', '.join(absent)}")
    found = {piece for piece in pieces if not piece.defines}
    waiting = [by_name[root] for root in roots]
    while waiting:
        piece = waiting.pop()
        if piece not in found:
            found.add(piece)
            waiting += [by_name[word] for word in piece.words if word in by_name]
    files_used = {piece.file for piece in found if piece.defines} | {"network.h"}
    return frozenset(piece for piece in found if piece.file in files_used)


@cache
def heading(file: str) -> str:
    """The comment that a file begins with."""
    found = _COMMENT.match(_source(file))
    return "" if found is None else found.group()


def as_static(text: str) -> str:
    """A function that no other file sees."""
    comment = _COMMENT.match(text)
    start = 0 if comment is None else comment.end() + 1
    is_outside = _FUNCTION.match(text, start) and not text.startswith("static", start)
    return f"{text[:start]}static {text[start:]}" if is_outside else text


def _source(name: str) -> str:
    return (files("sen_runtime") / "c" / "src" / name).read_text(encoding="utf-8")


def _pieces(file: str, text: str) -> list[Piece]:
    chunks: list[str] = []
    for block in _without_instruction_sets(text).split("\n\n"):
        if chunks and _is_open(chunks[-1]):
            chunks[-1] += "\n\n" + block
        else:
            chunks.append(block.strip("\n"))
    pieces: list[Piece] = []
    conditions: list[str] = []
    for chunk in chunks:
        directive = _DIRECTIVE.fullmatch(chunk)
        if directive is None:
            if chunk and not _is_head(chunk):
                pieces.append(_piece(file, chunk, tuple(conditions)))
        elif directive.group(1) == "endif":
            conditions.pop()
        elif directive.group(1) == "else":
            conditions[-1] = _opposite(conditions[-1])
        else:
            conditions.append(chunk)
    return pieces


def _piece(file: str, text: str, conditions: tuple[str, ...]) -> Piece:
    code = _COMMENT.sub("", text).strip()
    function = _FUNCTION.match(code)
    defines = _MACRO.findall(code) if function is None else [function.group(1)]
    words = _WORD.findall(" ".join([code, *conditions]))
    return Piece(file, tuple(defines), text, frozenset(words), conditions)


def _opposite(condition: str) -> str:
    word, _, rest = condition.partition(" ")
    return {"#ifdef": f"#ifndef {rest}", "#ifndef": f"#ifdef {rest}"}.get(word, f"#if !({rest})")


def _is_open(chunk: str) -> bool:
    """Whether a brace is open at the end, so that a blank line lies inside a function or structure."""
    code = _COMMENT.sub("", chunk)
    return code.count("{") > code.count("}")


def _is_head(chunk: str) -> bool:
    """What a file begins with: its own comment and the headers it includes."""
    code = _COMMENT.sub("", chunk).strip()
    return all(line.startswith("#include") for line in code.splitlines())


def _only_declares(piece: Piece) -> bool:
    code = _COMMENT.sub("", piece.text).strip()
    is_other = code.startswith(("typedef", "struct", "enum", "static", "#"))
    return not piece.defines and not is_other


def _without_instruction_sets(text: str) -> str:
    """The text as the preprocessor sees it where no instruction set is named; other conditions stay."""
    lines, stack = [], []
    for line in text.splitlines():
        directive = re.match(r"#\s*(ifndef|ifdef|if|else|elif|endif)\b\s*(.*)", line)
        word, rest = directive.groups() if directive else ("", "")
        is_ours = False
        if word in ("if", "ifdef", "ifndef"):
            is_ours = _INSTRUCTION_SET.fullmatch(rest) is not None
            stack.append((is_ours, not is_ours or word == "ifndef"))
        elif word == "else" and stack[-1][0]:
            is_ours = True
            stack[-1] = (True, not stack[-1][1])
        elif word == "endif":
            is_ours = stack.pop()[0]
        if not is_ours and all(is_kept for _, is_kept in stack):
            lines.append(line)
    return "\n".join(lines) + "\n"
