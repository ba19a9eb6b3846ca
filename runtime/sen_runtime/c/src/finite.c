/* Rejection of inputs that hold NaN or infinity: ReLU and the rounding to eight bits turn both into numbers. */
#include "network.h"

#include <string.h>

#define FINITE_BLOCK 64u

/* Exponent bits are tested as integers: -ffast-math removes comparisons of floats, and they are slow without an FPU. Adding
 * one to an exponent of all ones carries into the sign bit. */
static inline uint32_t carry_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (bits & 0x7F800000u) + 0x00800000u;
}

/* Blocks of a constant size are what compilers vectorize at -O2. */
int sen_is_finite(const float *x, size_t count)
{
    uint32_t carries = 0;
    size_t i = 0;
#ifdef SEN_PAIRS
    if (!sen_eights_are_finite(x, count))
        return 0;
    i = count - count % 8;
#else
    for (; count - i >= FINITE_BLOCK; i += FINITE_BLOCK) {
        uint32_t of_block = 0, k;
        for (k = 0; k < FINITE_BLOCK; k++)
            of_block |= carry_of(x[i + k]);
        carries |= of_block;
    }
#endif
    for (; i < count; i++)
        carries |= carry_of(x[i]);
    return carries >> 31 == 0;
}
