/* Products of int4 matrices of images in networks whose activations are int8, in standard C: the reference. */
#include "integer.h"

void sen_integer_int4(const sen_integer_weights *w, const uint8_t *x, void *scratch, uint8_t *y)
{
    const uint32_t groups = SEN_INT4_GROUPS(w->columns);
    const uint8_t *row = w->values, *steps = w->indices;
    uint32_t i, j, group;
    (void)scratch;
    for (i = 0; i < w->rows; i++, row += SEN_INT4_BYTES(w->columns), steps += SEN_INT4_BYTES(groups)) {
        int32_t sum = 0;
        for (group = 0; group < groups; group++) {
            const uint32_t first = group * SEN_INT4_GROUP, end = first + SEN_INT4_GROUP;
            int32_t part = 0;
            for (j = first; j < end && j < w->columns; j++)
                part += (sen_nibble(row, j) - 8) * x[j];
            sum += part * sen_nibble(steps, group);
        }
        y[i] = sen_requantize(w, i, sum);
    }
}
