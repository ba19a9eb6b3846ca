/* Running a network: the layers in order, and in a spiking network the steps. */
#include "network.h"

/* export: apply, needs sen_value */
/* What the product with `w` knows of its input `x` [n], once it was asked for. */
static void prepare(const sen_network *network, float *work, const float *x, const sen_weights *w, sen_input *input)
{
    const uint32_t n = w->columns, uses = w->uses;
    if (input->values != x)
        memset(input, 0, sizeof *input);
    input->values = x;
    if (uses & SEN_USES_INT8 && input->uses != uses) {
        input->uses = uses;
        network->kernels->quantize(x, n, work + network->quantized, input);
    }
    if (uses & SEN_USES_EVENTS && !input->events) {
        uint32_t *events = (uint32_t *)(void *)(work + network->events);
        input->count = network->kernels->nonzero(x, n, events);
        input->events = events;
    }
}

/* y = act(addend + W x) of a layer. */
static void apply(
    const sen_network *network, float *work, const sen_layer *layer, const float *x, const float *addend, int is_relu,
    float *y)
{
    sen_input input = {x, 0, NULL, 0, 0, NULL, 0};
    uint32_t index;
    for (index = 0; index < layer->term_count; index++) {
        const sen_weights *w = layer->terms[index].first, *second = layer->terms[index].second;
        prepare(network, work, x, w, &input);
        if (second) {
            float *inner = work + network->inner;
            w->multiply(w, &input, NULL, 0, inner);
            prepare(network, work, inner, second, &input);
            w = second;
        }
        w->multiply(w, &input, addend, is_relu && index == layer->term_count - 1, y);
        addend = y;
    }
}

/* A layer's bias times `factor`, as floats: where it lies, or in `y`; null where there is none. */
static const float *bias_of(const sen_layer *layer, float factor, float *y)
{
    uint32_t i;
    if (!layer->bias)
        return NULL;
    if (layer->bias_dtype == SEN_FLOAT32 && factor == 1.0f)
        return layer->bias;
    for (i = 0; i < layer->n_out; i++)
        y[i] = factor * sen_value(layer->bias, layer->bias_dtype, i);
    return y;
}
/* end */

/* export: run_perceptron, needs apply */
static void run_perceptron(const sen_network *network, float *work, const float *x, float *y)
{
    const uint32_t count = network->layer_count;
    uint32_t index;
    for (index = 0; index < count; index++) {
        const sen_layer *layer = &network->layers[index];
        float *out = index == count - 1 ? y : work + layer->out;
        apply(network, work, layer, x, bias_of(layer, 1.0f, out), layer->neuron == SEN_RELU, out);
        x = out;
    }
}
/* end */

/* export: run_spiking, needs apply */
/* The current of a spiking layer: W x + b. */
static void charge(const sen_network *network, float *work, const sen_layer *layer, const float *x)
{
    float *current = work + layer->current;
    apply(network, work, layer, x, bias_of(layer, 1.0f, current), 0, current);
}

SEN_PRIVATE void sen_network_reset(const sen_network *network, float *work)
{
    uint32_t index;
    for (index = 0; index < network->layer_count; index++) {
        const sen_layer *layer = &network->layers[index];
        if (layer->neuron == SEN_LIF)
            memset(work + layer->membrane, 0, layer->n_out * sizeof(float));
        else
            memset(work + layer->out, 0, layer->n_out * sizeof(float));
    }
#ifdef SEN_CODES_INPUTS
    if (network->code)
        memset(work + network->state, 0, (network->n_in + 1) * sizeof(float));
#endif
}

/* What arrives at the first layer in the next step. */
static const float *arriving(const sen_network *network, float *work, const float *x)
{
#ifdef SEN_CODES_INPUTS
    if (network->code)
        return network->code(network, work, x);
#endif
    (void)network, (void)work;
    return x;
}

/* Whether it is the same in all steps. */
static int is_constant(const sen_network *network)
{
#ifdef SEN_CODES_INPUTS
    if (network->code)
        return 0;
#endif
    return !network->is_spike_train;
}

/* Whether the neurons of a layer differ. */
static int is_varied(const sen_layer *layer)
{
#ifdef SEN_PER_NEURON
    return layer->lif.betas != NULL;
#else
    (void)layer;
    return 0;
#endif
}

