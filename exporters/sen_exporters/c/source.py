"""NAME.h and NAME.c: the description of a network as constant data, and the functions it needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sen_exporters.c.library import closure
from sen_exporters.c.options import COptions
from sen_exporters.c.plan import DTYPES, Constant, Field, LayerPlan, Matrix, Plan
from sen_exporters.c.text import array, comment, number, paragraph
from sen_runtime.ir.network import Identity, LeakyIntegrator, Lif, Relu

#: Bytes of constants above which they are a binary file: compilers take long over text.
BINARY_FROM = 256 * 1024
#: Arrays in a binary file start at multiples of this.
ALIGNMENT = 16
NEURONS = {Identity: "SEN_IDENTITY", Relu: "SEN_RELU", Lif: "SEN_LIF", LeakyIntegrator: "SEN_LEAKY_INTEGRATOR"}
READOUTS = {
    "mean_membrane": "SEN_MEAN_MEMBRANE",
    "last_membrane": "SEN_LAST_MEMBRANE",
    "spike_count": "SEN_SPIKE_COUNT",
}
#: Members of structures that point to something else than void.
_POINTERS = {"scale": "float", "starts": "int32_t", "factors": "float"}


def takes_binary(plan: Plan, options: COptions) -> bool:
    """Whether the constants are a binary file."""
    if options.c_weights is not None:
        return options.c_weights == "incbin"
    return sum(constant.nbytes for constant in plan.constants) > BINARY_FROM


def blob(plan: Plan) -> tuple[bytes, dict[str, int]]:
    """All arrays in one piece, and where each begins."""
    data, offsets = bytearray(), {}
    for constant in plan.constants:
        data += bytes(-len(data) % ALIGNMENT)
        offsets[constant.name] = len(data)
        data += constant.array.astype(constant.array.dtype.newbyteorder("<")).tobytes()
    return bytes(data), offsets


def blob_symbol(name: str) -> str:
    """What the linker calls the blob; no array, matrix or function has a name that ends so."""
    return f"{name}_blob"


def header(plan: Plan) -> str:
    """NAME.h."""
    name, macro, network = plan.prefix, plan.prefix.upper(), plan.network
    sizes = [
        f"#define {macro}_INPUTS {network.n_in}",
        f"#define {macro}_OUTPUTS {network.n_out}",
        f"#define {macro}_LAYERS {len(plan.layers)}",
    ]
    if network.is_spiking:
        sizes.append(f"#define {macro}_TIMESTEPS {network.timesteps}")
    sizes.append(f"#define {macro}_ARENA_BYTES {plan.arena_bytes}")
    text = f"In {name}_selftest.c: 0 if this device computes what was computed at export, else the first wrong vector."
    declared = [*_prototypes(plan), ("selftest", text, f"int {name}_selftest(void)")]
    prototypes = "".join(f"{paragraph(text)}{prototype};\n\n" for _, text, prototype in declared)
    return f"""\
/* {name}: a {_architecture(plan)} network. README.md says how to use it. */
#ifndef {macro}_H
#define {macro}_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

{chr(10).join(sizes)}

/* What changes while the network runs. It is yours to place, and one for each task that runs the network. */
typedef union {name}_arena {{
    float work[{macro}_ARENA_BYTES / 4];
    uint64_t alignment;
}} {name}_arena;

{prototypes}#ifdef __cplusplus
}}
#endif

