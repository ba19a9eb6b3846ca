/* Runs the self-tests of exported networks on an ATmega2560 and prints the sum of their results and the bytes of stack that
 * they took, which simavr shows; simavr ends where the processor sleeps without interrupts. */
#include "selftests.h"

#include <avr/interrupt.h>
#include <avr/io.h>
#include <avr/sleep.h>

#define UNUSED 0xA5

extern uint8_t _end; /* of static variables */

static void put(char letter)
{
    while (!(UCSR0A & (1 << UDRE0))) {
    }
    UDR0 = (uint8_t)letter;
}

static void put_number(const char *name, uint16_t number)
{
    uint16_t digit = 10000;
    while (*name)
        put(*name++);
    for (; digit; digit /= 10)
        put((char)('0' + number / digit % 10));
    put(' ');
}

int main(void)
{
    uint8_t *const top = (uint8_t *)SP - 8, *at; /* below what main itself pushes */
    int result;
    for (at = &_end; at != top; at++)
        *(volatile uint8_t *)at = UNUSED;
    result = run_selftests();
    for (at = &_end; *(volatile uint8_t *)at == UNUSED; at++) {
    }
    UCSR0B = 1 << TXEN0;
    put_number("result ", (uint16_t)result);
    put_number("stack ", (uint16_t)(top - at));
    put('\n');
    cli();
    sleep_enable();
    sleep_cpu();
    return 0;
}
