/* The image: every rule of docs/reference/sen-image.md that memory safety and the result depend on, checked once. */
#include "records.h"

#include <string.h>

static int is_finite(float value)
{
    return value - value == 0.0f;
}

static void read_tensor(const sen_image *image, uint32_t section, sen_tensor *tensor)
{
    const uint8_t *row;
    memset(tensor, 0, sizeof *tensor);
    if (section == SEN_NONE)
        return;
    row = image->bytes + HEADER_BYTES + (size_t)SECTION_BYTES * section;
    tensor->data = image->bytes + (size_t)u64(row + 8);
    tensor->dtype = u32(row + 4);
    tensor->rank = u32(row + 24);
    tensor->shape[0] = u32(row + 28);
    tensor->shape[1] = u32(row + 32);
    tensor->shape[2] = u32(row + 36);
}

static int is_tensor(const sen_image *image, uint32_t section)
{
    return section < image->sections
        && u32(image->bytes + HEADER_BYTES + (size_t)SECTION_BYTES * section) == KIND_TENSOR;
}

void sen_image_layer(const sen_image *image, uint32_t index, sen_layer_record *layer)
{
    const uint8_t *record = image->layer_records + (size_t)LAYER_BYTES * index;
    layer->op = u32(record);
    read_tensor(image, u32(record + 4), &layer->bias);
    layer->neuron = u32(record + 8);
    layer->beta = f32(record + 12);
    layer->threshold = f32(record + 16);
    layer->reset = u32(record + 20);
}

void sen_image_operator(const sen_image *image, uint32_t index, sen_operator_record *op)
{
    const uint8_t *record = image->operator_records + (size_t)OPERATOR_BYTES * index;
    uint32_t i;
    op->kind = u32(record);
    op->n_out = u32(record + 4);
    op->n_in = u32(record + 8);
    for (i = 0; i < 4; i++)
        read_tensor(image, u32(record + 12 + 4 * i), &op->tensors[i]);
    for (i = 0; i < 2; i++) {
        op->operands[i] = u32(record + 28 + 4 * i);
        op->block[i] = u32(record + 36 + 4 * i);
    }
    for (i = 0; i < 4; i++)
        op->scalars[i] = f32(record + 44 + 4 * i);
}

static int is_float(const sen_tensor *tensor)
{
    return tensor->dtype == SEN_FLOAT32 || tensor->dtype == SEN_FLOAT16;
}

static int has_shape(const sen_tensor *tensor, uint32_t rank, uint32_t rows, uint32_t columns)
{
    return tensor->data && tensor->rank == rank && tensor->shape[0] == rows && (rank == 1 || tensor->shape[1] == columns);
}

/* A matrix of floats without a scale, or of int8 with positive scales: one, or one for each of `rows`. */
static int is_matrix(const sen_tensor *w, const sen_tensor *scale, uint32_t rows)
{
    uint32_t i;
    if (!w->data || w->rank != 2)
        return 0;
    if (w->dtype != SEN_INT8)
        return is_float(w) && !scale->data;
    if (!scale->data || scale->dtype != SEN_FLOAT32 || scale->rank != 1)
        return 0;
    if (scale->shape[0] != 1 && scale->shape[0] != rows)
        return 0;
    for (i = 0; i < scale->shape[0]; i++)
        if (!(((const float *)scale->data)[i] > 0))
            return 0;
    return 1;
}

