/* A QEMU plugin that counts instructions: all that are executed between the first instruction of one function and the
 * first of another, wherever they lie, each time that the program gets there.
 *
 *     qemu-system-arm ... -plugin count.so,start=0x1234,stop=0x1238
 *
 * Prints "instructions N" on stderr at exit. An instruction that its condition skips is counted; so is the call of the
 * second function. Distributions ship no qemu-plugin.h, so the few functions of it are declared here (API version 1).
 *
 * With cortex-m3=on it also prints "cycles MIN MAX", an estimate for that processor with memory without wait states: loads
 * and stores 2 (several registers: 1 each and 1), multiply-accumulate 2, long products 3 to 5, with accumulation 4 to 7,
 * division 2 to 12, branches that are always or backwards 3, forwards 1 to 3, all else 1. */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t plugin_id;
typedef void (*on_execution)(unsigned cpu, void *data);

struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info_t;
enum { NO_REGISTERS = 0, ADD = 0 };

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*call)(plugin_id id, struct qemu_plugin_tb *block));
void qemu_plugin_register_vcpu_insn_exec_cb(
    struct qemu_plugin_insn *instruction, on_execution call, int registers, void *data);
void qemu_plugin_register_vcpu_insn_exec_inline(
    struct qemu_plugin_insn *instruction, int operation, void *counter, uint64_t operand);
void qemu_plugin_register_atexit_cb(plugin_id id, void (*call)(plugin_id id, void *data), void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *block, size_t index);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *instruction);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *instruction);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *instruction);

extern int qemu_plugin_version;
int qemu_plugin_version = 1;
int qemu_plugin_install(plugin_id id, const struct qemu_info_t *info, int argc, char **argv);

enum { INSTRUCTIONS, MIN_CYCLES, MAX_CYCLES, COUNTERS };

static uint64_t start_address, stop_address;
static uint64_t executed[COUNTERS], at_start[COUNTERS], counted[COUNTERS];
static int has_cycles;

typedef struct cost {
    unsigned min, max;
} cost;

static const cost one = {1, 1}, memory = {2, 2}, branch = {3, 3}, forward_branch = {1, 3};

/* The cost of loading or storing several registers, in the bits of `registers`; with the program counter a branch. */
static cost cost_of_several(unsigned registers, int is_branch)
{
    cost several = {is_branch ? 4 : 1, 0};
    for (; registers; registers &= registers - 1)
        several.min++;
    several.max = several.min;
    return several;
}

/* A Thumb instruction of 16 bits. */
static cost cost_16(unsigned code)
{
    if ((code & 0xF000) == 0xD000)
        return code & 0x80 ? branch : forward_branch; /* conditional */
    if ((code & 0xF800) == 0xE000 || (code & 0xFF00) == 0x4700)
        return branch;
    if ((code & 0xF500) == 0xB100)
        return forward_branch; /* CBZ, CBNZ */
    if ((code & 0xF600) == 0xB400)
        return cost_of_several(code & 0x1FF, (code & 0xFF00) == 0xBD00); /* PUSH, POP */
    if ((code & 0xF000) == 0xC000)
        return cost_of_several(code & 0xFF, 0);
    if ((code & 0xF800) == 0x4800 || (code & 0xF000) == 0x5000 || (code & 0xE000) == 0x6000 || (code & 0xE000) == 0x8000)
        return memory;
    return one;
}

/* A Thumb instruction of 32 bits, its first half in the upper bits. */
static cost cost_32(uint32_t code)
{
    const cost accumulate = {2, 2}, product = {3, 5}, long_accumulate = {4, 7}, division = {2, 12}, pair = {3, 3};
    const unsigned operation = code >> 20 & 7;
    if ((code & 0xF800D000) == 0xF0008000 && (code & 0x03800000) != 0x03800000)
        return code & 0x04000000 ? branch : forward_branch; /* conditional, by sign */
    if ((code & 0xF8008000) == 0xF0008000)
        return code & 0x5000 ? branch : one;
    if ((code & 0xFF800000) == 0xFB800000)
        return operation == 1 || operation == 3 ? division : operation & 4 ? long_accumulate : product;
    if ((code & 0xFFF00000) == 0xFB000000)
        return (code & 0xF000) == 0xF000 ? one : accumulate; /* MUL, MLA */
    if ((code & 0xFE400000) == 0xE8000000)
        return cost_of_several(code & 0xFFFF, (code & 0x108000) == 0x108000);
    if ((code & 0xFFF0FFE0) == 0xE8D0F000)
        return branch; /* TBB, TBH */
    if ((code & 0xFE400000) == 0xE8400000)
        return pair;
    return (code & 0xFE000000) == 0xF8000000 ? memory : one;
}

static cost cost_of(const struct qemu_plugin_insn *instruction)
{
    uint16_t half[2] = {0, 0};
    const size_t size = qemu_plugin_insn_size(instruction);
    memcpy(half, qemu_plugin_insn_data(instruction), size);
    return size == 2 ? cost_16(half[0]) : cost_32((uint32_t)half[0] << 16 | half[1]);
}

static void start(unsigned cpu, void *data)
{
    (void)cpu;
    (void)data;
    memcpy(at_start, executed, sizeof executed);
}

static void stop(unsigned cpu, void *data)
{
    int index;
    (void)cpu;
    (void)data;
    for (index = 0; index < COUNTERS; index++)
        counted[index] += executed[index] - at_start[index];
}

static void translated(plugin_id id, struct qemu_plugin_tb *block)
{
    const size_t count = qemu_plugin_tb_n_insns(block);
    size_t index;
    (void)id;
    for (index = 0; index < count; index++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, index);
        const uint64_t address = qemu_plugin_insn_vaddr(instruction);
        if (address == start_address || address == stop_address) {
            on_execution call = address == start_address ? start : stop;
            qemu_plugin_register_vcpu_insn_exec_cb(instruction, call, NO_REGISTERS, NULL);
            continue;
        }
        qemu_plugin_register_vcpu_insn_exec_inline(instruction, ADD, &executed[INSTRUCTIONS], 1);
        if (has_cycles) {
            const cost cycles = cost_of(instruction);
            qemu_plugin_register_vcpu_insn_exec_inline(instruction, ADD, &executed[MIN_CYCLES], cycles.min);
            qemu_plugin_register_vcpu_insn_exec_inline(instruction, ADD, &executed[MAX_CYCLES], cycles.max);
        }
    }
}

static void at_exit(plugin_id id, void *data)
{
    (void)id;
    (void)data;
    fprintf(stderr, "instructions %" PRIu64 "\n", counted[INSTRUCTIONS]);
    if (has_cycles)
        fprintf(stderr, "cycles %" PRIu64 " %" PRIu64 "\n", counted[MIN_CYCLES], counted[MAX_CYCLES]);
}

__attribute__((visibility("default"))) int qemu_plugin_install(
    plugin_id id, const struct qemu_info_t *info, int argc, char **argv)
{
    int index;
    (void)info;
    for (index = 0; index < argc; index++) {
        if (strncmp(argv[index], "start=", 6) == 0)
            start_address = strtoull(argv[index] + 6, NULL, 0);
        else if (strncmp(argv[index], "stop=", 5) == 0)
            stop_address = strtoull(argv[index] + 5, NULL, 0);
        else if (strcmp(argv[index], "cortex-m3=on") == 0)
            has_cycles = 1;
        else
            return -1;
    }
    if (start_address == stop_address)
        return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, at_exit, NULL);
    return 0;
}
