/* Images, their inputs and outputs, and cold starts. */
#include "recorder.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FIRING 0.2f                 /* share of ones in random spike trains, as in sen_runtime/bench/loops.py */
#define MAX_INPUT 1e18f             /* of an input range, as in sen_runtime/ir/network.py */
#define MAX_SHIFT ((size_t)1 << 18) /* of the random place of an arena in its block */
#define RANGE_KEY "\"input_range\":\""

static const void *map_file(const char *path, int code, size_t *size)
{
    const int file = open(path, O_RDONLY | O_NONBLOCK); /* a pipe would block */
    const off_t end = file < 0 ? 0 : lseek(file, 0, SEEK_END);
    void *bytes = end <= 0 ? MAP_FAILED : mmap(NULL, (size_t)end, PROT_READ, MAP_PRIVATE, file, 0);
    if (bytes == MAP_FAILED)
        fail(code, "cannot read %s: expected a file with content, and memory for it", path);
    (void)close(file);
    *size = (size_t)end;
    return bytes;
}

size_t load_row(struct recorder *run, struct row *row)
{
    const unsigned flags = SEN_CHECK_CHECKSUM | SEN_CHECK_VALUES | SEN_PACK | run->kernels;
    const size_t shift = (size_t)(draw(&run->random) % (MAX_SHIFT / SEN_ALIGNMENT)) * SEN_ALIGNMENT;
    size_t arena_size = 0;
    char *block = NULL;
    sen_status status = sen_arena_size(row->image, row->size, flags, &arena_size);
    if (status == SEN_OK) {
        block = allocate((uint64_t)arena_size + MAX_SHIFT);
        status = sen_load(&row->model, row->image, row->size, block + shift, arena_size, flags);
    }
    if (status != SEN_OK)
        fail(EXIT_FAILED, "%s: %s", row->path, sen_status_text(status));
    free(row->block); /* after the new one exists, for another address */
    row->block = block;
    return arena_size;
}

/* Of one input: `[n_in]`, or `[T, n_in]` of spike trains. */
static uint64_t values_of(const struct row *row)
{
    return (uint64_t)sen_inputs(row->model) * (sen_takes_spike_train(row->model) ? sen_timesteps(row->model) : 1);
}

/* The random inputs of sen_runtime/bench/loops.py, in the range that the metadata state as `"input_range":"0 1"`. */
static void draw_inputs(const struct recorder *run, const struct row *row, float *x)
{
    const char *image = row->image;
    const size_t size = strlen(RANGE_KEY);
    const int is_train = sen_takes_spike_train(row->model);
    uint64_t random = (uint64_t)run->seed;
    float low = 0, high = 0;
    char text[64] = "";
    for (size_t i = 0; i + size + sizeof text < row->size && !*text; i++)
        if (memcmp(image + i, RANGE_KEY, size) == 0)
            memcpy(text, image + i + size, sizeof text - 1);
    if (text[strspn(text, "0123456789+-.eE ")] != '"' || sscanf(text, "%f %f", &low, &high) != 2 || low < -MAX_INPUT
        || high > MAX_INPUT || low >= high) {
        low = 0;
        high = 1;
    }
    for (size_t i = 0; i < run->n_inputs * run->values; i++) {
        const float unit = (float)(draw(&random) >> 40) / 16777216.0f; /* 24 bits: below 1 */
        const float scaled = unit * (high - low); /* a statement of its own, so that it is not fused with the sum */
        x[i] = is_train ? (float)(unit < FIRING) : scaled + low;
    }
}

/* Random inputs, or the first N_INPUTS of a file of little-endian float32. */
static void make_inputs(struct recorder *run, const struct row *row)
{
    const uint64_t one = values_of(row) * sizeof *run->x;
    size_t size;
    run->values = (size_t)values_of(row);
    run->n_inputs = N_INPUTS;
    if (!run->inputs) {
        float *x = allocate(N_INPUTS * one);
        draw_inputs(run, row, x);
        run->x = x;
        return;
    }
    run->x = map_file(run->inputs, EXIT_USAGE, &size);
    if (size % one != 0)
        fail(EXIT_USAGE, "%s has %zu bytes; expected a multiple of %llu", run->inputs, size, (unsigned long long)one);
    if (size / one < N_INPUTS)
        run->n_inputs = (size_t)(size / one);
}

void open_row(struct recorder *run, struct row *row)
{
    write_block("row", row->path, strlen(row->path));
    write_source("before", "/proc/self/status");
    const int64_t start = now_ns();
    row->image = map_file(row->path, EXIT_FAILED, &row->size);
    const int64_t arena_size = (int64_t)load_row(run, row), loaded = now_ns();
    if (row == run->rows)
        make_inputs(run, row);
    else if (sen_inputs(row->model) != sen_inputs(run->rows->model) || values_of(row) != run->values)
        fail(EXIT_USAGE, "%s and %s take other inputs; record them in separate runs", run->rows->path, row->path);
    const size_t size = run->n_inputs * sen_outputs(row->model) * sizeof *row->y;
    row->y = allocate(size);
    const int64_t begin = now_ns();
    (void)sen_run(row->model, run->x, row->y);
    const int64_t figures[] = {loaded - start, now_ns() - begin, arena_size};
    write_source("after", "/proc/self/status");
    if (sen_run_batch(row->model, run->x, row->y, run->n_inputs) != SEN_OK)
        fail(EXIT_USAGE, "%s: an input is not finite", run->inputs ? run->inputs : row->path);
    write_block("figures", figures, sizeof figures);
    write_block("kernels", sen_kernels_name(row->model), strlen(sen_kernels_name(row->model)));
    write_block("image", row->image, row->size);
    write_block("outputs", row->y, size);
}
