/* The file that the record goes to: looked at before anything is measured, written whole or not at all. */
#include "bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A new file beside `path`, and its name, which is to be freed; null where there can be none, with errno. */
static FILE *make_sibling(const char *path, char **name)
{
    const char *slash = strrchr(path, '/');
    const int folder = slash ? (int)(slash - path) + 1 : 0;
    const size_t room = strlen(path) + 16;
    const mode_t mask = umask(0);
    FILE *file = NULL;
    int number;
    (void)umask(mask);
    *name = malloc(room);
    if (!*name)
        return NULL;
    (void)snprintf(*name, room, "%.*s.%s.XXXXXX", folder, path, path + folder);
    number = mkstemp(*name);
    if (number >= 0) {
        (void)fchmod(number, 0666 & ~mask); /* as any new file, not for its owner alone */
        file = fdopen(number, "w");
    }
    if (number >= 0 && !file) {
        (void)close(number);
        (void)unlink(*name);
    }
    if (!file) {
        free(*name);
        *name = NULL;
    }
    return file;
}

static int fail_write(const char *path)
{
    return bench_fail(EXIT_FAILED, "name another file, or - for stdout", "cannot write %s: %s", path, strerror(errno));
}

/* Whether a file that is there is one of those that are read. */
static int is_input(const struct stat *found, const bench_options *options)
{
    struct stat other;
    size_t i;
    for (i = 0; i <= options->n_files; i++) {
        const char *path = i < options->n_files ? options->files[i] : options->inputs;
        if (path && stat(path, &other) == 0 && other.st_dev == found->st_dev && other.st_ino == found->st_ino)
            return 1;
    }
    return 0;
}

int bench_check_output(const bench_options *options)
{
    const char *path = options->json;
    struct stat found;
    char *name;
    FILE *file;
    if (!path || strcmp(path, "-") == 0)
        return EXIT_OK;
    if (stat(path, &found) == 0) {
        if (!S_ISREG(found.st_mode))
            return bench_fail(EXIT_FAILED, "name another file, or - for stdout", "%s is no file", path);
        if (is_input(&found, options))
            return bench_fail(EXIT_USAGE, "name another file, or - for stdout", "%s is measured", path);
        if (!options->replaces)
            return bench_fail(EXIT_FAILED, "replace it with --force, or name another file", "%s exists", path);
    }
    errno = 0;
    file = make_sibling(path, &name);
    if (!file)
        return fail_write(path);
    (void)fclose(file);
    (void)unlink(name);
    free(name);
    return EXIT_OK;
}

static int save_at(const bench_run *run, const char *path)
{
    char *name;
    FILE *file = make_sibling(path, &name);
    int is_written, code = EXIT_OK;
    if (!file)
        return fail_write(path);
    bench_write_record(file, run);
    is_written = fflush(file) == 0 && !ferror(file) && fsync(fileno(file)) == 0;
    is_written = fclose(file) == 0 && is_written;
    if (!is_written || rename(name, path) != 0) {
        code = fail_write(path);
        (void)unlink(name);
    }
    free(name);
    return code;
}

int bench_save_record(const bench_run *run)
{
    const char *path = run->options->json;
    const int is_stdout = path && strcmp(path, "-") == 0;
    /* The file first: a stdout that cannot be written must not cost the record, nor a full disk the table. */
    const int code = path && !is_stdout ? save_at(run, path) : EXIT_OK;
    errno = 0;
    if (is_stdout)
        bench_write_record(stdout, run);
    else
        bench_write_table(stdout, run);
    if ((fflush(stdout) != 0 || ferror(stdout)) && errno != EPIPE) /* a reader that has gone has read what it wanted */
        return bench_fail(EXIT_FAILED, NULL, "cannot write to stdout: %s", strerror(errno));
    return code;
}