#endif
"""


def _prototypes(plan: Plan) -> list[tuple[str, str, str]]:
    """Name, comment and prototype of every public function."""
    name, macro, network = plan.prefix, plan.prefix.upper(), plan.network
    arena, step, y = f"{name}_arena *arena", f"const float x[{macro}_INPUTS]", f"float y[{macro}_OUTPUTS]"
    x = f"const float x[{macro}_TIMESTEPS * {macro}_INPUTS]" if network.input_coding == "spikes" else step
    found = []
    if plan.has_positions:
        text = f"Compiled with {macro}_EXPAND, call this once before all others; otherwise it does nothing."
        found.append(("init", text, "void {}(void)"))
    text = "One inference from x to y; x, y and the arena do not overlap."
    if network.is_spiking:
        text += f" All time steps, from membranes of 0; call {name}_reset before a {name}_step that follows."
    text += " Returns 0, or 1 if x holds NaN or infinity: then nothing is computed or written."
    found.append(("run", text, f"int {{}}({arena}, {x}, {y})"))
    if network.is_spiking:
        found.append(("reset", "Membranes to 0: what comes before the first step.", f"void {{}}({arena})"))
        out = "spikes" if network.readout == "spike_count" else "membranes"
        text = f"One time step: y are the last layer's {out}. Overlap and result are as for {name}_run."
        found.append(("step", text, f"int {{}}({arena}, {step}, {y})"))
    what, last = "activations", "run"
    if network.is_spiking:
        what, last = "spikes (membranes, of a layer without)", "step or run"
    text = f"The {what} that the last {last} left of a layer, and how many; null of a layer that keeps none."
    text += f" Undefined before the first {last}."
    found.append(("layer_output", text, f"const float *{{}}(const {arena}, uint32_t layer, uint32_t *size)"))
    return [(function, text, prototype.format(f"{name}_{function}")) for function, text, prototype in found]


def source(plan: Plan, title: Sequence[str], properties: Mapping[str, str], *, is_binary: bool) -> str:
    """NAME.c, which begins with a title and properties; with `is_binary` the arrays are those of `blob`."""
    offsets = blob(plan)[1] if is_binary else None
    parts = [
        comment(title, properties),
        f'#include "{plan.prefix}.h"\n',
        *_functions(plan),
        *_data(plan, offsets),
        *(_matrix(plan, matrix, offsets) for matrix in plan.matrices),
        *(_terms(index, layer) for index, layer in enumerate(plan.layers)),
        _network(plan, offsets),
        _interface(plan),
    ]
    return "\n".join(parts)


def _functions(plan: Plan) -> Iterable[str]:
    """Regions of the library; NAME_EXPAND selects those of one build."""
    plain, expanded = (
        closure(plan.functions),
        closure(plan.expanded_functions if plan.has_positions else plan.functions),
    )
    for name, region in closure({*plain, *expanded}).items():
        text = region.text.replace("SEN_PRIVATE", "static")
        if name in plain and name in expanded:
            yield text
        else:
            yield f"#if{'n' if name in plain else ''}def {plan.prefix.upper()}_EXPAND\n{text}#endif\n"


def _data(plan: Plan, offsets: Mapping[str, int] | None) -> Iterable[str]:
    """The arrays, or where they are found."""
    constants = [constant for constant in plan.constants if constant.array.size]
    if offsets is None:
        return map(array, constants)
    lines = [f"/* from byte {offsets[each.name]}: {each.meaning} */" for each in constants]
    return [
        "#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__\n"
        f'#error "{plan.prefix}_weights.bin is little endian; for this processor export with --c-weights array"\n'
        "#endif\n\n"
        f"/* {plan.prefix}_weights.bin, which {plan.prefix}_weights.S puts here. */\n"
        f"extern const unsigned char {blob_symbol(plan.prefix)}[];\n" + "\n".join(lines) + "\n"
    ]


def _address(plan: Plan, member: str, constant: Constant, offsets: Mapping[str, int] | None) -> str:
    if not constant.array.size:  # C has no empty array, and no kernel reads one
        return "NULL"
    if offsets is None:
        return constant.name
    address = f"{blob_symbol(plan.prefix)} + {offsets[constant.name]}"
    return f"(const {_POINTERS[member]} *)(const void *)({address})" if member in _POINTERS else address


def _members(members: Mapping[str, Field], indent: str = "    ") -> str:
    return "".join(
        f"{indent}.{name} = {number(value) if isinstance(value, float) else value},\n"
        for name, value in members.items()
    )


def _matrix(plan: Plan, matrix: Matrix, offsets: Mapping[str, int] | None) -> str:
    members = _members(
        {
            name: _address(plan, name, value, offsets) if isinstance(value, Constant) else value
            for name, value in matrix.fields.items()
        }
    )
    if not matrix.is_positions:
        return f"static const sen_weights {matrix.name} = {{\n    .multiply = {matrix.multiply},\n{members}}};\n"
    rows, columns = matrix.shape
    return f"""\
static const sen_weights {matrix.name}_positions = {{
#ifndef {plan.prefix.upper()}_EXPAND
    .multiply = {matrix.multiply},
#endif
{members}}};

