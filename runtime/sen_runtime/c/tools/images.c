/* Images, their inputs and outputs, and cold starts. */
#include "recorder.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define FLAGS (SEN_CHECK_CHECKSUM | SEN_CHECK_VALUES | SEN_PACK)
/* As in sen_runtime/bench/inputs.py: inputs that take turns, and the share of ones in random spike trains. */
#define N_INPUTS 64u
#define FIRING 0.2f
/* Of an array: 64 GiB. */
#define MAX_FLOATS ((uint64_t)1 << 34)
/* Range of the random place of an arena in its block. */
#define MAX_SHIFT ((size_t)1 << 18)
/* Section table, docs/reference/sen-image.md: offset, bytes of a row, and the kind of the metadata, which is row 1. */
enum { TABLE = 64, TABLE_ROW = 48, METADATA = 2 };
#define RANGE_KEY "\"input_range\":\""

static int read_image(struct row *row)
{
    const int file = open(row->path, O_RDONLY | O_NONBLOCK); /* O_NONBLOCK: a pipe does not block */
    struct stat found;
    void *memory = NULL;
    ssize_t count = 1;
    size_t done = 0;
    errno = 0;
    if (file >= 0 && fstat(file, &found) == 0 && S_ISREG(found.st_mode) && (uint64_t)found.st_size < SIZE_MAX / 2) {
        row->size = (size_t)found.st_size;
        if (posix_memalign(&memory, SEN_ALIGNMENT, row->size + 1) != 0)
            memory = NULL;
    }
    for (; memory && done < row->size && count > 0; done += count > 0 ? (size_t)count : 0)
        count = read(file, (uint8_t *)memory + done, row->size - done);
    if (file >= 0)
        (void)close(file);
    if (!memory || done < row->size)
        return fail(EXIT_FAILED, "cannot read %s: %s", row->path, errno ? strerror(errno) : "not a file, or no memory for it");
    row->image = memory;
    return EXIT_OK;
}

/* Loads the model, or loads it again at another address. */
int load_row(struct row *row, unsigned flags, uint64_t *random)
{
    const size_t shift = (size_t)(draw(random) % (MAX_SHIFT / SEN_ALIGNMENT)) * SEN_ALIGNMENT;
    void *block = NULL, *before = row->block;
    sen_status status = sen_arena_size(row->image, row->size, FLAGS | flags, &row->arena_size);
    if (status == SEN_OK
        && (row->arena_size > SIZE_MAX / 2 || posix_memalign(&block, SEN_ALIGNMENT, row->arena_size + MAX_SHIFT) != 0))
        return fail(EXIT_FAILED, "%s: no memory for %zu bytes", row->path, row->arena_size);
    if (status == SEN_OK)
        status = sen_load(
            &row->model, row->image, row->size, (uint8_t *)block + shift, row->arena_size, FLAGS | flags);
    if (status != SEN_OK)
        return fail(EXIT_FAILED, "%s: %s", row->path, sen_status_text(status));
    row->block = block;
    free(before);
    return EXIT_OK;
}

static float *floats(uint64_t count)
{
    return count < MAX_FLOATS && count < SIZE_MAX / 2 / sizeof(float) ? malloc((size_t)count * sizeof(float)) : NULL;
}

/* Of one input: `[n_in]`, or `[T, n_in]` of spike trains. */
static uint64_t values_of(const struct row *row)
{
    return (uint64_t)sen_inputs(row->model) * (sen_takes_spike_train(row->model) ? sen_timesteps(row->model) : 1);
}

int read_rows(struct recorder *run)
{
    const struct row *first = run->rows;
    size_t i;
    int code = EXIT_OK;
    for (i = 0; i < run->n_rows && code == EXIT_OK; i++) {
        struct row *row = run->rows + i;
        code = read_image(row);
        if (code == EXIT_OK)
            code = load_row(row, run->kernels, &run->random);
        if (code == EXIT_OK
            && (sen_inputs(row->model) != sen_inputs(first->model) || values_of(row) != values_of(first)))
            code = fail(
                EXIT_USAGE, "%s takes inputs of %" PRIu64 " values, %s of %" PRIu64 "; record them in separate runs",
                first->path, values_of(first), row->path, values_of(row));
        if (code == EXIT_OK && !(row->y = floats((uint64_t)N_INPUTS * sen_outputs(row->model))))
            code = fail(EXIT_FAILED, "%s: no memory for %u outputs", row->path, N_INPUTS);
    }
    return code;
}

static uint64_t read_u64(const uint8_t *bytes)
{
    uint64_t value = 0;
    int i;
    for (i = 7; i >= 0; i--)
        value = value << 8 | bytes[i];
    return value;
}

/* Whether the metadata state an input range: `"input_range":"0 1"`. The library has checked the section table. */
static int read_range(const struct row *row, float *low, float *high)
{
    const uint8_t *section = row->image + TABLE + TABLE_ROW;
    const size_t size = strlen(RANGE_KEY);
    const char *at, *end;
    char text[64] = "", *next;
    if (row->image[12] < 2 || *section != METADATA) /* its low byte is enough: 256 sections hold tensors */
        return 0;
    at = (const char *)row->image + read_u64(section + 8);
    end = at + read_u64(section + 16);
    while (at && (size_t)(end - at) > size && memcmp(at, RANGE_KEY, size) != 0)
        at = memchr(at + 1, '"', (size_t)(end - at) - 1);
    if (!at || (size_t)(end - at) <= size)
        return 0;
    memcpy(text, at + size, (size_t)(end - at) - size < sizeof text ? (size_t)(end - at) - size : sizeof text - 1);
    *low = strtof(text, &next);
    *high = strtof(next, NULL);
    return *low < *high;
}

