/* Matrices of networks whose activations are int8, with their biases and factors as integers. */
#include "integer_load.h"

/* Sparse matrices up to this many bytes with their zeros become panels. */
#define MAX_SCATTERED (2u << 20)

/* `ratio` as multiplier * 2^(exponent - 31). */
static void set_factor(double ratio, int32_t *multiplier, int32_t *exponent)
{
    const int is_large = !(ratio < 1073741824.0); /* 2^30; infinite too */
    int32_t power = is_large ? 0 : sen_normalize(&ratio);
    uint32_t bits = is_large ? 0 : (uint32_t)(ratio * 2147483648.0 + 0.5);
    if (bits == 2147483648u) {
        bits /= 2;
        power++;
    }
    *multiplier = is_large ? INT32_MAX : power < -31 ? 0 : (int32_t)bits;
    *exponent = is_large ? 30 : power < -31 ? -31 : power;
}

/* Sum and sum of magnitudes of the weights of a row. */
typedef struct row_sums {
    int64_t sum, magnitude;
} row_sums;

static uint32_t column_of(const sen_integer_product *p, int32_t block)
{
    return p->columns.dtype == SEN_UINT16 ? ((const uint16_t *)p->columns.data)[block]
                                          : (uint32_t)((const int32_t *)p->columns.data)[block];
}

/* Panels of `group` columns of a row next to each other, see sen_to_quads, or ranges of the weights of columns. */
typedef struct panels {
    uint8_t *bytes; /* null to count sums only */
    uint32_t group, offset;
    uint8_t *offsets, *narrow; /* of each column, and a bit for each pair of narrow ones; null for `offset` everywhere */
    int8_t *lowest, *highest;  /* of each column, 0 included; null where they are known */
} panels;

static uint32_t offset_of(const panels *to, uint32_t column)
{
    return to->offsets ? to->offsets[column] : to->offset;
}

static uint8_t *place_of(const sen_integer_product *p, const panels *to, uint32_t row, uint32_t column)
{
    const uint32_t first = row / SEN_PANEL * SEN_PANEL, width = sen_panel_width(p->rows, first);
    const size_t groups = p->width / to->group + (p->width % to->group != 0);
    const size_t place = (column / to->group * (size_t)width + (row - first)) * to->group + column % to->group;
    return to->bytes + first * groups * to->group + place;
}

static void visit(const sen_integer_product *p, const panels *to, uint32_t row, uint32_t column, int8_t weight, row_sums *sums)
{
    sums->sum += weight;
    sums->magnitude += weight < 0 ? -weight : weight;
    if (to->lowest) {
        to->lowest[column] = weight < to->lowest[column] ? weight : to->lowest[column];
        to->highest[column] = weight > to->highest[column] ? weight : to->highest[column];
    } else if (to->bytes) {
        *place_of(p, to, row, column) = (uint8_t)(weight + (int32_t)offset_of(to, column));
    }
}

static row_sums visit_row(const sen_integer_product *p, const panels *to, uint32_t row)
{
    const int8_t *values = p->values.data;
    row_sums sums = {0, 0};
    uint32_t j;
    if (p->steps.data) {
        for (j = 0; j < p->width; j++)
            visit(p, to, row, j, sen_int4_weight(p->values.data, p->steps.data, p->width, row, j), &sums);
    } else if (!p->starts.data) {
        for (j = 0; j < p->width; j++)
            visit(p, to, row, j, values[(size_t)row * p->width + j], &sums);
    } else {
        const int32_t *start = (const int32_t *)p->starts.data + row / p->block_rows;
        int32_t at;
        for (at = start[0]; at < start[1]; at++) {
            const size_t first = (size_t)column_of(p, at) * p->block_columns;
            const int8_t *block = values + ((size_t)at * p->block_rows + row % p->block_rows) * p->block_columns;
            for (j = 0; j < p->block_columns && first + j < p->width; j++)
                visit(p, to, row, (uint32_t)first + j, block[j], &sums);
        }
    }
    return sums;
}

/* Bias and factors of every row; a sum of products with its bias must not exceed int32. `zero` is the input that counts as 0 as
 * the product takes it. */
static sen_status set_rows(
    const sen_integer_product *p, const panels *to, int32_t zero, int32_t *bias, int32_t *multiplier, int32_t *exponent,
    int32_t *max_exponent)
{
    uint32_t row;
    *max_exponent = -31;
    for (row = 0; row < p->rows; row++) {
        const row_sums sums = visit_row(p, to, row);
        const double scale = p->in.scale * ((const float *)p->scale.data)[p->scale.shape[0] > 1 ? row : 0];
        double added = 0;
        int32_t factor, power;
        if (p->bias.data) {
            const float value = (float)(p->bias_factor * sen_value(p->bias.data, p->bias.dtype, row));
            added = value / scale;
            if (!(added > -2147483648.0 && added < 2147483648.0))
                return SEN_OPERATOR;
            added = sen_round_even(added);
        }
        if (!((double)sums.magnitude * 255 + (added < 0 ? -added : added) < 2147483648.0))
            return SEN_OPERATOR;
        set_factor(scale / p->out.scale, &factor, &power);
        *max_exponent = power > *max_exponent ? power : *max_exponent;
        if (exponent) {
            bias[row] = (int32_t)((int64_t)added - sums.sum * zero);
            multiplier[row] = factor;
            exponent[row] = power;
        }
    }
    for (; exponent && row % 16 != 0; row++) {
        bias[row] = multiplier[row] = 0;
        exponent[row] = -31;
    }
    return SEN_OK;
}

