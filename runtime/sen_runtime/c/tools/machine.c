/* The machine: clock, core, caches, and the text of the kernel files that sen_runtime/bench/device.py parses. */
#define _GNU_SOURCE /* sched_setaffinity */
#include "recorder.h"

#include <glob.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bandwidth.h"

/* As in sen_runtime/bench/memory.py. */
#define MIN_MEMORY ((size_t)32 << 20)
#define MAX_SWEEP ((size_t)64 << 20)
#define L2_SECONDS 0.05
#define MEMORY_SECONDS 0.2
#define CACHE "/sys/devices/system/cpu/cpu0/cache/index%d/%s"
#define CPUFREQ "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/"

/* The patterns of device.py. */
static const char *const fact_files[] = {
    "/proc/device-tree/model", "/proc/device-tree/system/linux,revision", "/sys/class/dmi/id/sys_vendor",
    "/sys/class/dmi/id/product_name", "/proc/cpuinfo", "/proc/meminfo", "/proc/sys/kernel/osrelease", "/proc/self/exe",
    "/etc/os-release", "/usr/lib/os-release", "/sys/devices/system/cpu/cpu0/cache/index*/level",
    "/sys/devices/system/cpu/cpu0/cache/index*/type", "/sys/devices/system/cpu/cpu0/cache/index*/size", NULL};
static const char *const state_files[] = {
    "/proc/loadavg", "/proc/meminfo", "/sys/class/thermal/thermal_zone*/temp", "/sys/class/thermal/thermal_zone*/type",
    CPUFREQ "scaling_governor", CPUFREQ "scaling_*_freq", CPUFREQ "cpuinfo_*_freq", NULL};

int64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014. */
uint64_t draw(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Binds the process to a core, and reads that back. */
int pin(long cpu)
{
#ifdef __linux__
    cpu_set_t set;
    CPU_ZERO(&set);
    if (cpu < CPU_SETSIZE)
        CPU_SET((size_t)cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) == 0 && sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) == 1
        && CPU_ISSET((size_t)cpu, &set))
        return EXIT_OK;
#endif
    return fail(EXIT_USAGE, "--cpu %ld: this process cannot run on that core", cpu);
}

static size_t read_file(const char *path, char *text, size_t size)
{
    FILE *file = fopen(path, "rb");
    const size_t count = file ? fread(text, 1, size, file) : 0;
    if (file)
        (void)fclose(file);
    return count;
}

/* The text of a file as a JSON string; of a program only the head of the ELF file. */
void write_file(FILE *out, const char *path)
{
    static char text[1 << 18];
    write_text(out, text, read_file(path, text, strcmp(path, "/proc/self/exe") == 0 ? 5 : sizeof text));
}

/* A member for each file, without the leading slash. */
static void write_files(FILE *out, const char *const *patterns)
{
    glob_t found;
    size_t i;
    for (; *patterns; patterns++) {
        if (glob(*patterns, 0, NULL, &found) != 0)
            continue;
        for (i = 0; i < found.gl_pathc; i++) {
            (void)fputs(", ", out);
            write_text(out, found.gl_pathv[i] + 1, strlen(found.gl_pathv[i]) - 1);
            (void)fputs(": ", out);
            write_file(out, found.gl_pathv[i]);
        }
        globfree(&found);
    }
}

/* A member with the output of a command: the first 255 bytes. */
static void write_answer(FILE *out, const char *command)
{
    char line[128], text[256];
    size_t size = 0;
    FILE *answer;
    (void)snprintf(line, sizeof line, "%s 2>/dev/null", command);
    answer = popen(line, "r");
    if (answer) {
        size = fread(text, 1, sizeof text, answer);
        (void)pclose(answer);
    }
    (void)fprintf(out, "\"%s\": ", command);
    write_text(out, text, size);
}

void write_facts(FILE *out)
{
    (void)fputs("{\"event\": \"facts\", \"texts\": {", out);
    write_answer(out, "uname -m");
    write_files(out, fact_files);
    (void)fputs("}}\n", out);
}

void write_state(FILE *out)
{
    (void)fputs("{\"event\": \"state\", \"texts\": {", out);
    write_answer(out, "vcgencmd get_throttled");
    (void)fputs(", ", out);
    write_answer(out, "vcgencmd measure_clock arm");
    write_files(out, state_files);
    (void)fputs("}}\n", out);
}

/* Bytes of the data cache of a level; 0 where the kernel does not list it. */
static size_t cache_bytes(int level)
{
    int index;
    for (index = 0; index < 8; index++) {
        char path[128], text[32] = "", *unit;
        unsigned long size;
        (void)snprintf(path, sizeof path, CACHE, index, "level");
        if (!read_file(path, text, sizeof text - 1) || atoi(text) != level)
            continue;
        (void)snprintf(path, sizeof path, CACHE, index, "type");
        if (!read_file(path, text, sizeof text - 1) || *text == 'I') /* Instruction */
            continue;
        memset(text, 0, sizeof text);
        (void)snprintf(path, sizeof path, CACHE, index, "size");
        (void)read_file(path, text, sizeof text - 1);
        size = strtoul(text, &unit, 10);
        return size < 1ul << 20 ? size << (*unit == 'K' ? 10 : *unit == 'M' ? 20 : 0) : 0;
    }
    return 0;
}

static size_t last_level_bytes(void)
{
    const size_t l2 = cache_bytes(2), l3 = cache_bytes(3);
    return l2 > l3 ? l2 : l3;
}

/* `null` where the size is 0 or there is no memory. */
static void write_speed(FILE *out, const char *name, size_t size, double seconds)
{
    void *block = NULL;
    size = size / 128 * 128;
    (void)fprintf(out, ", \"%s\": ", name);
    if (size && posix_memalign(&block, SEN_ALIGNMENT, size) == 0) {
        memset(block, 1, size);
        (void)fprintf(out, "%.17g", sen_bench_bandwidth(block, size, seconds));
        free(block);
    } else {
        (void)fputs("null", out);
    }
}

/* Bytes per nanosecond that one core reads from its second-level cache and from memory. */
void write_bandwidth(FILE *out)
{
    const size_t last = last_level_bytes(), size = 2 * last > MIN_MEMORY ? 2 * last : MIN_MEMORY;
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    const int fits = pages > 0 && page > 0 && (double)size <= (double)pages * (double)page / 8;
    (void)fputs("{\"event\": \"bandwidth\"", out);
    write_speed(out, "l2_bytes_per_ns", cache_bytes(2) / 2, L2_SECONDS);
    write_speed(out, "memory_bytes_per_ns", last && fits ? size : 0, MEMORY_SECONDS);
    (void)fputs("}\n", out);
}

/* Allocates twice the last-level cache, at most MAX_SWEEP, at least twice the second level. */
int make_sweep(struct recorder *run)
{
    const size_t last = last_level_bytes(), l2 = cache_bytes(2);
    size_t size = last && 2 * last < MAX_SWEEP ? 2 * last : MAX_SWEEP;
    size = size > 2 * l2 ? size : 2 * l2;
    run->sweep_size = size / sizeof *run->sweep;
    run->sweep = calloc(run->sweep_size, sizeof *run->sweep);
    return run->sweep ? EXIT_OK : fail(EXIT_FAILED, "--cold-cache: no memory for %zu bytes", size);
}
