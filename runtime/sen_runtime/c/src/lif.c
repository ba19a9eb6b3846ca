/* Leaky integrate-and-fire neurons: u = beta u + current, with a reset where u was above the threshold in the last step. */
#include "network.h"

#ifndef SEN_ISA

/* export: sen_integrate */
static inline float membrane_after(const sen_lif *neuron, float before, float current)
{
    const int fired = before > neuron->threshold;
    if (neuron->reset == SEN_RESET_ZERO)
        return (fired ? 0.0f : neuron->beta * before) + current;
    if (neuron->reset == SEN_RESET_BEFORE_DECAY)
        return neuron->beta * (before - (fired ? neuron->threshold : 0.0f)) + current;
    return (neuron->beta * before + current) - (fired ? neuron->threshold : 0.0f);
}

SEN_PRIVATE void sen_integrate(const sen_lif *neuron, uint32_t n, const float *current, float *membrane, float *spikes)
{
    uint32_t i;
    for (i = 0; i < n; i++) {
        membrane[i] = membrane_after(neuron, membrane[i], current[i]);
        spikes[i] = membrane[i] > neuron->threshold ? 1.0f : 0.0f;
    }
}
/* end */

/* export: sen_integrate_constant, needs sen_integrate */
SEN_PRIVATE void sen_integrate_constant(
    const sen_lif *neuron, uint32_t n, const float *current, const float *factors, uint32_t steps, float *membrane,
    float *total)
{
    uint32_t i, t;
    for (i = 0; i < n; i++) {
        float sum = 0, u = membrane[i];
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

/* Calls `function` with the reset as a constant, so that its loops have no branch. */
#define SEN_BY_RESET(function, neuron, ...)                                                                                \
    ((neuron)->reset == SEN_RESET_ZERO           ? function(neuron, SEN_RESET_ZERO, __VA_ARGS__)                           \
     : (neuron)->reset == SEN_RESET_BEFORE_DECAY ? function(neuron, SEN_RESET_BEFORE_DECAY, __VA_ARGS__)                   \
                                                 : function(neuron, SEN_RESET_SUBTRACT, __VA_ARGS__))

static inline __attribute__((always_inline)) vector next_membrane(
    const sen_lif *neuron, const uint32_t reset, vector before, integers fired, vector current)
{
    const vector zero = {0}, threshold = zero + neuron->threshold;
    if (reset == SEN_RESET_ZERO)
        return where(~fired, before * neuron->beta) + current;
    if (reset == SEN_RESET_BEFORE_DECAY)
        return (before - where(fired, threshold)) * neuron->beta + current;
    return (before * neuron->beta + current) - where(fired, threshold);
}

static inline __attribute__((always_inline)) void integrate_vectors(
    const sen_lif *neuron, const uint32_t reset, uint32_t whole, const float *current, float *membrane, float *spikes)
{
    const vector zero = {0}, threshold = zero + neuron->threshold, one = zero + 1.0f;
    uint32_t i;
    for (i = 0; i < whole; i += LANES) {
        const vector before = load_f32(membrane + i);
        const vector after = next_membrane(neuron, reset, before, before > threshold, load_f32(current + i));
        const vector spike = where(after > threshold, one);
        memcpy(membrane + i, &after, sizeof after);
        memcpy(spikes + i, &spike, sizeof spike);
    }
}

void SEN_NAME(sen_integrate)(const sen_lif *neuron, uint32_t n, const float *current, float *membrane, float *spikes)
{
    const uint32_t whole = n - n % LANES;
    SEN_BY_RESET(integrate_vectors, neuron, whole, current, membrane, spikes);
    sen_integrate(neuron, n - whole, current + whole, membrane + whole, spikes + whole);
}

/* Sixty-four neurons at once, so that a step of one vector does not wait for that of another. */
#define AT_ONCE 4

static inline __attribute__((always_inline)) void integrate_blocks(
    const sen_lif *neuron, const uint32_t reset, uint32_t whole, const float *current, const float *factors,
    uint32_t steps, float *membrane, float *total)
{
    const vector zero = {0}, threshold = zero + neuron->threshold;
    uint32_t i, t;
    int k;
    for (i = 0; i < whole; i += AT_ONCE * LANES) {
        vector u[AT_ONCE], arriving[AT_ONCE], sum[AT_ONCE];
        for (k = 0; k < AT_ONCE; k++) {
            u[k] = load_f32(membrane + i + LANES * k);
            arriving[k] = load_f32(current + i + LANES * k);
            sum[k] = zero;
        }
        for (t = 0; t < steps; t++) {
            const vector factor = zero + factors[t];
            for (k = 0; k < AT_ONCE; k++) {
                u[k] = next_membrane(neuron, reset, u[k], u[k] > threshold, arriving[k]);
                sum[k] += where(u[k] > threshold, factor);
            }
        }
        for (k = 0; k < AT_ONCE; k++) {
            memcpy(membrane + i + LANES * k, &u[k], sizeof u[k]);
            memcpy(total + i + LANES * k, &sum[k], sizeof sum[k]);
        }
    }
}

void SEN_NAME(sen_integrate_constant)(
    const sen_lif *neuron, uint32_t n, const float *current, const float *factors, uint32_t steps, float *membrane,
    float *total)
{
    const uint32_t whole = n - n % (AT_ONCE * LANES);
    SEN_BY_RESET(integrate_blocks, neuron, whole, current, factors, steps, membrane, total);
    sen_integrate_constant(neuron, n - whole, current + whole, factors, steps, membrane + whole, total + whole);
}

#endif
