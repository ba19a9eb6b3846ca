/* Rounds in which every row takes a turn, in a random order, as sen_runtime/bench/rounds.py and interleaved.py measure them:
 * docs/reference/bench.md explains the constants. */
#include "recorder.h"

#include <inttypes.h>
#include <stdio.h>

#define TURN_NS 1e6
#define OVERHEAD_SHARE 0.005
#define ALIKE 1.5
#define EMPTY_TRIES 101
#define TRIES 15
#define SECOND 1000000000 /* in nanoseconds; the max warm-up too */
#define LONG_NS (SECOND / 5)
#define MAX_SAMPLES 262144.0 /* written of a row */
#define MAX_LOADS 40
#define ROUNDS_PER_LOAD 10u
#define SETTLING_ROUNDS 3
#define MIN_ROUNDS 20u
#define WARM_UP_SHARE 0.1
#define MAX_STATES 1000 /* at least a second apart */

static void write_numbers(const int64_t *numbers, size_t count)
{
    size_t i;
    for (i = 0; i < count; i++)
        printf("%s%" PRId64, i ? ", " : "[", numbers[i]);
    putchar(']');
}

/* Successive readings of the clock. */
void write_clock(const struct recorder *run)
{
    size_t i;
    for (i = 0; i < MAX_TURN_SAMPLES; i++)
        run->ns[i] = now_ns();
    fputs("{\"event\": \"clock\", \"ns\": ", stdout);
    write_numbers(run->ns, MAX_TURN_SAMPLES);
    puts("}");
}

static void call(const struct recorder *run, struct row *row, size_t calls)
{
    while (calls) {
        const size_t left = run->n_inputs - row->next, count = calls < left ? calls : left;
        (void)sen_run_batch(row->model, run->x + row->next * run->values, row->y, count);
        row->next = count < left ? row->next + count : 0;
        calls -= count;
    }
}

static int64_t sample(const struct recorder *run, struct row *row, size_t calls)
{
    const int64_t start = now_ns();
    call(run, row, calls);
    return now_ns() - start;
}

static int64_t fastest(const struct recorder *run, struct row *row, size_t calls, int tries)
{
    int64_t best = INT64_MAX;
    for (; tries > 0 && !is_interrupted; tries--) {
        const int64_t found = sample(run, row, calls);
        best = found < best ? found : best;
        if (found > LONG_NS)
            break;
    }
    return best;
}

/* Nanoseconds of the samples of a turn. The first sample is not kept: it finds the caches as the other rows left them. */
static void turn(const struct recorder *run, struct row *row, int64_t *ns)
{
    size_t i, k;
    if (!run->is_cold)
        call(run, row, row->calls);
    for (i = 0; i < row->samples; i++) {
        for (k = 0; run->is_cold && k < SWEEP_BYTES / sizeof *run->sweep; k++)
            run->sweep[k]++;
        ns[i] = sample(run, row, row->calls);
    }
}

static void one_round(struct recorder *run)
{
    size_t i;
    for (i = run->n_rows; i > 1; i--) {
        const size_t other = (size_t)(draw(&run->random) % i), swapped = run->order[i - 1];
        run->order[i - 1] = run->order[other];
        run->order[other] = swapped;
    }
    for (i = 0; i < run->n_rows; i++)
        turn(run, run->rows + run->order[i], run->ns + run->order[i] * MAX_TURN_SAMPLES);
}

static int64_t calibrate_row(const struct recorder *run, struct row *row)
{
    const int64_t overhead = fastest(run, row, 0, EMPTY_TRIES);
    int64_t elapsed;
    for (row->calls = 1;; row->calls *= 2) {
        elapsed = fastest(run, row, row->calls, TRIES);
        if (run->is_cold || (double)elapsed >= (double)overhead / OVERHEAD_SHARE || is_interrupted)
            break;
    }
    row->call_ns = (double)elapsed / (double)row->calls;
    return overhead;
}

