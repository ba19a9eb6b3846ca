/* Weights copied into the arena, in the order that kernels like best; and the arena. */
#include "int4.h"
#include "internal.h"

void *sen_take(sen_arena *arena, uint64_t count, uint64_t size)
{
    const uint64_t start = arena->used;
    if (count > (UINT64_MAX / 4) / size || start > UINT64_MAX / 4) {
        arena->overflows = 1;
        return NULL;
    }
    arena->used = (start + count * size + SEN_ALIGNMENT - 1) / SEN_ALIGNMENT * SEN_ALIGNMENT;
    if (arena->used > arena->size || arena->used / sizeof(float) > UINT32_MAX)
        arena->overflows = 1;
    return arena->base && !arena->overflows ? arena->base + (size_t)start : NULL;
}

/* Rows in all panels of `rows` rows. */
static uint64_t panel_rows(uint64_t rows)
{
    return (rows + 15) / 16 * 16;
}

int8_t sen_int8_at(const sen_weights *w, uint32_t row, uint32_t column)
{
    if (w->dtype == SEN_UINT8)
        return sen_int4_weight(w->values, w->indices, w->columns, row, column);
    return ((const int8_t *)w->values)[(size_t)row * w->columns + column];
}

float sen_weight_at(const sen_weights *w, uint32_t row, uint32_t column)
{
    if (row >= w->rows)
        return 0;
    if (w->target)
        return sen_weight(w, row, column);
    if (w->dtype == SEN_UINT8)
        return sen_scale(w, row) * sen_int8_at(w, row, column);
    return sen_scale(w, row) * sen_value(w->values, w->dtype, (size_t)row * w->columns + column);
}

/* Dense weights, or those of positions, in panels of float32. */
sen_status sen_to_panels(sen_loader *loader, sen_weights *w)
{
    const uint64_t count = panel_rows(w->rows) * w->columns;
    float *const panels = sen_take(&loader->arena, count, sizeof(float));
    const int is_fast = w->target && loader->isa->coordinate_panels && w->dimensions <= SEN_MAX_DIMENSIONS;
    float *to = panels;
    uint32_t first, i, j;
    w->uses = SEN_USES_EVENTS;
    w->multiply = loader->isa->panels;
    if (panels && is_fast)
        loader->isa->coordinate_panels(w, panels);
    for (first = 0; panels && !is_fast && first < w->rows; first += SEN_PANEL) {
        const uint32_t width = sen_panel_width(w->rows, first);
        for (j = 0; j < w->columns; j++)
            for (i = first; i < first + width; i++)
                *to++ = sen_weight_at(w, i, j);
    }
    if (panels && !loader->isa->is_finite(panels, (size_t)count)) /* infinite, or 0 / 0 */
        return w->target ? SEN_COINCIDENT : SEN_VALUES;
    w->values = panels;
    w->dtype = SEN_FLOAT32;
    w->scale = NULL;
    return SEN_OK;
}

/* int8 weights in panels, a group of columns of every row together: see sen_quads. */
void sen_to_quads(sen_loader *loader, sen_weights *w)
{
    const uint32_t size = loader->isa->group, groups = w->columns / size + (w->columns % size != 0);
    uint8_t *const quads = sen_take(&loader->arena, panel_rows(w->rows) * groups, size);
    uint8_t *to = quads;
    const int offset = (int)loader->isa->offset;
    uint32_t first, group, i, k;
    for (first = 0; quads && first < w->rows; first += SEN_PANEL)
        for (group = 0; group < groups; group++)
            for (i = first; i < first + sen_panel_width(w->rows, first); i++)
                for (k = size * group; k < size * group + size; k++)
                    *to++ = (uint8_t)(offset + (i < w->rows && k < w->columns ? sen_int8_at(w, i, k) : 0));
    w->multiply = loader->isa->quads;
    w->dtype = SEN_INT8;
    w->uses = loader->isa->quads_use;
    w->values = quads;
}

