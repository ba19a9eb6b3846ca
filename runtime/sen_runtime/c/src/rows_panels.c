/* Rows of a batch times dense weights in panels (panels.c; with dot products of NEON those of quads.c too), after Goto, van de
 * Geijn: Anatomy of High-Performance Matrix Multiplication (2008): a few rows times sixteen outputs or more have their sums in
 * registers, and a block of a panel's columns stays in the cache for all rows. A sum has one accumulator, so it depends on
 * nothing but its row. */
#include "network.h"

#ifdef SEN_ISA

#include "vector.h"

/* Columns of a block: 64 KiB of weights. */
#define BLOCK 256u

/* Some outputs of the columns of a block, `width` floats apart; `next` of those to fetch meanwhile, `step` floats apart. */
typedef struct columns {
    const float *w, *next;
    size_t width, step;
    uint32_t n;
} columns;

#ifdef __ARM_NEON

/* Outputs times rows are sums in all registers but those of a column's weights and of four inputs of each row. */
#ifdef __aarch64__
#define MAX_ROWS 5u
#define AT_ONCE 16u /* outputs */
#else
#define MAX_ROWS 4u
#define AT_ONCE 8u
#endif
#define VECTORS ((int)AT_ONCE / 4)

/* Four weights of int8 and a group of inputs lie where a float does. */
#ifdef __ARM_FEATURE_DOTPROD
#define BYTES(value) vreinterpretq_s8_f32(value)
#define ADD_LANE(sum, a, b, lane)                                                                                          \
    (is_int8 ? vreinterpretq_f32_s32(vdotq_laneq_s32(vreinterpretq_s32_f32(sum), BYTES(a), BYTES(b), lane))                \
             : add_lane(sum, a, b, lane))
#else
#define ADD_LANE add_lane
#endif

/* The weights of a column, in one instruction; `from` moves to the next. */
static inline void load_column(const float **from, size_t stride, float32x4_t *weight)
{
#ifdef __aarch64__
    register float32x4_t a __asm__("v0"), b __asm__("v1"), c __asm__("v2"), d __asm__("v3");
    __asm__ volatile("ld1 {v0.4s-v3.4s}, [%4], %5"
                     : "=w"(a), "=w"(b), "=w"(c), "=w"(d), "+r"(*from)
                     : "r"(stride), "m"(*(const float(*)[16])*from));
    weight[2] = c;
    weight[3] = d;
#else
    register float32x4_t a __asm__("q0"), b __asm__("q1");
    __asm__ volatile("vld1.32 {d0-d3}, [%2], %3"
                     : "=w"(a), "=w"(b), "+r"(*from)
                     : "r"(stride), "m"(*(const float(*)[8])*from));
#endif
    weight[0] = a;
    weight[1] = b;
}

#define ADD_COLUMN(lane)                                                                                                   \
    do {                                                                                                                   \
        float32x4_t weight[VECTORS];                                                                                       \
        load_column(&w, stride, weight);                                                                                   \
        for (r = 0; r < rows; r++)                                                                                         \
            for (k = 0; k < VECTORS; k++)                                                                                  \
                sum[r][k] = ADD_LANE(sum[r][k], weight[k], value[r], lane);                                                \
        for (r = 0; r < rows; r++)                                                                                         \
            for (k = 0; k < VECTORS; k++)                                                                                  \
                __asm__ volatile("" : : "w"(sum[r][k])); /* gcc 12 loads the next column before, and spills */             \
    } while (0)

