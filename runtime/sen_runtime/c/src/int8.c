/* Products in integers: int8 weights times the input in eight bits, summed in 32. The input is quantized for each product,
 * symmetrically: scale = max|x| / 127, halves to even. Every version gives the same bits. */
#include "network.h"

#include <string.h>

#ifndef SEN_ISA

/* Bits are compared: on a processor without an FPU that costs a fraction of what floats cost. */
static float greatest_magnitude(const float *x, uint32_t n)
{
    uint32_t greatest = SEN_NOTHING, bits, i = 0;
    float value;
#ifdef SEN_PAIRS
    greatest = sen_greatest_of_fours(x, n);
    i = n - n % 4;
#endif
    for (; i < n; i++) {
        value = x[i];
        memcpy(&bits, &value, sizeof bits);
        bits = sen_magnitude(bits);
        greatest = bits > greatest ? bits : greatest;
    }
    greatest = (greatest - SEN_NOTHING) >> 1;
    memcpy(&value, &greatest, sizeof value);
    return value;
}

void sen_quantize(const float *x, uint32_t n, void *quantized, sen_input *input)
{
    const float most = greatest_magnitude(x, n), greatest = most > SEN_LEAST ? most : 0;
    const float inverse = greatest > 0 ? 127.0f / greatest : 0;
    input->quantized = quantized;
    input->scale = greatest / 127.0f;
    input->sum = 0;
#ifdef SEN_PAIRS
    sen_quantize_pairs(x, n, inverse, quantized);
#else
    sen_quantize_values(x, n, inverse, quantized);
#endif
}

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

void sen_dense_int8(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
#ifdef SEN_PAIRS
    sen_dense_pairs(w, x, addend, is_relu, y);
#else
    const int8_t *row = w->values, *q = x->quantized;
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

#else

#include "vector.h"

#if defined(__AVX512VNNI__)

/* The first `n` of 64 values in eight bits, with zeros behind them. */
static inline __attribute__((always_inline)) __m512i quantize_vectors(
    const float *x, uint32_t n, __m512 inverse, int8_t *to, __m512i sum)
{
    /* packing works within quarters of a vector */
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i value[4], packed;
    uint32_t k;
    for (k = 0; k < 4; k++) {
        const __m512 product =
            _mm512_mul_ps(_mm512_maskz_loadu_ps(sen_lanes_below(n, LANES * k), x + LANES * k), inverse);
        /* what is not a number becomes 0 */
        value[k] = _mm512_maskz_cvtps_epi32(_mm512_cmp_ps_mask(product, product, _CMP_ORD_Q), product);
    }
    packed = _mm512_packs_epi16(_mm512_packs_epi32(value[0], value[1]), _mm512_packs_epi32(value[2], value[3]));
    packed = _mm512_permutexvar_epi32(order, packed);
    _mm512_storeu_si512(to, packed);
    return _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), packed);
}

void SEN_NAME(sen_quantize)(const float *x, uint32_t n, void *quantized, sen_input *input)
{
    int8_t *to = quantized;
    __m512 most[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()}, inverse;
    __m512i sum = _mm512_setzero_si512();
    float greatest;
    uint32_t i = 0, k;
    /* of a comparison with NaN the second operand comes out, so the greatest so far stands there */
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        for (k = 0; k < 4; k++)
            most[k] = _mm512_max_ps(_mm512_abs_ps(_mm512_loadu_ps(x + i + LANES * k)), most[k]);
    for (; i < n; i += LANES)
        most[0] = _mm512_max_ps(_mm512_abs_ps(_mm512_maskz_loadu_ps(sen_lanes_below(n, i), x + i)), most[0]);
    greatest = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_max_ps(most[0], most[1]), _mm512_max_ps(most[2], most[3])));
    greatest = greatest > SEN_LEAST ? greatest : 0;
    inverse = _mm512_set1_ps(greatest > 0 ? 127.0f / greatest : 0);
    for (i = 0; i + 64 <= n; i += 64)
        sum = quantize_vectors(x + i, 64, inverse, to + i, sum);
    if (i < n)
        sum = quantize_vectors(x + i, n - i, inverse, to + i, sum);
    input->quantized = quantized;
    input->scale = greatest / 127.0f;
    input->sum = _mm512_reduce_add_epi32(sum);
}

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

static inline __m512i four_bytes(const int8_t *from)
{
    int32_t value;
    memcpy(&value, from, sizeof value);
    return _mm512_set1_epi32(value);
}

