/* A model that several threads run: products of large matrices in shares of their rows, and batches in shares of theirs. */
#include "sen_threads.h"

#include "../src/internal.h"
#include "pool.h"

#include <stdlib.h>

/* Weights in a share, at least: to wake a thread takes as long as to multiply a tenth of them. */
#define MIN_SHARE (1u << 18)
/* Weights that take as long as one of positions. */
#define POSITION_COST 16u

struct sen_team {
    sen_model *model;
    sen_pool *pool;
    uint32_t size;       /* of the pool */
    sen_network network; /* the model's, with large products in shares */
    sen_batch batch;     /* the same for rows */
    void *layers;        /* memory of these */
    uint64_t weights, panels; /* of all layers; of panels in shares */
};

/* A matrix in shares of `rows` rows each; the last may have less. */
typedef struct shares {
    const sen_team *team;
    const sen_weights *parts;
    uint32_t count, rows;
} shares;

/* A product, and the matrix in shares that it multiplies. */
typedef struct product {
    const shares *matrix;
    const sen_input *x;
    const float *addend;
    int is_relu;
    float *y;
} product;

static void multiply_share(void *task, uint32_t index)
{
    const product *p = task;
    const sen_weights *part = &p->matrix->parts[index];
    const size_t first = (size_t)index * p->matrix->rows;
    part->multiply(part, p->x, p->addend ? p->addend + first : NULL, p->is_relu, p->y + first);
}

static void multiply_shares(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const shares *matrix = w->values;
    product task = {matrix, x, addend, is_relu, y};
    sen_pool_run(matrix->team->pool, multiply_share, &task, matrix->count);
}

/* The same of panels, as a function of its own: there is one for several rows, too. */
static void multiply_panels(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    multiply_shares(w, x, addend, is_relu, y);
}

typedef struct rows_product {
    const shares *matrix;
    const sen_rows *rows;
} rows_product;

static void multiply_rows_share(void *task, uint32_t index)
{
    const rows_product *p = task;
    const sen_weights *part = &p->matrix->parts[index];
    const size_t first = (size_t)index * p->matrix->rows;
    sen_rows rows = *p->rows;
    uint32_t r;
    for (r = 0; r < rows.count; r++) {
        rows.addend[r] = rows.addend[r] ? rows.addend[r] + first : NULL;
        rows.y[r] += first;
    }
    sen_find_rows_kernel(p->matrix->team->model->batch.kernels, part->multiply)->multiply_rows(part, &rows);
}

static void multiply_panels_rows(const sen_weights *w, const sen_rows *rows)
{
    const shares *matrix = w->values;
    rows_product task = {matrix, rows};
    sen_pool_run(matrix->team->pool, multiply_rows_share, &task, matrix->count);
}

static int has_positions(const sen_isa *isa, const sen_weights *w)
{
    return w->multiply == sen_coordinates || (isa->coordinates && w->multiply == isa->coordinates);
}

/* Weights of a matrix, as many dense ones as take the time. */
static uint64_t cost_of(const sen_isa *isa, const sen_weights *w)
{
    return (uint64_t)w->rows * w->columns * (has_positions(isa, w) ? POSITION_COST : 1);
}

static const sen_isa *isa_of(const sen_team *team)
{
    return (const sen_isa *)(const void *)team->model->network.kernels; /* its first member */
}

/* Bytes of `values` for a row of dense weights, from a panel's first row on; 0 for other storages. */
static size_t row_bytes(const sen_isa *isa, const sen_weights *w)
{
    if (w->multiply == isa->panels)
        return w->columns * sizeof(float);
    if (isa->quads && w->multiply == isa->quads)
        return ((size_t)w->columns + isa->group - 1) / isa->group * isa->group;
    if (w->multiply == isa->dense_f32 || w->multiply == isa->dense_f16 || w->multiply == isa->dense_int8
        || w->multiply == sen_dense_reference || w->multiply == sen_dense_events)
        return w->columns * (size_t)sen_width(w->dtype);
    return 0;
}

