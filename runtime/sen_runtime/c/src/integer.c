/* Products, quantization and Lif neurons of networks whose activations are int8, in standard C, also exported C. */
#include "integer.h"

/* export: sen_integer_dense, needs integer_types */
SEN_PRIVATE void sen_integer_dense(const sen_integer_weights *w, const uint8_t *x, void *scratch, uint8_t *y)
{
    const SEN_FLASH int8_t *row = w->values;
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

/* export: sen_integer_add, needs integer_types */
/* y = sum of two vectors of `rows` values on grids of their own: x, and another one `columns` bytes behind it. `values` are the factor
 * of each, the zero of each, and the shift of the sum. */
SEN_PRIVATE void sen_integer_add(const sen_integer_weights *w, const uint8_t *x, void *scratch, uint8_t *y)
{
    const SEN_FLASH int32_t *numbers = w->values;
    const uint32_t shift = (uint32_t)numbers[4];
    const int32_t half = (int32_t)1 << (shift - 1);
    const uint8_t *other = x + w->columns;
    uint32_t i;
    (void)scratch;
    for (i = 0; i < w->rows; i++) {
        const int32_t total = (x[i] - numbers[2]) * numbers[0] + (other[i] - numbers[3]) * numbers[1];
        const int32_t value = ((total + half) >> shift) + w->zero;
        y[i] = (uint8_t)(value < w->low ? w->low : value > 255 ? 255 : value);
    }
}
/* end */

/* export: sen_integer_sparse, needs integer_types */
static uint32_t block_column_at(const sen_integer_weights *w, int32_t block)
{
    return w->index_dtype == SEN_UINT16 ? ((const SEN_FLASH uint16_t *)w->indices)[block]
                                        : (uint32_t)((const SEN_FLASH int32_t *)w->indices)[block];
}

/* Blocks of any size; a block at the right edge may exceed the matrix. */
SEN_PRIVATE void sen_integer_sparse(const sen_integer_weights *w, const uint8_t *x, void *scratch, uint8_t *y)
{
    const uint32_t width = w->block_columns;
    uint32_t i, j;
    int32_t at;
    (void)scratch;
    for (i = 0; i < w->rows; i++) {
        const SEN_FLASH int32_t *start = (const SEN_FLASH int32_t *)w->starts + i / w->block_rows;
        int32_t sum = 0;
        for (at = start[0]; at < start[1]; at++) {
            const size_t first = (size_t)block_column_at(w, at) * width;
            const SEN_FLASH int8_t *block = (const SEN_FLASH int8_t *)w->values
                + ((size_t)at * w->block_rows + i % w->block_rows) * width;
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
static int32_t decay_integer(const sen_integer_lif *neuron, int32_t membrane)
{
    return (membrane * neuron->decay + 16384) >> 15;
}

/* `steps` steps of one neuron; returns the sum of the factors of its spikes. `reset` is a constant wherever this is called. */
SEN_INLINE int32_t lif_steps(
    const sen_integer_lif *neuron, const uint32_t reset, int32_t current, const SEN_FLASH int32_t *factors, uint32_t steps,
    int16_t *membrane)
{
    const int32_t threshold = neuron->threshold, low = -neuron->zero, high = 255 - neuron->zero;
    int32_t u = *membrane, sum = 0;
    for (; steps > 0; steps--, factors++) {
        const int fired = u > threshold;
        if (reset == SEN_RESET_BEFORE_DECAY && fired)
            u -= threshold;
        u = reset == SEN_RESET_ZERO && fired ? 0 : decay_integer(neuron, u);
        u += current;
        u = u > high ? high : u;
        if (reset == SEN_RESET_SUBTRACT && fired)
            u -= threshold;
        u = u < low ? low : u;
        if (u > threshold)
            sum += *factors;
    }
    *membrane = (int16_t)u;
    return sum;
}

/* A current up to `leak` does not lift a membrane above the threshold. In several steps, whose membranes nobody reads, such neurons
 * are left out. */
SEN_PRIVATE void sen_integer_integrate(
    const sen_integer_lif *neuron, uint32_t n, const uint8_t *current, const SEN_FLASH int32_t *factors, uint32_t steps,
    int16_t *membrane, uint8_t *total)
{
    const int32_t leak = neuron->threshold - decay_integer(neuron, neuron->threshold);
    uint32_t i;
    for (i = 0; i < n; i++) {
        const int32_t arriving = current[i] - neuron->zero;
        int32_t sum = 0;
        if (steps > 1 && arriving <= leak && membrane[i] <= neuron->threshold)
            sum = 0;
        else if (neuron->reset == SEN_RESET_SUBTRACT)
            sum = lif_steps(neuron, SEN_RESET_SUBTRACT, arriving, factors, steps, membrane + i);
        else if (neuron->reset == SEN_RESET_ZERO)
            sum = lif_steps(neuron, SEN_RESET_ZERO, arriving, factors, steps, membrane + i);
        else
            sum = lif_steps(neuron, SEN_RESET_BEFORE_DECAY, arriving, factors, steps, membrane + i);
        total[i] = (uint8_t)(sum > 255 ? 255 : sum);
    }
}
/* end */
