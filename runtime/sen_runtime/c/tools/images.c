/* Images, their inputs and outputs, and cold starts. */
#include "recorder.h"

#include <float.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FLAGS (SEN_CHECK_CHECKSUM | SEN_CHECK_VALUES | SEN_PACK)
/* Share of ones in random spike trains, as in sen_runtime/bench/inputs.py. */
#define FIRING 0.2f
/* Of an input: 64 inputs of 1 GiB. */
#define MAX_VALUES ((uint64_t)1 << 28)
/* Range of the random place of an arena in its block. */
#define MAX_SHIFT ((size_t)1 << 18)
#define RANGE_KEY "\"input_range\":\""

/* Reads the image, and a zero after it. */
static int read_image(struct row *row)
{
    struct stat found;
    void *memory = NULL;
    size_t done = 0;
    FILE *file = NULL;
    errno = 0;
    if (stat(row->path, &found) == 0 && S_ISREG(found.st_mode) && (uint64_t)found.st_size < SIZE_MAX / 2)
        file = fopen(row->path, "rb"); /* not of a pipe, where it blocks */
    row->size = file ? (size_t)found.st_size : 0;
    if (file && posix_memalign(&memory, SEN_ALIGNMENT, row->size + 1) == 0)
        done = fread(memory, 1, row->size, file);
    if (file)
        (void)fclose(file);
    if (!file || !memory || done < row->size)
        return fail(EXIT_FAILED, "cannot read %s: %s", row->path, errno ? strerror(errno) : "not a file, or no memory for it");
    row->image = memory;
    row->image[row->size] = 0;
    return EXIT_OK;
}

int load_row(struct recorder *run, struct row *row)
{
    const size_t shift = (size_t)(draw(&run->random) % (MAX_SHIFT / SEN_ALIGNMENT)) * SEN_ALIGNMENT;
    const unsigned flags = FLAGS | run->kernels;
    void *block = NULL, *before = row->block;
    sen_status status = sen_arena_size(row->image, row->size, flags, &row->arena_size);
    if (status == SEN_OK
        && (row->arena_size > SIZE_MAX / 2 || posix_memalign(&block, SEN_ALIGNMENT, row->arena_size + MAX_SHIFT) != 0))
        return fail(EXIT_FAILED, "%s: no memory for %zu bytes", row->path, row->arena_size);
    if (status == SEN_OK)
        status = sen_load(&row->model, row->image, row->size, (uint8_t *)block + shift, row->arena_size, flags);
    if (status != SEN_OK)
        return fail(EXIT_FAILED, "%s: %s", row->path, sen_status_text(status));
    row->block = block;
    free(before);
    return EXIT_OK;
}

/* Of one input: `[n_in]`, or `[T, n_in]` of spike trains. */
static uint64_t values_of(const struct row *row)
{
    return (uint64_t)sen_inputs(row->model) * (sen_takes_spike_train(row->model) ? sen_timesteps(row->model) : 1);
}

/* The random inputs of sen_runtime/bench/inputs.py, in the range that the metadata state, `"input_range":"0 1"`. */
static void draw_inputs(struct recorder *run, const struct row *row)
{
    const int is_train = sen_takes_spike_train(row->model);
    const size_t size = strlen(RANGE_KEY);
    uint64_t random = run->seed;
    float low = 0, high = 1;
    size_t i;
    for (i = 0; i + size < row->size; i++)
        if (memcmp(row->image + i, RANGE_KEY, size) == 0) {
            char *next;
            low = strtof((const char *)row->image + i + size, &next);
            high = strtof(next, NULL);
            if (!(low < high && high - low <= FLT_MAX)) {
                low = 0;
                high = 1;
            }
            break;
        }
    for (i = 0; i < run->n_inputs * run->values; i++) {
        const float unit = (float)(draw(&random) >> 40) / 16777216.0f; /* 24 bits: below 1 */
        const float scaled = unit * (high - low); /* a statement of its own, so that it is not fused with the sum */
        run->x[i] = is_train ? (float)(unit < FIRING) : scaled + low;
    }
}

