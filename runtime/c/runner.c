/* Runs a model on files, for machines that are emulated:
 *
 *     runner WEIGHTS THREADS REPEATS [TABLE] INPUT... OUTPUT...
 *
 * TABLE is there where the model has a table of sizes: a file of it, with the symbols set, that the last run's
 * is written to.
 * Reads each input's bytes from a file, runs REPEATS times, writes each output's bytes to a file, and prints
 * the nanoseconds of every run, one per line. Built with -DMODEL=gossamer_model_NAME; for counting marks after
 * every kernel of one thread also with -DMARK_KERNELS, and the runtime with -Dgossamer_sync=OTHER_NAME. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "counting_mark.h"
#include "counting_mark.h"
#include "gossamer.h"

#ifdef MARK_KERNELS /* stands for the runtime's own, which compiled code calls after every kernel of a profile */
void gossamer_sync(void *sync);
void gossamer_sync(void *sync) {
    (void)sync; /* one thread waits for nobody */
    gossamer_counting_mark();
}

static int64_t no_times[1];
#define gossamer_run(session, inputs, outputs) gossamer_profile(session, inputs, outputs, no_times, 0)
#define gossamer_run_sized(session, table, inputs, outputs) \
    gossamer_profile_sized(session, table, inputs, outputs, no_times, 0)
#endif

extern const gossamer_model MODEL;

static int fail(const char *what, const char *where) {
    fprintf(stderr, "%s: %s\n", where, what);
    return 1;
}

static void *read_file(const char *path, size_t bytes) {
    char *data = malloc(bytes + 1);
    FILE *file = fopen(path, "rb");
    size_t got = data != NULL && file != NULL ? fread(data, 1, bytes, file) : 0;
    if (file != NULL) fclose(file);
    if (data != NULL && file != NULL && got == bytes) return data;
    free(data);
    return NULL;
}

static int write_file(const char *path, const void *data, size_t bytes) {
    FILE *file = fopen(path, "wb");
    if (file == NULL) return 0;
    size_t written = fwrite(data, 1, bytes, file);
    return fclose(file) == 0 && written == bytes;
}

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (long long)time.tv_sec * 1000000000 + time.tv_nsec;
}

static size_t width(int32_t dtype) {
    switch (dtype) {
    case GOSSAMER_INT64:
    case GOSSAMER_UINT64:
    case GOSSAMER_FLOAT64: return 8;
    case GOSSAMER_FLOAT32:
    case GOSSAMER_INT32:
    case GOSSAMER_UINT32: return 4;
    case GOSSAMER_FLOAT16:
    case GOSSAMER_BFLOAT16:
    case GOSSAMER_INT16:
    case GOSSAMER_UINT16: return 2;
    default: return 1;
    }
}

/* Bytes of a tensor, whose sizes may stand in the table. */
static size_t bytes_of(const gossamer_tensor *tensor, const int64_t *table) {
    size_t bytes = width(tensor->dtype);
    for (int i = 0; i < tensor->rank; ++i) {
        int64_t size = tensor->shape[i];
        bytes *= (size_t)(size < 0 ? table[-1 - size] : size);
    }
    return bytes;
}

/* Memory for inputs, read from their files, and for outputs, at the places of their arguments. */
static int load(char **argv, const int64_t *table, void **inputs, void **outputs) {
    const gossamer_model *model = &MODEL;
    for (int i = 0; i < model->input_count; ++i) {
        inputs[i] = read_file(argv[i], bytes_of(&model->inputs[i], table));
        if (inputs[i] == NULL) return fail("cannot be read", argv[i]);
    }
    for (int i = 0; i < model->output_count; ++i) {
        outputs[i] = malloc(bytes_of(&model->outputs[i], table) + 1);
        if (outputs[i] == NULL) return fail("not enough memory", "output");
    }
    return 0;
}

static int32_t repeat(char **argv, int64_t *table, const void *const *inputs, void *const *outputs) {
    gossamer_session *session = NULL;
    int32_t status = gossamer_open(&MODEL, argv[1], atoi(argv[2]), &session);
    for (int turn = 0; status == GOSSAMER_OK && turn < atoi(argv[3]); ++turn) {
        long long start = now();
        gossamer_counting_mark();
        status = table == NULL ? gossamer_run(session, inputs, outputs)
                               : gossamer_run_sized(session, table, inputs, outputs);
        gossamer_counting_mark();
        printf("%lld\n", now() - start);
    }
    gossamer_close(session);
    return status;
}

/* `arrays` has room for every argument; it receives the inputs and outputs at the places of their files. */
static int run(int argc, char **argv, void **arrays) {
    const gossamer_model *model = &MODEL;
    int first_input = model->table_count > 0 ? 5 : 4, first_output = first_input + model->input_count;
    if (argc != first_output + model->output_count) return fail("wrong number of arguments", argv[0]);
    size_t table_bytes = (size_t)model->table_count * sizeof(int64_t);
    int64_t *table = NULL;
    if (model->table_count > 0) {
        table = arrays[0] = read_file(argv[4], table_bytes);
        if (table == NULL) return fail("cannot be read", argv[4]);
        if (gossamer_sizes(model, table) != GOSSAMER_OK) return fail("the model refuses these sizes", argv[4]);
    }
    int failed = load(argv + first_input, table, arrays + first_input, arrays + first_output);
    if (failed) return failed;
    int32_t status = repeat(argv, table, (const void *const *)(arrays + first_input), arrays + first_output);
    if (status != GOSSAMER_OK) return fail(gossamer_error(status), argv[1]);
    for (int i = 0; i < model->output_count; ++i) {
        const char *path = argv[first_output + i];
        size_t bytes = bytes_of(&model->outputs[i], table);
        if (!write_file(path, arrays[first_output + i], bytes)) return fail("cannot be written", path);
    }
    if (table != NULL && !write_file(argv[4], table, table_bytes)) return fail("cannot be written", argv[4]);
    return 0;
}

int main(int argc, char **argv) {
    void **arrays = calloc((size_t)argc + 1, sizeof(void *));
    if (arrays == NULL) return fail("not enough memory", argv[0]);
    int status = run(argc, argv, arrays);
    for (int i = 0; i < argc; ++i) free(arrays[i]);
    free(arrays);
    return status;
}