/* The random inputs of sen_runtime/bench/inputs.py. */
static void draw_inputs(struct recorder *run)
{
    const int is_train = sen_takes_spike_train(run->rows->model);
    uint64_t random = run->seed;
    float low = 0, high = 1;
    size_t i;
    for (i = 0; i < run->n_rows && !read_range(run->rows + i, &low, &high); i++)
        low = 0, high = 1;
    for (i = 0; i < run->n_inputs * run->values; i++) {
        const float unit = (float)(draw(&random) >> 40) / 16777216.0f; /* 24 bits: below 1 */
        const float scaled = unit * (high - low); /* a statement of its own, so that it is not fused with the sum */
        run->x[i] = is_train ? (float)(unit < FIRING) : scaled + low;
    }
}

/* Random inputs, or the first N_INPUTS of a file of little-endian float32. */
int read_inputs(struct recorder *run)
{
    const uint64_t values = values_of(run->rows);
    FILE *file = run->inputs ? fopen(run->inputs, "rb") : NULL;
    size_t size = 0;
    run->x = floats(N_INPUTS * values);
    run->values = (size_t)values;
    run->n_inputs = N_INPUTS;
    if (!run->x)
        return fail(EXIT_FAILED, "no memory for %u inputs of %" PRIu64 " values", N_INPUTS, values);
    if (!run->inputs) {
        draw_inputs(run);
        return EXIT_OK;
    }
    if (file) {
        size = fread(run->x, 1, N_INPUTS * run->values * sizeof *run->x, file);
        (void)fclose(file);
    }
    run->n_inputs = size / (run->values * sizeof *run->x);
    if (run->n_inputs * run->values * sizeof *run->x != size || size == 0)
        return fail(
            EXIT_USAGE, "cannot read %s, or its size is not a multiple of %zu, the bytes of one input", run->inputs,
            run->values * sizeof *run->x);
    return EXIT_OK;
}

static void write_name(FILE *out, const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    write_text(out, name, strlen(name));
}

/* The images, and the inputs where they are not random. */
void write_rows(const struct recorder *run)
{
    size_t i;
    for (i = 0; i < run->n_rows; i++) {
        const struct row *row = run->rows + i;
        (void)fputs("{\"event\": \"row\", \"file\": ", run->out);
        write_name(run->out, row->path);
        (void)fprintf(
            run->out, ", \"kernels\": \"%s\", \"arena_bytes\": %zu, \"image\": ", sen_kernels_name(row->model),
            row->arena_size);
        write_base64(run->out, row->image, row->size);
        (void)fputs("}\n", run->out);
    }
    if (run->inputs) {
        (void)fputs("{\"event\": \"inputs\", \"file\": ", run->out);
        write_name(run->out, run->inputs);
        (void)fputs(", \"data\": ", run->out);
        write_base64(run->out, run->x, run->n_inputs * run->values * sizeof *run->x);
        (void)fputs("}\n", run->out);
    }
}

static int write_cold_start(const struct recorder *run, const struct row *row)
{
    struct row cold = {row->path, NULL, 0, 0, NULL, NULL, row->y, 0, 0, 0, 0};
    uint64_t random = 0;
    int64_t start, loaded, end;
    int code;
    (void)fputs("{\"event\": \"cold-start\", \"status\": [", run->out);
    write_file(run->out, "/proc/self/status");
    start = now_ns();
    code = read_image(&cold);
    if (code == EXIT_OK)
        code = load_row(&cold, run->kernels, &random);
    if (code != EXIT_OK)
        return code;
    loaded = now_ns();
    (void)sen_run(cold.model, run->x, cold.y);
    end = now_ns();
    (void)fputs(", ", run->out);
    write_file(run->out, "/proc/self/status");
    (void)fprintf(
        run->out, "], \"load_ns\": %" PRId64 ", \"first_ns\": %" PRId64 "}\n", loaded - start, end - loaded);
    return flush_output(run);
}

/* First load and first inference of each row, in a child process, which writes the line. */
int write_cold_starts(const struct recorder *run)
{
    size_t i;
    for (i = 0; i < run->n_rows && !is_interrupted; i++) {
        int status = EXIT_FAILED, code = flush_output(run);
        const pid_t child = code == EXIT_OK ? fork() : 0;
        if (code != EXIT_OK)
            return code;
        if (child == 0)
            _exit(write_cold_start(run, run->rows + i));
        while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
            ;
        if (child < 0 || !WIFEXITED(status))
            return fail(EXIT_FAILED, "%s: the process of its cold start did not finish", run->rows[i].path);
        if (WEXITSTATUS(status) != EXIT_OK)
            return WEXITSTATUS(status);
    }
    return EXIT_OK;
}

int write_outputs(const struct recorder *run)
{
    size_t i;
    for (i = 0; i < run->n_rows; i++) {
        const struct row *row = run->rows + i;
        if (sen_run_batch(row->model, run->x, row->y, run->n_inputs) != SEN_OK)
            return fail(EXIT_USAGE, "%s: an input is not finite", run->inputs);
        (void)fputs("{\"event\": \"outputs\", \"data\": ", run->out);
        write_base64(run->out, row->y, run->n_inputs * sen_outputs(row->model) * sizeof *row->y);
        (void)fputs("}\n", run->out);
    }
    return EXIT_OK;
}
