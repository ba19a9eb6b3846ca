/* sen_bench: records how .sen images run on a device without Python. */
#include "recorder.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bandwidth.h"

#define VERSION "0.1.0"
#define MAX_SECONDS 604800.0 /* a week */
/* Sizes of buffers whose bandwidth is written; seconds that one takes, and its max share of the memory. */
#define MIN_BUFFER ((size_t)1 << 15)
#define MAX_BUFFER ((size_t)1 << 27)
#define BUFFER_SECONDS 0.05
#define MEMORY_SHARE 8
#if defined(__clang__)
#define COMPILER "clang version " __clang_version__
#elif defined(__GNUC__)
#define COMPILER "GCC " __VERSION__
#else
#define COMPILER "unavailable"
#endif

static const char usage[] =
    "usage: sen_bench FILE.sen... [--seconds 10] > raw.jsonl\n"
    "\n"
    "Record latency and outputs of .sen images side by side. Evaluate the file where\n"
    "there is Python: sen-runtime record raw.jsonl\n"
    "\n"
    "  --seconds S      how long to measure (default: 10)\n"
    "  --seed N         of random inputs and of the order of turns (default: 0)\n"
    "  --kernels NAME   fastest, reference, portable or narrow (default: fastest)\n"
    "  --inputs FILE    little-endian float32 inputs, of which 64 are used (default: random)\n"
    "  --cold-cache     empty the caches before each inference\n"
    "  --version, --help\n"
    "\n"
    "Run on one core: taskset -c 3 sen_bench ...\n"
    "Exit codes: 0 ok, 1 failed, 2 usage, 130 interrupted.\n";

/* The program ends after --help and --version. */
static int read_options(struct recorder *run, int argc, char **argv)
{
    static const struct option options[] = {
        {"seconds", required_argument, NULL, 's'}, {"seed", required_argument, NULL, 'r'},
        {"kernels", required_argument, NULL, 'k'}, {"inputs", required_argument, NULL, 'i'},
        {"cold-cache", no_argument, NULL, 'c'},    {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0}};
    static const char *const kernels[] = {"fastest", "reference", "portable", "narrow", NULL};
    static const unsigned flags[] = {SEN_DEFAULT, SEN_REFERENCE, SEN_PORTABLE, SEN_NARROW};
    int option, i;
    char *end;
    opterr = errno = 0;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        switch (option) {
        case 's':
            run->seconds = strtod(optarg, &end);
            if (!*optarg || *end || !(run->seconds > 0 && run->seconds <= MAX_SECONDS))
                return fail(EXIT_USAGE, "--seconds is %s; expected a number above 0, at most a week", optarg);
            break;
        case 'r':
            errno = 0; /* strtod may have set it */
            run->seed = strtoull(optarg, &end, 10);
            if (*optarg < '0' || *optarg > '9' || *end || errno || run->seed > INT64_MAX)
                return fail(EXIT_USAGE, "--seed is %s; expected a whole number from 0 to 2^63 - 1", optarg);
            break;
        case 'k':
            for (i = 0; kernels[i] && strcmp(optarg, kernels[i]) != 0; i++)
                ;
            if (!kernels[i])
                return fail(EXIT_USAGE, "--kernels is %s; expected fastest, reference, portable or narrow", optarg);
            run->kernels = flags[i];
            break;
        case 'i':
            run->inputs = optarg;
            break;
        case 'c':
            run->is_cold = 1;
            break;
        case 'v':
        case 'h':
            exit(fputs(option == 'h' ? usage : "sen_bench " VERSION "\n", stdout) < 0 ? EXIT_FAILED : EXIT_OK);
        default:
            return fail(EXIT_USAGE, "%s is unknown, or lacks its value; see sen_bench --help", argv[optind - 1]);
        }
    for (run->random = run->seed; optind < argc; optind++)
        run->rows[run->n_rows++].path = argv[optind];
    return run->n_rows ? EXIT_OK : fail(EXIT_USAGE, "expected .sen images; see sen_bench --help");
}

static void write_start(const struct recorder *run, char **arguments)
{
    printf("{\"event\": \"start\", \"format\": \"sen-edge/raw/1\", \"version\": \"" VERSION "\", ");
    printf("\"time\": %lld, \"seconds\": %.17g, ", (long long)time(NULL), run->seconds);
    printf("\"seed\": %llu, \"cold_cache\": %s, ", (unsigned long long)run->seed, run->is_cold ? "true" : "false");
    printf("\"compiler\": \"" COMPILER "\", \"command\": [\"sen_bench\"");
    while (*++arguments) {
        fputs(", ", stdout);
        write_text(*arguments, strlen(*arguments));
    }
    puts("]}");
}

/* Bytes per nanosecond that one core reads from buffers of several sizes. */
static void write_bandwidth(void)
{
    const double memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    size_t size;
    fputs("{\"event\": \"bandwidth\", \"bytes_per_ns\": [", stdout);
    for (size = MIN_BUFFER; size <= MAX_BUFFER && (double)size <= memory / MEMORY_SHARE; size *= 2) {
        void *block;
        if (posix_memalign(&block, SEN_ALIGNMENT, size) != 0)
            break;
        memset(block, 1, size);
        printf(
            "%s[%zu, %.17g]", size == MIN_BUFFER ? "" : ", ", size,
            sen_bench_bandwidth(block, size, BUFFER_SECONDS));
        free(block);
    }
    puts("]}");
}

static int record(struct recorder *run, char **arguments)
{
    size_t i;
    int code = EXIT_OK;
    write_start(run, arguments);
    write_sources("facts", facts);
    for (i = 0; i < run->n_rows && code == EXIT_OK; i++)
        code = open_row(run, run->rows + i);
    if (code != EXIT_OK)
        return code;
    write_inputs(run);
    write_clock(run);
    write_bandwidth();
    fprintf(stderr, "measuring for %g s\n", run->seconds);
    write_sources("state", state);
    code = write_rounds(run);
    write_sources("state", state);
    if (code == EXIT_OK) {
        printf("{\"event\": \"end\", \"status\": \"%s\"}\n", is_interrupted ? "interrupted" : "complete");
        code = flush_output();
    }
    if (code == EXIT_OK)
        fprintf(stderr, "%s%zu rounds; next: sen-runtime record\n", is_interrupted ? "interrupted: " : "", run->n_rounds);
    return code == EXIT_OK && is_interrupted ? EXIT_INTERRUPTED : code;
}

int main(int argc, char **argv)
{
    static struct recorder run;
    int code, i;
    run.seconds = 10;
    run.rows = calloc((size_t)argc, sizeof *run.rows);
    run.order = calloc((size_t)argc, sizeof *run.order);
    run.ns = calloc((size_t)argc * MAX_TURN_SAMPLES, sizeof *run.ns);
    run.sweep = calloc(1, SWEEP_BYTES);
    if (!run.rows || !run.order || !run.ns || !run.sweep)
        return fail(EXIT_FAILED, "no memory");
    for (i = 0; i < argc; i++)
        run.order[i] = (size_t)i;
    note_signals();
    code = read_options(&run, argc, argv);
    return code == EXIT_OK ? record(&run, argv) : code;
}
