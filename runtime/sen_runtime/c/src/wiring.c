/* Lays out layers with delays, recurrent synapses or synaptic currents. Weights are stored by source: those of one sparse matrix
 * in lists, if it connects at most half of the pairs of neurons, and all others densely. */
#include "internal.h"

#include <math.h>

/* Sources of int8 weights whose sums fit in int32. */
#define SEN_MAX_SOURCES (1u << 24)

/* A connection of an image: operators from `first` to `root`, and delays that are `elapsed` when spikes reach the ring. */
typedef struct sen_synapses {
    const sen_operator_record *first, *root;
    const sen_delay_record *delay;
    uint32_t elapsed;
} sen_synapses;

/* One int8 matrix, or null. */
static const sen_operator_record *int8_matrix(const sen_image *image, const sen_synapses *synapses)
{
    const sen_operator_record *const root = synapses->root;
    const int is_dense = root->kind == SEN_DENSE && synapses->first == root;
    return is_dense && sen_image_tensor(image, root->tensors[0]).dtype == SEN_INT8 ? root : NULL;
}

/* Whether the ring holds sums of integers: all that arrives are spikes, and int8 weights with the same scales. */
static int is_integer(const sen_image *image, const sen_synapses *synapses, uint32_t count, int meets_spikes)
{
    const sen_operator_record *const first = int8_matrix(image, &synapses[0]);
    const sen_operator_record *const second = count == 2 ? int8_matrix(image, &synapses[1]) : first;
    sen_tensor scales[2];
    if (!meets_spikes || !first || !second || (uint64_t)first->n_in + (count == 2 ? first->n_out : 0) >= SEN_MAX_SOURCES)
        return 0;
    scales[0] = sen_image_tensor(image, first->tensors[1]);
    scales[1] = sen_image_tensor(image, second->tensors[1]);
    return scales[0].count == scales[1].count
        && memcmp(scales[0].data, scales[1].data, (size_t)scales[0].count * sizeof(float)) == 0;
}

/* What is done with a weight of a sparse matrix. */
typedef void sen_visitor(void *to, uint32_t row, uint32_t column, float weight);

/* Visits the weights of a sparse matrix. */
static void visit_sparse(const sen_weights *w, uint32_t order, sen_visitor *visit, void *to)
{
    const int by_source = order == SEN_BY_SOURCE;
    const uint32_t size = by_source ? w->block_columns : w->block_rows, length = by_source ? w->columns : w->rows;
    const uint32_t lines = length / size + (length % size != 0);
    uint32_t line, i, j;
    int32_t at;
    for (line = 0; line < lines; line++)
        for (at = w->starts[line]; at < w->starts[line + 1]; at++) {
            const uint32_t index = w->index_dtype == SEN_UINT16 ? ((const uint16_t *)w->indices)[at]
                                                                : (uint32_t)((const int32_t *)w->indices)[at];
            const uint32_t row = w->block_rows * (by_source ? index : line);
            const uint32_t column = w->block_columns * (by_source ? line : index);
            /* a block at an edge may exceed the matrix */
            for (i = 0; i < w->block_rows && row + i < w->rows; i++)
                for (j = 0; j < w->block_columns && column + j < w->columns; j++) {
                    const size_t value = ((size_t)at * w->block_rows + i) * w->block_columns + j;
                    visit(to, row + i, column + j, sen_scale(w, row + i) * sen_value(w->values, w->dtype, value));
                }
        }
}

/* A matrix [n_in, n_out]. */
typedef struct sen_transposed {
    float *weights;
    uint32_t n_out;
} sen_transposed;

static void add_weight(void *to, uint32_t row, uint32_t column, float weight)
{
    const sen_transposed *const matrix = to;
    matrix->weights[(size_t)column * matrix->n_out + row] += weight;
}

/* Adds the weights of an operator without operands to `to` [n_in, n_out]. */
static void add_leaf(const sen_image *image, const sen_operator_record *record, float *to)
{
    sen_weights w[2];
    uint32_t i, j, k;
    sen_set_operator(image, record, w);
    if (record->kind == SEN_SPARSE) {
        sen_transposed matrix;
        matrix.weights = to;
        matrix.n_out = record->n_out;
        visit_sparse(w, record->order, add_weight, &matrix);
        return;
    }
    for (i = 0; i < record->n_in; i++)
        for (j = 0; j < record->n_out; j++, to++) {
            if (record->kind != SEN_LOW_RANK)
                *to += sen_weight_at(w, j, i);
            for (k = 0; record->kind == SEN_LOW_RANK && k < w[1].columns; k++)
                *to += sen_weight_at(&w[1], j, k) * sen_weight_at(&w[0], k, i);
        }
}

