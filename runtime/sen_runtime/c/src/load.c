/* Loads an image: lays out the network in the arena. */
#include "internal.h"

uint32_t sen_take_floats(sen_loader *loader, uint64_t count)
{
    const uint64_t start = loader->work, unit = SEN_ALIGNMENT / sizeof(float);
    if (count > UINT32_MAX - unit || start + count > UINT32_MAX - unit)
        loader->arena.overflows = 1;
    else
        loader->work = (start + count + unit - 1) / unit * unit;
    return (uint32_t)start;
}

/* The values of a tensor: where they lie, or with SEN_PACK a copy in the arena. */
static const void *keep(sen_loader *loader, const sen_tensor *tensor)
{
    const uint32_t width = sen_width(tensor->dtype);
    void *copy;
    if (!tensor->data || !(loader->flags & SEN_PACK))
        return tensor->data;
    copy = sen_take(&loader->arena, tensor->count, width);
    return copy ? memcpy(copy, tensor->data, (size_t)(tensor->count * width)) : tensor->data;
}

/* Keeps the values of a matrix, unless they were rearranged, and its scale. */
static void keep_matrix(sen_loader *loader, const sen_tensor *data, const sen_tensor *scale, sen_weights *w)
{
    if (w->values == data->data)
        w->values = keep(loader, data);
    if (w->scale)
        w->scale = keep(loader, scale);
}

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

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static void note_uses(sen_loader *loader, const sen_weights *w)
{
    const sen_rows_kernel *rows = sen_find_rows_kernel(loader->isa->rows_kernels, w->multiply);
    if (w->uses & SEN_USES_INT8)
        loader->quantized = larger(loader->quantized, w->columns);
    if (w->uses & SEN_USES_EVENTS)
        loader->events = larger(loader->events, w->columns);
    if (rows && rows->turns)
        loader->turned = larger(loader->turned, w->columns + (0u - w->columns) % 16); /* whole vectors */
}

