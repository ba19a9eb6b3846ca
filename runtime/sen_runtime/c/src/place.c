/* Where the matrices of an operator lie, in which order, and the product that reads them. */
#include "internal.h"

const void *sen_keep(sen_loader *loader, const sen_tensor *tensor)
{
    const uint32_t width = sen_width(tensor->dtype);
    void *copy;
    if (!tensor->data || !(loader->flags & SEN_PACK))
        return tensor->data;
    copy = sen_take(&loader->arena, tensor->count, width);
    return copy ? memcpy(copy, tensor->data, (size_t)(tensor->count * width)) : tensor->data;
}

/* Keeps the values of a matrix, unless they were rearranged, and its scale. */
static void keep_matrix(sen_loader *loader, const sen_tensor *data, const sen_tensor *scale, sen_weights *w)
{
    if (w->values == data->data)
        w->values = sen_keep(loader, data);
    if (w->scale)
        w->scale = sen_keep(loader, scale);
}

static void set_matrix(sen_weights *w, const sen_tensor *data, const sen_tensor *scale, uint32_t rows, uint32_t columns)
{
    memset(w, 0, sizeof *w);
    w->rows = rows;
    w->columns = columns;
    w->dtype = data->dtype;
    w->values = data->data;
    w->scale = scale->data;
    w->scale_step = scale->data && scale->shape[0] > 1;
}

static void set_coordinates(const sen_operator_record *record, const sen_tensor *tensors, sen_weights *w)
{
    memset(w, 0, sizeof *w);
    w->rows = record->n_out;
    w->columns = record->n_in;
    w->dtype = tensors[0].dtype;
    w->values = tensors[0].data;
    w->target = tensors[1].data;
    w->mask = tensors[2].data;
    w->target_dtype = tensors[1].dtype;
    w->mask_dtype = tensors[2].dtype;
    w->dimensions = tensors[0].shape[1];
    w->gain = record->scalars[0];
    w->exponent = record->scalars[1];
    w->min_distance = record->scalars[2];
    w->max_distance = record->scalars[3];
}

void sen_set_operator(const sen_image *image, const sen_operator_record *record, sen_weights *w)
{
    sen_tensor tensors[4];
    uint32_t i;
    for (i = 0; i < 4; i++)
        tensors[i] = sen_image_tensor(image, record->tensors[i]);
    if (record->kind == SEN_COORDINATES) {
        set_coordinates(record, tensors, w);
    } else if (record->kind == SEN_SPARSE) {
        set_matrix(w, &tensors[0], &tensors[3], record->n_out, record->n_in);
        w->indices = tensors[1].data;
        w->index_dtype = tensors[1].dtype;
        w->starts = tensors[2].data;
        w->block_rows = record->block[0];
        w->block_columns = record->block[1];
    } else if (record->kind == SEN_LOW_RANK) {
        set_matrix(&w[0], &tensors[1], &tensors[3], tensors[1].shape[0], record->n_in);
        set_matrix(&w[1], &tensors[0], &tensors[2], record->n_out, tensors[1].shape[0]);
    } else {
        set_matrix(w, &tensors[0], &tensors[record->kind == SEN_INT4 ? 2 : 1], record->n_out, record->n_in);
        w->indices = record->kind == SEN_INT4 ? tensors[1].data : NULL;
    }
}

/* int4 weights as int8 in the arena, row by row. */
static void widen(sen_loader *loader, sen_weights *w)
{
    int8_t *const values = sen_take(&loader->arena, (uint64_t)w->rows * w->columns, 1);
    uint32_t row, column;
    for (row = 0; values && row < w->rows; row++)
        for (column = 0; column < w->columns; column++)
            values[(size_t)row * w->columns + column] = sen_int8_at(w, row, column);
    w->dtype = SEN_INT8;
    w->values = values;
    w->indices = NULL;
}

/* Chooses the product of dense weights that set_matrix has set; those of int4 become int8, or panels. */
static sen_status place_dense(
    sen_loader *loader, const sen_tensor *data, const sen_tensor *scale, int meets_spikes, sen_weights *w)
{
    const sen_isa *isa = loader->isa;
    const int is_packed = (loader->flags & SEN_PACK) != 0;
    const int is_int8 = (w->dtype == SEN_INT8 || w->dtype == SEN_UINT8) && !meets_spikes && w->columns <= SEN_MAX_INT8_COLUMNS;
    if (w->dtype == SEN_UINT8 && !(is_packed && (isa->quads || !is_int8)))
        widen(loader, w);
    if (is_int8) {
        w->uses = SEN_USES_INT8;
        w->multiply = isa->dense_int8;
        if (is_packed && isa->quads)
            sen_to_quads(loader, w);
    } else if (is_packed) {
        return sen_to_panels(loader, w);
    } else if (meets_spikes) {
        w->uses = SEN_USES_EVENTS;
        w->multiply = sen_dense_events;
    } else {
        w->multiply = w->dtype == SEN_FLOAT32 ? isa->dense_f32
            : w->dtype == SEN_FLOAT16         ? isa->dense_f16
                                              : sen_dense_reference;
    }
    keep_matrix(loader, data, scale, w);
    return SEN_OK;
}

