/* Runs every image of a file (a sequence of u32 length, bytes) in every way that the library has, and compares the outputs
 * with those of the reference kernels: within argv[2] of the greatest, which may be 0. Built by test_c_library.py with
 * sanitizers, and by test_cross.py for ARM. */
#define _POSIX_C_SOURCE 200112L
#include "sen.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *aligned(size_t size)
{
    /* exactly as long as asked for, so that a sanitizer sees the first byte beyond */
    void *memory = NULL;
    if (posix_memalign(&memory, SEN_ALIGNMENT, size ? size : 1) != 0)
        exit(2);
    return memory;
}

/* Inputs: between -1 and 1, a quarter of them 0; up to 1, most of them 0; up to 1, none 0. Spikes of a train. */
enum input_kind { MIXED, MOST_ZERO, NONE_ZERO, INPUT_KINDS };
static float *make_input(size_t count, int is_train, enum input_kind kind)
{
    float *x = aligned(count * sizeof *x);
    unsigned state = 1;
    size_t i;
    for (i = 0; i < count; i++) {
        state = state * 1103515245u + 12345u;
        if (is_train)
            x[i] = state >> 30 == 0 ? 1.0f : 0.0f;
        else if (kind == MIXED)
            x[i] = state >> 16 & 3 ? (float)(state >> 8 & 0xFFFF) / 32768.0f - 1.0f : 0.0f;
        else
            x[i] = kind == NONE_ZERO || state >> 24 < 30 ? (float)((state >> 8 & 0xFFFF) | 1) / 65536.0f : 0.0f;
    }
    return x;
}

/* Outputs of ROWS times the same input, of which the last is returned; null where the batch fails, or smaller ones differ. */
#define ROWS 23u
static float *run_rows(const sen_model *model, const float *x, size_t values)
{
    const size_t count = sen_outputs(model);
    float *rows = aligned(ROWS * values * sizeof *rows), *y = aligned(ROWS * count * sizeof *y), *last = aligned(count * sizeof *y);
    void *work = aligned(sen_rows_work_size(model));
    sen_status status;
    size_t row;
    memset(work, 0xFF, sen_rows_work_size(model));
    for (row = 0; row < ROWS; row++)
        memcpy(rows + row * values, x, values * sizeof *x);
    status = sen_run_rows(model, work, rows, y, ROWS);
    memcpy(last, y + (ROWS - 1) * count, count * sizeof *y);
    for (row = 1; status == SEN_OK && row < ROWS; row += 5 + row) { /* 1, 7, 19 */
        status = sen_run_rows(model, work, rows, y, row);
        if (memcmp(y + (row - 1) * count, last, count * sizeof *y) != 0) {
            fprintf(stderr, "%lu rows have other outputs\n", (unsigned long)row);
            return NULL;
        }
    }
    free(rows);
    free(y);
    free(work);
    return status == SEN_OK ? last : NULL;
}

/* Whether the model refuses inputs with a value that is not finite, and takes large ones. */
static int refuses_nonfinite(sen_model *model, float *x, size_t values, float *y)
{
    static const float refused[] = {NAN, INFINITY, -INFINITY};
    size_t i, k;
    for (i = 0; i < values; i += 1 + values / 16)
        for (k = 0; k < 3; k++) {
            const float kept = x[i];
            x[i] = refused[k];
            if (sen_run(model, x, y) != SEN_NONFINITE)
                return 0;
            x[i] = kept;
        }
    for (i = 0; i < values; i++)
        x[i] = 3e38f;
    return sen_run(model, x, y) == SEN_OK;
}

/* Outputs of one run, or of the last row of a batch; null where the image is refused. */
static float *run(const void *bytes, size_t size, unsigned flags, int is_batch, enum input_kind kind, size_t *count)
{
    void *image = aligned(size), *arena;
    float *x, *y, *last;
    sen_model *model = NULL;
    size_t arena_size = 0, values;
    sen_status status;
    memcpy(image, bytes, size);
    status = sen_arena_size(image, size, flags, &arena_size);
    if (status != SEN_OK) {
        fprintf(stderr, "%s\n", sen_status_text(status));
        return NULL;
    }
    arena = aligned(arena_size);
#ifndef SEN_LEAVE_ARENA
    memset(arena, 0xFF, arena_size); /* not a number, wherever something is read that was not written */
#endif
    if (sen_load(&model, image, size, arena, arena_size, flags) != SEN_OK)
        return NULL;
    values = (size_t)sen_inputs(model) * (sen_takes_spike_train(model) ? sen_timesteps(model) : 1);
    *count = sen_outputs(model);
    x = make_input(values, sen_takes_spike_train(model), kind);
    if (is_batch) {
        y = run_rows(model, x, values);
    } else {
        y = aligned(*count * sizeof *y);
        last = aligned(*count * sizeof *last);
        if (sen_run(model, x, y) != SEN_OK || !refuses_nonfinite(model, x, values, last))
            return NULL;
        free(last);
    }
    printf("%s ", sen_kernels_name(model));
    free(x);
    free(arena);
    free(image);
    return y;
}

/* Whether all ways agree. */
static int compare(const void *bytes, size_t size, double allowed, enum input_kind kind)
{
    size_t count = 0, i;
    float *expected = run(bytes, size, SEN_REFERENCE, 0, kind, &count);
    double greatest = 0;
    unsigned way;
    int agrees = expected != NULL;
    for (i = 0; agrees && i < count; i++) {
        const double size_of = expected[i] < 0 ? -(double)expected[i] : (double)expected[i];
        greatest = size_of > greatest ? size_of : greatest;
    }
    for (way = 0; agrees && way < 2 * (SEN_NARROW + SEN_PACK + SEN_ON_THE_FLY + 4); way += 4) {
        const unsigned flags = way / 8 * 4;
        float *y = run(bytes, size, flags, way / 4 % 2, kind, &count);
        for (i = 0; y && i < count; i++) {
            const double error = (double)y[i] - (double)expected[i];
            if (!(error <= allowed * greatest && -error <= allowed * greatest)) {
                fprintf(stderr, "flags %u, %s: output %lu is %g", flags, way / 4 % 2 ? "batch" : "one row", (unsigned long)i, (double)y[i]);
                fprintf(stderr, "; expected %g\n", (double)expected[i]);
                agrees = 0;
            }
        }
        agrees = agrees && y;
        free(y);
    }
    free(expected);
    return agrees;
}

int main(int argc, char **argv)
{
    FILE *file = argc > 2 ? fopen(argv[1], "rb") : NULL;
    const double allowed = argc > 2 ? strtod(argv[2], NULL) : 0;
    unsigned char head[4];
    int failed = 0, images = 0;
    if (!file)
        return 2;
    while (fread(head, 1, sizeof head, file) == sizeof head) {
        const size_t size = (size_t)head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
        unsigned char *bytes = aligned(size);
        if (fread(bytes, 1, size, file) != size)
            return 2;
        if (!compare(bytes, size, allowed, (enum input_kind)(images % INPUT_KINDS))) {
            fprintf(stderr, "image %d\n", images);
            failed = 1;
        }
        images++;
        free(bytes);
    }
    (void)fclose(file);
    printf("%d images\n", images);
    return failed || images == 0;
}
