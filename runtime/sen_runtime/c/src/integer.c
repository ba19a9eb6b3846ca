/* Products, quantization and Lif neurons of networks whose activations are int8, in standard C, also exported C. */
#include "integer.h"

/* export: sen_integer_dense, needs integer_types */
SEN_PRIVATE void sen_integer_dense(const sen_integer_weights *w, const uint8_t *x, void *scratch, uint8_t *y)
{
    const int8_t *row = w->values;
    uint32_t i, j;
    (void)scratch;
    for (i = 0; i < w->rows; i++, row += w->columns) {
        int32_t sum = 0;
        for (j = 0; j < w->columns; j++)
            sum += (int32_t)row[j] * x[j];
        y[i] = sen_requantize(w, i, sum);
    }
}
/* end */

/* export: sen_integer_sparse, needs integer_types */
static uint32_t block_column_at(const sen_integer_weights *w, int32_t block)
{
    return w->index_dtype == SEN_UINT16 ? ((const uint16_t *)w->indices)[block]
                                        : (uint32_t)((const int32_t *)w->indices)[block];
}

/* Blocks of any size; a block at the right edge may exceed the matrix. */
SEN_PRIVATE void sen_integer_sparse(const sen_integer_weights *w, const uint8_t *x, void *scratch, uint8_t *y)
{
    const uint32_t width = w->block_columns;
    uint32_t i, j;
    int32_t at;
    (void)scratch;
    for (i = 0; i < w->rows; i++) {
        const int32_t *start = (const int32_t *)w->starts + i / w->block_rows;
        int32_t sum = 0;
        for (at = start[0]; at < start[1]; at++) {
            const size_t first = (size_t)block_column_at(w, at) * width;
            const int8_t *block = (const int8_t *)w->values + ((size_t)at * w->block_rows + i % w->block_rows) * width;
            for (j = 0; j < width && first + j < w->columns; j++)
                sum += (int32_t)block[j] * x[first + j];
        }
        y[i] = sen_requantize(w, i, sum);
    }
}
/* end */

/* export: sen_integer_quantize */
SEN_PRIVATE void sen_integer_quantize(const float *x, uint32_t n, float inverse_scale, int32_t zero, uint8_t *to)
{
    const float low = (float)-zero, high = (float)(255 - zero);
    uint32_t i;
    for (i = 0; i < n; i++) {
        float value = x[i] * inverse_scale;
        uint32_t bits;
        value = value > low ? value : low; /* NaN too */
        value = (value < high ? value : high) + 12582912.0f; /* 1.5 * 2^23: leaves the nearest integer in the low bits */
        memcpy(&bits, &value, sizeof bits);
        to[i] = (uint8_t)(bits - 0x4B400000u + (uint32_t)zero);
    }
}
/* end */

/* export: sen_integer_integrate, needs integer_types */
SEN_INLINE int32_t clip_membrane(int32_t value, int32_t zero)
{
    return value < -zero ? -zero : value > 255 - zero ? 255 - zero : value;
}

static int32_t integer_membrane_after(const sen_integer_lif *neuron, int32_t before, int32_t current)
{
    const int32_t reset = before > neuron->threshold ? neuron->threshold : 0;
    int32_t after;
    if (neuron->reset == SEN_RESET_BEFORE_DECAY)
        before = clip_membrane(before - reset, neuron->zero);
    after = (before * neuron->decay + (1 << 14)) >> 15;
    if (neuron->reset == SEN_RESET_ZERO && reset)
        after = 0;
    after = clip_membrane(after + current, neuron->zero);
    return neuron->reset == SEN_RESET_SUBTRACT ? clip_membrane(after - reset, neuron->zero) : after;
}

SEN_PRIVATE void sen_integer_integrate(
    const sen_integer_lif *neuron, uint32_t n, const uint8_t *current, const int32_t *factors, uint32_t steps,
    int16_t *membrane, uint8_t *total)
{
    uint32_t i, t;
    for (i = 0; i < n; i++) {
        int32_t sum = 0, u = membrane[i];
        for (t = 0; t < steps; t++) {
            u = integer_membrane_after(neuron, u, current[i] - neuron->zero);
            if (u > neuron->threshold)
                sum += factors[t];
        }
        membrane[i] = (int16_t)u;
        total[i] = (uint8_t)(sum > 255 ? 255 : sum);
    }
}
/* end */