/* sums [rows][AT_ONCE] += columns times the rows' inputs. */
static inline __attribute__((always_inline)) void add_tile(
    const columns *of, const float *const *x, float *sums, const int rows, const int parts, const int is_int8)
{
    const float *w = of->w;
    const size_t stride = of->width * sizeof *w;
    const float *const end = x[0] + of->n, *const whole = end - of->n % 4;
    float32x4_t sum[MAX_ROWS][VECTORS], value[MAX_ROWS];
    const float *from[MAX_ROWS] = {x[0]};
    int r, k;
    (void)parts;
    (void)is_int8;
    for (r = 0; r < rows; r++) {
        from[r] = x[r];
        for (k = 0; k < VECTORS; k++)
            sum[r][k] = vld1q_f32(sums + r * (int)SEN_PANEL + 4 * k);
    }
    while (from[0] != whole) {
        for (r = 0; r < rows; r++) {
            value[r] = vld1q_f32(from[r]);
            from[r] += 4;
        }
        ADD_COLUMN(0);
        ADD_COLUMN(1);
        ADD_COLUMN(2);
        ADD_COLUMN(3);
    }
    while (from[0] != end) {
        for (r = 0; r < rows; r++)
            value[r] = vld1q_dup_f32(from[r]++);
        ADD_COLUMN(0);
    }
    for (r = 0; r < rows; r++)
        for (k = 0; k < VECTORS; k++)
            vst1q_f32(sums + r * (int)SEN_PANEL + 4 * k, sum[r][k]);
}

#else

#ifdef __AVX512F__
#define MAX_ROWS 8u
#define AT_ONCE 32u
#else
#define MAX_ROWS 6u
#define AT_ONCE 16u
#endif

/* gcc keeps arrays in memory around loops that it unrolls by itself. */
#ifdef __clang__
#define UNROLL
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

/* sums [rows][parts] += columns times the rows' inputs. */
static inline __attribute__((always_inline)) void add_tile(
    const columns *of, const float *const *x, float *sums, const int rows, const int parts, const int is_int8)
{
    const float *w = of->w, *next = of->next;
    const size_t width = of->width, step = of->step;
    const uint32_t n = of->n;
    part sum[MAX_ROWS][AT_ONCE / PART];
    const float *from[MAX_ROWS];
    uint32_t j;
    int r, k;
    (void)is_int8;
    UNROLL for (r = 0; r < rows; r++) {
        from[r] = x[r];
        UNROLL for (k = 0; k < parts; k++)
            sum[r][k] = load_part(sums + r * (int)SEN_PANEL + k * (int)PART);
    }
    for (j = 0; j < n; j++, w += width, next += step) {
        part weight[AT_ONCE / PART];
        __builtin_prefetch(next, 0, 2);
        UNROLL for (k = 0; k < parts; k++)
            weight[k] = load_part(w + k * (int)PART);
        UNROLL for (r = 0; r < rows; r++)
            UNROLL for (k = 0; k < parts; k++)
                sum[r][k] += weight[k] * from[r][j];
    }
    UNROLL for (r = 0; r < rows; r++)
        UNROLL for (k = 0; k < parts; k++)
            memcpy(sums + r * (int)SEN_PANEL + k * (int)PART, &sum[r][k], sizeof sum[r][k]);
}

#endif

#define CASE(rows)                                                                                                         \
    case rows:                                                                                                             \
        if (AT_ONCE <= LANES || has_all)                                                                                   \
            add_tile(of, x, sums, rows, AT_ONCE / PART, is_int8);                                                          \
        else                                                                                                               \
            add_tile(of, x, sums, rows, LANES / PART, is_int8);                                                            \
        break;

/* The same for up to MAX_ROWS rows, and AT_ONCE or sixteen outputs. */
static inline __attribute__((always_inline)) void add_rows(
    const columns *of, const float *const *x, float *sums, uint32_t rows, int has_all, const int is_int8)
{
    (void)has_all;
    switch (rows) {
        CASE(1)
        CASE(2)
        CASE(3)
        CASE(4)
#ifndef __arm__
        CASE(5)
#endif
#ifndef __ARM_NEON
        CASE(6)
#endif
#ifdef __AVX512F__
        CASE(7)
        CASE(8)
#endif
    }
}

