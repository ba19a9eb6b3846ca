/* Weights from positions: w[i][j] = gain * mask[j] / max(|q[i] - p[j]|, min_distance) ^ exponent, or 0 where
 * |q[i] - p[j]| > max_distance: which synapses that leaves out is decided in float32. */
#include "network.h"

#ifndef SEN_ISA

/* export: sen_half_power */
#include <math.h>

/* base ^ (exponent / 2) for base >= 0: squares for the binary digits of the whole part, square roots for those of the
 * rest. Beyond 2^24 a float has no rest, and the power of any base but 1 is 0 or infinite. */
SEN_PRIVATE float sen_half_power(float base, float exponent)
{
    const float half = exponent / 2.0f;
    uint32_t whole = half < 16777216.0f ? (uint32_t)half : 16777216u;
    float rest = half < 16777216.0f ? half - (float)whole : 0.0f;
    float power = 1.0f, square = base, root = base;
    int digits;
    for (; whole; whole >>= 1) {
        if (whole & 1u)
            power *= square;
        square *= square;
    }
    for (digits = 0; rest > 0 && digits < 24; digits++) {
        root = sqrtf(root);
        rest *= 2.0f;
        if (rest >= 1) {
            power *= root;
            rest -= 1.0f;
        }
    }
    return power;
}
/* end */

/* export: sen_weight, needs sen_half_power, sen_value */
SEN_PRIVATE float sen_weight(const sen_weights *w, uint32_t target, uint32_t source)
{
    const uint32_t dimensions = w->dimensions;
    const float least = w->min_distance * w->min_distance;
    float squared = 0.0f;
    uint32_t k;
    for (k = 0; k < dimensions; k++) {
        const float difference = sen_value(w->target, w->target_dtype, (size_t)target * dimensions + k)
            - sen_value(w->values, w->dtype, (size_t)source * dimensions + k);
        squared += difference * difference;
    }
    if (w->max_distance > 0 && squared > w->max_distance * w->max_distance)
        return 0;
    if (squared < least)
        squared = least;
    return w->gain * sen_value(w->mask, w->mask_dtype, source) / sen_half_power(squared, w->exponent);
}
/* end */

/* export: sen_coordinates, needs sen_weight */
/* Skips inputs of 0. */
SEN_PRIVATE void sen_coordinates(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    uint32_t i, j;
    for (i = 0; i < w->rows; i++) {
        float sum = 0.0f;
        for (j = 0; j < w->columns; j++)
            if (x->values[j] != 0)
                sum += sen_weight(w, i, j) * x->values[j];
        y[i] = sen_finish(addend, is_relu, i, sum);
    }
}
/* end */

#else

#include "vector.h"

/* Vectors of targets at a time, so that an operation does not wait for the one before. */
#define AT_ONCE 4
#define BLOCK (AT_ONCE * PART)

/* What is the same for all weights of a matrix. */
typedef struct powers {
    part least, greatest; /* of squared distances */
    int has_least, has_greatest;
    uint32_t whole; /* parts of half the exponent */
    float rest;
} powers;

static powers powers_of(const sen_weights *w)
{
    const part zero = {0};
    const float half = w->exponent / 2;
    powers found;
    found.least = zero + w->min_distance * w->min_distance;
    found.greatest = zero + w->max_distance * w->max_distance;
    found.has_least = w->min_distance > 0;
    found.has_greatest = w->max_distance > 0;
    found.whole = half < 16777216.0f ? (uint32_t)half : 16777216u;
    found.rest = half < 16777216.0f ? half - (float)found.whole : 0.0f;
    return found;
}

/* power = base ^ (exponent / 2), as sen_weight computes it. */
static inline __attribute__((always_inline)) void raise_to_half(const powers *p, part *base, part *power)
{
    uint32_t whole = p->whole;
    float rest = p->rest;
    part root[AT_ONCE];
    int digits, v;
    for (v = 0; v < AT_ONCE; v++) {
        const part zero = {0};
        power[v] = zero + 1.0f;
        root[v] = base[v];
    }
    while (whole) {
        if (whole & 1u)
            for (v = 0; v < AT_ONCE; v++)
                power[v] *= base[v];
        whole >>= 1;
        if (whole)
            for (v = 0; v < AT_ONCE; v++)
                base[v] *= base[v];
    }
    for (digits = 0; rest > 0 && digits < 24; digits++) {
        for (v = 0; v < AT_ONCE; v++)
            root[v] = square_root(root[v]);
        rest *= 2;
        if (rest >= 1) {
            for (v = 0; v < AT_ONCE; v++)
                power[v] *= root[v];
            rest -= 1;
        }
    }
}

