/* Sparse matrices of floats, read where they lie. sen_sparse_reference takes blocks of any size and dtype. */
#include "network.h"

#ifndef SEN_ISA

/* export: sen_sparse_reference, needs sen_value */
static uint32_t block_column(const sen_weights *w, int32_t at)
{
    return w->index_dtype == SEN_UINT16 ? ((const SEN_FLASH uint16_t *)w->indices)[at]
                                        : ((const SEN_FLASH uint32_t *)w->indices)[at];
}

SEN_PRIVATE void sen_sparse_reference(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const uint32_t rows = w->block_rows, width = w->block_columns;
    uint32_t row, j;
    for (row = 0; row < w->rows; row++) {
        const uint32_t r = row / rows;
        int32_t at;
        float sum = 0.0f;
        for (at = w->starts[r]; at < w->starts[r + 1]; at++) {
            /* a block at the right edge may reach beyond the matrix; its values there are 0 */
            const uint32_t column = block_column(w, at) * width;
            const size_t value = ((size_t)at * rows + row % rows) * width;
            for (j = 0; j < width && column + j < w->columns; j++)
                sum += sen_value(w->values, w->dtype, value + j) * x->values[column + j];
        }
        y[row] = sen_finish(addend, is_relu, row, sen_scale(w, row) * sum);
    }
}
/* end */

/* export: sen_sparse_f32, needs sen_fused */
/* Single weights, four sums, so that one addition need not wait for another. */
SEN_PRIVATE void sen_sparse_f32(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const SEN_FLASH float *value = w->values;
    const float *v = x->values;
    const SEN_FLASH uint16_t *column = w->indices;
    uint32_t r;
    int32_t at = 0;
    for (r = 0; r < w->rows; r++) {
        const int32_t end = w->starts[r + 1];
        float a = 0.0f, b = 0.0f, c = 0.0f, d = 0.0f;
        for (; at + 4 <= end; at += 4) {
            a = sen_fused(value[at], v[column[at]], a);
            b = sen_fused(value[at + 1], v[column[at + 1]], b);
            c = sen_fused(value[at + 2], v[column[at + 2]], c);
            d = sen_fused(value[at + 3], v[column[at + 3]], d);
        }
        for (; at < end; at++)
            a += value[at] * v[column[at]];
        y[r] = sen_finish(addend, is_relu, r, (a + b) + (c + d));
    }
}
/* end */

#else

#include "vector.h"

/* Blocks of WIDTH x 1: one input feeds a vector of outputs. */
#define SPARSE_COLUMNS(NAME, TYPE, VECTOR, LOAD, WIDTH)                                                                \
    void NAME(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)                    \
    {                                                                                                                  \
        enum { LENGTH = sizeof(VECTOR) / sizeof(float), COUNT = WIDTH / LENGTH };                                      \
        const TYPE *block = w->values;                                                                                 \
        const uint16_t *column = w->indices;                                                                           \
        const float *v = x->values;                                                                                    \
        uint32_t row, p;                                                                                               \
        int32_t at = 0;                                                                                                \
        for (row = 0; row < w->rows; row += WIDTH) {                                                                   \
            const int32_t end = w->starts[row / WIDTH + 1];                                                            \
            const uint32_t kept = w->rows - row < WIDTH ? w->rows - row : WIDTH;                                       \
            VECTOR a[COUNT] = {{0}}, b[COUNT] = {{0}}, c[COUNT] = {{0}}, d[COUNT] = {{0}};                             \
            float sums[WIDTH];                                                                                         \
            for (; at + 4 <= end; at += 4, block += 4 * WIDTH)                                                         \
                for (p = 0; p < COUNT; p++) {                                                                          \
                    a[p] += LOAD(block + p * LENGTH) * v[column[at]];                                                  \
                    b[p] += LOAD(block + WIDTH + p * LENGTH) * v[column[at + 1]];                                      \
                    c[p] += LOAD(block + 2 * WIDTH + p * LENGTH) * v[column[at + 2]];                                  \
                    d[p] += LOAD(block + 3 * WIDTH + p * LENGTH) * v[column[at + 3]];                                  \
                }                                                                                                      \
            for (; at < end; at++, block += WIDTH)                                                                     \
                for (p = 0; p < COUNT; p++)                                                                            \
                    a[p] += LOAD(block + p * LENGTH) * v[column[at]];                                                  \
            for (p = 0; p < COUNT; p++)                                                                                \
                a[p] = (a[p] + b[p]) + (c[p] + d[p]);                                                                  \
            memcpy(sums, a, sizeof a);                                                                                 \
            finish_rows(sums, kept, addend ? addend + row : NULL, is_relu, y + row);                                   \
        }                                                                                                              \
    }

SPARSE_COLUMNS(SEN_NAME(sen_sparse_16x1_f32), float, part, load_part, 16)
SPARSE_COLUMNS(SEN_NAME(sen_sparse_16x1_f16), uint16_t, part, load_part_f16, 16)
SPARSE_COLUMNS(SEN_NAME(sen_sparse_8x1_f32), float, part_of_eight, load_part_of_eight, 8)

/* Blocks of 1 x 4: a vector of inputs feeds one output. The columns are a multiple of 4. */
void SEN_NAME(sen_sparse_1x4_f32)(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const float *block = w->values, *v = x->values;
    const uint16_t *column = w->indices;
    uint32_t r;
    int32_t at = 0;
    for (r = 0; r < w->rows; r++) {
        const int32_t end = w->starts[r + 1];
        vector4 a = {0}, b = {0};
        for (; at + 2 <= end; at += 2, block += 8) {
            a += load4_f32(block) * load4_f32(v + 4 * column[at]);
            b += load4_f32(block + 4) * load4_f32(v + 4 * column[at + 1]);
        }
        for (; at < end; at++, block += 4)
            a += load4_f32(block) * load4_f32(v + 4 * column[at]);
        a += b;
        y[r] = sen_finish(addend, is_relu, r, (a[0] + a[2]) + (a[1] + a[3]));
    }
}

#endif
