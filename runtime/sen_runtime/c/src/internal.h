/* What the library has besides a network that runs: images, and the choice of kernels. Nothing here is public. */
#ifndef SEN_INTERNAL_H
#define SEN_INTERNAL_H

#include "network.h"
#include "sen.h"

#define SEN_NONE 0xFFFFFFFFu
#define SEN_MAX_DEPTH 32u

/* Bytes of a value of this type, or 0 if there is no such type. */
static inline uint32_t sen_width(uint32_t dtype)
{
    static const uint8_t bytes[] = {0, 4, 2, 1, 4, 2};
    return dtype < sizeof bytes ? bytes[dtype] : 0;
}

/* The image's word for a reset to zero in the step of the spike, which computes the same as SEN_RESET_ZERO. */
enum { SEN_ZERO_WITHOUT_DELAY = 3 };

enum { SEN_COORDINATES, SEN_DENSE, SEN_SPARSE, SEN_LOW_RANK, SEN_SUM };

/* A tensor section of a checked image; `data` is null where a record names none. */
typedef struct sen_tensor {
    const void *data;
    uint32_t dtype, rank, shape[3];
} sen_tensor;

/* Records of an image. The program: */
typedef struct sen_program {
    uint32_t layers, operators, timesteps, is_spike_train, readout, n_in, n_out, reserved;
} sen_program;

/* A layer; `bias` is a section or SEN_NONE, `reset` SEN_RESET_... or SEN_ZERO_WITHOUT_DELAY. */
typedef struct sen_layer_record {
    uint32_t op, bias, neuron;
    float beta, threshold;
    uint32_t reset, reserved[2];
} sen_layer_record;

/* An operator. Sections of tensors by kind: Coordinates source, target, mask; Dense w, scale; Sparse values, columns,
 * row_starts, scale; LowRank left, right, their scales. */
typedef struct sen_operator_record {
    uint32_t kind, n_out, n_in, tensors[4], operands[2], block[2];
    float scalars[4]; /* gain, exponent, min_distance, max_distance */
    uint32_t reserved;
} sen_operator_record;

/* An image whose header, table and program were checked: every record can be read from it. */
typedef struct sen_image {
    const uint8_t *bytes;
    uint32_t sections;
    const sen_program *program;
    const sen_layer_record *layers;
    const sen_operator_record *operators;
} sen_image;

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

/* Products of one instruction set. Null: sparse matrices take the reference, and weights are not rearranged into quads or
 * slices. */
typedef struct sen_isa {
    sen_kernels kernels;
    sen_multiply *dense_f32, *dense_f16, *dense_int8, *panels, *quads, *slices_f32, *slices_int8;
    SEN_SPARSE_KERNELS(SEN_SPARSE_MEMBER)
} sen_isa;

/* isa.c: the reference kernels, and the fastest ones of this processor. */
extern const sen_isa sen_isa_reference;
const sen_isa *sen_choose_isa(unsigned flags);

/* slices.c: steps that rearranged weights take, and the weights rearranged; `sums` is null for floats. */
#define SEN_LANES 16u
uint32_t sen_slice_steps(const sen_weights *w);
void sen_slice(sen_weights *w, uint16_t *tiles, uint8_t *indices, void *values, int32_t *starts, int32_t *sums);

/* A model in its arena. */
struct sen_model {
    sen_network network;
    float *work;
    int allows_nonfinite;
};

/* Hands out at most `size` bytes of memory, or only counts them where `base` is null. */
typedef struct sen_arena {
    uint8_t *base;
    uint64_t size, used;
    int overflows;
} sen_arena;

/* Where an image is being laid out, how, and the widest input that products use in each form. */
typedef struct sen_loader {
    sen_arena arena;
    const sen_image *image;
    const sen_isa *isa;
    unsigned flags;
    uint32_t quantized, events, inner;
} sen_loader;

/* pack.c: `count` times `size` bytes of the arena, at a multiple of SEN_ALIGNMENT. The others rearrange weights and choose
 * their product: dense ones, or those of positions, into panels of float32; int8 ones into panels of four columns; single
 * weights into slices, or by source. */
void *sen_take(sen_arena *arena, uint64_t count, uint64_t size);
sen_status sen_to_panels(sen_loader *loader, sen_weights *w);
void sen_to_quads(sen_loader *loader, sen_weights *w);
void sen_to_slices(sen_loader *loader, sen_weights *w);
void sen_by_source(sen_loader *loader, sen_weights *w);

#endif
