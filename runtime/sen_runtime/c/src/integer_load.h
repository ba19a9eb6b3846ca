/* How a network whose activations are int8 is laid out: its scales become fixed-point numbers. sen_runtime/integer.py computes the
 * same numbers. */
#ifndef SEN_INTEGER_LOAD_H
#define SEN_INTEGER_LOAD_H

#include "internal.h"

/* An int8 grid: real = scale * (stored - zero), stored is 0 to 255. */
typedef struct sen_grid {
    double scale;
    int32_t zero;
} sen_grid;

/* Matrix and bias of a product, and the grids of its input and output. */
typedef struct sen_integer_product {
    sen_tensor values, scale, bias, columns, starts; /* the last two of sparse weights, else null */
    sen_tensor steps; /* of int4 weights, else null */
    uint32_t rows, width, block_rows, block_columns;
    double bias_factor;
    sen_grid in, out;
    int32_t low;
} sen_integer_product;

/* Nearest integer, halves to even; a number below 2^51. */
SEN_INLINE double sen_round_even(double value)
{
    const double magic = 6755399441055744.0; /* 1.5 * 2^52 */
    volatile double shifted = value + magic;
    return shifted - magic;
}

/* Scales a positive number to [0.5, 1); returns the power of two that it is scaled back by. */
SEN_INLINE int32_t sen_normalize(double *ratio)
{
    int32_t power = 0;
    for (; *ratio >= 1; power++)
        *ratio *= 0.5;
    for (; *ratio < 0.5; power--)
        *ratio *= 2;
    return power;
}

/* integer_pack.c: a matrix in the storage of its product, and its fixed-point numbers. */
sen_status sen_place_integers(sen_loader *loader, const sen_integer_product *p, sen_integer_weights *w);

#endif
