/* sen_bench: how fast .sen images run on a device without Python. docs/how-to/benchmark-without-python.md shows its use. */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bandwidth.h"

#define HELP_HINT "sen_bench --help"
#define LONGEST_S 604800.0 /* a week */
#define BANDWIDTH_S 0.2
/* What no cache of a small device holds, and what is read at most where caches are larger: once, and ahead of each sample. */
#define LEAST_SWEEP ((size_t)64 << 20)
#define MOST_MEMORY ((size_t)1 << 30)
#define MOST_SWEEP ((size_t)256 << 20)

volatile sig_atomic_t bench_is_interrupted;

static const char usage[] =
    "usage: sen_bench FILE.sen... [--seconds 10] [--seed 0] [--cpu N] [--json FILE|-] ...\n"
    "\n"
    "Measure the latency of .sen images side by side, and compare their outputs.\n"
    "\n"
    "  --seconds S        how long to measure (default: 10)\n"
    "  --seed N           of inputs and order (default: 0)\n"
    "  --cpu N            core to measure on (default: any)\n"
    "  --kernels NAME     fastest, reference, portable or narrow (default: fastest)\n"
    "  --inputs FILE      float32 inputs, little-endian, one after the other (default: random)\n"
    "  --cold-cache       empty the caches ahead of every inference\n"
    "  --json FILE        write the record; - is stdout, then without the table\n"
    "  --raw              keep all samples in the record\n"
    "  --allow-throttled  do not fail where the processor was slowed down\n"
    "  --force            replace an existing file\n"
    "  --version, --help\n"
    "\n"
    "Exit codes: 0 ok, 1 failed, 2 usage, 3 wrong outputs or throttled, 130 interrupted.\n";

static void note_interrupt(int number)
{
    (void)number;
    bench_is_interrupted = 1;
}

/* The first of each signal is noted, the second one ends the program. One that is ignored (nohup) stays so. A pipe
 * whose reader has gone does not end the program. */