static sen_status check_coordinates(const sen_operator_record *op)
{
    const sen_tensor *source = &op->tensors[0], *target = &op->tensors[1], *mask = &op->tensors[2];
    const float *scalars = op->scalars; /* gain, exponent, min_distance, max_distance */
    const uint32_t dimensions = source->shape[1];
    uint32_t i;
    if (dimensions == 0 || !has_shape(source, 2, op->n_in, dimensions) || !has_shape(target, 2, op->n_out, dimensions)
        || !has_shape(mask, 1, op->n_in, 0) || op->tensors[3].data)
        return SEN_OPERATOR;
    if (!is_float(source) || !is_float(target) || !is_float(mask))
        return SEN_OPERATOR;
    for (i = 0; i < 4; i++)
        if (!is_finite(scalars[i]))
            return SEN_OPERATOR;
    if (!(scalars[3] > scalars[2]) && !all_zero((const uint8_t *)&scalars[3], sizeof scalars[3]))
        return SEN_OPERATOR;
    return scalars[1] > 0 && scalars[2] >= 0 ? SEN_OK : SEN_OPERATOR;
}

/* Starts rise from 0 to the number of blocks, columns within each block row. */
static sen_status check_indices(
    const sen_tensor *columns, const int32_t *start, uint32_t block_rows, uint32_t block_columns, uint32_t blocks)
{
    uint32_t row;
    int32_t at;
    if (start[0] != 0 || (uint32_t)start[block_rows] != blocks)
        return SEN_INDICES;
    for (row = 0; row < block_rows; row++) {
        int64_t before = -1;
        if (start[row] < 0 || start[row + 1] < start[row] || (uint32_t)start[row + 1] > blocks)
            return SEN_INDICES;
        for (at = start[row]; at < start[row + 1]; at++) {
            const int64_t column = columns->dtype == SEN_UINT16 ? ((const uint16_t *)columns->data)[at]
                                                                : ((const int32_t *)columns->data)[at];
            if (column <= before || column >= block_columns)
                return SEN_INDICES;
            before = column;
        }
    }
    return SEN_OK;
}

static sen_status check_sparse(const sen_operator_record *op)
{
    const sen_tensor *values = &op->tensors[0], *columns = &op->tensors[1], *starts = &op->tensors[2];
    const uint32_t rows = op->block[0], width = op->block[1], blocks = values->shape[0];
    uint32_t block_rows, block_columns;
    if (rows == 0 || width == 0 || !is_matrix(values, &op->tensors[3], op->n_out))
        return SEN_OPERATOR;
    block_rows = op->n_out / rows + (op->n_out % rows != 0);
    block_columns = op->n_in / width + (op->n_in % width != 0);
    if (values->shape[1] != (uint64_t)rows * width || !has_shape(columns, 1, blocks, 0)
        || block_rows == UINT32_MAX || !has_shape(starts, 1, block_rows + 1, 0))
        return SEN_OPERATOR;
    if ((columns->dtype != SEN_INT32 && columns->dtype != SEN_UINT16) || starts->dtype != SEN_INT32)
        return SEN_OPERATOR;
    return check_indices(columns, starts->data, block_rows, block_columns, blocks);
}

static sen_status check_operator(const sen_image *image, uint32_t index)
{
    const uint8_t *record = image->operator_records + (size_t)OPERATOR_BYTES * index;
    static const uint8_t used[] = {3, 2, 4, 4, 0}; /* tensors by kind */
    sen_operator_record op;
    uint32_t i;
    if (u32(record) > SEN_SUM || u32(record + 4) == 0 || u32(record + 8) == 0 || !all_zero(record + 60, 4))
        return SEN_OPERATOR;
    for (i = 0; i < 4; i++) {
        const uint32_t section = u32(record + 12 + 4 * i);
        if (section != SEN_NONE && (i >= used[u32(record)] || !is_tensor(image, section)))
            return SEN_OPERATOR;
    }
    sen_image_operator(image, index, &op);
    if (op.kind != SEN_SPARSE && (op.block[0] || op.block[1]))
        return SEN_OPERATOR;
    if (op.kind != SEN_COORDINATES && !all_zero(record + 44, 16))
        return SEN_OPERATOR;
    if (op.kind != SEN_SUM && (op.operands[0] != SEN_NONE || op.operands[1] != SEN_NONE))
        return SEN_OPERATOR;
    switch (op.kind) {
    case SEN_COORDINATES:
        return check_coordinates(&op);
    case SEN_DENSE:
        return has_shape(&op.tensors[0], 2, op.n_out, op.n_in) && is_matrix(&op.tensors[0], &op.tensors[1], op.n_out)
            ? SEN_OK
            : SEN_OPERATOR;
    case SEN_SPARSE:
        return check_sparse(&op);
    case SEN_LOW_RANK: {
        const uint32_t rank = op.tensors[1].shape[0];
        return rank > 0 && has_shape(&op.tensors[0], 2, op.n_out, rank) && has_shape(&op.tensors[1], 2, rank, op.n_in)
                && is_matrix(&op.tensors[0], &op.tensors[2], op.n_out) && is_matrix(&op.tensors[1], &op.tensors[3], rank)
            ? SEN_OK
            : SEN_OPERATOR;
    }
    default:
        return SEN_OK; /* check_order has seen the operands */
    }
}

