/* sen: runs .sen images of spatially embedded networks.
 *
 * C99. No heap, no globals, no stdio: the caller gives the image, which is read in place, and an arena, whose size is
 * known before. Every function that can fail returns a status. A model is used by one thread at a time; any number of
 * models can be loaded at once.
 *
 *     size_t size;
 *     sen_model *model;
 *     if (sen_arena_size(image, image_size, SEN_DEFAULT, &size) == SEN_OK && ...
 *         sen_load(&model, image, image_size, arena, size, SEN_DEFAULT) == SEN_OK)
 *         sen_run(model, x, y);
 */
#ifndef SEN_H
#define SEN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(SEN_SHARED) && defined(_WIN32)
#define SEN_API __declspec(dllexport)
#elif defined(SEN_SHARED)
#define SEN_API __attribute__((visibility("default")))
#else
#define SEN_API
#endif

/* Images and arenas start at a multiple of this many bytes. */
#define SEN_ALIGNMENT 64

typedef enum sen_status {
    SEN_OK = 0,
    SEN_NULL,              /* a pointer that must not be null is */
    SEN_IMAGE_ALIGNMENT,   /* the image does not start at a multiple of SEN_ALIGNMENT */
    SEN_ARENA_ALIGNMENT,   /* the arena does not start at a multiple of SEN_ALIGNMENT */
    SEN_ARENA_SIZE,        /* the arena is smaller than sen_arena_size says */
    SEN_ENDIANNESS,        /* this processor is not little-endian */
    SEN_TOO_LARGE,         /* the image needs more memory than this processor can address, or has over 2^20 time steps */
    SEN_TRUNCATED,         /* fewer bytes than the image says it has, or more */
    SEN_MAGIC,             /* not a .sen image */
    SEN_VERSION,           /* an image of a version that this library does not read */
    SEN_CHECKSUM,          /* bytes of the image have changed since it was written */
    SEN_HEADER,            /* a field of the header has no valid value */
    SEN_SECTION,           /* a row of the section table contradicts the file */
    SEN_PROGRAM,           /* the program's size or a field of it has no valid value */
    SEN_OPERATOR,          /* an operator's record contradicts itself or its tensors */
    SEN_LAYER,             /* a layer's record contradicts itself or its neighbours */
    SEN_INDICES,           /* sparse indices that do not rise, or lead outside the matrix */
    SEN_VALUES,            /* weights that are not finite */
    SEN_COINCIDENT,        /* two neurons at the same point, or so close that a weight overflows */
    SEN_NOT_SPIKING,       /* sen_step and sen_reset are for spiking networks */
    SEN_NONFINITE,         /* an input is NaN or infinite */
    SEN_STATUS_COUNT
} sen_status;

/* Options of sen_load; combine with |. */
enum {
    SEN_DEFAULT = 0,
    SEN_CHECK_CHECKSUM = 1, /* compare the checksum: reads every byte */
    SEN_CHECK_VALUES = 2,   /* look at every weight: reads every byte */
    SEN_PACK = 4,           /* copy all weights into the arena, in the fastest order; the image is not used afterwards */
    SEN_ON_THE_FLY = 8,     /* compute weights from coordinates whenever they are needed: no arena for them, and slow */
    /* Of the kernels that the processor could run, not the fastest: */
    SEN_REFERENCE = 16,     /* every sum in order */
    SEN_PORTABLE = 32,      /* standard C */
    SEN_NARROW = 64,        /* AVX2 where there is AVX-512, NEON without dot products */
    SEN_ALLOW_NONFINITE = 128 /* run NaN and infinite inputs: each kernel makes other numbers of them */
};

typedef struct sen_model sen_model;

/* A sentence about a status, in English; never null. */
SEN_API const char *sen_status_text(sen_status status);

/* Bytes of arena that sen_load needs with the same flags. Checks the whole image on the way, as sen_load does. */
SEN_API sen_status sen_arena_size(const void *image, size_t image_size, unsigned flags, size_t *arena_size);

/* A model in `arena`. The arena must stay where it is while the model is used; without SEN_PACK the image must too, unchanged. */
SEN_API sen_status sen_load(
    sen_model **model, const void *image, size_t image_size, void *arena, size_t arena_size, unsigned flags);

/* Values of an input (of one time step of a spike train), and of an output. */
SEN_API uint32_t sen_inputs(const sen_model *model);
SEN_API uint32_t sen_outputs(const sen_model *model);

/* Time steps of a spiking network; 0 for a multilayer perceptron. */
SEN_API uint32_t sen_timesteps(const sen_model *model);

/* Whether sen_run takes a spike train `[timesteps, inputs]` instead of one input `[inputs]`. */
SEN_API int sen_takes_spike_train(const sen_model *model);

/* Name of the kernels in use: "reference", "portable", "avx2", "avx512", "neon", "neon_dotprod". */
SEN_API const char *sen_kernels_name(const sen_model *model);

/* One inference from `x` to `y [outputs]`, which may not overlap; of a spiking network all time steps, from membranes of 0,
 * so call sen_reset before the next sen_step. SEN_NONFINITE where an input is NaN or infinite: nothing is computed then, and
 * `y` is unchanged. Outputs are not checked: sums of finite inputs beyond float32 overflow to infinity. */
SEN_API sen_status sen_run(sen_model *model, const float *x, float *y);

/* `rows` inferences, `x` and `y` row after row; it ends at the first row with an input that is not finite. */
SEN_API sen_status sen_run_batch(sen_model *model, const float *x, float *y, size_t rows);

/* Membranes of a spiking network to 0. */
SEN_API sen_status sen_reset(sen_model *model);

/* One time step from `x [inputs]`. `y [outputs]` is the last layer's membrane, or its spikes where they are counted. */
SEN_API sen_status sen_step(sen_model *model, const float *x, float *y);

/* Number of layers, and the last outputs of one of them: activations; of a spiking network the spikes, or the last layer's
 * membranes, of a sen_step; before the first, anything. The last layer of a multilayer perceptron writes to `y` instead; then, and for an index without
 * a layer, the result is null. */
SEN_API uint32_t sen_layers(const sen_model *model);
SEN_API const float *sen_layer_output(const sen_model *model, uint32_t index, uint32_t *size);

#ifdef __cplusplus
}
#endif

#endif
