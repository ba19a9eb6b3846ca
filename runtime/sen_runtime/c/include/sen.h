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

/* Every status in the order of their numbers, from 0 on, and its text. */
#define SEN_STATUSES(STATUS)                                                                                           \
    STATUS(SEN_OK, "ok")                                                                                               \
    STATUS(SEN_NULL, "a pointer is null")                                                                              \
    STATUS(SEN_IMAGE_ALIGNMENT, "the image does not start at a multiple of 64 bytes")                                  \
    STATUS(SEN_ARENA_ALIGNMENT, "the arena does not start at a multiple of 64 bytes")                                  \
    STATUS(SEN_ARENA_SIZE, "the arena is too small")                                                                   \
    STATUS(SEN_ENDIANNESS, "this processor is not little-endian")                                                      \
    STATUS(SEN_TOO_LARGE, "the model needs more memory than this processor can address, or has over 2^20 time steps")  \
    STATUS(SEN_TRUNCATED, "the image has fewer or more bytes than it says")                                            \
    STATUS(SEN_MAGIC, "this is not a .sen image")                                                                      \
    STATUS(SEN_VERSION, "the image has a version that this library does not read")                                     \
    STATUS(SEN_CHECKSUM, "the image was changed: its checksum does not fit")                                           \
    STATUS(SEN_HEADER, "the image's header has a field without a valid value")                                         \
    STATUS(SEN_SECTION, "the image's section table contradicts the file")                                              \
    STATUS(SEN_PROGRAM, "the image's program has a wrong size, or a field without a valid value")                      \
    STATUS(SEN_OPERATOR, "an operator of the image contradicts itself or its tensors")                                 \
    STATUS(SEN_LAYER, "a layer of the image contradicts itself or its neighbours")                                     \
    STATUS(SEN_INDICES, "sparse indices do not rise, or lead outside the matrix")                                      \
    STATUS(SEN_VALUES, "weights are not finite")                                                                       \
    STATUS(SEN_COINCIDENT, "two neurons are at the same point, or so close that a weight overflows")                   \
    STATUS(SEN_NOT_SPIKING, "the network is not a spiking one")                                                        \
    STATUS(SEN_NONFINITE, "an input is NaN or infinite")                                                               \
    STATUS(SEN_NO_STEPS, "a readout of int8 membranes has a value after all steps only")                               \
    STATUS(SEN_DELAY, "positions give a delay that is longer than its limit, or over 2^22 steps before it wraps")

#define SEN_STATUS_NUMBER(status, text) status,
typedef enum sen_status { SEN_STATUSES(SEN_STATUS_NUMBER) SEN_STATUS_COUNT } sen_status;
#undef SEN_STATUS_NUMBER

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

/* Values of an input (of one time step of a sequence), and of an output. */
SEN_API uint32_t sen_inputs(const sen_model *model);
SEN_API uint32_t sen_outputs(const sen_model *model);

/* Time steps of a spiking network; 0 for a multilayer perceptron. */
SEN_API uint32_t sen_timesteps(const sen_model *model);

/* Whether sen_run takes a sequence `[timesteps, inputs]` (spikes, or values) instead of one input `[inputs]`. */
SEN_API int sen_takes_spike_train(const sen_model *model);

/* Name of the kernels in use: "reference", "portable", "avx2", "avx512", "neon", "neon_dotprod". */
SEN_API const char *sen_kernels_name(const sen_model *model);

/* One inference from `x` to `y [outputs]`, which may not overlap; of a spiking network all time steps, from membranes of 0,
 * so call sen_reset before the next sen_step. SEN_NONFINITE where an input is NaN or infinite: nothing is computed then, and
 * `y` is unchanged. Outputs are not checked: sums of finite inputs beyond float32 overflow to infinity. */
SEN_API sen_status sen_run(sen_model *model, const float *x, float *y);

/* `rows` inferences, `x` and `y` row after row; it ends at the first row with an input that is not finite. */
SEN_API sen_status sen_run_batch(sen_model *model, const float *x, float *y, size_t rows);

/* The same, several rows at a time, which takes a fraction of the time. `work` starts at a multiple of 64 bytes and has
 * sen_rows_work_size bytes, 0 where this processor cannot address them; nothing else of the model changes, so calls with a
 * `work` of their own may run at once. Sums of floats may be rounded otherwise than by sen_run, but a row's outputs depend
 * neither on the other rows nor on their number. Products of int8 are the same to the bit. */
SEN_API size_t sen_rows_work_size(const sen_model *model);
SEN_API sen_status sen_run_rows(const sen_model *model, void *work, const float *x, float *y, size_t rows);

/* A clock that counts up, in any unit. */
typedef uint64_t sen_clock(void);

/* sen_run that also adds to each of `ticks` [sen_layers] how long a layer takes, neurons included; the first one with the
 * standardization of the input, the last one with restoration and activation. The clock is read once for each layer, of a spiking
 * network in each step that the layer runs, once before, and once after restoration or activation. */
SEN_API sen_status sen_profile(sen_model *model, const float *x, float *y, sen_clock *clock, uint64_t *ticks);

/* Membranes of a spiking network to 0. SEN_NO_STEPS, here and below, for a network of int8 activations whose readout is a
 * membrane: rounded in each step, it would drift. Its hidden layers are reset, or make the step; `y` is unchanged. */
SEN_API sen_status sen_reset(sen_model *model);

/* One time step from `x [inputs]`, which is standardized as by sen_run. `y [outputs]` is the last layer's membrane, restored to the
 * units of outputs, or its spikes where they are counted; see sen_finish_readout. */
SEN_API sen_status sen_step(sen_model *model, const float *x, float *y);

/* Outputs of sen_run from the mean, the last or the sum of the values `y [outputs]` of sen_step, by the readout: counts are
 * restored; then the output activation. Without these `y` is unchanged. */
SEN_API sen_status sen_finish_readout(const sen_model *model, float *y);

/* Number of layers, and the last outputs of one of them: activations; of a spiking network the spikes, or the last layer's
 * membranes, of a sen_step; before the first, anything. The last layer of a multilayer perceptron writes to `y` instead;
 * then, for an int8 readout, and for an index without a layer, the result is null. Those of int8 activations are valid until
 * the next call. */
SEN_API uint32_t sen_layers(const sen_model *model);
SEN_API const float *sen_layer_output(const sen_model *model, uint32_t index, uint32_t *size);

#ifdef __cplusplus
}
#endif

#endif