/* Operators lie in post-order, one layer's tree after the other: each is used once, and no tree is deeper than
 * SEN_MAX_DEPTH. The stack holds the roots that nothing has used yet. */
static sen_status check_order(const sen_image *image)
{
    uint32_t roots[SEN_MAX_DEPTH + 1], depths[SEN_MAX_DEPTH + 1];
    uint32_t layer, index = 0, width = image->program.n_in;
    for (layer = 0; layer < image->program.layers; layer++) {
        const uint32_t last = u32(image->layer_records + (size_t)LAYER_BYTES * layer);
        uint32_t count = 0;
        if (last >= image->program.operators || last < index)
            return SEN_LAYER;
        for (; index <= last; index++) {
            const uint8_t *record = image->operator_records + (size_t)OPERATOR_BYTES * index;
            uint32_t depth = 1;
            if (u32(record + 8) != width)
                return SEN_LAYER;
            if (u32(record) == SEN_SUM) {
                uint32_t side;
                if (count < 2 || u32(record + 28) != roots[count - 2] || u32(record + 32) != roots[count - 1])
                    return SEN_OPERATOR;
                for (side = 1; side <= 2; side++) {
                    const uint8_t *operand = image->operator_records + (size_t)OPERATOR_BYTES * roots[count - side];
                    if (u32(operand + 4) != u32(record + 4))
                        return SEN_OPERATOR;
                    if (depths[count - side] >= depth)
                        depth = depths[count - side] + 1;
                }
                count -= 2;
            }
            if (depth > SEN_MAX_DEPTH || count > SEN_MAX_DEPTH)
                return SEN_OPERATOR;
            roots[count] = index;
            depths[count++] = depth;
        }
        if (count != 1)
            return SEN_OPERATOR;
        width = u32(image->operator_records + (size_t)OPERATOR_BYTES * last + 4);
    }
    if (index != image->program.operators)
        return SEN_OPERATOR;
    return width == image->program.n_out ? SEN_OK : SEN_LAYER;
}

static sen_status check_layer(const sen_image *image, uint32_t index)
{
    const uint8_t *record = image->layer_records + (size_t)LAYER_BYTES * index;
    const sen_program *program = &image->program;
    const int is_last = index == program->layers - 1;
    const uint32_t section = u32(record + 4);
    sen_layer_record layer;
    if ((section != SEN_NONE && !is_tensor(image, section)) || !all_zero(record + 24, 8))
        return SEN_LAYER;
    sen_image_layer(image, index, &layer);
    if (layer.bias.data) {
        const uint32_t n_out = u32(image->operator_records + (size_t)OPERATOR_BYTES * layer.op + 4);
        if (!is_float(&layer.bias) || !has_shape(&layer.bias, 1, n_out, 0))
            return SEN_LAYER;
    }
    if (program->timesteps == 0)
        return layer.neuron <= SEN_RELU && all_zero(record + 12, 12) ? SEN_OK : SEN_LAYER;
    if (layer.neuron != (is_last && program->readout != SEN_SPIKE_COUNT ? SEN_LEAKY_INTEGRATOR : SEN_LIF))
        return SEN_LAYER;
    if (!(layer.beta >= 0 && layer.beta <= 1))
        return SEN_LAYER;
    if (layer.neuron == SEN_LEAKY_INTEGRATOR)
        return all_zero(record + 16, 8) ? SEN_OK : SEN_LAYER;
    return layer.threshold > 0 && is_finite(layer.threshold) && layer.reset <= SEN_ZERO_WITHOUT_DELAY ? SEN_OK : SEN_LAYER;
}