/* Offsets of the columns, and which pairs are narrow. */
static void set_offsets(sen_loader *loader, const sen_integer_product *p, panels *to)
{
    const uint64_t size = ((uint64_t)p->width + 63) / 64 * 64;
    uint32_t row, i;
    to->offsets = sen_take(&loader->arena, size, 1);
    to->narrow = sen_take(&loader->arena, size / 16, 1);
    to->lowest = sen_take(&loader->arena, size, 1);
    to->highest = sen_take(&loader->arena, size, 1);
    if (!to->highest)
        return;
    memset(to->lowest, 0, (size_t)size);
    memset(to->highest, 0, (size_t)size);
    memset(to->narrow, 0xFF, (size_t)size / 16);
    for (row = 0; row < p->rows; row++)
        (void)visit_row(p, to, row);
    for (i = 0; i < size; i++) {
        const int is_narrow = to->highest[i] - to->lowest[i] <= 128;
        to->offsets[i] = (uint8_t)(is_narrow ? -to->lowest[i] : 128);
        if (!is_narrow)
            to->narrow[i / 16] = (uint8_t)(to->narrow[i / 16] & ~(1u << i / 2 % 8));
    }
    to->lowest = to->highest = NULL;
}

/* Weights of 0 in every place. */
static void clear_panels(const sen_integer_product *p, const panels *to)
{
    const uint32_t rows = (p->rows + 15) / 16 * 16, columns = (p->width + to->group - 1) / to->group * to->group;
    uint32_t row, column;
    for (row = 0; row < rows; row++)
        for (column = 0; column < columns; column++)
            *place_of(p, to, row, column) = (uint8_t)offset_of(to, column);
}

sen_status sen_place_integers(sen_loader *loader, const sen_integer_product *p, sen_integer_weights *w)
{
    const sen_integer_kernels *kernels = loader->isa->integer;
    const uint64_t rows = ((uint64_t)p->rows + 15) / 16 * 16;
    int32_t *bias = sen_take(&loader->arena, rows, sizeof *bias);
    int32_t *multiplier = sen_take(&loader->arena, rows, sizeof *multiplier);
    int32_t *exponent = sen_take(&loader->arena, rows, sizeof *exponent);
    const uint32_t group = kernels->panels ? kernels->group : 1;
    const uint64_t size = rows * ((uint64_t)p->width / group + (p->width % group != 0)) * group;
    panels to = {NULL, group, kernels->offset, NULL, NULL, NULL, NULL};
    int32_t zero = p->in.zero;
    if (p->width > SEN_MAX_INT8_COLUMNS || p->rows > SEN_MAX_INT8_COLUMNS)
        return SEN_OPERATOR;
    memset(w, 0, sizeof *w);
    w->rows = p->rows;
    w->columns = p->width;
    w->bias = bias;
    w->multiplier = multiplier;
    w->exponent = exponent;
    w->zero = p->out.zero;
    w->low = p->low;
    if (loader->quantized < p->width)
        loader->quantized = p->width;
    if (loader->flags & SEN_PACK && kernels->panels && (!p->starts.data || size <= MAX_SCATTERED)) {
        to.bytes = sen_take(&loader->arena, size, 1);
        if (kernels->has_offsets)
            set_offsets(loader, p, &to);
        if (to.bytes && !loader->arena.overflows)
            clear_panels(p, &to);
        w->values = to.bytes;
        w->offsets = to.offsets;
        w->narrow = to.narrow;
        w->multiply = kernels->panels;
    } else {
        w->values = sen_keep(loader, &p->values);
        w->indices = sen_keep(loader, p->steps.data ? &p->steps : &p->columns);
        w->starts = sen_keep(loader, &p->starts);
        w->index_dtype = p->columns.dtype;
        w->block_rows = p->block_rows;
        w->block_columns = p->block_columns;
        w->multiply = p->steps.data ? sen_integer_int4 : p->starts.data ? sen_integer_sparse : kernels->dense;
        if (w->multiply == kernels->dense)
            zero -= kernels->dense_zero;
    }
    if (loader->arena.overflows)
        return SEN_TOO_LARGE;
    return set_rows(p, &to, zero, bias, multiplier, exponent, &w->max_exponent);
}
