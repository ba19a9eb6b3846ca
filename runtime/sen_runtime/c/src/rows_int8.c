/* Rows of a batch times dense int8 weights, and the ends of other int8 products. Every version gives the same bits. */
#include "network.h"

#ifdef SEN_ISA

#include "vector.h"

void SEN_NAME(sen_finish_rows_int8)(
    const sen_weights *w, const sen_rows *rows, uint32_t r, uint32_t first, uint32_t n, const row_sum *sums)
{
    const sen_input *const x = &rows->x[r];
    const float *const addend = rows->addend[r];
#ifdef __ARM_NEON
    finish_sums_from(w, x, first, sums, n, addend, rows->is_relu, rows->y[r]);
#else
    float products[LANES];
    uint32_t i;
    for (i = 0; i < n; i++)
        products[i] = sen_scale(w, first + i) * x->scale * sums[i];
    finish_rows(products, n, addend ? addend + first : NULL, rows->is_relu, rows->y[r] + first);
#endif
}

#if defined(__AVX2__) && !defined(__AVX512F__)

/* Rows and outputs whose sums are in registers; fewer rows than MIN_ROWS are faster alone. */
#define ROWS 4u
#define MIN_ROWS 3u
#define OUTPUTS 3u

static inline __m256i sixteen(const int8_t *from)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)from));
}

static inline int32_t total_of(__m256i sum)
{
    __m128i half = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(half, _mm_shuffle_epi32(half, 0xB1)));
}

/* Sums of OUTPUTS rows of weights times ROWS inputs, which were widened to `x`, `step` apart. */
static inline void multiply_tile(
    const int8_t *const *w, const int16_t *x, size_t step, uint32_t n, int32_t sums[OUTPUTS][ROWS])
{
    __m256i sum[OUTPUTS][ROWS];
    uint32_t j, i, r;
    for (i = 0; i < OUTPUTS; i++)
        for (r = 0; r < ROWS; r++)
            sum[i][r] = _mm256_setzero_si256();
    for (j = 0; j + 16 <= n; j += 16)
        for (i = 0; i < OUTPUTS; i++) {
            const __m256i weights = sixteen(w[i] + j);
            for (r = 0; r < ROWS; r++) {
                const __m256i inputs = _mm256_load_si256((const __m256i *)(const void *)(x + r * step + j));
                sum[i][r] = _mm256_add_epi32(sum[i][r], _mm256_madd_epi16(weights, inputs));
            }
        }
    for (i = 0; i < OUTPUTS; i++)
        for (r = 0; r < ROWS; r++) {
            int32_t total = total_of(sum[i][r]);
            uint32_t k;
            for (k = j; k < n; k++)
                total += w[i][k] * x[r * step + k];
            sums[i][r] = total;
        }
}

/* Rows in place: inputs are widened to 16 bits once for all weights. */
void SEN_NAME(sen_dense_int8_rows)(const sen_weights *w, const sen_rows *rows)
{
    const uint32_t n = w->columns;
    const size_t step = ((size_t)n + 15) / 16 * 16;
    int16_t *const x = (int16_t *)rows->turned;
    uint32_t row = 0, output, i, r, j;
    for (; row + MIN_ROWS <= rows->count; row += ROWS) {
        const uint32_t count = rows->count - row < ROWS ? rows->count - row : ROWS;
        for (r = 0; r < ROWS; r++) {
            const int8_t *q = rows->x[row + (r < count ? r : 0)].quantized;
            for (j = 0; j < n; j++)
                x[r * step + j] = q[j];
        }
        for (output = 0; output < w->rows; output += OUTPUTS) {
            const uint32_t kept = w->rows - output < OUTPUTS ? w->rows - output : OUTPUTS;
            const int8_t *weights[OUTPUTS];
            int32_t sums[OUTPUTS][ROWS];
            for (i = 0; i < OUTPUTS; i++)
                weights[i] = (const int8_t *)w->values + (size_t)(output + (i < kept ? i : 0)) * n;
            multiply_tile(weights, x, step, n, sums);
            for (r = 0; r < count; r++)
                for (i = 0; i < kept; i++)
                    rows->y[row + r][output + i] = sen_finish_int8(
                        w, &rows->x[row + r], rows->addend[row + r], rows->is_relu, output + i, sums[i][r]);
        }
    }
    for (; row < rows->count; row++)
        w->multiply(w, &rows->x[row], rows->addend[row], rows->is_relu, rows->y[row]);
}

#endif
#endif