/* Place of a weight in panels with `group` columns of a row next to each other. */
static size_t panel_place(const sen_weights *w, uint32_t row, uint32_t column, uint32_t group)
{
    const uint32_t first = row / SEN_PANEL * SEN_PANEL, width = sen_panel_width(w->rows, first);
    const size_t columns = ((size_t)w->columns + group - 1) / group * group;
    return first * columns + ((size_t)(column / group) * width + (row - first)) * group + column % group;
}

/* Sparse weights, with the zeros between them, in panels of float32 or int8. */
void sen_scatter(sen_loader *loader, sen_weights *w, uint32_t order)
{
    const uint32_t lines = order == SEN_BY_SOURCE ? (w->columns - 1) / w->block_columns + 1 : (w->rows - 1) / w->block_rows + 1;
    const int is_int8 = (w->uses & SEN_USES_INT8) != 0;
    const uint32_t group = is_int8 ? loader->isa->group : 1, size = is_int8 ? 1 : sizeof(float);
    const uint64_t count = panel_rows(w->rows) * (((uint64_t)w->columns + group - 1) / group * group);
    void *const panels = sen_take(&loader->arena, count, size);
    const uint16_t *indices = w->indices;
    uint32_t line, i, j;
    int32_t at;
    if (panels)
        memset(panels, 0, (size_t)count * size);
    for (line = 0; panels && line < lines; line++)
        for (at = w->starts[line]; at < w->starts[line + 1]; at++) {
            const uint32_t row = w->block_rows * (order == SEN_BY_SOURCE ? indices[at] : line);
            const uint32_t column = w->block_columns * (order == SEN_BY_SOURCE ? line : indices[at]);
            /* a block at an edge may exceed the matrix */
            for (i = 0; i < w->block_rows && row + i < w->rows; i++)
                for (j = 0; j < w->block_columns && column + j < w->columns; j++) {
                    const size_t value = ((size_t)at * w->block_rows + i) * w->block_columns + j;
                    const size_t place = panel_place(w, row + i, column + j, group);
                    if (is_int8)
                        ((int8_t *)panels)[place] = ((const int8_t *)w->values)[value];
                    else
                        ((float *)panels)[place] = sen_scale(w, row + i) * sen_value(w->values, w->dtype, value);
                }
        }
    w->multiply = is_int8 ? loader->isa->quads : loader->isa->panels;
    w->uses = is_int8 ? loader->isa->quads_use : SEN_USES_EVENTS;
    w->values = panels;
    if (!is_int8) {
        w->dtype = SEN_FLOAT32;
        w->scale = NULL;
    }
}

/* Blocks by row in the order of source.c, in which an image may store them too. */
void sen_by_source(sen_loader *loader, sen_weights *w)
{
    const sen_weights from = *w;
    const uint32_t block_rows = (w->rows + w->block_rows - 1) / w->block_rows, sources = w->columns / w->block_columns;
    const uint32_t size = sen_width(w->dtype) * w->block_rows * w->block_columns;
    const uint32_t count = (uint32_t)from.starts[block_rows];
    const uint16_t *columns = from.indices;
    sen_arena *arena = &loader->arena;
    int32_t *starts = sen_take(arena, (uint64_t)sources + 1, sizeof *starts), at;
    uint16_t *rows = sen_take(arena, count, sizeof *rows);
    uint8_t *values = sen_take(arena, count, size);
    uint32_t row, j;
    w->starts = starts;
    w->indices = rows;
    w->values = values;
    if (!values)
        return;
    memset(starts, 0, ((size_t)sources + 1) * sizeof *starts);
    for (j = 0; j < count; j++)
        starts[columns[j] + 1]++;
    for (j = 0; j < sources; j++)
        starts[j + 1] += starts[j];
    for (row = 0; row < block_rows; row++)
        for (at = from.starts[row]; at < from.starts[row + 1]; at++) {
            const int32_t to = starts[columns[at]]++;
            rows[to] = (uint16_t)row;
            memcpy(values + (size_t)to * size, (const uint8_t *)from.values + (size_t)at * size, size);
        }
    for (j = sources; j > 0; j--) /* each start has moved to the next one's */
        starts[j] = starts[j - 1];
    starts[0] = 0;
}