static sen_status check_program(sen_image *image)
{
    const uint8_t *row = image->bytes + HEADER_BYTES, *head = image->bytes + (size_t)u64(row + 8);
    const uint64_t length = u64(row + 16);
    sen_program *program = &image->program;
    if (length < PROGRAM_BYTES)
        return SEN_PROGRAM;
    program->layers = u32(head);
    program->operators = u32(head + 4);
    program->timesteps = u32(head + 8);
    program->is_spike_train = u32(head + 12);
    program->readout = u32(head + 16);
    program->n_in = u32(head + 20);
    program->n_out = u32(head + 24);
    if (program->layers == 0 || u32(head + 28) != 0 || program->is_spike_train > 1 || program->readout > SEN_SPIKE_COUNT)
        return SEN_PROGRAM;
    if (program->timesteps == 0 && program->is_spike_train)
        return SEN_PROGRAM;
    if (length
        != PROGRAM_BYTES + LAYER_BYTES * (uint64_t)program->layers + OPERATOR_BYTES * (uint64_t)program->operators)
        return SEN_PROGRAM;
    image->layer_records = head + PROGRAM_BYTES;
    image->operator_records = image->layer_records + (size_t)LAYER_BYTES * program->layers;
    return SEN_OK;
}

static int values_are_finite(const sen_tensor *tensor)
{
    uint64_t count = 1, i;
    uint32_t axis;
    for (axis = 0; axis < tensor->rank; axis++)
        count *= tensor->shape[axis];
    if (tensor->dtype == SEN_FLOAT32) {
        const float *values = tensor->data;
        for (i = 0; i < count; i++)
            if (!is_finite(values[i]))
                return 0;
    } else if (tensor->dtype == SEN_FLOAT16) {
        const uint16_t *values = tensor->data;
        for (i = 0; i < count; i++)
            if ((values[i] & 0x7C00u) == 0x7C00u)
                return 0;
    }
    return 1;
}

static sen_status check_values(const sen_image *image)
{
    uint32_t index;
    for (index = 0; index < image->sections; index++) {
        sen_tensor tensor;
        if (!is_tensor(image, index))
            continue;
        read_tensor(image, index, &tensor);
        if (!values_are_finite(&tensor))
            return SEN_VALUES;
    }
    return SEN_OK;
}

sen_status sen_image_open(sen_image *image, const void *bytes, size_t size, unsigned flags)
{
    static const uint16_t one = 1;
    sen_status status;
    uint32_t index;
    memset(image, 0, sizeof *image);
    if (*(const uint8_t *)&one != 1)
        return SEN_ENDIANNESS;
    if (!bytes)
        return SEN_NULL;
    if ((uintptr_t)bytes % SEN_ALIGNMENT != 0)
        return SEN_IMAGE_ALIGNMENT;
    status = sen_check_container(bytes, size, flags);
    if (status != SEN_OK)
        return status;
    image->bytes = bytes;
    image->sections = u32(image->bytes + 12);
    status = check_program(image);
    if (status == SEN_OK)
        status = check_order(image);
    for (index = 0; status == SEN_OK && index < image->program.operators; index++)
        status = check_operator(image, index);
    for (index = 0; status == SEN_OK && index < image->program.layers; index++)
        status = check_layer(image, index);
    if (status == SEN_OK && flags & SEN_CHECK_VALUES)
        status = check_values(image);
    return status;
}