/* Random inputs, or the first N_INPUTS of a file of little-endian float32. */
static int read_inputs(struct recorder *run, const struct row *row)
{
    const uint64_t values = values_of(row);
    FILE *file = run->inputs ? fopen(run->inputs, "rb") : NULL;
    size_t size = 0, one;
    run->values = (size_t)values;
    run->n_inputs = N_INPUTS;
    run->x = values < MAX_VALUES ? calloc(run->values, N_INPUTS * sizeof *run->x) : NULL;
    if (!run->x)
        return fail(EXIT_FAILED, "no memory for the inputs of %s", row->path);
    if (!run->inputs) {
        draw_inputs(run, row);
        return EXIT_OK;
    }
    one = run->values * sizeof *run->x;
    if (file) {
        size = fread(run->x, 1, N_INPUTS * one, file);
        (void)fclose(file);
    }
    run->n_inputs = size / one;
    if (size == 0 || size % one != 0)
        return fail(
            EXIT_USAGE, "cannot read %s, or its size is not a multiple of %zu, the bytes of one input", run->inputs, one);
    return EXIT_OK;
}

static void write_name(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    write_text(name, strlen(name));
}

/* Makes the inputs at the first row, checks those that follow. */
static int fit_inputs(struct recorder *run, struct row *row)
{
    const struct row *first = run->rows;
    const int code = row == first ? read_inputs(run, row) : EXIT_OK;
    if (code != EXIT_OK)
        return code;
    if (sen_inputs(row->model) != sen_inputs(first->model) || values_of(row) != run->values)
        return fail(EXIT_USAGE, "%s and %s take other inputs; record them in separate runs", first->path, row->path);
    row->y = calloc(sen_outputs(row->model), run->n_inputs * sizeof *row->y);
    return row->y ? EXIT_OK : fail(EXIT_FAILED, "%s: no memory for its outputs", row->path);
}

int open_row(struct recorder *run, struct row *row)
{
    int64_t start, loaded, first, end;
    int code;
    fputs("{\"event\": \"row\", \"file\": ", stdout);
    write_name(row->path);
    fputs(", \"status\": [", stdout);
    write_source("/proc/self/status");
    start = now_ns();
    code = read_image(row);
    if (code == EXIT_OK)
        code = load_row(run, row);
    loaded = now_ns();
    if (code == EXIT_OK)
        code = fit_inputs(run, row);
    if (code != EXIT_OK)
        return code;
    first = now_ns();
    (void)sen_run(row->model, run->x, row->y);
    end = now_ns();
    fputs(", ", stdout);
    write_source("/proc/self/status");
    printf("], \"load_ns\": %" PRId64 ", \"first_ns\": %" PRId64, loaded - start, end - first);
    if (sen_run_batch(row->model, run->x, row->y, run->n_inputs) != SEN_OK)
        return fail(EXIT_USAGE, "%s: an input is not finite", run->inputs ? run->inputs : row->path);
    printf(", \"kernels\": \"%s\", \"arena_bytes\": %zu, \"image\": ", sen_kernels_name(row->model), row->arena_size);
    write_base64(row->image, row->size);
    fputs(", \"outputs\": ", stdout);
    write_base64(row->y, run->n_inputs * sen_outputs(row->model) * sizeof *row->y);
    puts("}");
    return EXIT_OK;
}

void write_inputs(const struct recorder *run)
{
    fputs("{\"event\": \"inputs\", \"file\": ", stdout);
    if (run->inputs)
        write_name(run->inputs);
    else
        fputs("null", stdout);
    fputs(", \"data\": ", stdout);
    write_base64(run->x, run->n_inputs * run->values * sizeof *run->x);
    puts("}");
}
