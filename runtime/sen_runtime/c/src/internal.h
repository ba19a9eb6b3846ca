/* What the library has besides a network that runs: images, and the choice of kernels. Nothing here is public. */
#ifndef SEN_INTERNAL_H
#define SEN_INTERNAL_H

#include "integer.h"
#include "network.h"
#include "sen.h"

#include <string.h>

#define SEN_NONE 0xFFFFFFFFu
#define SEN_MAX_DEPTH 32u
/* Time steps of one inference; a stream has no end. */
#define SEN_MAX_TIMESTEPS (1u << 20)

/* Bytes of a value of this type, or 0 if there is no such type. */
static inline uint32_t sen_width(uint32_t dtype)
{
    static const uint8_t bytes[] = {0, 4, 2, 1, 4, 2, 1};
    return dtype < sizeof bytes ? bytes[dtype] : 0;
}

/* The image's word for neurons with SEN_RESET_REFRACTORY. */
enum { SEN_REFRACTORY_LIF = 4 };

/* The image's word for a reset to zero in the step of the spike, which computes the same as SEN_RESET_ZERO. */
enum { SEN_ZERO_WITHOUT_DELAY = 3 };

enum { SEN_COORDINATES, SEN_DENSE, SEN_SPARSE, SEN_LOW_RANK, SEN_SUM, SEN_INT4 };

/* A tensor section of a checked image; `data` is null where a record names none. */
typedef struct sen_tensor {
    const void *data;
    uint32_t dtype, rank, shape[3];
    uint64_t count; /* of values */
} sen_tensor;

/* Records of an image as they lie in it, little-endian and aligned: docs/reference/sen-image.md. */
enum { KIND_PROGRAM = 1, KIND_METADATA = 2, KIND_TENSOR = 3 };

/* Versions of images with int8 activations, with sparse matrices by source, with scalings, with int4 weights, and with delays,
 * recurrent synapses, synaptic currents or refractory neurons. */
#define SEN_VERSION_WITH_GRIDS 2
#define SEN_VERSION_WITH_SOURCES 3
#define SEN_VERSION_WITH_SCALINGS 4
#define SEN_VERSION_WITH_INT4 5
#define SEN_VERSION_WITH_DELAYS 6

/* Order of the blocks of a sparse matrix in an image. */
enum { SEN_BY_ROW, SEN_BY_SOURCE };

typedef struct image_header {
    uint8_t magic[8];
    uint16_t version, header_bytes;
    uint32_t sections;
    uint64_t file_bytes;
    uint32_t checksum; /* of all bytes, with this field 0 */
    uint8_t reserved[36];
} image_header;

typedef struct section_row {
    uint32_t kind, dtype;
    uint64_t offset, nbytes;
    uint32_t rank, shape[3];
    uint64_t reserved;
} section_row;

/* Input codings. */
enum { SEN_DIRECT, SEN_SPIKES, SEN_CURRENT, SEN_RATE, SEN_DELTA };

/* The program. */
typedef struct sen_program {
    uint32_t layers, operators, timesteps, coding, readout, n_in, n_out, activation;
} sen_program;

/* A layer; `bias` is a section or SEN_NONE, `reset` SEN_RESET_... or SEN_ZERO_WITHOUT_DELAY. The grid is 0 without int8
 * activations. */
typedef struct sen_layer_record {
    uint32_t op, bias, neuron;
    float beta, threshold;
    uint32_t reset;
    float grid_scale;
    int32_t grid_zero;
} sen_layer_record;

/* An int8 grid: real = scale * (stored - zero). */
typedef struct sen_grid_record {
    float scale;
    int32_t zero;
} sen_grid_record;

/* Sections of mean and std of the inputs, of the outputs. */
typedef struct sen_scaling_record {
    uint32_t input[2], output[2];
} sen_scaling_record;

/* Sections of beta and threshold of each neuron of a layer, or SEN_NONE; then the number in the layer is 0. */
typedef struct sen_neuron_record {
    uint32_t beta, threshold;
} sen_neuron_record;

/* A delay. Sections by kind: those of each synapse [n_out, n_in]; source and target positions. */
enum { SEN_NO_DELAY, SEN_CONSTANT_DELAY, SEN_STORED_DELAY, SEN_SPATIAL_DELAY };
enum { SEN_OVERFLOW_ERROR, SEN_OVERFLOW_CLAMP, SEN_OVERFLOW_WRAP };
#define SEN_MAX_DELAY 65535u
typedef struct sen_delay_record {
    uint32_t kind, value, tensors[2];
    float scale, softening;
    uint32_t limit, overflow, shift;
} sen_delay_record;

/* Wiring of a layer: decay of the synaptic current; recurrent operator or SEN_NONE; delays of its weights, and of the recurrent
 * ones. */
typedef struct sen_wiring_record {
    float synapse;
    uint32_t recurrent;
    sen_delay_record delays[2];
} sen_wiring_record;

/* An operator. Sections of tensors by kind: Coordinates source, target, mask; Dense w, scale; Sparse values, columns,
 * row_starts, scale, or by source rows and starts of columns; LowRank left, right, their scales; Int4 weights, steps, scale. */
