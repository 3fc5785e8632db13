/* Whether this processor has a feature, by the word that /proc/cpuinfo uses for it. */
#include "internal.h"
#include "platform.h"

#if defined(__x86_64__)

typedef struct feature {
    const char *word;
    uint32_t leaf, subleaf;
    int reg; /* 0..3: eax, ebx, ecx, edx */
    int bit;
    uint32_t state; /* of registers that the system must save, as in XCR0 */
} feature;

enum { AVX = 6, AVX512 = 0xE6 };

static const feature features[] = {
    {"sse4_1", 1, 0, 2, 19, 0},        {"sse4_2", 1, 0, 2, 20, 0},       {"ssse3", 1, 0, 2, 9, 0},
    {"popcnt", 1, 0, 2, 23, 0},        {"fma", 1, 0, 2, 12, AVX},        {"f16c", 1, 0, 2, 29, AVX},
    {"avx", 1, 0, 2, 28, AVX},         {"avx2", 7, 0, 1, 5, AVX},        {"bmi1", 7, 0, 1, 3, 0},
    {"bmi2", 7, 0, 1, 8, 0},           {"avx_vnni", 7, 1, 0, 4, AVX},    {"avx512f", 7, 0, 1, 16, AVX512},
    {"avx512dq", 7, 0, 1, 17, AVX512}, {"avx512cd", 7, 0, 1, 28, AVX512}, {"avx512bw", 7, 0, 1, 30, AVX512},
    {"avx512vl", 7, 0, 1, 31, AVX512}, {"avx512vbmi", 7, 0, 2, 1, AVX512}, {"avx512_vnni", 7, 0, 2, 11, AVX512},
};

static void cpuid(uint32_t leaf, uint32_t subleaf, uint32_t out[4]) {
    __asm__ volatile("cpuid"
                     : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3])
                     : "a"(leaf), "c"(subleaf));
}

/* Which registers the operating system saves for each thread. */
static uint32_t saved_state(void) {
    uint32_t out[4], low, high;
    cpuid(1, 0, out);
    if ((out[2] >> 27 & 1) == 0) return 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static int has(const feature *f) {
    uint32_t out[4];
    cpuid(0, 0, out);
    if (out[0] < f->leaf) return 0;
    if (f->subleaf > 0) {
        cpuid(f->leaf, 0, out);
        if (out[0] < f->subleaf) return 0;
    }
    cpuid(f->leaf, f->subleaf, out);
    return (out[f->reg] >> f->bit & 1) && (saved_state() & f->state) == f->state;
}

#elif defined(__linux__) || defined(__ANDROID__)

typedef struct feature {
    const char *word;
    unsigned long which; /* AT_HWCAP or AT_HWCAP2 */
    int bit;
} feature;

enum { HWCAP = 16, HWCAP2 = 26 };

static const feature features[] = {
#if defined(__aarch64__)
    {"asimd", HWCAP, 1}, {"asimddp", HWCAP, 20}, {"i8mm", HWCAP2, 13}, {"bf16", HWCAP2, 14},
#else
    {"neon", HWCAP, 12}, {"vfpv4", HWCAP, 16}, {"idiva", HWCAP, 17},
#endif
};

static int has(const feature *f) { return getauxval(f->which) >> f->bit & 1; }

#else /* Apple: every processor has what its targets ask for */

typedef struct feature {
    const char *word;
} feature;

static const feature features[] = {{"asimd"}};

static int has(const feature *f) { return f->word != NULL; }

#endif

int gossamer_has_feature(const char *word) {
    for (size_t i = 0; i < sizeof features / sizeof *features; ++i) {
        if (strcmp(features[i].word, word) == 0) return has(&features[i]);
    }
    return 0; /* a word that nobody here knows stands for something newer */
}
