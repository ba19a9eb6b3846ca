/* Loads and runs every image of a file: a sequence of u32 length, bytes. Built with sanitizers by test_c_library.py; with
 * SEN_FUZZ, by `make fuzz`, it is a target of libFuzzer instead. */
#include "sen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *aligned(size_t size)
{
    /* exactly as long as asked for, so that a sanitizer sees the first byte beyond */
    void *memory = NULL;
    return posix_memalign(&memory, SEN_ALIGNMENT, size ? size : 1) == 0 ? memory : NULL;
}

/* Whether the image is taken; adds the outputs of one run to `sum`, and takes one step. */
static int run(const void *bytes, size_t size, unsigned flags, double *sum)
{
    void *image = aligned(size), *arena = NULL;
    float *x = NULL, *y = NULL;
    sen_model *model = NULL;
    size_t arena_size = 0, values, i;
    int is_taken = 0;
    if (!image)
        return 0;
    memcpy(image, bytes, size);
    if (sen_arena_size(image, size, flags, &arena_size) == SEN_OK && arena_size < ((size_t)1 << 28)) {
        arena = aligned(arena_size);
        if (arena && sen_load(&model, image, size, arena, arena_size, flags) == SEN_OK && sen_timesteps(model) < 100) {
            values = (size_t)sen_inputs(model) * (sen_takes_spike_train(model) ? sen_timesteps(model) : 1);
            x = values < ((size_t)1 << 24) ? calloc(values, sizeof *x) : NULL;
            y = calloc(sen_outputs(model), sizeof *y);
            for (i = 0; x && i < values; i++)
                x[i] = (float)(i % 3);
            if (x && y && sen_run(model, x, y) == SEN_OK) {
                is_taken = 1;
                for (i = 0; i < sen_outputs(model); i++)
                    *sum += (double)y[i];
                (void)sen_step(model, x, y);
            }
        }
    }
    free(x);
    free(y);
    free(arena);
    free(image);
    return is_taken;
}

#ifdef SEN_FUZZ
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const unsigned ways[] = {
        0, SEN_PACK, SEN_PACK | SEN_NARROW, SEN_ON_THE_FLY | SEN_PORTABLE, SEN_PACK | SEN_REFERENCE | SEN_CHECK_VALUES};
    double sum = 0;
    size_t i;
    for (i = 0; i < sizeof ways / sizeof *ways; i++)
        (void)run(bytes, size, ways[i], &sum);
    return 0;
}
#else
int main(int argc, char **argv)
{
    FILE *file = argc > 1 ? fopen(argv[1], "rb") : NULL;
    unsigned char head[4];
    unsigned long taken = 0, refused = 0;
    double sum = 0;
    if (!file)
        return 2;
    while (fread(head, 1, sizeof head, file) == sizeof head) {
        const size_t size = (size_t)head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
        unsigned char *bytes = malloc(size ? size : 1);
        unsigned flags;
        if (!bytes || fread(bytes, 1, size, file) != size)
            return 2;
        for (flags = 0; flags < 128; flags += 2) {
            if (run(bytes, size, flags, &sum))
                taken++;
            else
                refused++;
        }
        free(bytes);
    }
    (void)fclose(file);
    printf("%lu taken, %lu refused, outputs add up to %.4g\n", taken, refused, sum);
    return 0;
}
#endif
