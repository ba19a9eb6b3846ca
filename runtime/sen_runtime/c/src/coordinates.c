/* Weights from positions: w[i][j] = gain * mask[j] / max(|q[i] - p[j]|, min_distance) ^ exponent, or 0 where
 * |q[i] - p[j]| > max_distance: which synapses that leaves out is decided in float32. */
#include "network.h"

/* export: sen_weight, needs sen_value */
#include <math.h>

/* base ^ (exponent / 2) for base >= 0: squares for the binary digits of the whole part, square roots for those of the
 * rest. Beyond 2^24 a float has no rest, and the power of any base but 1 is 0 or infinite. */
static float half_power(float base, float exponent)
{
    const float half = exponent / 2;
    uint32_t whole = half < 16777216.0f ? (uint32_t)half : 16777216u;
    float rest = half < 16777216.0f ? half - (float)whole : 0.0f;
    float power = 1, square = base, root = base;
    int digits;
    for (; whole; whole >>= 1) {
        if (whole & 1u)
            power *= square;
        square *= square;
    }
    for (digits = 0; rest > 0 && digits < 24; digits++) {
        root = sqrtf(root);
        rest *= 2;
        if (rest >= 1) {
            power *= root;
            rest -= 1;
        }
    }
    return power;
}

SEN_PRIVATE float sen_weight(const sen_weights *w, uint32_t target, uint32_t source)
{
    const uint32_t dimensions = w->dimensions;
    const float least = w->min_distance * w->min_distance;
    float squared = 0;
    uint32_t k;
    for (k = 0; k < dimensions; k++) {
        const float difference = sen_value(w->target, w->target_dtype, (size_t)target * dimensions + k)
            - sen_value(w->values, w->dtype, (size_t)source * dimensions + k);
        squared += difference * difference;
    }
    if (w->max_distance > 0 && squared > w->max_distance * w->max_distance)
        return 0;
    if (squared < least)
        squared = least;
    return w->gain * sen_value(w->mask, w->mask_dtype, source) / half_power(squared, w->exponent);
}
/* end */

/* export: sen_coordinates, needs sen_weight */
/* Skips inputs of 0. */
SEN_PRIVATE void sen_coordinates(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    uint32_t i, j;
    for (i = 0; i < w->rows; i++) {
        float sum = 0;
        for (j = 0; j < w->columns; j++)
            if (x->values[j] != 0)
                sum += sen_weight(w, i, j) * x->values[j];
        y[i] = sen_finish(addend, is_relu, i, sum);
    }
}
/* end */
