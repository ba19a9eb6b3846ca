/* Sixteen rows of a batch at a time times sparse weights, read where they lie: every weight multiplies a vector of inputs, the
 * same column of all rows, which were turned before. Products of int8 are exact as floats up to MAX_EXACT weights in a row. */
#include "network.h"

#if defined(SEN_ISA) && !defined(__ARM_NEON)

#include "vector.h"

/* 1032 products of -128 and 127 stay below 2^24. */
#define MAX_EXACT 1032

/* Fewer rows, which cost as much as sixteen, are faster alone (measured with AVX2); sums of floats would be rounded otherwise. */
#define MIN_ROWS 5u
#define MIN_ROWS_OF_BLOCKS 9u

static inline float weight_f32(const void *values, size_t at)
{
    return ((const float *)values)[at];
}

static inline float weight_int8(const void *values, size_t at)
{
    return (float)((const int8_t *)values)[at];
}

/* Column j of rows from `first` on at turned + 16 j; 0 for rows beyond the last. */
static void turn(const sen_rows *rows, uint32_t first, uint32_t columns, int is_int8, float *turned)
{
    const uint32_t count = rows->count - first < LANES ? rows->count - first : LANES;
    uint32_t j, r;
    if (count < LANES)
        memset(turned, 0, (size_t)columns * LANES * sizeof *turned);
    for (r = 0; r < count; r++) {
        const sen_input *x = &rows->x[first + r];
        const int8_t *const quantized = x->quantized;
        if (is_int8)
            for (j = 0; j < columns; j++)
                turned[(size_t)j * LANES + r] = (float)quantized[j];
        else
            for (j = 0; j < columns; j++)
                turned[(size_t)j * LANES + r] = x->values[j];
    }
}

/* Sums of `height` outputs of a block row from its block `at` to `end`, each [16 rows]. */
#define SUM_OUTPUTS(NAME, WEIGHT)                                                                                          \
    static inline __attribute__((always_inline)) void NAME(                                                                \
        const sen_weights *w, const float *turned, int32_t at, int32_t end, uint32_t output, const int height, float *sums)  \
    {                                                                                                                      \
        const uint32_t width = w->block_columns;                                                                           \
        const size_t step = (size_t)w->block_rows * width;                                                                 \
        const uint16_t *column = (const uint16_t *)w->indices + at, *const stop = (const uint16_t *)w->indices + end;      \
        size_t value = (size_t)at * step + output * width;                                                                 \
        part sum[4][PARTS];                                                                                                \
        uint32_t j;                                                                                                        \
        int i, p;                                                                                                          \
        memset(sum, 0, sizeof sum);                                                                                        \
        for (; column != stop; column++, value += step)                                                                    \
            for (j = 0; j < width; j++) {                                                                                  \
                const float *x = turned + ((size_t)*column * width + j) * LANES;                                           \
                for (p = 0; p < (int)PARTS; p++) {                                                                         \
                    const part inputs = load_part(x + p * (int)PART);                                                      \
                    for (i = 0; i < height; i++)                                                                           \
                        sum[i][p] += inputs * WEIGHT(w->values, value + (uint32_t)i * width + j);                          \
                }                                                                                                          \
            }                                                                                                              \
        memcpy(sums, sum, (size_t)height * LANES * sizeof *sums);                                                          \
    }

SUM_OUTPUTS(sum_f32, weight_f32)
SUM_OUTPUTS(sum_int8, weight_int8)

/* Sums of sixteen outputs from `first` on, [16 outputs][16 rows]. */
static inline __attribute__((always_inline)) void sum_sixteen(
    const sen_weights *w, const float *turned, uint32_t first, uint32_t count, float *sums,
    void (*sum)(const sen_weights *, const float *, int32_t, int32_t, uint32_t, const int, float *))
{
    uint32_t i = 0;
    while (i < count) {
        const uint32_t row = first + i, block = row / w->block_rows, output = row % w->block_rows;
        const int four = output + 4 <= w->block_rows && i + 4 <= LANES;
        if (four)
            sum(w, turned, w->starts[block], w->starts[block + 1], output, 4, sums + i * LANES);
        else
            sum(w, turned, w->starts[block], w->starts[block + 1], output, 1, sums + i * LANES);
        i += four ? 4 : 1;
    }
}

static void multiply_turned(const sen_weights *w, const sen_rows *rows, uint32_t row, int is_int8)
{
    const uint32_t lanes = rows->count - row < LANES ? rows->count - row : LANES;
    uint32_t first, i, r;
    for (first = 0; first < w->rows; first += LANES) {
        const uint32_t count = w->rows - first < LANES ? w->rows - first : LANES;
        float sums[LANES * LANES], of_row[LANES];
        if (w->dtype == SEN_FLOAT32)
            sum_sixteen(w, rows->turned, first, count, sums, sum_f32);
        else
            sum_sixteen(w, rows->turned, first, count, sums, sum_int8);
        for (r = 0; r < lanes; r++) {
            const float *addend = rows->addend[row + r];
            for (i = 0; i < count; i++)
                of_row[i] = sums[i * LANES + r];
            if (is_int8)
                SEN_NAME(sen_finish_rows_int8)(w, rows, row + r, first, count, of_row);
            else
                finish_rows(of_row, count, addend ? addend + first : NULL, rows->is_relu, rows->y[row + r] + first);
        }
    }
}

/* Whether sums of int8 products may exceed what floats represent exactly. */
static int has_long_row(const sen_weights *w)
{
    uint32_t r;
    for (r = 0; r * w->block_rows < w->rows; r++)
        if ((uint32_t)(w->starts[r + 1] - w->starts[r]) * w->block_columns > MAX_EXACT)
            return 1;
    return 0;
}

void SEN_NAME(sen_sparse_rows)(const sen_weights *w, const sen_rows *rows)
{
    const int is_int8 = (w->uses & SEN_USES_INT8) != 0;
    const uint32_t min_rows = !is_int8 ? 1 : w->block_rows * w->block_columns == 1 ? MIN_ROWS : MIN_ROWS_OF_BLOCKS;
    uint32_t r = 0;
    if (!is_int8 || !has_long_row(w))
        for (; r + min_rows <= rows->count; r += LANES) {
            turn(rows, r, w->columns, is_int8, rows->turned);
            multiply_turned(w, rows, r, is_int8);
        }
    for (; r < rows->count; r++)
        w->multiply(w, &rows->x[r], rows->addend[r], rows->is_relu, rows->y[r]);
}

#endif
