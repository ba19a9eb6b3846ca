/* Inputs of all rows, and whether all rows make the same of them. */
#include "bench.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Share of ones in spike trains that are drawn. */
#define FIRING 0.2
/* Of the greatest output: the least that counts as its standard deviation. */
#define LEAST_VARIATION 1e-2
/* What still counts as the same: this share of the inputs has all outputs within so many standard deviations, and this share
 * the same greatest output. The looser one of two rows, as in docs/reference/bench.md. */
typedef struct tolerance {
    double output, share, argmax;
} tolerance;

static tolerance tolerance_of(const bench_row *row, const bench_row *first, int is_spiking, int is_drawn)
{
    static const tolerance float32[] = {{1e-3, 1, 0.98}, {1e-3, 0.95, 0.95}};
    static const tolerance float16[] = {{4e-2, 1, 0.95}, {2e-1, 0.9, 0.9}};
    static const tolerance int8[] = {{0.5, 0.9, 0.9}, {0.5, 0.8, 0.9}};
    tolerance found = float32[is_spiking];
    if (row->stores_float16 || first->stores_float16)
        found = float16[is_spiking];
    if (row->stores_int8 || first->stores_int8) {
        found = int8[is_spiking];
        /* inputs that are drawn are of no class: greatest outputs lie close together there, and int8 may swap them */
        found.argmax = is_drawn ? 0 : found.argmax;
    }
    return found;
}

static void draw_inputs(bench_run *run)
{
    const size_t count = run->inputs.n * run->inputs.values;
    bench_random random = bench_seeded(run->options->seed, 0);
    size_t i;
    for (i = 0; i < count; i++) {
        const float drawn = (float)(bench_draw(&random) >> 29) / 16777216.0f; /* 24 bits: below 1 */
        run->inputs.x[i] = !run->rows->takes_train ? drawn : drawn < FIRING ? 1.0f : 0.0f;
    }
}