static sen_multiply *sparse_kernel(const sen_isa *isa, const sen_weights *w, int is_int8)
{
    sen_multiply *kernel = NULL;
#define SEN_CHOOSE_KERNEL(type, height, width, member, portable)                                                           \
    if (w->dtype == (type) && w->block_rows == (height) && w->block_columns == (width))                                    \
        kernel = isa->member;
    if (w->index_dtype == SEN_UINT16 && w->columns % w->block_columns == 0 && (is_int8 || w->dtype != SEN_INT8)) {
        SEN_SPARSE_KERNELS(SEN_CHOOSE_KERNEL)
    }
    if (kernel)
        return kernel;
    return is_int8 ? sen_sparse_int8_reference : sen_sparse_reference;
}

/* The product by source of matrices with this type and block, or null. */
static const sen_source_kernel *find_source_kernel(const sen_isa *isa, const sen_weights *w, int is_int8)
{
    const sen_source_kernel *kernel = isa->sources, *const end = kernel + SEN_SOURCE_KERNELS;
    for (; kernel != end; kernel++)
        if (kernel->multiply && w->dtype == kernel->dtype && w->block_rows == kernel->block_rows
            && w->block_columns == kernel->block_columns && w->columns % w->block_columns == 0
            && is_int8 == (w->dtype == SEN_INT8))
            return kernel;
    return NULL;
}

/* Product of weights by source, or null where other forms are faster. Single weights that meet spikes have one always. */
static sen_multiply *source_kernel(const sen_loader *loader, const sen_weights *w, uint32_t blocks, int meets_spikes)
{
    const sen_isa *isa = loader->isa;
    const int is_int8 = (w->uses & SEN_USES_INT8) != 0, is_packed = (loader->flags & SEN_PACK) != 0;
    const uint64_t elements = (uint64_t)w->rows * w->columns, bytes = elements * (is_int8 ? 1 : sizeof(float));
    const uint64_t weights = (uint64_t)blocks * w->block_columns;
    const int is_spiking = meets_spikes && w->block_rows == 1 && w->block_columns == 1;
    const sen_source_kernel *const kernel = find_source_kernel(isa, w, is_int8);
    if (w->index_dtype != SEN_UINT16 || (w->rows - 1) / w->block_rows > UINT16_MAX)
        return NULL;
    if (!kernel)
        return is_spiking ? sen_source_reference : NULL;
    if (is_packed && !is_spiking && bytes <= isa->max_scattered && elements <= weights * kernel->max_spread)
        return NULL;
    return kernel->multiply;
}

/* Keeps blocks row by row too, if batches are faster so. `w` is the matrix as one row multiplies it. */
static void keep_by_row(
    sen_loader *loader, const sen_weights *blocks, const sen_tensor *tensors, int is_scattered, sen_weights *w)
{
    const int is_int8 = (blocks->uses & SEN_USES_INT8) != 0;
    const sen_source_kernel *form = find_source_kernel(loader->isa, blocks, is_int8);
    /* the sums of a row take as long as twelve weights */
    const uint64_t elements = (uint64_t)w->rows * w->columns, weights = tensors[0].count + 12 * (uint64_t)w->rows;
    sen_by_row *by_row, kept;
    if (!form)
        return;
    kept.weights = *blocks;
    kept.min_percent = (uint32_t)(
        is_scattered ? form->rows_percent * weights / elements : form->rows_percent / sen_larger(form->max_spread, 1));
    if (kept.min_percent >= 90)
        return;
    kept.weights.multiply = sparse_kernel(loader->isa, blocks, is_int8);
    kept.weights.values = sen_keep(loader, &tensors[0]);
    kept.weights.indices = sen_keep(loader, &tensors[1]);
    kept.weights.starts = sen_keep(loader, &tensors[2]);
    kept.weights.scale = w->scale;
    by_row = sen_take(&loader->arena, 1, sizeof *by_row);
    loader->turned = sen_larger(loader->turned, (w->columns + 15) / 16 * 16);
    if (by_row)
        *by_row = kept;
    w->by_row = by_row;
}

/* Multiplies weights by source with a kernel, or with the reference. */
static void set_source_kernel(sen_loader *loader, sen_weights *w, sen_multiply *kernel)
{
    const int is_int8 = (w->uses & SEN_USES_INT8) != 0 && kernel != sen_source_reference;
    const uint64_t needed = ((uint64_t)w->columns + 63) / 64 * 64 + ((uint64_t)w->rows + 15) / 16 * 64;
    w->multiply = kernel ? kernel : is_int8 ? sen_source_int8_reference : sen_source_reference;
    w->uses = !is_int8 ? SEN_USES_EVENTS : kernel ? SEN_USES_INT8 | SEN_USES_GROUPS : SEN_USES_INT8;
    if (is_int8 && needed > UINT32_MAX / 4) /* SEN_QUANTIZED_BYTES of it must fit size_t */
        loader->arena.overflows = 1;
    else if (is_int8) /* sums behind the quantized inputs */
        loader->quantized = sen_larger(loader->quantized, (uint32_t)needed);
}

