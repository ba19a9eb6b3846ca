"""NAME.c: the kernels that a network needs, its structures as constants, and its public functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sen_exporters.c.library import closure
from sen_exporters.c.program import Program
from sen_exporters.c.text import comment, render


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
