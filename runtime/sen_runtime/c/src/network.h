/* A network ready to run: constant data, which may lie in flash, and functions over it. All memory that changes is one block,
 * `work`, that the caller provides. sen_load builds such a network from an image; exported C contains one.
 *
 * Exported C consists of regions of these sources, which comments mark: `export` and a name, `end`. */
#ifndef SEN_NETWORK_H
#define SEN_NETWORK_H

/* Exported C has these only where its network has parameters of single neurons, computes spikes from inputs, or has delays,
 * recurrent synapses, synaptic currents or refractory neurons; SEN_PLAIN is for measurements without them. */
#ifndef SEN_PLAIN
#define SEN_PER_NEURON
#define SEN_CODES_INPUTS
#define SEN_DELAYS
#endif

/* export: flash_types */
/* Address space of constants. AVR reads flash with instructions of its own. */
#ifndef SEN_FLASH
#if !defined(__AVR__)
#define SEN_FLASH
#elif !defined(__STRICT_ANSI__) && (defined(__FLASH) || defined(__flash)) /* gcc, clang */
#define SEN_FLASH __flash
#else
#define SEN_FLASH
#error "constants in flash need GNU C on AVR: compile with -std=gnu99 or later, or with -DSEN_FLASH= to copy them to RAM"
#endif
#endif
/* end */

/* export: types, needs flash_types */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { SEN_FLOAT32 = 1, SEN_FLOAT16 = 2, SEN_INT8 = 3, SEN_INT32 = 4, SEN_UINT16 = 5, SEN_UINT8 = 6 };
enum { SEN_IDENTITY, SEN_RELU, SEN_LIF, SEN_LEAKY_INTEGRATOR };
/* Reset by a spike: subtract the threshold after the next decay, set the membrane to 0, subtract before the decay, hold the
 * membrane at 0 for the next step. */
enum { SEN_RESET_SUBTRACT, SEN_RESET_ZERO, SEN_RESET_BEFORE_DECAY, SEN_RESET_REFRACTORY };
enum { SEN_MEAN_MEMBRANE, SEN_LAST_MEMBRANE, SEN_SPIKE_COUNT };

/* Forms of the input that a product reads besides the values. */
enum {
    SEN_USES_INT8 = 1,   /* quantized values */
    SEN_USES_EVENTS = 2, /* indices of nonzero values */
    SEN_USES_GROUPS = 4  /* with SEN_USES_INT8: only groups of quantized values that are not all 0; of NEON */
};

/* The input of a product. */
typedef struct sen_input {
    const float *values;    /* [n] */
    uint32_t uses;          /* SEN_USES_... of `quantized` */
    void *quantized;        /* [n] as written by sen_quantize, and scratch; a value is about scale times its quantized value */
    float scale;
    int32_t sum;            /* of the quantized values; set by the instruction sets whose products use it */
    const uint32_t *events; /* [count] indices of the nonzero values, ascending */
    uint32_t count;
} sen_input;

typedef struct sen_weights sen_weights;

/* y = act(addend + W x). `addend` [rows] is null for 0, and may be `y`; act is ReLU or the identity. */
typedef void sen_multiply(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y);

/* A matrix `[rows, columns]`, in the storage that `multiply` reads. */
struct sen_weights {
    sen_multiply *multiply;
    uint32_t uses; /* SEN_USES_... */
    uint32_t rows, columns;
    uint32_t dtype;               /* of `values` */
    const SEN_FLASH void *values; /* int8 values are aligned to 4 bytes */
    const SEN_FLASH float *scale; /* factor of a row's sum, of int8 values; else null */
    uint32_t scale_step;          /* 1: one scale for each row, 0: one for all */

    /* Blocks: by row, or by source (source.c), which is transposed: rows for columns. */
    const SEN_FLASH void *indices; /* block columns, ascending within a block row */
    const SEN_FLASH int32_t *starts;
    uint32_t index_dtype, block_rows, block_columns;

    /* Slices (slices.c): */
    const uint16_t *tiles;
    const int32_t *sums;