/* sums [count][SEN_PANEL] += a block of `n` columns of `width` outputs times rows `x`; the next block lies `ahead`. */
static inline __attribute__((always_inline)) void add_block(
    const float *w, uint32_t width, uint32_t n, size_t ahead, const float *const *x, float *sums, uint32_t count,
    const int is_int8)
{
    const uint32_t tiles = (count + MAX_ROWS - 1) / MAX_ROWS;
    uint32_t k, tile, r = 0;
    for (tile = 0; tile < tiles; tile++) {
        const uint32_t end = count * (tile + 1) / tiles;
        const float *next = w + ahead + (size_t)n * width * tile / tiles; /* each tile fetches its share */
        for (k = 0; k < width; k += width - k < AT_ONCE ? LANES : AT_ONCE) {
            const columns of = {w + k, next + k, width, width / tiles, n};
            add_rows(&of, x + r, sums + (size_t)r * SEN_PANEL + k, end - r, width - k >= AT_ONCE, is_int8);
        }
        r = end;
    }
}

/* Inputs of int8 are groups. */
static inline __attribute__((always_inline)) void multiply_rows(
    const sen_weights *w, const sen_rows *rows, uint32_t inputs, const int is_int8)
{
    float sums[SEN_TILE_ROWS * SEN_PANEL] __attribute__((aligned(64)));
    const float *x[SEN_TILE_ROWS], *panel = w->values;
    const uint32_t blocks = (inputs + BLOCK - 1) / BLOCK, length = (inputs + blocks - 1) / blocks;
    uint32_t first, j, r;
    for (first = 0; first < w->rows; first += SEN_PANEL) {
        const uint32_t width = sen_panel_width(w->rows, first), kept = w->rows - first < width ? w->rows - first : width;
        memset(sums, 0, rows->count * SEN_PANEL * sizeof *sums);
        for (j = 0; j < inputs; j += length) {
            const uint32_t n = inputs - j < length ? inputs - j : length;
            const int is_last = j + n == inputs && first + kept == w->rows;
            for (r = 0; r < rows->count; r++)
                x[r] = (const float *)(is_int8 ? rows->x[r].quantized : rows->x[r].values) + j;
            add_block(panel + (size_t)j * width, width, n, is_last ? 0 : (size_t)n * width, x, sums, rows->count, is_int8);
        }
        for (r = 0; r < rows->count; r++) {
            const float *const of_row = sums + (size_t)r * SEN_PANEL, *const addend = rows->addend[r];
#ifdef __ARM_FEATURE_DOTPROD
            if (is_int8) {
                SEN_NAME(sen_finish_rows_int8)(w, rows, r, first, kept, (const int32_t *)(const void *)of_row);
                continue;
            }
#endif
            finish_rows(of_row, kept, addend ? addend + first : NULL, rows->is_relu, rows->y[r] + first);
        }
        panel += (size_t)inputs * width;
    }
}

void SEN_NAME(sen_panels_rows)(const sen_weights *w, const sen_rows *rows)
{
    multiply_rows(w, rows, w->columns, 0);
}

/* Share of inputs that are not 0 below which the product of one row, which skips zeros, is faster: measured with AVX2, counted
 * on NEON. */
#if defined(__ARM_NEON)
#define MIN_PERCENT 80
#elif defined(__AVX512F__)
#define MIN_PERCENT 15
#else
#define MIN_PERCENT 30
#endif

int SEN_NAME(sen_panels_alone)(const sen_weights *w, const float *x)
{
    return has_fewer(x, w->columns, MIN_PERCENT);
}

/* On NEON, sums of one row are the same; counted. Elsewhere they would be rounded otherwise. */
uint32_t SEN_NAME(sen_panels_together)(const sen_weights *w, uint32_t count)
{
#ifdef __ARM_NEON
    const uint32_t min_rows = SEN_PANEL > 32 ? 2 : 4;
#else
    const uint32_t min_rows = 1;
#endif
    (void)w;
    return count < min_rows ? 0 : count;
}

#ifdef __ARM_FEATURE_DOTPROD

void SEN_NAME(sen_quads_rows)(const sen_weights *w, const sen_rows *rows)
{
    multiply_rows(w, rows, (w->columns + SEN_GROUP - 1) / SEN_GROUP, 1);
}

/* Sums of short products are not worth their loads and stores. */
uint32_t SEN_NAME(sen_quads_together)(const sen_weights *w, uint32_t count)
{
    return count < 4 || w->columns < 64 ? 0 : count;
}

#endif

#endif
