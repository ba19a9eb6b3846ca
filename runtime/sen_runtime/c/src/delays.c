/* Delays of synapses: what leaves a neuron is added to a ring of future currents, one slot per step, whose slot of the current
 * step is read. Delays from positions are computed when a spike leaves, as in arXiv 2512.10011; they are the same on all
 * processors, float32 without fused operations. */
#include "network.h"

#if !defined(SEN_ISA) && defined(SEN_DELAYS)

/* export: sen_distance, needs delay_types */
#include <math.h>

#ifdef __FAST_MATH__
#error "-ffast-math changes delays: compile without it"
#endif

/* Keeps a compiler from fusing the operation that gave `value` with the next one. */
#if defined(__GNUC__) && defined(__aarch64__)
#define SEN_ROUND(value) __asm__("" : "+w"(value))
#elif defined(__GNUC__) && defined(__ARM_FP) && __ARM_FP & 4
#define SEN_ROUND(value) __asm__("" : "+t"(value))
#elif defined(__GNUC__) && defined(__x86_64__)
#define SEN_ROUND(value) __asm__("" : "+x"(value))
#else
#define SEN_ROUND(value) (*(volatile float *)&(value) = (value))
#endif

/* The root of value >= 0, without a call where it is an instruction. */
SEN_INLINE float root_of(float value)
{
#if defined(__GNUC__) && defined(__ARM_FP) && __ARM_FP & 4 && !defined(__aarch64__)
    float root;
    __asm__("vsqrt.f32 %0, %1" : "=t"(root) : "t"(value));
    return root;
#else
    return sqrtf(value);
#endif
}

SEN_INLINE float square_of(float value)
{
    float square = value * value;
    SEN_ROUND(square);
    return square;
}

/* Squared distance of two points [dimensions]. */
SEN_INLINE float squared_distance(const SEN_FLASH float *source, const SEN_FLASH float *target, uint32_t dimensions)
{
    float squared = square_of(source[0] - target[0]);
    uint32_t k;
    for (k = 1; k < dimensions; k++)
        squared += square_of(source[k] - target[k]);
    return squared;
}

/* Delay before rounding, in steps. */
SEN_INLINE float scaled_root(const sen_spatial *p, float squared)
{
    float scaled = p->scale * root_of(squared + p->softening);
    SEN_ROUND(scaled);
    return scaled;
}

/* Delay before its shift, in steps; `is_bounded`: none exceeds the limit. */
SEN_INLINE uint32_t steps_of(const sen_spatial *p, float squared, int is_bounded)
{
    float scaled = scaled_root(p, squared);
    uint32_t steps;
    if (!is_bounded && p->modulus == 0 && scaled > (float)p->limit)
        return p->limit;
    scaled += 12582912.0f; /* 1.5 2^23: the last bit of the sum is 1, so it is rounded, half to even */
    memcpy(&steps, &scaled, sizeof steps);
    steps &= is_bounded ? 0xFFFFu : 0x3FFFFFu;
    return !is_bounded && p->modulus != 0 && steps > p->limit ? steps % p->modulus : steps;
}
/* end */

/* export: propagate_table, needs delay_types */
/* Four targets at once, where there are registers for them. */
#if UINTPTR_MAX > UINT32_MAX
#define SEN_PROPAGATE_FOURS(sum_t, weight_t, factor)                                                                       \
    for (const SEN_FLASH weight_t *const fours = end - c->n_out % 4; weight != fours; weight += 4, delay += 4, to += 4) {  \
        sum_t *const at0 = to + lines[delay[0]], *const at1 = to + lines[delay[1]] + 1;                                    \
        sum_t *const at2 = to + lines[delay[2]] + 2, *const at3 = to + lines[delay[3]] + 3;                                \
        const sum_t sum0 = (sum_t)(*at0 + weight[0] factor), sum1 = (sum_t)(*at1 + weight[1] factor);                      \
        const sum_t sum2 = (sum_t)(*at2 + weight[2] factor), sum3 = (sum_t)(*at3 + weight[3] factor);                      \
        *at0 = sum0;                                                                                                       \
        *at1 = sum1;                                                                                                       \
        *at2 = sum2;                                                                                                       \
        *at3 = sum3;                                                                                                       \
    }