    const struct sen_by_row *by_row; /* or null */

    /* Positions; `values` are those of the sources [columns, dimensions]: */
    const SEN_FLASH void *target, *mask; /* [rows, dimensions], [columns] */
    uint32_t target_dtype, mask_dtype, dimensions;
    float gain, exponent, min_distance;
    float max_distance; /* 0 for none */
};

/* A term of a layer's weights: `first`, or `second` times `first`, the factors of a low-rank matrix. */
typedef struct sen_term {
    const sen_weights *first, *second;
} sen_term;

/* Parameters of Lif neurons, and beta of a leaky integrator. */
typedef struct sen_lif {
    float beta, threshold;
    uint32_t reset; /* SEN_RESET_... */
#ifdef SEN_PER_NEURON
    const SEN_FLASH float *betas, *thresholds; /* [n] instead of the numbers above, or null */
#endif
} sen_lif;

/* A layer. Its vectors are offsets into `work`, in floats. */
typedef struct sen_layer {
    const sen_term *terms;
    uint32_t term_count;
    uint32_t n_in, n_out;
    const SEN_FLASH void *bias; /* [n_out] or null */
    uint32_t bias_dtype;
    uint32_t neuron;
    sen_lif lif;
    uint32_t out;      /* [n_out]: activations; spikes 0 or 1; of a leaky integrator its membrane */
    uint32_t current;  /* [n_out] of a spiking layer: W x + b */
    uint32_t membrane; /* [n_out] of Lif neurons */
    uint32_t total;    /* [n_in] of a leaky integrator: weighted sum of its inputs over the steps */
#ifdef SEN_DELAYS
    const struct sen_wiring *wiring; /* instead of terms, or null */
#endif
} sen_layer;

/* Quantizes x [n] in the form that `uses` of the input says; sets `quantized`, `scale` and `sum`. */
typedef void sen_quantizer(const float *x, uint32_t n, void *quantized, sen_input *input);
/* Writes the indices of nonzero values, and up to 15 words behind them; returns their number. */
typedef uint32_t sen_nonzero_finder(const float *x, uint32_t n, uint32_t *events);
/* One step of `n` Lif neurons: updates the membranes, writes spikes 0 or 1. */
typedef void sen_integrator(const sen_lif *neuron, uint32_t n, const float *current, float *membrane, float *spikes);
/* `steps` steps of `n` Lif neurons with a constant current: total [n] = sum over t of factors[t] spike[t]. */
typedef void sen_constant_integrator(
    const sen_lif *neuron, uint32_t n, const float *current, const SEN_FLASH float *factors, uint32_t steps,
    float *membrane, float *total);

/* Kernels that all products of a network share; null where no product needs one. */
typedef struct sen_kernels {
    const char *name;
    sen_quantizer *quantize;
    sen_nonzero_finder *nonzero;
    sen_integrator *integrate;
    sen_constant_integrator *integrate_constant;
#ifdef SEN_PER_NEURON
    sen_integrator *integrate_each; /* of neurons that differ */
#endif
} sen_kernels;

typedef struct sen_network {
    const sen_kernels *kernels;
    const sen_layer *layers;
    uint32_t layer_count, timesteps, is_spike_train, readout, n_in, n_out; /* n_in: values of an input in one step */
    const SEN_FLASH float *factors; /* [timesteps] contribution of a current of 1 in step t to a leaky integrator's readout */
    uint32_t inner, quantized, events; /* offsets of scratch: between two factors; quantized values, events */
#ifdef SEN_CODES_INPUTS
    /* What arrives at the first layer in the next step; null: the input. */
    const float *(*code)(const struct sen_network *network, float *work, const float *x);
    float delta;
    uint32_t coded, state; /* offsets of its result, and of its state [n_in + 1], 0 before the first step */
#endif
#ifdef SEN_DELAYS
    float readout_decay; /* factor from the weight of a step in the mean of the membranes to that of the next; 0: none */
#endif
} sen_network;

