/* Lays out a network whose activations are int8: the steps of its layers, and its vectors. */
#include "integer_load.h"

#define SUM_BITS 20

static sen_grid grid_of(float scale, float zero_point)
{
    const sen_grid of = {scale, (int32_t)zero_point + 128};
    return of;
}

/* The offset of a vector of `count` values of `size` bytes. */
static size_t take_vector(sen_loader *loader, uint64_t count, size_t size)
{
    return sizeof(float) * (size_t)sen_take_floats(loader, (count * size + sizeof(float) - 1) / sizeof(float));
}

/* The steps of a layer. */
typedef struct builder {
    sen_loader *loader;
    sen_operation *steps; /* null to count them */
    uint32_t count;
} builder;

static void append(builder *b, const sen_integer_weights *weights, size_t x, size_t y)
{
    sen_integer_weights *placed = sen_take(&b->loader->arena, 1, sizeof *placed);
    if (placed)
        *placed = *weights;
    if (b->steps && !b->loader->arena.overflows) {
        b->steps[b->count].weights = placed;
        b->steps[b->count].x = x;
        b->steps[b->count].y = y;
    }
    b->count++;
}

static sen_status append_product(builder *b, const sen_integer_product *p, size_t x, size_t y)
{
    sen_integer_weights weights;
    const sen_status status = sen_place_integers(b->loader, p, &weights);
    append(b, &weights, x, y);
    return status;
}

static void set_matrix(sen_integer_product *p, const sen_tensor *values, const sen_tensor *scale, uint32_t rows, uint32_t columns)
{
    p->values = *values;
    p->scale = *scale;
    p->rows = rows;
    p->width = columns;
}

/* y = W x + b of an operator without operands, on the grid and from the value that `p` gives. */
static sen_status append_leaf(builder *b, const sen_operator_record *record, sen_integer_product p, size_t x, size_t y)
{
    sen_tensor tensors[4];
    uint32_t i;
    for (i = 0; i < 4; i++)
        tensors[i] = sen_image_tensor(b->loader->image, record->tensors[i]);
    if (record->kind == SEN_LOW_RANK) {
        const uint32_t rank = tensors[1].shape[0];
        const size_t inner = take_vector(b->loader, rank, 1);
        sen_integer_product first = p;
        sen_status status;
        set_matrix(&first, &tensors[1], &tensors[3], rank, record->n_in);
        first.out = grid_of(record->scalars[0], record->scalars[1]);
        first.low = 0;
        first.bias.data = NULL;
        status = append_product(b, &first, x, inner);
        if (status != SEN_OK)
            return status;
        set_matrix(&p, &tensors[0], &tensors[2], record->n_out, rank);
        p.in = first.out;
        return append_product(b, &p, inner, y);
    }
    if (record->kind == SEN_SPARSE) {
        set_matrix(&p, &tensors[0], &tensors[3], record->n_out, record->n_in);
        p.columns = tensors[1];
        p.starts = tensors[2];
        p.block_rows = record->block[0];
        p.block_columns = record->block[1];
    } else if (record->kind == SEN_INT4) {
        set_matrix(&p, &tensors[0], &tensors[2], record->n_out, record->n_in);
        p.steps = tensors[1];
    } else {
        set_matrix(&p, &tensors[0], &tensors[1], record->n_out, record->n_in);
    }
    return append_product(b, &p, x, y);
}

static int32_t sum_factor(double ratio, uint32_t shift)
{
    const double factor = ratio * (double)((uint32_t)1 << shift) + 0.5;
    return factor < (double)(1 << SUM_BITS) ? (int32_t)factor : 1 << SUM_BITS;
}

/* y = a + b, at `places`. Factors and shift are such that int32 holds every sum. */
static void append_sum(builder *b, const sen_integer_product *p, const sen_grid operands[2], const size_t places[2], size_t y)
{
    const double ratios[2] = {operands[0].scale / p->out.scale, operands[1].scale / p->out.scale};
    double larger = ratios[0] > ratios[1] ? ratios[0] : ratios[1];
    const int32_t power = SUM_BITS - sen_normalize(&larger), shift = power < 1 ? 1 : power > 31 ? 31 : power;
    int32_t *numbers = sen_take(&b->loader->arena, 5, sizeof *numbers);
    sen_integer_weights sum;
    uint32_t i;
    memset(&sum, 0, sizeof sum);
    for (i = 0; numbers && i < 2; i++) {
        numbers[i] = sum_factor(ratios[i], (uint32_t)shift);
        numbers[2 + i] = operands[i].zero;
        numbers[4] = shift;
    }
    sum.multiply = sen_integer_add;
    sum.rows = p->rows;
    sum.columns = (uint32_t)(places[1] - places[0]);
    sum.values = numbers;
    sum.zero = p->out.zero;
    sum.low = p->low;
    append(b, &sum, places[0], y);
}