typedef struct sen_operator_record {
    uint32_t kind, n_out, n_in, tensors[4], operands[2], block[2];
    float scalars[4]; /* gain, exponent, min_distance, max_distance; or scale and zero point of each grid inside */
    uint32_t order;   /* of Sparse: SEN_BY_ROW, SEN_BY_SOURCE */
} sen_operator_record;

/* Fails to compile where a compiler pads records. */
typedef char records_have_no_padding
    [sizeof(image_header) == 64 && sizeof(section_row) == 48 && sizeof(sen_program) == 32 && sizeof(sen_layer_record) == 32
             && sizeof(sen_operator_record) == 64 && sizeof(sen_grid_record) == 8
             && sizeof(sen_scaling_record) == 16 && sizeof(sen_neuron_record) == 8 && sizeof(sen_wiring_record) == 80
         ? 1
         : -1];

/* Row `index` of the section table. */
static inline const section_row *section_at(const uint8_t *image, uint32_t index)
{
    return (const section_row *)(const void *)(image + sizeof(image_header)) + index;
}

/* Whether all bytes of a field are 0; -0.0 is not. */
static inline int all_zero(const void *field, size_t count)
{
    const uint8_t *bytes = field;
    while (count--)
        if (*bytes++)
            return 0;
    return 1;
}

/* An image whose header, table and program were checked: every record can be read from it. */
typedef struct sen_image {
    const uint8_t *bytes;
    uint32_t sections;
    const sen_program *program;
    const sen_layer_record *layers;
    const sen_operator_record *operators;
    const sen_grid_record *input_grid; /* null without int8 activations */
    const sen_scaling_record *scaling; /* null before version 4, as `neurons` */
    const sen_neuron_record *neurons;
    const sen_wiring_record *wiring; /* null before version 6, as the decay of the weights of steps in the readout */
    const float *readout_decay;
    const float *delta;              /* null without SEN_DELTA */
} sen_image;

/* The wiring of a layer, or null for none: without delays, recurrent synapses and synaptic current. */
static inline const sen_wiring_record *sen_wiring_of(const sen_image *image, uint32_t layer)
{
    const sen_wiring_record *wiring = image->wiring ? &image->wiring[layer] : NULL;
    return wiring && (wiring->synapse > 0 || wiring->recurrent != SEN_NONE || wiring->delays[0].kind != SEN_NO_DELAY) ? wiring
                                                                                                                     : NULL;
}

/* Whether inputs are sequences; whether what arrives at the first layer are spikes. */
static inline int sen_has_steps(const sen_program *program)
{
    return program->coding == SEN_SPIKES || program->coding == SEN_CURRENT || program->coding == SEN_DELTA;
}

static inline int sen_arrives_as_spikes(const sen_program *program)
{
    return program->coding == SEN_SPIKES || program->coding >= SEN_RATE;
}

/* Values of an input in one step. */
static inline uint32_t sen_features(const sen_program *program)
{
    return program->coding == SEN_DELTA ? program->n_in / 2 : program->n_in;
}

/* container.c: every rule of the header and of the section table; padding is not looked at. */
sen_status sen_check_container(const uint8_t *bytes, size_t size, unsigned flags);

/* image.c: an image, and the tensor of one of its sections. */
sen_status sen_image_open(sen_image *image, const void *bytes, size_t size, unsigned flags);
sen_tensor sen_image_tensor(const sen_image *image, uint32_t index);

/* export: kernel_choice */
/* Rows of more int8 weights are multiplied as floats: a sum of products might exceed int32. */
#define SEN_MAX_INT8_COLUMNS 65536u

/* Products of sparse matrices by dtype and block: member of sen_isa, and function in standard C or null. They read uint16 block
 * columns and blocks that divide the columns; a reference multiplies all other matrices. The loader and the C exporter choose
 * by this table. */
#define SEN_SPARSE_KERNELS(KERNEL)                                                                                         \
    KERNEL(SEN_FLOAT32, 1, 1, sparse_f32, sen_sparse_f32)                                                                  \
    KERNEL(SEN_FLOAT32, 1, 4, sparse_1x4_f32, NULL)                                                                        \
    KERNEL(SEN_FLOAT32, 8, 1, sparse_8x1_f32, NULL)                                                                        \
    KERNEL(SEN_FLOAT32, 16, 1, sparse_16x1_f32, NULL)                                                                      \
    KERNEL(SEN_FLOAT16, 16, 1, sparse_16x1_f16, NULL)                                                                      \
    KERNEL(SEN_INT8, 1, 1, sparse_int8, sen_sparse_int8)                                                                   \
    KERNEL(SEN_INT8, 1, 4, sparse_1x4_int8, sen_sparse_1x4_int8)                                                           \
    KERNEL(SEN_INT8, 16, 1, sparse_16x1_int8, NULL)
/* end */

#define SEN_SPARSE_MEMBER(dtype, rows, columns, member, portable) sen_multiply *member;

/* A product of sparse matrices by source. Those whose rows are single are packed into panels instead where these take at most
 * `max_spread` elements for each weight. `rows_percent`: a hundred times the instructions of a weight in a batch by those of an
 * element of panels; of 16x1 blocks by those of a weight. */