/* Small functions that kernels share; not every kernel uses all of them. */
#ifdef __GNUC__
#define SEN_INLINE static inline __attribute__((unused))
#else
#define SEN_INLINE static inline
#endif

/* Thumb-2 with instructions for pairs of int16, in which quantized inputs are stored then: see pairs.h. */
#if defined(__ARM_FEATURE_SIMD32) && defined(__thumb2__) && !defined(__ARM_BIG_ENDIAN) && !defined(SEN_NO_PAIRS)
#include <arm_acle.h>
#define SEN_PAIRS
#endif

/* SEN_LAYER_HOOK is the name of a user's function, called after each layer with its number. */
#ifdef SEN_LAYER_HOOK
void SEN_LAYER_HOOK(uint32_t layer);
#else
#define SEN_LAYER_HOOK(layer) ((void)0)
#endif

/* Factor of the stored values of a row. */
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
/* end */

/* export: delay_types, needs types */
typedef struct sen_connection sen_connection;
typedef struct sen_wiring sen_wiring;

/* Adds what leaves source `i`, with the value `x`, to the ring; `lines` is that of the current step, plus `delay`. */
typedef void sen_propagator(const sen_connection *c, uint32_t i, float x, const SEN_FLASH uint32_t *lines, void *ring);
/* Moves a slot [n] to `current`, with the scales of sums of integers; the slot is 0 then. */
typedef void sen_arrival(const sen_wiring *wiring, uint32_t n, void *slot, float *current);

/* Delays from positions: k = rint(scale sqrt(|source - target|^2 + softening)), at most `limit` or modulo `modulus`. */
typedef struct sen_spatial {
    const SEN_FLASH float *source, *target; /* [n_in, dimensions], [n_out, dimensions] */
    uint32_t dimensions;
    float scale, softening;
    uint32_t limit;   /* UINT32_MAX: no delay is longer */
    uint32_t modulus; /* 0: longer delays are clamped */
    const SEN_FLASH void *mask; /* [n_in]; of weights from the same positions, as the rest */
    uint32_t mask_dtype;
    float gain, exponent, min_distance, max_distance;
} sen_spatial;

/* Synapses with delays, in the storage that `propagate` reads, those of a source next to each other: of all pairs of neurons, or in
 * lists. A delay is the number of steps from the one in which the ring is read next to that of the arrival. */
struct sen_connection {
    sen_propagator *propagate;
    uint32_t n_in, n_out;
    const SEN_FLASH void *weights;    /* [n_in, n_out], those in the lists, or null */
    const SEN_FLASH void *delays;     /* the same; in the lists delay * n_out + target, a place in the ring */
    const SEN_FLASH uint32_t *starts; /* [n_in + 1] of the lists, or null */
    const sen_spatial *spatial;       /* or null */
    int32_t delay;                    /* of all synapses, or added to those from positions */
    uint32_t slots;                   /* of the ring */
};

/* What arrives at a layer: a ring of future currents [slots, n_out], and the synaptic current. */
struct sen_wiring {
    const sen_connection *input, *recurrent; /* `recurrent` may be null */
    uint32_t slots, sum_bytes;       /* of an element of the ring: float32, or sums of integers */
    const SEN_FLASH uint32_t *lines; /* [2 slots] first element of each slot, twice over */
    sen_arrival *arrive;
    const SEN_FLASH float *scale; /* of sums of integers; else null */
    uint32_t scale_step;          /* 1: one scale for each neuron, 0: one for all */
    float synapse;                /* decay of the synaptic current per step */
    uint32_t ring;                /* offset into `work`, as the next two */
    uint32_t synaptic;            /* synaptic current [n_out], where `synapse` > 0 */
    uint32_t now;                 /* number of the slot of the current step */
};
/* end */

/* export: sen_fused */
/* sum + a b, rounded once where that takes one instruction. */
SEN_INLINE float sen_fused(float a, float b, float sum)
{
#ifdef __FP_FAST_FMAF
    return __builtin_fmaf(a, b, sum);
#else
    return sum + a * b;
#endif
}
/* end */

