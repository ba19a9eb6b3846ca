/* Running a spiking network: the layers in order in each step. */
#include "apply.h"

/* export: sen_spiking_run, needs apply */
/* The current of a spiking layer: W x + b. */
static void charge(const sen_network *network, float *work, const sen_layer *layer, const float *x)
{
    float *current = work + layer->current;
#ifdef SEN_DELAYS
    if (layer->wiring) {
        sen_deliver(network, work, layer, x);
        return;
    }
#endif
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
#ifdef SEN_DELAYS
        if (layer->wiring)
            sen_reset_wiring(layer, work);
#endif
    }
#ifdef SEN_CODES_INPUTS
    if (network->code != NULL)
        memset(work + network->state, 0, (network->n_in + 1) * sizeof(float));
#endif
}

/* What arrives at the first layer in the next step. */
static const float *arriving(const sen_network *network, float *work, const float *x)
{
#ifdef SEN_CODES_INPUTS
    if (network->code != NULL)
        return network->code(network, work, x);
#endif
    (void)network;
    (void)work;
    return x;
}

/* Whether the current of the first layer is the same in all steps. */
static int is_constant(const sen_network *network)
{
#ifdef SEN_CODES_INPUTS
    if (network->code != NULL)
        return 0;
#endif
#ifdef SEN_DELAYS
    if (network->layers->wiring)
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

/* Whether a leaky integrator is advanced in each step, because its neurons differ or it has wiring. */
SEN_INLINE int is_stepped(const sen_layer *layer)
{
#ifdef SEN_DELAYS
    if (layer->wiring)
        return 1;
#endif
    return is_varied(layer);
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
        SEN_LAYER_HOOK(index);
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
        SEN_LAYER_HOOK(network->layer_count - 1);
        return out;
    }
#endif
    for (i = 0; i < last->n_out; i++)
        out[i] = last->lif.beta * out[i] + work[last->current + i];
    SEN_LAYER_HOOK(network->layer_count - 1);
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
        SEN_LAYER_HOOK(0);
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

#if defined(SEN_PER_NEURON) || defined(SEN_DELAYS)
/* The readout y [n_out], step by step. */
static void read_steps(const sen_network *network, float *work, const float *x, float *y)
{
    float share = network->readout == SEN_LAST_MEMBRANE ? 1.0f : 1.0f / (float)network->timesteps;
    uint32_t t, i;
    memset(y, 0, network->n_out * sizeof(float));
    for (t = 0; t < network->timesteps; t++) {
        const float *in = network->is_spike_train ? x + (size_t)t * network->n_in : x;
        const float *out = leak(network, work, advance(network, work, in, is_constant(network)));
        for (i = 0; i < network->n_out; i++)
            y[i] = network->readout == SEN_LAST_MEMBRANE ? out[i] : y[i] + share * out[i];
#ifdef SEN_DELAYS
        if (network->readout_decay > 0)
            share *= network->readout_decay;
#endif
    }
}
#endif

static float factor_sum(const sen_network *network)
{
    float sum = 0.0f;
    uint32_t t;
    for (t = 0; t < network->timesteps; t++)
        sum += network->factors[t];
    return sum;
}

/* All steps. A leaky integrator is linear, so its weights are multiplied once, with what arrives in all steps. */
SEN_PRIVATE void sen_spiking_run(const sen_network *network, float *work, const float *x, float *y)
{
    const sen_layer *last = &network->layers[network->layer_count - 1];
    sen_network_reset(network, work);
    if (is_constant(network) && spiking_layers(network) > 0)
        charge(network, work, &network->layers[0], x);
    if (network->readout == SEN_SPIKE_COUNT) {
        run_steps(network, work, x, network->n_out, y);
        return;
    }
#if defined(SEN_PER_NEURON) || defined(SEN_DELAYS)
    if (is_stepped(last)) {
        read_steps(network, work, x, y);
        return;
    }
#endif
    run_steps(network, work, x, last->n_in, work + last->total);
    apply(network, work, last, work + last->total, bias_of(last, factor_sum(network), y), 0, y);
    SEN_LAYER_HOOK(network->layer_count - 1);
}
/* end */

int sen_charges_once(const sen_network *network)
{
    return is_constant(network) && spiking_layers(network) > 0;
}

int sen_sums_inputs(const sen_network *network)
{
    return network->readout != SEN_SPIKE_COUNT && !is_stepped(&network->layers[network->layer_count - 1]);
}

float sen_factor_sum(const sen_network *network)
{
    return factor_sum(network);
}

void sen_spiking_steps(const sen_network *network, float *work, const float *x, float *y)
{
    const sen_layer *last = &network->layers[network->layer_count - 1];
#if defined(SEN_PER_NEURON) || defined(SEN_DELAYS)
    if (network->readout != SEN_SPIKE_COUNT && is_stepped(last)) {
        read_steps(network, work, x, y);
        return;
    }
#endif
    run_steps(network, work, x, sen_sums_inputs(network) ? last->n_in : last->n_out, y);
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

void sen_spiking_profile(const sen_network *network, float *work, const float *x, float *y, sen_laps *laps)
{
    const uint32_t readout = network->layer_count - 1;
    const sen_layer *last = &network->layers[readout];
    sen_network_reset(network, work);
    if (network->readout == SEN_SPIKE_COUNT) {
        profile_steps(network, work, x, network->n_out, readout + 1, y, laps);
        return;
    }
#if defined(SEN_PER_NEURON) || defined(SEN_DELAYS)
    if (is_stepped(last)) { /* its products are among the steps */
        read_steps(network, work, x, y);
        sen_lap(laps, readout);
        return;
    }
#endif
    profile_steps(network, work, x, last->n_in, readout, work + last->total, laps);
    apply(network, work, last, work + last->total, bias_of(last, factor_sum(network), y), 0, y);
    sen_lap(laps, readout);
}