#else
#define SEN_PROPAGATE_FOURS(sum_t, weight_t, factor)
#endif

/* Adds the weights of source `i` times `factor` to the slots of their delays. */
#define SEN_PROPAGATE_TABLE(sum_t, weight_t, delay_t, factor)                                                              \
    do {                                                                                                                   \
        const SEN_FLASH weight_t *weight = (const SEN_FLASH weight_t *)c->weights + (size_t)i * c->n_out;                  \
        const SEN_FLASH weight_t *const end = weight + c->n_out;                                                           \
        const SEN_FLASH delay_t *delay = (const SEN_FLASH delay_t *)c->delays + (size_t)i * c->n_out;                      \
        sum_t *to = ring;                                                                                                  \
        SEN_PROPAGATE_FOURS(sum_t, weight_t, factor)                                                                       \
        while (weight != end) {                                                                                            \
            const uint32_t line = lines[*delay++];                                                                         \
            to[line] = (sum_t)(to[line] + *weight++ factor);                                                               \
            to++;                                                                                                          \
        }                                                                                                                  \
    } while (0)
/* end */

/* export: propagate_constant, needs delay_types */
/* The same for one delay of all. */
#define SEN_PROPAGATE_CONSTANT(sum_t, weight_t, factor)                                                                    \
    do {                                                                                                                   \
        const SEN_FLASH weight_t *weight = (const SEN_FLASH weight_t *)c->weights + (size_t)i * c->n_out;                  \
        sum_t *const to = (sum_t *)ring + *lines;                                                                          \
        uint32_t j;                                                                                                        \
        for (j = 0; j < c->n_out; j++)                                                                                     \
            to[j] = (sum_t)(to[j] + weight[j] factor);                                                                     \
    } while (0)
/* end */

/* export: propagate_positions, needs sen_distance */
/* The same with delays from positions, in three dimensions faster. */
#define SEN_PROPAGATE_POSITIONS(sum_t, weight_t, factor)                                                                   \
    do {                                                                                                                   \
        if (c->spatial->dimensions == 3 && c->spatial->limit == UINT32_MAX)                                                \
            SEN_PROPAGATE_SQUARES(                                                                                         \
                sum_t, weight_t, factor, 3,                                                                                \
                square_of(x0 - target[0]) + square_of(x1 - target[1]) + square_of(x2 - target[2]), 1);                     \
        else if (c->spatial->dimensions == 3)                                                                              \
            SEN_PROPAGATE_SQUARES(                                                                                         \
                sum_t, weight_t, factor, 3,                                                                                \
                square_of(x0 - target[0]) + square_of(x1 - target[1]) + square_of(x2 - target[2]), 0);                     \
        else                                                                                                               \
            SEN_PROPAGATE_SQUARES(                                                                                         \
                sum_t, weight_t, factor, p.dimensions, squared_distance(source, target, p.dimensions), 0);                 \
    } while (0)

/* The loop over the targets, with the squared distance of each. */
#define SEN_PROPAGATE_SQUARES(sum_t, weight_t, factor, dimensions_, squared, is_bounded)                                   \
    do {                                                                                                                   \
        const SEN_FLASH weight_t *weight = (const SEN_FLASH weight_t *)c->weights + (size_t)i * c->n_out;                  \
        const SEN_FLASH weight_t *const end = weight + c->n_out;                                                           \
        const sen_spatial p = *c->spatial;                                                                                 \
        const SEN_FLASH float *const source = p.source + (size_t)i * (dimensions_), *target = p.target;                    \
        const float x0 = source[0], x1 = (dimensions_) > 1 ? source[1] : 0.0f, x2 = (dimensions_) > 2 ? source[2] : 0.0f;  \
        sum_t *to = ring;                                                                                                  \
        (void)x0, (void)x1, (void)x2;                                                                                      \
        for (; weight != end; target += (dimensions_)) {                                                                   \
            const uint32_t line = lines[steps_of(&p, squared, is_bounded)];                                                \
            to[line] = (sum_t)(to[line] + *weight++ factor);                                                               \
            to++;                                                                                                          \
        }                                                                                                                  \
    } while (0)
