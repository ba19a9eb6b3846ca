/* An image with inputs and the outputs that they should give, as harness.write_case wrote them into image_data.h. */
#ifndef IMAGE_CASE_H
#define IMAGE_CASE_H

#include "image_data.h"
#include "sen.h"

#include <math.h>
#include <stdio.h>

static unsigned char case_arena[CASE_ARENA_BYTES] __attribute__((aligned(SEN_ALIGNMENT)));
static float case_output[CASE_OUTPUTS];

/* The model, with checksum and values checked; null, and why, if it does not load. */
static sen_model *case_load(void)
{
    const unsigned flags = SEN_CHECK_CHECKSUM | SEN_CHECK_VALUES;
    sen_model *model = NULL;
    size_t size = 0;
    sen_status status = sen_arena_size(case_image, sizeof case_image, flags, &size);
    if (status == SEN_OK)
        status = sen_load(&model, case_image, sizeof case_image, case_arena, sizeof case_arena, flags);
    printf("arena %lu bytes, %s\n", (unsigned long)size, sen_status_text(status));
    return model;
}

static const float *case_input(unsigned row)
{
    return case_x + row * (sizeof case_x / sizeof *case_x / CASE_ROWS);
}

/* The greatest error of `case_output` over the greatest of a row's expected outputs, in units of 1e-9 (a printf of
 * floats would need more than the smallest targets have); more than any tolerance if an output is not a number. */
static unsigned long case_error(unsigned row)
{
    const float *expected = case_y + row * CASE_OUTPUTS;
    float error = 0, greatest = 1e-3f;
    unsigned i;
    for (i = 0; i < CASE_OUTPUTS; i++) {
        const float difference = fabsf(case_output[i] - expected[i]);
        if (!(difference < 1e3f))
            return 1000000000ul;
        error = difference > error ? difference : error;
        greatest = fabsf(expected[i]) > greatest ? fabsf(expected[i]) : greatest;
    }
    return error < greatest ? (unsigned long)(error / greatest * 1e9f) : 1000000000ul;
}

#endif
