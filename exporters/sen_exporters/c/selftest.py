"""NAME_selftest.c: golden vectors, compared on the device."""

from __future__ import annotations

import numpy as np

from sen_exporters.c.flash import Array, literals, number, rows
from sen_exporters.c.golden import Golden
from sen_exporters.c.program import Program


def selftest(program: Program, golden: Golden) -> str:
    """The text of NAME_selftest.c."""
    name, macro = program.name, program.macro
    is_train = program.network.input_coding == "spikes"
    run = "run_train(&arena, trains[vector], y)" if is_train else f"{name}_run(&arena, inputs[vector], y)"
    initialization = f"    {name}_init();\n" if program.positions else ""
    return f"""\
/* Does this device compute what was computed when {name} was exported? {name}_selftest() is 0 if it does. */
#include "{name}.h"

#ifdef SEN_SELFTEST_PRINT
#include <stdio.h>
#endif

#define VECTORS {len(golden.inputs)}
#define TOLERANCE {number(golden.tolerance)} /* {_relative(golden):.0e} of the greatest output */

{_trains(program, golden) if is_train else _inputs(macro, golden)}
static const float golden[VECTORS][{macro}_OUTPUTS] = {{
{_nested(golden.outputs.astype(np.float32))}}};

{_train_runner(program) if is_train else ""}int {name}_selftest(void)
{{
    static {name}_arena arena;
    static float y[{macro}_OUTPUTS];
    int vector, output, result = 0;
{initialization}    for (vector = 0; vector < VECTORS; vector++) {{
        float worst = 0;
        int is_wrong = {run};
        for (output = 0; output < {macro}_OUTPUTS; output++) {{
            const float difference = y[output] - golden[vector][output];
            const float size = difference < 0 ? -difference : difference;
            is_wrong |= !(size <= TOLERANCE); /* which NaN is not */
            worst = size > worst ? size : worst;
        }}
        if (is_wrong && result == 0)
            result = vector + 1;
#ifdef SEN_SELFTEST_PRINT
        printf("{name}: vector %d of %d: %s, off by %g; allowed %g\\n", vector + 1, VECTORS, is_wrong ? "WRONG" : "ok",
               (double)worst, (double)TOLERANCE);
#endif
    }}
    return result;
}}

/* Frameworks that bring a main of their own build every file that they find. */
#if !defined(SEN_SELFTEST_NO_MAIN) && !defined(ARDUINO) && !defined(PLATFORMIO) && !defined(__ZEPHYR__)
int main(void)
{{
    return {name}_selftest() != 0;
}}
#endif
"""


def _relative(golden: Golden) -> float:
    return golden.tolerance / (float(np.abs(golden.outputs).max()) or 1.0)


def _nested(values: Array) -> str:
    return "".join(f"{{\n{rows(literals(row))}}},\n" for row in values)


def _inputs(macro: str, golden: Golden) -> str:
    return f"static const float inputs[VECTORS][{macro}_INPUTS] = {{\n{_nested(golden.inputs)}}};\n"


def _trains(program: Program, golden: Golden) -> str:
    """Spikes as bits, the first in the lowest."""
    macro = program.macro
    bits = np.packbits(golden.inputs.astype(bool), axis=-1, bitorder="little")
    width = bits.shape[-1]
    body = "".join(f"{{\n{rows(literals(train.ravel()))}}},\n" for train in bits)
    return (
        "/* Spike trains: eight neurons in a byte, the first in its lowest bit. */\n"
        f"#define TRAIN_BYTES {width} /* of one step */\n"
        f"static const uint8_t trains[VECTORS][{macro}_TIMESTEPS * TRAIN_BYTES] = {{\n{body}}};\n"
    )


def _train_runner(program: Program) -> str:
    """Runs a packed train step by step, and reads out what the readout is."""
    name, macro, readout = program.name, program.macro, program.network.readout
    add = {
        "mean_membrane": f"y[output] += out[output] / (float){macro}_TIMESTEPS;",
        "last_membrane": "y[output] = out[output];",
        "spike_count": "y[output] += out[output];",
    }
    return f"""\
static int run_train({name}_arena *arena, const uint8_t *train, float *y)
{{
    static float x[{macro}_INPUTS], out[{macro}_OUTPUTS];
    int step, input, output, status = 0;
    for (output = 0; output < {macro}_OUTPUTS; output++)
        y[output] = 0;
    {name}_reset(arena);
    for (step = 0; step < {macro}_TIMESTEPS; step++, train += TRAIN_BYTES) {{
        for (input = 0; input < {macro}_INPUTS; input++)
            x[input] = (float)(train[input / 8] >> (input % 8) & 1);
        status |= {name}_step(arena, x, out);
        for (output = 0; output < {macro}_OUTPUTS; output++)
            {add[readout]}
    }}
    return status;
}}

"""