static void watch_interrupts(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action, before;
    size_t i;
    memset(&action, 0, sizeof action);
    action.sa_handler = note_interrupt;
    action.sa_flags = (int)SA_RESETHAND;
    (void)sigemptyset(&action.sa_mask);
    for (i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (sigaction(numbers[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
            (void)sigaction(numbers[i], &action, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
}

/* A standard stream that is closed counts as /dev/null; the next file that is opened must not take its place, and its text. */
static void hold_standard_streams(void)
{
    int number;
    do
        number = open("/dev/null", O_RDWR);
    while (number >= 0 && number <= STDERR_FILENO);
    if (number >= 0)
        (void)close(number);
}

static int bad_value(const char *option, const char *value, const char *expected)
{
    return bench_fail(EXIT_USAGE, HELP_HINT, "%s is %s; expected %s", option, value, expected);
}

static int read_whole(const char *option, const char *value, uint64_t most, uint64_t *number)
{
    char *end;
    errno = 0;
    *number = strtoull(value, &end, 10);
    if (*value < '0' || *value > '9' || *end || errno || *number > most)
        return bad_value(option, value, "a whole number, not negative");
    return EXIT_OK;
}

static int read_kernels(const char *value, unsigned *flag)
{
    static const struct {
        const char *name;
        unsigned flag;
    } known[] = {{"fastest", 0}, {"reference", SEN_REFERENCE}, {"portable", SEN_PORTABLE}, {"narrow", SEN_NARROW}};
    size_t i;
    for (i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(value, known[i].name) == 0) {
            *flag = known[i].flag;
            return EXIT_OK;
        }
    return bad_value("--kernels", value, "fastest, reference, portable or narrow");
}

/* An option that has a value; -1 where there is none of this name. */
static int read_valued(bench_options *options, const char *name, const char *value)
{
    uint64_t number = 0;
    char *end;
    int code;
    if (strcmp(name, "--seconds") == 0) {
        options->seconds = strtod(value, &end);
        return end != value && !*end && options->seconds > 0 && options->seconds <= LONGEST_S
            ? EXIT_OK
            : bad_value(name, value, "seconds, more than 0 and at most a week");
    }
    if (strcmp(name, "--seed") == 0)
        return read_whole(name, value, INT64_MAX, &options->seed);
    if (strcmp(name, "--cpu") == 0) {
        code = read_whole(name, value, 65535, &number);
        options->cpu = (long)number;
        return code;
    }
    if (strcmp(name, "--kernels") == 0)
        return read_kernels(value, &options->kernels);
    if (strcmp(name, "--json") == 0)
        options->json = value;
    else if (strcmp(name, "--inputs") == 0)
        options->inputs = value;
    else
        return -1;
    return *value ? EXIT_OK : bad_value(name, "empty", "the name of a file");
}

/* An option without a value. */
static int *find_switch(bench_options *options, const char *name)
{
    return strcmp(name, "--cold-cache") == 0   ? &options->is_cold
        : strcmp(name, "--raw") == 0             ? &options->is_raw
        : strcmp(name, "--allow-throttled") == 0 ? &options->allows_throttled
        : strcmp(name, "--force") == 0           ? &options->replaces
                                                 : NULL;
}

static int read_option(bench_options *options, int argc, char **argv, int *at)
{
    static const char *const valued[] = {"--seconds", "--seed", "--cpu", "--kernels", "--json", "--inputs"};
    char *word = argv[*at];
    int *const found = find_switch(options, word);
    size_t i;
    if (found) {
        *found = 1;
        return EXIT_OK;
    }
    for (i = 0; i < sizeof valued / sizeof *valued; i++) {
        const size_t length = strlen(valued[i]);
        if (strncmp(word, valued[i], length) == 0 && word[length] == '=')
            return read_valued(options, valued[i], word + length + 1);
        if (strcmp(word, valued[i]) == 0) {
            if (*at + 1 == argc)
                return bench_fail(EXIT_USAGE, HELP_HINT, "%s has no value", word);
            return read_valued(options, valued[i], argv[++*at]);
        }
    }
    return bench_fail(EXIT_USAGE, HELP_HINT, "there is no option %s", word);
}

/* Files come first in `argv`, in their order; after `--` all words are files. */
static int read_options(bench_options *options, int argc, char **argv)
{
    int takes_options = 1, code = EXIT_OK, i;
    for (i = 1; i < argc && code == EXIT_OK; i++) {
        if (takes_options && strcmp(argv[i], "--") == 0)
            takes_options = 0;
        else if (takes_options && argv[i][0] == '-' && argv[i][1])
            code = read_option(options, argc, argv, &i);
        else
            options->files[options->n_files++] = argv[i];
    }
    if (code == EXIT_OK && options->n_files == 0)
        return bench_fail(EXIT_USAGE, HELP_HINT, "no file was named; expected one or more .sen images");
    return code;
}

/* Memory that is filled, so that it is there; NULL start where there is none to spare. */
static void take_filled(bench_block *block, size_t size)
{
    memset(block, 0, sizeof *block);
    if (size <= bench_free_bytes() / 4 && bench_take(block, size, NULL))
        memset(block->start, 1, size);
}

static double measure_bandwidth(size_t size)
{
    bench_block block;
    double found = NAN;
    take_filled(&block, size);
    if (block.start)
        found = sen_bench_bandwidth(block.start, size, BANDWIDTH_S);
    bench_give_back(&block);
    return found;
}

/* Twice what the last cache holds, and within limits; less where so much memory is not to spare. */
static size_t beyond_caches(int64_t last, size_t most)
{
    size_t size = LEAST_SWEEP;
    while (size < most && (int64_t)(size / 2) < last)
        size *= 2;
    while (size > LEAST_SWEEP / 16 && size > bench_free_bytes() / 4)
        size /= 2;
    return size;
}

static int measure_machine(bench_run *run)
{
    const int64_t l2 = bench_cache_bytes("", 2), l3 = bench_cache_bytes("", 3), last = l3 > l2 ? l3 : l2;
    const size_t size = beyond_caches(last, MOST_MEMORY), sweep = beyond_caches(last, MOST_SWEEP);
    /* Half of it, so that nothing else evicts it. */
    run->l2_bytes_per_ns = l2 > 0 ? measure_bandwidth((size_t)l2 / 2 / 128 * 128) : (double)NAN;
    run->memory_bytes_per_ns = (int64_t)size > last ? measure_bandwidth(size) : (double)NAN;
    if (run->options->is_cold)
        take_filled(&run->sweep, sweep);
    if (run->options->is_cold && !run->sweep.start)
        return bench_fail(EXIT_FAILED, "leave --cold-cache out", "no memory to empty the caches with");
    run->sweep_is_small = run->options->is_cold && (int64_t)sweep < last;
    return EXIT_OK;
}

/* What samples say; of rows that are compared, the ratio too. */
static int evaluate(bench_run *run)
{
    size_t i;
    for (i = 0; i < run->n_rows; i++) {
        bench_row *row = run->rows + i;
        int has_memory = bench_summarize(&row->summary, row->samples_us.values, row->samples_us.count);
        if (i && has_memory && row->turns_us.count > 1)
            has_memory = bench_compare_turns(
                &row->ratio, &row->turns_us, &run->rows->turns_us, &run->loads, run->options->seed);
        if (!has_memory)
            return bench_fail(EXIT_FAILED, "measure for fewer seconds", "no memory to evaluate the samples");
    }
    bench_judge(run);
    return EXIT_OK;
}

/* Everything ahead of the measuring. */
static int prepare(bench_run *run)
{
    const bench_options *options = run->options;
    size_t i;
    int code = bench_check_output(options);
    if (code == EXIT_OK && options->cpu >= 0)
        code = bench_pin(options->cpu);
    if (code == EXIT_OK)
        code = bench_describe_rows(run);
    if (code == EXIT_OK && !bench_is_interrupted)
        code = bench_make_inputs(run);
    if (code == EXIT_OK)
        bench_measure_clock(&run->clock);
    for (i = 0; i < run->n_rows && code == EXIT_OK && !bench_is_interrupted; i++)
        code = bench_cold_start(run->rows + i, options);
    if (code == EXIT_OK && !bench_is_interrupted)
        code = bench_compare(run);
    if (code == EXIT_OK && !bench_is_interrupted)
        code = measure_machine(run);
    return code;
}

static int run_bench(bench_run *run)
{
    const bench_options *options = run->options;
    int code;
    run->began = time(NULL);
    code = prepare(run);
    if (code == EXIT_OK && !bench_is_interrupted) {
        (void)fputs("warming up\n", stderr);
        bench_read_state(&run->before, "");
        run->watch.every_ns = options->seconds * 1e6; /* a thousand looks, or fewer */
        code = bench_measure(run);
        bench_read_state(&run->after, "");
        run->cpus_verified = options->cpu < 0 || bench_is_pinned(options->cpu);
    }
    if (code != EXIT_OK)
        return code;
    if (run->n_rounds == 0) {
        (void)fputs("interrupted: nothing was measured\n", stderr);
        return EXIT_INTERRUPTED;
    }
    code = evaluate(run);
    if (code == EXIT_OK)
        code = bench_save_record(run);
    if (code != EXIT_OK)
        return code;
    if (!run->is_complete) {
        (void)fputs("interrupted: what was measured until then is kept, and marked\n", stderr);
        return EXIT_INTERRUPTED;
    }
    return bench_is_right(run) && (options->allows_throttled || !run->n_slowed) ? EXIT_OK : EXIT_WRONG;
}

static void free_run(bench_run *run)
{
    size_t i;
    for (i = 0; i < run->n_rows; i++) {
        free(run->rows[i].name);
        free(run->rows[i].origin);
        free(run->rows[i].loop.y);
        free(run->rows[i].samples_us.values);
        free(run->rows[i].turns_us.values);
    }
    free(run->rows);
    free(run->inputs.x);
    free(run->loads.values);
    free(run->watch.clocks.values);
    free(run->watch.firmware.values);
    free(run->watch.kernel.values);
    bench_give_back(&run->sweep);
}

int main(int argc, char **argv)
{
    bench_options options = {NULL, 0, 10, 0, -1, 0, NULL, NULL, 0, 0, 0, 0, argc, argv};
    static bench_run run;
    int code, i;
    for (i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "--version") == 0) {
            (void)fputs(argv[i][2] == 'h' ? usage : "sen_bench " BENCH_VERSION "\n", stdout);
            return EXIT_OK;
        }
    options.files = calloc((size_t)argc + 1, sizeof *options.files);
    if (!options.files)
        return bench_fail(EXIT_FAILED, NULL, "no memory");
    code = read_options(&options, argc, argv);
    if (code == EXIT_OK) {
        hold_standard_streams();
        watch_interrupts();
        bench_keep_no_memory();
        run.options = &options;
        code = run_bench(&run);
        free_run(&run);
    }
    free(options.files);
    return code;
}