static void integrate(const sen_network *network, float *work, const sen_layer *layer)
{
    sen_integrator *kernel = network->kernels->integrate;
#ifdef SEN_PER_NEURON
    if (is_varied(layer))
        kernel = network->kernels->integrate_each;
#endif
    kernel(&layer->lif, layer->n_out, work + layer->current, work + layer->membrane, work + layer->out);
}

/* The spikes of the last Lif layer after one step; the first layer's current is taken as it is if `is_charged`. */
static const float *advance(const sen_network *network, float *work, const float *x, int is_charged)
{
    uint32_t index;
    x = arriving(network, work, x);
    for (index = 0; index < network->layer_count; index++) {
        const sen_layer *layer = &network->layers[index];
        if (layer->neuron != SEN_LIF)
            break;
        if (index > 0 || !is_charged)
            charge(network, work, layer, x);
        integrate(network, work, layer);
        x = work + layer->out;
    }
    return x;
}

/* The membranes of a leaky integrator after one step. */
static const float *leak(const sen_network *network, float *work, const float *x)
{
    const sen_layer *last = &network->layers[network->layer_count - 1];
    float *out = work + last->out;
    uint32_t i;
    charge(network, work, last, x);
#ifdef SEN_PER_NEURON
    if (is_varied(last)) {
        for (i = 0; i < last->n_out; i++)
            out[i] = last->lif.betas[i] * out[i] + work[last->current + i];
        return out;
    }
#endif
    for (i = 0; i < last->n_out; i++)
        out[i] = last->lif.beta * out[i] + work[last->current + i];
    return out;
}

SEN_PRIVATE void sen_network_step(const sen_network *network, float *work, const float *x, float *y)
{
    const sen_layer *last = &network->layers[network->layer_count - 1];
    x = advance(network, work, x, 0);
    if (last->neuron == SEN_LEAKY_INTEGRATOR)
        leak(network, work, x);
    memcpy(y, work + last->out, last->n_out * sizeof(float));
}

/* Number of Lif layers. */
static uint32_t spiking_layers(const sen_network *network)
{
    return network->layer_count - (network->readout != SEN_SPIKE_COUNT);
}

/* What arrives at the readout in all steps, weighted: of one layer with a constant current, or of any. The first layer was
 * charged with an input that stays the same. */
static void run_steps(const sen_network *network, float *work, const float *x, uint32_t n, float *total)
{
    const sen_layer *first = &network->layers[0];
    uint32_t t, i;
    if (is_constant(network) && spiking_layers(network) == 1 && !is_varied(first)) {
        network->kernels->integrate_constant(
            &first->lif, n, work + first->current, network->factors, network->timesteps, work + first->membrane, total);
        return;
    }
    memset(total, 0, n * sizeof(float));
    for (t = 0; t < network->timesteps; t++) {
        const float *in = network->is_spike_train ? x + (size_t)t * network->n_in : x;
        const float *out = advance(network, work, in, is_constant(network));
        const float factor = network->factors[t];
        for (i = 0; i < n; i++)
            total[i] += factor * out[i];
    }
}

#ifdef SEN_PER_NEURON
/* The readout y [n_out], step by step, of a leaky integrator whose neurons differ. */
static void read_steps(const sen_network *network, float *work, const float *x, float *y)
{
    const float share = network->readout == SEN_LAST_MEMBRANE ? 1.0f : 1.0f / (float)network->timesteps;
    uint32_t t, i;
    memset(y, 0, network->n_out * sizeof(float));
    for (t = 0; t < network->timesteps; t++) {
        const float *in = network->is_spike_train ? x + (size_t)t * network->n_in : x;
        const float *out = leak(network, work, advance(network, work, in, is_constant(network)));
        for (i = 0; i < network->n_out; i++)
            y[i] = network->readout == SEN_LAST_MEMBRANE ? out[i] : y[i] + share * out[i];
    }
}
#endif

static float factor_sum(const sen_network *network)
{
    float sum = 0;
    uint32_t t;
    for (t = 0; t < network->timesteps; t++)
        sum += network->factors[t];
    return sum;
}

/* All steps. A leaky integrator is linear, so its weights are multiplied once, with what arrives in all steps. */
static void run_spiking(const sen_network *network, float *work, const float *x, float *y)
{
    const sen_layer *last = &network->layers[network->layer_count - 1];
    sen_network_reset(network, work);
    if (is_constant(network) && spiking_layers(network) > 0)
        charge(network, work, &network->layers[0], x);
    if (network->readout == SEN_SPIKE_COUNT) {
        run_steps(network, work, x, network->n_out, y);
        return;
    }
#ifdef SEN_PER_NEURON
    if (is_varied(last)) {
        read_steps(network, work, x, y);
        return;
    }
#endif
    run_steps(network, work, x, last->n_in, work + last->total);
    apply(network, work, last, work + last->total, bias_of(last, factor_sum(network), y), 0, y);
}
/* end */

