/* The product of a layer, in every way in which its weights are stored. */
#ifndef SEN_APPLY_H
#define SEN_APPLY_H

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
        if (second != NULL) {
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
#ifndef __AVR__ /* whose loads from flash are not those from RAM */
    if (layer->bias_dtype == SEN_FLOAT32 && factor == 1.0f)
        return layer->bias;
#endif
    for (i = 0; i < layer->n_out; i++)
        y[i] = factor * sen_value(layer->bias, layer->bias_dtype, i);
    return y;
}
/* end */

#endif