#define SEN_SOURCE_KERNELS 6
typedef struct sen_source_kernel {
    uint32_t dtype, block_rows, block_columns, max_spread, rows_percent;
    sen_multiply *multiply;
} sen_source_kernel;

/* Products of one instruction set. Null: sparse matrices take the reference of their order, and weights are not rearranged into
 * quads or slices. */
typedef struct sen_isa {
    sen_kernels kernels;
    int (*is_finite)(const float *x, size_t count);
    const sen_integer_kernels *integer;
    uint32_t group, offset; /* of int8 panels: columns of a row next to each other, what is added to each weight */
    uint32_t quads_use;     /* SEN_USES_... of `quads` */
    uint64_t max_scattered; /* max bytes of panels that sparse matrices become */
    sen_source_kernel sources[SEN_SOURCE_KERNELS];
    /* Of at most SEN_MAX_DIMENSIONS: a product of events, and the weights in panels. */
    sen_multiply *coordinates;
    void (*coordinate_panels)(const sen_weights *w, float *panels);
    sen_multiply *dense_f32, *dense_f16, *dense_int8, *panels, *quads, *slices_f32, *slices_int8;
    SEN_SPARSE_KERNELS(SEN_SPARSE_MEMBER)
    const sen_rows_kernel *rows_kernels;
    /* Of delays of one byte in a table, and from positions if they do not wrap; null: the portable ones. */
    sen_propagator *table_f32, *table_i32, *positions_f32, *positions_i32;
} sen_isa;

/* isa.c: the reference kernels, and the fastest ones of this processor. */
extern const sen_isa sen_isa_reference;
const sen_isa *sen_choose_isa(unsigned flags);

/* A model in its arena. */
struct sen_model {
    sen_network network;
    const sen_integer_network *integer; /* of int8 activations, which run it instead; else null */
    float *work;
    sen_batch batch;
    int (*is_finite)(const float *x, size_t count); /* null where inputs may be NaN or infinite */
};

/* model.c: one inference of `network`, which is that of the model, or the same in threads. */
void sen_run_network(const sen_model *model, const sen_network *network, float *work, const float *x, float *y);

/* model.c: values of an input, all time steps of a spike train; rows before the first with one that the model refuses. */
size_t sen_values_of_input(const sen_model *model);
size_t sen_accepted_rows(const sen_model *model, const float *x, size_t rows);

/* Hands out at most `size` bytes of memory, or only counts them where `base` is null. */
typedef struct sen_arena {
    uint8_t *base;
    uint64_t size, used;
    int overflows;
} sen_arena;

/* Where an image is being laid out, how, the widest input that products use in each form, and floats of `work` so far. */
typedef struct sen_loader {
    sen_arena arena;
    const sen_image *image;
    const sen_isa *isa;
    unsigned flags;
    uint32_t quantized, events, inner, turned;
    uint64_t work;
} sen_loader;

/* pack.c, slices.c: `count` times `size` bytes of the arena, at a multiple of SEN_ALIGNMENT. The others rearrange weights and
 * choose their product: dense ones, or those of positions, into panels of float32; int8 ones into panels of groups of
 * columns; sparse ones, in either order, into panels together with their zeros; those by row into slices, or by source. */
void *sen_take(sen_arena *arena, uint64_t count, uint64_t size);
int8_t sen_int8_at(const sen_weights *w, uint32_t row, uint32_t column); /* of int8 or int4 weights */
sen_status sen_to_panels(sen_loader *loader, sen_weights *w);
void sen_to_quads(sen_loader *loader, sen_weights *w);
void sen_scatter(sen_loader *loader, sen_weights *w, uint32_t order);
void sen_to_slices(sen_loader *loader, sen_weights *w);
void sen_by_source(sen_loader *loader, sen_weights *w);

static inline uint32_t sen_larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* place.c: the values of a tensor: where they lie, or with SEN_PACK a copy in the arena; the matrices of an operator without
 * operands in the order of multiplication: two of a low-rank one, else one. */
const void *sen_keep(sen_loader *loader, const sen_tensor *tensor);
sen_status sen_place_operator(sen_loader *loader, const sen_operator_record *record, int meets_spikes, sen_weights *w);

/* The matrices of an operator as the image stores them, without a product; one weight of a dense one, or of positions. */
void sen_set_operator(const sen_image *image, const sen_operator_record *record, sen_weights *w);
float sen_weight_at(const sen_weights *w, uint32_t row, uint32_t column);

/* wiring.c: the wiring of a layer, whose operators end before and with `root`; what leaves the layer before are spikes or not. */
sen_status sen_place_wiring(sen_loader *loader, uint32_t index, uint32_t first_operator, int meets_spikes, sen_layer *layer);

/* load.c: offset of `count` more floats of `work`, at a multiple of SEN_ALIGNMENT. */
uint32_t sen_take_floats(sen_loader *loader, uint64_t count);

/* integer_load.c: a network whose activations are int8, or only its bytes. */
sen_status sen_lay_out_integers(sen_loader *loader, sen_integer_network **placed);

#endif
