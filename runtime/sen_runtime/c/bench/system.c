/* What the operating system is asked for: the clock, a core to run on, memory. */
#define _GNU_SOURCE /* sched_setaffinity, where there is one */
#include "bench.h"

#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#define CLOCK_READS 10000
#define PAGE 4096u

#ifdef CLOCK_MONOTONIC_RAW
static clockid_t the_clock = CLOCK_MONOTONIC_RAW;
#else
static clockid_t the_clock = CLOCK_MONOTONIC;
#endif

int bench_fail(int code, const char *hint, const char *format, ...)
{
    char text[2 * PAGE];
    va_list arguments;
    char *at;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (at = text; *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            *at = '?'; /* names of files can hold what a terminal obeys */
    (void)fprintf(stderr, "error: %s\n", text);
    if (hint)
        (void)fprintf(stderr, "  -> %s\n", hint);
    return code;
}

/* Nanoseconds since the clock was measured, not since boot, which may be years ago: a double keeps each of them. */
static time_t origin_s;

static double read_clock(clockid_t clock)
{
    struct timespec now;
    (void)clock_gettime(clock, &now);
    return (double)(now.tv_sec - origin_s) * 1e9 + (double)now.tv_nsec;
}

double bench_now_ns(void)
{
    return read_clock(the_clock);
}

static double reading_ns(clockid_t clock)
{
    const double start = read_clock(clock);
    int i;
    for (i = 2; i < CLOCK_READS; i++)
        (void)read_clock(clock);
    return (read_clock(clock) - start) / (CLOCK_READS - 1);
}

static sen_status nothing(sen_model *model, const float *x, float *y)
{
    (void)model;
    (void)x;
    (void)y;
    return SEN_OK;
}

void bench_measure_clock(bench_clock *found)
{
    bench_loop empty = {nothing, NULL, NULL, MOST_INPUTS, 0, 0, NULL};
    struct timespec resolution, begun;
    double last;
    int i;
    if (reading_ns(the_clock) > 2 * reading_ns(CLOCK_MONOTONIC)) /* older kernels on ARM make a system call of it */
        the_clock = CLOCK_MONOTONIC;
    (void)clock_gettime(the_clock, &begun);
    origin_s = begun.tv_sec;
    (void)clock_getres(the_clock, &resolution);
    found->resolution_ns = (double)resolution.tv_sec * 1e9 + (double)resolution.tv_nsec;
    found->timer_ns = found->loop_ns = found->step_ns = 1e9;
    for (i = 0; i < 5; i++) {
        const double timer = reading_ns(the_clock), loop = bench_time(&empty, CLOCK_READS) / CLOCK_READS;
        found->timer_ns = timer < found->timer_ns ? timer : found->timer_ns;
        found->loop_ns = loop < found->loop_ns ? loop : found->loop_ns;
    }
    last = bench_now_ns();
    for (i = 0; i < CLOCK_READS; i++) {
        const double now = bench_now_ns();
        if (now > last && now - last < found->step_ns)
            found->step_ns = now - last;
        last = now;
    }
}

#ifdef __linux__
int bench_pin(long cpu)
{
    char allowed[BENCH_TEXT] = "";
    size_t used = 0;
    cpu_set_t set;
    long each;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return bench_fail(EXIT_FAILED, "leave --cpu out", "this system does not say which cores there are");
    for (each = 0; each < CPU_SETSIZE && used + 24 < sizeof allowed; each++)
        if (CPU_ISSET((size_t)each, &set))
            used += (size_t)snprintf(allowed + used, sizeof allowed - used, used ? ", %ld" : "%ld", each);
    if (cpu >= CPU_SETSIZE || !CPU_ISSET((size_t)cpu, &set))
        return bench_fail(
            EXIT_USAGE, NULL, "there is no core %ld for this process; expected one of %s", cpu, allowed);
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0)
        return bench_fail(EXIT_FAILED, "leave --cpu out", "cannot run on core %ld: %s", cpu, strerror(errno));
    return EXIT_OK;
}

int bench_is_pinned(long cpu)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) == 1 && CPU_ISSET((size_t)cpu, &set);
}
#else
int bench_pin(long cpu)
{
    (void)cpu;
    return bench_fail(EXIT_USAGE, "leave --cpu out", "this system does not let a process choose its core");
}

int bench_is_pinned(long cpu)
{
    (void)cpu;
    return 0;
}
#endif

static uint64_t ask_free_bytes(void)
{
    const int64_t told = bench_kilobytes("/proc/meminfo", "MemAvailable");
    uint64_t found = told > 0 ? (uint64_t)told : UINT64_MAX;
#ifdef _SC_PHYS_PAGES
    const long pages = sysconf(_SC_PHYS_PAGES), bytes = sysconf(_SC_PAGESIZE);
    if (told <= 0 && pages > 0 && bytes > 0)
        found = (uint64_t)pages * (uint64_t)bytes;
#endif
    return found < SIZE_MAX / 2 ? found : SIZE_MAX / 2;
}

uint64_t bench_free_bytes(void)
{
    static uint64_t known;
    static time_t asked;
    const time_t now = time(NULL);
    if (!known || now != asked)
        known = ask_free_bytes();
    asked = now;
    return known;
}

float *bench_floats(uint64_t count)
{
    return count < bench_free_bytes() / sizeof(float) ? malloc((size_t)count * sizeof(float)) : NULL;
}

/* Large blocks come from the system and go back to it, so that none meets what another left. */
void bench_keep_no_memory(void)
{
#ifdef __GLIBC__
    (void)mallopt(M_MMAP_THRESHOLD, 128 * 1024); /* which else grows with every block that is freed */
#endif
}

int bench_take(bench_block *block, size_t size, bench_random *random)
{
    const size_t shift = random ? (size_t)(bench_draw(random) % (PAGE / SEN_ALIGNMENT)) * SEN_ALIGNMENT : 0;
    void *memory = NULL;
    if (size > SIZE_MAX / 2 || posix_memalign(&memory, SEN_ALIGNMENT, size + shift + SEN_ALIGNMENT) != 0)
        return 0;
    block->memory = memory;
    block->start = (uint8_t *)memory + shift;
    block->size = size;
    return 1;
}

void bench_give_back(bench_block *block)
{
    free(block->memory);
    memset(block, 0, sizeof *block);
}

int bench_add(bench_list *list, double value)
{
    if (list->count == list->room) {
        const size_t room = list->room ? 2 * list->room : 1024;
        double *values = room < SIZE_MAX / sizeof *values ? realloc(list->values, room * sizeof *values) : NULL;
        if (!values)
            return 0;
        list->values = values;
        list->room = room;
    }
    list->values[list->count++] = value;
    return 1;
}