void sen_network_run(const sen_network *network, float *work, const float *x, float *y)
{
    if (network->timesteps > 0)
        run_spiking(network, work, x, y);
    else
        run_perceptron(network, work, x, y);
}

static void add_weighted(const float *x, float factor, uint32_t n, float *total)
{
    uint32_t i;
    for (i = 0; i < n; i++)
        total[i] += factor * x[i];
}

/* run_steps in laps. */
static void profile_steps(
    const sen_network *network, float *work, const float *x, uint32_t n, uint32_t spiking, float *total, sen_laps *laps)
{
    const sen_layer *layers = network->layers;
    uint32_t t, index;
    if (is_constant(network) && spiking == 1 && !is_varied(layers)) {
        charge(network, work, layers, x);
        network->kernels->integrate_constant(
            &layers->lif, n, work + layers->current, network->factors, network->timesteps, work + layers->membrane, total);
        sen_lap(laps, 0);
        return;
    }
    memset(total, 0, n * sizeof(float));
    for (t = 0; t < network->timesteps; t++) {
        const float *in = arriving(network, work, network->is_spike_train ? x + (size_t)t * network->n_in : x);
        for (index = 0; index < spiking; index++) {
            const sen_layer *layer = &layers[index];
            if (index > 0 || t == 0 || !is_constant(network))
                charge(network, work, layer, in);
            integrate(network, work, layer);
            in = work + layer->out;
            if (index == spiking - 1)
                add_weighted(in, network->factors[t], n, total);
            sen_lap(laps, index);
        }
        if (spiking == 0)
            add_weighted(in, network->factors[t], n, total);
    }
}

void sen_network_profile(const sen_network *network, float *work, const float *x, float *y, sen_laps *laps)
{
    const uint32_t readout = network->layer_count - 1;
    const sen_layer *last = &network->layers[readout];
    uint32_t index;
    if (network->timesteps == 0) {
        for (index = 0; index <= readout; index++) {
            const sen_layer *layer = &network->layers[index];
            float *out = index == readout ? y : work + layer->out;
            apply(network, work, layer, x, bias_of(layer, 1.0f, out), layer->neuron == SEN_RELU, out);
            x = out;
            sen_lap(laps, index);
        }
        return;
    }
    sen_network_reset(network, work);
    if (network->readout == SEN_SPIKE_COUNT) {
        profile_steps(network, work, x, network->n_out, readout + 1, y, laps);
        return;
    }
#ifdef SEN_PER_NEURON
    if (is_varied(last)) { /* its products are among the steps */
        read_steps(network, work, x, y);
        sen_lap(laps, readout);
        return;
    }
#endif
    profile_steps(network, work, x, last->n_in, readout, work + last->total, laps);
    apply(network, work, last, work + last->total, bias_of(last, factor_sum(network), y), 0, y);
    sen_lap(laps, readout);
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
    const int counts_spikes = network->readout == SEN_SPIKE_COUNT;
    const int is_charged = is_constant(network) && spiking_layers(network) > 0;
    const size_t width = network->n_in * (size_t)(network->is_spike_train ? network->timesteps : 1);
    const uint32_t n = counts_spikes ? last->n_out : last->n_in;
    float *const currents = work + batch->hidden[0], *const totals = counts_spikes ? y : work + batch->hidden[1];
    uint32_t r;
    if (is_charged)
        apply_rows(batch, work, first, x, count, 1.0f, currents);
    for (r = 0; r < count; r++) {
        sen_network_reset(network, work);
        if (is_charged)
            memcpy(work + first->current, currents + (size_t)r * first->n_out, first->n_out * sizeof *currents);
#ifdef SEN_PER_NEURON
        if (is_varied(last) && !counts_spikes) {
            read_steps(network, work, x + r * width, y + (size_t)r * network->n_out);
            continue;
        }
#endif
        run_steps(network, work, x + r * width, n, totals + (size_t)r * n);
    }
    if (!counts_spikes && !is_varied(last))
        apply_rows(batch, work, last, totals, count, factor_sum(network), y);
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
