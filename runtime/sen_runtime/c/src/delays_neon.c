/* Delays from positions on 64-bit ARM, of four targets at once; equal to those of delays.c, which is compiled without fused
 * operations, as this file is. */
#include "network.h"

#if defined(SEN_ISA) && defined(__aarch64__) && defined(__ARM_NEON)

#include <arm_neon.h>

/* Squared distances of a source from four targets [4, dimensions]. */
static inline float32x4_t squares_of_four(const float *source, const float *target, uint32_t dimensions)
{
    float32x4_t sum = vdupq_n_f32(0.0f);
    uint32_t k;
    if (dimensions == 3) {
        const float32x4x3_t at = vld3q_f32(target);
        for (k = 0; k < 3; k++) {
            const float32x4_t difference = vsubq_f32(vdupq_n_f32(source[k]), at.val[k]);
            sum = vaddq_f32(sum, vmulq_f32(difference, difference));
        }
        return sum;
    }
    for (k = 0; k < dimensions; k++, target++) {
        const float32x4_t at = {target[0], target[dimensions], target[2 * dimensions], target[3 * dimensions]};
        const float32x4_t difference = vsubq_f32(vdupq_n_f32(source[k]), at);
        sum = vaddq_f32(sum, vmulq_f32(difference, difference));
    }
    return sum;
}

/* Delays of four targets in steps; longer ones are clamped. */
static inline uint32x4_t steps_of_four(const sen_spatial *p, float32x4_t squared)
{
    const float32x4_t scaled = vmulq_n_f32(vsqrtq_f32(vaddq_f32(squared, vdupq_n_f32(p->softening))), p->scale);
    return vminq_u32(vcvtnq_u32_f32(scaled), vdupq_n_u32(p->limit));
}

/* Slots of four targets. */
typedef struct sen_four {
    const uint32_t at[4];
} sen_four;

static inline sen_four lines_of_four(const sen_spatial *p, uint32_t i, uint32_t j, const uint32_t *lines)
{
    const float *const source = p->source + (size_t)i * p->dimensions, *const target = p->target + (size_t)j * p->dimensions;
    const uint32x4_t steps = steps_of_four(p, squares_of_four(source, target, p->dimensions));
    const sen_four four = {
        {lines[vgetq_lane_u32(steps, 0)], lines[vgetq_lane_u32(steps, 1)], lines[vgetq_lane_u32(steps, 2)],
         lines[vgetq_lane_u32(steps, 3)]}};
    return four;
}

/* Slot of one target. */
static inline uint32_t line_of(const sen_spatial *p, uint32_t i, uint32_t j, const uint32_t *lines)
{
    float scaled;
    return lines[sen_steps(p, i, j, &scaled)];
}

void SEN_NAME(sen_propagate_f32_positions)(const sen_connection *c, uint32_t i, float x, const uint32_t *lines, void *ring)
{
    const sen_spatial p = *c->spatial;
    const float *const weights = (const float *)c->weights + (size_t)i * c->n_out;
    float *to = ring;
    uint32_t j;
    for (j = 0; j + 4 <= c->n_out; j += 4, to += 4) {
        const float32x4_t added = vmulq_n_f32(vld1q_f32(weights + j), x);
        const sen_four four = lines_of_four(&p, i, j, lines);
        float *const at0 = to + four.at[0], *const at1 = to + four.at[1] + 1;
        float *const at2 = to + four.at[2] + 2, *const at3 = to + four.at[3] + 3;
        *at0 += vgetq_lane_f32(added, 0);
        *at1 += vgetq_lane_f32(added, 1);
        *at2 += vgetq_lane_f32(added, 2);
        *at3 += vgetq_lane_f32(added, 3);
    }
    for (; j < c->n_out; j++, to++)
        to[line_of(&p, i, j, lines)] += weights[j] * x;
}

void SEN_NAME(sen_propagate_i32_positions)(const sen_connection *c, uint32_t i, float x, const uint32_t *lines, void *ring)
{
    const sen_spatial p = *c->spatial;
    const int8_t *const weights = (const int8_t *)c->weights + (size_t)i * c->n_out;
    int32_t *to = ring;
    uint32_t j;
    (void)x;
    for (j = 0; j + 4 <= c->n_out; j += 4, to += 4) {
        const sen_four four = lines_of_four(&p, i, j, lines);
        int32_t *const at0 = to + four.at[0], *const at1 = to + four.at[1] + 1;
        int32_t *const at2 = to + four.at[2] + 2, *const at3 = to + four.at[3] + 3;
        *at0 += weights[j];
        *at1 += weights[j + 1];
        *at2 += weights[j + 2];
        *at3 += weights[j + 3];
    }
    for (; j < c->n_out; j++, to++)
        to[line_of(&p, i, j, lines)] += weights[j];
}

#endif
