/* Declarations shared by the checks of images. */
#ifndef SEN_IMAGE_H
#define SEN_IMAGE_H

#include "internal.h"

static inline int is_finite(float value)
{
    return value - value == 0.0f;
}

static inline uint16_t version_of(const sen_image *image)
{
    return ((const image_header *)(const void *)image->bytes)->version;
}

static inline int is_tensor(const sen_image *image, uint32_t index)
{
    return index < image->sections && section_at(image->bytes, index)->kind == KIND_TENSOR;
}

static inline int is_float(const sen_tensor *tensor)
{
    return tensor->dtype == SEN_FLOAT32 || tensor->dtype == SEN_FLOAT16;
}

static inline int has_shape(const sen_tensor *tensor, uint32_t rank, uint32_t rows, uint32_t columns)
{
    return tensor->data && tensor->rank == rank && tensor->shape[0] == rows && (rank == 1 || tensor->shape[1] == columns);
}

/* Whether a number in [-128, 127] is an integer, stored without a sign of 0. */
static inline int is_zero_point(float value)
{
    const float whole = value >= -128 && value <= 127 ? (float)(int32_t)value : 0;
    return memcmp(&whole, &value, sizeof whole) == 0;
}

/* The inverse of a scale is finite too. */
static inline int is_grid(float scale, float zero_point)
{
    return is_finite(scale) && scale >= 1.17549435e-38f && is_zero_point(zero_point);
}

/* operators.c: every rule of an operator but its place in the program. */
sen_status sen_check_operator(const sen_image *image, const sen_operator_record *op);

/* image_wiring.c: every rule of the wiring of a layer but the place of its operators. */
sen_status sen_check_wiring(const sen_image *image, uint32_t index);

#endif
