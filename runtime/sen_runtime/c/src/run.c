/* Running a network: the layers in order; rows of a batch side by side. */
#include "apply.h"

/* export: sen_perceptron_run, needs apply */
SEN_PRIVATE void sen_perceptron_run(const sen_network *network, float *work, const float *x, float *y)
{
    const uint32_t count = network->layer_count;
    uint32_t index;
    for (index = 0; index < count; index++) {
        const sen_layer *layer = &network->layers[index];
        float *out = index == count - 1 ? y : work + layer->out;
        apply(network, work, layer, x, bias_of(layer, 1.0f, out), layer->neuron == SEN_RELU, out);
        x = out;
        SEN_LAYER_HOOK(index);
    }
}
/* end */

void sen_network_run(const sen_network *network, float *work, const float *x, float *y)
{
    if (network->timesteps > 0)
        sen_spiking_run(network, work, x, y);
    else
        sen_perceptron_run(network, work, x, y);
}

void sen_network_profile(const sen_network *network, float *work, const float *x, float *y, sen_laps *laps)
{
    uint32_t index;
    if (network->timesteps > 0) {
        sen_spiking_profile(network, work, x, y, laps);
        return;
    }
    for (index = 0; index < network->layer_count; index++) {
        const sen_layer *layer = &network->layers[index];
        float *out = index == network->layer_count - 1 ? y : work + layer->out;
        apply(network, work, layer, x, bias_of(layer, 1.0f, out), layer->neuron == SEN_RELU, out);
        x = out;
        sen_lap(laps, index);
    }
}

const sen_rows_kernel *sen_find_rows_kernel(const sen_rows_kernel *kernels, sen_multiply *multiply)
{
    for (; kernels && kernels->multiply; kernels++)
        if (kernels->multiply == multiply)
            return kernels;
    return NULL;
}

/* What is added to the products of rows: nothing, or floats `step` apart from row to row. */
typedef struct sen_addends {
    const float *first;
    size_t step;
} sen_addends;

/* `count` rows `x [columns]` times `w`. */
static void multiply_rows(
    const sen_batch *batch, float *work, const sen_weights *w, const float *x, uint32_t count, const sen_addends *addends,
    int is_relu, float *y)
{
    const sen_weights *const by_row = w->by_row ? &w->by_row->weights : w;
    const sen_rows_kernel *kernel = sen_find_rows_kernel(batch->kernels, by_row->multiply);
    const uint32_t together = kernel && kernel->count_together ? kernel->count_together(w, count) : count;
    int8_t *quantized = (int8_t *)(work + batch->quantized);
    sen_rows rows;
    uint32_t r;
    rows.count = 0;
    rows.is_relu = is_relu;
    rows.turned = work + batch->turned;
    for (r = 0; r < count; r++, x += w->columns, y += w->rows, quantized += batch->quantized_bytes) {
        const float *addend = addends->first ? addends->first + r * addends->step : NULL;
        sen_input *input = &rows.x[rows.count];
        memset(input, 0, sizeof *input);
        input->values = x;
        if (!kernel || r >= together || (kernel->is_faster_alone && kernel->is_faster_alone(w, x))) {
            prepare(batch->network, work, x, w, input);
            w->multiply(w, input, addend, is_relu, y);
            continue;
        }
        input->uses = w->uses & ~(uint32_t)SEN_USES_GROUPS;
        if (w->uses & SEN_USES_INT8)
            batch->network->kernels->quantize(x, w->columns, quantized, input);
        rows.addend[rows.count] = addend;
        rows.y[rows.count++] = y;
    }
    if (rows.count > 0)
        kernel->multiply_rows(by_row, &rows);
}

/* Outputs of a layer for rows `x [n_in]`, with `factor` times the bias. */
static void apply_rows(
    const sen_batch *batch, float *work, const sen_layer *layer, const float *x, uint32_t count, float factor, float *y)
{
    const sen_addends none = {NULL, 0};
    sen_addends addends = {NULL, 0};
    uint32_t index, r;
    for (r = 0; r < count; r++)
        addends.first = bias_of(layer, factor, y + (size_t)r * layer->n_out);
    if (addends.first != layer->bias) { /* it is in each row of `y` */
        addends.first = y;
        addends.step = layer->n_out;
    }
    for (index = 0; index < layer->term_count; index++) {
        const sen_weights *first = layer->terms[index].first, *second = layer->terms[index].second;
        const int is_relu = layer->neuron == SEN_RELU && index == layer->term_count - 1;
        float *const inner = work + batch->inner;
        if (second) {
            multiply_rows(batch, work, first, x, count, &none, 0, inner);
            multiply_rows(batch, work, second, inner, count, &addends, is_relu, y);
        } else {
            multiply_rows(batch, work, first, x, count, &addends, is_relu, y);
        }
        addends.first = y;
        addends.step = layer->n_out;
    }
}

static void run_perceptron_rows(const sen_batch *batch, float *work, const float *x, float *y, uint32_t count)
{
    const sen_network *network = batch->network;
    uint32_t index;
    for (index = 0; index < network->layer_count; index++) {
        float *out = index == network->layer_count - 1 ? y : work + batch->hidden[index % 2];
        apply_rows(batch, work, &network->layers[index], x, count, 1.0f, out);
        x = out;
    }
}

/* The first layer's currents from an input that stays the same, and the readout, are products of all rows; the steps run row
 * after row. */
static void run_spiking_rows(const sen_batch *batch, float *work, const float *x, float *y, uint32_t count)
{
    const sen_network *network = batch->network;
    const sen_layer *first = &network->layers[0], *last = &network->layers[network->layer_count - 1];
    const int sums_inputs = sen_sums_inputs(network), is_charged = sen_charges_once(network);
    const size_t width = network->n_in * (size_t)(network->is_spike_train ? network->timesteps : 1);
    const uint32_t n = sums_inputs ? last->n_in : last->n_out;
    float *const currents = work + batch->hidden[0], *const totals = sums_inputs ? work + batch->hidden[1] : y;
    uint32_t r;
    if (is_charged)
        apply_rows(batch, work, first, x, count, 1.0f, currents);
    for (r = 0; r < count; r++) {
        sen_network_reset(network, work);
        if (is_charged)
            memcpy(work + first->current, currents + (size_t)r * first->n_out, first->n_out * sizeof *currents);
        sen_spiking_steps(network, work, x + r * width, totals + (size_t)r * n);
    }
    if (sums_inputs)
        apply_rows(batch, work, last, totals, count, sen_factor_sum(network), y);
}

void sen_network_run_rows(const sen_batch *batch, float *work, const float *x, float *y, size_t rows)
{
    const sen_network *network = batch->network;
    const sen_scaling *scaling = batch->scaling;
    const size_t width = network->n_in * (size_t)(network->is_spike_train ? network->timesteps : 1);
    size_t row;
    for (row = 0; row < rows; row += batch->rows) {
        const uint32_t count = rows - row < batch->rows ? (uint32_t)(rows - row) : batch->rows;
        const float *in = x + row * width;
        float *out = y + row * network->n_out;
        if (scaling)
            in = sen_standardize_rows(scaling, in, width / network->n_in * count, work + scaling->rows);
        if (network->timesteps > 0)
            run_spiking_rows(batch, work, in, out, count);
        else
            run_perceptron_rows(batch, work, in, out, count);
        if (scaling)
            sen_finish_rows(scaling, out, count);
    }
}