static float little_endian(const unsigned char *bytes)
{
    const uint32_t bits
        = (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The file's inputs, all looked at, the first MOST_INPUTS kept. */
static int read_values(bench_run *run, FILE *file)
{
    const char *path = run->options->inputs;
    const size_t values = run->inputs.values, kept = run->inputs.n * values;
    unsigned char bytes[4];
    size_t count = 0;
    while (fread(bytes, 1, sizeof bytes, file) == sizeof bytes) {
        const float value = little_endian(bytes);
        if (!isfinite(value))
            return bench_fail(
                EXIT_USAGE, NULL, "%s: value %lu of input %lu is not finite", path, (unsigned long)(count % values),
                (unsigned long)(count / values));
        if (count < kept)
            run->inputs.x[count] = value;
        count++;
    }
    if (ferror(file) || count < kept)
        return bench_fail(EXIT_FAILED, NULL, "cannot read %s", path);
    return EXIT_OK;
}

static int open_inputs(const bench_run *run, uint64_t row_bytes, FILE **file, size_t *n)
{
    const char *path = run->options->inputs;
    struct stat found;
    if (stat(path, &found) != 0)
        return bench_fail(EXIT_FAILED, NULL, "cannot read %s: %s", path, strerror(errno));
    if (!S_ISREG(found.st_mode))
        return bench_fail(EXIT_FAILED, NULL, "%s is no file", path);
    if (found.st_size <= 0 || (uint64_t)found.st_size % row_bytes)
        return bench_fail(
            EXIT_USAGE, "expected float32 values, little-endian, input after input",
            "%s has %lld bytes; expected a multiple of %llu, the bytes of one input of %s", path,
            (long long)found.st_size, (unsigned long long)row_bytes, run->rows->path);
    *n = (uint64_t)found.st_size / row_bytes < MOST_INPUTS ? (size_t)((uint64_t)found.st_size / row_bytes) : MOST_INPUTS;
    *file = fopen(path, "rb");
    if (!*file)
        return bench_fail(EXIT_FAILED, NULL, "cannot read %s: %s", path, strerror(errno));
    return EXIT_OK;
}

int bench_make_inputs(bench_run *run)
{
    const bench_row *row = run->rows;
    const uint64_t values = (uint64_t)row->n_in * (row->takes_train ? row->timesteps : 1);
    FILE *file = NULL;
    int code = EXIT_OK;
    run->inputs.n = MOST_INPUTS;
    if (run->options->inputs)
        code = open_inputs(run, values * sizeof(float), &file, &run->inputs.n);
    if (code != EXIT_OK)
        return code;
    run->inputs.x = bench_floats(run->inputs.n * values);
    run->inputs.values = (size_t)values;
    if (!run->inputs.x)
        code = bench_fail(
            EXIT_FAILED, NULL, "%s: no memory for %lu inputs of %" PRIu64 " values", row->path,
            (unsigned long)run->inputs.n, values);
    else if (file)
        code = read_values(run, file);
    else
        draw_inputs(run);
    if (file)
        (void)fclose(file);
    return code;
}

static size_t greatest(const float *y, size_t n)
{
    size_t best = 0, i;
    for (i = 1; i < n; i++)
        best = y[i] > y[best] ? i : best;
    return best;
}

/* Standard deviation of all values, or what a value that all share has for rounding; 1 where all are 0. */
static double scale_of(const float *values, size_t count)
{
    double sum = 0, squares = 0, most = 0, mean, found;
    size_t i;
    for (i = 0; i < count; i++) {
        sum += (double)values[i];
        most = fmax(most, fabs((double)values[i]));
    }
    mean = sum / (double)count;
    for (i = 0; i < count; i++)
        squares += ((double)values[i] - mean) * ((double)values[i] - mean);
    found = fmax(sqrt(squares / (double)count), LEAST_VARIATION * most);
    return found > 0 ? found : 1;
}

/* Outputs [n, n_out] against those that they should be. */
static void compare(bench_row *row, const float *actual, const float *expected, size_t n, tolerance allowed)
{
    const size_t n_out = row->n_out;
    const double scale = scale_of(expected, n * n_out);
    size_t same = 0, close = 0, i, k;
    row->max_error = row->argmax_percent = 0;
    row->is_finite = 1;
    for (i = 0; i < n; i++) {
        const float *y = actual + i * n_out, *z = expected + i * n_out;
        double worst = 0;
        for (k = 0; k < n_out; k++) {
            const double error = fabs((double)y[k] - (double)z[k]);
            row->is_finite = row->is_finite && isfinite(y[k]) && isfinite(z[k]);
            worst = error > worst ? error : worst;
        }
        same += greatest(y, n_out) == greatest(z, n_out);
        close += worst <= allowed.output * scale;
        row->max_error = worst > row->max_error ? worst : row->max_error;
    }
    row->error_over_std = row->max_error / scale;
    row->argmax_percent = row->is_finite ? 100 * (double)same / (double)n : 0;
    row->matches = row->is_finite && (double)same >= allowed.argmax * (double)n && (double)close >= allowed.share * (double)n;
}

/* The first row of the same model: of the same origin, or the first of all where an origin is not known. */
static size_t counterpart(const bench_run *run, size_t index)
{
    const char *origin = run->rows[index].origin;
    size_t i;
    if (!origin || !run->rows->origin)
        return 0;
    for (i = 0; i < index; i++)
        if (run->rows[i].origin && strcmp(run->rows[i].origin, origin) == 0)
            break;
    return i;
}

static int run_inputs(bench_run *run, bench_row *row, const bench_options *options, float *y)
{
    int code = bench_load(row, options, NULL);
    size_t k;
    for (k = 0; k < run->inputs.n && code == EXIT_OK && !bench_is_interrupted; k++)
        code = bench_infer(row, run->inputs.x + k * run->inputs.values, y + k * row->n_out);
    bench_unload(row);
    return code;
}

/* A row is compared with the first one of its model, and that one with the reference kernels on the same image. */
static int judge(bench_run *run, size_t index, float *outputs, float *scratch)
{
    bench_row *row = run->rows + index;
    const size_t count = run->inputs.n * row->n_out;
    bench_options plain = *run->options;
    float *here = outputs + index * count;
    int code = run_inputs(run, row, run->options, here);
    plain.kernels = SEN_REFERENCE;
    row->to = counterpart(run, index);
    if (code == EXIT_OK && row->to == index)
        code = run_inputs(run, row, &plain, scratch);
    if (code == EXIT_OK)
        compare(
            row, here, row->to == index ? scratch : outputs + row->to * count, run->inputs.n,
            tolerance_of(row, run->rows + row->to, row->timesteps > 0, !run->options->inputs));
    return code;
}

int bench_compare(bench_run *run)
{
    const uint64_t count = (uint64_t)run->inputs.n * run->rows->n_out;
    float *outputs = bench_floats((run->n_rows + 1) * count);
    int code = EXIT_OK;
    size_t i;
    if (!outputs)
        code = bench_fail(
            EXIT_FAILED, NULL, "%s: no memory for %lu outputs of %lu values", run->rows->path,
            (unsigned long)run->inputs.n, (unsigned long)run->rows->n_out);
    for (i = 0; i < run->n_rows && code == EXIT_OK && !bench_is_interrupted; i++)
        code = judge(run, i, outputs, outputs + run->n_rows * count);
    free(outputs);
    return code;
}
