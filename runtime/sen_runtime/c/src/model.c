/* From an image to something that runs: everything a model needs is laid out in the arena, once. */
#include "internal.h"

#include <string.h>

typedef struct sen_layer {
    const sen_operator *op;
    sen_tensor bias;
    uint32_t neuron;
    sen_lif lif;
    float *current;   /* `[n_out]`: W x + b; of a multilayer perceptron the activation */
    float *membrane;  /* `[n_out]` of a spiking layer */
    float *spikes;    /* `[n_out]` of Lif neurons: 0 or 1 */
    float *arrived;   /* `[n_in]` of a leaky integrator: the decaying sum of what reached it */
    float *total;     /* `[n_in]` of a leaky integrator: the sum of that over time */
} sen_layer;

struct sen_model {
    const sen_kernels_table *kernels;
    sen_program program;
    sen_layer *layers;
    float *inner; /* the values between the factors of a LowRank */
    uint32_t *events; /* indices of the inputs of a product that are not 0 */
};

/* ------------------------------------------------------------------------------------------------ the arena */

/* Hands out memory, or only counts it where `base` is null. */
typedef struct sen_arena {
    uint8_t *base;
    uint64_t used;
    int overflows;
} sen_arena;

static void *take(sen_arena *arena, uint64_t count, uint64_t size)
{
    const uint64_t start = arena->used;
    if (count > (UINT64_MAX / 4) / size || start > UINT64_MAX / 4) {
        arena->overflows = 1;
        return NULL;
    }
    arena->used = (start + count * size + SEN_ALIGNMENT - 1) / SEN_ALIGNMENT * SEN_ALIGNMENT;
    if (arena->used > SIZE_MAX / 2)
        arena->overflows = 1;
    return arena->base && !arena->overflows ? arena->base + (size_t)start : NULL;
}

static sen_matrix matrix(const sen_tensor *data, const sen_tensor *scale)
{
    sen_matrix w;
    w.data = data->data;
    w.dtype = data->dtype;
    w.rows = data->shape[0];
    w.columns = data->shape[1];
    w.scale = scale->data;
    w.scale_step = scale->data && scale->shape[0] > 1;
    return w;
}

/* Floats of packed weights `[rows, columns]`: rows are filled up to a multiple of 16. */
static uint64_t packed_floats(uint64_t rows, uint64_t columns)
{
    return (rows + 15) / 16 * 16 * columns;
}

/* Weights in panels: a matrix of the image, or a record's coordinates where `w` is null. */
static sen_status pack(sen_panels *panels, float *to, const sen_matrix *w, const sen_operator_record *record)
{
    uint32_t first, i, j;
    panels->data = to;
    panels->rows = w ? w->rows : record->n_out;
    panels->columns = w ? w->columns : record->n_in;
    for (first = 0; first < panels->rows; first += SEN_PANEL) {
        const uint32_t width = sen_panel_width(panels->rows, first);
        for (j = 0; j < panels->columns; j++)
            for (i = first; i < first + width; i++) {
                float weight = 0;
                if (i < panels->rows && w)
                    weight = sen_scale(w, i) * sen_value(w->data, w->dtype, (size_t)i * w->columns + j);
                else if (i < panels->rows)
                    weight = sen_weight(record, i, j);
                if (!(weight - weight == 0)) /* infinite, or 0 / 0 */
                    return w ? SEN_VALUES : SEN_COINCIDENT;
                *to++ = weight;
            }
    }
    return SEN_OK;
}

