/* Sparse int8 weights, read in place, times the quantized input, summed in int32. Every version gives the same bits. */
#include "pairs.h"

#ifndef SEN_ISA

/* export: sen_sparse_int8_reference, needs int8 */
SEN_PRIVATE void sen_sparse_int8_reference(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const uint32_t rows = w->block_rows, width = w->block_columns;
    const SEN_FLASH int8_t *values = w->values;
    uint32_t row, j;
    for (row = 0; row < w->rows; row++) {
        const uint32_t r = row / rows;
        int32_t at, sum = 0;
        for (at = w->starts[r]; at < w->starts[r + 1]; at++) {
            /* a block at the right edge may exceed the matrix; its values there are 0 */
            const uint32_t block = w->index_dtype == SEN_UINT16 ? ((const SEN_FLASH uint16_t *)w->indices)[at]
                                                                : ((const SEN_FLASH uint32_t *)w->indices)[at];
            const uint32_t column = block * width;
            const size_t value = ((size_t)at * rows + row % rows) * width;
            for (j = 0; j < width && column + j < w->columns; j++)
                sum += values[value + j] * sen_quantized(x, column + j);
        }
        y[row] = sen_finish_int8(w, x, addend, is_relu, row, sum);
    }
}
/* end */

#ifdef SEN_PAIRS

/* sum + the products of the next four weights. */
SEN_TOGETHER int32_t add_four(const int8_t *value, const uint16_t *column, const int8_t *q, int32_t sum)
{
    uint32_t weights;
    int32_t even, odd;
    memcpy(&weights, value, sizeof weights);
    even = even_bytes(weights);
    odd = odd_bytes(weights);
    sum = __smlabb(even, q[column[0]], sum);
    sum = __smlabb(odd, q[column[1]], sum);
    sum = __smlatb(even, q[column[2]], sum);
    return __smlatb(odd, q[column[3]], sum);
}

SEN_ALONE void single_rows(const sen_weights *w, const void *inputs, uint32_t row, uint32_t count, int32_t *sums)
{
    const int32_t *starts = w->starts + row, *const end = sums + count;
    const int8_t *value = (const int8_t *)values_of(w) + *starts, *q = inputs;
    const uint16_t *column = (const uint16_t *)w->indices + *starts;
    while (sums != end) {
        const int8_t *next = value - *starts;
        uintptr_t limit;
        int32_t sum = 0;
        next += *++starts;
        limit = (uintptr_t)next - 16;
        while ((uintptr_t)value <= limit) {
            sum = add_four(value, column, q, sum);
            sum = add_four(value + 4, column + 4, q, sum);
            sum = add_four(value + 8, column + 8, q, sum);
            sum = add_four(value + 12, column + 12, q, sum);
            value += 16;
            column += 16;
            SEN_HIDE(value);
            SEN_HIDE(column);
        }
        limit += 12;
        while ((uintptr_t)value <= limit) {
            sum = add_four(value, column, q, sum);
            value += 4;
            column += 4;
            SEN_HIDE(value);
            SEN_HIDE(column);
        }
        while (value != next) {
            sum += *value++ * q[*column++];
            SEN_HIDE(value);
            SEN_HIDE(column);
        }
        *sums++ = sum;
    }
}

#endif

void sen_sparse_int8(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
#ifdef SEN_PAIRS
    sen_multiply_pairs(w, x, addend, is_relu, y, single_rows, sen_in_order(x, w->columns));
#else
    const int8_t *value = w->values, *q = x->quantized;
    const uint16_t *column = w->indices;
    uint32_t row;
    int32_t at = 0;
    for (row = 0; row < w->rows; row++) {
        const int32_t end = w->starts[row + 1];
        int32_t sum = 0;
        for (; at + 4 <= end; at += 4)
            sum += sen_product(value[at], q[column[at]]) + sen_product(value[at + 1], q[column[at + 1]])
                + sen_product(value[at + 2], q[column[at + 2]]) + sen_product(value[at + 3], q[column[at + 3]]);
        for (; at < end; at++)
            sum += sen_product(value[at], q[column[at]]);
        y[row] = sen_finish_int8(w, x, addend, is_relu, row, sum);
    }
#endif
}

/* export: sen_sparse_1x4_int8, needs int8, sen_multiply_pairs */
#ifdef SEN_PAIRS

/* sum + the products of a block of 1 x 4. */
SEN_TOGETHER int32_t add_block(uint32_t weights, uint32_t column, const void *inputs, int32_t sum)
{
    uint32_t even, odd;
    (void)load_two((const uint32_t *)inputs + 2 * column, &even, &odd);
    return dot_four(weights, even, odd, sum);
}

