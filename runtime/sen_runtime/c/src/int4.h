/* Matrices of int4: a weight is a number of 4 bits less 8, times the step of 4 bits of its group of columns of the row. Rows are
 * bytes of two numbers each, the first in the low bits; so are the steps of a row. */
#ifndef SEN_INT4_H
#define SEN_INT4_H

#include "network.h"

/* export: int4_groups */
/* Columns of a group, and groups of a row. */
#define SEN_INT4_GROUP 64u
#define SEN_INT4_GROUPS(columns) ((columns) / SEN_INT4_GROUP + ((columns) % SEN_INT4_GROUP != 0))
/* end */

/* Bytes of `n` numbers of a row. */
#define SEN_INT4_BYTES(n) ((n) / 2 + (n) % 2)

/* Number `index` of a row. */
SEN_INLINE int32_t sen_nibble(const uint8_t *row, uint32_t index)
{
    return row[index / 2] >> 4 * (index % 2) & 15;
}

/* The weight in one place, in int8. */
SEN_INLINE int8_t sen_int4_weight(const uint8_t *weights, const uint8_t *steps, uint32_t columns, uint32_t row, uint32_t column)
{
    const uint32_t groups = SEN_INT4_GROUPS(columns);
    const int32_t number = sen_nibble(weights + (size_t)row * SEN_INT4_BYTES(columns), column);
    return (int8_t)((number - 8) * sen_nibble(steps + (size_t)row * SEN_INT4_BYTES(groups), column / SEN_INT4_GROUP));
}

#endif