#ifdef {plan.prefix.upper()}_EXPAND
static float {matrix.name}_values[{rows * columns}];
static const sen_weights {matrix.name} = {{
    .multiply = sen_dense_f32,
    .rows = {rows},
    .columns = {columns},
    .dtype = SEN_FLOAT32,
    .values = {matrix.name}_values,
}};
#else
#define {matrix.name} {matrix.name}_positions
#endif
"""


def _terms(index: int, layer: LayerPlan) -> str:
    pairs = (
        f"    {{&{term[1].name}, &{term[0].name}}},\n" if len(term) == 2 else f"    {{&{term[0].name}, NULL}},\n"
        for term in layer.terms
    )
    return f"static const sen_term layer{index}_terms[] = {{\n{''.join(pairs)}}};\n"


def _layer(plan: Plan, index: int, offsets: Mapping[str, int] | None) -> str:
    """One element of the array of layers."""
    layer = plan.layers[index]
    neuron = layer.layer.neuron
    n_out, n_in = layer.layer.weight.shape
    members: dict[str, Field] = {
        "terms": f"layer{index}_terms",
        "term_count": len(layer.terms),
        "n_in": n_in,
        "n_out": n_out,
    }
    if layer.bias is not None:
        members |= {
            "bias": _address(plan, "bias", layer.bias, offsets),
            "bias_dtype": DTYPES[layer.bias.array.dtype.name],
        }
    members["neuron"] = NEURONS[type(neuron)]
    if isinstance(neuron, Lif):
        members["lif"] = f"{{{number(neuron.beta)}, {number(neuron.threshold)}, {_reset(neuron)}}}"
    elif isinstance(neuron, LeakyIntegrator):
        members["lif"] = f"{{{number(neuron.beta)}, 0.0f, 0}}"
    members |= {name: vector.start for name, vector in layer.vectors.items()}
    return f"    {{\n{_members(members, '        ')}    }},\n"


def _reset(neuron: Lif) -> str:
    """Name of the reset in `network.h`."""
    if neuron.subtracts_before_decay:
        return "SEN_RESET_BEFORE_DECAY"
    return "SEN_RESET_ZERO" if neuron.reset == "zero" else "SEN_RESET_SUBTRACT"


def _network(plan: Plan, offsets: Mapping[str, int] | None) -> str:
    network = plan.network
    members: dict[str, Field] = {
        "kernels": "&kernels",
        "layers": "layers",
        "layer_count": len(plan.layers),
        "n_in": network.n_in,
        "n_out": network.n_out,
    }
    if plan.factors is not None:
        members |= {
            "timesteps": network.timesteps,
            "is_spike_train": int(network.input_coding == "spikes"),
            "readout": READOUTS[network.readout],
            "factors": _address(plan, "factors", plan.factors, offsets),
        }
    members |= {name: vector.start for name, vector in plan.scratch.items()}
    layers = "".join(_layer(plan, index, offsets) for index in range(len(plan.layers)))
    return f"""\
static const sen_layer layers[] = {{
{layers}}};

static const sen_kernels kernels = {{
{_members({"name": '"c99"', **plan.kernels})}}};

static const sen_network network = {{
{_members(members)}}};
"""


def _interface(plan: Plan) -> str:
    """The public functions."""
    n_kept = len(plan.layers) - (0 if plan.network.is_spiking else 1)
    bodies = {
        "init": _initialization(plan),
        "run": _checked("run_spiking" if plan.network.is_spiking else "run_perceptron", _input_size(plan)),
        "reset": "    sen_network_reset(&network, arena->work);\n",
        "step": _checked("sen_network_step", f"{plan.prefix.upper()}_INPUTS"),
        "layer_output": f"""\
    const int is_kept = layer < {n_kept};
    *size = is_kept ? layers[layer].n_out : 0;
    return is_kept ? arena->work + layers[layer].out : NULL;
"""
        if n_kept
        else "    (void)arena;\n    (void)layer;\n    *size = 0;\n    return NULL;\n",
    }
    functions = (f"{prototype}\n{{\n{bodies[name]}}}\n" for name, _, prototype in _prototypes(plan))
    return "\n".join([_CHECKS, *functions])


#: The macro that builds out the check of inputs, as a value, so that nothing is left unused.
_CHECKS = """\
#ifdef SEN_ALLOW_NONFINITE
#define SEN_CHECKS_INPUTS 0
#else
#define SEN_CHECKS_INPUTS 1
#endif
"""


def _checked(function: str, size: str) -> str:
    """A call of `function` for `size` inputs that are finite."""
    return f"""\
    if (SEN_CHECKS_INPUTS && !sen_is_finite(x, {size}))
        return 1;
    {function}(&network, arena->work, x, y);
    return 0;
"""


def _input_size(plan: Plan) -> str:
    """Floats that NAME_run reads, as C text."""
    macro = plan.prefix.upper()
    is_train = plan.network.input_coding == "spikes"
    return f"(size_t){macro}_TIMESTEPS * {macro}_INPUTS" if is_train else f"{macro}_INPUTS"


def _initialization(plan: Plan) -> str:
    """Weights written out from positions."""
    loops = "".join(
        f"""\
    for (i = 0; i < {matrix.name}.rows; i++)
        for (j = 0; j < {matrix.name}.columns; j++)
            {matrix.name}_values[(size_t)i * {matrix.name}.columns + j] = sen_weight(&{matrix.name}_positions, i, j);
"""
        for matrix in plan.matrices
        if matrix.is_positions
    )
    return f"#ifdef {plan.prefix.upper()}_EXPAND\n    uint32_t i, j;\n{loops}#endif\n"


def _architecture(plan: Plan) -> str:
    return "-".join(map(str, plan.network.layer_sizes))