/* An operator from its record. Dense weights that meet spikes are packed: most columns are then not needed. */
static sen_status place_operator(
    sen_arena *arena, const sen_operator_record *record, unsigned flags, sen_operator *op, sen_operator *all)
{
    const sen_tensor *tensors = record->tensors;
    float *left = NULL, *right = NULL;
    sen_status status = SEN_OK;
    if (record->kind == SEN_COORDINATES || (record->kind == SEN_DENSE && flags & SEN_PACK))
        left = take(arena, packed_floats(record->n_out, record->n_in), sizeof(float));
    if (record->kind == SEN_LOW_RANK && flags & SEN_PACK) {
        left = take(arena, packed_floats(record->n_out, tensors[1].shape[0]), sizeof(float));
        right = take(arena, packed_floats(tensors[1].shape[0], record->n_in), sizeof(float));
    }
    if (!arena->base)
        return SEN_OK;
    memset(op, 0, sizeof *op);
    op->kind = record->kind;
    op->n_out = record->n_out;
    op->n_in = record->n_in;
    if (record->kind == SEN_COORDINATES) {
        status = pack(&op->left_panels, left, NULL, record);
    } else if (record->kind == SEN_DENSE) {
        op->left = matrix(&tensors[0], &tensors[1]);
        if (left)
            status = pack(&op->left_panels, left, &op->left, record);
    } else if (record->kind == SEN_SPARSE) {
        op->blocks.values = matrix(&tensors[0], &tensors[3]);
        op->blocks.columns = tensors[1].data;
        op->blocks.starts = tensors[2].data;
        op->blocks.rows = record->n_out;
        op->blocks.columns_in = record->n_in;
        op->blocks.block_rows = record->block[0];
        op->blocks.block_columns = record->block[1];
    } else if (record->kind == SEN_LOW_RANK) {
        op->left = matrix(&tensors[0], &tensors[2]);
        op->right = matrix(&tensors[1], &tensors[3]);
        if (left)
            status = pack(&op->left_panels, left, &op->left, record);
        if (right && status == SEN_OK)
            status = pack(&op->right_panels, right, &op->right, record);
    } else {
        op->a = &all[record->operands[0]];
        op->b = &all[record->operands[1]];
    }
    return status;
}

static sen_status place_operators(
    sen_arena *arena, const sen_image *image, unsigned flags, sen_operator *operators, uint32_t *widest)
{
    const sen_program *program = &image->program;
    uint32_t layer, index = 0;
    for (layer = 0; layer < program->layers; layer++) {
        unsigned layer_flags = flags;
        sen_layer_record record;
        sen_image_layer(image, layer, &record);
        if (record.neuron == SEN_LIF && (layer > 0 || program->is_spike_train))
            layer_flags |= SEN_PACK;
        for (; index <= record.op; index++) {
            sen_operator_record op;
            sen_status status;
            sen_image_operator(image, index, &op);
            if (op.n_in > *widest)
                *widest = op.n_in;
            if (op.kind == SEN_LOW_RANK && op.tensors[1].shape[0] > *widest)
                *widest = op.tensors[1].shape[0];
            status = place_operator(arena, &op, layer_flags, operators ? &operators[index] : NULL, operators);
            if (status != SEN_OK)
                return status;
        }
    }
    return SEN_OK;
}

static void place_layer(
    sen_arena *arena, const sen_image *image, uint32_t index, sen_layer *layer, const sen_operator *operators)
{
    const int is_spiking = image->program.timesteps > 0;
    sen_layer_record record;
    sen_operator_record op;
    float *current, *membrane = NULL, *spikes = NULL, *arrived = NULL, *total = NULL;
    sen_image_layer(image, index, &record);
    sen_image_operator(image, record.op, &op);
    current = take(arena, op.n_out, sizeof(float));
    if (is_spiking) {
        membrane = take(arena, op.n_out, sizeof(float));
        if (record.neuron == SEN_LIF) {
            spikes = take(arena, op.n_out, sizeof(float));
        } else {
            arrived = take(arena, op.n_in, sizeof(float));
            total = take(arena, op.n_in, sizeof(float));
        }
    }
    if (!arena->base)
        return;
    memset(layer, 0, sizeof *layer);
    layer->op = &operators[record.op];
    layer->bias = record.bias;
    layer->neuron = record.neuron;
    layer->lif.beta = record.beta;
    layer->lif.threshold = record.threshold;
    layer->lif.resets_to_zero = record.resets_to_zero;
    layer->current = current;
    layer->membrane = membrane;
    layer->spikes = spikes;
    layer->arrived = arrived;
    layer->total = total;
}

