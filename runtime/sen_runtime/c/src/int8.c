/* Dense int8 weights times the quantized input, summed in int32. Every version gives the same bits. */
#include "pairs.h"

#ifndef SEN_ISA

void sen_dense_int8_reference(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const int8_t *row = w->values;
    uint32_t i, j;
    for (i = 0; i < w->rows; i++, row += w->columns) {
        int32_t sum = 0;
        for (j = 0; j < w->columns; j++)
            sum += row[j] * sen_quantized(x, j);
        y[i] = sen_finish_int8(w, x, addend, is_relu, i, sum);
    }
}

/* export: sen_dense_int8, needs int8, sen_multiply_pairs */
#ifdef SEN_PAIRS

/* sum + the products of one row and the input from column `first` on, a multiple of 4. */
static int32_t dot_row(const int8_t *row, const void *inputs, uint32_t first, uint32_t columns, int32_t sum)
{
    const uint32_t *pairs = (const uint32_t *)inputs + first / 2;
    uint32_t j = first, weights;
    for (; j + 4 <= columns; j += 4, pairs += 2) {
        memcpy(&weights, row + j, sizeof weights);
        sum = dot_four(weights, pairs[0], pairs[1], sum);
    }
    if (j < columns) {
        weights = 0;
        memcpy(&weights, row + j, columns - j);
        sum = dot_four(weights, pairs[0], pairs[1], sum);
    }
    return sum;
}

/* sum + the products of the next eight weights and inputs. */
SEN_TOGETHER int32_t dot_eight(const void **row, const uint32_t x[4], int32_t sum)
{
    uint32_t a, b;
    *row = load_two(*row, &a, &b);
    return dot_four(b, x[2], x[3], dot_four(a, x[0], x[1], sum));
}

/* The sums of two rows at a time, which share the inputs, over the first `whole` columns: a multiple of 16, not 0. `sums` has
 * an even number of places. */
SEN_ALONE void dot_two_rows(
    const int8_t *row, const void *pairs, uint32_t columns, uint32_t whole, int32_t *sums, const int32_t *end)
{
    const void *upper = row, *lower = row + columns;
    while (sums != end) {
        const void *stop = (const int8_t *)upper + whole, *from = pairs;
        int32_t a = 0, b = 0;
        do {
            uint32_t x[4];
            from = load_four(from, &x[0], &x[1], &x[2], &x[3]);
            a = dot_eight(&upper, x, a);
            b = dot_eight(&lower, x, b);
            from = load_four(from, &x[0], &x[1], &x[2], &x[3]);
            a = dot_eight(&upper, x, a);
            b = dot_eight(&lower, x, b);
        } while (upper != stop);
        *sums++ = a;
        *sums++ = b;
        upper = (const int8_t *)lower + (columns - whole);
        lower = (const int8_t *)upper + columns;
    }
}

static void dense_rows(const sen_weights *w, const void *inputs, uint32_t first, uint32_t count, int32_t *sums)
{
    const uint32_t columns = w->columns;
    const int8_t *row = (const int8_t *)w->values + (size_t)first * columns;
    const int is_aligned = columns % 4 == 0 && (uintptr_t)row % 4 == 0;
    const uint32_t whole = is_aligned ? columns - columns % 16 : 0, even = whole > 0 ? count - count % 2 : 0;
    uint32_t k;
    dot_two_rows(row, inputs, columns, whole, sums, sums + even);
    for (k = whole < columns ? 0 : even; k < count; k++)
        sums[k] = dot_row(row + (size_t)k * columns, inputs, k < even ? whole : 0, columns, k < even ? sums[k] : 0);
}

#endif

SEN_PRIVATE void sen_dense_int8(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
#ifdef SEN_PAIRS
    sen_multiply_pairs(w, x, addend, is_relu, y, dense_rows, x->quantized);
#else
    const SEN_FLASH int8_t *row = w->values;
    const int8_t *q = x->quantized;
    const uint32_t n = w->columns;
    uint32_t i, j;
    for (i = 0; i < w->rows; i++, row += n) {
        int32_t sum = 0;
        for (j = 0; j + 4 <= n; j += 4)
            sum += sen_product(row[j], q[j]) + sen_product(row[j + 1], q[j + 1]) + sen_product(row[j + 2], q[j + 2])
                + sen_product(row[j + 3], q[j + 3]);
        for (; j < n; j++)
            sum += sen_product(row[j], q[j]);
        y[i] = sen_finish_int8(w, x, addend, is_relu, i, sum);
    }
#endif
}
/* end */

