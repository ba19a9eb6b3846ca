/* Loads an image: lays out the network in the arena. */
#include "internal.h"

#include <string.h>

/* Time steps of one inference; a stream has no end. */
#define MAX_TIMESTEPS (1u << 20)

/* The same for floats of `work`, which begins where the arena does. */
static uint32_t take_floats(sen_arena *arena, uint64_t count)
{
    const uint64_t start = arena->used / sizeof(float);
    (void)sen_take(arena, count, sizeof(float));
    return (uint32_t)start;
}

/* The values of a tensor: where they lie, or with SEN_PACK a copy in the arena. */
static const void *keep(sen_loader *loader, const sen_tensor *tensor)
{
    const uint32_t width = sen_width(tensor->dtype);
    uint64_t count = 1;
    uint32_t i;
    void *copy;
    if (!tensor->data || !(loader->flags & SEN_PACK))
        return tensor->data;
    for (i = 0; i < tensor->rank; i++)
        count *= tensor->shape[i];
    copy = sen_take(&loader->arena, count, width);
    return copy ? memcpy(copy, tensor->data, (size_t)(count * width)) : tensor->data;
}

/* Whether the product reads weights that were rearranged, instead of the image's. */
static int is_rearranged(const sen_isa *isa, const sen_weights *w)
{
    return w->multiply == isa->panels || w->multiply == isa->quads || w->multiply == isa->slices_f32
        || w->multiply == isa->slices_int8 || w->multiply == sen_sparse_events;
}

static void keep_matrix(sen_loader *loader, const sen_tensor *data, const sen_tensor *scale, sen_weights *w)
{
    if (!is_rearranged(loader->isa, w))
        w->values = keep(loader, data);
    if (w->scale)
        w->scale = keep(loader, scale);
}

static void note_uses(sen_loader *loader, const sen_weights *w)
{
    if (w->uses & SEN_USES_INT8 && w->columns > loader->quantized)
        loader->quantized = w->columns;
    if (w->uses & SEN_USES_EVENTS && w->columns > loader->events)
        loader->events = w->columns;
}

/* ------------------------------------------------------------------------------------------------ choice of products */

static sen_status place_dense(sen_loader *loader, sen_weights *w, int meets_spikes)
{
    const sen_isa *isa = loader->isa;
    const int is_packed = (loader->flags & SEN_PACK) != 0, is_int8 = w->dtype == SEN_INT8 && !meets_spikes;
    if (is_int8 && w->columns <= SEN_MAX_INT8_COLUMNS) {
        w->uses = SEN_USES_INT8;
        w->multiply = isa->dense_int8;
        if (is_packed && isa->quads)
            sen_to_quads(loader, w);
    } else if (is_packed) {
        return sen_to_panels(loader, w);
    } else if (meets_spikes) {
        w->uses = SEN_USES_EVENTS;
        w->multiply = sen_dense_events;
    } else {
        w->multiply = w->dtype == SEN_FLOAT32 ? isa->dense_f32
            : w->dtype == SEN_FLOAT16         ? isa->dense_f16
                                              : sen_dense_reference;
    }
    return SEN_OK;
}

static sen_multiply *sparse_kernel(const sen_isa *isa, const sen_weights *w, int is_int8)
{
    sen_multiply *kernel = NULL;
#define SEN_CHOOSE_KERNEL(type, height, width, member, portable)                                                           \
    if (w->dtype == (type) && w->block_rows == (height) && w->block_columns == (width))                                    \
        kernel = isa->member;
    if (w->index_dtype == SEN_UINT16 && w->columns % w->block_columns == 0 && (is_int8 || w->dtype != SEN_INT8)) {
        SEN_SPARSE_KERNELS(SEN_CHOOSE_KERNEL)
    }
    if (kernel)
        return kernel;
    return is_int8 ? sen_sparse_int8_reference : sen_sparse_reference;
}