/* Lays a model out, or counts its bytes where the arena has no base. */
static sen_status lay_out(sen_arena *arena, const sen_image *image, unsigned flags, sen_model **placed)
{
    const sen_program *program = &image->program;
    sen_model *model = take(arena, 1, sizeof *model);
    sen_layer *layers = take(arena, program->layers, sizeof *layers);
    sen_operator *operators = take(arena, program->operators, sizeof *operators);
    uint32_t index, widest = 0, *events;
    float *inner;
    sen_status status = place_operators(arena, image, flags, operators, &widest);
    if (status != SEN_OK)
        return status;
    for (index = 0; index < program->layers; index++)
        place_layer(arena, image, index, layers ? &layers[index] : NULL, operators);
    inner = take(arena, widest, sizeof(float));
    events = take(arena, (uint64_t)widest + 15, sizeof(uint32_t));
    if (arena->overflows)
        return SEN_TOO_LARGE;
    if (arena->base) {
        model->kernels = sen_choose_kernels(flags);
        model->program = *program;
        model->layers = layers;
        model->inner = inner;
        model->events = events;
        *placed = model;
    }
    return SEN_OK;
}

sen_status sen_arena_size(const void *bytes, size_t image_size, unsigned flags, size_t *arena_size)
{
    sen_image image;
    sen_arena arena = {NULL, 0, 0};
    sen_status status;
    if (!arena_size)
        return SEN_NULL;
    status = sen_image_open(&image, bytes, image_size, flags);
    if (status == SEN_OK)
        status = lay_out(&arena, &image, flags, NULL);
    if (status == SEN_OK)
        *arena_size = (size_t)arena.used;
    return status;
}

sen_status sen_load(
    sen_model **model, const void *bytes, size_t image_size, void *memory, size_t memory_size, unsigned flags)
{
    sen_image image;
    sen_arena counted = {NULL, 0, 0}, arena = {memory, 0, 0};
    sen_status status;
    if (!model || !memory)
        return SEN_NULL;
    *model = NULL;
    if ((uintptr_t)memory % SEN_ALIGNMENT != 0)
        return SEN_ARENA_ALIGNMENT;
    status = sen_image_open(&image, bytes, image_size, flags);
    if (status == SEN_OK)
        status = lay_out(&counted, &image, flags, NULL);
    if (status == SEN_OK && counted.used > memory_size)
        return SEN_ARENA_SIZE;
    if (status == SEN_OK)
        status = lay_out(&arena, &image, flags, model);
    if (status == SEN_OK && image.program.timesteps > 0)
        status = sen_reset(*model);
    if (status != SEN_OK)
        *model = NULL;
    return status;
}

uint32_t sen_inputs(const sen_model *model)
{
    return model->program.n_in;
}

uint32_t sen_outputs(const sen_model *model)
{
    return model->program.n_out;
}

uint32_t sen_timesteps(const sen_model *model)
{
    return model->program.timesteps;
}

int sen_takes_spike_train(const sen_model *model)
{
    return (int)model->program.is_spike_train;
}

const char *sen_kernels(const sen_model *model)
{
    return model->kernels->name;
}

uint32_t sen_layers(const sen_model *model)
{
    return model->program.layers;
}

const float *sen_layer_output(const sen_model *model, uint32_t index, uint32_t *size)
{
    const sen_layer *layer;
    *size = 0;
    if (index >= model->program.layers)
        return NULL;
    layer = &model->layers[index];
    *size = layer->op->n_out;
    if (layer->neuron == SEN_LIF)
        return layer->spikes;
    if (layer->neuron == SEN_LEAKY_INTEGRATOR)
        return layer->membrane;
    return index < model->program.layers - 1 ? layer->current : NULL;
}

/* ------------------------------------------------------------------------------------------------ running */

