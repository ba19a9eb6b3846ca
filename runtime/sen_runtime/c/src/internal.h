/* What the library's files share. Nothing here is public. */
#ifndef SEN_INTERNAL_H
#define SEN_INTERNAL_H

#include "sen.h"

#define SEN_NONE 0xFFFFFFFFu
#define SEN_MAX_DEPTH 32u

enum { SEN_FLOAT32 = 1, SEN_FLOAT16 = 2, SEN_INT8 = 3, SEN_INT32 = 4 };
enum { SEN_COORDINATES, SEN_DENSE, SEN_SPARSE, SEN_LOW_RANK, SEN_SUM };
enum { SEN_IDENTITY, SEN_RELU, SEN_LIF, SEN_LEAKY_INTEGRATOR };
enum { SEN_MEAN_MEMBRANE, SEN_LAST_MEMBRANE, SEN_SPIKE_COUNT };

/* A tensor section of a checked image; `data` is null where a record names none. */
typedef struct sen_tensor {
    const void *data;
    uint32_t dtype, rank, shape[3];
} sen_tensor;

/* The program's head. */
typedef struct sen_program {
    uint32_t layers, operators, timesteps, is_spike_train, readout, n_in, n_out;
} sen_program;

/* A layer's record. */
typedef struct sen_layer_record {
    uint32_t op, neuron, resets_to_zero;
    float beta, threshold;
    sen_tensor bias;
} sen_layer_record;

/* An operator's record. Tensors by kind: Coordinates source, target, mask; Dense w, scale; Sparse values, columns,
 * row_starts, scale; LowRank left, right, their scales. */
typedef struct sen_operator_record {
    uint32_t kind, n_out, n_in, operands[2], block[2];
    float scalars[3]; /* gain, exponent, min_distance */
    sen_tensor tensors[4];
} sen_operator_record;

/* An image whose header, table and program were checked: every record can be read from it. */
typedef struct sen_image {
    const uint8_t *bytes;
    uint32_t sections;
    const uint8_t *layer_records, *operator_records;
    sen_program program;
} sen_image;

/* image.c */
sen_status sen_image_open(sen_image *image, const void *bytes, size_t size, unsigned flags);
void sen_image_layer(const sen_image *image, uint32_t index, sen_layer_record *layer);
void sen_image_operator(const sen_image *image, uint32_t index, sen_operator_record *record);

/* A matrix `[rows, columns]` as it is stored, row by row. */
typedef struct sen_matrix {
    const void *data;
    const float *scale;  /* of int8, else null */
    uint32_t scale_step; /* 1 where every row has its own scale, else 0 */
    uint32_t dtype, rows, columns;
} sen_matrix;

/* What the stored values of a row are multiplied with. */
static inline float sen_scale(const sen_matrix *w, uint32_t row)
{
    return w->scale ? w->scale[(size_t)row * w->scale_step] : 1.0f;
}

/* Blocks of `block_rows` x `block_columns` values, row of blocks by row of blocks. */
typedef struct sen_blocks {
    sen_matrix values; /* a block in each row; `scale` counts rows of the whole matrix */
    const int32_t *columns, *starts;
    uint32_t rows, columns_in, block_rows, block_columns;
} sen_blocks;

/* A float32 matrix in the order that fast kernels like: SEN_PANEL rows (the last time fewer) of every column, one column
 * after the other. A row of zeros fills up a panel to a multiple of 16. */
#define SEN_PANEL 64u
typedef struct sen_panels {
    const float *data; /* null where there is none */
    uint32_t rows, columns;
} sen_panels;

static inline uint32_t sen_panel_width(uint32_t rows, uint32_t first)
{
    return rows - first >= SEN_PANEL ? SEN_PANEL : (rows - first + 15u) / 16u * 16u;
}

/* A weight operator, ready to run. */
typedef struct sen_operator sen_operator;
struct sen_operator {
    uint32_t kind, n_out, n_in;
    sen_matrix left, right;    /* Dense: left. LowRank: both. */
    sen_blocks blocks;         /* Sparse */
    const sen_operator *a, *b; /* Sum */
    sen_panels left_panels, right_panels; /* the same weights, packed, where they were; Coordinates: left */
};

/* Parameters of Lif neurons. */
typedef struct sen_lif {
    float beta, threshold;
    uint32_t resets_to_zero;
} sen_lif;

/* The kernels of one instruction set. Products add to `y`. */
typedef struct sen_kernels_table {
    const char *name;
    void (*dense)(const sen_matrix *w, const float *x, float *y);
    /* Writes the indices of what is not 0, and up to 15 more words behind them; how many there are. */
    uint32_t (*nonzero)(const float *x, uint32_t n, uint32_t *events);
    /* The `count` columns `events` of packed weights, and no others: those whose input is not 0. */
    void (*panels)(const sen_panels *w, const float *x, const uint32_t *events, uint32_t count, float *y);
    void (*sparse)(const sen_blocks *w, const float *x, float *y);
    /* One step of `n` Lif neurons from their currents: new membranes, and spikes 0 or 1. */
    void (*integrate)(const sen_lif *neuron, uint32_t n, const float *current, float *membrane, float *spikes);
} sen_kernels_table;

extern const sen_kernels_table sen_kernels_plain;

/* dispatch.c: the fastest kernels of this processor. */
const sen_kernels_table *sen_choose_kernels(unsigned flags);

/* coordinates.c: weight of one synapse; not finite where two neurons coincide. */
float sen_weight(const sen_operator_record *op, uint32_t target, uint32_t source);

/* convert.c: value `index` of float32, float16 or int8 data, without its scale. */
float sen_value(const void *data, uint32_t dtype, size_t index);

#endif