/* y = W x + b of the operator `index`; a sum nests at most SEN_MAX_DEPTH deep. */
static sen_status append_operator(builder *b, uint32_t index, const sen_integer_product *p, size_t x, size_t y)
{
    const sen_operator_record *record = &b->loader->image->operators[index];
    sen_grid grids[2];
    size_t places[2];
    uint32_t i;
    if (record->kind != SEN_SUM)
        return append_leaf(b, record, *p, x, y);
    for (i = 0; i < 2; i++)
        places[i] = take_vector(b->loader, record->n_out, 1);
    for (i = 0; i < 2; i++) {
        sen_integer_product operand = *p;
        sen_status status;
        operand.out = grids[i] = grid_of(record->scalars[2 * i], record->scalars[2 * i + 1]);
        operand.low = 0;
        if (i == 0)
            operand.bias.data = NULL;
        status = append_operator(b, record->operands[i], &operand, x, places[i]);
        if (status != SEN_OK)
            return status;
    }
    {
        sen_integer_product sum = *p;
        sum.rows = record->n_out;
        append_sum(b, &sum, grids, places, y);
    }
    return SEN_OK;
}

/* Parameters of Lif neurons; the threshold lies on the sen_grid of the membranes. */
static int set_lif(const sen_layer_record *record, int32_t zero, sen_integer_lif *lif)
{
    const double steps = sen_round_even((double)record->threshold / record->grid_scale);
    const double decay = record->beta * 32768.0 + 0.5;
    const float error = (float)steps * record->grid_scale - record->threshold;
    lif->threshold = steps <= 255 ? (int32_t)steps : 256;
    lif->decay = decay < 32767 ? (int32_t)decay : 32767;
    lif->zero = zero;
    lif->reset = record->reset == SEN_ZERO_WITHOUT_DELAY ? SEN_RESET_ZERO : record->reset;
    return lif->threshold > 0 && lif->threshold <= 255 - zero && (error < 0 ? -error : error) <= 1e-6f * record->threshold;
}

static sen_status place_layer(
    sen_loader *loader, uint32_t index, const sen_grid *in, double bias_factor, size_t x, sen_integer_layer *layer)
{
    const sen_layer_record *record = &loader->image->layers[index];
    const uint32_t first = index ? loader->image->layers[index - 1].op + 1 : 0;
    sen_operation *steps = sen_take(&loader->arena, 2 * ((uint64_t)record->op - first + 1), sizeof *steps);
    builder b = {loader, steps, 0};
    sen_integer_product p;
    sen_status status;
    memset(&p, 0, sizeof p);
    memset(layer, 0, sizeof *layer);
    p.in = *in;
    p.out = grid_of(record->grid_scale, (float)record->grid_zero);
    p.low = record->neuron == SEN_RELU ? p.out.zero : 0;
    p.bias = sen_image_tensor(loader->image, record->bias);
    p.bias_factor = bias_factor;
    layer->n_in = loader->image->operators[record->op].n_in;
    layer->n_out = loader->image->operators[record->op].n_out;
    layer->out = take_vector(loader, layer->n_out, 1);
    if (record->neuron == SEN_LIF) {
        layer->membrane = take_vector(loader, layer->n_out, sizeof(int16_t));
        layer->spikes = take_vector(loader, layer->n_out, 1);
        if (!set_lif(record, p.out.zero, &layer->lif))
            return SEN_LAYER;
    }
    status = append_operator(&b, record->op, &p, x, layer->out);
    layer->operations = steps;
    layer->operation_count = b.count;
    layer->neuron = record->neuron;
    layer->scale = record->grid_scale;
    layer->zero = p.out.zero;
    return status;
}

/* What a membrane readout gives for a current of 1 in every step. */
static double total_of(const sen_program *program, double beta)
{
    double sum = 0, total = 0, power = 1;
    uint32_t t;
    for (t = 0; t < program->timesteps; t++, power *= beta) {
        sum += power;
        total += sum;
    }
    return program->readout == SEN_LAST_MEMBRANE ? sum : total / program->timesteps;
}

/* Steps of `scale` that a spike in each step adds to the readout. Each rounding makes up for the error of those before. */
static void set_factors(int32_t *factors, const sen_program *program, double beta, double scale)
{
    double after = total_of(program, beta), sum = 0, power = 1;
    uint32_t t;
    for (t = program->timesteps; t-- > 0; power *= beta) {
        double before;
        sum += power;
        before = after - (program->readout == SEN_LAST_MEMBRANE ? power : sum / program->timesteps);
        if (t == 0)
            before = 0;
        factors[t] = (int32_t)(sen_round_even(after / scale) - sen_round_even(before / scale));
        after = before;
    }
}