static void place_sparse(sen_loader *loader, sen_weights *w, int meets_spikes)
{
    const sen_isa *isa = loader->isa;
    const int is_int8 = w->dtype == SEN_INT8 && w->columns <= SEN_MAX_INT8_COLUMNS;
    const int is_single = w->block_rows == 1 && w->block_columns == 1 && w->index_dtype == SEN_UINT16;
    const uint32_t tile = is_int8 ? 64 : 32;
    const int has_slices = is_int8 ? isa->slices_int8 != NULL : w->dtype == SEN_FLOAT32 && isa->slices_f32 != NULL;
    if (is_single && meets_spikes && loader->flags & SEN_PACK && w->rows <= UINT16_MAX + 1u) {
        sen_by_source(loader, w);
        return;
    }
    w->uses = is_int8 ? SEN_USES_INT8 : 0;
    if (is_single && has_slices && loader->flags & SEN_PACK && w->columns >= tile && w->columns <= UINT16_MAX)
        sen_to_slices(loader, w);
    else
        w->multiply = sparse_kernel(isa, w, is_int8);
}

/* ------------------------------------------------------------------------------------------------ operators */

static void set_matrix(sen_weights *w, const sen_tensor *data, const sen_tensor *scale, uint32_t rows, uint32_t columns)
{
    memset(w, 0, sizeof *w);
    w->rows = rows;
    w->columns = columns;
    w->dtype = data->dtype;
    w->values = data->data;
    w->scale = scale->data;
    w->scale_step = scale->data && scale->shape[0] > 1;
}

static sen_status place_coordinates(
    sen_loader *loader, const sen_operator_record *record, const sen_tensor *tensors, sen_weights *w)
{
    memset(w, 0, sizeof *w);
    w->rows = record->n_out;
    w->columns = record->n_in;
    w->dtype = tensors[0].dtype;
    w->values = tensors[0].data;
    w->target = tensors[1].data;
    w->mask = tensors[2].data;
    w->target_dtype = tensors[1].dtype;
    w->mask_dtype = tensors[2].dtype;
    w->dimensions = tensors[0].shape[1];
    w->gain = record->scalars[0];
    w->exponent = record->scalars[1];
    w->min_distance = record->scalars[2];
    w->max_distance = record->scalars[3];
    if (!(loader->flags & SEN_ON_THE_FLY))
        return sen_to_panels(loader, w);
    w->multiply = sen_coordinates;
    w->values = keep(loader, &tensors[0]);
    w->target = keep(loader, &tensors[1]);
    w->mask = keep(loader, &tensors[2]);
    return SEN_OK;
}

/* One or two matrices of an operator without operands. */
static sen_status place_operator(
    sen_loader *loader, const sen_operator_record *record, int meets_spikes, sen_weights *first, sen_weights *second)
{
    sen_tensor tensors[4];
    sen_status status;
    uint32_t rank, i;
    for (i = 0; i < 4; i++)
        tensors[i] = sen_image_tensor(loader->image, record->tensors[i]);
    switch (record->kind) {
    case SEN_COORDINATES:
        return place_coordinates(loader, record, tensors, first);
    case SEN_DENSE:
        set_matrix(first, &tensors[0], &tensors[1], record->n_out, record->n_in);
        status = place_dense(loader, first, meets_spikes);
        keep_matrix(loader, &tensors[0], &tensors[1], first);
        return status;
    case SEN_SPARSE:
        set_matrix(first, &tensors[0], &tensors[3], record->n_out, record->n_in);
        first->indices = tensors[1].data;
        first->index_dtype = tensors[1].dtype;
        first->starts = tensors[2].data;
        first->block_rows = record->block[0];
        first->block_columns = record->block[1];
        place_sparse(loader, first, meets_spikes);
        if (!is_rearranged(loader->isa, first)) {
            first->indices = keep(loader, &tensors[1]);
            first->starts = keep(loader, &tensors[2]);
        }
        keep_matrix(loader, &tensors[0], &tensors[3], first);
        return SEN_OK;
    default:
        rank = tensors[1].shape[0];
        set_matrix(first, &tensors[1], &tensors[3], rank, record->n_in);
        set_matrix(second, &tensors[0], &tensors[2], record->n_out, rank);
        if (rank > loader->inner)
            loader->inner = rank;
        status = place_dense(loader, first, meets_spikes);
        keep_matrix(loader, &tensors[1], &tensors[3], first);
        if (status == SEN_OK) {
            status = place_dense(loader, second, 0);
            keep_matrix(loader, &tensors[0], &tensors[2], second);
        }
        return status;
    }
}

