/* Conversion of stored numbers to float32. */
#include "network.h"

/* export: sen_value */
static float from_half(uint16_t half)
{
    /* the exponents of float16 and float32 differ by 112, subnormal numbers included */
    const uint32_t magnitude = (uint32_t)(half & 0x7FFFu) << 13;
    float value;
    memcpy(&value, &magnitude, sizeof value);
    value *= 5.192296858534828e33f; /* 2^112 */
    return half & 0x8000u ? -value : value;
}

SEN_PRIVATE float sen_value(const SEN_FLASH void *data, uint32_t dtype, size_t index)
{
    switch (dtype) {
    case SEN_FLOAT32:
        return ((const SEN_FLASH float *)data)[index];
    case SEN_FLOAT16:
        return from_half(((const SEN_FLASH uint16_t *)data)[index]);
    default:
        return (float)((const SEN_FLASH int8_t *)data)[index];
    }
}
/* end */
