/* A network ready to run: constant data, which may lie in flash, and functions over it. What changes while it runs lies in
 * one block of memory, `work`, that the caller gives. sen_load builds such a network from an image; exported C is one. */
#ifndef SEN_NETWORK_H
#define SEN_NETWORK_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { SEN_FLOAT32 = 1, SEN_FLOAT16 = 2, SEN_INT8 = 3, SEN_INT32 = 4, SEN_UINT16 = 5 };
enum { SEN_IDENTITY, SEN_RELU, SEN_LIF, SEN_LEAKY_INTEGRATOR };
/* What a spike does to the membrane: subtract the threshold after the next decay, set it to 0, subtract before the decay. */
enum { SEN_RESET_SUBTRACT, SEN_RESET_ZERO, SEN_RESET_BEFORE_DECAY };
enum { SEN_MEAN_MEMBRANE, SEN_LAST_MEMBRANE, SEN_SPIKE_COUNT };

/* What a product wants to know of its input besides the values. */
enum {
    SEN_USES_INT8 = 1,  /* the values in eight bits */
    SEN_USES_EVENTS = 2 /* which values are not 0 */
};

/* The input of a product. */
typedef struct sen_input {
    const float *values;    /* [n] */
    const void *quantized;  /* [n] as sen_quantize leaves it; a value is about scale times that */
    float scale;
    int32_t sum;            /* of the quantized values, where the instruction set's products ask for it */
    const uint32_t *events; /* [count] indices, rising, of the values that are not 0 */
    uint32_t count;
} sen_input;

typedef struct sen_weights sen_weights;

/* y = act(addend + W x): `addend` [rows] may be null, for 0, and may be `y` itself; act is ReLU or nothing. */
typedef void sen_multiply(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y);

/* A matrix `[rows, columns]`, in the storage that `multiply` reads. */
struct sen_weights {
    sen_multiply *multiply;
    uint32_t uses; /* SEN_USES_... */
    uint32_t rows, columns;
    uint32_t dtype;      /* of `values` */
    const void *values;  /* of int8 from an address on that is a multiple of 4 */
    const float *scale;  /* of int8, else null: what a row's sum is multiplied with */
    uint32_t scale_step; /* 1 where every row has its own scale, 0 where all share one */

    /* Blocks (of columns of weights, where these are stored by source): */
    const void *indices; /* block columns (rows), rising within a block row (column) */
    const int32_t *starts;
    uint32_t index_dtype, block_rows, block_columns;

    /* Slices (slices.c): */
    const uint16_t *tiles;
    const int32_t *sums;

    /* Positions; `values` are the source's [columns, dimensions]: */
    const void *target, *mask; /* [rows, dimensions], [columns] */
    uint32_t target_dtype, mask_dtype, dimensions;
    float gain, exponent, min_distance;
    float max_distance; /* 0 for none */
};

/* One term of a layer's weights: `first`, or the product of both factors of a low-rank matrix, the right one first. */
typedef struct sen_term {
    const sen_weights *first, *second;
} sen_term;

/* Parameters of Lif neurons, and beta of a leaky integrator. */
typedef struct sen_lif {
    float beta, threshold;
    uint32_t reset; /* SEN_RESET_... */
} sen_lif;

/* A layer; where its vectors lie is counted in floats from the start of `work`. */
typedef struct sen_layer {
    const sen_term *terms;
    uint32_t term_count;
    uint32_t n_in, n_out;
    const void *bias; /* [n_out] or null */
    uint32_t bias_dtype;
    uint32_t neuron;
    sen_lif lif;
    uint32_t out;      /* [n_out]: activations; spikes 0 or 1; of a leaky integrator its membrane */
    uint32_t current;  /* [n_out] of a spiking layer: W x + b */
    uint32_t membrane; /* [n_out] of Lif neurons */
    uint32_t total;    /* [n_in] of a leaky integrator: what arrived in all steps, weighted */
} sen_layer;

/* The kernels that all products of a network share; those that no product needs may be null. */
typedef struct sen_kernels {
    const char *name;
    /* x [n] in eight bits; sets `quantized`, `scale` and `sum`. */
    void (*quantize)(const float *x, uint32_t n, void *quantized, sen_input *input);
    /* Writes the indices of what is not 0, and up to 15 more words behind them; how many there are. */
    uint32_t (*nonzero)(const float *x, uint32_t n, uint32_t *events);
    /* One step of `n` Lif neurons from their currents: new membranes, and spikes 0 or 1. */
    void (*integrate)(const sen_lif *neuron, uint32_t n, const float *current, float *membrane, float *spikes);
    /* `steps` steps of `n` Lif neurons whose current stays the same: total [n] = sum over t of factors[t] spike[t]. */
    void (*integrate_constant)(
        const sen_lif *neuron, uint32_t n, const float *current, const float *factors, uint32_t steps, float *membrane,
        float *total);
} sen_kernels;