/* end */

/* export: propagate_list, needs delay_types */
/* The same for lists of synapses. */
#define SEN_PROPAGATE_LIST(place_t)                                                                                        \
    do {                                                                                                                   \
        const SEN_FLASH float *weight = (const SEN_FLASH float *)c->weights + c->starts[i];                                \
        const SEN_FLASH float *const end = (const SEN_FLASH float *)c->weights + c->starts[i + 1];                         \
        const SEN_FLASH place_t *place = (const SEN_FLASH place_t *)c->delays + c->starts[i];                              \
        const uint32_t size = c->slots * c->n_out;                                                                         \
        float *const to = ring;                                                                                            \
        while (weight != end) {                                                                                            \
            const uint32_t at = *lines + *place++;                                                                         \
            to[at < size ? at : at - size] += *weight++ * x;                                                               \
        }                                                                                                                  \
    } while (0)
/* end */

/* export: sen_propagate_list_u16, needs propagate_list */
SEN_PRIVATE void sen_propagate_list_u16(
    const sen_connection *c, uint32_t i, float x, const SEN_FLASH uint32_t *lines, void *ring)
{
    SEN_PROPAGATE_LIST(uint16_t);
}
/* end */

/* export: sen_propagate_list_u32, needs propagate_list */
SEN_PRIVATE void sen_propagate_list_u32(
    const sen_connection *c, uint32_t i, float x, const SEN_FLASH uint32_t *lines, void *ring)
{
    SEN_PROPAGATE_LIST(uint32_t);
}
/* end */

/* export: sen_propagate_f32, needs propagate_constant */
SEN_PRIVATE void sen_propagate_f32(
    const sen_connection *c, uint32_t i, float x, const SEN_FLASH uint32_t *lines, void *ring)
{
    if (x == 1.0f)
        SEN_PROPAGATE_CONSTANT(float, float, * 1.0f);
    else
        SEN_PROPAGATE_CONSTANT(float, float, * x);
}
/* end */

/* export: sen_propagate_f32_u8, needs propagate_table */
SEN_PRIVATE void sen_propagate_f32_u8(
    const sen_connection *c, uint32_t i, float x, const SEN_FLASH uint32_t *lines, void *ring)
{
    if (x == 1.0f)
        SEN_PROPAGATE_TABLE(float, float, uint8_t, * 1.0f);
    else
        SEN_PROPAGATE_TABLE(float, float, uint8_t, * x);
}
/* end */

/* export: sen_propagate_f32_u16, needs propagate_table */
SEN_PRIVATE void sen_propagate_f32_u16(
    const sen_connection *c, uint32_t i, float x, const SEN_FLASH uint32_t *lines, void *ring)
{
    if (x == 1.0f)
        SEN_PROPAGATE_TABLE(float, float, uint16_t, * 1.0f);
    else
        SEN_PROPAGATE_TABLE(float, float, uint16_t, * x);
}
/* end */

/* export: sen_propagate_f32_positions, needs propagate_positions */
SEN_PRIVATE void sen_propagate_f32_positions(
    const sen_connection *c, uint32_t i, float x, const SEN_FLASH uint32_t *lines, void *ring)
{
    if (x == 1.0f)
        SEN_PROPAGATE_POSITIONS(float, float, * 1.0f);
    else
        SEN_PROPAGATE_POSITIONS(float, float, * x);
}
/* end */

/* export: sen_propagate_i32, needs propagate_constant */
SEN_PRIVATE void sen_propagate_i32(
    const sen_connection *c, uint32_t i, float x, const SEN_FLASH uint32_t *lines, void *ring)
{
    (void)x;
    SEN_PROPAGATE_CONSTANT(int32_t, int8_t, );
}
/* end */

