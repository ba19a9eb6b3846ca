/* Networks whose activations are int8: integers from the quantized input to the quantized output.
 *
 * A value of a grid is stored without a sign: real = scale * (stored - zero), stored is 0 to 255. A product is summed in int32
 * with its bias, multiplied by a fixed-point number, and rounded once. Zero points of inputs are part of the bias, so that
 * inputs stored as 0 are not multiplied. sen_runtime/integer.py is the reference, which every version equals to the bit. */
#ifndef SEN_INTEGER_H
#define SEN_INTEGER_H

#include "int4.h"
#include "network.h"

/* export: integer_types */
typedef struct sen_integer_weights sen_integer_weights;

/* y [rows] on its grid from x [columns]. Vectors of an image are allocated in multiples of 64 bytes, and up to 15 values may be
 * written behind y; those of exported C may be a caller's. `scratch` is memory as the product needs. */
typedef void sen_integer_multiply(const sen_integer_weights *w, const uint8_t *x, void *scratch, uint8_t *y);

/* A matrix of int8 `[rows, columns]`, and how its sums become values of the output's grid. */
struct sen_integer_weights {
    sen_integer_multiply *multiply;
    uint32_t rows, columns;
    const SEN_FLASH void *values; /* in the storage that `multiply` reads */
    const uint8_t *offsets; /* of panels of pairs: what is added to the weights of a column */
    const uint8_t *narrow;  /* and a bit for each pair of columns whose weights are at most 128 then */
    /* Of each row, in images up to a multiple of 16 rows. A value is zero + (sum + bias) multiplier 2^(exponent - 31), rounded. */
    const SEN_FLASH int32_t *bias, *multiplier, *exponent;
    int32_t max_exponent; /* of images */
    int32_t zero, low;     /* of the output: stored value of 0, min value */
    /* Of integer_sums.h, instead of the arrays above: bias and multiplier of each row in turn, and -2 - exponent of sums that have been
     * multiplied by 2^prescale. */
    const SEN_FLASH int32_t *bias_multiplier;
    const SEN_FLASH uint8_t *shift;
    uint32_t prescale;
    /* Blocks, as in sen_weights; of int4 weights the steps of their groups: */
    const SEN_FLASH void *indices;
    const SEN_FLASH void *starts;
    uint32_t index_dtype, block_rows, block_columns;
};

/* The value of a row for its sum. */
SEN_INLINE uint8_t sen_requantize(const sen_integer_weights *w, uint32_t row, int32_t sum)
{
    const uint32_t shift = (uint32_t)(31 - w->exponent[row]);
    const int64_t product = (int64_t)(sum + w->bias[row]) * w->multiplier[row];
    const int64_t value = ((product + ((int64_t)1 << (shift - 1))) >> shift) + w->zero;
    return (uint8_t)(value < w->low ? w->low : value > 255 ? 255 : value);
}

/* Places of vectors that belong to the caller, instead of an offset. */
#define SEN_CALLER_INPUT ((size_t)-1)
#define SEN_CALLER_OUTPUT ((size_t)-2)

/* A step of a layer: a product, or the sum of the results of two. */
typedef struct sen_operation {
    const sen_integer_weights *weights;
    size_t x, y; /* offsets into `work`, in bytes, as all below */
} sen_operation;

/* A spike in the vector that the next layer reads, whose step is 1/64. */
#define SEN_SPIKE_BITS 6
#define SEN_STORED_SPIKE (1 << SEN_SPIKE_BITS)

/* Parameters of Lif neurons, in steps of the grid of their membranes. */
typedef struct sen_integer_lif {
    int32_t threshold;
    int32_t decay; /* in units of 2^-15 */
    int32_t zero;  /* of the current; membranes lie between -zero and 255 - zero */
    uint32_t reset;
} sen_integer_lif;

/* A layer; its vectors are offsets into `work`. */
typedef struct sen_integer_layer {
    const sen_operation *operations;
    uint32_t operation_count;
    uint32_t n_in, n_out, neuron;
    size_t out; /* activations or the current, on the grid of the layer */
    float scale;
    int32_t zero;
    sen_integer_lif lif;
    size_t membrane, spikes; /* of Lif neurons: int16 [n_out]; 0 or SEN_STORED_SPIKE */
} sen_integer_layer;

