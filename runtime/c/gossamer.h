/* gossamer: run a compiled model from C. Four verbs: open, describe, run, close; and profile, a run with a clock.
 *
 * There is no global state: any number of models and sessions may live in one program. A session may be
 * used from several threads; its runs then happen one after another.
 */
#ifndef GOSSAMER_H
#define GOSSAMER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GOSSAMER_API_VERSION 3
#define GOSSAMER_MAX_THREADS 16
#define GOSSAMER_ALIGNMENT 64 /* bytes, of weights given to gossamer_open_memory */
#define GOSSAMER_PUBLIC __attribute__((visibility("default")))

/* Every verb answers one of these; gossamer_error() puts it into words. */
enum {
    GOSSAMER_OK = 0,
    GOSSAMER_ERROR_ARGUMENT = 1, /* a null pointer, a negative or too large number of threads */
    GOSSAMER_ERROR_VERSION = 2,  /* the model was made for another version of this interface */
    GOSSAMER_ERROR_FILE = 3,     /* the weights file cannot be opened or mapped */
    GOSSAMER_ERROR_SIZE = 4,     /* the weights have another size than the model's */
    GOSSAMER_ERROR_HASH = 5,     /* the weights have another SHA-256 than the model's */
    GOSSAMER_ERROR_ALIGNMENT = 6, /* the weights in memory are not aligned to 64 bytes */
    GOSSAMER_ERROR_MEMORY = 7,   /* not enough memory */
    GOSSAMER_ERROR_THREAD = 8,   /* a worker thread cannot be started */
    GOSSAMER_ERROR_KERNEL = 9,   /* a kernel failed; the outputs are not usable */
    GOSSAMER_ERROR_SHAPE = 10,   /* the model cannot take these sizes */
    GOSSAMER_ERROR_MANIFEST = 11, /* manifest.json is broken, or not this model's: gossamer_check says what it is */
    GOSSAMER_ERROR_PROCESSOR = 12 /* the processor lacks an instruction that the model was compiled for */
};

/* Element types, numbered as in ONNX's TensorProto. */
enum {
    GOSSAMER_FLOAT32 = 1,
    GOSSAMER_UINT8 = 2,
    GOSSAMER_INT8 = 3,
    GOSSAMER_UINT16 = 4,
    GOSSAMER_INT16 = 5,
    GOSSAMER_INT32 = 6,
    GOSSAMER_INT64 = 7,
    GOSSAMER_BOOL = 9, /* one byte, 0 or 1 */
    GOSSAMER_FLOAT16 = 10,
    GOSSAMER_FLOAT64 = 11,
    GOSSAMER_UINT32 = 12,
    GOSSAMER_UINT64 = 13,
    GOSSAMER_BFLOAT16 = 16,
    GOSSAMER_FLOAT8_E4M3FN = 17,
    GOSSAMER_FLOAT8_E4M3FNUZ = 18,
    GOSSAMER_FLOAT8_E5M2 = 19,
    GOSSAMER_FLOAT8_E5M2FNUZ = 20,
    GOSSAMER_UINT4 = 21, /* this and all below: one byte for each element */
    GOSSAMER_INT4 = 22,
    GOSSAMER_FLOAT4_E2M1FN = 23,
    GOSSAMER_FLOAT8_E8M0FNU = 24,
    GOSSAMER_UINT2 = 25,
    GOSSAMER_INT2 = 26
};

/* An input or output: row-major, contiguous, `bytes` long. A size that each run may choose is -(place + 1), its
 * place in the model's table; then `bytes` is 0. */
typedef struct gossamer_tensor {
    const char *name; /* UTF-8 */
    int32_t dtype;
    int32_t rank;
    const int64_t *shape; /* `rank` numbers */
    size_t bytes;
} gossamer_tensor;

/* A size that inputs bring: a number of the table, and what it may be. */
typedef struct gossamer_symbol {
    const char *name; /* UTF-8 */
    int32_t place;
    int64_t least, most;
} gossamer_symbol;

