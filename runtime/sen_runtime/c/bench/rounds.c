/* The measuring itself: rounds in which every row takes a turn, in an order drawn anew, so that drift hits all alike; and
 * from time to time all models are loaded anew. Where a model lies in memory changes its speed, by some percent at times, and
 * holds until it is loaded again: what one load says of two models would else be of two places. */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bandwidth.h"

/* A sample takes so many times what reading the clock takes, and what it steps by. */
#define SAMPLE_READS 128
#define MOST_TURN_SAMPLES 512u
#define MOST_LOADS 16u
#define LOADING_SHARE 0.2
#define LEAST_ROUNDS 4u
#define SETTLING_TURNS 3
/* Warm-up ends when the medians of two windows of turns agree this well, or after so many seconds or this share of all. */
#define STABLE 0.02
#define WINDOW 5u
#define MOST_WARM_UP_NS 2e9
#define WARM_UP_SHARE 0.3
/* What is kept: of rounds, of samples of a row. */
#define MOST_ROUNDS 50000.0
#define MOST_SAMPLES 262144.0
#define TRIES 5

double bench_time(bench_loop *loop, size_t calls)
{
    bench_call *const call = loop->call;
    const float *x = loop->inputs ? loop->inputs + loop->next * loop->values : NULL;
    size_t next = loop->next;
    const double start = bench_now_ns();
    double end;
    size_t i;
    for (i = 0; i < calls; i++) {
        (void)call(loop->model, x, loop->y);
        x += loop->values;
        if (++next == loop->n_inputs) {
            next = 0;
            x = loop->inputs;
        }
    }
    end = bench_now_ns();
    loop->next = next;
    return end - start;
}

/* Samples of one turn, nanoseconds of a call [samples]; how many there are. */
static size_t take_turn(bench_row *row, const bench_block *sweep, double *found)
{
    static volatile uint32_t swept;
    size_t i;
    for (i = 0; i < row->samples && !(i && bench_is_interrupted); i++) {
        if (sweep->start)
            swept = sen_bench_read(sweep->start, sweep->size, 1);
        found[i] = bench_time(&row->loop, row->calls) / (double)row->calls;
    }
    (void)swept;
    return i;
}

/* Calls that make a turn, by the fastest of some tries: an interruption would make it short. */
static void calibrate(bench_run *run, bench_row *row)
{
    const bench_clock *clock = &run->clock;
    const double least = SAMPLE_READS * (clock->timer_ns > clock->step_ns ? clock->timer_ns : clock->step_ns);
    double fastest = 0, each;
    size_t calls = 1;
    int i;
    row->calls = row->samples = 1;
    if (run->sweep.start)
        return;
    for (;; calls *= 2) {
        fastest = bench_time(&row->loop, calls);
        for (i = 1; i < TRIES && fastest < 100.0 * TURN_NS && !bench_is_interrupted; i++) {
            const double again = bench_time(&row->loop, calls);
            fastest = again < fastest ? again : fastest;
        }
        if (fastest >= TURN_NS / 2.0 || bench_is_interrupted)
            break;
    }
    each = fastest / (double)calls;
    row->calls = each < least ? (size_t)ceil(least / each) : 1;
    if (each * (double)row->calls < TURN_NS)
        row->samples = (size_t)(TURN_NS / (each * (double)row->calls));
    row->samples = row->samples < MOST_TURN_SAMPLES ? row->samples : MOST_TURN_SAMPLES;
}

static void warm_up(bench_run *run, bench_row *row, double limit_ns)
{
    const double end = bench_now_ns() + limit_ns;
    double samples[MOST_TURN_SAMPLES], window[WINDOW], before = 0, now;
    size_t i;
    do {
        for (i = 0; i < WINDOW && !(i && bench_now_ns() >= end); i++)
            window[i] = bench_median(samples, take_turn(row, &run->sweep, samples));
        now = bench_median(window, i);
        if (fabs(now - before) <= STABLE * now)
            return;
        before = now;
    } while (bench_now_ns() < end && !bench_is_interrupted);
}

static void shuffle(size_t *order, size_t count, bench_random *random)
{
    size_t i;
    for (i = count; i > 1; i--) {
        const size_t other = (size_t)(bench_draw(random) % i), swapped = order[i - 1];
        order[i - 1] = order[other];
        order[other] = swapped;
    }
}

/* All rows loaded, in an order drawn anew, each somewhere else. */
static int load_all(bench_run *run, size_t *order, bench_random *random)
{
    size_t i;
    int code = EXIT_OK;
    for (i = 0; i < run->n_rows; i++)
        bench_unload(run->rows + i);
    shuffle(order, run->n_rows, random);
    for (i = 0; i < run->n_rows && code == EXIT_OK; i++) {
        bench_row *row = run->rows + order[i];
        code = bench_load(row, run->options, random);
        row->loop.inputs = run->inputs.x;
        row->loop.n_inputs = run->inputs.n;
        row->loop.values = run->inputs.values;
    }
    return code;
}