/* `steps` steps of `n` Lif neurons with a constant current: total [n] = sum over t of factors[t] spike[t], at most 255. Membranes are
 * undefined after more than one step. */
typedef void sen_integer_integrator(
    const sen_integer_lif *neuron, uint32_t n, const uint8_t *current, const SEN_FLASH int32_t *factors, uint32_t steps,
    int16_t *membrane, uint8_t *total);

/* A perceptron, or a spiking network: its first `lif_count` layers spike, and one that reads them out may follow. */
typedef struct sen_integer_network {
    const sen_integer_layer *layers;
    uint32_t layer_count, lif_count, timesteps, is_spike_train, n_in, n_out;
    int32_t zero;                       /* of the input */
    sen_integer_integrator *integrate;  /* of a spiking network, as all below */
    const SEN_FLASH int32_t *factors;   /* [timesteps] of spikes, in steps of the readout's input; 1 to count them */
    size_t input, scratch;
    size_t weighted; /* what arrives in all steps, weighted: the input of a membrane readout, or spike counts */
    size_t clock;    /* uint32_t: number of steps since the reset */
    /* Of images: */
    const struct sen_integer_kernels *kernels;
    float inverse_scale; /* of the input */
    size_t values;       /* floats that sen_integer_layer_output writes */
} sen_integer_network;

/* Memory of an inference: vectors lie in `work`, except those of the caller. */
typedef struct sen_integer_frame {
    uint8_t *work;
    const uint8_t *x;
    uint8_t *y;
    struct sen_laps *laps; /* null without a clock */
} sen_integer_frame;
/* end */

/* Memory that products of images need: groups of inputs that are not all 0, and those inputs, on NEON. */
#define SEN_INTEGER_SCRATCH(n) (2 * (size_t)(n) + 256u)

/* Quantizes x [n]: to the nearest value, halves to even. */
typedef void sen_integer_quantizer(const float *x, uint32_t n, float inverse_scale, int32_t zero, uint8_t *to);

/* Functions of one instruction set. */
typedef struct sen_integer_kernels {
    sen_integer_quantizer *quantize;
    sen_integer_integrator *integrate;
    sen_integer_multiply *dense;  /* of rows in order; inputs are taken less `dense_zero` */
    int32_t dense_zero;
    sen_integer_multiply *panels; /* of panels with groups of `group` columns, `offset` added to each weight; or null */
    uint32_t group, offset;
    int has_offsets; /* the least offset of each column instead, if its weights are at most 128 then */
} sen_integer_kernels;

/* One inference from `x` to `y` [n_out]. `laps` is null without a clock. */
void sen_integer_run(const sen_integer_network *network, uint8_t *work, const float *x, float *y, sen_laps *laps);

/* The same from the input to the output of a frame: a perceptron; all steps of a spiking network from membranes of 0, and its
 * output after them. One step, whose first layer's current is taken as it is if `is_charged`; 1 if a membrane readout has had all
 * steps, and nothing was computed. */
void sen_integer_perceptron_run(const sen_integer_network *network, const sen_integer_frame *frame);
void sen_integer_spiking_run(const sen_integer_network *network, sen_integer_frame *frame);
void sen_integer_read_out(const sen_integer_network *network, const sen_integer_frame *frame);
int sen_integer_advance(const sen_integer_network *network, const sen_integer_frame *frame, int is_charged);

/* See sen_layer_output. */
const float *sen_integer_layer_output(
    const sen_integer_network *network, uint8_t *work, uint32_t index, uint32_t *size);

/* Resets membranes and readout; one step of all Lif layers, and the spikes of the last layer. */
void sen_integer_reset(const sen_integer_network *network, uint8_t *work);
void sen_integer_step(const sen_integer_network *network, uint8_t *work, const float *x, float *y);

sen_integer_quantizer sen_integer_quantize;
sen_integer_integrator sen_integer_integrate;
sen_integer_multiply sen_integer_dense, sen_integer_sparse, sen_integer_int4, sen_integer_add;

#endif
