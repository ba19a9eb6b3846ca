/* The port of an exported harness on the boards MPS2 and MPS3 of Arm: the first UART of the CMSDK, and the timer of the core. */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

typedef struct cmsdk_uart {
    volatile uint32_t data, state, control, interrupts, divider;
} cmsdk_uart;

typedef struct sys_tick {
    volatile uint32_t control, reload, current;
} sys_tick;

#if defined(__ARM_FEATURE_MVE) /* AN547, in the secure state */
#define UART ((cmsdk_uart *)0x59303000u)
#define TICKS_PER_MICROSECOND 32u
#else
#define UART ((cmsdk_uart *)0x40004000u)
#define TICKS_PER_MICROSECOND 25u
#endif
#define TRANSMIT_FULL 1u
#define RECEIVE_FULL 2u
#define SYS_TICK ((sys_tick *)0xE000E010u)
#define MAX_TICK 0xFFFFFFu

void net_harness(void);
void th_printf(const char *format, ...);
char th_getchar(void);
void th_timestamp(void);

/* Ticks since the start. The timer has 24 bits and counts down: a longer inference than 0.5 s is not measured. */
static uint64_t ticks(void)
{
    static uint32_t last = MAX_TICK;
    static uint64_t total;
    const uint32_t now = SYS_TICK->current;
    total += (last - now) & MAX_TICK;
    last = now;
    return total;
}

void th_printf(const char *format, ...)
{
    char text[200];
    va_list arguments;
    const char *at;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (at = text; *at; at++) {
        while (UART->state & TRANSMIT_FULL) {
        }
        UART->data = (uint8_t)*at;
    }
}

char th_getchar(void)
{
    while (!(UART->state & RECEIVE_FULL))
        (void)ticks();
    return (char)UART->data;
}

void th_timestamp(void)
{
    th_printf("m-lap-us-%lu\r\n", (unsigned long)(ticks() / TICKS_PER_MICROSECOND));
}

int main(void)
{
    SYS_TICK->reload = MAX_TICK;
    SYS_TICK->current = 0;
    SYS_TICK->control = 5; /* on, from the clock of the processor */
    UART->divider = 16;
    UART->control = 3; /* transmit, receive */
    net_harness();
    return 0;
}