SEN_ALONE void block_rows(const sen_weights *w, const void *inputs, uint32_t row, uint32_t count, int32_t *sums)
{
    const int32_t *starts = w->starts + row, *const end = sums + count;
    const void *block = (const uint32_t *)values_of(w) + *starts;
    const uint16_t *column = (const uint16_t *)w->indices + *starts;
    while (sums != end) {
        const uint32_t *next = (const uint32_t *)block - *starts;
        uintptr_t limit;
        int32_t sum = 0;
        next += *++starts;
        limit = (uintptr_t)next - 16;
        while ((uintptr_t)block <= limit) {
            uint32_t a, b, c, d;
            block = load_four(block, &a, &b, &c, &d);
            sum = add_block(a, column[0], inputs, sum);
            sum = add_block(b, column[1], inputs, sum);
            sum = add_block(c, column[2], inputs, sum);
            sum = add_block(d, column[3], inputs, sum);
            column += 4;
            SEN_HIDE(column);
        }
        while (block != next) {
            uint32_t weights;
            memcpy(&weights, block, sizeof weights);
            sum = add_block(weights, *column++, inputs, sum);
            block = (const uint32_t *)block + 1;
            SEN_HIDE(block);
        }
        *sums++ = sum;
    }
}

#endif

/* Blocks of 1 x 4. The columns are a multiple of 4. */
SEN_PRIVATE void sen_sparse_1x4_int8(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
#ifdef SEN_PAIRS
    sen_multiply_pairs(w, x, addend, is_relu, y, block_rows, x->quantized);
#else
    const SEN_FLASH int8_t *block = w->values;
    const int8_t *q = x->quantized;
    const SEN_FLASH uint16_t *column = w->indices;
    uint32_t row;
    int32_t at = 0;
    for (row = 0; row < w->rows; row++) {
        const int32_t end = w->starts[row + 1];
        int32_t sum = 0;
        for (; at < end; at++, block += 4) {
            const int8_t *four = q + 4 * (size_t)column[at];
            sum += sen_product(block[0], four[0]) + sen_product(block[1], four[1]) + sen_product(block[2], four[2])
                + sen_product(block[3], four[3]);
        }
        y[row] = sen_finish_int8(w, x, addend, is_relu, row, sum);
    }
#endif
}
/* end */

#else

#include "vector.h"

#ifdef __AVX512VNNI__

static inline uint32_t input_at(const int8_t *q, uint16_t column, int shift)
{
    return (uint32_t)(uint8_t)q[column] << shift;
}

/* Blocks of 16 x 1, four at once: their bytes are put in order, so that each lane has the four weights of one row. Weights
 * become unsigned by a flipped bit, which adds 128 times the inputs' sum. */
void SEN_NAME(sen_sparse_16x1_int8)(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const __m512i flip = _mm512_set1_epi8(-128);
    const __m512i turn = _mm512_add_epi32(
        _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), _mm512_set1_epi32(0x01010101)),
        _mm512_set1_epi32(0x30201000));
    const int8_t *block = w->values, *q = x->quantized;
    const uint16_t *column = w->indices;
    uint32_t row;
    int32_t at = 0;
    for (row = 0; row < w->rows; row += LANES) {
        const int32_t end = w->starts[row / LANES + 1];
        __m512i sum = _mm512_setzero_si512(), inputs = _mm512_setzero_si512();
        for (; at < end; at += 4, block += 4 * LANES) {
            const int32_t left = end - at < 4 ? end - at : 4;
            const __mmask64 kept = ~(__mmask64)0 >> (64 - LANES * left);
            uint32_t four = input_at(q, column[at], 0);
            if (left > 1)
                four |= input_at(q, column[at + 1], 8);
            if (left > 2)
                four |= input_at(q, column[at + 2], 16);
            if (left > 3)
                four |= input_at(q, column[at + 3], 24);
            {
                const __m512i value = _mm512_set1_epi32((int32_t)four);
                const __m512i weights = _mm512_permutexvar_epi8(turn, _mm512_maskz_loadu_epi8(kept, block));
                sum = _mm512_dpbusd_epi32(sum, _mm512_xor_si512(weights, flip), value);
                inputs = _mm512_dpbusd_epi32(inputs, flip, value);
            }
        }
        block -= LANES * (size_t)(at - end);
        at = end;
        sen_finish_sixteen(w, x, addend, is_relu, row, _mm512_sub_epi32(sum, inputs), y);
    }
}

#elif defined(__ARM_NEON)