/* One panel of `vectors` times sixteen rows from `row`; `at_once` groups of four columns have sums of their own. */
static inline __attribute__((always_inline)) void quad_panel(
    const sen_weights *w, const sen_input *x, const float *addend, int is_relu, uint32_t row, const uint8_t *data, float *y,
    const int vectors, const int at_once)
{
    const uint32_t groups = w->columns / 4 + (w->columns % 4 != 0);
    const __m512i offset = _mm512_set1_epi32(128 * x->sum);
    const size_t width = (size_t)vectors * 64;
    const int8_t *q = x->quantized;
    uint32_t group = 0;
    __m512i sum[8];
    int k, e;
    for (k = 0; k < vectors * at_once; k++)
        sum[k] = _mm512_setzero_si512();
    for (; group + (uint32_t)at_once <= groups; group += (uint32_t)at_once)
        for (e = 0; e < at_once; e++) {
            const __m512i value = four_bytes(q + 4 * (size_t)(group + (uint32_t)e));
            const uint8_t *from = data + (group + (uint32_t)e) * width;
            for (k = 0; k < vectors; k++)
                sum[e * vectors + k] =
                    _mm512_dpbusd_epi32(sum[e * vectors + k], _mm512_loadu_si512(from + 64 * k), value);
        }
    for (; group < groups; group++)
        for (k = 0; k < vectors; k++)
            sum[k] = _mm512_dpbusd_epi32(
                sum[k], _mm512_loadu_si512(data + group * width + 64 * k), four_bytes(q + 4 * (size_t)group));
    for (k = 0; k < vectors; k++) {
        for (e = 1; e < at_once; e++)
            sum[k] = _mm512_add_epi32(sum[k], sum[e * vectors + k]);
        sen_finish_sixteen(w, x, addend, is_relu, row + LANES * (uint32_t)k, _mm512_sub_epi32(sum[k], offset), y);
    }
}

/* Of a left factor of rank 29 to 32: its whole input stays in registers. */
static const uint8_t *rank_32(
    const sen_weights *w, const sen_input *x, const float *addend, int is_relu, const uint8_t *data, float *y)
{
    const __m512i offset = _mm512_set1_epi32(128 * x->sum);
    const int8_t *q = x->quantized;
    __m512i value[8], sum[4];
    uint32_t row;
    int k, group;
    for (group = 0; group < 8; group++)
        value[group] = four_bytes(q + 4 * group);
    for (row = 0; row + SEN_PANEL <= w->rows; row += SEN_PANEL, data += 8 * 256) {
        for (k = 0; k < 4; k++)
            sum[k] = _mm512_setzero_si512();
        for (group = 0; group < 8; group++)
            for (k = 0; k < 4; k++)
                sum[k] = _mm512_dpbusd_epi32(sum[k], _mm512_loadu_si512(data + 256 * group + 64 * k), value[group]);
        for (k = 0; k < 4; k++)
            sen_finish_sixteen(w, x, addend, is_relu, row + LANES * (uint32_t)k, _mm512_sub_epi32(sum[k], offset), y);
    }
    return data;
}

void SEN_NAME(sen_quads)(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const size_t groups = w->columns / 4 + (w->columns % 4 != 0);
    const uint8_t *data = w->values;
    uint32_t row = 0;
    if (groups == 8) {
        data = rank_32(w, x, addend, is_relu, data, y);
        row = w->rows / SEN_PANEL * SEN_PANEL;
    }
    for (; row < w->rows; row += SEN_PANEL) {
        const uint32_t width = sen_panel_width(w->rows, row);
        if (width == 64)
            quad_panel(w, x, addend, is_relu, row, data, y, 4, 2);
        else if (width == 48)
            quad_panel(w, x, addend, is_relu, row, data, y, 3, 2);
        else if (width == 32)
            quad_panel(w, x, addend, is_relu, row, data, y, 2, 4);
        else
            quad_panel(w, x, addend, is_relu, row, data, y, 1, 8);
        data += groups * 4 * width;
    }
}

#else