/* export: int8 */
/* A product of int8 that can be summed: int has 16 bits on some processors. */
SEN_INLINE int32_t sen_product(int8_t a, int8_t b)
{
    return (int32_t)a * b;
}

/* Quantized value `j`, in either storage. */
SEN_INLINE int32_t sen_quantized(const sen_input *x, uint32_t j)
{
#ifdef SEN_PAIRS
    const uint32_t pair = ((const uint32_t *)x->quantized)[j / 4 * 2 + j % 2];
    return (int16_t)(uint16_t)(j & 2 ? pair >> 16 : pair);
#else
    return ((const int8_t *)x->quantized)[j];
#endif
}

/* sen_finish of a sum of products of int8. */
SEN_INLINE float sen_finish_int8(
    const sen_weights *w, const sen_input *x, const float *addend, int is_relu, uint32_t row, int32_t sum)
{
    const float scale = sen_scale(w, row) * x->scale;
    const float product = scale * (float)sum;
    return sen_finish(addend, is_relu, row, product);
}
/* end */

/* Functions called from other files; exported C makes them static. */
#define SEN_PRIVATE

/* Activation of the outputs. */
enum { SEN_NO_ACTIVATION, SEN_SOFTMAX, SEN_SIGMOID };

/* What surrounds the layers: inputs become (x - mean) inverse, outputs y std + mean, then their activation. */
typedef struct sen_scaling {
    const float *input_mean, *input_inverse; /* [n_in], or null */
    const float *output_mean, *output_std;   /* [n_out], or null */
    uint32_t n_in, n_out, activation;
    uint32_t one, rows; /* offsets into `work`, in floats, of standardized inputs: of one, of a batch */
} sen_scaling;

/* scaling.c: the inputs of the first layer: `x`, or `to`; outputs from those of the last layer, restored and activated. */
const float *sen_standardize_rows(const sen_scaling *scaling, const float *x, size_t rows, float *to);
void sen_finish_rows(const sen_scaling *scaling, float *y, size_t rows);
void sen_restore_row(const sen_scaling *scaling, float *y);
void sen_activate_row(const sen_scaling *scaling, float *y);

/* Without scaling: one inference from `x` to `y`, which lie outside `work`; of a spiking network all steps, from membranes of 0. */
void sen_network_run(const sen_network *network, float *work, const float *x, float *y);

/* run.c: the same, of a network that is not spiking. */
void sen_perceptron_run(const sen_network *network, float *work, const float *x, float *y);

/* The time of one layer after the other. */
typedef struct sen_laps {
    uint64_t (*clock)(void);
    uint64_t *ticks, last;
} sen_laps;

/* Adds the time since the last lap to that of a layer. */
SEN_INLINE void sen_lap(sen_laps *laps, uint32_t layer)
{
    const uint64_t now = laps->clock();
    laps->ticks[layer] += now - laps->last;
    laps->last = now;
}

/* The same, in laps of the layers. */
void sen_network_profile(const sen_network *network, float *work, const float *x, float *y, sen_laps *laps);

/* Rows of a batch that are multiplied together, at most; and scratch of some products: sixteen rows, column after column. */
#define SEN_TILE_ROWS 64u
#define SEN_TURNED_FLOATS(columns) (16u * (columns))

/* Rows of inputs, and where their products go. */
typedef struct sen_rows {
    uint32_t count;
    int is_relu;
    sen_input x[SEN_TILE_ROWS];
    const float *addend[SEN_TILE_ROWS]; /* null for 0; may be `y` */
    float *y[SEN_TILE_ROWS];
    float *turned; /* scratch */
} sen_rows;

/* y = act(addend + W x) of several rows. */
typedef void sen_multiply_rows(const sen_weights *w, const sen_rows *rows);

