/* Rounds in which every row takes a turn, in a random order, as sen_runtime/bench/rounds.py and interleaved.py measure them:
 * docs/reference/bench.md explains the constants. */
#include "recorder.h"

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

/* SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014. */
uint64_t draw(uint64_t *random)
{
    uint64_t z = *random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
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
