/* Weights from positions: w[i][j] = gain * mask[j] / max(|q[i] - p[j]|, min_distance) ^ exponent. */
#include "internal.h"

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

float sen_weight(const sen_operator_record *op, uint32_t target, uint32_t source)
{
    const sen_tensor *p = &op->tensors[0], *q = &op->tensors[1], *mask = &op->tensors[2];
    const uint32_t dimensions = p->shape[1];
    const float least = op->scalars[2] * op->scalars[2];
    float squared = 0;
    uint32_t k;
    for (k = 0; k < dimensions; k++) {
        const float difference = sen_value(q->data, q->dtype, (size_t)target * dimensions + k)
            - sen_value(p->data, p->dtype, (size_t)source * dimensions + k);
        squared += difference * difference;
    }
    if (squared < least)
        squared = least;
    return op->scalars[0] * sen_value(mask->data, mask->dtype, source) / half_power(squared, op->scalars[1]);
}
