/* Bytes of stack that one inference or step of an exported network takes, printed: what it left of a pattern below. */
#include "exported_case.h"

#include <stdint.h>
#include <stdio.h>

#define PAINTED 4096u
#define PATTERN 0xA5A5A5A5u

static CASE_ARENA arena;
static CASE_VALUE x[CASE_INPUTS], y[CASE_OUTPUTS];

/* Not inlined, so that all frames of the network lie below the frame of this function. */
static __attribute__((noinline)) uint32_t measure(void)
{
    volatile uint32_t *const bottom = (uint32_t *)(((uintptr_t)__builtin_frame_address(0) - PAINTED) & ~(uintptr_t)7);
    volatile uint32_t *at = bottom;
    register uintptr_t top __asm__("sp");
    const uintptr_t start = top;
    while ((uintptr_t)at < start)
        *at++ = PATTERN;
    CASE_RUN(&arena, x, y);
    for (at = bottom; *at == PATTERN; at++) {
    }
    return (uint32_t)(start - (uintptr_t)at);
}

int main(void)
{
    printf("stack %u\n", (unsigned)measure());
    return 0;
}
