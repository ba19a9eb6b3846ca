/* Runs the self-tests of exported networks on an ATmega2560 and prints the sum of their results, which simavr shows; simavr
 * ends where the processor sleeps without interrupts. */
#include "selftests.h"

#include <avr/interrupt.h>
#include <avr/io.h>
#include <avr/sleep.h>

static void put(char letter)
{
    while (!(UCSR0A & (1 << UDRE0))) {
    }
    UDR0 = (uint8_t)letter;
}

int main(void)
{
    const char *text = "result ";
    int result = run_selftests();
    UCSR0B = 1 << TXEN0;
    while (*text)
        put(*text++);
    put((char)('0' + (result > 9 ? 9 : result)));
    put('\n');
    cli();
    sleep_enable();
    sleep_cpu();
    return 0;
}
