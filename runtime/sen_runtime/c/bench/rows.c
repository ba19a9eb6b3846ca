/* The rows: files, what is known of them, and models loaded from them. */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sha256.h"

#define FLAGS (SEN_CHECK_CHECKSUM | SEN_CHECK_VALUES | SEN_PACK)
#define MOST_PADDING 65536u
/* Of the section table, docs/reference/sen-image.md: where it starts, bytes of a row, and what it says. */
#define TABLE 64u
#define TABLE_ROW 48u
enum { TENSOR = 3, FLOAT16 = 2, INT8 = 3 };
#define SHRINK "stop other programs, or take a smaller network"

static int fail_memory(const char *path, uint64_t needed)
{
    return bench_fail(
        EXIT_FAILED, SHRINK, "%s: needs %" PRIu64 " bytes of memory that this process cannot have; %" PRIu64 " are free",
        path, needed, bench_free_bytes());
}

/* `size` bytes of a file that is open. */
static int read_all(int file, uint8_t *bytes, size_t size)
{
    size_t done = 0;
    while (done < size) {
        const ssize_t count = read(file, bytes + done, size - done);
        if (count <= 0 && !(count < 0 && errno == EINTR))
            return 0;
        done += count > 0 ? (size_t)count : 0;
    }
    return 1;
}

static int read_open(bench_row *row, int file, bench_random *random)
{
    struct stat found;
    if (fstat(file, &found) != 0)
        return bench_fail(EXIT_FAILED, NULL, "cannot read %s: %s", row->path, strerror(errno));
    if (!S_ISREG(found.st_mode))
        return bench_fail(EXIT_FAILED, NULL, "%s is no file", row->path);
    if (row->sha256[0] && ((uint64_t)found.st_size != row->bytes || (int64_t)found.st_dev != row->changed[0]
                           || (int64_t)found.st_ino != row->changed[1] || (int64_t)found.st_mtime != row->changed[2]))
        return bench_fail(EXIT_FAILED, "measure again", "%s changed while it was measured", row->path);
    row->bytes = (uint64_t)found.st_size;
    row->changed[0] = (int64_t)found.st_dev;
    row->changed[1] = (int64_t)found.st_ino;
    row->changed[2] = (int64_t)found.st_mtime;
    if (row->bytes > bench_free_bytes() || !bench_take(&row->image, (size_t)row->bytes, random))
        return fail_memory(row->path, row->bytes);
    errno = 0;
    if (!read_all(file, row->image.start, row->image.size))
        return bench_fail(
            EXIT_FAILED, NULL, "cannot read %s: %s", row->path, errno ? strerror(errno) : "it ends too early");
    return EXIT_OK;
}

static int read_file(bench_row *row, bench_random *random)
{
    const int file = open(row->path, O_RDONLY | O_NONBLOCK); /* a pipe would let us wait */
    int code;
    if (file < 0)
        return bench_fail(EXIT_FAILED, NULL, "cannot read %s: %s", row->path, strerror(errno));
    code = read_open(row, file, random);
    (void)close(file);
    return code;
}

static int refused(const bench_row *row, sen_status status)
{
    return bench_fail(EXIT_FAILED, NULL, "%s: %s", row->path, sen_status_text(status));
}

int bench_infer(const bench_row *row, const float *x, float *y)
{
    const sen_status status = sen_run(row->loop.model, x, y);
    return status == SEN_OK ? EXIT_OK : refused(row, status);
}

static int make_model(bench_row *row, const bench_options *options, bench_random *random)
{
    const unsigned flags = FLAGS | options->kernels;
    const uint8_t *image = row->image.start;
    sen_status status = sen_arena_size(image, row->image.size, flags, &row->arena_bytes);
    if (status != SEN_OK)
        return refused(row, status);
    if (row->arena_bytes > bench_free_bytes() || !bench_take(&row->arena, row->arena_bytes, random))
        return fail_memory(row->path, row->arena_bytes);
    status = sen_load(&row->loop.model, image, row->image.size, row->arena.start, row->arena.size, flags);
    if (status != SEN_OK)
        return refused(row, status);
    row->loop.call = sen_run;
    free(row->loop.y);
    row->loop.y = bench_floats(sen_outputs(row->loop.model));
    return row->loop.y ? EXIT_OK : fail_memory(row->path, (uint64_t)sen_outputs(row->loop.model) * sizeof(float));
}

