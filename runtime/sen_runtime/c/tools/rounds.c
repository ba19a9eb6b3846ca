/* Rounds in which every row takes a turn, in a random order, as sen_runtime/bench/rounds.py and interleaved.py measure them:
 * docs/reference/bench.md explains the constants. */
#include "recorder.h"

#include <inttypes.h>

#define TURN_NS 1e6
#define OVERHEAD_SHARE 0.005
#define ALIKE 1.5
#define EMPTY_TRIES 101
#define CLOCK_READS 1000
#define TRIES 15
#define LONG_NS 200000000
#define MAX_SAMPLES 262144.0 /* written of a row */
#define MAX_LOADS 40
#define ROUNDS_PER_LOAD 10
#define SETTLING_ROUNDS 3
#define MIN_ROUNDS 20u
#define MAX_WARM_UP_NS 1e9
#define WARM_UP_SHARE 0.1
#define MAX_STATES 1000 /* at least a second apart */

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
    if (!run->sweep)
        call(run, row, row->calls);
    for (i = 0; i < row->samples; i++) {
        for (k = 0; run->sweep && k < run->sweep_size; k++)
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
        if (run->sweep || (double)elapsed >= (double)overhead / OVERHEAD_SHARE || is_interrupted)
            break;
    }
    row->call_ns = (double)elapsed / (double)row->calls;
    return overhead;
}

/* Calls of a sample, a power of two whose time outweighs the reading of the clock, and samples of a turn. Rows that take about
 * as long have the same number of calls. */
static void calibrate(struct recorder *run)
{
    const size_t n = run->n_rows;
    size_t i, k;
    for (i = 0; i < n; i++)
        (void)fprintf(
            run->out, "%s%" PRId64, i ? ", " : "{\"event\": \"calibration\", \"overhead_ns\": [", calibrate_row(run, run->rows + i));
    for (i = 0; i < n; i++)
        for (k = 0; k < n; k++)
            if (run->rows[k].calls > run->rows[i].calls && run->rows[i].call_ns <= ALIKE * run->rows[k].call_ns)
                run->rows[i].calls = run->rows[k].calls;
    for (i = 0; i < n; i++) {
        struct row *row = run->rows + i;
        const double samples = TURN_NS / (row->call_ns * (double)row->calls);
        row->samples = samples < 1 || run->sweep ? 1 : samples < MAX_TURN_SAMPLES ? (size_t)samples : MAX_TURN_SAMPLES;
        (void)fprintf(run->out, "%s%zu", i ? ", " : "], \"calls\": [", row->calls);
    }
    (void)fputs("]}\n", run->out);
}

static void write_round(struct recorder *run)
{
    size_t i, k;
    (void)fputs("{\"event\": \"round\", \"ns\": [", run->out);
    for (i = 0; i < run->n_rows; i++)
        for (k = 0; k < run->rows[i].samples; k++)
            (void)fprintf(
                run->out, "%s%" PRId64, k ? ", " : i ? "], [" : "[", run->ns[i * MAX_TURN_SAMPLES + k]);
    (void)fputs("]]}\n", run->out);
    run->n_rounds++;
}

/* All models at other addresses. */
static int load_rows(struct recorder *run)
{
    size_t i;
    int code = EXIT_OK;
    for (i = 0; i < run->n_rows && code == EXIT_OK; i++)
        code = load_row(run->rows + run->order[i], run->kernels, &run->random);
    for (i = 0; i < SETTLING_ROUNDS && code == EXIT_OK; i++)
        one_round(run);
    return code;
}

/* Takes turns until the rows are warm; nanoseconds of a round. */
static double warm_up(struct recorder *run)
{
    const double share_ns = WARM_UP_SHARE * 1e9 * run->seconds;
    const int64_t start = now_ns();
    size_t count = 0;
    do {
        one_round(run);
        count++;
    } while ((double)(now_ns() - start) < (share_ns < MAX_WARM_UP_NS ? share_ns : MAX_WARM_UP_NS) && !is_interrupted);
    return (double)(now_ns() - start) / (double)count;
}

/* One in this many rounds is written. */
static size_t choose_step(const struct recorder *run, double n_rounds)
{
    size_t samples = 1, i;
    for (i = 0; i < run->n_rows; i++)
        samples = run->rows[i].samples > samples ? run->rows[i].samples : samples;
    return 1 + (size_t)(n_rounds * (double)samples / MAX_SAMPLES);
}

int write_rounds(struct recorder *run)
{
    const double total_ns = run->seconds * 1e9, wait_ns = total_ns / MAX_STATES > 1e9 ? total_ns / MAX_STATES : 1e9;
    double round_ns, load_ns;
    int64_t start, end, last_state;
    size_t step, n_loads, load, count = 0;
    int code;
    calibrate(run);
    round_ns = warm_up(run);
    step = choose_step(run, total_ns / round_ns);
    start = now_ns();
    code = load_rows(run);
    load_ns = (double)(now_ns() - start);
    load_ns = load_ns > ROUNDS_PER_LOAD * round_ns ? load_ns : ROUNDS_PER_LOAD * round_ns;
    n_loads = total_ns < load_ns ? 1 : total_ns < MAX_LOADS * load_ns ? (size_t)(total_ns / load_ns) : MAX_LOADS;
    last_state = now_ns();
    for (load = 0; load < n_loads && code == EXIT_OK && !is_interrupted; load++) {
        code = load ? load_rows(run) : code;
        (void)fputs("{\"event\": \"load\"}\n", run->out);
        end = now_ns() + (int64_t)(total_ns / (double)n_loads);
        while (code == EXIT_OK) {
            one_round(run);
            if (count++ % step == 0)
                write_round(run);
            if ((double)(now_ns() - last_state) >= wait_ns) {
                write_state(run->out);
                last_state = now_ns();
                code = flush_output(run);
            }
            if (is_interrupted || (now_ns() >= end && (load + 1 < n_loads || count >= MIN_ROUNDS)))
                break;
        }
    }
    return code;
}

void write_clock(FILE *out)
{
    int64_t step = INT64_MAX, start, last;
    int i;
    start = last = now_ns();
    for (i = 0; i < CLOCK_READS; i++) {
        const int64_t now = now_ns();
        if (now > last && now - last < step)
            step = now - last;
        last = now;
    }
    (void)fprintf(
        out, "{\"event\": \"clock\", \"resolution_ns\": %" PRId64 ", \"timer_ns\": %.6g}\n", step,
        (double)(last - start) / CLOCK_READS);
}
