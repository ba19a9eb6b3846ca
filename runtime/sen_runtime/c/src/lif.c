/* Leaky integrate-and-fire neurons: u = beta u + current, with a reset where u was above the threshold in the last step. */
#include "network.h"

#ifndef SEN_ISA

/* export: membrane_after */
static inline float membrane_after(const sen_lif *neuron, float before, float current)
{
    const int fired = before > neuron->threshold;
    if (neuron->reset == SEN_RESET_ZERO)
        return (fired ? 0.0f : neuron->beta * before) + current;
#ifdef SEN_DELAYS
    if (neuron->reset == SEN_RESET_REFRACTORY)
        return fired ? 0.0f : neuron->beta * before + current;
#endif
    if (neuron->reset == SEN_RESET_BEFORE_DECAY)
        return neuron->beta * (before - (fired ? neuron->threshold : 0.0f)) + current;
    return (neuron->beta * before + current) - (fired ? neuron->threshold : 0.0f);
}
/* end */

/* export: sen_integrate, needs membrane_after */
SEN_PRIVATE void sen_integrate(const sen_lif *neuron, uint32_t n, const float *current, float *membrane, float *spikes)
{
    uint32_t i;
    for (i = 0; i < n; i++) {
        membrane[i] = membrane_after(neuron, membrane[i], current[i]);
        spikes[i] = membrane[i] > neuron->threshold ? 1.0f : 0.0f;
    }
}
/* end */

#ifdef SEN_PER_NEURON
/* export: sen_integrate_each, needs membrane_after */
SEN_PRIVATE void sen_integrate_each(const sen_lif *neuron, uint32_t n, const float *current, float *membrane, float *spikes)
{
    sen_lif one = *neuron;
    uint32_t i;
    for (i = 0; i < n; i++) {
        one.beta = neuron->betas[i];
        one.threshold = neuron->thresholds[i];
        membrane[i] = membrane_after(&one, membrane[i], current[i]);
        spikes[i] = membrane[i] > one.threshold ? 1.0f : 0.0f;
    }
}
/* end */
#endif

/* export: sen_integrate_constant, needs membrane_after */
SEN_PRIVATE void sen_integrate_constant(
    const sen_lif *neuron, uint32_t n, const float *current, const SEN_FLASH float *factors, uint32_t steps,
    float *membrane, float *total)
{
    uint32_t i, t;
    for (i = 0; i < n; i++) {
        float sum = 0.0f, u = membrane[i];
        for (t = 0; t < steps; t++) {
            u = membrane_after(neuron, u, current[i]);
            if (u > neuron->threshold)
                sum += factors[t];
        }
        membrane[i] = u;
        total[i] = sum;
    }
}
/* end */

#else

#include "vector.h"

/* Vectors of neurons at once, so that a step of one does not wait for that of another: four times what a neuron needs fits in
 * registers, on 32-bit ARM twice. */
#ifdef __arm__
#define AT_ONCE 2
#else
#define AT_ONCE 4
#endif

#ifdef __ARM_NEON

/* Rounds as the reference does: `fired` is 0 or 1, so a fused product subtracts the threshold exactly. */
static inline __attribute__((always_inline)) float32x4_t next_membrane(
    const uint32_t reset, float32x4_t beta, float32x4_t threshold, float32x4_t before, float32x4_t fired, float32x4_t current)
{
    if (reset == SEN_RESET_ZERO) {
        const uint32x4_t decayed = vreinterpretq_u32_f32(vmulq_f32(before, beta));
        return vaddq_f32(vreinterpretq_f32_u32(vbicq_u32(decayed, vcgtq_f32(before, threshold))), current);
    }
    if (reset == SEN_RESET_REFRACTORY) {
        const uint32x4_t after = vreinterpretq_u32_f32(vaddq_f32(vmulq_f32(before, beta), current));
        return vreinterpretq_f32_u32(vbicq_u32(after, vcgtq_f32(before, threshold)));
    }
    if (reset == SEN_RESET_BEFORE_DECAY)
        return vaddq_f32(vmulq_f32(vfmsq_f32(before, fired, threshold), beta), current);
    return vfmsq_f32(vaddq_f32(vmulq_f32(before, beta), current), fired, threshold);
}

static inline float32x4_t one_above(float32x4_t value, float32x4_t threshold)
{
    const uint32x4_t one = vreinterpretq_u32_f32(vdupq_n_f32(1));
    return vreinterpretq_f32_u32(vandq_u32(vcgtq_f32(value, threshold), one));
}