/* One turn of every row. Returns whether it is complete; what of it is to be kept is kept. */
static int one_round(bench_run *run, size_t *order, bench_random *random, int *has_memory)
{
    const int keeps_turns = run->n_rounds % run->turn_step == 0, keeps_samples = run->n_rounds % run->sample_step == 0;
    double samples[MOST_TURN_SAMPLES];
    size_t i, k;
    shuffle(order, run->n_rows, random);
    for (i = 0; i < run->n_rows; i++) {
        bench_row *row = run->rows + order[i];
        const size_t count = take_turn(row, &run->sweep, samples);
        for (k = 0; k < count && keeps_samples; k++)
            *has_memory = *has_memory && bench_add(&row->samples_us, samples[k] / 1000);
        if (keeps_turns)
            *has_memory = *has_memory && bench_add(&row->turns_us, bench_median(samples, count) / 1000);
        if (bench_is_interrupted)
            break;
    }
    if (i < run->n_rows)
        return 0;
    run->loads.values[run->loads.count - 1] += keeps_turns;
    run->n_rounds++;
    bench_observe(&run->watch, bench_now_ns());
    return 1;
}

/* An interruption may have come between two rows of a round: turns are in pairs again. Samples need not be. */
static void drop_half_round(bench_run *run)
{
    size_t complete = 0, i;
    for (i = 0; i < run->loads.count; i++)
        complete += (size_t)run->loads.values[i];
    for (i = 0; i < run->n_rows; i++)
        if (run->rows[i].turns_us.count > complete)
            run->rows[i].turns_us.count = complete;
}

/* How many loads fit, and of how many rounds one is kept, from what loading and a round take. */
static size_t plan(bench_run *run, double loading_ns)
{
    const double total = run->options->seconds * 1e9;
    double loads = LOADING_SHARE * total / (loading_ns > 1 ? loading_ns : 1);
    double round_ns = 0, most_samples = 1, samples[MOST_TURN_SAMPLES];
    size_t i;
    for (i = 0; i < run->n_rows; i++) {
        const double start = bench_now_ns(), count = (double)take_turn(run->rows + i, &run->sweep, samples);
        round_ns += bench_now_ns() - start;
        most_samples = count > most_samples ? count : most_samples;
    }
    run->turn_step = (size_t)ceil(total / round_ns / MOST_ROUNDS);
    run->sample_step = (size_t)ceil(total / round_ns * most_samples / MOST_SAMPLES);
    loads = loads < total / round_ns / (2 * LEAST_ROUNDS) ? loads : total / round_ns / (2 * LEAST_ROUNDS);
    return loads < 1 ? 1 : loads < MOST_LOADS ? (size_t)loads : MOST_LOADS;
}

/* Rounds until `end`, after some turns that are not kept. */
static int rounds_until(bench_run *run, double end, size_t *order, bench_random *random)
{
    double samples[MOST_TURN_SAMPLES];
    size_t count = 0, i;
    int has_memory = bench_add(&run->loads, 0), k;
    for (i = 0; i < run->n_rows; i++)
        for (k = 0; k < SETTLING_TURNS && run->loads.count > 1; k++)
            (void)take_turn(run->rows + i, &run->sweep, samples);
    while (has_memory && !bench_is_interrupted && (count < LEAST_ROUNDS * run->turn_step || bench_now_ns() < end))
        count += (size_t)one_round(run, order, random, &has_memory);
    return has_memory ? EXIT_OK : bench_fail(EXIT_FAILED, "measure for fewer seconds", "no memory for more samples");
}

static int measure(bench_run *run, size_t *order, bench_random *random)
{
    const double limit_ns = WARM_UP_SHARE * 1e9 * run->options->seconds / (double)run->n_rows;
    double start = bench_now_ns();
    size_t n_loads, load, i;
    int code = load_all(run, order, random);
    const double loading_ns = bench_now_ns() - start;
    for (i = 0; i < run->n_rows && code == EXIT_OK && !bench_is_interrupted; i++) {
        calibrate(run, run->rows + i);
        warm_up(run, run->rows + i, limit_ns < MOST_WARM_UP_NS ? limit_ns : MOST_WARM_UP_NS);
    }
    if (code != EXIT_OK || bench_is_interrupted)
        return code;
    n_loads = plan(run, loading_ns);
    (void)fprintf(stderr, "measuring for %g s, rows: %lu\n", run->options->seconds, (unsigned long)run->n_rows);
    start = bench_now_ns();
    for (load = 0; load < n_loads && code == EXIT_OK && !bench_is_interrupted; load++) {
        if (load)
            code = load_all(run, order, random);
        if (code == EXIT_OK)
            code = rounds_until(
                run, start + run->options->seconds * 1e9 * (double)(load + 1) / (double)n_loads, order, random);
    }
    run->is_complete = !bench_is_interrupted;
    drop_half_round(run);
    return code;
}

int bench_measure(bench_run *run)
{
    bench_random random = bench_seeded(run->options->seed, 1);
    size_t *order = malloc(run->n_rows * sizeof *order), i;
    int code;
    if (!order)
        return bench_fail(EXIT_FAILED, NULL, "no memory for %lu rows", (unsigned long)run->n_rows);
    for (i = 0; i < run->n_rows; i++)
        order[i] = i;
    code = measure(run, order, &random);
    for (i = 0; i < run->n_rows; i++)
        bench_unload(run->rows + i);
    free(order);
    return code;
}
