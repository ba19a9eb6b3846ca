/* int8 activations on AVX2 and AVX-512. */
#include "integer.h"

#if defined(SEN_ISA) && defined(__AVX2__)

#include "vector.h"

/* The top halves of the products of int32 lanes. */
static inline __m256i top_halves(__m256i a, __m256i b)
{
    const __m256i even = _mm256_mul_epi32(a, b);
    const __m256i odd = _mm256_mul_epi32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32));
    return _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
}

/* Steps of the output from eight sums. For small factors the top halves of products are all that rounding needs. */
static inline __m256i eight_steps(const sen_integer_weights *w, uint32_t row, const int32_t *sums)
{
    const __m256i exponent = _mm256_loadu_si256((const __m256i *)(const void *)(w->exponent + row));
    const __m256i multiplier = _mm256_loadu_si256((const __m256i *)(const void *)(w->multiplier + row));
    const __m256i bias = _mm256_loadu_si256((const __m256i *)(const void *)(w->bias + row));
    const __m256i shift = _mm256_sub_epi32(_mm256_set1_epi32(-1), exponent);
    const __m256i half = _mm256_sllv_epi32(_mm256_set1_epi32(1), _mm256_sub_epi32(shift, _mm256_set1_epi32(1)));
    const __m256i sum = _mm256_add_epi32(_mm256_loadu_si256((const __m256i *)(const void *)sums), bias);
    return _mm256_srav_epi32(_mm256_add_epi32(top_halves(sum, multiplier), half), shift);
}

/* Values of `width` rows, a multiple of 16, from their sums. */
static void write_values(const sen_integer_weights *w, uint32_t row, uint32_t width, const int32_t *sums, uint8_t *y)
{
    const __m256i zero = _mm256_set1_epi16((int16_t)w->zero);
    const __m128i low = _mm_set1_epi8((char)w->low);
    uint32_t k;
    for (k = 0; w->max_exponent > -2 && k < width; k++)
        y[row + k] = sen_requantize(w, row + k, sums[k]);
    for (; k < width; k += 16) { /* of factors below 1/4 */
        const __m256i a = eight_steps(w, row + k, sums + k), b = eight_steps(w, row + k + 8, sums + k + 8);
        const __m256i steps = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xD8);
        const __m128i value = _mm_max_epu8(bytes_of(_mm256_adds_epi16(steps, zero)), low);
        _mm_storeu_si128((__m128i *)(void *)(y + row + k), value);
    }
}

static int32_t total_of(__m256i sum)
{
    int32_t parts[8], total = 0;
    int k;
    _mm256_storeu_si256((__m256i *)(void *)parts, sum);
    for (k = 0; k < 8; k++)
        total += parts[k];
    return total;
}

/* Sums of four rows, which share the inputs. */
static inline void four_sums(const int8_t *const rows[4], const uint8_t *x, uint32_t n, int32_t *sums)
{
    const uint32_t whole = n - n % 16;
    __m256i sum[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
    uint32_t j;
    int k;
    for (j = 0; j < whole; j += 16) {
        const __m256i value = sixteen_bytes(x + j, 0);
        for (k = 0; k < 4; k++)
            sum[k] = _mm256_add_epi32(sum[k], _mm256_madd_epi16(sixteen_bytes(rows[k] + j, 1), value));
    }
    for (k = 0; k < 4; k++) {
        sums[k] = total_of(sum[k]);
        for (j = whole; j < n; j++)
            sums[k] += rows[k][j] * x[j];
    }
}

void SEN_NAME(sen_integer_dense)(const sen_integer_weights *w, const uint8_t *x, void *scratch, uint8_t *y)
{
    const int8_t *values = w->values;
    uint32_t first, row, k;
    (void)scratch;
    for (first = 0; first < w->rows; first += SEN_PANEL) {
        const uint32_t width = sen_panel_width(w->rows, first);
        int32_t sums[SEN_PANEL] = {0};
        for (row = first; row < first + width && row < w->rows; row += 4) {
            const int8_t *rows[4];
            for (k = 0; k < 4; k++) /* the last row again behind it */
                rows[k] = values + (size_t)(row + k < w->rows ? row + k : w->rows - 1) * w->columns;
            four_sums(rows, x, w->columns, sums + (row - first));
        }
        write_values(w, first, width, sums, y);
    }
}

#ifdef __AVX512VNNI__

/* `vectors` times sixteen rows; `at_once` of the groups of four columns have sums of their own. */
static inline __attribute__((always_inline)) void panel_sums(
    const int8_t *data, const uint8_t *x, uint32_t groups, int32_t *sums, const int vectors, const int at_once)
{
    const size_t width = (size_t)vectors * 64;
    __m512i sum[8];
    uint32_t group = 0;
    int k, e;
    for (k = 0; k < vectors * at_once; k++)
        sum[k] = _mm512_setzero_si512();
    for (; group < groups; group += (uint32_t)at_once)
        for (e = 0; e < at_once && group + (uint32_t)e < groups; e++) {
            const size_t g = group + (uint32_t)e;
            int32_t four;
            memcpy(&four, x + 4 * g, sizeof four);
            for (k = 0; k < vectors; k++)
                sum[e * vectors + k] = _mm512_dpbusd_epi32(
                    sum[e * vectors + k], _mm512_set1_epi32(four), _mm512_loadu_si512(data + g * width + 64 * (size_t)k));
        }
    for (k = 0; k < vectors; k++) {
        for (e = 1; e < at_once; e++)
            sum[k] = _mm512_add_epi32(sum[k], sum[e * vectors + k]);
        _mm512_storeu_si512(sums + 16 * k, sum[k]);
    }
}

void SEN_NAME(sen_integer_panels)(const sen_integer_weights *w, const uint8_t *x, void *scratch, uint8_t *y)
{
    const uint32_t groups = w->columns / 4 + (w->columns % 4 != 0);
    const int8_t *data = w->values;
    uint32_t row;
    (void)scratch;
    for (row = 0; row < w->rows; row += SEN_PANEL) {
        const uint32_t width = sen_panel_width(w->rows, row);
        int32_t sums[SEN_PANEL];
        if (width == 64)
            panel_sums(data, x, groups, sums, 4, 2);
        else if (width == 48)
            panel_sums(data, x, groups, sums, 3, 2);
        else if (width == 32)
            panel_sums(data, x, groups, sums, 2, 4);
        else
            panel_sums(data, x, groups, sums, 1, 8);
        write_values(w, row, width, sums, y);
        data += (size_t)groups * 4 * width;
    }
}

#endif

#endif
