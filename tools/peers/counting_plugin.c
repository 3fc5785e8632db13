/* Counts the instructions that an emulated AArch64 program executes: a plugin for qemu's user-mode emulation.
 *
 *     qemu-aarch64 -plugin libcounting.so,out=FILE PROGRAM ...
 *
 * Each time the program calls prctl(GOSSAMER_COUNTING_MARK), a line of totals since its start is added to FILE:
 *
 *     multiply-adds, other vector and floating point, loads, stores, branches, others
 *
 * What lies between two marks is their difference. A block of code is counted as it is entered and a system
 * call ends its block, so the counts are exact for a program of one thread. Build with -DQEMU_API=1 for qemu
 * before 9.0, 2 for 9.0, 3 for later ones. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "counting_mark.h"

/* What is used of qemu's plugin interface, which Debian has no header for. */
typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef void block_translated(plugin_id, struct qemu_plugin_tb *);
typedef void block_executed(unsigned cpu, void *data);
typedef void system_called(plugin_id, unsigned cpu, int64_t number, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                           uint64_t, uint64_t, uint64_t);
extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, block_translated *);
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, block_executed *, int flags, void *data);
extern void qemu_plugin_register_vcpu_syscall_cb(plugin_id, system_called *);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
#if QEMU_API < 3
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
#else
extern size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *, void *, size_t);
#endif

#define PUBLIC __attribute__((visibility("default")))
#define PRCTL 167 /* the number of this system call on AArch64 */

enum { MULTIPLY_ADD, VECTOR, LOAD, STORE, BRANCH, OTHER, CLASSES };

typedef struct counts {
    uint64_t of[CLASSES];
} counts;

typedef struct pattern {
    uint32_t mask, value;
} pattern;

PUBLIC int qemu_plugin_version = QEMU_API;

static counts totals;
static FILE *out;

static int matches(uint32_t word, const pattern *patterns, size_t count) {
    for (size_t i = 0; i < count; ++i) {
        if ((word & patterns[i].mask) == patterns[i].value) return 1;
    }
    return 0;
}

/* Vector and scalar multiply-accumulates; Arm's manual, "Data Processing -- Scalar Floating-Point and SIMD". */
static int is_multiply_add(uint32_t word) {
    static const pattern patterns[] = {
        {0xbf20fc00, 0x0e20cc00}, /* FMLA, FMLS vector */
        {0xbf60fc00, 0x0e400c00}, /* the same in half precision */
        {0xbf00b400, 0x0f001000}, /* FMLA, FMLS by element */
        {0xff00b400, 0x5f001000}, /* the same of scalars */
        {0xff000000, 0x1f000000}, /* FMADD, FMSUB, FNMADD, FNMSUB */
        {0x9f20fc00, 0x0e209400}, /* MLA, MLS vector */
        {0xbf00b400, 0x2f000000}, /* MLA, MLS by element */
        {0x9f20dc00, 0x0e208000}, /* SMLAL, UMLAL, SMLSL, UMLSL */
        {0x9f00b400, 0x0f002000}, /* the same by element */
        {0x9f20f400, 0x0e009400}, /* SDOT, UDOT, USDOT */
        {0x9f00e400, 0x0f00e000}, /* the same and SUDOT, BFDOT, BFMLAL by element */
        {0x9fe0f400, 0x0e80a400}, /* SMMLA, UMMLA, USMMLA */
        {0xbf60ec00, 0x2e40ec00}, /* BFDOT, BFMMLA, BFMLAL */
    };
    return matches(word, patterns, sizeof patterns / sizeof *patterns);
}

/* LOAD, STORE, or OTHER for a prefetch. */
static int class_of_access(uint32_t word) {
    uint32_t opc = word >> 22 & 3, size = word >> 30, vector = word >> 26 & 1;
    if ((word & 0x3b000000) == 0x18000000) return size == 3 && !vector ? OTHER : LOAD; /* literal */
    if ((word & 0x38000000) != 0x38000000) return opc & 1 ? LOAD : STORE; /* pairs, structures, exclusives */
    if (vector) return opc & 1 ? LOAD : STORE;
    if (size == 3 && opc == 2) return OTHER; /* PRFM */
    return opc == 0 ? STORE : LOAD;
}

static int class_of(uint32_t word) {
    uint32_t group = word >> 25 & 15;
    if ((group & 5) == 4) return class_of_access(word);
    if ((group & 7) == 7) return is_multiply_add(word) ? MULTIPLY_ADD : VECTOR;
    return (group & 14) == 10 ? BRANCH : OTHER;
}

static uint32_t word_of(const struct qemu_plugin_insn *instruction) {
    uint32_t word = 0;
#if QEMU_API < 3
    memcpy(&word, qemu_plugin_insn_data(instruction), sizeof word);
#else
    qemu_plugin_insn_data(instruction, &word, sizeof word);
#endif
    return word;
}

static void on_block(unsigned cpu, void *data) {
    const counts *block = data;
    (void)cpu;
    for (int i = 0; i < CLASSES; ++i) totals.of[i] += block->of[i];
}

static void on_translation(plugin_id id, struct qemu_plugin_tb *translated) {
    counts *block = calloc(1, sizeof *block); /* lives as long as the translation: until the end */
    (void)id;
    if (block == NULL) abort();
    for (size_t i = 0, n = qemu_plugin_tb_n_insns(translated); i < n; ++i) {
        ++block->of[class_of(word_of(qemu_plugin_tb_get_insn(translated, i)))];
    }
    qemu_plugin_register_vcpu_tb_exec_cb(translated, on_block, 0, block);
}

static void on_system_call(plugin_id id, unsigned cpu, int64_t number, uint64_t option, uint64_t b, uint64_t c,
                           uint64_t d, uint64_t e, uint64_t f, uint64_t g, uint64_t h) {
    (void)id, (void)cpu, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    if (number != PRCTL || option != GOSSAMER_COUNTING_MARK) return;
    for (int i = 0; i < CLASSES; ++i) {
        fprintf(out, "%llu%c", (unsigned long long)totals.of[i], i + 1 < CLASSES ? ' ' : '\n');
    }
    fflush(out);
}

PUBLIC int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
    (void)info;
    if (argc != 1 || strncmp(argv[0], "out=", 4) != 0 || (out = fopen(argv[0] + 4, "w")) == NULL) return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_vcpu_syscall_cb(id, on_system_call);
    return 0;
}
