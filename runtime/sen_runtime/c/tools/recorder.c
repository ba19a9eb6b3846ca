/* Images with their inputs, outputs and cold starts, and rounds in which every row takes a turn, in a random order. The rounds are
 * those of sen_runtime/bench/rounds.py and interleaved.py; docs/reference/bench.md explains the constants. */
#include "recorder.h"

#include <errno.h>
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

#define TURN_NS 1e6
#define OVERHEAD_SHARE 0.005
#define ALIKE 1.5
#define TRIES 15
#define SECOND 1000000000 /* in nanoseconds; the max warm-up too */
#define LONG_NS (SECOND / 5)
#define MAX_SAMPLES 262144.0 /* written of a row, on average */
#define MAX_LOADS 40
#define ROUNDS_PER_LOAD 10u
#define SETTLING_ROUNDS 3
#define MIN_ROUNDS 20u
#define MAX_STATES 1000 /* more than a second apart */

volatile sig_atomic_t is_interrupted;

/* SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014. */
static uint64_t draw(uint64_t *random)
{
    uint64_t z = *random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static const void *map_file(const char *path, int code, size_t *size)
{
    const int file = open(path, O_RDONLY | O_NONBLOCK); /* a pipe would block */
    const off_t end = file < 0 ? 0 : lseek(file, 0, SEEK_END);
    void *bytes = end <= 0 ? MAP_FAILED : mmap(NULL, (size_t)end, PROT_READ, MAP_PRIVATE, file, 0);
    if (bytes == MAP_FAILED)
        fail(code, "cannot read %s: %s", path, file < 0 ? strerror(errno) : "empty, not a file, or too large");
    (void)close(file);
    *size = (size_t)end;
    return bytes;
}

/* Loads an image at another address; returns the size of its arena. */
static size_t load_row(struct recorder *run, struct row *row)
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
    for (size_t i = 0; i + size < row->size && !*text; i++)
        if (memcmp(image + i, RANGE_KEY, size) == 0) {
            const size_t rest = row->size - i - size;
            memcpy(text, image + i + size, rest < sizeof text ? rest : sizeof text - 1);
        }
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
    memset(row->y, 0, size); /* its pages are not those of the first inference */
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

static void call(const struct recorder *run, struct row *row)
{
    for (size_t left = row->calls, count; left > 0; left -= count) {
        count = run->n_inputs - row->next < left ? run->n_inputs - row->next : left;
        (void)sen_run_batch(row->model, run->x + row->next * run->values, row->y, count);
        row->next = (row->next + count) % run->n_inputs;
    }
}

/* Nanoseconds of `samples`. The one before is not kept: it finds the caches as the other rows left them. */
static void turn(const struct recorder *run, struct row *row)
{
    if (!run->is_cold)
        call(run, row);
    for (size_t i = 0; i < row->samples; i++) {
        for (size_t k = 0; run->is_cold && k < SWEEP_BYTES / sizeof *run->sweep; k++)
            run->sweep[k]++;
        const int64_t start = now_ns();
        call(run, row);
        row->ns[i] = now_ns() - start;
    }
}

static void one_round(struct recorder *run)
{
    for (size_t i = run->n_rows; i > 1; i--) {
        const size_t other = (size_t)(draw(&run->random) % i), swapped = run->order[i - 1];
        run->order[i - 1] = run->order[other];
        run->order[other] = swapped;
    }
    for (size_t i = 0; i < run->n_rows; i++)
        turn(run, run->rows + run->order[i]);
}

/* The fastest of some samples: a busy machine interrupts most of them. */
static int64_t fastest(const struct recorder *run, struct row *row)
{
    int64_t best = INT64_MAX;
    row->samples = 1;
    for (int tries = 0; tries < TRIES && (tries == 0 || best < LONG_NS) && !is_interrupted; tries++) {
        turn(run, row);
        best = *row->ns < best ? *row->ns : best;
    }
    return best;
}

/* Calls of a sample: a power of two that outweighs the clock, the same for rows that take about as long; samples of a turn.
 * Writes readings of the clock and these numbers. Returns the samples of a round. */
static size_t calibrate(struct recorder *run)
{
    struct row *const end = run->rows + run->n_rows;
    int64_t *ns = run->ns;
    for (size_t i = 0; i < MAX_TURN_SAMPLES; i++)
        ns[i] = now_ns();
    write_block("clock", ns, MAX_TURN_SAMPLES * sizeof *ns);
    const double min_ns = (double)(ns[MAX_TURN_SAMPLES - 1] - *ns) / (MAX_TURN_SAMPLES - 1) / OVERHEAD_SHARE;
    for (struct row *row = run->rows; row < end; row++) {
        int64_t best;
        row->ns = ns;
        for (row->calls = 1; (best = fastest(run, row)) < (int64_t)min_ns && !run->is_cold;)
            row->calls *= 2;
        row->call_ns = (double)best / (double)row->calls;
    }
    for (struct row *row = run->rows; row < end; row++) {
        for (const struct row *other = run->rows; other < end; other++)
            if (other->calls > row->calls && row->call_ns <= ALIKE * other->call_ns)
                row->calls = other->calls;
        const double samples = run->is_cold ? 1 : TURN_NS / (row->call_ns * (double)row->calls);
        row->samples = samples < 1 ? 1 : samples < MAX_TURN_SAMPLES ? (size_t)samples : MAX_TURN_SAMPLES;
        row->ns = ns;
        ns += row->samples;
        const int64_t numbers[] = {(int64_t)row->calls, (int64_t)row->samples};
        write_block("calibration", numbers, sizeof numbers);
    }
    return (size_t)(ns - run->ns);
}

/* All models at other addresses. */
static void load_rows(struct recorder *run)
{
    for (size_t i = 0; i < run->n_rows; i++)
        (void)load_row(run, run->rows + run->order[i]);
    for (int i = 0; i < SETTLING_ROUNDS; i++)
        one_round(run);
    write_block("load", "", 0);
}

/* Rounds until time is up. The models are loaded MAX_LOADS times, or less often where that takes longer than measuring. Of
 * the rounds about MAX_SAMPLES of each row are written, spread evenly. */
size_t write_rounds(struct recorder *run)
{
    const size_t n_samples = calibrate(run);
    const int64_t total = run->total_ns, start = now_ns();
    const double rounds_per_ns = MAX_SAMPLES * (double)run->n_rows / (double)n_samples / (double)total;
    int64_t last = start, spent = 0, used;
    size_t all = 0, written = 0;
    while (now_ns() - start < (total / 10 < SECOND ? total / 10 : SECOND) && !is_interrupted) /* warm-up */
        one_round(run);
    for (; !is_interrupted && (spent < total || all < MIN_ROUNDS); spent += used) {
        const int64_t begin = now_ns();
        load_rows(run);
        const int64_t loaded = now_ns(), least = total / MAX_LOADS, slot = loaded - begin > least ? loaded - begin : least;
        const size_t enough = all + ROUNDS_PER_LOAD;
        for (used = 0; ((used < slot && spent + used < total) || all < enough) && !is_interrupted; all++) {
            one_round(run);
            used = now_ns() - loaded;
            if ((double)written <= rounds_per_ns * (double)(spent + used)) {
                write_block("round", run->ns, n_samples * sizeof *run->ns);
                written++;
            }
            if (loaded + used - last >= SECOND + total / MAX_STATES) {
                write_sources("state", state);
                last = loaded + used;
            }
        }
    }
    return written;
}
