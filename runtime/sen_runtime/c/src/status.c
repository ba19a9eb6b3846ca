/* What a status means, in a sentence. */
#include "sen.h"

const char *sen_status_text(sen_status status)
{
    static const char *const texts[SEN_STATUS_COUNT] = {
        "ok",
        "a pointer is null",
        "the image does not start at a multiple of 64 bytes",
        "the arena does not start at a multiple of 64 bytes",
        "the arena is too small",
        "this processor is not little-endian",
        "the model needs more memory than this processor can address, or has over 2^20 time steps",
        "the image has fewer or more bytes than it says",
        "this is not a .sen image",
        "the image has a version that this library does not read",
        "the image was changed: its checksum does not fit",
        "the image's header has a field without a valid value",
        "the image's section table contradicts the file",
        "the image's program has a wrong size, or a field without a valid value",
        "an operator of the image contradicts itself or its tensors",
        "a layer of the image contradicts itself or its neighbours",
        "sparse indices do not rise, or lead outside the matrix",
        "weights are not finite",
        "two neurons are at the same point, or so close that a weight overflows",
        "the network is not a spiking one",
        "an input is NaN or infinite",
    };
    return (unsigned)status < SEN_STATUS_COUNT ? texts[status] : "unknown status";
}