/* Where the vectors of a network lie, and the sen_grid of what arrives at a layer. */
typedef struct place {
    sen_grid in, readout; /* the latter of the input of a membrane readout */
    double total;     /* factor of the bias of a membrane readout */
    size_t x, weighted;
} place;

/* The sen_grid of `sum over t of factors[t] x[t]`. */
static sen_grid readout_grid(const sen_program *program, const sen_grid *input, double total)
{
    sen_grid readout = {0, 0};
    if (program->layers == 1 && !sen_has_steps(program)) {
        readout.scale = (float)(input->scale * total);
        readout.zero = input->zero;
    } else {
        readout.scale = (float)(total / 255);
    }
    return readout;
}

static sen_status place_layers(sen_loader *loader, place *at, sen_integer_layer *layers)
{
    const sen_program *program = loader->image->program;
    uint32_t index;
    for (index = 0; index < program->layers; index++) {
        const int is_readout = loader->image->layers[index].neuron == SEN_LEAKY_INTEGRATOR;
        const int is_weighted = is_readout && (index > 0 || sen_has_steps(program));
        sen_integer_layer layer;
        const sen_status status = place_layer(
            loader, index, is_readout ? &at->readout : &at->in, is_readout ? at->total : 1, is_weighted ? at->weighted : at->x,
            &layer);
        if (status != SEN_OK)
            return status;
        at->x = layer.neuron == SEN_LIF ? layer.spikes : layer.out;
        at->in.scale = layer.neuron == SEN_LIF ? 1.0 / SEN_STORED_SPIKE : layer.scale;
        at->in.zero = layer.neuron == SEN_LIF ? 0 : layer.zero;
        if (layers)
            layers[index] = layer;
    }
    return SEN_OK;
}

/* The widest vector between the input and the output. */
static uint32_t widest_of(const sen_image *image)
{
    uint32_t index, widest = image->program->n_in;
    for (index = 0; index < image->program->layers; index++) {
        const uint32_t n = image->operators[image->layers[index].op].n_out;
        widest = n > widest ? n : widest;
    }
    return widest;
}

sen_status sen_lay_out_integers(sen_loader *loader, sen_integer_network **placed)
{
    const sen_program *program = loader->image->program;
    const sen_layer_record *last = &loader->image->layers[program->layers - 1];
    const sen_grid_record *input = loader->image->input_grid;
    const int is_counted = last->neuron != SEN_LEAKY_INTEGRATOR;
    const uint32_t widest = widest_of(loader->image);
    sen_integer_network *network = sen_take(&loader->arena, 1, sizeof *network), made;
    sen_integer_layer *layers = sen_take(&loader->arena, program->layers, sizeof *layers);
    int32_t *factors = sen_take(&loader->arena, program->timesteps, sizeof *factors);
    place at;
    sen_status status;
    uint32_t t;
    if (program->timesteps > SEN_MAX_TIMESTEPS)
        return SEN_TOO_LARGE;
    if (is_counted && program->timesteps > 255)
        return SEN_PROGRAM;
    memset(&made, 0, sizeof made);
    memset(&at, 0, sizeof at);
    at.in = grid_of(input->scale, (float)input->zero);
    at.total = is_counted ? 0 : total_of(program, last->beta);
    at.readout = readout_grid(program, &at.in, at.total);
    made.input = at.x = take_vector(loader, program->n_in, 1);
    if (program->timesteps > 0) {
        made.weighted = at.weighted = take_vector(loader, widest, 1);
        made.clock = take_vector(loader, 1, sizeof(uint32_t));
        made.integrate = loader->isa->integer->integrate;
    }
    made.zero = at.in.zero;
    status = place_layers(loader, &at, layers);
    if (status != SEN_OK)
        return status;
    made.scratch = take_vector(loader, SEN_INTEGER_SCRATCH(loader->quantized), 1);
    made.values = take_vector(loader, widest, sizeof(float));
    made.kernels = loader->isa->integer;
    made.layers = layers;
    made.layer_count = program->layers;
    made.lif_count = program->timesteps ? program->layers - !is_counted : 0;
    made.timesteps = program->timesteps;
    made.is_spike_train = (uint32_t)sen_has_steps(program);
    made.n_in = program->n_in;
    made.n_out = program->n_out;
    made.inverse_scale = 1.0f / input->scale;
    made.factors = factors;
    if (factors && is_counted)
        for (t = 0; t < program->timesteps; t++)
            factors[t] = 1;
    else if (factors)
        set_factors(factors, program, last->beta, at.readout.scale);
    if (network) {
        *network = made;
        *placed = network;
    }
    return SEN_OK;
}
