/* Delays of synapses on 64-bit ARM: from positions of four targets at once, in a table of bytes of sixteen; equal to those of
 * delays.c, which is compiled without fused operations, as this file is. */
#include "network.h"

#if defined(SEN_ISA) && defined(__aarch64__) && defined(__ARM_NEON)

#include "neon.h"

#define AT_ONCE 16u

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

/* The slots of the ring, and the one of no delay. */
typedef struct sen_slots {
    uint32_t n_out, count, first;
} sen_slots;

static inline sen_slots slots_of(const sen_connection *c, const uint32_t *lines)
{
    const sen_slots slots = {c->n_out, c->slots, lines[0] / c->n_out};
    return slots;
}

/* Slots of four delays: `first` + delay, modulo `count`. */
static inline uint32x4_t slots_of_four(sen_slots slots, uint32x4_t delays)
{
    const uint32x4_t slot = vaddq_u32(delays, vdupq_n_u32(slots.first));
    return vminq_u32(slot, vsubq_u32(slot, vdupq_n_u32(slots.count)));
}

/* The same of sixteen, with at most 256 slots: modulo 256. */
static inline uint8x16_t slots_of_sixteen(sen_slots slots, uint8x16_t delays)
{
    const uint8x16_t wraps = vcgeq_u8(delays, vdupq_n_u8((uint8_t)(slots.count - slots.first)));
    const uint8x16_t wrapped = vdupq_n_u8((uint8_t)(slots.first - slots.count));
    return vaddq_u8(delays, vbslq_u8(wraps, wrapped, vdupq_n_u8((uint8_t)slots.first)));
}

/* Slots `k` to `k` + 3 of sixteen. */
static inline uint32x4_t four_of(uint8x16_t slots, uint32_t k)
{
    const uint32x4_t first = {0x80808000, 0x80808001, 0x80808002, 0x80808003}; /* other bytes become 0 */
    return vreinterpretq_u32_u8(vqtbl1q_u8(slots, vreinterpretq_u8_u32(vaddq_u32(first, vdupq_n_u32(k)))));
}

/* Elements of the ring, of the targets `k` to `k` + 3 in these slots. */
static inline void store_elements(sen_slots slots, uint32x4_t slot, uint32_t k, uint32_t *at)
{
    const uint32x4_t target = {0, 1, 2, 3};
    vst1q_u32(at, vmlaq_n_u32(vaddq_u32(target, vdupq_n_u32(k)), slot, slots.n_out));
    __asm__("" : "+m"(*(uint32_t(*)[4])at)); /* gcc 12 takes two instructions for each that it does not load */
}

/* Adds weights times `x` to elements of a ring, which differ. */
static inline void add_four_f32(const float *weights, float x, const uint32_t *at, float *ring)
{
    const float32x4_t added = vmulq_n_f32(vld1q_f32(weights), x);
    float first = ring[at[0]], second = ring[at[1]], third = ring[at[2]], fourth = ring[at[3]];
    FUSED_LANE(first, added, 0, 1.0f);
    FUSED_LANE(second, added, 1, 1.0f);
    FUSED_LANE(third, added, 2, 1.0f);
    FUSED_LANE(fourth, added, 3, 1.0f);
    ring[at[0]] = first;
    ring[at[1]] = second;
    ring[at[2]] = third;
    ring[at[3]] = fourth;
}

static inline void add_four_int8(const int8_t *weights, const uint32_t *at, int32_t *ring)
{
    const int32_t first = ring[at[0]] + weights[0], second = ring[at[1]] + weights[1];
    const int32_t third = ring[at[2]] + weights[2], fourth = ring[at[3]] + weights[3];
    ring[at[0]] = first;
    ring[at[1]] = second;
    ring[at[2]] = third;
    ring[at[3]] = fourth;
}

/* The same of weights of either type, and of one. */
static inline __attribute__((always_inline)) void add_four(
    const char *weights, float x, const uint32_t *at, char *ring, const int is_int8)
{
    if (is_int8)
        add_four_int8((const int8_t *)weights, at, (int32_t *)(void *)ring);
    else
        add_four_f32((const float *)(const void *)weights, x, at, (float *)(void *)ring);
}

