/* The port of an exported harness on the boards MPS2: the first UART of the CMSDK, and the clock of semihosting. */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

typedef struct cmsdk_uart {
    volatile uint32_t data, state, control, interrupts, divider;
} cmsdk_uart;

#define UART ((cmsdk_uart *)0x40004000u)
#define TRANSMIT_FULL 1u
#define RECEIVE_FULL 2u

void net_harness(void);
void th_printf(const char *format, ...);
char th_getchar(void);
void th_timestamp(void);

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
    while (!(UART->state & RECEIVE_FULL)) {
    }
    return (char)UART->data;
}

void th_timestamp(void)
{
    th_printf("m-lap-us-%lu\r\n", (unsigned long)clock() * (1000000 / CLOCKS_PER_SEC));
}

int main(void)
{
    UART->divider = 16;
    UART->control = 3; /* transmit, receive */
    net_harness();
    return 0;
}
