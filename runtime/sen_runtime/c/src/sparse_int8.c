/* Sparse matrices of int8, read where they lie, summed in integers. Every version gives the same bits. */
#include "network.h"

#ifndef SEN_ISA

void sen_sparse_int8_reference(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const uint32_t rows = w->block_rows, width = w->block_columns;
    const int8_t *values = w->values;
    uint32_t row, j;
    for (row = 0; row < w->rows; row++) {
        const uint32_t r = row / rows;
        int32_t at, sum = 0;
        for (at = w->starts[r]; at < w->starts[r + 1]; at++) {
            /* a block at the right edge may reach beyond the matrix; its values there are 0 */
            const uint32_t block = w->index_dtype == SEN_UINT16 ? ((const uint16_t *)w->indices)[at]
                                                                : ((const uint32_t *)w->indices)[at];
            const uint32_t column = block * width;
            const size_t value = ((size_t)at * rows + row % rows) * width;
            for (j = 0; j < width && column + j < w->columns; j++)
                sum += values[value + j] * sen_quantized(x, column + j);
        }
        y[row] = sen_finish_int8(w, x, addend, is_relu, row, sum);
    }
}

void sen_sparse_int8(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
#ifdef SEN_PAIRS
    sen_sparse_pairs(w, x, addend, is_relu, y);
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

/* Blocks of 1 x 4. The columns are a multiple of 4. */
void sen_sparse4_int8(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
#ifdef SEN_PAIRS
    sen_sparse4_pairs(w, x, addend, is_relu, y);
#else
    const int8_t *block = w->values, *q = x->quantized;
    const uint16_t *column = w->indices;
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
void SEN_NAME(sen_sparse4_int8)(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
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
