/* Weights from positions: w[i][j] = gain * mask[j] / max(|q[i] - p[j]|, min_distance) ^ exponent. */
#include "internal.h"

#include <math.h>

/* base ^ (exponent / 2) for base >= 0: squares for the whole part, square roots for the binary digits of the rest. */
static float half_power(float base, float exponent)
{
    float whole = exponent / 2, power = 1, root = base;
    int digits = 0;
    while (whole >= 1 && digits++ < 128) {
        power *= base;
        whole -= 1;
    }
    for (digits = 0; whole > 0 && digits < 24; digits++) {
        root = sqrtf(root);
        whole *= 2;
        if (whole >= 1) {
            power *= root;
            whole -= 1;
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
