/* The reference kernels: standard C99, every sum in order. The others are tested against them. */
#include "internal.h"

static void dense(const sen_matrix *w, const float *x, float *y)
{
    uint32_t i, j;
    for (i = 0; i < w->rows; i++) {
        float sum = 0;
        for (j = 0; j < w->columns; j++)
            sum += sen_value(w->data, w->dtype, (size_t)i * w->columns + j) * x[j];
        y[i] += sen_scale(w, i) * sum;
    }
}

static uint32_t nonzero(const float *x, uint32_t n, uint32_t *events)
{
    uint32_t count = 0, i;
    for (i = 0; i < n; i++)
        if (x[i] != 0)
            events[count++] = i;
    return count;
}

static void panels(const sen_panels *w, const float *x, const uint32_t *events, uint32_t count, float *y)
{
    uint32_t first, i, event;
    const float *panel = w->data;
    for (first = 0; first < w->rows; first += SEN_PANEL) {
        const uint32_t width = sen_panel_width(w->rows, first);
        for (event = 0; event < count; event++) {
            const uint32_t j = events[event];
            for (i = 0; i < width && first + i < w->rows; i++)
                y[first + i] += x[j] * panel[(size_t)j * width + i];
        }
        panel += (size_t)w->columns * width;
    }
}

static void sparse(const sen_blocks *w, const float *x, float *y)
{
    const sen_matrix *values = &w->values;
    const size_t size = (size_t)w->block_rows * w->block_columns;
    const uint32_t block_rows = w->rows / w->block_rows + (w->rows % w->block_rows != 0);
    uint32_t r, i, j;
    int32_t at = 0;
    for (r = 0; r < block_rows; r++) {
        for (; at < w->starts[r + 1]; at++) {
            /* a block at the right or bottom edge may reach beyond the matrix; its values there are 0 */
            const uint32_t row = r * w->block_rows, column = (uint32_t)w->columns[at] * w->block_columns;
            for (i = 0; i < w->block_rows && row + i < w->rows; i++) {
                float sum = 0;
                for (j = 0; j < w->block_columns && column + j < w->columns_in; j++)
                    sum += sen_value(values->data, values->dtype, (size_t)at * size + (size_t)i * w->block_columns + j)
                        * x[column + j];
                y[row + i] += sen_scale(values, row + i) * sum;
            }
        }
    }
}

static void integrate(const sen_lif *neuron, uint32_t n, const float *current, float *membrane, float *spikes)
{
    uint32_t i;
    for (i = 0; i < n; i++) {
        const int fired = membrane[i] > neuron->threshold;
        if (neuron->resets_to_zero)
            membrane[i] = (fired ? 0.0f : neuron->beta * membrane[i]) + current[i];
        else
            membrane[i] = (neuron->beta * membrane[i] + current[i]) - (fired ? neuron->threshold : 0.0f);
        spikes[i] = membrane[i] > neuron->threshold ? 1.0f : 0.0f;
    }
}

const sen_kernels_table sen_kernels_plain = {"plain", dense, nonzero, panels, sparse, integrate};