static inline __attribute__((always_inline)) void integrate_block(
    const sen_lif *neuron, const uint32_t reset, const float *current, const float *factors, uint32_t steps, float *membrane,
    float *total, const int parts)
{
    const float32x4_t beta = vdupq_n_f32(neuron->beta), threshold = vdupq_n_f32(neuron->threshold);
    const float *const end = factors + steps;
    float32x4_t u[AT_ONCE], arriving[AT_ONCE], fired[AT_ONCE], sum[AT_ONCE];
    int k;
    for (k = 0; k < parts; k++) {
        u[k] = vld1q_f32(membrane + 4 * k);
        arriving[k] = vld1q_f32(current + 4 * k);
        fired[k] = one_above(u[k], threshold);
        sum[k] = vdupq_n_f32(0);
    }
    while (factors != end) {
        const float32x4_t factor = vld1q_dup_f32(factors++);
        for (k = 0; k < parts; k++) {
            u[k] = next_membrane(reset, beta, threshold, u[k], fired[k], arriving[k]);
            fired[k] = one_above(u[k], threshold);
            sum[k] = vfmaq_f32(sum[k], fired[k], factor);
        }
    }
    for (k = 0; k < parts; k++) {
        vst1q_f32(membrane + 4 * k, u[k]);
        vst1q_f32(total + 4 * k, sum[k]);
    }
}

#else

static inline __attribute__((always_inline)) part next_membrane(
    const sen_lif *neuron, const uint32_t reset, part before, part_integers fired, part current)
{
    const part zero = {0}, threshold = zero + neuron->threshold;
    if (reset == SEN_RESET_ZERO)
        return where(~fired, before * neuron->beta) + current;
    if (reset == SEN_RESET_REFRACTORY)
        return where(~fired, before * neuron->beta + current);
    if (reset == SEN_RESET_BEFORE_DECAY)
        return (before - where(fired, threshold)) * neuron->beta + current;
    return (before * neuron->beta + current) - where(fired, threshold);
}

static inline __attribute__((always_inline)) void integrate_block(
    const sen_lif *neuron, const uint32_t reset, const float *current, const float *factors, uint32_t steps, float *membrane,
    float *total, const int parts)
{
    const part zero = {0}, threshold = zero + neuron->threshold;
    part u[AT_ONCE], arriving[AT_ONCE], sum[AT_ONCE];
    uint32_t t;
    int k;
    for (k = 0; k < parts; k++) {
        u[k] = load_part(membrane + PART * (size_t)k);
        arriving[k] = load_part(current + PART * (size_t)k);
        sum[k] = zero;
    }
    for (t = 0; t < steps; t++) {
        const part factor = zero + factors[t];
        for (k = 0; k < parts; k++) {
            u[k] = next_membrane(neuron, reset, u[k], u[k] > threshold, arriving[k]);
            sum[k] += where(u[k] > threshold, factor);
        }
    }
    for (k = 0; k < parts; k++) {
        memcpy(membrane + PART * (size_t)k, &u[k], sizeof u[k]);
        memcpy(total + PART * (size_t)k, &sum[k], sizeof sum[k]);
    }
}

#endif

/* All neurons in whole parts; their number. */
static inline __attribute__((always_inline)) uint32_t integrate_blocks(
    const sen_lif *neuron, const uint32_t reset, uint32_t n, const float *current, const float *factors, uint32_t steps,
    float *membrane, float *total)
{
    uint32_t i = 0;
    for (; i + AT_ONCE * PART <= n; i += AT_ONCE * PART)
        integrate_block(neuron, reset, current + i, factors, steps, membrane + i, total + i, AT_ONCE);
    for (; i + PART <= n; i += PART)
        integrate_block(neuron, reset, current + i, factors, steps, membrane + i, total + i, 1);
    return i;
}

void SEN_NAME(sen_integrate_constant)(
    const sen_lif *neuron, uint32_t n, const float *current, const float *factors, uint32_t steps, float *membrane,
    float *total)
{
    const uint32_t i = SEN_BY_RESET(integrate_blocks, neuron, n, current, factors, steps, membrane, total);
    sen_integrate_constant(neuron, n - i, current + i, factors, steps, membrane + i, total + i);
}

void SEN_NAME(sen_integrate)(const sen_lif *neuron, uint32_t n, const float *current, float *membrane, float *spikes)
{
    const float one = 1;
    SEN_NAME(sen_integrate_constant)(neuron, n, current, &one, 1, membrane, spikes);
}

#endif