/* The terms of a layer: the operators without operands of its tree, which lies from `index` to its root. */
static sen_status place_terms(
    sen_loader *loader, uint32_t index, const sen_layer_record *record, int meets_spikes, sen_layer *layer)
{
    sen_term *terms = sen_take(&loader->arena, (uint64_t)record->op - index + 1, sizeof *terms);
    for (layer->term_count = 0; index <= record->op; index++) {
        const sen_operator_record *op = &loader->image->operators[index];
        const int count = op->kind == SEN_LOW_RANK ? 2 : 1;
        sen_weights first, second, *placed;
        sen_status status;
        layer->n_out = op->n_out;
        layer->n_in = op->n_in;
        if (op->kind == SEN_SUM)
            continue;
        placed = sen_take(&loader->arena, (uint64_t)count, sizeof *placed);
        status = place_operator(loader, op, meets_spikes, &first, &second);
        if (status != SEN_OK)
            return status;
        note_uses(loader, &first);
        if (count == 2)
            note_uses(loader, &second);
        if (terms && placed && !loader->arena.overflows) {
            placed[0] = first;
            if (count == 2)
                placed[1] = second;
            terms[layer->term_count].first = &placed[0];
            terms[layer->term_count].second = count == 2 ? &placed[1] : NULL;
        }
        layer->term_count++;
    }
    layer->terms = terms;
    return SEN_OK;
}

static sen_status place_layer(sen_loader *loader, uint32_t index, uint32_t first_operator, sen_layer *placed)
{
    const sen_program *program = loader->image->program;
    const sen_layer_record *record = &loader->image->layers[index];
    const int is_spiking = program->timesteps > 0;
    const int meets_spikes = record->neuron == SEN_LIF && (index > 0 || program->is_spike_train);
    const sen_tensor bias = sen_image_tensor(loader->image, record->bias);
    sen_layer layer;
    sen_status status;
    memset(&layer, 0, sizeof layer);
    status = place_terms(loader, first_operator, record, meets_spikes, &layer);
    if (status != SEN_OK)
        return status;
    layer.bias = keep(loader, &bias);
    layer.bias_dtype = bias.dtype;
    layer.neuron = record->neuron;
    layer.lif.beta = record->beta;
    layer.lif.threshold = record->threshold;
    layer.lif.reset = record->reset == SEN_ZERO_WITHOUT_DELAY ? SEN_RESET_ZERO : record->reset;
    if (is_spiking || index < program->layers - 1) /* a perceptron's last layer writes to `y` */
        layer.out = take_floats(&loader->arena, layer.n_out);
    if (is_spiking)
        layer.current = take_floats(&loader->arena, layer.n_out);
    if (is_spiking && record->neuron == SEN_LIF)
        layer.membrane = take_floats(&loader->arena, layer.n_out);
    if (is_spiking && record->neuron == SEN_LEAKY_INTEGRATOR)
        layer.total = take_floats(&loader->arena, layer.n_in);
    if (placed)
        *placed = layer;
    return SEN_OK;
}

/* What a current of 1 in step t adds to the readout: it decays by beta from step to step. */
static void set_factors(float *factors, const sen_program *program, float beta)
{
    const uint32_t steps = program->timesteps;
    float factor = 0, decay = 1;
    uint32_t t;
    for (t = steps; t-- > 0;) {
        if (program->readout == SEN_SPIKE_COUNT) {
            factors[t] = 1;
        } else if (program->readout == SEN_LAST_MEMBRANE) {
            factors[t] = decay;
            decay *= beta;
        } else {
            factor = beta * factor + 1;
            factors[t] = factor / (float)steps;
        }
    }
}

