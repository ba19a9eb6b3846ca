/* sen_bench: records how .sen images run on a device without Python. */
#include "recorder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define VERSION "0.1.0"
#define MAX_SECONDS 604800.0 /* a week */
#define MAX_CPU 65535u
#if defined(__clang__)
#define COMPILER "clang version " __clang_version__
#elif defined(__GNUC__)
#define COMPILER "GCC " __VERSION__
#else
#define COMPILER "unavailable"
#endif

volatile sig_atomic_t is_interrupted;

static const char usage[] =
    "usage: sen_bench FILE.sen... [--seconds 10] [--output raw.jsonl]\n"
    "\n"
    "Record latency and outputs of .sen images side by side. Evaluate the file where\n"
    "there is Python: sen-runtime record raw.jsonl\n"
    "\n"
    "  --seconds S      how long to measure (default: 10)\n"
    "  --seed N         of random inputs and of the order of turns (default: 0)\n"
    "  --cpu N          core to run on (default: any)\n"
    "  --kernels NAME   fastest, reference, portable or narrow (default: fastest)\n"
    "  --inputs FILE    little-endian float32 inputs, of which 64 are used (default: random)\n"
    "  --cold-cache     empty the caches before each inference\n"
    "  --output FILE    default: raw.jsonl; - is stdout\n"
    "  --force          replace an existing file\n"
    "  --version, --help\n"
    "\n"
    "Exit codes: 0 ok, 1 failed, 2 usage, 130 interrupted.\n";