/* Blocks of 16 x 1: one input feeds sixteen outputs. The products of two blocks add up within 16 bits. */
void SEN_NAME(sen_sparse_16x1_int8)(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const int8_t *block = w->values, *q = x->quantized;
    const uint16_t *column = w->indices;
    row_outputs out = outputs_of(w, x, addend, is_relu, y);
    uint32_t row;
    int32_t at = 0;
    for (row = 0; row < w->rows; row += 16) {
        const int32_t end = w->starts[row / 16 + 1];
        int32x4_t sum[4] = {{0}};
        for (; at < end; at += 2, block += 32) {
            const int has_second = at + 1 < end;
            const int8x16_t a = vld1q_s8(block), b = vld1q_s8(has_second ? block + 16 : block);
            const int8x16_t first = vld1q_dup_s8(q + column[at]);
            const int8x16_t second = has_second ? vld1q_dup_s8(q + column[at + 1]) : vdupq_n_s8(0);
            const int16x8_t low =
                vmlal_s8(vmull_s8(vget_low_s8(a), vget_low_s8(first)), vget_low_s8(b), vget_low_s8(second));
            const int16x8_t high = vmlal_high_s8(vmull_high_s8(a, first), b, second);
            sum[0] = vaddw_s16(sum[0], vget_low_s16(low));
            sum[1] = vaddw_high_s16(sum[1], low);
            sum[2] = vaddw_s16(sum[2], vget_low_s16(high));
            sum[3] = vaddw_high_s16(sum[3], high);
        }
        block -= 16 * (size_t)(at - end);
        at = end;
        if (w->rows - row >= 16) {
            finish_int8(&out, sum, 4, 16);
        } else {
            int32_t last[16], k;
            for (k = 0; k < 4; k++)
                vst1q_s32(last + 4 * k, sum[k]);
            finish_sums(&out, last, w->rows - row);
        }
    }
}

#else

/* Blocks of 16 x 1: one input feeds sixteen outputs. The products of two blocks add up within 16 bits. */
void SEN_NAME(sen_sparse_16x1_int8)(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const int8_t *block = w->values, *q = x->quantized;
    const uint16_t *column = w->indices;
    uint32_t row, k;
    int32_t at = 0;
    for (row = 0; row < w->rows; row += LANES) {
        const int32_t end = w->starts[row / LANES + 1];
        const uint32_t kept = w->rows - row < LANES ? w->rows - row : LANES;
        integers sum = {0};
        for (; at + 2 <= end; at += 2, block += 2 * LANES) {
            const shorts a = __builtin_convertvector(load_bytes(block), shorts) * (int16_t)q[column[at]];
            const shorts b = __builtin_convertvector(load_bytes(block + LANES), shorts) * (int16_t)q[column[at + 1]];
            sum += __builtin_convertvector(a + b, integers);
        }
        for (; at < end; at++, block += LANES) {
            const shorts a = __builtin_convertvector(load_bytes(block), shorts) * (int16_t)q[column[at]];
            sum += __builtin_convertvector(a, integers);
        }
        for (k = 0; k < kept; k++)
            y[row + k] = sen_finish_int8(w, x, addend, is_relu, row + k, sum[k]);
    }
}

#endif

#ifdef __AVX2__

static inline int32_t block_of(const int8_t *q, uint32_t column)
{
    int32_t four;
    memcpy(&four, q + 4 * (size_t)column, sizeof four);
    return four;
}

/* Four blocks of 1 x 4 at once. */
void SEN_NAME(sen_sparse_1x4_int8)(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const int8_t *block = w->values, *q = x->quantized;
    const uint16_t *column = w->indices;
    uint32_t row;
    int32_t at = 0, k;
    for (row = 0; row < w->rows; row++) {
        const int32_t end = w->starts[row + 1];
        __m256i sums = _mm256_setzero_si256();
        int32_t parts[8], sum = 0;
        for (; at + 4 <= end; at += 4, block += 16) {
            const __m128i four = _mm_setr_epi32(
                block_of(q, column[at]), block_of(q, column[at + 1]), block_of(q, column[at + 2]),
                block_of(q, column[at + 3]));
            const __m128i weights = _mm_loadu_si128((const __m128i *)(const void *)block);
            sums = _mm256_add_epi32(
                sums, _mm256_madd_epi16(_mm256_cvtepi8_epi16(weights), _mm256_cvtepi8_epi16(four)));
        }
        for (; at < end; at++, block += 4)
            for (k = 0; k < 4; k++)
                sum += block[k] * q[4 * (size_t)column[at] + (size_t)k];
        _mm256_storeu_si256((__m256i *)(void *)parts, sums);
        for (k = 0; k < 8; k++)
            sum += parts[k];
        y[row] = sen_finish_int8(w, x, addend, is_relu, row, sum);
    }
}

#endif
#endif
