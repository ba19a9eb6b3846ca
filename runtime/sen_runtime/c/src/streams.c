/* Sparse int8 in the order in which it is read, as exported C stores it and images do not. A row is a sequence of groups of
 * three words in `values`; `starts` [rows + 1] is the first word of each.
 *
 * Single weights, four in a group: a byte of each says how many columns it lies beyond the one before, or beyond column 0;
 * then come the weights in 16 bits. Weights of 0 fill up the last group, and gaps wider than a byte says.
 *
 * Blocks of 1 x 4, two in a group: 8 times the column of each block in 16 bits; then the weights a, b, c, d of each as 256 b + a
 * and 256 d + c, in 16 bits. A block of zeros fills up the last group. No weight is -128, and the magnitudes of a row's weights
 * add up to less than 2^23 / 127. */
#include "network.h"

#ifndef SEN_ISA

#ifndef SEN_PAIRS

static int32_t high_half(uint32_t word)
{
    return (int16_t)(uint16_t)(word >> 16);
}

static int32_t low_half(uint32_t word)
{
    return (int16_t)(uint16_t)word;
}

/* Products of two weights, stored as 256 b + a. */
static int32_t two_products(int32_t weights, const int8_t *q)
{
    const int32_t a = (int8_t)(uint8_t)((uint32_t)weights & 0xFF);
    const int32_t b = (int8_t)(uint8_t)((uint32_t)(weights - a) >> 8 & 0xFF);
    return a * q[0] + b * q[1];
}

static int32_t block_products(uint32_t weights, const int8_t *q)
{
    return two_products(low_half(weights), q) + two_products(high_half(weights), q + 2);
}

#endif

void sen_stream_int8(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
#ifdef SEN_PAIRS
    sen_stream_pairs(w, x, addend, is_relu, y);
#else
    const uint32_t *group = (const uint32_t *)w->values + *w->starts;
    uint32_t row;
    for (row = 0; row < w->rows; row++) {
        const uint32_t *end = (const uint32_t *)w->values + w->starts[row + 1];
        const int8_t *q = x->quantized;
        int32_t sum = 0;
        for (; group != end; group += 3) {
            q += group[0] & 0xFF;
            sum += low_half(group[1]) * *q;
            q += group[0] >> 8 & 0xFF;
            sum += high_half(group[1]) * *q;
            q += group[0] >> 16 & 0xFF;
            sum += low_half(group[2]) * *q;
            q += group[0] >> 24;
            sum += high_half(group[2]) * *q;
        }
        y[row] = sen_finish_int8(w, x, addend, is_relu, row, sum);
    }
#endif
}

void sen_stream4_int8(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
#ifdef SEN_PAIRS
    sen_stream4_pairs(w, x, addend, is_relu, y);
#else
    const uint32_t *group = (const uint32_t *)w->values + *w->starts;
    const int8_t *q = x->quantized;
    uint32_t row;
    for (row = 0; row < w->rows; row++) {
        const uint32_t *end = (const uint32_t *)w->values + w->starts[row + 1];
        int32_t sum = 0;
        for (; group != end; group += 3) {
            sum += block_products(group[1], q + (group[0] & 0xFFFF) / 2);
            sum += block_products(group[2], q + (group[0] >> 16) / 2);
        }
        y[row] = sen_finish_int8(w, x, addend, is_relu, row, sum);
    }
#endif
}

#endif