/* Dense weights by source, of float32 or of the one int8 matrix. */
static sen_status place_weights(sen_loader *loader, const sen_synapses *synapses, int is_int8, sen_connection *c)
{
    const sen_operator_record *op = synapses->root;
    const uint64_t count = (uint64_t)c->n_in * c->n_out;
    void *const placed = sen_take(&loader->arena, count, is_int8 ? 1 : sizeof(float));
    uint32_t i, j;
    c->weights = placed;
    if (!placed)
        return SEN_OK;
    if (is_int8) {
        sen_weights w;
        sen_set_operator(loader->image, op, &w);
        for (i = 0; i < c->n_in; i++)
            for (j = 0; j < c->n_out; j++)
                ((int8_t *)placed)[(size_t)i * c->n_out + j] = sen_int8_at(&w, j, i);
        return SEN_OK;
    }
    memset(placed, 0, (size_t)count * sizeof(float));
    for (op = synapses->first; op <= synapses->root; op++)
        if (op->kind != SEN_SUM)
            add_leaf(loader->image, op, placed);
    if (loader->isa->is_finite(placed, (size_t)count))
        return SEN_OK;
    return synapses->root->kind == SEN_COORDINATES ? SEN_COINCIDENT : SEN_VALUES;
}

/* Positions as float32: where they lie, or in the arena. */
static const float *place_positions(sen_loader *loader, uint32_t section)
{
    const sen_tensor at = sen_image_tensor(loader->image, section);
    float *placed;
    uint64_t i;
    if (at.dtype == SEN_FLOAT32)
        return sen_keep(loader, &at);
    placed = sen_take(&loader->arena, at.count, sizeof *placed);
    for (i = 0; placed && i < at.count; i++)
        placed[i] = sen_value(at.data, at.dtype, (size_t)i);
    return placed;
}

/* Upper bound of the delays from positions before their shift, in steps: that of the box around them. */
static uint32_t longest(const sen_image *image, const sen_delay_record *delay)
{
    sen_tensor at[2];
    double squared = delay->softening, steps;
    uint32_t d, k, side;
    uint64_t i;
    for (side = 0; side < 2; side++)
        at[side] = sen_image_tensor(image, delay->tensors[side]);
    d = at[0].shape[1];
    for (k = 0; k < d; k++) {
        double low[2], high[2], reach;
        for (side = 0; side < 2; side++) {
            low[side] = high[side] = sen_value(at[side].data, at[side].dtype, k);
            for (i = k; i < at[side].count; i += d) {
                const double value = sen_value(at[side].data, at[side].dtype, (size_t)i);
                low[side] = value < low[side] ? value : low[side];
                high[side] = value > high[side] ? value : high[side];
            }
        }
        reach = high[0] - low[1] > high[1] - low[0] ? high[0] - low[1] : high[1] - low[0];
        squared += reach * reach;
    }
    squared += (d + 2) * 1.5e-45; /* subnormal squares are rounded to multiples of 2^-149 */
    steps = delay->scale * (double)sqrtf((float)squared) * 1.00001 + 1; /* rounded in float32, then to a whole step */
    return steps < delay->limit ? (uint32_t)steps : delay->limit;
}

/* Delays of positions; `is_bounded`: none exceeds the limit. */
static sen_spatial spatial_of(sen_loader *loader, const sen_synapses *synapses, uint32_t bound)
{
    const sen_delay_record *const delay = synapses->delay;
    sen_spatial p;
    memset(&p, 0, sizeof p);
    p.source = place_positions(loader, delay->tensors[0]);
    p.target = place_positions(loader, delay->tensors[1]);
    p.dimensions = sen_image_tensor(loader->image, delay->tensors[0]).shape[1];
    p.scale = delay->scale;
    p.softening = delay->softening;
    p.limit = bound < delay->limit ? UINT32_MAX : delay->limit;
    p.modulus = delay->overflow == SEN_OVERFLOW_WRAP ? delay->limit + 1 : 0;
    return p;
}

/* Whether weights follow from the positions of the delays. */
static int has_positions_of(const sen_image *image, const sen_synapses *synapses)
{
    uint32_t k;
    if (synapses->root->kind != SEN_COORDINATES || synapses->delay->kind != SEN_SPATIAL_DELAY)
        return 0;
    for (k = 0; k < 2; k++) {
        const sen_tensor a = sen_image_tensor(image, synapses->root->tensors[k]);
        const sen_tensor b = sen_image_tensor(image, synapses->delay->tensors[k]);
        if (a.dtype != b.dtype || a.shape[1] != b.shape[1]
            || memcmp(a.data, b.data, (size_t)a.count * sen_width(a.dtype)) != 0)
            return 0;
    }
    return 1;
}