/* Calls of a sample, a power of two whose time outweighs the reading of the clock, and samples of a turn. Rows that take about
 * as long have the same number of calls. Returns the samples of the longest turn. */
static size_t calibrate(struct recorder *run)
{
    const size_t n = run->n_rows;
    size_t i, k, most = 1;
    for (i = 0; i < n; i++)
        run->ns[i] = calibrate_row(run, run->rows + i);
    fputs("{\"event\": \"calibration\", \"overhead_ns\": ", stdout);
    write_numbers(run->ns, n);
    for (i = 0; i < n; i++)
        for (k = 0; k < n; k++)
            if (run->rows[k].calls > run->rows[i].calls && run->rows[i].call_ns <= ALIKE * run->rows[k].call_ns)
                run->rows[i].calls = run->rows[k].calls;
    for (i = 0; i < n; i++) {
        struct row *row = run->rows + i;
        const double samples = TURN_NS / (row->call_ns * (double)row->calls);
        row->samples = samples < 1 || run->is_cold ? 1 : samples < MAX_TURN_SAMPLES ? (size_t)samples : MAX_TURN_SAMPLES;
        most = row->samples > most ? row->samples : most;
        run->ns[i] = (int64_t)row->calls;
    }
    fputs(", \"calls\": ", stdout);
    write_numbers(run->ns, n);
    puts("}");
    return most;
}

static void write_round(struct recorder *run)
{
    size_t i;
    fputs("{\"event\": \"round\", \"ns\": [", stdout);
    for (i = 0; i < run->n_rows; i++) {
        fputs(i ? ", " : "", stdout);
        write_numbers(run->ns + i * MAX_TURN_SAMPLES, run->rows[i].samples);
    }
    puts("]}");
    run->n_rounds++;
}

/* All models at other addresses. */
static int load_rows(struct recorder *run)
{
    size_t i;
    int code = EXIT_OK;
    for (i = 0; i < run->n_rows && code == EXIT_OK; i++)
        code = load_row(run, run->rows + run->order[i]);
    for (i = 0; i < SETTLING_ROUNDS && code == EXIT_OK; i++)
        one_round(run);
    puts("{\"event\": \"load\"}");
    return code;
}

/* Rounds until time is up. The models are loaded MAX_LOADS times, or less often where that takes longer than measuring. Of
 * the rounds about MAX_SAMPLES of each row are written, spread evenly. */
int write_rounds(struct recorder *run)
{
    const int64_t total = (int64_t)(run->seconds * 1e9), wait = total / MAX_STATES > SECOND ? total / MAX_STATES : SECOND;
    const int64_t warm_up = (int64_t)(WARM_UP_SHARE * (double)total);
    const double rounds_per_ns = MAX_SAMPLES / (double)calibrate(run) / (double)total;
    int64_t last = now_ns(), begin, loaded, slot, spent = 0, used;
    size_t count, all = 0;
    int code = EXIT_OK;
    for (begin = last; now_ns() - begin < (warm_up < SECOND ? warm_up : SECOND) && !is_interrupted;)
        one_round(run);
    for (; code == EXIT_OK && !is_interrupted && (spent < total || all < MIN_ROUNDS); spent += used) {
        begin = now_ns();
        code = load_rows(run);
        loaded = now_ns();
        slot = loaded - begin > total / MAX_LOADS ? loaded - begin : total / MAX_LOADS;
        slot = slot < total ? slot : total;
        for (count = 0, used = 0; (used < slot || count < ROUNDS_PER_LOAD) && code == EXIT_OK && !is_interrupted; count++, all++) {
            one_round(run);
            used = now_ns() - loaded;
            if ((double)run->n_rounds <= rounds_per_ns * (double)(spent + used))
                write_round(run);
            if (loaded + used - last >= wait) {
                write_sources("state", state);
                last = loaded + used;
                code = flush_output();
            }
        }
    }
    return code;
}