/* y += w x, from packed weights where there are some. */
static void multiply(const sen_model *model, const sen_matrix *w, const sen_panels *panels, const float *x, float *y)
{
    if (panels->data) {
        const uint32_t count = model->kernels->nonzero(x, panels->columns, model->events);
        model->kernels->panels(panels, x, model->events, count, y);
    } else {
        model->kernels->dense(w, x, y);
    }
}

/* y += W x. Operators nest at most SEN_MAX_DEPTH deep, along either side of a Sum: a stack instead of recursion. */
static void add_product(const sen_model *model, const sen_operator *op, const float *x, float *y)
{
    const sen_operator *waiting[SEN_MAX_DEPTH];
    uint32_t count = 0;
    for (;;) {
        if (op->kind == SEN_SUM) {
            waiting[count++] = op->b;
            op = op->a;
            continue;
        }
        if (op->kind == SEN_SPARSE) {
            model->kernels->sparse(&op->blocks, x, y);
        } else if (op->kind == SEN_LOW_RANK) {
            memset(model->inner, 0, op->right.rows * sizeof(float));
            multiply(model, &op->right, &op->right_panels, x, model->inner);
            multiply(model, &op->left, &op->left_panels, model->inner, y);
        } else {
            multiply(model, &op->left, &op->left_panels, x, y);
        }
        if (count == 0)
            return;
        op = waiting[--count];
    }
}

static void set_bias(const sen_layer *layer, float *y, float factor)
{
    const uint32_t n = layer->op->n_out;
    uint32_t i;
    if (!layer->bias.data)
        memset(y, 0, n * sizeof(float));
    else
        for (i = 0; i < n; i++)
            y[i] = factor * sen_value(layer->bias.data, layer->bias.dtype, i);
}

static void run_perceptron(sen_model *model, const float *x, float *y)
{
    const uint32_t count = model->program.layers;
    uint32_t index, i;
    for (index = 0; index < count; index++) {
        const sen_layer *layer = &model->layers[index];
        float *out = index == count - 1 ? y : layer->current;
        set_bias(layer, out, 1.0f);
        add_product(model, layer->op, x, out);
        if (layer->neuron == SEN_RELU)
            for (i = 0; i < layer->op->n_out; i++)
                out[i] = out[i] > 0 ? out[i] : 0;
        x = out;
    }
}

/* ------------------------------------------------------------------------------------------------ spiking */

sen_status sen_reset(sen_model *model)
{
    uint32_t index;
    if (!model)
        return SEN_NULL;
    if (model->program.timesteps == 0)
        return SEN_NOT_SPIKING;
    for (index = 0; index < model->program.layers; index++) {
        const sen_layer *layer = &model->layers[index];
        memset(layer->membrane, 0, layer->op->n_out * sizeof(float));
        if (layer->arrived) {
            memset(layer->arrived, 0, layer->op->n_in * sizeof(float));
            memset(layer->total, 0, layer->op->n_in * sizeof(float));
        }
    }
    return SEN_OK;
}

/* The current of a layer: W x + b. */
static void charge(const sen_model *model, const sen_layer *layer, const float *x)
{
    set_bias(layer, layer->current, 1.0f);
    add_product(model, layer->op, x, layer->current);
}

/* The spikes of the last Lif layer after one step; the first layer's current is taken as it is if `is_charged`. */
static const float *advance(sen_model *model, const float *x, int is_charged)
{
    uint32_t index;
    for (index = 0; index < model->program.layers; index++) {
        const sen_layer *layer = &model->layers[index];
        if (layer->neuron != SEN_LIF)
            break;
        if (index > 0 || !is_charged)
            charge(model, layer, x);
        model->kernels->integrate(&layer->lif, layer->op->n_out, layer->current, layer->membrane, layer->spikes);
        x = layer->spikes;
    }
    return x;
}