/* Weights from the positions of the delays, which are computed together. */
static void weigh_positions(sen_loader *loader, const sen_operator_record *op, sen_spatial *p)
{
    const sen_tensor mask = sen_image_tensor(loader->image, op->tensors[2]);
    p->mask = sen_keep(loader, &mask);
    p->mask_dtype = mask.dtype;
    p->gain = op->scalars[0];
    p->exponent = op->scalars[1];
    p->min_distance = op->scalars[2];
    p->max_distance = op->scalars[3];
}

/* The delay of a synapse; `p` is of delays from positions. */
static sen_status delay_of(
    const sen_image *image, const sen_synapses *synapses, const sen_spatial *p, uint32_t i, uint32_t j, uint32_t *steps)
{
    const sen_delay_record *const delay = synapses->delay;
    const size_t at = (size_t)j * synapses->root->n_in + i;
    sen_tensor stored;
    *steps = delay->value - synapses->elapsed;
    if (p) {
        const float most = p->modulus ? SEN_MAX_STEPS : (float)delay->limit + 0.5f;
        const int is_tie_within = !p->modulus && delay->limit % 2 == 0; /* it rounds to an even number */
        float scaled;
        *steps = sen_steps(p, i, j, &scaled) + delay->shift - synapses->elapsed;
        if (!(scaled >= 0)) /* a position is no number, in an image whose values are not checked */
            return SEN_VALUES;
        if (delay->overflow != SEN_OVERFLOW_CLAMP && !(scaled < most || (is_tie_within && scaled == most)))
            return SEN_DELAY;
    } else if (delay->kind == SEN_STORED_DELAY) {
        stored = sen_image_tensor(image, delay->tensors[0]);
        *steps = stored.dtype == SEN_UINT8 ? ((const uint8_t *)stored.data)[at] : ((const uint16_t *)stored.data)[at];
        *steps -= synapses->elapsed;
    }
    return SEN_OK;
}

/* Delays of all pairs by source, in the type that holds `slots` of them. Null `to`: they are checked only. */
static sen_status compute_delays(
    const sen_image *image, const sen_synapses *synapses, const sen_spatial *p, const sen_connection *c, void *to,
    uint32_t slots)
{
    uint32_t i, j;
    for (i = 0; i < c->n_in; i++)
        for (j = 0; j < c->n_out; j++) {
            const size_t at = (size_t)i * c->n_out + j;
            uint32_t steps;
            const sen_status status = delay_of(image, synapses, p, i, j, &steps);
            if (status != SEN_OK)
                return status;
            if (to && slots <= 256)
                ((uint8_t *)to)[at] = (uint8_t)steps;
            else if (to)
                ((uint16_t *)to)[at] = (uint16_t)steps;
        }
    return SEN_OK;
}

/* Lists of the synapses of a connection, see `sen_connection`; `spatial` is of delays from positions, else null. */
typedef struct sen_lists {
    const sen_image *image;
    const sen_synapses *synapses;
    const sen_spatial *spatial;
    uint32_t *starts; /* [n_in + 2] */
    float *weights;
    void *places;
    int is_wide;
} sen_lists;

static void count_synapse(void *to, uint32_t row, uint32_t column, float weight)
{
    (void)row, (void)column, (void)weight;
    ++*(uint64_t *)to;
}

static void count_of_source(void *to, uint32_t row, uint32_t column, float weight)
{
    uint32_t *const starts = to;
    (void)row, (void)weight;
    starts[column + 2]++;
}

static void list_synapse(void *to, uint32_t row, uint32_t column, float weight)
{
    const sen_lists *const lists = to;
    const uint32_t at = lists->starts[column + 1]++;
    uint32_t place;
    (void)delay_of(lists->image, lists->synapses, lists->spatial, column, row, &place);
    place = place * lists->synapses->root->n_out + row;
    lists->weights[at] = weight;
    if (lists->is_wide)
        ((uint32_t *)lists->places)[at] = place;
    else
        ((uint16_t *)lists->places)[at] = (uint16_t)place;
}

/* Synapses that a connection has in lists; 0 of others. */
static uint64_t count_listed(const sen_image *image, const sen_synapses *synapses, uint32_t slots)
{
    const sen_operator_record *const root = synapses->root;
    const uint64_t pairs = (uint64_t)root->n_in * root->n_out, places = (uint64_t)slots * root->n_out;
    uint64_t count = 0;
    sen_weights w;
    if (root->kind != SEN_SPARSE || synapses->first != root || places > UINT32_MAX / 2)
        return 0;
    sen_set_operator(image, root, &w);
    visit_sparse(&w, root->order, count_synapse, &count);
    return count <= pairs / 2 && count < UINT32_MAX ? count : 0;
}

