/* What a bare-metal program needs before newlib's _start: a vector table, and the FPU switched on. */
#include <stdint.h>

#define CPACR (*(volatile uint32_t *)0xE000ED88u)
#define SYS_EXIT_EXTENDED 0x20u
#define APPLICATION_EXIT 0x20026u
#define FAULT_CODE 70u

extern uint32_t __stack[]; /* of the linker script */
void _start(void);
void reset(void);

/* Any fault ends the emulator, with an exit code that harness.py knows, instead of hanging. */
static void fault(void)
{
    static const uint32_t block[2] = {APPLICATION_EXIT, FAULT_CODE};
    register uint32_t operation __asm__("r0") = SYS_EXIT_EXTENDED;
    register const uint32_t *parameters __asm__("r1") = block;
    __asm__ volatile("bkpt 0xAB" : : "r"(operation), "r"(parameters) : "memory");
    for (;;) {
    }
}

void reset(void)
{
#ifdef __ARM_FP
    CPACR |= 0xFu << 20; /* full access to coprocessors 10 and 11 */
    __asm__ volatile("dsb\n\tisb" : : : "memory");
#endif
    _start();
}

/* The architecture's sixteen entries; nothing here switches an interrupt on. */
__attribute__((section(".vectors"), used)) static const struct {
    uint32_t *stack;
    void (*handlers[15])(void);
} vectors = {
    __stack,
    {reset, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault},
};
