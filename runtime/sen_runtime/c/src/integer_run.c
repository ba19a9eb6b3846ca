/* Running a network whose activations are int8. */
#include "integer.h"

static void add_up(const sen_operation *sum, const uint8_t *a, const uint8_t *b, uint8_t *y)
{
    const int32_t half = (int32_t)1 << (sum->shift - 1);
    uint32_t i;
    for (i = 0; i < sum->size; i++) {
        const int32_t total = (a[i] - sum->zeros[0]) * sum->factors[0] + (b[i] - sum->zeros[1]) * sum->factors[1];
        const int32_t value = ((total + half) >> sum->shift) + sum->zero;
        y[i] = (uint8_t)(value < sum->low ? sum->low : value > 255 ? 255 : value);
    }
}

static void apply(const sen_integer_network *network, uint8_t *work, const sen_integer_layer *layer)
{
    const sen_operation *step = layer->operations, *const end = step + layer->operation_count;
    for (; step != end; step++) {
        if (step->weights)
            step->weights->multiply(step->weights, work + step->x, work + network->scratch, work + step->y);
        else
            add_up(step, work + step->x, work + step->other, work + step->y);
    }
}

void sen_integer_run_stored(const sen_integer_network *network, uint8_t *work, sen_laps *laps)
{
    uint32_t index;
    for (index = 0; index < network->layer_count; index++) {
        apply(network, work, &network->layers[index]);
        if (laps)
            sen_lap(laps, index);
    }
}

/* Real values of the vector of a layer. */
static void dequantize(const sen_integer_layer *layer, const uint8_t *work, float *y)
{
    const uint8_t *stored = work + layer->out;
    uint32_t i;
    for (i = 0; i < layer->n_out; i++)
        y[i] = (float)(stored[i] - layer->zero) * layer->scale;
}

const float *sen_integer_layer_output(
    const sen_integer_network *network, uint8_t *work, uint32_t index, uint32_t *size)
{
    const sen_integer_layer *layer = &network->layers[index];
    float *values = (float *)(void *)(work + network->values);
    uint32_t i;
    if (layer->neuron == SEN_LEAKY_INTEGRATOR || (network->timesteps == 0 && index == network->layer_count - 1))
        return NULL;
    *size = layer->n_out;
    if (layer->neuron != SEN_LIF)
        dequantize(layer, work, values);
    for (i = 0; layer->neuron == SEN_LIF && i < layer->n_out; i++)
        values[i] = work[layer->spikes + i] ? 1.0f : 0.0f;
    return values;
}

static void quantize(const sen_integer_network *network, uint8_t *work, const float *x)
{
    network->kernels->quantize(x, network->n_in, network->inverse_scale, network->zero, work + network->input);
}

void sen_integer_reset(const sen_integer_network *network, uint8_t *work)
{
    uint32_t index;
    for (index = 0; index < network->lif_count; index++)
        memset(work + network->layers[index].membrane, 0, network->layers[index].n_out * sizeof(int16_t));
}

static void integrate(
    const sen_integer_network *network, uint8_t *work, const sen_integer_layer *layer, const int32_t *factors, uint32_t steps,
    uint8_t *total)
{
    int16_t *membrane = (int16_t *)(void *)(work + layer->membrane);
    network->kernels->integrate(&layer->lif, layer->n_out, work + layer->out, factors, steps, membrane, total);
}

/* One step; the first layer's current is taken as it is if `is_charged`. `laps` is null here and below without a clock. */
static void advance(const sen_integer_network *network, uint8_t *work, int is_charged, sen_laps *laps)
{
    static const int32_t spike = SEN_STORED_SPIKE;
    uint32_t index;
    for (index = 0; index < network->lif_count; index++) {
        const sen_integer_layer *layer = &network->layers[index];
        if (index > 0 || !is_charged)
            apply(network, work, layer);
        integrate(network, work, layer, &spike, 1, work + layer->spikes);
        if (laps)
            sen_lap(laps, index);
    }
}

void sen_integer_step(const sen_integer_network *network, uint8_t *work, const float *x, float *y)
{
    const sen_integer_layer *last = &network->layers[network->layer_count - 1];
    uint32_t i;
    quantize(network, work, x);
    advance(network, work, 0, NULL);
    for (i = 0; last->neuron == SEN_LIF && i < last->n_out; i++)
        y[i] = work[last->spikes + i] ? 1.0f : 0.0f;
}

/* What arrives in all steps, weighted: the input of a membrane readout, or spike counts. */
static void run_steps(
    const sen_integer_network *network, uint8_t *work, const float *x, uint32_t n, uint8_t *weighted, sen_laps *laps)
{
    const sen_integer_layer *layers = network->layers;
    const int is_constant = !network->is_spike_train;
    const uint8_t *arriving = work + (network->lif_count ? layers[network->lif_count - 1].spikes : network->input);
    const int32_t zero = network->lif_count ? 0 : network->zero;
    int32_t *total = (int32_t *)(void *)(work + network->total);
    uint32_t t, i;
    if (is_constant) {
        quantize(network, work, x);
        apply(network, work, &layers[0]);
    }
    if (is_constant && network->lif_count == 1) {
        integrate(network, work, &layers[0], network->factors, network->timesteps, weighted);
        if (laps)
            sen_lap(laps, 0);
        return;
    }
    memset(total, 0, n * sizeof *total);
    for (t = 0; t < network->timesteps; t++) {
        if (!is_constant)
            quantize(network, work, x + (size_t)t * network->n_in);
        advance(network, work, is_constant, laps);
        for (i = 0; i < n; i++) {
            const int32_t term = (network->factors[t] * (arriving[i] - zero) + SEN_STORED_SPIKE / 2) / SEN_STORED_SPIKE;
            total[i] += term > 0 ? term : 0;
        }
    }
    for (i = 0; i < n; i++)
        weighted[i] = (uint8_t)(total[i] < 255 ? total[i] : 255);
}

static void run_spiking(const sen_integer_network *network, uint8_t *work, const float *x, float *y, sen_laps *laps)
{
    const sen_integer_layer *last = &network->layers[network->layer_count - 1];
    uint8_t *weighted = work + network->weighted;
    uint32_t i;
    sen_integer_reset(network, work);
    if (last->neuron == SEN_LIF) {
        run_steps(network, work, x, network->n_out, weighted, laps);
        for (i = 0; i < network->n_out; i++)
            y[i] = weighted[i];
        return;
    }
    if (network->layer_count > 1 || network->is_spike_train)
        run_steps(network, work, x, last->n_in, weighted, laps);
    else
        quantize(network, work, x); /* it stays the same: the readout reads it */
    apply(network, work, last);
    dequantize(last, work, y);
    if (laps)
        sen_lap(laps, network->layer_count - 1);
}

void sen_integer_run(const sen_integer_network *network, uint8_t *work, const float *x, float *y, sen_laps *laps)
{
    if (network->timesteps > 0) {
        run_spiking(network, work, x, y, laps);
        return;
    }
    quantize(network, work, x);
    sen_integer_run_stored(network, work, laps);
    dequantize(&network->layers[network->layer_count - 1], work, y);
}