static void place_sparse(
    sen_loader *loader, const sen_operator_record *record, const sen_tensor *tensors, int meets_spikes, sen_weights *w)
{
    const sen_isa *isa = loader->isa;
    const sen_tensor *values = &tensors[0], *indices = &tensors[1], *starts = &tensors[2], *scale = &tensors[3];
    const int is_int8 = values->dtype == SEN_INT8 && record->n_in <= SEN_MAX_INT8_COLUMNS;
    const int is_single = record->block[0] == 1 && record->block[1] == 1, is_by_row = record->order == SEN_BY_ROW;
    const int is_packed = (loader->flags & SEN_PACK) != 0 && indices->dtype == SEN_UINT16;
    const int has_slices = is_int8 ? isa->slices_int8 != NULL : values->dtype == SEN_FLOAT32 && isa->slices_f32 != NULL;
    const uint32_t tile = is_int8 ? 64 : 32;
    const int has_row_kernel = is_by_row && values->dtype == SEN_FLOAT32 && record->block[0] == 8 && record->block[1] == 1;
    sen_multiply *by_source;
    sen_weights blocks;
    w->uses = is_int8 ? SEN_USES_INT8 : 0;
    blocks = *w;
    by_source = is_packed || !is_by_row ? source_kernel(loader, w, values->shape[0], meets_spikes) : NULL;
    if (by_source && is_by_row) {
        sen_by_source(loader, w);
        set_source_kernel(loader, w, by_source);
    } else if (is_single && is_by_row && is_packed && has_slices && w->columns >= tile && w->columns <= UINT16_MAX) {
        sen_to_slices(loader, w);
    } else if (!by_source && is_packed && !has_row_kernel
               && (uint64_t)w->rows * w->columns * (is_int8 ? 1 : sizeof(float)) <= isa->max_scattered) {
        sen_scatter(loader, w, record->order);
    } else {
        if (is_by_row)
            w->multiply = sparse_kernel(isa, w, is_int8);
        else
            set_source_kernel(loader, w, by_source);
        w->indices = sen_keep(loader, indices);
        w->starts = sen_keep(loader, starts);
        blocks.multiply = w->multiply;
    }
    keep_matrix(loader, values, scale, w);
    if (is_by_row && !meets_spikes && !blocks.multiply)
        keep_by_row(loader, &blocks, tensors, !by_source, w);
}

/* Chooses the product of weights from positions. */
static sen_status place_coordinates(sen_loader *loader, const sen_tensor *tensors, sen_weights *w)
{
    if (!(loader->flags & SEN_ON_THE_FLY))
        return sen_to_panels(loader, w);
    w->multiply = sen_coordinates;
    if (loader->isa->coordinates && w->dimensions <= SEN_MAX_DIMENSIONS) {
        w->multiply = loader->isa->coordinates;
        w->uses = SEN_USES_EVENTS;
    }
    w->values = sen_keep(loader, &tensors[0]);
    w->target = sen_keep(loader, &tensors[1]);
    w->mask = sen_keep(loader, &tensors[2]);
    return SEN_OK;
}

sen_status sen_place_operator(
    sen_loader *loader, const sen_operator_record *record, int meets_spikes, sen_weights *w)
{
    sen_tensor tensors[4];
    sen_status status;
    uint32_t i;
    for (i = 0; i < 4; i++)
        tensors[i] = sen_image_tensor(loader->image, record->tensors[i]);
    sen_set_operator(loader->image, record, w);
    switch (record->kind) {
    case SEN_COORDINATES:
        return place_coordinates(loader, tensors, w);
    case SEN_DENSE:
        return place_dense(loader, &tensors[0], &tensors[1], meets_spikes, w);
    case SEN_INT4:
        return place_dense(loader, &tensors[0], &tensors[2], meets_spikes, w);
    case SEN_SPARSE:
        place_sparse(loader, record, tensors, meets_spikes, w);
        return SEN_OK;
    default:
        loader->inner = sen_larger(loader->inner, tensors[1].shape[0]);
        status = place_dense(loader, &tensors[1], &tensors[3], meets_spikes, &w[0]);
        if (status == SEN_OK) {
            status = place_dense(loader, &tensors[0], &tensors[2], 0, &w[1]);
            w[1].uses &= ~(uint32_t)SEN_USES_GROUPS; /* sums are hardly ever 0 */
        }
        return status;
    }
}
