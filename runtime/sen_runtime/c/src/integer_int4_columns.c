/* Int4 weights for microcontrollers: eight rows of a column in a word, one column after the other, and eight rows after the other.
 * Columns of inputs that are 0 are skipped. sen_integer_int4 computes the same. */
#include "integer_sums.h"

/* export: sen_integer_int4_columns, needs integer_sums, int4_groups */
/* Rows of a word; inputs whose products with numbers of 4 bits add up within 16 bits. */
#define INT4_ROWS 8u
#define INT4_CHUNK 16u

/* Inputs other than 0, in chunks of one group of columns: count, group, eight times their sum, columns. A count of 0 ends them. */
static void list_inputs(const uint8_t *x, uint32_t columns, uint16_t *to)
{
    uint32_t j = 0;
    while (j < columns) {
        const uint32_t group = j / SEN_INT4_GROUP;
        uint32_t count = 0, sum = 0;
        for (; count < INT4_CHUNK && j < columns && j / SEN_INT4_GROUP == group; j++) {
            if (x[j] != 0) {
                to[3 + count++] = (uint16_t)j;
                sum += x[j];
            }
        }
        to[0] = (uint16_t)count;
        to[1] = (uint16_t)group;
        to[2] = (uint16_t)(8 * sum);
        to += count > 0 ? 3 + count : 0;
    }
    to[0] = 0;
}

/* Adds a group's part of the sums of two rows: 16 bits of each. */
SEN_INLINE void add_parts(int32_t *sums, uint32_t parts, uint32_t steps, int32_t offset)
{
    sums[0] += ((int32_t)(parts & 0xFFFFu) - offset) * (int32_t)(steps & 15);
    sums[4] += ((int32_t)(parts >> 16) - offset) * (int32_t)(steps >> 16 & 15);
}

/* Adds the products of eight rows and the inputs of a chunk; returns its end. Parts have no sign, so that none carries into the
 * other one of its word. */
static const uint16_t *add_chunk(
    const SEN_FLASH uint32_t *words, const SEN_FLASH uint32_t *steps, const uint8_t *x, const uint16_t *chunk, int32_t *sums)
{
    uint32_t mask = 0x000F000Fu;
    const uint16_t *const end = chunk + 3 + chunk[0], *at;
    const int32_t offset = chunk[2];
    const uint32_t step = steps[chunk[1]];
    uint32_t a = 0, b = 0, c = 0, d = 0;
#if defined(__GNUC__) && defined(__thumb2__)
    __asm__("" : "+r"(mask)); /* in a register it is combined with the shift in one instruction */
#endif
    for (at = chunk + 3; at != end; at++) {
        const uint32_t word = words[*at], value = x[*at];
        a += (mask & word) * value;
        b += (mask & word >> 4) * value;
        c += (mask & word >> 8) * value;
        d += (mask & word >> 12) * value;
    }
    add_parts(sums, a, step, offset);
    add_parts(sums + 1, b, step >> 4, offset);
    add_parts(sums + 2, c, step >> 8, offset);
    add_parts(sums + 3, d, step >> 12, offset);
    return end;
}

/* Weights in words of eight rows: one for each column, and one of steps for each group of columns. The number of row k is bits
 * 4 k to 4 k + 3. `scratch` holds the sums of all rows, and list_inputs. */
SEN_PRIVATE void sen_integer_int4_columns(const sen_integer_weights *w, const uint8_t *x, void *scratch, uint8_t *y)
{
    const uint32_t groups = SEN_INT4_GROUPS(w->columns);
    const uint32_t rows = (w->rows + INT4_ROWS - 1) / INT4_ROWS * INT4_ROWS;
    const SEN_FLASH uint32_t *words = w->values, *steps = w->indices;
    int32_t *const sums = scratch, *sum = sums;
    uint16_t *const chunks = (uint16_t *)(void *)(sums + rows);
    sen_clear_sums((uint32_t *)sums, rows);
    list_inputs(x, w->columns, chunks);
    for (; sum != sums + rows; sum += INT4_ROWS, words += w->columns, steps += groups) {
        const uint16_t *chunk = chunks;
        while (chunk[0] != 0)
            chunk = add_chunk(words, steps, x, chunk, sum);
    }
    requantize_sums(w, sums, 0, y);
}
/* end */
