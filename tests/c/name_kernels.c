/* Loads each image of a file (a sequence of u32 length, bytes) with the flags argv[2], and prints the kernel of each matrix. */
#define _POSIX_C_SOURCE 200112L
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>

#define KERNEL(name) {#name, name}
static const struct {
    const char *name;
    sen_multiply *multiply;
} kernels[] = {
    KERNEL(sen_dense_reference), KERNEL(sen_dense_int8_reference), KERNEL(sen_dense_f32), KERNEL(sen_dense_events),
    KERNEL(sen_dense_int8), KERNEL(sen_panels), KERNEL(sen_coordinates), KERNEL(sen_sparse_reference),
    KERNEL(sen_sparse_int8_reference), KERNEL(sen_sparse_f32), KERNEL(sen_source_reference),
    KERNEL(sen_source_int8_reference), KERNEL(sen_sparse_int8), KERNEL(sen_sparse_1x4_int8)};

static void print_name(const sen_weights *w)
{
    size_t k;
    for (k = 0; w && k < sizeof kernels / sizeof *kernels; k++)
        if (kernels[k].multiply == w->multiply)
            printf("%s ", kernels[k].name);
}

static void *aligned(size_t size)
{
    void *memory = NULL;
    if (posix_memalign(&memory, SEN_ALIGNMENT, size) != 0)
        exit(2);
    return memory;
}

int main(int argc, char **argv)
{
    FILE *file = argc > 2 ? fopen(argv[1], "rb") : NULL;
    const unsigned flags = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    unsigned char head[4];
    if (!file)
        return 2;
    while (fread(head, 1, sizeof head, file) == sizeof head) {
        const size_t size = (size_t)head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
        void *image = aligned(size), *arena;
        sen_model *model;
        size_t arena_size = 0;
        uint32_t layer, term;
        if (fread(image, 1, size, file) != size || sen_arena_size(image, size, flags, &arena_size) != SEN_OK)
            return 1;
        arena = aligned(arena_size);
        if (sen_load(&model, image, size, arena, arena_size, flags) != SEN_OK)
            return 1;
        for (layer = 0; layer < model->network.layer_count; layer++)
            for (term = 0; term < model->network.layers[layer].term_count; term++) {
                print_name(model->network.layers[layer].terms[term].first);
                print_name(model->network.layers[layer].terms[term].second);
            }
        printf("\n");
        free(arena);
        free(image);
    }
    (void)fclose(file);
    return 0;
}