static inline __attribute__((always_inline)) void add_one(
    const char *weights, float x, uint32_t at, char *ring, const int is_int8)
{
    if (is_int8)
        ((int32_t *)(void *)ring)[at] += *(const int8_t *)weights;
    else
        ((float *)(void *)ring)[at] += *(const float *)(const void *)weights * x;
}

static inline __attribute__((always_inline)) void propagate_table(
    const sen_connection *c, uint32_t i, float x, const uint32_t *lines, char *ring, const int is_int8)
{
    const sen_slots slots = slots_of(c, lines);
    const size_t width = is_int8 ? 1 : 4, first = (size_t)i * c->n_out;
    const uint8_t *delays = (const uint8_t *)c->delays + first;
    const uint8_t *const end = delays + c->n_out, *const whole = end - c->n_out % AT_ONCE;
    const char *weights = (const char *)c->weights + first * width;
    uint32_t at[AT_ONCE], k;
    for (; delays != whole; delays += AT_ONCE, weights += AT_ONCE * width, ring += AT_ONCE * 4) {
        const uint8x16_t slot = slots_of_sixteen(slots, vld1q_u8(delays));
        for (k = 0; k < AT_ONCE; k += 4)
            store_elements(slots, four_of(slot, k), k, at + k);
        for (k = 0; k < AT_ONCE; k += 4)
            add_four(weights + k * width, x, at + k, ring, is_int8);
    }
    for (; delays != end; weights += width, ring += 4)
        add_one(weights, x, lines[*delays++], ring, is_int8);
}

static inline __attribute__((always_inline)) void propagate_positions(
    const sen_connection *c, uint32_t i, float x, const uint32_t *lines, char *ring, const uint32_t dimensions,
    const int is_int8)
{
    const sen_spatial p = *c->spatial;
    const sen_slots slots = slots_of(c, lines);
    const size_t width = is_int8 ? 1 : 4;
    const float *const source = p.source + (size_t)i * dimensions, *target = p.target;
    const char *weights = (const char *)c->weights + (size_t)i * c->n_out * width;
    uint32_t at[4], j;
    for (j = 0; j + 4 <= slots.n_out; j += 4, target += 4 * dimensions, weights += 4 * width, ring += 4 * 4) {
        const uint32x4_t steps = steps_of_four(&p, squares_of_four(source, target, dimensions));
        store_elements(slots, slots_of_four(slots, steps), 0, at);
        add_four(weights, x, at, ring, is_int8);
    }
    for (; j < slots.n_out; j++, weights += width, ring += 4) {
        float scaled;
        add_one(weights, x, lines[sen_steps(&p, i, j, &scaled)], ring, is_int8);
    }
}

void SEN_NAME(sen_propagate_f32_u8)(const sen_connection *c, uint32_t i, float x, const uint32_t *lines, void *ring)
{
    propagate_table(c, i, x, lines, ring, 0);
}

void SEN_NAME(sen_propagate_i32_u8)(const sen_connection *c, uint32_t i, float x, const uint32_t *lines, void *ring)
{
    propagate_table(c, i, x, lines, ring, 1);
}

void SEN_NAME(sen_propagate_f32_positions)(const sen_connection *c, uint32_t i, float x, const uint32_t *lines, void *ring)
{
    if (c->spatial->dimensions == 3)
        propagate_positions(c, i, x, lines, ring, 3, 0);
    else
        propagate_positions(c, i, x, lines, ring, c->spatial->dimensions, 0);
}

void SEN_NAME(sen_propagate_i32_positions)(const sen_connection *c, uint32_t i, float x, const uint32_t *lines, void *ring)
{
    if (c->spatial->dimensions == 3)
        propagate_positions(c, i, x, lines, ring, 3, 1);
    else
        propagate_positions(c, i, x, lines, ring, c->spatial->dimensions, 1);
}

#endif