/* Rows from `first` on of a matrix. */
static sen_weights rows_of(const sen_isa *isa, const sen_weights *w, uint32_t first, uint32_t count)
{
    sen_weights part = *w;
    part.rows = w->rows - first < count ? w->rows - first : count;
    if (has_positions(isa, w))
        part.target = (const uint8_t *)w->target + (size_t)first * w->dimensions * sen_width(w->target_dtype);
    else
        part.values = (const uint8_t *)w->values + first * row_bytes(isa, w);
    if (w->scale)
        part.scale = w->scale + (size_t)first * w->scale_step;
    return part;
}

/* A matrix, in shares if it is large enough. */
static const sen_weights *divide(sen_team *team, sen_arena *arena, const sen_weights *w)
{
    const sen_isa *isa = isa_of(team);
    const uint64_t most = cost_of(isa, w) / MIN_SHARE;
    const uint32_t panels = (w->rows + SEN_PANEL - 1) / SEN_PANEL;
    uint32_t count = panels < team->size ? panels : team->size, rows, i;
    sen_weights *parts, *whole;
    shares *matrix;
    count = most < count ? (uint32_t)most : count;
    if (count < 2 || (row_bytes(isa, w) == 0 && !has_positions(isa, w)))
        return w;
    rows = (panels + count - 1) / count * SEN_PANEL;
    count = (w->rows + rows - 1) / rows;
    whole = sen_take(arena, 1, sizeof *whole);
    matrix = sen_take(arena, 1, sizeof *matrix);
    parts = sen_take(arena, count, sizeof *parts);
    if (!parts)
        return w;
    for (i = 0; i < count; i++)
        parts[i] = rows_of(isa, w, i * rows, rows);
    matrix->team = team;
    matrix->parts = parts;
    matrix->count = count;
    matrix->rows = rows;
    *whole = *w;
    whole->multiply = w->multiply == isa->panels ? multiply_panels : multiply_shares;
    whole->values = matrix;
    return whole;
}

/* The same, counted. */
static const sen_weights *place(sen_team *team, sen_arena *arena, const sen_weights *w)
{
    const sen_weights *placed = divide(team, arena, w);
    const uint64_t cost = cost_of(isa_of(team), w);
    team->weights += cost;
    team->panels += placed->multiply == multiply_panels && !w->by_row ? cost : 0;
    return placed;
}

/* The kernels of rows, and one of panels in shares. */
static void place_kernels(sen_team *team, sen_arena *arena)
{
    const sen_isa *isa = isa_of(team);
    const sen_rows_kernel *panels = sen_find_rows_kernel(isa->rows_kernels, isa->panels), *from = isa->rows_kernels;
    sen_rows_kernel *kernels;
    size_t count = 0;
    if (!panels)
        return;
    while (from[count].multiply)
        count++;
    kernels = sen_take(arena, count + 2, sizeof *kernels);
    if (!kernels)
        return;
    kernels[0] = *panels;
    kernels[0].multiply = multiply_panels;
    kernels[0].multiply_rows = multiply_panels_rows;
    memcpy(kernels + 1, from, (count + 1) * sizeof *kernels);
    team->batch.kernels = kernels;
}

/* int8 activations: one input is run by one thread. */
static void count_integers(sen_team *team)
{
    const sen_integer_network *from = team->model->integer;
    uint32_t index, i;
    for (index = 0; index < from->layer_count; index++)
        for (i = 0; i < from->layers[index].operation_count; i++) {
            const sen_integer_weights *w = from->layers[index].operations[i].weights;
            team->weights += w ? (uint64_t)w->rows * w->columns : 0;
        }
}

