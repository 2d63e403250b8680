/* Counts the instructions of a program under qemu-user: a QEMU plugin of API version 1 (QEMU 6.0 to 8.2).
 *
 *   cc -O2 -shared -fPIC -o libicount.so icount.c
 *   LD_PRELOAD=./libicount.so qemu-aarch64 -U LD_PRELOAD -plugin ./libicount.so,out=FILE ...
 *
 * The program marks a point by closing descriptor -424242, which fails with EBADF and does nothing else. Each mark
 * writes one line to FILE: how many instructions were executed up to it, and how many of them are of certain kinds
 * (64-bit Arm only). Debian ships no qemu-plugin.h, so what is used of it is declared here.
 *
 * Preloaded, it also is the program's clock: an instruction takes a nanosecond. A program that does something every two
 * seconds, as ONNX Runtime 1.31 does among its inferences, would otherwise execute more in one run than in another.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#define MARK (-424242)
#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
typedef struct {
    const char *target_name;
    struct { int min, cur; } version;
    bool system_emulation;
    union { struct { int smp_vcpus, max_vcpus; } system; };
} qemu_info_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef void translated_fn(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void syscall_fn(qemu_plugin_id_t, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                        uint64_t, uint64_t, uint64_t);
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, translated_fn *);
extern void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t, syscall_fn *);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int op, void *, uint64_t);
extern void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *, int op, void *, uint64_t);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
extern size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);

EXPORT int qemu_plugin_version = 1;

enum { ADD = 0 }; /* QEMU_PLUGIN_INLINE_ADD_U64 */
enum { TOTAL, DOT, MMLA, FMLA32, FMLA16, SVE, KINDS };
static const char *const names[KINDS] = {"total", "dot", "mmla", "fmla32", "fmla16", "sve"};
static uint64_t counts[KINDS];
static FILE *out;
static int64_t close_number = 57; /* of the system call; that of 64-bit Arm */
static bool kinds = true;

/* The kind of a 64-bit Arm instruction, or TOTAL for all others. */
static int kind_of(uint32_t word)
{
    if ((word & 0x9F20FC00) == 0x0E009400 || (word & 0x9F00F400) == 0x0F00E000)
        return DOT; /* sdot, udot: vector, by element */
    if ((word & 0xDFE0F400) == 0x4E80A400)
        return MMLA; /* smmla, ummla, usmmla */
    if ((word & 0xBFA0FC00) == 0x0E20CC00 || (word & 0xBF80F400) == 0x0F801000)
        return FMLA32; /* the first form also holds float64's */
    if ((word & 0xBFE0FC00) == 0x0E400C00 || (word & 0xBFC0F400) == 0x0F001000)
        return FMLA16;
    if (((word >> 25) & 15) == 2)
        return SVE;
    return TOTAL;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block)
{
    size_t length = qemu_plugin_tb_n_insns(block);
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(block, ADD, &counts[TOTAL], length);
    for (size_t i = 0; kinds && i < length; i++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, i);
        uint32_t word;
        if (qemu_plugin_insn_size(instruction) != sizeof word)
            continue;
        memcpy(&word, qemu_plugin_insn_data(instruction), sizeof word);
        int kind = kind_of(word);
        if (kind != TOTAL)
            qemu_plugin_register_vcpu_insn_exec_inline(instruction, ADD, &counts[kind], 1);
    }
}

static void called(qemu_plugin_id_t id, unsigned cpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3,
                   uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8)
{
    (void)id, (void)cpu, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number != close_number || (int32_t)a1 != MARK)
        return;
    for (int kind = 0; kind < (kinds ? KINDS : 1); kind++)
        fprintf(out, "%s%s=%llu", kind ? " " : "", names[kind], (unsigned long long)counts[kind]);
    fputc('\n', out);
    fflush(out);
}

/* When all clocks start: long ago, so that whoever waits for a time of this clock on the host's does not wait. */
enum { DATE = 1700000000 };
static const uint64_t SECOND = 1000000000;
static bool asked;

EXPORT int clock_gettime(clockid_t clock, struct timespec *to)
{
    asked = true;
    to->tv_sec = counts[TOTAL] / SECOND + (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE ? DATE : 0);
    to->tv_nsec = counts[TOTAL] % SECOND;
    return 0;
}

EXPORT int gettimeofday(struct timeval *restrict to, void *restrict zone)
{
    (void)zone;
    to->tv_sec = DATE + counts[TOTAL] / SECOND;
    to->tv_usec = counts[TOTAL] % SECOND / 1000;
    return 0;
}

EXPORT time_t time(time_t *to)
{
    time_t now = DATE + counts[TOTAL] / SECOND;
    return to ? *to = now : now;
}

/* Whether the clocks above are those of the process. */
static bool preloaded(void)
{
    struct timespec now;
    asked = false;
    return !clock_gettime(CLOCK_MONOTONIC, &now) && asked;
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        if (!strncmp(argv[i], "out=", 4))
            out = fopen(argv[i] + 4, "w");
    if (!out)
        return -1;
    if (!preloaded()) {
        fputs("icount: not preloaded: the program would see the host's clock\n", stderr);
        return -1;
    }
    if (strcmp(info->target_name, "aarch64"))
        kinds = false;
    if (!strcmp(info->target_name, "x86_64"))
        close_number = 3;
    if (!strcmp(info->target_name, "arm"))
        close_number = 6;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