typedef struct sen_network {
    const sen_kernels *kernels;
    const sen_layer *layers;
    uint32_t layer_count, timesteps, is_spike_train, readout, n_in, n_out;
    const float *factors; /* [timesteps] what a current of 1 in each step adds to a leaky integrator's readout */
    uint32_t inner, quantized, events; /* scratch in `work`: between two factors; sen_input's vectors of the widest layer */
} sen_network;

/* One inference from `x` to `y`; of a spiking network all steps, from membranes of 0. `x` and `y` lie outside `work`. */
void sen_network_run(const sen_network *network, float *work, const float *x, float *y);

/* finite.c: whether `count` values are neither NaN nor infinite. */
int sen_is_finite(const float *x, size_t count);

/* Membranes of a spiking network to 0; one step of it. */
void sen_network_reset(const sen_network *network, float *work);
void sen_network_step(const sen_network *network, float *work, const float *x, float *y);

/* The kernels, one family in each file. Built once more for an instruction set, with SEN_ISA naming it, a family's fast
 * versions have that name behind their own. */
#define SEN_JOIN(a, b) a##_##b
#define SEN_JOINED(a, b) SEN_JOIN(a, b)
#ifdef SEN_ISA
#define SEN_NAME(function) SEN_JOINED(function, SEN_ISA)
#else
#define SEN_NAME(function) function
#endif

/* Small functions that kernels share; not every processor's kernels use all of them. */
#ifdef __GNUC__
#define SEN_INLINE static inline __attribute__((unused))
#else
#define SEN_INLINE static inline
#endif

/* convert.c: value `index` of float32, float16 or int8 data, without its scale. */
float sen_value(const void *data, uint32_t dtype, size_t index);

/* coordinates.c: weight of one synapse; not finite where two neurons coincide. A synapse as long as max_distance, but for
 * rounding in float32, may count or not. */
float sen_weight(const sen_weights *w, uint32_t target, uint32_t source);

/* Any storage and dtype of its family, every sum in order: what the others are tested against. */
sen_multiply sen_dense_reference, sen_sparse_reference;
sen_multiply sen_dense_int8_reference, sen_sparse_int8_reference;

/* Standard C, for any processor. */
sen_multiply sen_coordinates;    /* coordinates.c: every weight computed when it is needed */
sen_multiply sen_dense_f32, sen_dense_events; /* dense.c: row by row; columns of what is not 0 alone */
sen_multiply sen_columns;        /* dense.c: stored by source, `values` [columns, rows] */
sen_multiply sen_panels;         /* panels.c: SEN_PANEL rows of every column, one column after the other */
sen_multiply sen_dense_int8;     /* int8.c */
sen_multiply sen_sparse_f32;     /* sparse.c: single weights, uint16 columns */
sen_multiply sen_sparse_events;  /* sparse.c: by source, `starts` [columns + 1] and uint16 rows */
sen_multiply sen_sparse_int8, sen_sparse4_int8; /* sparse_int8.c: single weights, blocks of 1x4; uint16 columns */
sen_multiply sen_stream_int8, sen_stream4_int8; /* streams.c: the same, in the order in which they are read */

void sen_quantize(const float *x, uint32_t n, void *quantized, sen_input *input);
uint32_t sen_nonzero(const float *x, uint32_t n, uint32_t *events);
void sen_integrate(const sen_lif *neuron, uint32_t n, const float *current, float *membrane, float *spikes);
void sen_integrate_constant(
    const sen_lif *neuron, uint32_t n, const float *current, const float *factors, uint32_t steps, float *membrane,
    float *total);

/* A greatest value that is not above this is taken for 0: 127 over it might not be finite. */
#define SEN_LEAST 1e-30f

/* 1.5 * 2^23: added to a small float, it leaves the nearest whole number in the low bits. */
#define SEN_ROUNDING 12582912.0f
#define SEN_ROUNDING_BITS 0x4B400000