/* export: sen_propagate_i32_u8, needs propagate_table */
SEN_PRIVATE void sen_propagate_i32_u8(
    const sen_connection *c, uint32_t i, float x, const SEN_FLASH uint32_t *lines, void *ring)
{
    (void)x;
    SEN_PROPAGATE_TABLE(int32_t, int8_t, uint8_t, );
}
/* end */

/* export: sen_propagate_i32_u16, needs propagate_table */
SEN_PRIVATE void sen_propagate_i32_u16(
    const sen_connection *c, uint32_t i, float x, const SEN_FLASH uint32_t *lines, void *ring)
{
    (void)x;
    SEN_PROPAGATE_TABLE(int32_t, int8_t, uint16_t, );
}
/* end */

/* export: sen_propagate_i32_positions, needs propagate_positions */
SEN_PRIVATE void sen_propagate_i32_positions(
    const sen_connection *c, uint32_t i, float x, const SEN_FLASH uint32_t *lines, void *ring)
{
    (void)x;
    SEN_PROPAGATE_POSITIONS(int32_t, int8_t, );
}
/* end */

/* export: sen_propagate_i16, needs propagate_constant */
SEN_PRIVATE void sen_propagate_i16(
    const sen_connection *c, uint32_t i, float x, const SEN_FLASH uint32_t *lines, void *ring)
{
    (void)x;
    SEN_PROPAGATE_CONSTANT(int16_t, int8_t, );
}
/* end */

/* export: sen_propagate_i16_u8, needs propagate_table */
SEN_PRIVATE void sen_propagate_i16_u8(
    const sen_connection *c, uint32_t i, float x, const SEN_FLASH uint32_t *lines, void *ring)
{
    (void)x;
    SEN_PROPAGATE_TABLE(int16_t, int8_t, uint8_t, );
}
/* end */

/* export: sen_propagate_i16_u16, needs propagate_table */
SEN_PRIVATE void sen_propagate_i16_u16(
    const sen_connection *c, uint32_t i, float x, const SEN_FLASH uint32_t *lines, void *ring)
{
    (void)x;
    SEN_PROPAGATE_TABLE(int16_t, int8_t, uint16_t, );
}
/* end */

/* export: sen_propagate_i16_positions, needs propagate_positions */
SEN_PRIVATE void sen_propagate_i16_positions(
    const sen_connection *c, uint32_t i, float x, const SEN_FLASH uint32_t *lines, void *ring)
{
    (void)x;
    SEN_PROPAGATE_POSITIONS(int16_t, int8_t, );
}
/* end */

/* export: sen_propagate_coordinates, needs sen_distance, sen_half_power, sen_value */
/* Weights and delays of one distance. */
SEN_PRIVATE void sen_propagate_coordinates(
    const sen_connection *c, uint32_t i, float x, const SEN_FLASH uint32_t *lines, void *ring)
{
    const sen_spatial p = *c->spatial;
    const float strength = p.gain * sen_value(p.mask, p.mask_dtype, i);
    const float min_squared = p.min_distance * p.min_distance, max_squared = p.max_distance * p.max_distance;
    const SEN_FLASH float *const source = p.source + (size_t)i * p.dimensions, *target = p.target;
    float *const to = ring;
    uint32_t j;
    for (j = 0; j < c->n_out; j++, target += p.dimensions) {
        const float squared = squared_distance(source, target, p.dimensions);
        const uint32_t line = lines[steps_of(&p, squared, 0)];
        if (!(p.max_distance > 0 && squared > max_squared))
            to[line + j] += x * (strength / sen_half_power(squared < min_squared ? min_squared : squared, p.exponent));
    }
}
/* end */

/* export: sen_arrive_f32, needs delay_types */
SEN_PRIVATE void sen_arrive_f32(const sen_wiring *wiring, uint32_t n, void *slot, float *current)
{
    (void)wiring;
    memcpy(current, slot, n * sizeof *current);
    memset(slot, 0, n * sizeof *current);
}
/* end */

