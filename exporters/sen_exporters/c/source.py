"""NAME.h and NAME.c: the structures of a network as constants, the kernels it needs, and its public functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sen_exporters.c.flash import Constant, binary_macros, definition, number
from sen_exporters.c.library import closure
from sen_exporters.c.program import LoweredLayer, Program
from sen_exporters.c.text import comment, paragraph
from sen_exporters.c.weights import Member, Members, Weights


@dataclass(frozen=True)
class Function:
    """A public function; the body is without braces."""

    comment: str
    prototype: str
    body: str


def header(program: Program) -> str:
    """NAME.h."""
    name, macro, network = program.name, program.macro, program.network
    sizes = {"INPUTS": network.n_in, "OUTPUTS": network.n_out, "LAYERS": len(program.layers)}
    if network.is_spiking:
        sizes["TIMESTEPS"] = network.timesteps
    sizes["ARENA_BYTES"] = program.arena_bytes
    text = f"In {name}_selftest.c: 0 if this device computes the outputs of the export, else the first wrong vector."
    functions = [*_functions(program), Function(text, f"int {name}_selftest(void)", "")]
    return f"""\
/* {name}: a {program.architecture} network. README.md describes its use. */
#ifndef {macro}_H
#define {macro}_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

{"".join(f"#define {macro}_{name} {size}{chr(10)}" for name, size in sizes.items())}
/* All memory that changes while the network runs. The caller provides one for each task that runs the network. */
typedef union {name}_arena {{
    float work[{macro}_ARENA_BYTES / 4];
    uint64_t alignment;
}} {name}_arena;

{"".join(f"{paragraph(each.comment)}{each.prototype};{chr(10)}{chr(10)}" for each in functions)}#ifdef __cplusplus
}}
#endif

#endif
"""


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
        _CHECKS,
        *(f"{each.prototype}\n{{\n{each.body}}}\n" for each in _functions(program)),
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


#: A value, not a condition, so that no function is left unused.
_CHECKS = """\
#ifdef SEN_ALLOW_NONFINITE
#define SEN_CHECKS_INPUTS 0
#else
#define SEN_CHECKS_INPUTS 1
#endif
"""


def _functions(program: Program) -> list[Function]:
    """Public functions of the network."""
    name, macro, network = program.name, program.macro, program.network
    arena, x, y = f"{name}_arena *arena", f"const float x[{macro}_INPUTS]", f"float y[{macro}_OUTPUTS]"
    rules = "x, y and the arena do not overlap. Returns 0, or 1 if x holds NaN or infinity; then nothing is written."
    found = []
    if program.positions:
        text = f"Compiled with {macro}_EXPAND, call this once before all others; without, it has no effect."
        found.append(Function(text, f"void {name}_init(void)", _expansion(program)))
    if network.is_spiking:
        size = f"{macro}_TIMESTEPS * {macro}_INPUTS" if network.input_coding == "spikes" else f"{macro}_INPUTS"
        text = f"All steps of one inference, from membranes of 0. Call {name}_reset before a {name}_step that follows."
        run = f"int {name}_run({arena}, const float x[{size}], {y})"
        found.append(Function(f"{text} {rules}", run, _checked("run_spiking", f"(size_t){size}")))
        reset = f"void {name}_reset({arena})"
        body = "    sen_network_reset(&network, arena->work);\n"
        found.append(Function("Resets the membranes to 0, before the first step.", reset, body))
        out = "spikes" if network.readout == "spike_count" else "membranes"
        step = f"int {name}_step({arena}, {x}, {y})"
        text = f"One time step: y are the {out} of the last layer. {rules}"
        found.append(Function(text, step, _checked("sen_network_step", f"{macro}_INPUTS")))
        text = "The spikes (membranes, of a layer without) of a layer in the last step or run, and their number"
    else:
        run = f"int {name}_run({arena}, {x}, {y})"
        found.append(
            Function(f"One inference from x to y. {rules}", run, _checked("run_perceptron", f"{macro}_INPUTS"))
        )
        text = "The activations of a layer in the last run, and their number"
    text += "; null for a layer that keeps none. Undefined before that."
    output = f"const float *{name}_layer_output(const {arena}, uint32_t layer, uint32_t *size)"
    return [*found, Function(text, output, _layer_output(program))]


def _checked(function: str, size: str) -> str:
    """A call of `function`, if `size` inputs are finite."""
    return f"""\
    if (SEN_CHECKS_INPUTS && !sen_is_finite(x, {size}))
        return 1;
    {function}(&network, arena->work, x, y);
    return 0;
"""


def _layer_output(program: Program) -> str:
    n_kept = sum("out" in layer.members for layer in program.layers)
    if n_kept == 0:
        return "    (void)arena;\n    (void)layer;\n    *size = 0;\n    return NULL;\n"
    return f"""\
    const int is_kept = layer < {n_kept};
    *size = is_kept ? layers[layer].n_out : 0;
    return is_kept ? arena->work + layers[layer].out : NULL;
"""


def _expansion(program: Program) -> str:
    """Computes the weights of positions."""
    loops = "".join(
        f"""\
    for (i = 0; i < {name}.rows; i++)
        for (j = 0; j < {name}.columns; j++)
            {name}_values[(size_t)i * {name}.columns + j] = sen_weight(&{name}_positions, i, j);
"""
        for name in (weights.symbol for weights in program.positions)
    )
    return f"#ifdef {program.macro}_EXPAND\n    uint32_t i, j;\n{loops}#endif\n"