/* The product of several rows by that of one; a table ends with null. */
typedef struct sen_rows_kernel {
    sen_multiply *multiply;
    sen_multiply_rows *multiply_rows;
    int turns; /* whether it uses `turned` */
    /* Whether a row is faster alone, because many values are 0; of `count` rows, how many are faster together. Null: none, all. */
    int (*is_faster_alone)(const sen_weights *w, const float *x);
    uint32_t (*count_together)(const sen_weights *w, uint32_t count);
} sen_rows_kernel;

/* Sparse weights row by row, which batches multiply where one row multiplies them in another order. A row of inputs is faster
 * alone if less than `min_percent` are not 0: a hundred times the instructions of a row in a batch by those of one without 0. */
typedef struct sen_by_row {
    sen_weights weights;
    uint32_t min_percent;
} sen_by_row;

/* A network and how it runs several rows; its scratch are offsets into `work`, in floats, behind that of one row. */
typedef struct sen_batch {
    const sen_network *network;
    const sen_scaling *scaling; /* or null */
    const sen_rows_kernel *kernels;
    uint32_t rows; /* side by side */
    uint32_t hidden[2], inner, quantized, turned; /* activations of every other layer */
    size_t quantized_bytes;                       /* of one row */
    size_t bytes;                                 /* of `work`, that of one row included; 0: it cannot be addressed */
} sen_batch;

/* `rows` inferences, row after row. `work` begins at a multiple of 64 bytes. Calls with a `work` of their own may run at once. */
void sen_network_run_rows(const sen_batch *batch, float *work, const float *x, float *y, size_t rows);

/* The product of several rows, or null: then row after row. */
const sen_rows_kernel *sen_find_rows_kernel(const sen_rows_kernel *kernels, sen_multiply *multiply);

/* finite.c: whether `count` values are finite. */
int sen_is_finite(const float *x, size_t count);

/* spiking.c: sen_network_run and sen_network_profile of a spiking network. In parts: whether the current of the first layer is
 * computed once; whether the readout is a product with the sum of its inputs, weighted by factors; all steps from membranes of 0,
 * to that sum or to the output; the sum of the factors. */
void sen_spiking_run(const sen_network *network, float *work, const float *x, float *y);
void sen_spiking_profile(const sen_network *network, float *work, const float *x, float *y, sen_laps *laps);
int sen_charges_once(const sen_network *network);
int sen_sums_inputs(const sen_network *network);
void sen_spiking_steps(const sen_network *network, float *work, const float *x, float *y);
float sen_factor_sum(const sen_network *network);

/* Resets the membranes of a spiking network to 0; runs one step of it. */
void sen_network_reset(const sen_network *network, float *work);
void sen_network_step(const sen_network *network, float *work, const float *x, float *y);

/* panels.c: of each byte, which bits are set, ascending, and how many. */
typedef struct sen_bit_table {
    uint8_t position[256][8], count[256];
} sen_bit_table;
extern const sen_bit_table sen_set_bits;

/* Kernels, one family in each file. Built again for an instruction set, with SEN_ISA naming it, a family defines its fast versions,
 * with that name behind their own. */
#define SEN_JOIN(a, b) a##_##b
#define SEN_JOINED(a, b) SEN_JOIN(a, b)
#ifdef SEN_ISA
#define SEN_NAME(function) SEN_JOINED(function, SEN_ISA)
#else
#define SEN_NAME(function) function
#endif

/* convert.c: value `index` of float32, float16 or int8 data, without its scale. */
float sen_value(const void *data, uint32_t dtype, size_t index);

/* coordinates.c: base ^ (exponent / 2) for base >= 0. */
float sen_half_power(float base, float exponent);

/* coordinates.c: weight of one synapse; not finite where two neurons coincide. A synapse as long as max_distance, within
 * rounding in float32, may count or not. */
float sen_weight(const sen_weights *w, uint32_t target, uint32_t source);

/* References, which the tests compare the other kernels with: any storage and dtype of their family, every sum in order. */
sen_multiply sen_dense_reference, sen_sparse_reference;
sen_multiply sen_dense_int8_reference, sen_sparse_int8_reference;
sen_multiply sen_source_reference, sen_source_int8_reference; /* source.c */

