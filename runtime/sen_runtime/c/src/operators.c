/* The operators of an image: their tensors, blocks, indices and grids. */
#include "image.h"
#include "int4.h"

/* Positive scales of integers: one, or one for each of `rows`. */
static int is_scale(const sen_tensor *scale, uint32_t rows)
{
    uint32_t i;
    if (!scale->data || scale->dtype != SEN_FLOAT32 || scale->rank != 1)
        return 0;
    if (scale->shape[0] != 1 && scale->shape[0] != rows)
        return 0;
    for (i = 0; i < scale->shape[0]; i++)
        if (!(((const float *)scale->data)[i] > 0))
            return 0;
    return 1;
}

/* A matrix of floats without a scale, or of int8 with one. */
static int is_matrix(const sen_tensor *w, const sen_tensor *scale, uint32_t rows)
{
    if (!w->data || w->rank != 2)
        return 0;
    return w->dtype == SEN_INT8 ? is_scale(scale, rows) : is_float(w) && !scale->data;
}

static int is_coordinates(const sen_operator_record *op, const sen_tensor *tensors)
{
    const sen_tensor *source = &tensors[0], *target = &tensors[1], *mask = &tensors[2];
    const float exponent = op->scalars[1], min_distance = op->scalars[2], max_distance = op->scalars[3];
    const uint32_t dimensions = source->shape[1];
    uint32_t i;
    for (i = 0; i < 4; i++)
        if (!is_finite(op->scalars[i]))
            return 0;
    return dimensions > 0 && has_shape(source, 2, op->n_in, dimensions) && has_shape(target, 2, op->n_out, dimensions)
        && has_shape(mask, 1, op->n_in, 0) && is_float(source) && is_float(target) && is_float(mask) && exponent > 0
        && min_distance >= 0 && (max_distance > min_distance || all_zero(&op->scalars[3], sizeof op->scalars[3]));
}

/* Starts rise from 0 to the number of blocks, indices below `limit` within each of `lines`: block columns of a block row, or by
 * source block rows of a block column. */
static sen_status check_indices(
    const sen_tensor *indices, const int32_t *start, uint32_t lines, uint32_t limit, uint32_t blocks)
{
    uint32_t line;
    int32_t at;
    if (start[0] != 0 || (uint32_t)start[lines] != blocks)
        return SEN_INDICES;
    for (line = 0; line < lines; line++) {
        int64_t before = -1;
        if (start[line] < 0 || start[line + 1] < start[line] || (uint32_t)start[line + 1] > blocks)
            return SEN_INDICES;
        for (at = start[line]; at < start[line + 1]; at++) {
            const int64_t index = indices->dtype == SEN_UINT16 ? ((const uint16_t *)indices->data)[at]
                                                               : ((const int32_t *)indices->data)[at];
            if (index <= before || index >= limit)
                return SEN_INDICES;
            before = index;
        }
    }
    return SEN_OK;
}

static sen_status check_sparse(const sen_operator_record *op, const sen_tensor *tensors)
{
    const sen_tensor *values = &tensors[0], *indices = &tensors[1], *starts = &tensors[2];
    const uint32_t rows = op->block[0], width = op->block[1], blocks = values->shape[0];
    uint32_t grid[2], lines;
    if (rows == 0 || width == 0 || !is_matrix(values, &tensors[3], op->n_out))
        return SEN_OPERATOR;
    grid[SEN_BY_ROW] = op->n_out / rows + (op->n_out % rows != 0);
    grid[SEN_BY_SOURCE] = op->n_in / width + (op->n_in % width != 0);
    lines = grid[op->order];
    if (values->shape[1] != (uint64_t)rows * width || !has_shape(indices, 1, blocks, 0)
        || lines == UINT32_MAX || !has_shape(starts, 1, lines + 1, 0))
        return SEN_OPERATOR;
    if ((indices->dtype != SEN_INT32 && indices->dtype != SEN_UINT16) || starts->dtype != SEN_INT32)
        return SEN_OPERATOR;
    if (op->order == SEN_BY_SOURCE && (indices->dtype != SEN_UINT16 || grid[SEN_BY_ROW] > UINT16_MAX + 1u))
        return SEN_OPERATOR;
    return check_indices(indices, starts->data, lines, grid[!op->order], blocks);
}

