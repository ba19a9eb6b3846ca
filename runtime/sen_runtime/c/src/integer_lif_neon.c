/* Quantization of inputs and Lif neurons of networks whose activations are int8, on NEON. */
#include "integer.h"

#if defined(SEN_ISA) && defined(__ARM_NEON)

#include "vector.h"

void SEN_NAME(sen_integer_quantize)(const float *x, uint32_t n, float inverse_scale, int32_t zero, uint8_t *to)
{
    const int16x8_t zeros = vdupq_n_s16((int16_t)zero);
    for (; n >= 16; n -= 16, to += 16) { /* every step saturates; NaN becomes 0 */
        const float32x4x4_t value = load_16(&x);
        int16x8_t half[2];
        int k;
        for (k = 0; k < 2; k++) {
            const int32x4_t a = vcvtnq_s32_f32(vmulq_n_f32(value.val[2 * k], inverse_scale));
            const int32x4_t b = vcvtnq_s32_f32(vmulq_n_f32(value.val[2 * k + 1], inverse_scale));
            half[k] = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(a), b), zeros);
        }
        vst1q_u8(to, vqmovun_high_s16(vqmovun_s16(half[0]), half[1]));
    }
    sen_integer_quantize(x, n, inverse_scale, zero, to);
}

/* Lif neurons in vectors of eight. Bounds of membranes, and what stays the same over the steps. */
typedef struct lif_lanes {
    int16x8_t threshold, low, high;
    int16_t decay;
} lif_lanes;

static inline __attribute__((always_inline)) int16x8_t next_membrane(
    const lif_lanes *neuron, const uint32_t reset, int16x8_t u, uint16x8_t fired, int16x8_t current)
{
    const int16x8_t given_up = vandq_s16(vreinterpretq_s16_u16(fired), neuron->threshold);
    if (reset == SEN_RESET_BEFORE_DECAY)
        u = vmaxq_s16(vsubq_s16(u, given_up), neuron->low);
    u = vqrdmulhq_n_s16(u, neuron->decay);
    if (reset == SEN_RESET_ZERO)
        u = vbicq_s16(u, vreinterpretq_s16_u16(fired));
    u = vminq_s16(vmaxq_s16(vaddq_s16(u, current), neuron->low), neuron->high);
    return reset == SEN_RESET_SUBTRACT ? vmaxq_s16(vsubq_s16(u, given_up), neuron->low) : u;
}

/* Sixteen neurons at a time; the number of neurons in whole sixteens. */
static inline __attribute__((always_inline)) uint32_t integrate_sixteens(
    const sen_integer_lif *lif, const uint32_t reset, uint32_t n, const uint8_t *current, const int32_t *factors,
    uint32_t steps, int16_t *membrane, uint8_t *total)
{
    const int16x8_t zero = vdupq_n_s16((int16_t)lif->zero);
    const lif_lanes neuron = {
        vdupq_n_s16((int16_t)lif->threshold), vnegq_s16(zero), vsubq_s16(vdupq_n_s16(255), zero), (int16_t)lif->decay};
    uint32_t i, t;
    int k;
    for (i = 0; i + 16 <= n; i += 16) {
        const uint8x16_t stored = vld1q_u8(current + i);
        const int16x8_t arriving[2] = {
            vsubq_s16(vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(stored))), zero),
            vsubq_s16(vreinterpretq_s16_u16(vmovl_high_u8(stored)), zero)};
        int16x8_t u[2] = {vld1q_s16(membrane + i), vld1q_s16(membrane + i + 8)};
        int16x8_t sum[2] = {vdupq_n_s16(0), vdupq_n_s16(0)};
        for (t = 0; t < steps; t++) {
            const int16x8_t factor = vdupq_n_s16((int16_t)factors[t]);
            for (k = 0; k < 2; k++) {
                u[k] = next_membrane(&neuron, reset, u[k], vcgtq_s16(u[k], neuron.threshold), arriving[k]);
                sum[k] = vaddq_s16(
                    sum[k], vandq_s16(vreinterpretq_s16_u16(vcgtq_s16(u[k], neuron.threshold)), factor));
            }
        }
        vst1q_s16(membrane + i, u[0]);
        vst1q_s16(membrane + i + 8, u[1]);
        vst1q_u8(total + i, vqmovun_high_s16(vqmovun_s16(sum[0]), sum[1]));
    }
    return i;
}

void SEN_NAME(sen_integer_integrate)(
    const sen_integer_lif *neuron, uint32_t n, const uint8_t *current, const int32_t *factors, uint32_t steps,
    int16_t *membrane, uint8_t *total)
{
    const uint32_t i = SEN_BY_RESET(integrate_sixteens, neuron, n, current, factors, steps, membrane, total);
    sen_integer_integrate(neuron, n - i, current + i, factors, steps, membrane + i, total + i);
}

#endif