#else

#include "vector.h"

#ifdef __AVX512VNNI__

/* Rows in place: weights become unsigned by a flipped bit, which adds 128 times the input's sum. */
void SEN_NAME(sen_dense_int8)(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const __m512i flip = _mm512_set1_epi8(-128);
    const uint32_t n = w->columns;
    const int8_t *row = w->values, *q = x->quantized;
    uint32_t i, j, k;
    for (i = 0; i < w->rows; i += 4, row += (size_t)4 * n) {
        const uint32_t kept = w->rows - i < 4 ? w->rows - i : 4;
        __m512i sum[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
        const int8_t *rows[4];
        for (k = 0; k < 4; k++)
            rows[k] = row + (k < kept ? k : 0) * (size_t)n;
        for (j = 0; j < n; j += 64) {
            const __mmask64 mask = n - j >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << (n - j)) - 1;
            const __m512i value = _mm512_loadu_si512(q + j);
            for (k = 0; k < 4; k++)
                sum[k] = _mm512_dpbusd_epi32(
                    sum[k], _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, rows[k] + j), flip), value);
        }
        for (k = 0; k < kept; k++)
            y[i + k] = sen_finish_int8(w, x, addend, is_relu, i + k, _mm512_reduce_add_epi32(sum[k]) - 128 * x->sum);
    }
}

#else

/* Sixteen products of int8 at a time: sums of int32 lanes, inputs as they are multiplied. */
#ifdef __AVX2__

typedef __m256i sum_lanes, input_lanes;

static inline input_lanes load_inputs(const int8_t *q)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)q));
}

static inline sum_lanes add_products(sum_lanes sum, const int8_t *row, input_lanes x)
{
    return _mm256_add_epi32(sum, _mm256_madd_epi16(load_inputs(row), x));
}

static inline int32_t total_of(sum_lanes sum)
{
    int32_t parts[8];
    _mm256_storeu_si256((__m256i *)(void *)parts, sum);
    return ((parts[0] + parts[4]) + (parts[2] + parts[6])) + ((parts[1] + parts[5]) + (parts[3] + parts[7]));
}

#else

#include <arm_neon.h>

typedef int32x4_t sum_lanes;
typedef int8x16_t input_lanes;

static inline input_lanes load_inputs(const int8_t *q)
{
    return vld1q_s8(q);
}

static inline sum_lanes add_products(sum_lanes sum, const int8_t *row, input_lanes x)
{
    const int8x16_t weights = vld1q_s8(row);
#ifdef __ARM_FEATURE_DOTPROD
    return vdotq_s32(sum, weights, x);
#else
    const int16x8_t low = vmull_s8(vget_low_s8(weights), vget_low_s8(x));
    return vpadalq_s16(sum, vmlal_high_s8(low, weights, x)); /* two products add up within 16 bits */
#endif
}

static inline int32_t total_of(sum_lanes sum)
{
    return vaddvq_s32(sum);
}

#endif

void SEN_NAME(sen_dense_int8)(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const uint32_t n = w->columns, whole = n - n % 16;
    const int8_t *row = w->values, *q = x->quantized;
    uint32_t i, j, k;
    for (i = 0; i < w->rows; i += 4, row += (size_t)4 * n) {
        const uint32_t kept = w->rows - i < 4 ? w->rows - i : 4;
        sum_lanes sum[4] = {{0}};
        const int8_t *rows[4];
        for (k = 0; k < 4; k++)
            rows[k] = row + (k < kept ? k : 0) * (size_t)n;
        for (j = 0; j < whole; j += 16) {
            const input_lanes inputs = load_inputs(q + j);
            for (k = 0; k < 4; k++)
                sum[k] = add_products(sum[k], rows[k] + j, inputs);
        }
        for (k = 0; k < kept; k++) {
            int32_t total = total_of(sum[k]);
            for (j = whole; j < n; j++)
                total += rows[k][j] * q[j];
            y[i + k] = sen_finish_int8(w, x, addend, is_relu, i + k, total);
        }
    }
}

#endif
#endif