/* export: sen_arrive_i32, needs delay_types */
SEN_PRIVATE void sen_arrive_i32(const sen_wiring *wiring, uint32_t n, void *slot, float *current)
{
    const SEN_FLASH float *const scale = wiring->scale;
    const uint32_t step = wiring->scale_step;
    int32_t *const sums = slot;
    uint32_t i;
    for (i = 0; i < n; i++) {
        current[i] = scale[i * step] * (float)sums[i];
        sums[i] = 0;
    }
}
/* end */

/* export: sen_arrive_i16, needs delay_types */
SEN_PRIVATE void sen_arrive_i16(const sen_wiring *wiring, uint32_t n, void *slot, float *current)
{
    const SEN_FLASH float *const scale = wiring->scale;
    const uint32_t step = wiring->scale_step;
    int16_t *const sums = slot;
    uint32_t i;
    for (i = 0; i < n; i++) {
        current[i] = scale[i * step] * (float)sums[i];
        sums[i] = 0;
    }
}
/* end */

/* export: sen_deliver, needs delay_types, sen_value */
/* Adds what leaves the sources of a connection, `x` [n_in], to the ring. */
static void propagate(
    const sen_network *network, float *work, const sen_connection *c, const float *x, const SEN_FLASH uint32_t *lines,
    void *ring)
{
    uint32_t *const events = (uint32_t *)(void *)(work + network->events);
    const uint32_t count = network->kernels->nonzero(x, c->n_in, events);
    uint32_t e;
    for (e = 0; e < count; e++)
        c->propagate(c, events[e], x[events[e]], lines + c->delay, ring);
}

/* Adds the bias, one number for each neuron. */
static void add_bias(const sen_layer *layer, float *current)
{
    const SEN_FLASH float *const bias = (const SEN_FLASH float *)layer->bias;
    uint32_t i;
    if (layer->bias_dtype == SEN_FLOAT32)
        for (i = 0; i < layer->n_out; i++)
            current[i] += bias[i];
    else
        for (i = 0; i < layer->n_out; i++)
            current[i] += sen_value(layer->bias, layer->bias_dtype, i);
}

SEN_PRIVATE void sen_deliver(const sen_network *network, float *work, const sen_layer *layer, const float *x)
{
    const sen_wiring *const wiring = layer->wiring;
    uint32_t *const now = (uint32_t *)(void *)(work + wiring->now);
    const SEN_FLASH uint32_t *const lines = wiring->lines + *now;
    float *const current = work + layer->current, *const synaptic = work + wiring->synaptic;
    void *const ring = work + wiring->ring;
    uint32_t i;
    propagate(network, work, wiring->input, x, lines, ring);
    if (wiring->recurrent)
        propagate(network, work, wiring->recurrent, work + layer->out, lines, ring);
    wiring->arrive(wiring, layer->n_out, (char *)ring + (size_t)lines[0] * wiring->sum_bytes, current);
    *now = *now + 1 == wiring->slots ? 0 : *now + 1;
    if (wiring->synapse > 0)
        for (i = 0; i < layer->n_out; i++)
            current[i] = synaptic[i] = wiring->synapse * synaptic[i] + current[i];
    if (layer->bias)
        add_bias(layer, current);
}

SEN_PRIVATE void sen_reset_wiring(const sen_layer *layer, float *work)
{
    const sen_wiring *const wiring = layer->wiring;
    memset(work + wiring->ring, 0, (size_t)wiring->slots * layer->n_out * wiring->sum_bytes);
    if (wiring->synapse > 0)
        memset(work + wiring->synaptic, 0, layer->n_out * sizeof(float));
    memset(work + layer->out, 0, layer->n_out * sizeof(float));
    memset(work + wiring->now, 0, sizeof(uint32_t));
}
/* end */

uint32_t sen_steps(const sen_spatial *p, uint32_t i, uint32_t j, float *scaled)
{
    const float squared =
        squared_distance(p->source + (size_t)i * p->dimensions, p->target + (size_t)j * p->dimensions, p->dimensions);
    *scaled = scaled_root(p, squared);
    return *scaled < SEN_MAX_STEPS ? steps_of(p, squared, 0) : p->limit;
}

#endif