sen_status sen_step(sen_model *model, const float *x, float *y)
{
    const sen_layer *last;
    uint32_t i;
    if (!model || !x || !y)
        return SEN_NULL;
    if (model->program.timesteps == 0)
        return SEN_NOT_SPIKING;
    x = advance(model, x, 0);
    last = &model->layers[model->program.layers - 1];
    if (last->neuron == SEN_LEAKY_INTEGRATOR) {
        charge(model, last, x);
        for (i = 0; i < last->op->n_out; i++)
            last->membrane[i] = last->lif.beta * last->membrane[i] + last->current[i];
        x = last->membrane;
    }
    memcpy(y, x, last->op->n_out * sizeof(float));
    return SEN_OK;
}

/* All steps. A leaky integrator is linear, so its weights are multiplied once, with the decaying sum of what arrives. */
static void run_spiking(sen_model *model, const float *x, float *y)
{
    const sen_program *program = &model->program;
    const sen_layer *first = &model->layers[0], *last = &model->layers[program->layers - 1];
    const int is_constant = !program->is_spike_train;
    const float beta = last->lif.beta;
    float weight = 0, total_weight = 0;
    uint32_t t, i;
    (void)sen_reset(model);
    memset(y, 0, program->n_out * sizeof(float));
    if (is_constant && first->neuron == SEN_LIF)
        charge(model, first, x);
    for (t = 0; t < program->timesteps; t++) {
        const float *out = advance(model, is_constant ? x : x + (size_t)t * program->n_in, is_constant);
        if (last->neuron == SEN_LIF) {
            for (i = 0; i < program->n_out; i++)
                y[i] += out[i];
            continue;
        }
        weight = beta * weight + 1.0f;
        total_weight += weight;
        for (i = 0; i < last->op->n_in; i++) {
            last->arrived[i] = beta * last->arrived[i] + out[i];
            last->total[i] += last->arrived[i];
        }
    }
    if (last->neuron == SEN_LIF)
        return;
    if (program->readout == SEN_LAST_MEMBRANE) {
        set_bias(last, y, weight);
        add_product(model, last->op, last->arrived, y);
    } else {
        const float share = 1.0f / (float)program->timesteps;
        for (i = 0; i < last->op->n_in; i++)
            last->total[i] *= share;
        set_bias(last, y, total_weight * share);
        add_product(model, last->op, last->total, y);
    }
}

sen_status sen_run(sen_model *model, const float *x, float *y)
{
    if (!model || !x || !y)
        return SEN_NULL;
    if (model->program.timesteps > 0)
        run_spiking(model, x, y);
    else
        run_perceptron(model, x, y);
    return SEN_OK;
}

sen_status sen_run_batch(sen_model *model, const float *x, float *y, size_t rows)
{
    size_t row, width;
    if (!model || !x || !y)
        return SEN_NULL;
    width = model->program.n_in * (size_t)(model->program.is_spike_train ? model->program.timesteps : 1);
    for (row = 0; row < rows; row++)
        (void)sen_run(model, x + row * width, y + row * model->program.n_out);
    return SEN_OK;
}

const char *sen_status_text(sen_status status)
{
    static const char *const texts[SEN_STATUS_COUNT] = {
        "ok",
        "a pointer is null",
        "the image does not start at a multiple of 64 bytes",
        "the arena does not start at a multiple of 64 bytes",
        "the arena is too small",
        "this processor is not little-endian",
        "the model needs more memory than this processor can address",
        "the image has fewer or more bytes than it says",
        "this is not a .sen image",
        "the image has a version that this library does not read",
        "the image was changed: its checksum does not fit",
        "the image's header has a field without a valid value",
        "the image's section table contradicts the file",
        "the image's program has a wrong size, or a field without a valid value",
        "an operator of the image contradicts itself or its tensors",
        "a layer of the image contradicts itself or its neighbours",
        "sparse indices do not rise, or lead outside the matrix",
        "weights are not finite",
        "two neurons are at the same point, or so close that a weight overflows",
        "the network is not a spiking one",
    };
    return (unsigned)status < SEN_STATUS_COUNT ? texts[status] : "unknown status";
}
