/* Options, signals, and the sequence of a run. */
#include "recorder.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define VERSION "0.1.0"
#define MAX_SECONDS 604800.0 /* a week */
/* Of buffers whose bandwidth is written: sizes, seconds that one takes, and max share of the memory. */
#define MIN_BUFFER ((size_t)1 << 15)
#define MAX_BUFFER ((size_t)1 << 27)
#define BUFFER_SECONDS 0.05
#define MEMORY_SHARE 8
#if defined(__clang__)
#define COMPILER "clang version " __clang_version__
#else
#define COMPILER "GCC " __VERSION__
#endif
#define CACHE "/sys/devices/system/cpu/cpu0/cache/index*/"

/* Commands and patterns of sen_runtime/bench/device.py that describe the machine. */
static const char *const facts[] = {
    "uname -m", "/proc/device-tree/model", "/proc/device-tree/system/linux,revision", "/sys/class/dmi/id/sys_vendor",
    "/sys/class/dmi/id/product_name", "/proc/cpuinfo", "/proc/meminfo", "/proc/sys/kernel/osrelease", "/proc/self/exe",
    "/etc/os-release", "/usr/lib/os-release", CACHE "level", CACHE "type", CACHE "size", NULL};

static const char usage[] =
    "usage: sen_bench FILE.sen... [--seconds 10] > bench.raw\n\n"
    "Record latency and outputs of .sen images side by side. Evaluate the file where\n"
    "there is Python: sen-runtime record bench.raw\n\n"
    "  --seconds S      how long to measure (default: 10)\n"
    "  --seed N         of random inputs and of the order of turns (default: 0)\n"
    "  --kernels NAME   fastest, reference, portable or narrow (default: fastest)\n"
    "  --inputs FILE    little-endian float32 inputs, of which 64 are used (default: random)\n"
    "  --cold-cache     empty the caches before each inference\n"
    "  --version, --help\n\n"
    "Run on one core: taskset -c 3 sen_bench ...\n"
    "Exit codes: 0 ok, 1 failed, 2 usage, 130 interrupted.\n";

/* The program ends after --help and --version. */
static void read_options(struct recorder *run, int argc, char **argv)
{
    static const struct option options[] = {
        {"seconds", required_argument, NULL, 's'}, {"seed", required_argument, NULL, 'r'},
        {"kernels", required_argument, NULL, 'k'}, {"inputs", required_argument, NULL, 'i'},
        {"cold-cache", no_argument, NULL, 'c'},    {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0}};
    static const char *const kernels[] = {"fastest", "reference", "portable", "narrow"};
    static const unsigned flags[] = {SEN_DEFAULT, SEN_REFERENCE, SEN_PORTABLE, SEN_NARROW};
    int option, is_valid = 1;
    char *end;
    opterr = 0;
    while (is_valid && (option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 's') {
            const double seconds = strtod(optarg, &end);
            is_valid = !*end && seconds >= 1e-9 && seconds <= MAX_SECONDS;
            run->total_ns = is_valid ? (int64_t)(seconds * 1e9 + 0.5) : 0;
        } else if (option == 'r') {
            errno = 0;
            run->seed = strtoll(optarg, &end, 10);
            is_valid = *optarg >= '0' && *optarg <= '9' && !*end && !errno;
        } else if (option == 'k') {
            size_t i = 0;
            while (i < 4 && strcmp(optarg, kernels[i]) != 0)
                i++;
            is_valid = i < 4;
            run->kernels = is_valid ? flags[i] : 0;
        } else if (option == 'i')
            run->inputs = optarg;
        else if (option == 'c')
            run->is_cold = 1;
        else if (option == '?')
            is_valid = 0;
        else
            exit(fputs(option == 'h' ? usage : "sen_bench " VERSION "\n", stdout) < 0 ? EXIT_FAILED : EXIT_OK);
    }
    if (!is_valid)
        fail(EXIT_USAGE, "%s: unknown option or invalid value; see sen_bench --help", argv[optind - 1]);
    for (run->random = (uint64_t)run->seed; optind < argc; optind++)
        run->rows[run->n_rows++].path = argv[optind];
    if (run->n_rows == 0 || isatty(STDOUT_FILENO))
        fail(EXIT_USAGE, "expected .sen images, and a file as stdout; see sen_bench --help");
}

static void note_interrupt(int number)
{
    (void)number;
    is_interrupted = 1;
}

/* The first signal of a kind is noted, the second ends the program. Ignored signals stay ignored, as nohup requires. */
static void note_signals(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action, before;
    memset(&action, 0, sizeof action);
    action.sa_handler = note_interrupt;
    action.sa_flags = (int)(SA_RESETHAND | SA_RESTART);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (sigaction(numbers[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
            (void)sigaction(numbers[i], &action, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
}

/* Size of a buffer, and bytes that one core reads from it in a second. */
static void write_bandwidth(void)
{
    const double memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    for (size_t size = MIN_BUFFER; size <= MAX_BUFFER && (double)size <= memory / MEMORY_SHARE; size *= 2) {
        void *block = allocate(size);
        memset(block, 1, size);
        const int64_t numbers[] = {(int64_t)size, (int64_t)(1e9 * sen_bench_bandwidth(block, size, BUFFER_SECONDS))};
        write_block("bandwidth", numbers, sizeof numbers);
        free(block);
    }
}

int main(int argc, char **argv)
{
    static struct recorder run;
    const size_t n = (size_t)argc;
    run.total_ns = (int64_t)10 * 1000000000;
    run.rows = allocate(n * sizeof *run.rows);
    memset(run.rows, 0, n * sizeof *run.rows);
    run.order = allocate(n * sizeof *run.order);
    run.ns = allocate(n * MAX_TURN_SAMPLES * sizeof *run.ns);
    run.sweep = allocate(SWEEP_BYTES);
    memset(run.sweep, 0, SWEEP_BYTES);
    note_signals();
    read_options(&run, argc, argv);
    const int64_t settings[] = {(int64_t)time(NULL), run.total_ns, run.seed, run.is_cold};
    (void)puts("sen-edge/raw/2");
    write_block("start", settings, sizeof settings);
    write_block("version", VERSION, strlen(VERSION));
    write_block("compiler", COMPILER, strlen(COMPILER));
    write_source("command", "/proc/self/cmdline");
    write_sources("facts", facts);
    for (size_t i = 0; i < run.n_rows; i++) {
        run.order[i] = i;
        open_row(&run, run.rows + i);
    }
    write_block("inputs", run.x, run.n_inputs * run.values * sizeof *run.x);
    if (run.inputs)
        write_block("data", run.inputs, strlen(run.inputs));
    write_bandwidth();
    (void)fprintf(stderr, "measuring for %g s\n", (double)run.total_ns / 1e9);
    write_sources("state", state);
    const size_t n_rounds = write_rounds(&run);
    write_sources("state", state);
    const char *status = is_interrupted ? "interrupted" : "complete";
    write_block("end", status, strlen(status));
    flush_output();
    (void)fprintf(stderr, "%s: %zu rounds; next: sen-runtime record\n", status, n_rounds);
    return is_interrupted ? EXIT_INTERRUPTED : EXIT_OK;
}
