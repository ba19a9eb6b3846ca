/* Running a network whose activations are int8: in exported C from the caller's input to the caller's output, in images from and to
 * floats. */
#include "integer.h"

#define SEN_LAP(frame, index) \
    do { \
        if ((frame)->laps) \
            sen_lap((frame)->laps, index); \
    } while (0)

/* export: integer_apply, needs integer_types */
#ifndef SEN_LAP
#define SEN_LAP(frame, index) SEN_LAYER_HOOK(index)
#endif

static const uint8_t *source_at(const sen_integer_frame *frame, size_t at)
{
    return at == SEN_CALLER_INPUT ? frame->x : frame->work + at;
}

static uint8_t *target_at(const sen_integer_frame *frame, size_t at)
{
    return at == SEN_CALLER_OUTPUT ? frame->y : frame->work + at;
}

static void apply_integers(const sen_integer_network *network, const sen_integer_frame *frame, uint32_t index)
{
    const sen_operation *step = network->layers[index].operations, *const end = step + network->layers[index].operation_count;
    for (; step != end; step++) {
        const uint8_t *x = source_at(frame, step->x);
        step->weights->multiply(step->weights, x, frame->work + network->scratch, target_at(frame, step->y));
    }
}
/* end */

/* export: sen_integer_perceptron_run, needs integer_apply */
SEN_PRIVATE void sen_integer_perceptron_run(const sen_integer_network *network, const sen_integer_frame *frame)
{
    uint32_t index;
    for (index = 0; index < network->layer_count; index++) {
        apply_integers(network, frame, index);
        SEN_LAP(frame, index);
    }
}
/* end */

/* export: sen_integer_spiking_run, needs integer_apply, sen_integer_integrate */
static int counts_spikes(const sen_integer_network *network)
{
    return network->lif_count == network->layer_count;
}

/* Number of values that arrive at the readout. */
static uint32_t weighted_size(const sen_integer_network *network)
{
    const sen_integer_layer *last = &network->layers[network->layer_count - 1];
    return counts_spikes(network) ? last->n_out : last->n_in;
}

SEN_PRIVATE void sen_integer_reset(const sen_integer_network *network, uint8_t *work)
{
    uint32_t index;
    for (index = 0; index < network->lif_count; index++)
        memset(work + network->layers[index].membrane, 0, network->layers[index].n_out * sizeof(int16_t));
    memset(work + network->weighted, 0, weighted_size(network));
    memset(work + network->clock, 0, sizeof(uint32_t));
}

static void integrate_integers(
    const sen_integer_network *network, uint8_t *work, const sen_integer_layer *layer, const SEN_FLASH int32_t *factors,
    uint32_t steps, uint8_t *total)
{
    int16_t *membrane = (int16_t *)(void *)(work + layer->membrane);
    network->integrate(&layer->lif, layer->n_out, work + layer->out, factors, steps, membrane, total);
}

/* One step, whose values arrive at the readout; the first layer's current is taken as it is if `is_charged`. 1 if a membrane
 * readout has had all steps: then nothing is computed. */
SEN_PRIVATE int sen_integer_advance(const sen_integer_network *network, const sen_integer_frame *frame, int is_charged)
{
    static const SEN_FLASH int32_t spike = SEN_STORED_SPIKE;
    const uint32_t lif_count = network->lif_count, n = weighted_size(network);
    const uint8_t *arriving = source_at(frame, lif_count ? network->layers[lif_count - 1].spikes : network->input);
    const int32_t zero = lif_count ? 0 : network->zero;
    uint8_t *weighted = frame->work + network->weighted;
    uint32_t *clock = (uint32_t *)(void *)(frame->work + network->clock);
    int32_t factor;
    uint32_t i;
    if (*clock == network->timesteps)
        return 1;
    for (i = 0; i < lif_count; i++) {
        const sen_integer_layer *layer = &network->layers[i];
        if (i > 0 || !is_charged)
            apply_integers(network, frame, i);
        integrate_integers(network, frame->work, layer, &spike, 1, frame->work + layer->spikes);
        SEN_LAP(frame, i);
    }
    factor = network->factors[*clock];
    for (i = 0; i < n; i++) {
        const int32_t term = (factor * (arriving[i] - zero) + SEN_STORED_SPIKE / 2) >> SEN_SPIKE_BITS;
        const int32_t sum = weighted[i] + (term > 0 ? term : 0);
        weighted[i] = (uint8_t)(sum < 255 ? sum : 255);
    }
    *clock += !counts_spikes(network) || *clock + 1 < network->timesteps;
    return 0;
}

/* All steps, from membranes of 0. */
SEN_PRIVATE void sen_integer_spiking_run(const sen_integer_network *network, sen_integer_frame *frame)
{
    const sen_integer_layer *first = &network->layers[0];
    const int is_constant = !network->is_spike_train;
    uint32_t t;
    sen_integer_reset(network, frame->work);
    if (is_constant && network->lif_count == 0)
        return; /* the readout reads the input */
    if (is_constant)
        apply_integers(network, frame, 0);
    if (is_constant && network->lif_count == 1) {
        integrate_integers(
            network, frame->work, first, network->factors, network->timesteps, frame->work + network->weighted);
        SEN_LAP(frame, 0);
        return;
    }
    for (t = 0; t < network->timesteps; t++) {
        (void)sen_integer_advance(network, frame, is_constant);
        if (network->is_spike_train)
            frame->x += network->n_in;
    }
}

/* The output of the steps so far: a product of the readout's input, or spike counts. */
SEN_PRIVATE void sen_integer_read_out(const sen_integer_network *network, const sen_integer_frame *frame)
{
    if (counts_spikes(network))
        memcpy(frame->y, frame->work + network->weighted, network->n_out);
    else {
        apply_integers(network, frame, network->layer_count - 1);
        SEN_LAP(frame, network->layer_count - 1);
    }
}
/* end */

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

void sen_integer_step(const sen_integer_network *network, uint8_t *work, const float *x, float *y)
{
    const sen_integer_frame frame = {work, NULL, NULL, NULL};
    const sen_integer_layer *last = &network->layers[network->layer_count - 1];
    uint32_t i;
    quantize(network, work, x);
    (void)sen_integer_advance(network, &frame, 0);
    for (i = 0; last->neuron == SEN_LIF && i < last->n_out; i++)
        y[i] = work[last->spikes + i] ? 1.0f : 0.0f;
}

static void run_spiking(const sen_integer_network *network, sen_integer_frame *frame, const float *x)
{
    uint32_t t;
    if (!network->is_spike_train) {
        quantize(network, frame->work, x);
        sen_integer_spiking_run(network, frame);
        return;
    }
    sen_integer_reset(network, frame->work);
    for (t = 0; t < network->timesteps; t++) {
        quantize(network, frame->work, x + (size_t)t * network->n_in);
        (void)sen_integer_advance(network, frame, 0);
    }
}

void sen_integer_run(const sen_integer_network *network, uint8_t *work, const float *x, float *y, sen_laps *laps)
{
    sen_integer_frame frame = {work, NULL, NULL, laps};
    uint32_t i;
    if (network->timesteps == 0) {
        quantize(network, work, x);
        sen_integer_perceptron_run(network, &frame);
    } else {
        run_spiking(network, &frame, x);
    }
    if (network->timesteps > 0 && counts_spikes(network)) {
        for (i = 0; i < network->n_out; i++)
            y[i] = work[network->weighted + i];
        return;
    }
    if (network->timesteps > 0)
        sen_integer_read_out(network, &frame);
    dequantize(&network->layers[network->layer_count - 1], work, y);
}