/* Lays a model out, or counts its bytes where the arena has no base. */
static sen_status lay_out(sen_loader *loader, sen_model **placed)
{
    const sen_program *program = loader->image->program;
    sen_arena *arena = &loader->arena;
    sen_model *model = sen_take(arena, 1, sizeof *model);
    sen_layer *layers = sen_take(arena, program->layers, sizeof *layers);
    float *factors = sen_take(arena, program->timesteps, sizeof *factors);
    uint32_t index, first_operator = 0, inner, quantized, events;
    if (program->timesteps > MAX_TIMESTEPS)
        return SEN_TOO_LARGE;
    for (index = 0; index < program->layers; index++) {
        const sen_status status = place_layer(loader, index, first_operator, layers ? &layers[index] : NULL);
        if (status != SEN_OK)
            return status;
        first_operator = loader->image->layers[index].op + 1;
    }
    inner = take_floats(arena, loader->inner);
    quantized = take_floats(arena, SEN_QUANTIZED_BYTES((uint64_t)loader->quantized) / sizeof(float));
    events = take_floats(arena, loader->events ? (uint64_t)loader->events + 15 : 0);
    if (arena->overflows)
        return SEN_TOO_LARGE;
    if (arena->base) {
        const sen_network network = {
            &loader->isa->kernels, layers,         program->layers, program->timesteps, program->is_spike_train,
            program->readout,      program->n_in,  program->n_out,  factors,            inner,
            quantized,             events};
        set_factors(factors, program, loader->image->layers[index - 1].beta);
        model->network = network;
        model->allows_nonfinite = (loader->flags & SEN_ALLOW_NONFINITE) != 0;
        model->work = (float *)(void *)arena->base;
        *placed = model;
    }
    return SEN_OK;
}

static sen_loader new_loader(const sen_image *image, unsigned flags, void *memory, size_t size)
{
    sen_loader loader;
    memset(&loader, 0, sizeof loader);
    loader.arena.base = memory;
    loader.arena.size = size;
    loader.image = image;
    loader.isa = sen_choose_isa(flags);
    loader.flags = flags;
    return loader;
}

/* Checks an image, and counts the bytes of its arena. */
static sen_status measure(sen_image *image, const void *bytes, size_t size, unsigned flags, size_t *arena_size)
{
    sen_status status = sen_image_open(image, bytes, size, flags);
    if (status == SEN_OK) {
        sen_loader loader = new_loader(image, flags, NULL, SIZE_MAX / 2);
        status = lay_out(&loader, NULL);
        if (status == SEN_OK)
            *arena_size = (size_t)loader.arena.used;
    }
    return status;
}

sen_status sen_arena_size(const void *bytes, size_t image_size, unsigned flags, size_t *arena_size)
{
    sen_image image;
    return arena_size ? measure(&image, bytes, image_size, flags, arena_size) : SEN_NULL;
}

sen_status sen_load(
    sen_model **model, const void *bytes, size_t image_size, void *memory, size_t memory_size, unsigned flags)
{
    sen_image image;
    sen_loader loader;
    sen_status status;
    size_t needed;
    if (!model || !memory)
        return SEN_NULL;
    *model = NULL;
    if ((uintptr_t)memory % SEN_ALIGNMENT != 0)
        return SEN_ARENA_ALIGNMENT;
    status = measure(&image, bytes, image_size, flags, &needed);
    if (status != SEN_OK)
        return status;
    if (needed > memory_size)
        return SEN_ARENA_SIZE;
    loader = new_loader(&image, flags, memory, memory_size);
    status = lay_out(&loader, model);
    if (status != SEN_OK)
        *model = NULL;
    else if (image.program->timesteps > 0)
        sen_network_reset(&(*model)->network, (*model)->work);
    return status;
}
