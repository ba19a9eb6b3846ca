/* Dense matrices of floats: y = act(addend + W x), w stored row by row, or by source.
 *
 * sen_dense_reference takes every dtype. The names of the others state the dtypes they read. */
#include "network.h"

#ifndef SEN_ISA

/* export: sen_dense_reference, needs sen_value */
SEN_PRIVATE void sen_dense_reference(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    uint32_t i, j;
    for (i = 0; i < w->rows; i++) {
        float sum = 0.0f;
        for (j = 0; j < w->columns; j++)
            sum += sen_value(w->values, w->dtype, (size_t)i * w->columns + j) * x->values[j];
        y[i] = sen_finish(addend, is_relu, i, sen_scale(w, i) * sum);
    }
}
/* end */

/* export: sen_dense_f32, needs sen_fused */
/* Four products of a row from column `j` on, to four sums. */
#define SEN_ADD_PRODUCTS(row, x, j, sums)                                                                                  \
    do {                                                                                                                   \
        sums[0] = sen_fused(row[j], x[j], sums[0]);                                                                        \
        sums[1] = sen_fused(row[(j) + 1], x[(j) + 1], sums[1]);                                                            \
        sums[2] = sen_fused(row[(j) + 2], x[(j) + 2], sums[2]);                                                            \
        sums[3] = sen_fused(row[(j) + 3], x[(j) + 3], sums[3]);                                                            \
    } while (0)

/* Two rows at a time, which share the inputs; four sums of each, so that one addition need not wait for another. */
SEN_PRIVATE void sen_dense_f32(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const SEN_FLASH float *upper = w->values;
    const float *v = x->values;
    const uint32_t n = w->columns;
    uint32_t i, j;
    for (i = 0; i < w->rows; i += 2, upper += 2 * (size_t)n) {
        const int has_lower = i + 1 < w->rows;
        const SEN_FLASH float *lower = has_lower ? upper + n : upper;
        float a[4] = {0}, b[4] = {0};
        for (j = 0; j + 8 <= n; j += 8) {
            SEN_ADD_PRODUCTS(upper, v, j, a);
            SEN_ADD_PRODUCTS(lower, v, j, b);
            SEN_ADD_PRODUCTS(upper, v, j + 4, a);
            SEN_ADD_PRODUCTS(lower, v, j + 4, b);
        }
        for (; j < n; j++) {
            a[0] = sen_fused(upper[j], v[j], a[0]);
            b[0] = sen_fused(lower[j], v[j], b[0]);
        }
        y[i] = sen_finish(addend, is_relu, i, (a[0] + a[1]) + (a[2] + a[3]));
        if (has_lower)
            y[i + 1] = sen_finish(addend, is_relu, i + 1, (b[0] + b[1]) + (b[2] + b[3]));
    }
}
/* end */

void sen_dense_events(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    uint32_t i, e;
    for (i = 0; i < w->rows; i++) {
        float sum = 0;
        for (e = 0; e < x->count; e++) {
            const uint32_t j = x->events[e];
            sum += sen_value(w->values, w->dtype, (size_t)i * w->columns + j) * x->values[j];
        }
        y[i] = sen_finish(addend, is_relu, i, sen_scale(w, i) * sum);
    }
}

/* export: sen_columns, needs sen_value */
SEN_PRIVATE void sen_columns(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const uint32_t n = w->rows;
    uint32_t i, e;
    for (i = 0; i < n; i++)
        y[i] = addend ? addend[i] : 0;
    for (e = 0; e < x->count; e++) {
        const float value = x->values[x->events[e]];
        const size_t at = (size_t)x->events[e] * n;
        if (w->dtype == SEN_FLOAT32) {
            const SEN_FLASH float *column = (const SEN_FLASH float *)w->values + at;
            for (i = 0; i < n; i++)
                y[i] += column[i] * value;
        } else {
            for (i = 0; i < n; i++)
                y[i] += sen_scale(w, i) * sen_value(w->values, w->dtype, at + i) * value;
        }
    }
    for (i = 0; is_relu && i < n; i++)
        y[i] = y[i] > 0 ? y[i] : 0;
}
/* end */

#else

#include "vector.h"

