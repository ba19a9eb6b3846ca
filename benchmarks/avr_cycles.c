/* Runs one inference of a network on an ATmega2560 and prints its cycles, which simavr shows. CASE_HEADER, CASE_ARENA, CASE_RUN,
 * CASE_VALUE, CASE_ONE (the largest input), CASE_INPUTS and CASE_OUTPUTS name the network. */
#include CASE_HEADER

#include <avr/interrupt.h>
#include <avr/io.h>
#include <avr/sleep.h>

static volatile uint16_t overflows;

ISR(TIMER1_OVF_vect)
{
    overflows++;
}

static void put(char letter)
{
    while (!(UCSR0A & (1 << UDRE0))) {
    }
    UDR0 = (uint8_t)letter;
}

int main(void)
{
    static CASE_ARENA arena;
    static CASE_VALUE x[CASE_INPUTS], y[CASE_OUTPUTS];
    const char *text = "cycles ";
    uint32_t cycles, digit;
    uint16_t i;
    for (i = 0; i < CASE_INPUTS; i++)
        x[i] = (CASE_VALUE)((i * 37u % 64u + 1) * CASE_ONE / 64); /* none is 0 */
    TIMSK1 = 1 << TOIE1;
    sei();
    TCNT1 = 0;
    TCCR1B = 1;
    (void)CASE_RUN(&arena, x, y);
    cycles = TCNT1;
    cli();
    cycles += (uint32_t)overflows << 16;
    UCSR0B = 1 << TXEN0;
    while (*text)
        put(*text++);
    for (digit = 1000000000; digit; digit /= 10)
        put((char)('0' + cycles / digit % 10));
    put('\n');
    sleep_enable();
    sleep_cpu();
    return 0;
}
