/* What machine this is: what does not change while it runs. */
#include "bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#define NOT_KNOWN "unavailable"

/* Cores by implementer and part of /proc/cpuinfo: "Main ID Register" in Arm's manuals of the cores. */
static const struct {
    unsigned part;
    const char *name;
} cores[] = {
    {0xb76, "ARM1176"},    {0xc05, "Cortex-A5"},   {0xc07, "Cortex-A7"},   {0xc08, "Cortex-A8"},
    {0xc09, "Cortex-A9"},  {0xc0f, "Cortex-A15"},  {0xd03, "Cortex-A53"},  {0xd04, "Cortex-A35"},
    {0xd05, "Cortex-A55"}, {0xd07, "Cortex-A57"},  {0xd08, "Cortex-A72"},  {0xd09, "Cortex-A73"},
    {0xd0a, "Cortex-A75"}, {0xd0b, "Cortex-A76"},  {0xd0c, "Neoverse-N1"}, {0xd0d, "Cortex-A77"},
    {0xd40, "Neoverse-V1"}, {0xd41, "Cortex-A78"}, {0xd49, "Neoverse-N2"}, {0xd4f, "Neoverse-V2"},
};

typedef struct cpuinfo {
    int cpus;
    char names[BENCH_TEXT]; /* of the kinds of core, with + between them */
    char revision[BENCH_TEXT];
} cpuinfo;

size_t bench_read_text(const char *root, const char *path, char *text, size_t size)
{
    char whole[2 * BENCH_TEXT];
    FILE *file;
    size_t count;
    (void)snprintf(whole, sizeof whole, "%s%s", root, path);
    file = fopen(whole, "rb");
    count = file ? fread(text, 1, size - 1, file) : 0;
    if (file)
        (void)fclose(file);
    text[count] = 0;
    count = strcspn(text, "\r\n"); /* and at a NUL, which ends what a device tree holds */
    text[count] = 0;
    while (count && (text[count - 1] == ' ' || text[count - 1] == '\t'))
        text[--count] = 0;
    return count;
}

int64_t bench_kilobytes(const char *path, const char *name)
{
    const size_t length = strlen(name);
    FILE *file = fopen(path, "r");
    char line[BENCH_TEXT];
    int64_t found = -1;
    while (file && found < 0 && fgets(line, sizeof line, file))
        if (strncmp(line, name, length) == 0 && line[length] == ':') {
            const long long kilobytes = strtoll(line + length + 1, NULL, 10);
            found = kilobytes >= 0 && kilobytes < INT64_MAX / 1024 ? kilobytes * 1024 : -1;
        }
    if (file)
        (void)fclose(file);
    return found;
}

/* Adds a name to a list, once. */
static void add_name(char *names, const char *name)
{
    const size_t used = strlen(names);
    if (*name && !strstr(names, name) && used + strlen(name) + 4 < BENCH_TEXT)
        (void)sprintf(names + used, used ? " + %s" : "%s", name);
}

static void add_core(cpuinfo *info, unsigned implementer, unsigned part, const char *other)
{
    char numbers[64];
    size_t i;
    for (i = 0; i < sizeof cores / sizeof *cores; i++)
        if (implementer == 0x41 && part == cores[i].part) {
            add_name(info->names, cores[i].name);
            return;
        }
    (void)snprintf(numbers, sizeof numbers, "implementer 0x%x part 0x%x", implementer, part);
    add_name(info->names, *other || !part ? other : numbers);
}

/* `key : value` of a line, without the space around them. */
static const char *split(char *line)
{
    char *colon = strchr(line, ':'), *end;
    if (!colon)
        return NULL;
    for (end = colon; end > line && (end[-1] == ' ' || end[-1] == '\t'); end--)
        ;
    *end = 0;
    colon += 1 + strspn(colon + 1, " \t");
    colon[strcspn(colon, "\r\n")] = 0;
    return colon;
}

/* A block of lines for each core; the name of one on x86 is "model name", which a 32-bit kernel on ARM gives to all. */
static void read_cpuinfo(cpuinfo *info, const char *root)
{
    char path[2 * BENCH_TEXT], line[4096], other[BENCH_TEXT] = "";
    unsigned implementer = 0, part = 0;
    FILE *file;
    memset(info, 0, sizeof *info);
    (void)snprintf(path, sizeof path, "%s/proc/cpuinfo", root);
    file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file)) {
        const char *value = split(line);
        if (!value)
            continue;
        if (strcmp(line, "processor") == 0 && *value >= '0' && *value <= '9') {
            if (info->cpus)
                add_core(info, implementer, part, other);
            info->cpus++;
            implementer = part = 0;
            other[0] = 0;
        } else if (strcmp(line, "model name") == 0) {
            (void)snprintf(other, sizeof other, "%.200s", value);
        } else if (strcmp(line, "CPU implementer") == 0) {
            implementer = (unsigned)strtoul(value, NULL, 16);
        } else if (strcmp(line, "CPU part") == 0) {
            part = (unsigned)strtoul(value, NULL, 16);
        } else if (strcmp(line, "Revision") == 0) {
            (void)snprintf(info->revision, sizeof info->revision, "%.200s", value);
        }
    }
    if (file)
        (void)fclose(file);
    if (info->cpus)
        add_core(info, implementer, part, other);
}

static void write_known(json *out, const char *key, const char *text)
{
    json_text(out, key, *text ? text : NOT_KNOWN);
}

