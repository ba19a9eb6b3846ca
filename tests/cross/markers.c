/* In a file of their own, and not empty, so that no compiler leaves out or moves a call. */
#include "markers.h"

__attribute__((noinline)) void sen_count_start(void)
{
    __asm__ volatile("" : : : "memory");
}

__attribute__((noinline)) void sen_count_stop(void)
{
    __asm__ volatile("" : : : "memory");
}