/* Of positions that kernels with vectors take. */
#define SEN_MAX_DIMENSIONS 64u

/* Standard C, for any processor. */
sen_multiply sen_coordinates;    /* coordinates.c: every weight computed when it is needed */
sen_multiply sen_dense_f32, sen_dense_events; /* dense.c: row by row; columns of nonzero inputs only */
sen_multiply sen_columns;        /* dense.c: stored by source, `values` [columns, rows] */
sen_multiply sen_panels;         /* panels.c: SEN_PANEL rows of every column, one column after the other */
sen_multiply sen_dense_int8;     /* int8.c */
sen_multiply sen_sparse_f32;     /* sparse.c: single weights, uint16 columns */
sen_multiply sen_sparse_int8, sen_sparse_1x4_int8; /* sparse_int8.c: single weights, blocks of 1x4; uint16 columns */
sen_multiply sen_stream_int8, sen_stream4_int8; /* streams.c: the same, in the order in which they are read */

/* delays.c: the current of a layer with wiring, in `work`, from its input and its last spikes; clears the ring and the synaptic
 * current. */
void sen_deliver(const sen_network *network, float *work, const sen_layer *layer, const float *x);
void sen_reset_wiring(const sen_layer *layer, float *work);

/* Additions to a ring by types of weights, sums and delays: a constant, tables, positions; weights of the same positions. */
sen_propagator sen_propagate_f32, sen_propagate_f32_u8, sen_propagate_f32_u16, sen_propagate_f32_positions, sen_propagate_coordinates;
sen_propagator sen_propagate_list_u16, sen_propagate_list_u32;
sen_propagator sen_propagate_i32, sen_propagate_i32_u8, sen_propagate_i32_u16, sen_propagate_i32_positions;
sen_propagator sen_propagate_i16, sen_propagate_i16_u8, sen_propagate_i16_u16, sen_propagate_i16_positions; /* of exported C */
sen_arrival sen_arrive_f32, sen_arrive_i32, sen_arrive_i16;

/* The delay of a synapse before its shift, in steps; `scaled` is it before rounding and overflow, which `modulus` takes below
 * SEN_MAX_STEPS. */
#define SEN_MAX_STEPS 4194304.0f
uint32_t sen_steps(const sen_spatial *p, uint32_t i, uint32_t j, float *scaled);

sen_quantizer sen_quantize;
sen_nonzero_finder sen_nonzero;
sen_integrator sen_integrate;
sen_constant_integrator sen_integrate_constant;
sen_integrator sen_integrate_each;

/* coding.c: `code` of a network. */
const float *sen_code_rate(const sen_network *network, float *work, const float *x);
const float *sen_code_delta(const sen_network *network, float *work, const float *x);

/* Bytes of `work` for `n` quantized values, in whole vectors of the widest processor: one byte each; as pairs two, and one for
 * sen_in_order. sen_stream4_int8, which images do not use, takes two more instead of one. */
#define SEN_QUANTIZED_BYTES(n) (((size_t)(n) + 63u) / 64u * SEN_QUANTIZED_64)
#define SEN_NEON_QUANTIZED_64 160u /* and sen_groups behind them */
#ifdef SEN_PAIRS
#define SEN_QUANTIZED_64 192u
#elif defined(SEN_NEON_KERNELS)
#define SEN_QUANTIZED_64 SEN_NEON_QUANTIZED_64
#else
#define SEN_QUANTIZED_64 64u
#endif

/* Rows of a panel; their sums fit in the registers of NEON. */
#ifdef __arm__
#define SEN_PANEL 32u
#else
#define SEN_PANEL 64u
#endif

/* Rows of the panel that begins at row `first`: rows of zeros pad the last to a multiple of 16. */
SEN_INLINE uint32_t sen_panel_width(uint32_t rows, uint32_t first)
{
    return rows - first >= SEN_PANEL ? SEN_PANEL : (rows - first + 15u) / 16u * 16u;
}

#endif
