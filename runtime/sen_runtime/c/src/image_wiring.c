/* The wiring of an image: delays, recurrent synapses and synaptic currents. */
#include "image.h"

#include <math.h>

/* Whether all fields from `from` on are unused. */
static int is_unused(const sen_delay_record *delay, const uint32_t *from)
{
    return all_zero(from, (size_t)((const uint8_t *)(delay + 1) - (const uint8_t *)from));
}

static int is_stored(const sen_image *image, const sen_delay_record *delay, uint32_t n_out, uint32_t n_in)
{
    const sen_tensor steps = sen_image_tensor(image, is_tensor(image, delay->tensors[0]) ? delay->tensors[0] : SEN_NONE);
    return has_shape(&steps, 2, n_out, n_in) && (steps.dtype == SEN_UINT8 || steps.dtype == SEN_UINT16);
}

static int is_spatial(const sen_image *image, const sen_delay_record *delay, uint32_t n_out, uint32_t n_in)
{
    sen_tensor at[2];
    uint32_t k;
    for (k = 0; k < 2; k++) {
        at[k] = sen_image_tensor(image, is_tensor(image, delay->tensors[k]) ? delay->tensors[k] : SEN_NONE);
        if (!is_float(&at[k]) || !has_shape(&at[k], 2, k ? n_out : n_in, at[0].shape[1]))
            return 0;
    }
    return at[0].shape[1] > 0 && delay->scale > 0 && is_finite(delay->scale) && delay->softening >= 0
        && is_finite(delay->softening) && (uint64_t)delay->limit + delay->shift <= SEN_MAX_DELAY
        && delay->overflow <= SEN_OVERFLOW_WRAP;
}

static int is_delay(const sen_image *image, const sen_delay_record *delay, uint32_t n_out, uint32_t n_in)
{
    const int has_tensors = delay->tensors[0] != SEN_NONE || delay->tensors[1] != SEN_NONE;
    const uint32_t *const scale = (const uint32_t *)(const void *)&delay->scale;
    switch (delay->kind) {
    case SEN_NO_DELAY:
        return delay->value == 0 && !has_tensors && is_unused(delay, scale);
    case SEN_CONSTANT_DELAY:
        return delay->value <= SEN_MAX_DELAY && !has_tensors && is_unused(delay, scale);
    case SEN_STORED_DELAY:
        return delay->value == 0 && delay->tensors[1] == SEN_NONE && is_unused(delay, scale)
            && is_stored(image, delay, n_out, n_in);
    case SEN_SPATIAL_DELAY:
        return delay->value == 0 && is_spatial(image, delay, n_out, n_in);
    default:
        return 0;
    }
}

/* Whether all delays are at least one step. */
static int is_later(const sen_image *image, const sen_delay_record *delay)
{
    const sen_tensor stored = sen_image_tensor(image, delay->kind == SEN_STORED_DELAY ? delay->tensors[0] : SEN_NONE);
    uint64_t i;
    if (delay->kind == SEN_CONSTANT_DELAY)
        return delay->value >= 1;
    if (delay->kind == SEN_SPATIAL_DELAY)
        return delay->shift >= 1
            || (delay->overflow != SEN_OVERFLOW_WRAP && delay->limit >= 1
                && delay->scale * sqrtf(delay->softening) > 0.5f);
    for (i = 0; stored.data && i < stored.count; i++)
        if ((stored.dtype == SEN_UINT8 ? ((const uint8_t *)stored.data)[i] : ((const uint16_t *)stored.data)[i]) == 0)
            return 0;
    return delay->kind == SEN_STORED_DELAY;
}

sen_status sen_check_wiring(const sen_image *image, uint32_t index)
{
    const sen_wiring_record *const wiring = &image->wiring[index];
    const sen_layer_record *const layer = &image->layers[index];
    const sen_operator_record *const op = &image->operators[layer->op];
    const sen_delay_record *const later = &wiring->delays[1];
    const int is_spiking = layer->neuron == SEN_LIF || layer->neuron == SEN_REFRACTORY_LIF;
    if (!(wiring->synapse >= 0 && wiring->synapse < 1) || !is_delay(image, &wiring->delays[0], op->n_out, op->n_in)
        || !is_delay(image, later, op->n_out, op->n_out))
        return SEN_LAYER;
    if (wiring->recurrent == SEN_NONE ? later->kind != SEN_NO_DELAY : !is_spiking || !is_later(image, later))
        return SEN_LAYER;
    return sen_wiring_of(image, index) && (image->program->timesteps == 0 || image->input_grid) ? SEN_LAYER : SEN_OK;
}