/* Four rows at once, so that an input is loaded once for all of them. */
#define DENSE(NAME, TYPE, LOAD)                                                                                        \
    void NAME(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)                    \
    {                                                                                                                  \
        const uint32_t n = w->columns, whole = n - n % LANES;                                                          \
        const TYPE *row = w->values;                                                                                   \
        const float *v = x->values;                                                                                    \
        uint32_t i = 0, j, k, p;                                                                                       \
        for (; i < w->rows; i += 4, row += (size_t)4 * n) {                                                            \
            const uint32_t kept = w->rows - i < 4 ? w->rows - i : 4;                                                   \
            const TYPE *rows[4];                                                                                       \
            part a[4][PARTS];                                                                                          \
            memset(a, 0, sizeof a);                                                                                    \
            for (k = 0; k < 4; k++)                                                                                    \
                rows[k] = row + (k < kept ? k : 0) * (size_t)n;                                                        \
            for (j = 0; j < whole; j += LANES)                                                                         \
                for (p = 0; p < PARTS; p++) {                                                                          \
                    const part value = load_part(v + j + p * PART);                                                    \
                    a[0][p] += LOAD(rows[0] + j + p * PART) * value;                                                   \
                    a[1][p] += LOAD(rows[1] + j + p * PART) * value;                                                   \
                    a[2][p] += LOAD(rows[2] + j + p * PART) * value;                                                   \
                    a[3][p] += LOAD(rows[3] + j + p * PART) * value;                                                   \
                }                                                                                                      \
            for (k = 0; k < kept; k++) {                                                                               \
                float sum = add_up(a[k]);                                                                              \
                for (j = whole; j < n; j++)                                                                            \
                    sum += sen_value(w->values, w->dtype, (size_t)(i + k) * n + j) * v[j];                             \
                y[i + k] = sen_finish(addend, is_relu, i + k, sum);                                                    \
            }                                                                                                          \
        }                                                                                                              \
    }

#ifdef __ARM_NEON

/* Vectors of columns at once: sums of four rows fit in registers. */
#define AT_ONCE (SEN_PANEL / 16)

static inline void add_columns(float32x4_t *sum, const float **row, const float32x4_t *x)
{
#ifdef __aarch64__
    int k;
    for (k = 0; k < 4; k++)
        sum[k] = vfmaq_f32(sum[k], vld1q_f32(*row + 4 * k), x[k]);
    *row += 16;
    __asm__ volatile("" : "+r"(*row)); /* gcc 12 loads all rows first otherwise, and spills */
#else
    const float32x4x2_t weights = load_8(row);
    sum[0] = vfmaq_f32(sum[0], weights.val[0], x[0]);
    sum[1] = vfmaq_f32(sum[1], weights.val[1], x[1]);
#endif
}

/* Four rows at once, as below. */
void SEN_NAME(sen_dense_f32)(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const uint32_t n = w->columns, whole = n - n % (4 * AT_ONCE);
    const float *row = w->values, *const end = x->values + whole;
    uint32_t i, k, p;
    for (i = 0; i < w->rows; i += 4, row += (size_t)4 * n) {
        const uint32_t kept = w->rows - i < 4 ? w->rows - i : 4;
        const float *a = row, *b = row + (kept > 1 ? n : 0), *c = row + (kept > 2 ? 2 * (size_t)n : 0);
        const float *d = row + (kept > 3 ? 3 * (size_t)n : 0), *v;
        float32x4_t sum[4][AT_ONCE], values[AT_ONCE];
        float totals[4];
        for (k = 0; k < 4; k++)
            for (p = 0; p < AT_ONCE; p++)
                sum[k][p] = vdupq_n_f32(0);
        for (v = x->values; v != end; v += 4 * AT_ONCE) {
            for (p = 0; p < AT_ONCE; p++)
                values[p] = vld1q_f32(v + 4 * p);
            add_columns(sum[0], &a, values);
            add_columns(sum[1], &b, values);
            add_columns(sum[2], &c, values);
            add_columns(sum[3], &d, values);
        }
        for (k = 0; k < 4; k++) {
            for (p = 2; p < AT_ONCE; p++)
                sum[k][p - 2] = vaddq_f32(sum[k][p - 2], sum[k][p]);
            totals[k] = vaddvq_f32(vaddq_f32(sum[k][0], sum[k][1]));
        }
        for (k = 0; k < kept; k++) {
            for (p = whole; p < n; p++)
                totals[k] += row[k * (size_t)n + p] * x->values[p];
            y[i + k] = sen_finish(addend, is_relu, i + k, totals[k]);
        }
    }
}

#else
DENSE(SEN_NAME(sen_dense_f32), float, load_part)
#endif
DENSE(SEN_NAME(sen_dense_f16), uint16_t, load_part_f16)

#endif