static sen_status place_dense(
    sen_loader *loader, const sen_tensor *data, const sen_tensor *scale, int meets_spikes, sen_weights *w)
{
    const sen_isa *isa = loader->isa;
    const int is_packed = (loader->flags & SEN_PACK) != 0, is_int8 = data->dtype == SEN_INT8 && !meets_spikes;
    set_matrix(w, data, scale, data->shape[0], data->shape[1]);
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
    keep_matrix(loader, data, scale, w);
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

/* Product of weights that are stored by source, or null. Weights that meet spikes are, if they are single. */
static sen_multiply *source_kernel(const sen_loader *loader, const sen_weights *w, int meets_spikes)
{
    const sen_isa *isa = loader->isa;
    const int is_int8 = (w->uses & SEN_USES_INT8) != 0;
    const uint32_t block_rows = (w->rows - 1) / w->block_rows + 1;
    const uint64_t elements = (uint64_t)w->rows * w->columns, bytes = elements * (is_int8 ? 1 : sizeof(float));
    const uint64_t weights = (uint64_t)w->starts[block_rows] * w->block_columns;
    uint32_t k;
    if (!(loader->flags & SEN_PACK) || w->index_dtype != SEN_UINT16 || block_rows > UINT16_MAX + 1u)
        return NULL;
    if (meets_spikes && w->block_rows == 1 && w->block_columns == 1)
        return sen_sparse_events;
    for (k = 0; k < SEN_SOURCE_KERNELS; k++) {
        const sen_source_kernel *kernel = &isa->sources[k];
        const int is_scattered = bytes <= isa->max_scattered && elements <= weights * kernel->max_spread;
        if (kernel->multiply && w->dtype == kernel->dtype && w->block_rows == kernel->block_rows
            && w->block_columns == kernel->block_columns && w->columns % w->block_columns == 0
            && is_int8 == (w->dtype == SEN_INT8))
            return is_scattered ? NULL : kernel->multiply;
    }
    return NULL;
}

static void place_sparse(
    sen_loader *loader, const sen_operator_record *record, const sen_tensor *tensors, int meets_spikes, sen_weights *w)
{
    const sen_isa *isa = loader->isa;
    const sen_tensor *values = &tensors[0], *columns = &tensors[1], *starts = &tensors[2], *scale = &tensors[3];
    const int is_int8 = values->dtype == SEN_INT8 && record->n_in <= SEN_MAX_INT8_COLUMNS;
    const int is_single = record->block[0] == 1 && record->block[1] == 1 && columns->dtype == SEN_UINT16;
    const int is_packed = (loader->flags & SEN_PACK) != 0 && columns->dtype == SEN_UINT16;
    const int has_slices = is_int8 ? isa->slices_int8 != NULL : values->dtype == SEN_FLOAT32 && isa->slices_f32 != NULL;
    const uint32_t tile = is_int8 ? 64 : 32;
    sen_multiply *by_source;
    set_matrix(w, values, scale, record->n_out, record->n_in);
    w->indices = columns->data;
    w->index_dtype = columns->dtype;
    w->starts = starts->data;
    w->block_rows = record->block[0];
    w->block_columns = record->block[1];
    w->uses = is_int8 ? SEN_USES_INT8 : 0;
    by_source = source_kernel(loader, w, meets_spikes);
    if (by_source) {
        if (!is_int8 || by_source == sen_sparse_events)
            w->uses = SEN_USES_EVENTS;
        sen_by_source(loader, w, by_source);
    } else if (is_single && is_packed && has_slices && w->columns >= tile && w->columns <= UINT16_MAX) {
        sen_to_slices(loader, w);
    } else if (is_packed && !(w->dtype == SEN_FLOAT32 && w->block_rows == 8 && w->block_columns == 1)
               && (uint64_t)w->rows * w->columns * (is_int8 ? 1 : sizeof(float)) <= isa->max_scattered) {
        sen_scatter(loader, w);
    } else {
        w->multiply = sparse_kernel(isa, w, is_int8);
        w->indices = keep(loader, columns);
        w->starts = keep(loader, starts);
    }
    keep_matrix(loader, values, scale, w);
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
    if (loader->isa->coordinates && w->dimensions <= SEN_MAX_DIMENSIONS) {
        w->multiply = loader->isa->coordinates;
        w->uses = SEN_USES_EVENTS;
    }
    w->values = keep(loader, &tensors[0]);
    w->target = keep(loader, &tensors[1]);
    w->mask = keep(loader, &tensors[2]);
    return SEN_OK;
}

/* The matrices of an operator without operands in the order of multiplication: two of a low-rank one, else one. */
static sen_status place_operator(sen_loader *loader, const sen_operator_record *record, int meets_spikes, sen_weights *w)
{
    sen_tensor tensors[4];
    sen_status status;
    uint32_t i;
    for (i = 0; i < 4; i++)
        tensors[i] = sen_image_tensor(loader->image, record->tensors[i]);
    switch (record->kind) {
    case SEN_COORDINATES:
        return place_coordinates(loader, record, tensors, w);
    case SEN_DENSE:
        return place_dense(loader, &tensors[0], &tensors[1], meets_spikes, w);
    case SEN_SPARSE:
        place_sparse(loader, record, tensors, meets_spikes, w);
        return SEN_OK;
    default:
        loader->inner = larger(loader->inner, tensors[1].shape[0]);
        status = place_dense(loader, &tensors[1], &tensors[3], meets_spikes, &w[0]);
        return status == SEN_OK ? place_dense(loader, &tensors[0], &tensors[2], 0, &w[1]) : status;
    }
}

/* The terms of a layer: the operators without operands of its tree, which lies from `index` to its root. */
static sen_status place_terms(
    sen_loader *loader, uint32_t index, const sen_layer_record *record, int meets_spikes, sen_layer *layer)
{
    const sen_operator_record *operators = loader->image->operators;
    sen_term *terms = sen_take(&loader->arena, (uint64_t)record->op - index + 1, sizeof *terms);
    layer->terms = terms;
    layer->n_out = operators[record->op].n_out;
    layer->n_in = operators[record->op].n_in;
    for (; index <= record->op; index++) {
        const uint32_t count = operators[index].kind == SEN_LOW_RANK ? 2 : 1;
        sen_weights matrices[2], *placed;
        sen_status status;
        uint32_t i;
        if (operators[index].kind == SEN_SUM)
            continue;
        placed = sen_take(&loader->arena, count, sizeof *placed);
        status = place_operator(loader, &operators[index], meets_spikes, matrices);
        if (status != SEN_OK)
            return status;
        for (i = 0; i < count; i++)
            note_uses(loader, &matrices[i]);
        if (terms && placed && !loader->arena.overflows) {
            memcpy(placed, matrices, count * sizeof *placed);
            terms[layer->term_count].first = placed;
            terms[layer->term_count].second = count == 2 ? placed + 1 : NULL;
        }
        layer->term_count++;
    }
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
        layer.out = sen_take_floats(loader, layer.n_out);
    if (is_spiking)
        layer.current = sen_take_floats(loader, layer.n_out);
    if (is_spiking && record->neuron == SEN_LIF)
        layer.membrane = sen_take_floats(loader, layer.n_out);
    if (is_spiking && record->neuron == SEN_LEAKY_INTEGRATOR)
        layer.total = sen_take_floats(loader, layer.n_in);
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

/* Floats of activations of a batch, at most: there are fewer rows side by side in wide networks. */
#define MAX_HIDDEN (1u << 22)

/* Scratch of a batch, behind that of one input. A model whose batch cannot be addressed still runs one input. */
static void lay_out_batch(sen_loader *loader, sen_batch *batch)
{
    const sen_program *program = loader->image->program;
    const int overflows = loader->arena.overflows;
    uint32_t widest = larger(loader->inner, 1), hidden = 0, index;
    if (program->timesteps > 0)
        hidden = larger(program->n_in, program->n_out);
    for (index = 0; index + 1 < program->layers; index++)
        hidden = larger(hidden, loader->image->operators[loader->image->layers[index].op].n_out);
    widest = larger(widest, hidden);
    batch->rows = widest > MAX_HIDDEN ? 1 : MAX_HIDDEN / widest < SEN_TILE_ROWS ? MAX_HIDDEN / widest : SEN_TILE_ROWS;
    for (index = 0; index < 2; index++)
        batch->hidden[index] = sen_take_floats(loader, (uint64_t)batch->rows * hidden);
    batch->inner = sen_take_floats(loader, (uint64_t)batch->rows * loader->inner);
    batch->quantized_bytes = SEN_QUANTIZED_BYTES(loader->quantized);
    batch->quantized = sen_take_floats(loader, batch->rows * (uint64_t)batch->quantized_bytes / sizeof(float));
    batch->turned = sen_take_floats(loader, SEN_TURNED_FLOATS((uint64_t)loader->turned));
    if (!loader->arena.overflows && loader->work <= SIZE_MAX / sizeof(float)) /* never 0, which means too large */
        batch->bytes = loader->work ? (size_t)loader->work * sizeof(float) : SEN_ALIGNMENT;
    loader->arena.overflows = overflows;
}

/* Lays out a model whose activations are int8; what callers ask of a model is in its network. */
static sen_status lay_out_integers(sen_loader *loader, sen_model **placed)
{
    const sen_program *program = loader->image->program;
    sen_model *model = sen_take(&loader->arena, 1, sizeof *model);
    sen_integer_network *integer = NULL;
    const sen_status status = sen_lay_out_integers(loader, &integer);
    float *work;
    if (status != SEN_OK)
        return status;
    work = sen_take(&loader->arena, loader->work, sizeof *work);
    if (loader->arena.overflows || loader->work > SIZE_MAX / sizeof *work)
        return SEN_TOO_LARGE;
    if (loader->arena.base) {
        memset(model, 0, sizeof *model);
        model->network.kernels = &loader->isa->kernels;
        model->network.layer_count = program->layers;
        model->network.timesteps = program->timesteps;
        model->network.is_spike_train = program->is_spike_train;
        model->network.n_in = program->n_in;
        model->network.n_out = program->n_out;
        model->integer = integer;
        model->is_finite = loader->flags & SEN_ALLOW_NONFINITE ? NULL : loader->isa->is_finite;
        model->work = work;
        model->batch.bytes = (size_t)loader->work * sizeof *work;
        memset(work, 0, model->batch.bytes);
        *placed = model;
    }
    return SEN_OK;
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
    sen_batch batch = {NULL, loader->isa->rows_kernels, 0, {0, 0}, 0, 0, 0, 0, 0};
    float *work;
    if (program->timesteps > SEN_MAX_TIMESTEPS)
        return SEN_TOO_LARGE;
    for (index = 0; index < program->layers; index++) {
        const sen_status status = place_layer(loader, index, first_operator, layers ? &layers[index] : NULL);
        if (status != SEN_OK)
            return status;
        first_operator = loader->image->layers[index].op + 1;
    }
    inner = sen_take_floats(loader, loader->inner);
    quantized = sen_take_floats(loader, SEN_QUANTIZED_BYTES((uint64_t)loader->quantized) / sizeof(float));
    events = sen_take_floats(loader, loader->events ? (uint64_t)loader->events + 15 : 0);
    work = sen_take(arena, loader->work, sizeof *work);
    lay_out_batch(loader, &batch);
    if (arena->overflows)
        return SEN_TOO_LARGE;
    if (arena->base) {
        const sen_network network = {
            &loader->isa->kernels, layers,         program->layers, program->timesteps, program->is_spike_train,
            program->readout,      program->n_in,  program->n_out,  factors,            inner,
            quantized,             events};
        set_factors(factors, program, loader->image->layers[index - 1].beta);
        model->network = network;
        model->integer = NULL;
        model->is_finite = loader->flags & SEN_ALLOW_NONFINITE ? NULL : loader->isa->is_finite;
        model->work = work;
        model->batch = batch;
        model->batch.network = &model->network;
        *placed = model;
    }
    return SEN_OK;
}

/* Checks an image, and counts the bytes of its arena. */
static sen_status measure(sen_image *image, const void *bytes, size_t size, unsigned flags, size_t *arena_size)
{
    sen_status status = sen_image_open(image, bytes, size, flags);
    if (status == SEN_OK) {
        sen_loader loader = {{NULL, SIZE_MAX / 2, 0, 0}, image, sen_choose_isa(flags), flags, 0, 0, 0, 0, 0};
        status = image->input_grid ? lay_out_integers(&loader, NULL) : lay_out(&loader, NULL);
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
    sen_loader loader = {{memory, memory_size, 0, 0}, &image, sen_choose_isa(flags), flags, 0, 0, 0, 0, 0};
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
    status = image.input_grid ? lay_out_integers(&loader, model) : lay_out(&loader, model);
    if (status != SEN_OK)
        *model = NULL;
    else if (image.program->timesteps > 0 && !(*model)->integer) /* whose `work` is zeroed */
        sen_network_reset(&(*model)->network, (*model)->work);
    return status;
}
