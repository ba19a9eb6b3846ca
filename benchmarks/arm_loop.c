/* Runs a .sen image in a loop, for `arm.py` and `delays.py`, which count the instructions.
 *
 *     arm_loop MODEL.sen INPUTS CALLS [FLAGS]
 *
 * INPUTS holds rows of float32. The system call getppid marks the begin and the end of CALLS calls of `sen_run`, with the rows in
 * turn. FLAGS is a number, of `sen_load`; default SEN_PACK. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "sen.h"

static void *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return NULL;
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    void *data;
    if (posix_memalign(&data, SEN_ALIGNMENT, *size + 1) != 0 || fread(data, 1, *size, file) != *size)
        data = NULL;
    fclose(file);
    return data;
}

int main(int argc, char **argv)
{
    size_t image_size, inputs_size, arena_size;
    sen_model *model;
    void *arena;
    if (argc != 4 && argc != 5)
        return 2;
    const unsigned flags = argc == 5 ? (unsigned)atoi(argv[4]) : SEN_PACK;
    const void *image = read_file(argv[1], &image_size);
    const float *inputs = read_file(argv[2], &inputs_size);
    if (!image || !inputs || sen_arena_size(image, image_size, flags, &arena_size) != SEN_OK ||
        posix_memalign(&arena, SEN_ALIGNMENT, arena_size) != 0 ||
        sen_load(&model, image, image_size, arena, arena_size, flags) != SEN_OK)
        return 1;
    size_t n_in = sen_inputs(model), rows = inputs_size / sizeof *inputs / n_in;
    float *output = malloc(sen_outputs(model) * sizeof *output);
    long calls = atol(argv[3]);
    getppid();
    for (long call = 0; call < calls; call++)
        sen_run(model, inputs + (size_t)call % rows * n_in, output);
    getppid();
    return 0;
}