/* A compiled model: constant data that its own code file defines. Read it; do not build one. */
typedef struct gossamer_model {
    uint32_t api_version;
    int32_t threads; /* used when gossamer_open is asked for 0 */
    const char *name;
    int32_t input_count;
    int32_t output_count;
    const gossamer_tensor *inputs;
    const gossamer_tensor *outputs;
    size_t weights_bytes;
    size_t arena_bytes;   /* memory a session with one thread takes for activations */
    size_t scratch_bytes; /* and how much more with each further thread */
    int32_t table_count;  /* numbers of the table of sizes; 0 where all sizes are known */
    int32_t symbol_count;
    const gossamer_symbol *symbols;
    int32_t (*sizes)(int64_t *table);
    uint8_t weights_sha256[32];
    const void *weights; /* embedded in the code, or NULL */
    int32_t (*call)(void *const *io, const void *weights, void *arena, int32_t thread, int32_t threads,
                    void *sync);
    const char *const *requires; /* features of the processor, as /proc/cpuinfo names them; NULL ends them */
} gossamer_model;

typedef struct gossamer_session gossamer_session;

/* Opens a session. `path` is the artifact's folder or its weights.bin, which is mapped and used in place
 * after its size and SHA-256 were checked; it is not read when the weights are embedded (then NULL will do).
 * A manifest.json in the folder must be this model's. Links must not lead out of the folder.
 * `threads` counts the threads of one run, the caller's included; 0 takes the model's default.
 * On failure *session is NULL. */
GOSSAMER_PUBLIC int32_t gossamer_open(const gossamer_model *model, const char *path, int32_t threads,
                                      gossamer_session **session);

/* The same over weights in memory: aligned to 64 bytes, unchanged until the session is closed. Checks the
 * size, not the SHA-256: whoever loaded the bytes did, or does not want to wait for it. */
GOSSAMER_PUBLIC int32_t gossamer_open_memory(const gossamer_model *model, const void *weights, size_t bytes,
                                             int32_t threads, gossamer_session **session);

/* Reads the manifest.json of an artifact's folder as hostile input and compares it with the model, whose code is
 * linked here. `message` receives, in at most `room` bytes, one line that says what is wrong; it may be NULL.
 * Answers GOSSAMER_OK, GOSSAMER_ERROR_MANIFEST, or GOSSAMER_ERROR_FILE where there is none to read. */
GOSSAMER_PUBLIC int32_t gossamer_check(const gossamer_model *model, const char *folder, char *message,
                                       size_t room);

/* The model of a session: names, types and shapes. NULL for NULL. */
GOSSAMER_PUBLIC const gossamer_model *gossamer_describe(const gossamer_session *session);

/* Computes every output. `inputs` and `outputs` hold one pointer per tensor, in the model's order; they need
 * no alignment; an output must not overlap another tensor. */
GOSSAMER_PUBLIC int32_t gossamer_run(gossamer_session *session, const void *const *inputs,
                                     void *const *outputs);

/* The same as gossamer_run, with the time of every kernel. `nanoseconds` holds, for each thread and each of the
 * first `kernels` kernels, two numbers: when the thread had computed its share of the kernel, and when it went
 * on to the next one, both since the start of the run. What the run does not come to stays as it was. */
GOSSAMER_PUBLIC int32_t gossamer_profile(gossamer_session *session, const void *const *inputs,
                                         void *const *outputs, int64_t *nanoseconds, int32_t kernels);

/* Fills in a table of `table_count` numbers whose symbols the caller has set: after it, every size of an input or
 * output is found there (at most so many, where data decide). GOSSAMER_ERROR_SHAPE where the model cannot take
 * these sizes; then number 0 is -(k + 1), and guard k of the manifest says why, or 0 where a symbol is out of
 * its bounds. */
GOSSAMER_PUBLIC int32_t gossamer_sizes(const gossamer_model *model, int64_t *table);

/* gossamer_run and gossamer_profile of a model that has a table: `table` holds the symbols, inputs and outputs
 * are as large as gossamer_sizes says. After it, sizes that data decide are in the table. */
GOSSAMER_PUBLIC int32_t gossamer_run_sized(gossamer_session *session, int64_t *table, const void *const *inputs,
                                           void *const *outputs);
GOSSAMER_PUBLIC int32_t gossamer_profile_sized(gossamer_session *session, int64_t *table,
                                               const void *const *inputs, void *const *outputs,
                                               int64_t *nanoseconds, int32_t kernels);

/* Ends a session and frees what it holds; no run of it may be under way. NULL is allowed. */
GOSSAMER_PUBLIC void gossamer_close(gossamer_session *session);

/* A sentence in English for a status; never NULL. */
GOSSAMER_PUBLIC const char *gossamer_error(int32_t status);

#ifdef __cplusplus
}
#endif

#endif