static int is_dense(const sen_operator_record *op, const sen_tensor *tensors)
{
    return has_shape(&tensors[0], 2, op->n_out, op->n_in) && is_matrix(&tensors[0], &tensors[1], op->n_out);
}

/* Weights and steps of groups, two in each byte; every byte is valid. */
static int is_int4(const sen_operator_record *op, const sen_tensor *tensors)
{
    const sen_tensor *w = &tensors[0], *steps = &tensors[1];
    return has_shape(w, 2, op->n_out, SEN_INT4_BYTES(op->n_in)) && w->dtype == SEN_UINT8
        && has_shape(steps, 2, op->n_out, SEN_INT4_BYTES(SEN_INT4_GROUPS(op->n_in))) && steps->dtype == SEN_UINT8
        && is_scale(&tensors[2], op->n_out);
}

static int is_low_rank(const sen_operator_record *op, const sen_tensor *tensors)
{
    const sen_tensor *left = &tensors[0], *right = &tensors[1];
    const uint32_t rank = right->shape[0];
    return rank > 0 && has_shape(left, 2, op->n_out, rank) && has_shape(right, 2, rank, op->n_in)
        && is_matrix(left, &tensors[2], op->n_out) && is_matrix(right, &tensors[3], rank);
}

/* The grids inside, with int8 activations; the others are 0. Those of coordinates are checked with its tensors. */
static int are_scalars(const sen_image *image, const sen_operator_record *op)
{
    const uint32_t grids = !image->input_grid ? 0 : op->kind == SEN_LOW_RANK ? 1 : op->kind == SEN_SUM ? 2 : 0;
    uint32_t i;
    if (op->kind == SEN_COORDINATES)
        return 1;
    for (i = 0; i < grids; i++)
        if (!is_grid(op->scalars[2 * i], op->scalars[2 * i + 1]))
            return 0;
    return all_zero(op->scalars + 2 * grids, (4 - 2 * grids) * sizeof *op->scalars);
}

sen_status sen_check_operator(const sen_image *image, const sen_operator_record *op)
{
    static const uint8_t used[] = {3, 2, 4, 4, 0, 3}; /* tensors by kind */
    const uint32_t last = version_of(image) >= SEN_VERSION_WITH_INT4 ? SEN_INT4 : SEN_SUM;
    const int has_order = op->kind == SEN_SPARSE && version_of(image) >= SEN_VERSION_WITH_SOURCES && !image->input_grid;
    sen_tensor tensors[4];
    uint32_t i;
    if (op->kind > last || op->n_out == 0 || op->n_in == 0 || op->order > (has_order ? SEN_BY_SOURCE : SEN_BY_ROW))
        return SEN_OPERATOR;
    for (i = 0; i < 4; i++) {
        if (op->tensors[i] != SEN_NONE && (i >= used[op->kind] || !is_tensor(image, op->tensors[i])))
            return SEN_OPERATOR;
        tensors[i] = sen_image_tensor(image, op->tensors[i]);
    }
    if (op->kind != SEN_SPARSE && (op->block[0] || op->block[1]))
        return SEN_OPERATOR;
    if (!are_scalars(image, op))
        return SEN_OPERATOR;
    if (image->input_grid && op->kind < SEN_SUM && (op->kind == SEN_COORDINATES || tensors[0].dtype != SEN_INT8))
        return SEN_OPERATOR;
    if (image->input_grid && op->kind == SEN_LOW_RANK && tensors[1].dtype != SEN_INT8)
        return SEN_OPERATOR;
    if (op->kind != SEN_SUM && (op->operands[0] != SEN_NONE || op->operands[1] != SEN_NONE))
        return SEN_OPERATOR;
    switch (op->kind) {
    case SEN_COORDINATES:
        return is_coordinates(op, tensors) ? SEN_OK : SEN_OPERATOR;
    case SEN_DENSE:
        return is_dense(op, tensors) ? SEN_OK : SEN_OPERATOR;
    case SEN_SPARSE:
        return check_sparse(op, tensors);
    case SEN_LOW_RANK:
        return is_low_rank(op, tensors) ? SEN_OK : SEN_OPERATOR;
    case SEN_INT4:
        return is_int4(op, tensors) ? SEN_OK : SEN_OPERATOR;
    default:
        return SEN_OK; /* check_order has seen the operands */
    }
}
