/* A QEMU plugin that counts instructions: all that are executed between the first instruction of one function and the
 * first of another, wherever they lie, each time that the program gets there.
 *
 *     qemu-system-arm ... -plugin count.so,start=0x1234,stop=0x1238
 *
 * Prints "instructions N" on stderr at exit. An instruction that its condition skips is counted; so is the call of the
 * second function. Distributions ship no qemu-plugin.h, so the few functions of it are declared here (API version 1). */
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
enum { NO_REGISTERS = 0 };

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*call)(plugin_id id, struct qemu_plugin_tb *block));
void qemu_plugin_register_vcpu_insn_exec_cb(
    struct qemu_plugin_insn *instruction, on_execution call, int registers, void *data);
void qemu_plugin_register_atexit_cb(plugin_id id, void (*call)(plugin_id id, void *data), void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *block, size_t index);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *instruction);

extern int qemu_plugin_version;
int qemu_plugin_version = 1;
int qemu_plugin_install(plugin_id id, const struct qemu_info_t *info, int argc, char **argv);

static uint64_t start_address, stop_address, instructions;
static int is_counting;

static void start(unsigned cpu, void *data)
{
    (void)cpu;
    (void)data;
    is_counting = 1;
}

static void stop(unsigned cpu, void *data)
{
    (void)cpu;
    (void)data;
    is_counting = 0;
}

static void executed(unsigned cpu, void *data)
{
    (void)cpu;
    (void)data;
    instructions += (uint64_t)is_counting;
}

static void translated(plugin_id id, struct qemu_plugin_tb *block)
{
    const size_t count = qemu_plugin_tb_n_insns(block);
    size_t index;
    (void)id;
    for (index = 0; index < count; index++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, index);
        const uint64_t address = qemu_plugin_insn_vaddr(instruction);
        on_execution call = address == start_address ? start : address == stop_address ? stop : executed;
        qemu_plugin_register_vcpu_insn_exec_cb(instruction, call, NO_REGISTERS, NULL);
    }
}

static void at_exit(plugin_id id, void *data)
{
    (void)id;
    (void)data;
    fprintf(stderr, "instructions %" PRIu64 "\n", instructions);
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
        else
            return -1;
    }
    if (start_address == stop_address)
        return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, at_exit, NULL);
    return 0;
}