/* Values times `inverse` in eight bits. */
SEN_INLINE void sen_quantize_values(const float *x, uint32_t n, float inverse, int8_t *to)
{
    uint32_t i;
    for (i = 0; i < n; i++) {
        float value = x[i] * inverse;
        uint32_t bits;
        value += SEN_ROUNDING;
        memcpy(&bits, &value, sizeof bits);
        to[i] = (int8_t)(uint8_t)(bits - SEN_ROUNDING_BITS);
    }
}

/* A product of int8 that can be summed: int has 16 bits on some processors. */
SEN_INLINE int32_t sen_product(int8_t a, int8_t b)
{
    return (int32_t)a * b;
}

/* Twice the bits of a float without its sign, and 2^24 - 1: in the order of the magnitudes, but what is not a number goes
 * beyond 32 bits and comes out below SEN_NOTHING, which is what 0 gives. */
#define SEN_NOTHING 0x00FFFFFFu

SEN_INLINE uint32_t sen_magnitude(uint32_t bits)
{
    return (bits << 1) + SEN_NOTHING;
}

/* Thumb-2 with instructions for pairs of int16. There quantized values are such pairs: see pairs.c. */
#if defined(__ARM_FEATURE_SIMD32) && defined(__thumb2__) && !defined(__ARM_BIG_ENDIAN)
#include <arm_acle.h>
#define SEN_PAIRS
#endif

/* pairs.c: the same products. Whether the first n - n % 8 values are finite. Of quantization, the greatest sen_magnitude of the first n - n % 4 values; the values, times
 * `inverse`, as pairs. */
sen_multiply sen_dense_pairs, sen_sparse_pairs, sen_sparse4_pairs, sen_stream_pairs, sen_stream4_pairs;
int sen_eights_are_finite(const float *x, size_t n);
uint32_t sen_greatest_of_fours(const float *x, uint32_t n);
void sen_quantize_pairs(const float *x, uint32_t n, float inverse, uint32_t *pairs);

/* A quantized value, in whatever form sen_quantize leaves them. */
SEN_INLINE int32_t sen_quantized(const sen_input *x, uint32_t j)
{
#ifdef SEN_PAIRS
    const uint32_t pair = ((const uint32_t *)x->quantized)[j / 4 * 2 + j % 2];
    return (int16_t)(uint16_t)(j & 2 ? pair >> 16 : pair);
#else
    return ((const int8_t *)x->quantized)[j];
#endif
}

/* Bytes of `work` that `n` quantized values take, for whole vectors of the widest processor: one each; as pairs two, and one
 * more for a second form. For sen_stream4_int8, which no image has, pairs take two more. */
#define SEN_QUANTIZED_BYTES(n) (((size_t)(n) + 63u) / 64u * SEN_QUANTIZED_64)
#ifdef SEN_PAIRS
#define SEN_QUANTIZED_64 192u
#else
#define SEN_QUANTIZED_64 64u
#endif

#define SEN_PANEL 64u

/* Rows of the panel that begins at row `first`: rows of zeros fill up the last to a multiple of 16. */
SEN_INLINE uint32_t sen_panel_width(uint32_t rows, uint32_t first)
{
    return rows - first >= SEN_PANEL ? SEN_PANEL : (rows - first + 15u) / 16u * 16u;
}

/* sum + a b, rounded once where that takes one instruction. */
SEN_INLINE float sen_fused(float a, float b, float sum)
{
#ifdef __FP_FAST_FMAF
    return __builtin_fmaf(a, b, sum);
#else
    return sum + a * b;
#endif
}

/* What the stored values of a row are multiplied with. */
SEN_INLINE float sen_scale(const sen_weights *w, uint32_t row)
{
    return w->scale ? w->scale[(size_t)row * w->scale_step] : 1.0f;
}

/* act(addend + sum) of one row. */
SEN_INLINE float sen_finish(const float *addend, int is_relu, uint32_t row, float sum)
{
    const float y = addend ? addend[row] + sum : sum;
    return is_relu && !(y > 0) ? 0.0f : y;
}

/* The same from a sum of products of int8. */
SEN_INLINE float sen_finish_int8(
    const sen_weights *w, const sen_input *x, const float *addend, int is_relu, uint32_t row, int32_t sum)
{
    const float scale = sen_scale(w, row) * x->scale;
    const float product = scale * (float)sum;
    return sen_finish(addend, is_relu, row, product);
}

#ifdef __cplusplus
}
#endif

#endif