/* Places `count` synapses in lists. */
static sen_lists place_lists(
    sen_loader *loader, const sen_synapses *synapses, const sen_spatial *spatial, uint64_t count, sen_connection *c)
{
    sen_lists lists;
    lists.image = loader->image;
    lists.synapses = synapses;
    lists.spatial = spatial;
    lists.is_wide = (uint64_t)c->slots * c->n_out > UINT16_MAX + 1;
    c->starts = lists.starts = sen_take(&loader->arena, (uint64_t)c->n_in + 2, sizeof *lists.starts);
    c->weights = lists.weights = sen_take(&loader->arena, count, sizeof *lists.weights);
    c->delays = lists.places = sen_take(&loader->arena, count, lists.is_wide ? sizeof(uint32_t) : sizeof(uint16_t));
    c->propagate = lists.is_wide ? sen_propagate_list_u32 : sen_propagate_list_u16;
    return lists;
}

/* Fills placed lists, whose delays are valid. While this goes on, the place after a start is the next one of its source. */
static sen_status fill_lists(const sen_loader *loader, sen_lists *lists)
{
    const sen_operator_record *const root = lists->synapses->root;
    sen_weights w;
    uint32_t i;
    sen_set_operator(loader->image, root, &w);
    memset(lists->starts, 0, ((size_t)root->n_in + 2) * sizeof *lists->starts);
    visit_sparse(&w, root->order, count_of_source, lists->starts);
    for (i = 2; i <= root->n_in + 1; i++)
        lists->starts[i] += lists->starts[i - 1];
    visit_sparse(&w, root->order, list_synapse, lists);
    return loader->isa->is_finite(lists->weights, lists->starts[root->n_in]) ? SEN_OK : SEN_VALUES;
}

/* The longest delay of a connection, at most. */
static uint32_t longest_delay(const sen_image *image, const sen_synapses *synapses)
{
    const sen_delay_record *const delay = synapses->delay;
    const sen_tensor stored = sen_image_tensor(image, delay->kind == SEN_STORED_DELAY ? delay->tensors[0] : SEN_NONE);
    uint32_t most = delay->value;
    uint64_t i;
    if (delay->kind == SEN_SPATIAL_DELAY)
        most = longest(image, delay) + delay->shift;
    for (i = 0; stored.data && i < stored.count; i++)
        most = sen_larger(
            most, stored.dtype == SEN_UINT8 ? ((const uint8_t *)stored.data)[i] : ((const uint16_t *)stored.data)[i]);
    return most - synapses->elapsed;
}

/* For delays that are computed. */
static sen_propagator *positions_propagator(const sen_isa *isa, const sen_connection *c, int is_int8)
{
    const int wraps = c->spatial->limit != UINT32_MAX && c->spatial->modulus != 0;
    sen_propagator *const fast = is_int8 ? isa->positions_i32 : isa->positions_f32;
    if (!c->weights)
        return sen_propagate_coordinates;
    if (fast && !wraps)
        return fast;
    return is_int8 ? sen_propagate_i32_positions : sen_propagate_f32_positions;
}

static sen_propagator *propagator(const sen_isa *isa, const sen_connection *c, int is_int8)
{
    sen_propagator *const fast = is_int8 ? isa->table_i32 : isa->table_f32;
    if (c->spatial)
        return positions_propagator(isa, c, is_int8);
    if (!c->delays)
        return is_int8 ? sen_propagate_i32 : sen_propagate_f32;
    if (fast && c->slots <= 256)
        return fast;
    if (c->slots <= 256)
        return is_int8 ? sen_propagate_i32_u8 : sen_propagate_f32_u8;
    return is_int8 ? sen_propagate_i32_u16 : sen_propagate_f32_u16;
}

