/* What happened to the machine while a run was made, and whether that makes the run invalid. */
#include "bench.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

/* A clock that is lower than the highest of the run by more than this share has changed, if so in this share of the samples
 * and twice: one may have met the core between two turns. */
#define CLOCK_TOLERANCE 0.1
#define CLOCK_SHARE 0.05
#define LEAST_SAMPLES 2u
/* Between looks at the machine. */
#define LOOK_NS 1e9
#define SINCE_BOOT 16
/* Load of other programs that may go beyond the cores that the run leaves. */
#define SPARE_LOAD 0.5

/* What one bit of `vcgencmd get_throttled` means; the bit 16 higher tells of the time since boot. */
static const char *const throttled_bits[4] = {
    "under-voltage: the power supply or its cable is too weak", "the firmware capped the clock of the cores",
    "the cores were throttled", "the soft temperature limit was reached"};

static double fastest(const bench_state *state)
{
    double found = NAN;
    size_t i;
    for (i = 0; i < state->n_cpus; i++)
        if (!(state->mhz[i] <= found) && isfinite(state->mhz[i]))
            found = state->mhz[i];
    return found;
}

static void note_bits(bench_watch *watch, const bench_state *state)
{
    if (state->throttled >= 0) {
        watch->held |= state->throttled & ((1 << SINCE_BOOT) - 1);
        watch->told |= state->throttled >> SINCE_BOOT;
    }
}

void bench_observe(bench_watch *watch, double now_ns)
{
    bench_state state;
    double kernel;
    if (now_ns < watch->next_ns)
        return;
    bench_read_state(&state, "");
    note_bits(watch, &state);
    kernel = fastest(&state);
    /* Where there is no memory for it, a look is as good as not taken. */
    if (state.arm_clock_mhz > 0 || kernel > 0)
        (void)bench_add(&watch->clocks, state.arm_clock_mhz > 0 ? state.arm_clock_mhz : kernel);
    if (state.arm_clock_mhz > 0 && kernel > 0 && bench_add(&watch->firmware, state.arm_clock_mhz)
        && !bench_add(&watch->kernel, kernel))
        watch->firmware.count--;
    if (watch->every_ns < LOOK_NS)
        watch->every_ns = LOOK_NS;
    watch->next_ns = bench_now_ns() + watch->every_ns;
}

static int is_often(size_t count, size_t total)
{
    return count >= LEAST_SAMPLES && (double)count >= CLOCK_SHARE * (double)total;
}

static void say(bench_run *run, const char *format, ...)
{
    va_list arguments;
    if (run->n_slowed == (int)(sizeof run->slowed / sizeof *run->slowed))
        return;
    va_start(arguments, format);
    (void)vsnprintf(run->slowed[run->n_slowed++], BENCH_TEXT, format, arguments);
    va_end(arguments);
}

static void judge_clocks(bench_run *run)
{
    const bench_list *clocks = &run->watch.clocks, *firmware = &run->watch.firmware, *kernel = &run->watch.kernel;
    double highest = 0, lowest = INFINITY, least = INFINITY, beside = 0;
    size_t low = 0, apart = 0, i;
    for (i = 0; i < clocks->count; i++)
        highest = clocks->values[i] > highest ? clocks->values[i] : highest;
    for (i = 0; i < clocks->count; i++) {
        low += clocks->values[i] < (1 - CLOCK_TOLERANCE) * highest;
        lowest = clocks->values[i] < lowest ? clocks->values[i] : lowest;
    }
    if (is_often(low, clocks->count))
        say(run, "the clock of the cores fell from %.0f to %.0f MHz in %lu of %lu samples taken while they were busy",
            highest, lowest, (unsigned long)low, (unsigned long)clocks->count);
    for (i = 0; i < firmware->count; i++) {
        if (firmware->values[i] >= (1 - CLOCK_TOLERANCE) * kernel->values[i])
            continue;
        apart++;
        if (firmware->values[i] < least) {
            least = firmware->values[i];
            beside = kernel->values[i];
        }
    }
    if (is_often(apart, firmware->count))
        say(run,
            "the cores ran at %.0f MHz (vcgencmd measure_clock arm) where the kernel says %.0f MHz, in %lu of %lu samples",
            least, beside, (unsigned long)apart, (unsigned long)firmware->count);
}

/* Whether a limit of a clock is another one after the run. */
static void judge_limit(bench_run *run, const char *name, const double *before, const double *after, size_t count)
{
    size_t i;
    for (i = 0; i < count; i++)
        if (isfinite(before[i]) && isfinite(after[i]) && (before[i] < after[i] || before[i] > after[i])) {
            say(run, "%s changed from %g to %g MHz during the run", name, before[i], after[i]);
            return;
        }
}

static void judge_settings(bench_run *run)
{
    const bench_state *before = &run->before, *after = &run->after;
    const size_t count = before->n_cpus < after->n_cpus ? before->n_cpus : after->n_cpus;
    size_t i;
    for (i = 0; i < count; i++)
        if (strcmp(before->governor[i], after->governor[i]) != 0) {
            say(run, "the governor changed from %s to %s during the run", before->governor[i], after->governor[i]);
            break;
        }
    judge_limit(run, "the least clock", before->min_mhz, after->min_mhz, count);
    judge_limit(run, "the greatest clock", before->max_mhz, after->max_mhz, count);
}

double bench_other_load(const bench_run *run)
{
    const double cores = (double)sysconf(_SC_NPROCESSORS_ONLN);
    const double others = fmax(run->before.load, run->after.load - 1); /* ours is one */
    return others >= 0 && others + 1 > cores + SPARE_LOAD ? others : (double)NAN;
}

void bench_judge(bench_run *run)
{
    const int64_t known = run->before.throttled < 0 ? 0 : run->before.throttled >> SINCE_BOOT;
    int64_t happened;
    int bit;
    note_bits(&run->watch, &run->after);
    happened = run->watch.held | (run->watch.told & ~known);
    for (bit = 0; bit < 4; bit++)
        if (happened >> bit & 1)
            say(run, "%s (vcgencmd get_throttled, bit %d)", throttled_bits[bit], bit);
    judge_clocks(run);
    judge_settings(run);
}
