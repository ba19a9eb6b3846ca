/* Cold start and memory of a row, in a child process: each row meets the same, and none what others left in memory. */
#include "bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define STATUS "/proc/self/status"

typedef struct report {
    double load_us, first_us;
    int64_t rss_growth;
} report;

static int probe(bench_row *row, const bench_options *options, report *found)
{
    const uint64_t values = (uint64_t)row->n_in * (row->takes_train ? row->timesteps : 1);
    float *x;
    bench_random random = bench_seeded(options->seed, 0);
    const int64_t before = bench_kilobytes(STATUS, "VmRSS");
    double start, loaded, ready, done;
    int64_t after;
    uint64_t i;
    int code;
    (void)bench_free_bytes(); /* asked now, and not while the clock runs */
    start = bench_now_ns();
    code = bench_load(row, options, NULL);
    loaded = bench_now_ns();
    if (code != EXIT_OK)
        return code;
    x = bench_floats(values);
    if (!x)
        return bench_fail(EXIT_FAILED, NULL, "%s: no memory for an input", row->path);
    for (i = 0; i < values; i++)
        x[i] = (float)(bench_draw(&random) % 2);
    ready = bench_now_ns();
    code = bench_infer(row, x, row->loop.y);
    done = bench_now_ns();
    free(x);
    if (code != EXIT_OK)
        return code;
    after = bench_kilobytes(STATUS, "VmHWM");
    found->load_us = (loaded - start) / 1000;
    found->first_us = (done - ready) / 1000;
    found->rss_growth = before < 0 || after < 0 ? -1 : after > before ? after - before : 0;
    return EXIT_OK;
}

static void run_child(bench_row *row, const bench_options *options, int output)
{
    report found;
    int code;
    (void)signal(SIGINT, SIG_DFL);
    (void)signal(SIGTERM, SIG_DFL);
    (void)signal(SIGHUP, SIG_DFL);
    code = probe(row, options, &found);
    if (code == EXIT_OK && write(output, &found, sizeof found) != (ssize_t)sizeof found)
        code = EXIT_FAILED;
    _exit(code);
}

static int wait_for(pid_t child, const bench_row *row)
{
    int status = 0;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return bench_fail(EXIT_FAILED, NULL, "%s: lost the process that loads it: %s", row->path, strerror(errno));
    if (bench_is_interrupted)
        return EXIT_OK; /* the child was, too */
    if (WIFSIGNALED(status))
        return bench_fail(
            EXIT_FAILED, "it may need more memory than there is", "%s: the process that loaded it was ended by signal %d",
            row->path, WTERMSIG(status));
    return WEXITSTATUS(status);
}

int bench_cold_start(bench_row *row, const bench_options *options)
{
    report found = {0, 0, -1};
    int ends[2], code;
    ssize_t count;
    pid_t child;
    (void)fflush(stderr);
    if (pipe(ends) != 0)
        return bench_fail(EXIT_FAILED, NULL, "cannot start a process: %s", strerror(errno));
    child = fork();
    if (child == 0) {
        (void)close(ends[0]);
        run_child(row, options, ends[1]);
    }
    (void)close(ends[1]);
    if (child < 0) {
        (void)close(ends[0]);
        return bench_fail(EXIT_FAILED, NULL, "cannot start a process: %s", strerror(errno));
    }
    do
        count = read(ends[0], &found, sizeof found);
    while (count < 0 && errno == EINTR);
    (void)close(ends[0]);
    code = wait_for(child, row);
    if (code == EXIT_OK && !bench_is_interrupted && count != (ssize_t)sizeof found)
        return bench_fail(EXIT_FAILED, NULL, "%s: the process that loaded it said nothing", row->path);
    row->load_us = found.load_us;
    row->first_us = found.first_us;
    row->rss_growth = found.rss_growth;
    return code;
}
