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

static void note_uses(sen_loader *loader, const sen_weights *w)
{
    const sen_rows_kernel *rows = sen_find_rows_kernel(loader->isa->rows_kernels, w->multiply);
    if (w->uses & SEN_USES_INT8)
        loader->quantized = sen_larger(loader->quantized, w->columns);
    if (w->uses & SEN_USES_EVENTS)
        loader->events = sen_larger(loader->events, w->columns);
    if (rows && rows->turns)
        loader->turned = sen_larger(loader->turned, w->columns + (0u - w->columns) % 16); /* whole vectors */
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
        status = sen_place_operator(loader, &operators[index], meets_spikes, matrices);
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

/* A parameter of each of `n` neurons: those of a section, or a number. */
static const float *place_parameter(sen_loader *loader, uint32_t section, float number, uint32_t n)
{
    const sen_tensor values = sen_image_tensor(loader->image, section);
    float *placed;
    uint32_t i;
    if (section != SEN_NONE)
        return sen_keep(loader, &values);
    placed = sen_take(&loader->arena, n, sizeof *placed);
    for (i = 0; placed && i < n; i++)
        placed[i] = number;
    return placed;
}

static sen_status place_layer(sen_loader *loader, uint32_t index, uint32_t first_operator, sen_layer *placed)
{
    const sen_program *program = loader->image->program;
    const sen_layer_record *record = &loader->image->layers[index];
    const int is_spiking = program->timesteps > 0;
    const sen_neuron_record *each = loader->image->neurons ? &loader->image->neurons[index] : NULL;
    const int is_varied = each && (each->beta != SEN_NONE || each->threshold != SEN_NONE);
    const sen_wiring_record *wiring = sen_wiring_of(loader->image, index);
    const int is_lif = record->neuron == SEN_LIF || record->neuron == SEN_REFRACTORY_LIF;
    const int is_stepped = is_lif || is_varied; /* else its weights are multiplied once */
    const int arrives_as_spikes = index > 0 || sen_arrives_as_spikes(program), meets_spikes = is_stepped && arrives_as_spikes;
    const sen_tensor bias = sen_image_tensor(loader->image, record->bias);
    sen_layer layer;
    sen_status status;
    memset(&layer, 0, sizeof layer);
    if (wiring)
        status = sen_place_wiring(loader, index, first_operator, arrives_as_spikes, &layer);
    else
        status = place_terms(loader, first_operator, record, meets_spikes, &layer);
    if (status != SEN_OK)
        return status;
    layer.bias = sen_keep(loader, &bias);
    layer.bias_dtype = bias.dtype;
    layer.neuron = is_lif ? SEN_LIF : record->neuron;
    layer.lif.beta = record->beta;
    layer.lif.threshold = record->threshold;
    if (is_varied) {
        layer.lif.betas = place_parameter(loader, each->beta, record->beta, layer.n_out);
        layer.lif.thresholds = place_parameter(loader, each->threshold, record->threshold, layer.n_out);
    }
    layer.lif.reset = record->neuron == SEN_REFRACTORY_LIF    ? SEN_RESET_REFRACTORY
        : record->reset == SEN_ZERO_WITHOUT_DELAY ? SEN_RESET_ZERO
                                                  : record->reset;
    if (is_spiking || index < program->layers - 1) /* a perceptron's last layer writes to `y` */
        layer.out = sen_take_floats(loader, layer.n_out);
    if (is_spiking)
        layer.current = sen_take_floats(loader, layer.n_out);
    if (is_spiking && is_lif)
        layer.membrane = sen_take_floats(loader, layer.n_out);
    if (is_spiking && record->neuron == SEN_LEAKY_INTEGRATOR)
        layer.total = sen_take_floats(loader, layer.n_in);
    if (placed)
        *placed = layer;
    return SEN_OK;
}

/* What a current of 1 in step t adds to the readout: it decays by beta from step to step, and so do the weights of the steps. */
static void set_factors(float *factors, const sen_program *program, float beta, float readout_decay)
{
    const uint32_t steps = program->timesteps;
    float factor = 0, decay = 1;
    uint32_t t;
    for (t = 0; t < steps; t++) {
        factors[t] = program->readout == SEN_MEAN_MEMBRANE ? decay : 1;
        decay *= readout_decay;
    }
    for (decay = 1; t-- > 0 && program->readout != SEN_SPIKE_COUNT; decay *= beta) {
        factor = readout_decay * beta * factor + 1;
        factors[t] = program->readout == SEN_LAST_MEMBRANE ? decay : factors[t] * factor / (float)steps;
    }
}

/* Floats of activations of a batch, at most: there are fewer rows side by side in wide networks. */
#define MAX_HIDDEN (1u << 22)

/* Values of an input, with all steps of a sequence; 0 where it is taken as it is. */
static uint64_t values_to_standardize(const sen_image *image)
{
    const sen_program *program = image->program;
    if (!image->scaling || image->scaling->input[0] == SEN_NONE)
        return 0;
    return program->n_in * (uint64_t)(sen_has_steps(program) ? program->timesteps : 1);
}

/* Scratch of a batch, behind that of one input. A model whose batch cannot be addressed still runs one input. */
static void lay_out_batch(sen_loader *loader, sen_batch *batch, sen_scaling *scaling)
{
    const sen_program *program = loader->image->program;
    const int overflows = loader->arena.overflows;
    const uint64_t standardized = values_to_standardize(loader->image);
    uint32_t widest = sen_larger(loader->inner, 1), hidden = 0, index, start;
    if (program->timesteps > 0)
        hidden = sen_larger(program->n_in, program->n_out);
    for (index = 0; index + 1 < program->layers; index++)
        hidden = sen_larger(hidden, loader->image->operators[loader->image->layers[index].op].n_out);
    widest = sen_larger(widest, sen_larger(hidden, standardized > UINT32_MAX ? UINT32_MAX : (uint32_t)standardized));
    batch->rows = widest > MAX_HIDDEN ? 1 : MAX_HIDDEN / widest < SEN_TILE_ROWS ? MAX_HIDDEN / widest : SEN_TILE_ROWS;
    for (index = 0; index < 2; index++)
        batch->hidden[index] = sen_take_floats(loader, (uint64_t)batch->rows * hidden);
    batch->inner = sen_take_floats(loader, (uint64_t)batch->rows * loader->inner);
    batch->quantized_bytes = SEN_QUANTIZED_BYTES(loader->quantized);
    batch->quantized = sen_take_floats(loader, batch->rows * (uint64_t)batch->quantized_bytes / sizeof(float));
    batch->turned = sen_take_floats(loader, SEN_TURNED_FLOATS((uint64_t)loader->turned));
    start = sen_take_floats(loader, batch->rows * standardized);
    if (scaling)
        scaling->rows = start;
    batch->scaling = scaling;
    if (!loader->arena.overflows && loader->work <= SIZE_MAX / sizeof(float)) /* never 0, which means too large */
        batch->bytes = loader->work ? (size_t)loader->work * sizeof(float) : SEN_ALIGNMENT;
    loader->arena.overflows = overflows;
}

/* Constants around the layers and scratch for one standardized input; null where the image has none. */
static sen_scaling *place_scaling(sen_loader *loader)
{
    const sen_program *program = loader->image->program;
    const sen_scaling_record *record = loader->image->scaling;
    sen_tensor tensors[4];
    sen_scaling *placed, scaling;
    float *inverse;
    uint32_t i;
    if (!record)
        return NULL;
    for (i = 0; i < 2; i++) {
        tensors[i] = sen_image_tensor(loader->image, record->input[i]);
        tensors[2 + i] = sen_image_tensor(loader->image, record->output[i]);
    }
    memset(&scaling, 0, sizeof scaling);
    scaling.n_in = program->n_in;
    scaling.n_out = program->n_out;
    scaling.activation = program->activation;
    scaling.input_mean = sen_keep(loader, &tensors[0]);
    scaling.output_mean = sen_keep(loader, &tensors[2]);
    scaling.output_std = sen_keep(loader, &tensors[3]);
    inverse = sen_take(&loader->arena, tensors[1].data ? program->n_in : 0, sizeof *inverse);
    for (i = 0; inverse && tensors[1].data && i < program->n_in; i++)
        inverse[i] = 1 / ((const float *)tensors[1].data)[i];
    scaling.input_inverse = inverse;
    scaling.one = sen_take_floats(loader, values_to_standardize(loader->image));
    placed = sen_take(&loader->arena, 1, sizeof *placed);
    return placed ? memcpy(placed, &scaling, sizeof scaling) : NULL;
}

/* Lays out a model whose activations are int8; what callers ask of a model is in its network. */
static sen_status lay_out_integers(sen_loader *loader, sen_model **placed)
{
    const sen_program *program = loader->image->program;
    sen_model *model = sen_take(&loader->arena, 1, sizeof *model);
    sen_integer_network *integer = NULL;
    const sen_status status = sen_lay_out_integers(loader, &integer);
    const sen_scaling *scaling;
    float *work;
    if (status != SEN_OK)
        return status;
    scaling = place_scaling(loader);
    work = sen_take(&loader->arena, loader->work, sizeof *work);
    if (loader->arena.overflows || loader->work > SIZE_MAX / sizeof *work)
        return SEN_TOO_LARGE;
    if (loader->arena.base) {
        memset(model, 0, sizeof *model);
        model->network.kernels = &loader->isa->kernels;
        model->network.layer_count = program->layers;
        model->network.timesteps = program->timesteps;
        model->network.is_spike_train = (uint32_t)sen_has_steps(program);
        model->network.readout = program->readout;
        model->network.n_in = program->n_in;
        model->network.n_out = program->n_out;
        model->integer = integer;
        model->is_finite = loader->flags & SEN_ALLOW_NONFINITE ? NULL : loader->isa->is_finite;
        model->work = work;
        model->batch.scaling = scaling;
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
    uint32_t index, first_operator = 0, inner, quantized, events, coded, state;
    sen_batch batch = {NULL, NULL, loader->isa->rows_kernels, 0, {0, 0}, 0, 0, 0, 0, 0};
    sen_scaling *scaling;
    float *work;
    if (program->timesteps > SEN_MAX_TIMESTEPS)
        return SEN_TOO_LARGE;
    for (index = 0; index < program->layers; index++) {
        const sen_status status = place_layer(loader, index, first_operator, layers ? &layers[index] : NULL);
        if (status != SEN_OK)
            return status;
        first_operator = loader->image->layers[index].op + 1;
        if (loader->image->wiring && loader->image->wiring[index].recurrent != SEN_NONE)
            first_operator = loader->image->wiring[index].recurrent + 1;
    }
    inner = sen_take_floats(loader, loader->inner);
    quantized = sen_take_floats(loader, SEN_QUANTIZED_BYTES((uint64_t)loader->quantized) / sizeof(float));
    events = sen_take_floats(loader, loader->events ? (uint64_t)loader->events + 15 : 0);
    coded = sen_take_floats(loader, program->coding >= SEN_RATE ? program->n_in : 0);
    state = sen_take_floats(loader, program->coding >= SEN_RATE ? (uint64_t)program->n_in + 1 : 0);
    scaling = place_scaling(loader);
    work = sen_take(arena, loader->work, sizeof *work);
    lay_out_batch(loader, &batch, scaling);
    if (arena->overflows)
        return SEN_TOO_LARGE;
    if (arena->base) {
        const uint32_t has_steps = (uint32_t)sen_has_steps(program), n_in = sen_features(program);
        const float decay = loader->image->readout_decay ? *loader->image->readout_decay : 1;
        const sen_network network = {
            &loader->isa->kernels, layers,         program->layers, program->timesteps, has_steps,
            program->readout,      n_in,           program->n_out,  factors,            inner,
            quantized,             events,
            program->coding == SEN_RATE    ? sen_code_rate
            : program->coding == SEN_DELTA ? sen_code_delta
                                           : NULL,
            loader->image->delta ? *loader->image->delta : 0, coded, state, decay};
        set_factors(factors, program, loader->image->layers[index - 1].beta, decay);
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