int bench_load(bench_row *row, const bench_options *options, bench_random *random)
{
    int code;
    if (random) /* keeps this row away from the one before */
        (void)bench_take(&row->pad, (size_t)(bench_draw(random) % MOST_PADDING), NULL);
    code = read_file(row, random);
    if (code == EXIT_OK)
        code = make_model(row, options, random);
    return code;
}

void bench_unload(bench_row *row)
{
    bench_give_back(&row->image);
    bench_give_back(&row->arena);
    bench_give_back(&row->pad);
    row->loop.model = NULL;
}

/* FILE ENGINE THREADS, and a number where that is taken: the names that sen-runtime gives. */
static int name_row(bench_run *run, size_t index)
{
    bench_row *row = run->rows + index;
    const char *slash = strrchr(row->path, '/');
    const size_t room = strlen(row->path) + 48;
    size_t i, same = 1;
    row->file = slash ? slash + 1 : row->path;
    for (i = 0; i < index; i++)
        same += strcmp(run->rows[i].file, row->file) == 0;
    row->name = malloc(room);
    if (!row->name)
        return fail_memory(row->path, room);
    (void)snprintf(row->name, room, same > 1 ? "%s native 1 #%lu" : "%s native 1", row->file, (unsigned long)same);
    return EXIT_OK;
}

static uint32_t read_u32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

/* What numbers an image stores, which the library has checked. */
static void note_dtypes(bench_row *row)
{
    const uint8_t *image = row->image.start;
    const uint32_t sections = read_u32(image + 12);
    uint32_t i;
    for (i = 0; i < sections; i++) {
        const uint8_t *section = image + TABLE + (size_t)i * TABLE_ROW;
        const uint32_t dtype = read_u32(section + 4);
        if (read_u32(section) == TENSOR) {
            row->stores_float16 = row->stores_float16 || dtype == FLOAT16;
            row->stores_int8 = row->stores_int8 || dtype == INT8;
        }
    }
}

static int describe(bench_run *run, size_t index)
{
    bench_row *row = run->rows + index;
    int code = name_row(run, index);
    if (code != EXIT_OK)
        return code;
    code = bench_load(row, run->options, NULL);
    if (code == EXIT_OK) {
        const sen_model *model = row->loop.model;
        sha256_text(row->image.start, row->image.size, row->sha256);
        row->kernels = sen_kernels_name(model);
        row->n_in = sen_inputs(model);
        row->n_out = sen_outputs(model);
        row->timesteps = sen_timesteps(model);
        row->takes_train = sen_takes_spike_train(model);
        note_dtypes(row);
        row->origin = bench_read_origin(row->image.start);
    }
    bench_unload(row);
    return code;
}

/* `[n]`, or `[T, n]` of spike trains. */
static const char *shape(const bench_row *row, char *text, size_t size)
{
    if (row->takes_train)
        (void)snprintf(text, size, "[%" PRIu32 ", %" PRIu32 "]", row->timesteps, row->n_in);
    else
        (void)snprintf(text, size, "[%" PRIu32 "]", row->n_in);
    return text;
}

/* Rows are compared on the same inputs, so they must take the same. */
static int check_shapes(const bench_run *run)
{
    static const char hint[] = "measure them in runs of their own";
    const bench_row *first = run->rows, *row;
    char here[32], there[32];
    for (row = run->rows + 1; row < run->rows + run->n_rows; row++) {
        if (strcmp(shape(row, here, sizeof here), shape(first, there, sizeof there)) != 0)
            return bench_fail(
                EXIT_USAGE, hint, "%s takes inputs of shape %s, %s of %s", row->path, here, first->path, there);
        if (row->n_out != first->n_out)
            return bench_fail(
                EXIT_USAGE, hint, "%s gives %" PRIu32 " outputs, %s gives %" PRIu32, row->path, row->n_out,
                first->path, first->n_out);
    }
    return EXIT_OK;
}

int bench_describe_rows(bench_run *run)
{
    size_t i;
    int code = EXIT_OK;
    run->rows = calloc(run->options->n_files, sizeof *run->rows);
    if (!run->rows)
        return fail_memory(run->options->files[0], run->options->n_files * sizeof *run->rows);
    run->n_rows = run->options->n_files;
    for (i = 0; i < run->n_rows && code == EXIT_OK && !bench_is_interrupted; i++) {
        run->rows[i].path = run->options->files[i];
        code = describe(run, i);
    }
    return code != EXIT_OK || bench_is_interrupted ? code : check_shapes(run);
}