static void write_model(json *out, const char *root)
{
    char model[BENCH_TEXT], product[BENCH_TEXT], both[2 * BENCH_TEXT + 1];
    if (!bench_read_text(root, "/proc/device-tree/model", model, sizeof model)) {
        (void)bench_read_text(root, "/sys/class/dmi/id/sys_vendor", model, sizeof model);
        (void)bench_read_text(root, "/sys/class/dmi/id/product_name", product, sizeof product);
        (void)snprintf(both, sizeof both, "%s%s%s", model, *model && *product ? " " : "", product);
        write_known(out, "model", both);
        return;
    }
    write_known(out, "model", model);
}

static void write_revision(json *out, const char *root, const cpuinfo *info)
{
    char path[2 * BENCH_TEXT], text[16] = "";
    unsigned char stored[5];
    FILE *file;
    if (*info->revision) {
        json_text(out, "revision", info->revision);
        return;
    }
    (void)snprintf(path, sizeof path, "%s/proc/device-tree/system/linux,revision", root);
    file = fopen(path, "rb");
    if (file && fread(stored, 1, sizeof stored, file) == 4 && (stored[0] | stored[1] | stored[2] | stored[3]))
        (void)snprintf(
            text, sizeof text, "%lx",
            (unsigned long)stored[0] << 24 | (unsigned long)stored[1] << 16 | (unsigned long)stored[2] << 8 | stored[3]);
    if (file)
        (void)fclose(file);
    write_known(out, "revision", text);
}

/* PRETTY_NAME of os-release, without its quotes. */
static void write_system(json *out, const char *root)
{
    static const char *const places[] = {"/etc/os-release", "/usr/lib/os-release"};
    char path[2 * BENCH_TEXT], line[BENCH_TEXT], name[BENCH_TEXT] = "";
    size_t place, length;
    for (place = 0; place < 2 && !*name; place++) {
        FILE *file;
        (void)snprintf(path, sizeof path, "%s%s", root, places[place]);
        file = fopen(path, "r");
        while (file && fgets(line, sizeof line, file))
            if (strncmp(line, "PRETTY_NAME=", 12) == 0) {
                const char *start = line + 12 + (line[12] == '"' || line[12] == '\'');
                (void)snprintf(name, sizeof name, "%s", start);
                length = strcspn(name, "\r\n");
                name[length] = 0;
                if (start > line + 12 && length)
                    name[length - 1] = 0;
            }
        if (file)
            (void)fclose(file);
    }
    write_known(out, "os", name);
}

int64_t bench_cache_bytes(const char *root, int level)
{
    int index;
    for (index = 0; index < 16; index++) {
        char path[BENCH_TEXT], text[BENCH_TEXT], *end;
        unsigned long long size;
        int shift;
        (void)snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/level", index);
        if (!bench_read_text(root, path, text, sizeof text) || atoi(text) != level)
            continue;
        (void)snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/type", index);
        if (!bench_read_text(root, path, text, sizeof text) || strcmp(text, "Instruction") == 0)
            continue;
        (void)snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", index);
        (void)bench_read_text(root, path, text, sizeof text);
        size = strtoull(text, &end, 10);
        shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
        if (end != text && size > 0 && size < 1u << 30)
            return (int64_t)(size << shift);
    }
    return -1;
}

static void write_caches(json *out, const char *root)
{
    static const char *const names[] = {"l1d", "l2", "l3"};
    int64_t sizes[3];
    int level;
    for (level = 0; level < 3; level++)
        sizes[level] = bench_cache_bytes(root, level + 1);
    if (sizes[0] < 0 && sizes[1] < 0 && sizes[2] < 0) {
        json_text(out, "caches", NOT_KNOWN);
        return;
    }
    json_object(out, "caches");
    for (level = 0; level < 3; level++)
        if (sizes[level] < 0)
            json_null(out, names[level]);
        else
            json_integer(out, names[level], sizes[level]);
    json_end(out);
}

static void write_libraries(json *out)
{
    static const char *const names[] = {"numpy", "onnxruntime", "ai-edge-litert", "tflite-runtime"};
    size_t i;
    json_object(out, "libraries");
    for (i = 0; i < sizeof names / sizeof *names; i++)
        json_text(out, names[i], NOT_KNOWN); /* of Python, which this program does not ask for */
    json_text(out, "sen-edge-runtime", BENCH_VERSION); /* whose C library is in this program */
    json_end(out);
}

void bench_write_device(json *out, const char *root)
{
    char kernel[BENCH_TEXT], path[2 * BENCH_TEXT];
    struct utsname names;
    int64_t ram;
    cpuinfo info;
    read_cpuinfo(&info, root);
    (void)bench_read_text(root, "/proc/sys/kernel/osrelease", kernel, sizeof kernel);
    (void)snprintf(path, sizeof path, "%s/proc/meminfo", root);
    ram = bench_kilobytes(path, "MemTotal");
    write_model(out, root);
    write_revision(out, root, &info);
    write_known(out, "cpu", info.names);
    json_text(out, "architecture", uname(&names) < 0 ? NOT_KNOWN : names.machine);
    json_integer(out, "userland_bits", 8 * (int64_t)sizeof(void *));
    write_known(out, "kernel", kernel);
    write_system(out, root);
    if (info.cpus)
        json_integer(out, "cpus", info.cpus);
    else
        json_text(out, "cpus", NOT_KNOWN);
    if (ram < 0)
        json_text(out, "ram_bytes", NOT_KNOWN);
    else
        json_integer(out, "ram_bytes", ram);
    json_text(out, "python", NOT_KNOWN);
    write_caches(out, root);
    write_libraries(out);
#if defined(__clang__)
    json_text(out, "compiler", "clang version " __clang_version__);
#elif defined(__GNUC__)
    json_text(out, "compiler", "GCC " __VERSION__);
#else
    json_text(out, "compiler", NOT_KNOWN);
#endif
}