static sen_status place_connection(
    sen_loader *loader, const sen_synapses *synapses, int is_int8, uint32_t slots, const sen_connection **placed)
{
    const sen_delay_record *const delay = synapses->delay;
    const int is_spatial = delay->kind == SEN_SPATIAL_DELAY;
    const uint64_t listed = count_listed(loader->image, synapses, slots);
    const uint32_t is_computed = listed == 0 && loader->flags & SEN_ON_THE_FLY && is_spatial;
    const int is_weighed = is_computed && has_positions_of(loader->image, synapses);
    sen_connection *const to = sen_take(&loader->arena, 1, sizeof *to);
    sen_spatial *const positions = sen_take(&loader->arena, is_computed, sizeof *positions), spatial;
    void *delays = NULL;
    sen_connection c;
    sen_lists lists;
    sen_status status = SEN_OK;
    memset(&c, 0, sizeof c);
    c.n_in = synapses->root->n_in;
    c.n_out = synapses->root->n_out;
    c.slots = slots;
    if (is_spatial)
        spatial = spatial_of(loader, synapses, longest(loader->image, delay));
    if (listed != 0) {
        lists = place_lists(loader, synapses, is_spatial ? &spatial : NULL, listed, &c);
    } else {
        if (is_weighed)
            weigh_positions(loader, synapses->root, &spatial);
        else
            status = place_weights(loader, synapses, is_int8, &c);
        if (delay->kind >= SEN_STORED_DELAY && !is_computed)
            c.delays = delays = sen_take(&loader->arena, (uint64_t)c.n_in * c.n_out, slots <= 256 ? 1 : 2);
        if (delay->kind == SEN_CONSTANT_DELAY || is_computed)
            c.delay = (int32_t)(delay->value + delay->shift) - (int32_t)synapses->elapsed;
    }
    loader->events = sen_larger(loader->events, c.n_in);
    *placed = to;
    if (status != SEN_OK || !loader->arena.base || loader->arena.overflows)
        return status;
    if (delay->kind >= SEN_STORED_DELAY)
        status = compute_delays(loader->image, synapses, is_spatial ? &spatial : NULL, &c, delays, slots);
    if (status != SEN_OK)
        return status;
    if (is_computed)
        c.spatial = memcpy(positions, &spatial, sizeof spatial);
    if (listed != 0)
        status = fill_lists(loader, &lists);
    else
        c.propagate = propagator(loader->isa, &c, is_int8);
    *to = c;
    return status;
}

/* First element of each of `slots` slots [n_out], twice over. */
static const uint32_t *place_lines(sen_loader *loader, uint32_t slots, uint32_t n_out)
{
    uint32_t *const lines = sen_take(&loader->arena, 2 * (uint64_t)slots, sizeof *lines);
    uint32_t slot;
    for (slot = 0; lines && slot < 2 * slots; slot++)
        lines[slot] = slot % slots * n_out;
    return lines;
}

sen_status sen_place_wiring(sen_loader *loader, uint32_t index, uint32_t first_operator, int meets_spikes, sen_layer *layer)
{
    const sen_image *const image = loader->image;
    const sen_wiring_record *const record = &image->wiring[index];
    const uint32_t root = image->layers[index].op, count = record->recurrent == SEN_NONE ? 1 : 2;
    const sen_synapses synapses[2] = {
        {&image->operators[first_operator], &image->operators[root], &record->delays[0], 0},
        {&image->operators[root + 1], count == 2 ? &image->operators[record->recurrent] : NULL, &record->delays[1], 1}};
    const int is_int8 = is_integer(image, synapses, count, meets_spikes);
    const sen_connection *connections[2] = {NULL, NULL};
    sen_wiring *const placed = sen_take(&loader->arena, 1, sizeof *placed);
    sen_wiring wiring;
    uint32_t k;
    memset(&wiring, 0, sizeof wiring);
    layer->n_in = synapses[0].root->n_in;
    layer->n_out = synapses[0].root->n_out;
    for (k = 0; k < count; k++)
        wiring.slots = sen_larger(wiring.slots, 1 + longest_delay(image, &synapses[k]));
    for (k = 0; k < count; k++) {
        const sen_status status = place_connection(loader, &synapses[k], is_int8, wiring.slots, &connections[k]);
        if (status != SEN_OK)
            return status;
    }
    wiring.input = connections[0];
    wiring.recurrent = connections[1];
    wiring.sum_bytes = 4;
    wiring.lines = place_lines(loader, wiring.slots, layer->n_out);
    wiring.arrive = is_int8 ? sen_arrive_i32 : sen_arrive_f32;
    if (is_int8) {
        const sen_tensor scale = sen_image_tensor(image, synapses[0].root->tensors[1]);
        wiring.scale = sen_keep(loader, &scale);
        wiring.scale_step = scale.count > 1;
    }
    wiring.synapse = record->synapse;
    wiring.ring = sen_take_floats(loader, (uint64_t)wiring.slots * layer->n_out);
    wiring.synaptic = sen_take_floats(loader, record->synapse > 0 ? layer->n_out : 0);
    wiring.now = sen_take_floats(loader, 1);
    if (placed && !loader->arena.overflows)
        layer->wiring = memcpy(placed, &wiring, sizeof wiring);
    return SEN_OK;
}