int fail(int code, const char *format, ...)
{
    char text[8192], *at;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (at = text; *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            *at = '?'; /* a file name may hold control sequences of terminals */
    (void)fprintf(stderr, "error: %s\n", text);
    return code;
}

int flush_output(const struct recorder *run)
{
    if (fflush(run->out) == 0 && !ferror(run->out))
        return EXIT_OK;
    return fail(EXIT_FAILED, "cannot write %s: %s", run->output, strerror(errno));
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
    size_t i;
    memset(&action, 0, sizeof action);
    action.sa_handler = note_interrupt;
    action.sa_flags = (int)SA_RESETHAND;
    for (i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (sigaction(numbers[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
            (void)sigaction(numbers[i], &action, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
}

/* Opens closed standard streams as /dev/null: otherwise the output file takes the place of stderr. */
static void open_standard_streams(void)
{
    int number = 0;
    while (number >= 0 && number <= STDERR_FILENO)
        number = open("/dev/null", O_RDWR);
    if (number >= 0)
        (void)close(number);
}

static int read_number(const char *name, const char *value, uint64_t most, uint64_t *number)
{
    char *end;
    errno = 0;
    *number = strtoull(value, &end, 10);
    if (*value < '0' || *value > '9' || *end || errno || *number > most)
        return fail(EXIT_USAGE, "%s is %s; expected a whole number, 0 or more", name, value);
    return EXIT_OK;
}

static int read_kernels(const char *value, unsigned *flag)
{
    static const char *const names[] = {"fastest", "reference", "portable", "narrow"};
    static const unsigned flags[] = {SEN_DEFAULT, SEN_REFERENCE, SEN_PORTABLE, SEN_NARROW};
    size_t i;
    for (i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(value, names[i]) == 0) {
            *flag = flags[i];
            return EXIT_OK;
        }
    return fail(EXIT_USAGE, "--kernels is %s; expected fastest, reference, portable or narrow", value);
}

static int read_value(struct recorder *run, const char *name, const char *value)
{
    uint64_t cpu = 0;
    char *end;
    int code = EXIT_OK;
    if (!value)
        return fail(EXIT_USAGE, "%s is unknown, or lacks its value; see sen_bench --help", name);
    if (strcmp(name, "--seconds") == 0) {
        run->seconds = strtod(value, &end);
        if (!*value || *end || !(run->seconds > 0 && run->seconds <= MAX_SECONDS))
            code = fail(EXIT_USAGE, "--seconds is %s; expected a number above 0, at most a week", value);
    } else if (strcmp(name, "--seed") == 0) {
        code = read_number(name, value, INT64_MAX, &run->seed);
    } else if (strcmp(name, "--cpu") == 0) {
        code = read_number(name, value, MAX_CPU, &cpu);
        run->cpu = (long)cpu;
    } else if (strcmp(name, "--kernels") == 0) {
        code = read_kernels(value, &run->kernels);
    } else if (strcmp(name, "--inputs") == 0) {
        run->inputs = value;
    } else if (strcmp(name, "--output") == 0) {
        run->output = value;
    } else {
        code = fail(EXIT_USAGE, "unknown option %s; see sen_bench --help", name);
    }
    return code;
}

static int read_options(struct recorder *run, char **arguments)
{
    int takes_options = 1, code = EXIT_OK;
    for (; *arguments && code == EXIT_OK; arguments++)
        if (!takes_options || (*arguments)[0] != '-')
            run->rows[run->n_rows++].path = *arguments;
        else if (strcmp(*arguments, "--") == 0)
            takes_options = 0;
        else if (strcmp(*arguments, "--cold-cache") == 0)
            run->is_cold = 1;
        else if (strcmp(*arguments, "--force") == 0)
            run->replaces = 1;
        else if ((code = read_value(run, arguments[0], arguments[1])) == EXIT_OK)
            arguments++;
    if (code == EXIT_OK && run->n_rows == 0)
        code = fail(EXIT_USAGE, "expected .sen images; see sen_bench --help");
    return code;
}

static int is_same(const char *path, const struct stat *file)
{
    struct stat found;
    return path && stat(path, &found) == 0 && found.st_dev == file->st_dev && found.st_ino == file->st_ino;
}

static int open_output(struct recorder *run)
{
    struct stat found;
    size_t i;
    run->out = stdout;
    if (strcmp(run->output, "-") == 0)
        return EXIT_OK;
    if (stat(run->output, &found) == 0) {
        int is_input = is_same(run->inputs, &found);
        for (i = 0; i < run->n_rows; i++)
            is_input = is_input || is_same(run->rows[i].path, &found);
        if (is_input)
            return fail(EXIT_USAGE, "--output %s is an input of this run; name another file", run->output);
        if (!S_ISREG(found.st_mode) || !run->replaces)
            return fail(EXIT_FAILED, "%s exists; pass --force, or name another file with --output", run->output);
    }
    run->out = fopen(run->output, "w");
    return run->out ? EXIT_OK : fail(EXIT_FAILED, "cannot write %s: %s", run->output, strerror(errno));
}

static void write_start(const struct recorder *run, char **arguments)
{
    FILE *out = run->out;
    (void)fprintf(
        out, "{\"event\": \"start\", \"format\": \"sen-edge/raw/1\", \"version\": \"" VERSION "\", \"time\": %lld, ",
        (long long)time(NULL));
    (void)fprintf(
        out, "\"seconds\": %.17g, \"seed\": %llu, \"cold_cache\": %s, \"cpu\": ", run->seconds,
        (unsigned long long)run->seed, run->is_cold ? "true" : "false");
    if (run->cpu < 0)
        (void)fputs("null", out);
    else
        (void)fprintf(out, "%ld", run->cpu);
    (void)fputs(", \"compiler\": ", out);
    write_text(out, COMPILER, sizeof COMPILER - 1);
    (void)fputs(", \"command\": [\"sen_bench\"", out);
    while (*++arguments) {
        (void)fputs(", ", out);
        write_text(out, *arguments, strlen(*arguments));
    }
    (void)fputs("]}\n", out);
}

static int prepare(struct recorder *run)
{
    int code = run->cpu < 0 ? EXIT_OK : pin(run->cpu);
    if (code == EXIT_OK)
        code = read_rows(run);
    if (code == EXIT_OK)
        code = read_inputs(run);
    if (code == EXIT_OK && run->is_cold)
        code = make_sweep(run);
    if (code == EXIT_OK)
        code = open_output(run);
    return code;
}

static int write_events(struct recorder *run, char **arguments)
{
    int code;
    write_start(run, arguments);
    write_facts(run->out);
    write_rows(run);
    code = write_outputs(run);
    if (code == EXIT_OK)
        code = write_cold_starts(run);
    if (code != EXIT_OK || is_interrupted)
        return code;
    write_clock(run->out);
    write_bandwidth(run->out);
    (void)fprintf(stderr, "measuring for %g s\n", run->seconds);
    write_state(run->out);
    code = write_rounds(run);
    write_state(run->out);
    if (code == EXIT_OK && run->n_rounds) {
        (void)fprintf(run->out, "{\"event\": \"end\", \"status\": \"%s\"}\n", is_interrupted ? "interrupted" : "complete");
        code = flush_output(run);
    }
    return code;
}

int main(int argc, char **argv)
{
    static struct recorder run;
    int code = EXIT_OK, i;
    for (i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "--version") == 0)
            return fputs(argv[i][2] == 'h' ? usage : "sen_bench " VERSION "\n", stdout) < 0 ? EXIT_FAILED : EXIT_OK;
    run.seconds = 10;
    run.cpu = -1;
    run.output = "raw.jsonl";
    run.rows = calloc((size_t)argc, sizeof *run.rows);
    run.order = calloc((size_t)argc, sizeof *run.order);
    run.ns = calloc((size_t)argc * MAX_TURN_SAMPLES, sizeof *run.ns);
    for (i = 0; i < argc && run.order; i++)
        run.order[i] = (size_t)i;
    open_standard_streams();
    note_signals();
    code = run.rows && run.order && run.ns ? read_options(&run, argv + 1) : fail(EXIT_FAILED, "no memory");
    run.random = run.seed;
    if (code == EXIT_OK)
        code = prepare(&run);
    if (code != EXIT_OK)
        return code;
    code = write_events(&run, argv);
    if (run.n_rounds == 0 && run.out != stdout)
        (void)unlink(run.output); /* nothing was measured */
    if (code == EXIT_OK)
        (void)fprintf(
            stderr, "%s%zu rounds in %s; next: sen-runtime record\n", is_interrupted ? "interrupted: " : "", run.n_rounds,
            run.output);
    return code == EXIT_OK && is_interrupted ? EXIT_INTERRUPTED : code;
}