/* weight [BLOCK] = strength / distance ^ exponent of a source and the targets [dimensions][BLOCK]. */
static inline __attribute__((always_inline)) void weigh(
    const powers *p, const float *targets, const float *source, uint32_t dimensions, float strength, part *weight)
{
    const part zero = {0};
    part squared[AT_ONCE], clamped[AT_ONCE], power[AT_ONCE];
    uint32_t k;
    int v;
    for (v = 0; v < AT_ONCE; v++)
        squared[v] = zero;
    for (k = 0; k < dimensions; k++, targets += BLOCK) {
        const part position = source[k] - zero; /* no instruction, unlike + */
        for (v = 0; v < AT_ONCE; v++) {
            const part difference = load_part(targets + PART * (size_t)v) - position;
            squared[v] += difference * difference;
        }
    }
    for (v = 0; v < AT_ONCE; v++)
        clamped[v] = squared[v];
    if (p->has_least)
        for (v = 0; v < AT_ONCE; v++)
            clamped[v] = where(squared[v] < p->least, p->least) + where(~(squared[v] < p->least), squared[v]);
    raise_to_half(p, clamped, power);
    for (v = 0; v < AT_ONCE; v++) {
        weight[v] = (strength - zero) / power[v];
        if (p->has_greatest)
            weight[v] = where(~(squared[v] > p->greatest), weight[v]);
    }
}

/* Positions of BLOCK targets from `first` on as [dimensions][BLOCK]; behind the last target, this one again. */
static void transpose_targets(const sen_weights *w, uint32_t first, float *to)
{
    const uint32_t dimensions = w->dimensions;
    uint32_t i, k;
    for (i = 0; i < BLOCK; i++) {
        const size_t at = (size_t)(first + i < w->rows ? first + i : w->rows - 1) * dimensions;
        for (k = 0; k < dimensions; k++)
            to[k * BLOCK + i] = w->target_dtype == SEN_FLOAT32 ? ((const float *)w->target)[at + k]
                                                               : sen_value(w->target, w->target_dtype, at + k);
    }
}

/* Position of source `j`, as floats; in `converted` if it is stored otherwise. */
static inline const float *source_at(const sen_weights *w, uint32_t j, float *converted)
{
    const size_t at = (size_t)j * w->dimensions;
    uint32_t k;
    if (w->dtype == SEN_FLOAT32)
        return (const float *)w->values + at;
    for (k = 0; k < w->dimensions; k++)
        converted[k] = sen_value(w->values, w->dtype, at + k);
    return converted;
}

void SEN_NAME(sen_coordinates)(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const uint32_t dimensions = w->dimensions;
    const powers p = powers_of(w);
    float targets[SEN_MAX_DIMENSIONS * BLOCK], converted[SEN_MAX_DIMENSIONS], sums[BLOCK];
    uint32_t first, e;
    int v;
    for (first = 0; first < w->rows; first += BLOCK) {
        const uint32_t kept = w->rows - first < BLOCK ? w->rows - first : BLOCK;
        part sum[AT_ONCE] = {{0}}, weight[AT_ONCE];
        transpose_targets(w, first, targets);
        for (e = 0; e < x->count; e++) {
            const uint32_t j = x->events[e];
            const float *source = source_at(w, j, converted), strength = w->gain * sen_value(w->mask, w->mask_dtype, j);
            weigh(&p, targets, source, dimensions, strength, weight);
            for (v = 0; v < AT_ONCE; v++)
                sum[v] += weight[v] * x->values[j];
        }
        for (v = 0; v < AT_ONCE; v++)
            memcpy(sums + PART * (size_t)v, &sum[v], sizeof sum[v]);
        finish_rows(sums, kept, addend ? addend + first : NULL, is_relu, y + first);
    }
}

/* A block of rows from `first` on of all columns, which are `width` floats apart: at most `kept` rows, then zeros up to `end`. */
static void write_block(const sen_weights *w, const powers *p, uint32_t first, uint32_t end, size_t width, float *to)
{
    const uint32_t kept = w->rows - first < end ? w->rows - first : end;
    float targets[SEN_MAX_DIMENSIONS * BLOCK], converted[SEN_MAX_DIMENSIONS], weights[BLOCK];
    part weight[AT_ONCE];
    uint32_t j;
    int v;
    transpose_targets(w, first, targets);
    for (j = 0; j < w->columns; j++, to += width) {
        const float strength = w->gain * sen_value(w->mask, w->mask_dtype, j);
        weigh(p, targets, source_at(w, j, converted), w->dimensions, strength, weight);
        for (v = 0; v < AT_ONCE; v++)
            memcpy(weights + PART * (size_t)v, &weight[v], sizeof weight[v]);
        memcpy(to, weights, kept * sizeof *to);
        memset(to + kept, 0, (end - kept) * sizeof *to);
    }
}

void SEN_NAME(sen_coordinate_panels)(const sen_weights *w, float *panels)
{
    const powers p = powers_of(w);
    uint32_t first, i;
    for (first = 0; first < w->rows; first += SEN_PANEL) {
        const uint32_t width = sen_panel_width(w->rows, first);
        for (i = 0; i < width; i += BLOCK)
            write_block(w, &p, first + i, width - i < BLOCK ? width - i : BLOCK, width, panels + i);
        panels += (size_t)w->columns * width;
    }
}

#endif