/* Copies the layers of the model, with large matrices in shares. */
static void lay_out(sen_team *team, sen_arena *arena)
{
    const sen_network *from = &team->model->network;
    sen_layer *layers = sen_take(arena, from->layer_count, sizeof *layers);
    uint32_t index, i;
    team->weights = team->panels = 0;
    place_kernels(team, arena);
    for (index = 0; index < from->layer_count; index++) {
        const sen_layer *layer = &from->layers[index];
        sen_term *terms = sen_take(arena, layer->term_count, sizeof *terms);
        for (i = 0; i < layer->term_count; i++) {
            const sen_term *term = &layer->terms[i];
            const sen_weights *first = place(team, arena, term->first);
            const sen_weights *second = term->second ? place(team, arena, term->second) : NULL;
            if (terms) {
                terms[i].first = first;
                terms[i].second = second;
            }
        }
        if (layers) {
            layers[index] = *layer;
            layers[index].terms = terms;
        }
    }
    if (layers)
        team->network.layers = layers;
}

static int copy_layers(sen_team *team)
{
    sen_arena arena = {NULL, SIZE_MAX / 2, 0, 0};
    lay_out(team, &arena);
    arena.base = team->layers = calloc(1, (size_t)arena.used);
    arena.used = 0;
    if (arena.base)
        lay_out(team, &arena);
    return arena.base != NULL;
}

sen_team *sen_team_open(sen_model *model, uint32_t threads)
{
    sen_team *team = calloc(1, sizeof *team);
    if (!team)
        return NULL;
    team->model = model;
    team->size = threads;
    team->network = model->network;
    team->batch = model->batch;
    team->batch.network = &team->network;
    if (model->integer)
        count_integers(team);
    if (model->integer || copy_layers(team))
        team->pool = sen_pool_open(threads);
    if (team->pool)
        return team;
    sen_team_close(team);
    return NULL;
}

void sen_team_close(sen_team *team)
{
    if (team->pool)
        sen_pool_close(team->pool);
    free(team->layers);
    free(team);
}

sen_status sen_team_run(sen_team *team, const float *x, float *y, size_t rows)
{
    sen_model *model = team->model;
    const size_t width = sen_values_of_input(model);
    if (model->integer)
        return sen_run_batch(model, x, y, rows);
    for (; rows > 0; rows--, x += width, y += model->network.n_out) {
        if (sen_accepted_rows(model, x, 1) == 0)
            return SEN_NONFINITE;
        sen_run_network(model, &team->network, model->work, x, y);
    }
    return SEN_OK;
}

typedef struct batch {
    const sen_model *model;
    uint8_t *work;
    const float *x;
    float *y;
    size_t rows, parts, width;
    int is_refused;
} batch;

/* First row of a share. */
static size_t share_start(const batch *b, uint32_t index)
{
    return (size_t)((uint64_t)b->rows * index / b->parts);
}

static void run_share(void *task, uint32_t index)
{
    batch *b = task;
    const size_t first = share_start(b, index), end = share_start(b, index + 1);
    if (sen_run_rows(
            b->model, b->work + index * sen_rows_work_size(b->model), b->x + first * b->width,
            b->y + first * b->model->network.n_out, end - first)
        != SEN_OK)
        __atomic_store_n(&b->is_refused, 1, __ATOMIC_SEQ_CST);
}

/* In a large network each thread multiplies all rows with its share of the weights, which are read once then. */
static int shares_outputs(const sen_team *team)
{
    return team->batch.kernels != team->model->batch.kernels && team->panels > team->weights / 8 * 7;
}

sen_status sen_team_run_rows(sen_team *team, void *work_blocks, const float *x, float *y, size_t rows)
{
    const sen_model *model = team->model;
    const uint32_t steps = model->network.is_spike_train ? model->network.timesteps : 1;
    const uint64_t most = 1 + team->weights * steps * rows / MIN_SHARE;
    batch task = {model, work_blocks, x, y, rows, team->size, sen_values_of_input(model), 0};
    if (shares_outputs(team)) {
        const size_t accepted = sen_accepted_rows(model, x, rows);
        sen_network_run_rows(&team->batch, work_blocks, x, y, accepted);
        return accepted < rows ? SEN_NONFINITE : SEN_OK;
    }
    task.parts = task.parts < rows ? task.parts : rows;
    task.parts = task.parts < most ? task.parts : (size_t)most;
    sen_pool_run(team->pool, run_share, &task, (uint32_t)task.parts);
    return task.is_refused ? SEN_NONFINITE : SEN_OK;
}
