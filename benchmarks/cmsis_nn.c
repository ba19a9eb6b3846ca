/* Inferences of int8 layers by CMSIS-NN between markers, for tests/cross/plugin.c to count; 0 if all outputs are within
 * CASE_TOLERANCE steps of those of cmsis_case.h. */
#include "arm_nnfunctions.h"
#include "cmsis_case.h"
#include "markers.h"

#define LAYERS (sizeof layers / sizeof *layers)

static int32_t sums[LAYERS][CASE_WIDTH]; /* of the weights, which MVE wants; computed once */
static int8_t buffers[2][CASE_WIDTH];

static int multiply(const case_layer *layer, int32_t *sum, const int8_t *x, int8_t *y)
{
    const cmsis_nn_context context = {sum, (int32_t)sizeof sums[0]};
    const cmsis_nn_fc_params parameters = {layer->input_offset, 0, layer->output_offset, {layer->min, 127}};
    const cmsis_nn_per_channel_quant_params scales = {layer->multiplier, layer->shift};
    const cmsis_nn_dims input = {1, 1, 1, layer->n_in}, weights = {layer->n_in, 1, 1, layer->n_out};
    const cmsis_nn_dims bias = {1, 1, 1, layer->n_out}, output = {1, 1, 1, layer->n_out};
    return arm_fully_connected_per_channel_s8(
        &context, &parameters, &scales, &input, x, &weights, layer->weights, &bias, layer->bias, &output, y);
}

int main(void)
{
    unsigned row, i;
    for (i = 0; i < LAYERS; i++)
        arm_vector_sum_s8(
            sums[i], layers[i].n_in, layers[i].n_out, layers[i].weights, layers[i].input_offset, 0, layers[i].bias);
    for (row = 0; row < sizeof case_x / sizeof *case_x; row++) {
        const int8_t *x = case_x[row];
        int status = 0;
        sen_count_start();
        for (i = 0; i < LAYERS; i++) {
            int8_t *y = buffers[i % 2];
            status |= multiply(&layers[i], sums[i], x, y);
            x = y;
        }
        sen_count_stop();
        for (i = 0; i < sizeof case_y[0]; i++)
            if (x[i] - case_y[row][i] > CASE_TOLERANCE || case_y[row][i] - x[i] > CASE_TOLERANCE)
                status |= 1;
        if (status)
            return 1;
    }
    return 0;
}
