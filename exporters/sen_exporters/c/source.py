"""NAME.c: the kernels that a network needs, its structures as constants, and its public functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sen_exporters.c.flash import Constant, binary_macros, definition, number
from sen_exporters.c.library import closure
from sen_exporters.c.program import LoweredLayer, Program
from sen_exporters.c.text import comment, render
from sen_exporters.c.weights import Member, Members, Weights


def source(program: Program, title: Sequence[str], properties: Mapping[str, str]) -> str:
    """NAME.c, which begins with a comment of `title` and `properties`."""
    constants = program.constants
    parts = [
        comment(title, properties),
        f'#include "{program.name}.h"\n',
        *_kernels(program),
        *([binary_macros(program.name, constants)] if program.is_binary else map(definition, constants)),
        *(_weights(program, weights) for weights in program.weights),
        *map(_terms, program.layers),
        "static const sen_layer layers[] = {\n"
        + "".join(f"    {{\n{_members(layer.members, 8)}    }},\n" for layer in program.layers)
        + "};\n",
        _structure("sen_kernels", "kernels", {"name": '"c99"', **program.kernels}),
        _structure("sen_network", "network", program.members),
        render("functions.c", program),
    ]
    return "\n".join(parts)


def _kernels(program: Program) -> Iterable[str]:
    """Regions of the library; those of one build only are conditional on NAME_EXPAND."""
    plain, expanded = closure(program.functions), closure(program.expanded_functions)
    for name, region in closure({*plain, *expanded}).items():
        text = region.text.replace("SEN_PRIVATE", "static")
        if name in plain and name in expanded:
            yield text
        else:
            yield f"#if{'n' * (name in plain)}def {program.macro}_EXPAND\n{text}#endif\n"


def _structure(kind: str, name: str, members: Members) -> str:
    return f"static const {kind} {name} = {{\n{_members(members)}}};\n"


def _members(members: Members, indent: int = 4) -> str:
    return "".join(f"{' ' * indent}.{name} = {_value(value)},\n" for name, value in members.items())


def _value(value: Member) -> str:
    if isinstance(value, Constant):
        return value.symbol if value.array.size else "NULL"
    return number(value) if isinstance(value, float) else str(value)


def _weights(program: Program, weights: Weights) -> str:
    name, (rows, columns) = weights.symbol, weights.shape
    if not weights.is_positions:
        return _structure("sen_weights", name, {"multiply": weights.kernel, **weights.members})
    expanded: Members = {"rows": rows, "columns": columns, "dtype": "SEN_FLOAT32", "values": f"{name}_values"}
    return f"""\
static const sen_weights {name}_positions = {{
#ifndef {program.macro}_EXPAND
    .multiply = {weights.kernel},
#endif
{_members(weights.members)}}};

#ifdef {program.macro}_EXPAND
static float {name}_values[{rows * columns}];
{_structure("sen_weights", name, {"multiply": "sen_dense_f32", **expanded})}#else
#define {name} {name}_positions
#endif
"""


def _terms(layer: LoweredLayer) -> str:
    """Factors of each term in the order of multiplication."""
    rows = [[f"&{weights.symbol}" for weights in term] + ["NULL"] for term in layer.terms]
    lines = "".join(f"    {{{row[0]}, {row[1]}}},\n" for row in rows)
    return f"static const sen_term {layer.members['terms']}[] = {{\n{lines}}};\n"