void SEN_NAME(sen_quantize)(const float *x, uint32_t n, void *quantized, sen_input *input)
{
    const vector zero = {0};
    const uint32_t whole = n - n % LANES;
    int8_t *to = quantized;
    vector most = zero;
    float greatest = 0, inverse;
    uint32_t i, k;
    for (i = 0; i < whole; i += LANES) {
        const vector value = load_f32(x + i), magnitude = where(value > zero, value) - where(value < zero, value);
        most = where(magnitude > most, magnitude) + where(~(magnitude > most), most);
    }
    for (k = 0; k < LANES; k++)
        greatest = most[k] > greatest ? most[k] : greatest;
    for (i = whole; i < n; i++) {
        const float magnitude = x[i] < 0 ? -x[i] : x[i];
        greatest = magnitude > greatest ? magnitude : greatest;
    }
    greatest = greatest > SEN_LEAST ? greatest : 0;
    inverse = greatest > 0 ? 127.0f / greatest : 0;
    for (i = 0; i < whole; i += LANES) {
        vector value = load_f32(x + i) * inverse;
        integers rounded;
        bytes narrow;
        value += SEN_ROUNDING;
        memcpy(&rounded, &value, sizeof rounded);
        rounded -= SEN_ROUNDING_BITS;
        narrow = __builtin_convertvector(rounded, bytes);
        memcpy(to + i, &narrow, sizeof narrow);
    }
    sen_quantize_values(x + whole, n - whole, inverse, to + whole);
    input->quantized = quantized;
    input->scale = greatest / 127.0f;
    input->sum = 0;
}

#endif

#if defined(__AVX2__) && !defined(__AVX512VNNI__)

void SEN_NAME(sen_dense_int8)(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const uint32_t n = w->columns, whole = n - n % 16;
    const int8_t *row = w->values, *q = x->quantized;
    uint32_t i, j, k;
    for (i = 0; i < w->rows; i += 4, row += (size_t)4 * n) {
        const uint32_t kept = w->rows - i < 4 ? w->rows - i : 4;
        __m256i sum[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
        const int8_t *rows[4];
        for (k = 0; k < 4; k++)
            rows[k] = row + (k < kept ? k : 0) * (size_t)n;
        for (j = 0; j < whole; j += 16) {
            const __m256i value = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(q + j)));
            for (k = 0; k < 4; k++) {
                const __m128i packed = _mm_loadu_si128((const __m128i *)(const void *)(rows[k] + j));
                sum[k] = _mm256_add_epi32(sum[k], _mm256_madd_epi16(_mm256_cvtepi8_epi16(packed), value));
            }
        }
        for (k = 0; k < kept; k++) {
            int32_t parts[8], total;
            _mm256_storeu_si256((__m256i *)(void *)parts, sum[k]);
            total = ((parts[0] + parts[4]) + (parts[2] + parts[6])) + ((parts[1] + parts[5]) + (parts[3] + parts[7]));
            for (j = whole; j < n; j++)
                total += rows[k][j] * q[j];
            y[i + k] = sen_finish_int8(w, x, addend, is_relu, i + k, total);
        }
    }
}

#endif

#ifdef __ARM_NEON

#include <arm_neon.h>

static inline int32x4_t dot(int32x4_t sum, int8x16_t a, int8x16_t b)
{
#ifdef __ARM_FEATURE_DOTPROD
    return vdotq_s32(sum, a, b);
#else
    sum = vpadalq_s16(sum, vmull_s8(vget_low_s8(a), vget_low_s8(b)));
    return vpadalq_s16(sum, vmull_s8(vget_high_s8(a), vget_high_s8(b)));
#endif
}

void SEN_NAME(sen_dense_int8)(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const uint32_t n = w->columns, whole = n - n % 16;
    const int8_t *row = w->values, *q = x->quantized;
    uint32_t i, j, k;
    for (i = 0; i < w->rows; i += 4, row += (size_t)4 * n) {
        const uint32_t kept = w->rows - i < 4 ? w->rows - i : 4;
        int32x4_t sum[4] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};
        const int8_t *rows[4];
        for (k = 0; k < 4; k++)
            rows[k] = row + (k < kept ? k : 0) * (size_t)n;
        for (j = 0; j < whole; j += 16) {
            const int8x16_t value = vld1q_s8(q + j);
            for (k = 0; k < 4; k++)
                sum[k] = dot(sum[k], vld1q_s8(rows[k] + j), value);
        }
        for (k = 0; k < kept; k++) {
            int32_t total = vaddvq_s32(sum[k]);
            for (j = whole; j < n; j++)
                total += rows[k][j] * q[j];
            y[i + k] = sen_finish_int8(w, x, addend, is_relu, i + k, total);
        }
    }
}

#endif
#endif
