/* A plugin of QEMU's user mode: counts the guest's instructions, and writes the count at every system call of one number, which
 * the guest uses as a marker.
 *
 *     qemu-aarch64 -plugin count.so,out=FILE,marker=173 PROGRAM
 *
 * Debian's QEMU has no header for plugins; these are the declarations of version 1 of its interface
 * (https://qemu.weilnetz.de/doc/7.2/devel/tcg-plugins.html). */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb; /* instructions that are translated, and executed, together */
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };
typedef void qemu_plugin_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *block);
typedef void qemu_plugin_syscall(
    qemu_plugin_id_t id, unsigned vcpu, int64_t number, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
    uint64_t);

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, qemu_plugin_translation *called);
void qemu_plugin_register_vcpu_tb_exec_inline(
    struct qemu_plugin_tb *block, enum qemu_plugin_op operation, void *counter, uint64_t value);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t id, qemu_plugin_syscall *called);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);

int qemu_plugin_version = 1;

static uint64_t count;
static int64_t marker = -1;
static FILE *out;

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *block)
{
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, &count, qemu_plugin_tb_n_insns(block));
}

static void enter(
    qemu_plugin_id_t id, unsigned vcpu, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f,
    uint64_t g, uint64_t h)
{
    (void)id, (void)vcpu, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    if (number == marker) {
        fprintf(out, "%" PRIu64 "\n", count);
        fflush(out);
    }
}

int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
    (void)info;
    for (; argc > 0; argc--, argv++) {
        if (strncmp(*argv, "out=", 4) == 0)
            out = fopen(*argv + 4, "w");
        else if (strncmp(*argv, "marker=", 7) == 0)
            marker = atoll(*argv + 7);
    }
    if (!out)
        return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
    qemu_plugin_register_vcpu_syscall_cb(id, enter);
    return 0;
}
