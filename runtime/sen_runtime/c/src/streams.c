/* Sparse int8 weights stored in the order in which they are read: exported C has this storage, images do not. A row is a
 * sequence of groups of three words in `values`; `starts` [rows + 1] is the first word of each row. */
#include "pairs.h"

#ifndef SEN_ISA

/* export: stream_halves */
SEN_INLINE int32_t high_half(uint32_t word)
{
    return (int16_t)(uint16_t)(word >> 16);
}

SEN_INLINE int32_t low_half(uint32_t word)
{
    return (int16_t)(uint16_t)word;
}
/* end */

/* export: sen_stream_int8, needs int8, stream_halves, sen_in_order, sen_multiply_pairs */
/* A stream of single weights, four in a group: four bytes with the distance of each from the column before it, or from column
 * 0; then the weights as int16. Weights of 0 pad the last group and bridge distances above 255. */
#ifdef SEN_PAIRS

/* Advances `from` by a byte of `gaps`. */
#define SEN_SKIP(from, gaps, rotation) __asm__("uxtab %0, %0, %1, ror #" rotation : "+r"(from) : "r"(gaps))

/* sum + the products of the next group; `q` is the input of the last weight. */
SEN_TOGETHER int32_t add_gaps(const void **group, const int8_t **q, int32_t sum)
{
    uint32_t gaps, first, second;
    const int8_t *at = *q;
    *group = load_three(*group, &gaps, &first, &second);
    __asm__("uxtab %0, %0, %1" : "+r"(at) : "r"(gaps));
    sum = __smlabb((int32_t)first, *at, sum);
    SEN_SKIP(at, gaps, "8");
    sum = __smlatb((int32_t)first, *at, sum);
    SEN_SKIP(at, gaps, "16");
    sum = __smlabb((int32_t)second, *at, sum);
    SEN_SKIP(at, gaps, "24");
    *q = at;
    return __smlatb((int32_t)second, *at, sum);
}

SEN_ALONE void gap_rows(const sen_weights *w, const void *inputs, uint32_t row, uint32_t count, int32_t *sums)
{
    const int32_t *starts = w->starts + row, *const end = sums + count;
    const uint32_t *const words = values_of(w);
    const void *group = words + *starts;
    while (sums != end) {
        uintptr_t limit = (uintptr_t)(words + *++starts) - 4 * 12;
        const int8_t *at = inputs;
        int32_t sum = 0;
        while ((uintptr_t)group <= limit) {
            sum = add_gaps(&group, &at, sum);
            sum = add_gaps(&group, &at, sum);
            sum = add_gaps(&group, &at, sum);
            sum = add_gaps(&group, &at, sum);
        }
        limit += 3 * 12;
        while ((uintptr_t)group <= limit)
            sum = add_gaps(&group, &at, sum);
        *sums++ = sum;
    }
}

#endif

SEN_PRIVATE void sen_stream_int8(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
#ifdef SEN_PAIRS
    sen_multiply_pairs(w, x, addend, is_relu, y, gap_rows, sen_in_order(x, w->columns));
#else
    const SEN_FLASH uint32_t *group = (const SEN_FLASH uint32_t *)w->values + *w->starts;
    uint32_t row;
    for (row = 0; row < w->rows; row++) {
        const SEN_FLASH uint32_t *end = (const SEN_FLASH uint32_t *)w->values + w->starts[row + 1];
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
/* end */

/* export: sen_stream4_int8, needs int8, stream_halves, sen_multiply_pairs */
/* A stream of blocks of 1 x 4, two in a group: 8 times the block column of each as uint16; then the weights a, b, c, d of each as
 * 256 b + a and 256 d + c, as int16. A block of zeros pads the last group. No weight is -128, and the magnitudes of a row's
 * weights sum to less than 2^23 / 127. */
#ifdef SEN_PAIRS

/* Writes behind the pairs, for each four inputs a, b, c, d, the pairs (256 a - b, 256 c - d) and (b, d). The first times the
 * weights (e, g) plus the second times (256 f + e, 256 h + g) is 256 (a e + b f + c g + d h), and only one pair of bytes is
 * extended instead of two. */
static const uint32_t *differences(const sen_input *x, uint32_t n)
{
    const uint32_t *pairs = x->quantized;
    uint32_t *const words = (uint32_t *)x->quantized + ((size_t)n + 63) / 64 * 32, *to = words;
    uint32_t *const end = to + n / 2;
    while (to != end) {
        uint32_t even, odd;
        pairs = load_two(pairs, &even, &odd);
        *to++ = (uint32_t)__ssub16((int16x2_t)(even << 8 & 0xFF00FF00u), (int16x2_t)odd);
        *to++ = odd;
    }
    return words;
}

/* sum + 256 times the products of a block with the inputs at `from`. */
SEN_TOGETHER int32_t add_halves(uint32_t weights, const void *from, int32_t sum)
{
    uint32_t difference, odd;
    (void)load_two(from, &difference, &odd);
    sum = __smlad((int16x2_t)weights, (int16x2_t)odd, sum);
    return __smlad(even_bytes(weights), (int16x2_t)difference, sum);
}

/* sum + 256 times the products of the next group. */
SEN_TOGETHER int32_t add_two_blocks(const void **group, const void *inputs, int32_t sum)
{
    uint32_t columns, first, second;
    const void *at;
    *group = load_three(*group, &columns, &first, &second);
    __asm__("uxtah %0, %1, %2" : "=r"(at) : "r"(inputs), "r"(columns));
    sum = add_halves(first, at, sum);
    __asm__("uxtah %0, %1, %2, ror #16" : "=r"(at) : "r"(inputs), "r"(columns));
    return add_halves(second, at, sum);
}

SEN_ALONE void two_block_rows(const sen_weights *w, const void *inputs, uint32_t row, uint32_t count, int32_t *sums)
{
    const int32_t *starts = w->starts + row, *const end = sums + count;
    const uint32_t *const words = values_of(w);
    const void *group = words + *starts;
    while (sums != end) {
        uintptr_t limit = (uintptr_t)(words + *++starts) - 2 * 12;
        int32_t sum = 0;
        while ((uintptr_t)group <= limit) {
            sum = add_two_blocks(&group, inputs, sum);
            sum = add_two_blocks(&group, inputs, sum);
        }
        limit += 12;
        if ((uintptr_t)group <= limit)
            sum = add_two_blocks(&group, inputs, sum);
        *sums++ = sum >> 8;
    }
}

#else

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

SEN_PRIVATE void sen_stream4_int8(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
#ifdef SEN_PAIRS
    sen_multiply_pairs(w, x, addend, is_relu, y, two_block_rows, differences(x, w->columns));
#else
    const SEN_FLASH uint32_t *group = (const SEN_FLASH uint32_t *)w->values + *w->starts;
    const int8_t *q = x->quantized;
    uint32_t row;
    for (row = 0; row < w->rows; row++) {
        const SEN_FLASH uint32_t *end = (const SEN_FLASH uint32_t *)w->values + w->starts[row + 1];
        int32_t sum = 0;
        for (; group != end; group += 3) {
            sum += block_products(group[1], q + (group[0] & 0xFFFF) / 2);
            sum += block_products(group[2], q + (group[0] >> 16) / 2);
        }
        y[row] = sen_finish_int8(w, x, addend, is_relu, row, sum);
    }
#endif
}
/* end */

#endif
