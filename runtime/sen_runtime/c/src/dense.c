/* Dense matrices of floats: y = act(addend + W x), w stored row by row, or by source.
 *
 * sen_dense_reference takes every dtype. The others say in their names what they read. */
#include "network.h"

#ifndef SEN_ISA

void sen_dense_reference(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    uint32_t i, j;
    for (i = 0; i < w->rows; i++) {
        float sum = 0;
        for (j = 0; j < w->columns; j++)
            sum += sen_value(w->values, w->dtype, (size_t)i * w->columns + j) * x->values[j];
        y[i] = sen_finish(addend, is_relu, i, sen_scale(w, i) * sum);
    }
}

/* Four sums, so that one addition need not wait for another. */
void sen_dense_f32(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const float *row = w->values, *v = x->values;
    const uint32_t n = w->columns;
    uint32_t i, j;
    for (i = 0; i < w->rows; i++, row += n) {
        float a = 0, b = 0, c = 0, d = 0;
        for (j = 0; j + 4 <= n; j += 4) {
            a += row[j] * v[j];
            b += row[j + 1] * v[j + 1];
            c += row[j + 2] * v[j + 2];
            d += row[j + 3] * v[j + 3];
        }
        for (; j < n; j++)
            a += row[j] * v[j];
        y[i] = sen_finish(addend, is_relu, i, (a + b) + (c + d));
    }
}

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

void sen_columns(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const uint32_t n = w->rows;
    uint32_t i, e;
    for (i = 0; i < n; i++)
        y[i] = addend ? addend[i] : 0;
    for (e = 0; e < x->count; e++) {
        const float value = x->values[x->events[e]];
        const size_t at = (size_t)x->events[e] * n;
        if (w->dtype == SEN_FLOAT32) {
            const float *column = (const float *)w->values + at;
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

#else

#include "vector.h"

/* Four rows at once, so that an input is loaded once for all of them. */
#define DENSE(NAME, TYPE, LOAD)                                                                                        \
    void NAME(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)                    \
    {                                                                                                                  \
        const uint32_t n = w->columns, whole = n - n % LANES;                                                          \
        const TYPE *row = w->values;                                                                                   \
        const float *v = x->values;                                                                                    \
        uint32_t i = 0, j, k;                                                                                          \
        for (; i < w->rows; i += 4, row += (size_t)4 * n) {                                                            \
            const uint32_t kept = w->rows - i < 4 ? w->rows - i : 4;                                                   \
            const TYPE *rows[4];                                                                                       \
            vector a[4] = {{0}};                                                                                       \
            for (k = 0; k < 4; k++)                                                                                    \
                rows[k] = row + (k < kept ? k : 0) * (size_t)n;                                                        \
            for (j = 0; j < whole; j += LANES) {                                                                       \
                const vector value = load_f32(v + j);                                                                  \
                a[0] += LOAD(rows[0] + j) * value;                                                                     \
                a[1] += LOAD(rows[1] + j) * value;                                                                     \
                a[2] += LOAD(rows[2] + j) * value;                                                                     \
                a[3] += LOAD(rows[3] + j) * value;                                                                     \
            }                                                                                                          \
            for (k = 0; k < kept; k++) {                                                                               \
                float sum = add_up(a[k]);                                                                              \
                for (j = whole; j < n; j++)                                                                            \
                    sum += sen_value(w->values, w->dtype, (size_t)(i + k) * n + j) * v[j];                             \
                y[i + k] = sen_finish(addend, is_relu, i + k, sum);                                                    \
            }                                                                                                          \
        }                                                                                                              \
    }

DENSE(SEN_NAME(sen_dense_f32), float, load_f32)
DENSE(SEN_NAME(sen_dense_f16), uint16_t, load_f16)

#endif
