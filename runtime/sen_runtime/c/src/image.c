/* The image: every rule of docs/reference/sen-image.md that memory safety and the result depend on, checked once. */
#include "image.h"

sen_tensor sen_image_tensor(const sen_image *image, uint32_t index)
{
    sen_tensor tensor = {NULL, 0, 0, {0, 0, 0}, 1};
    uint32_t axis;
    if (index != SEN_NONE) {
        const section_row *row = section_at(image->bytes, index);
        tensor.data = image->bytes + (size_t)row->offset;
        tensor.dtype = row->dtype;
        tensor.rank = row->rank;
        memcpy(tensor.shape, row->shape, sizeof tensor.shape);
        for (axis = 0; axis < row->rank; axis++)
            tensor.count *= row->shape[axis];
    }
    return tensor;
}

/* One tree of operators in post-order, from `index` to `last`, with `width` inputs: each is used once, and it is not deeper than
 * SEN_MAX_DEPTH. The stack holds the roots that nothing has used yet. */
static sen_status check_tree(const sen_image *image, uint32_t index, uint32_t last, uint32_t width)
{
    uint32_t roots[SEN_MAX_DEPTH + 1], depths[SEN_MAX_DEPTH + 1], count = 0;
    if (last >= image->program->operators || last < index)
        return SEN_LAYER;
    for (; index <= last; index++) {
        const sen_operator_record *op = &image->operators[index];
        uint32_t depth = 1, side;
        if (op->n_in != width)
            return SEN_LAYER;
        if (op->kind == SEN_SUM) {
            if (count < 2 || op->operands[0] != roots[count - 2] || op->operands[1] != roots[count - 1])
                return SEN_OPERATOR;
            for (side = 1; side <= 2; side++) {
                if (image->operators[roots[count - side]].n_out != op->n_out)
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
    return count == 1 ? SEN_OK : SEN_OPERATOR;
}

/* Operators lie one layer's trees after the other: that of its inputs, and that of its recurrent synapses. */
static sen_status check_order(const sen_image *image)
{
    const sen_program *program = image->program;
    uint32_t layer, index = 0, width = program->n_in;
    for (layer = 0; layer < program->layers; layer++) {
        const uint32_t last = image->layers[layer].op, recurrent = image->wiring ? image->wiring[layer].recurrent : SEN_NONE;
        sen_status status = check_tree(image, index, last, width);
        if (status != SEN_OK)
            return status;
        index = last + 1;
        width = image->operators[last].n_out;
        if (recurrent == SEN_NONE)
            continue;
        status = check_tree(image, index, recurrent, width);
        if (status != SEN_OK)
            return status;
        if (image->operators[recurrent].n_out != width)
            return SEN_LAYER;
        index = recurrent + 1;
    }
    if (index != program->operators)
        return SEN_OPERATOR;
    return width == program->n_out ? SEN_OK : SEN_LAYER;
}

/* Whether all bytes of a record are 0 from an offset to its grid. */
static int is_zero_from(const sen_layer_record *layer, size_t offset)
{
    return all_zero((const uint8_t *)layer + offset, offsetof(sen_layer_record, grid_scale) - offset);
}

static int is_layer_grid(const sen_image *image, const sen_layer_record *layer)
{
    if (image->input_grid)
        return layer->grid_zero >= -128 && layer->grid_zero <= 127 && is_grid(layer->grid_scale, (float)layer->grid_zero);
    return all_zero(&layer->grid_scale, sizeof layer->grid_scale + sizeof layer->grid_zero);
}

/* A parameter in [low, high]: a number, or 0 and a section with one for each neuron. */
static int is_parameter(const sen_image *image, uint32_t layer, uint32_t section, float number, float low, float high)
{
    const uint32_t n = image->operators[image->layers[layer].op].n_out;
    sen_tensor values;
    uint32_t i;
    if (section == SEN_NONE)
        return number >= low && number <= high;
    values = sen_image_tensor(image, is_tensor(image, section) ? section : SEN_NONE);
    if (image->input_grid || !all_zero(&number, sizeof number) || !has_shape(&values, 1, n, 0) || values.dtype != SEN_FLOAT32)
        return 0;
    for (i = 0; i < n; i++)
        if (!(((const float *)values.data)[i] >= low && ((const float *)values.data)[i] <= high))
            return 0;
    return 1;
}

static sen_status check_layer(const sen_image *image, uint32_t index)
{
    const sen_layer_record *layer = &image->layers[index];
    const sen_program *program = image->program;
    const int is_last = index == program->layers - 1;
    const int is_refractory = image->wiring && layer->neuron == SEN_REFRACTORY_LIF && !image->input_grid;
    if ((layer->bias != SEN_NONE && !is_tensor(image, layer->bias)) || !is_layer_grid(image, layer))
        return SEN_LAYER;
    if (layer->bias != SEN_NONE) {
        const sen_tensor bias = sen_image_tensor(image, layer->bias);
        if (!is_float(&bias) || !has_shape(&bias, 1, image->operators[layer->op].n_out, 0))
            return SEN_LAYER;
    }
    if (program->timesteps == 0)
        return layer->neuron <= SEN_RELU && is_zero_from(layer, offsetof(sen_layer_record, beta)) ? SEN_OK : SEN_LAYER;
    if (is_last && program->readout != SEN_SPIKE_COUNT ? layer->neuron != SEN_LEAKY_INTEGRATOR
                                                       : layer->neuron != SEN_LIF && !is_refractory)
        return SEN_LAYER;
    if (!is_parameter(image, index, image->neurons ? image->neurons[index].beta : SEN_NONE, layer->beta, 0, 1))
        return SEN_LAYER;
    if (layer->neuron == SEN_LEAKY_INTEGRATOR)
        return is_zero_from(layer, offsetof(sen_layer_record, threshold)) ? SEN_OK : SEN_LAYER;
    return is_parameter(
               image, index, image->neurons ? image->neurons[index].threshold : SEN_NONE, layer->threshold, 1.40129846e-45f,
               3.40282347e+38f)
            && layer->reset <= (is_refractory ? 0 : SEN_ZERO_WITHOUT_DELAY)
        ? SEN_OK
        : SEN_LAYER;
}

/* Mean and std of `n` features, or neither. */
static int is_scaling(const sen_image *image, const uint32_t sections[2], uint32_t n)
{
    uint32_t i, k;
    if (sections[0] == SEN_NONE && sections[1] == SEN_NONE)
        return 1;
    for (k = 0; k < 2; k++) {
        const sen_tensor values = sen_image_tensor(image, is_tensor(image, sections[k]) ? sections[k] : SEN_NONE);
        if (!has_shape(&values, 1, n, 0) || values.dtype != SEN_FLOAT32)
            return 0;
        for (i = 0; k == 1 && i < n; i++) {
            const float std = ((const float *)values.data)[i];
            if (!(std > 0 && is_finite(std) && is_finite(1 / std)))
                return 0;
        }
    }
    return 1;
}

/* Records of version 4, after the grid of the input. */
static sen_status check_scaling(const sen_image *image)
{
    const sen_program *program = image->program;
    const sen_scaling_record *scaling = image->scaling;
    uint32_t index;
    if (!scaling)
        return program->activation == 0 ? SEN_OK : SEN_PROGRAM;
    if (program->activation > SEN_SIGMOID || (sen_arrives_as_spikes(program) && scaling->input[0] != SEN_NONE))
        return SEN_PROGRAM;
    for (index = 0; index < program->layers; index++) {
        const uint32_t neuron = image->layers[index].neuron;
        if ((neuron != SEN_LIF && neuron != SEN_REFRACTORY_LIF && image->neurons[index].threshold != SEN_NONE)
            || (neuron <= SEN_RELU && image->neurons[index].beta != SEN_NONE))
            return SEN_LAYER;
    }
    return is_scaling(image, scaling->input, program->n_in) && is_scaling(image, scaling->output, program->n_out) ? SEN_OK
                                                                                                                 : SEN_PROGRAM;
}

/* Whether a number is the decay of the weights of steps in the readout. */
static int is_decay(const sen_program *program, float decay)
{
    return decay > 0 && (decay == 1 || (decay < 1 && program->timesteps > 0 && program->readout == SEN_MEAN_MEMBRANE));
}

static sen_status check_program(sen_image *image)
{
    const section_row *row = section_at(image->bytes, 0);
    const sen_program *program = (const sen_program *)(const void *)(image->bytes + (size_t)row->offset);
    const int has_scaling = version_of(image) >= SEN_VERSION_WITH_SCALINGS;
    const int has_grid = has_scaling || version_of(image) == SEN_VERSION_WITH_GRIDS;
    const int has_wiring = version_of(image) >= SEN_VERSION_WITH_DELAYS;
    const sen_grid_record *input;
    const void *end;
    if (row->nbytes < sizeof *program)
        return SEN_PROGRAM;
    if (program->layers == 0 || program->coding > (has_scaling ? SEN_DELTA : SEN_SPIKES) || program->readout > SEN_SPIKE_COUNT)
        return SEN_PROGRAM;
    if ((program->timesteps == 0 && program->coding != SEN_DIRECT) || (program->coding == SEN_DELTA && program->n_in % 2))
        return SEN_PROGRAM;
    if (row->nbytes
        != sizeof *program + sizeof *image->layers * (uint64_t)program->layers
            + sizeof *image->operators * (uint64_t)program->operators + (has_grid ? sizeof *input : 0)
            + (has_scaling ? sizeof *image->scaling + sizeof *image->neurons * (uint64_t)program->layers : 0)
            + (has_wiring ? sizeof *image->wiring * (uint64_t)program->layers + sizeof *image->readout_decay : 0)
            + (program->coding == SEN_DELTA ? sizeof *image->delta : 0))
        return SEN_PROGRAM;
    image->program = program;
    image->layers = (const sen_layer_record *)(const void *)(program + 1);
    image->operators = (const sen_operator_record *)(const void *)(image->layers + program->layers);
    if (!has_grid)
        return SEN_OK;
    input = (const sen_grid_record *)(const void *)(image->operators + program->operators);
    if (has_scaling) {
        image->scaling = (const sen_scaling_record *)(const void *)(input + 1);
        image->neurons = (const sen_neuron_record *)(const void *)(image->scaling + 1);
        end = image->neurons + program->layers;
        if (has_wiring) {
            image->wiring = end;
            image->readout_decay = end = image->wiring + program->layers;
            end = image->readout_decay + 1;
            if (!is_decay(program, *image->readout_decay))
                return SEN_PROGRAM;
        }
        if (program->coding == SEN_DELTA) {
            image->delta = end;
            if (!(*image->delta > 0 && is_finite(*image->delta)))
                return SEN_PROGRAM;
        }
        if (all_zero(input, sizeof *input))
            return SEN_OK;
    }
    if (program->coding > SEN_SPIKES)
        return SEN_PROGRAM;
    image->input_grid = input;
    return input->zero >= -128 && input->zero <= 127 && is_grid(input->scale, (float)input->zero) ? SEN_OK : SEN_PROGRAM;
}

static int values_are_finite(const sen_tensor *tensor)
{
    const float *floats = tensor->data;
    const uint16_t *halves = tensor->data;
    uint64_t i;
    for (i = 0; tensor->dtype == SEN_FLOAT32 && i < tensor->count; i++)
        if (!is_finite(floats[i]))
            return 0;
    for (i = 0; tensor->dtype == SEN_FLOAT16 && i < tensor->count; i++)
        if ((halves[i] & 0x7C00u) == 0x7C00u)
            return 0;
    return 1;
}

static sen_status check_values(const sen_image *image)
{
    uint32_t index;
    for (index = 0; index < image->sections; index++) {
        const sen_tensor tensor = sen_image_tensor(image, index);
        if (is_tensor(image, index) && !values_are_finite(&tensor))
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
    image->sections = ((const image_header *)bytes)->sections;
    status = check_program(image);
    if (status == SEN_OK)
        status = check_scaling(image);
    if (status == SEN_OK)
        status = check_order(image);
    for (index = 0; status == SEN_OK && index < image->program->operators; index++)
        status = sen_check_operator(image, &image->operators[index]);
    for (index = 0; status == SEN_OK && index < image->program->layers; index++)
        status = check_layer(image, index);
    for (index = 0; status == SEN_OK && image->wiring && index < image->program->layers; index++)
        status = sen_check_wiring(image, index);
    if (status == SEN_OK && flags & SEN_CHECK_VALUES)
        status = check_values(image);
    return status;
}
