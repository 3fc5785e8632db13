/* Runs a model on files, for machines that are emulated:
 *
 *     runner WEIGHTS THREADS REPEATS INPUT... OUTPUT...
 *
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

/* `arrays` has room for every argument; it receives the inputs and outputs at the places of their files. */
static int run(int argc, char **argv, void **arrays) {
    const gossamer_model *model = &MODEL;
    int first_input = 4, first_output = first_input + model->input_count;
    if (argc != first_output + model->output_count) return fail("wrong number of arguments", argv[0]);
    for (int i = 0; i < model->input_count; ++i) {
        arrays[first_input + i] = read_file(argv[first_input + i], model->inputs[i].bytes);
        if (arrays[first_input + i] == NULL) return fail("cannot be read", argv[first_input + i]);
    }
    for (int i = 0; i < model->output_count; ++i) {
        arrays[first_output + i] = malloc(model->outputs[i].bytes + 1);
        if (arrays[first_output + i] == NULL) return fail("not enough memory", argv[0]);
    }
    gossamer_session *session = NULL;
    int32_t status = gossamer_open(model, argv[1], atoi(argv[2]), &session);
    for (int turn = 0; status == GOSSAMER_OK && turn < atoi(argv[3]); ++turn) {
        long long start = now();
        gossamer_counting_mark();
        status = gossamer_run(session, (const void *const *)(arrays + first_input), arrays + first_output);
        gossamer_counting_mark();
        printf("%lld\n", now() - start);
    }
    gossamer_close(session);
    if (status != GOSSAMER_OK) return fail(gossamer_error(status), argv[1]);
    for (int i = 0; i < model->output_count; ++i) {
        if (!write_file(argv[first_output + i], arrays[first_output + i], model->outputs[i].bytes)) {
            return fail("cannot be written", argv[first_output + i]);
        }
    }
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
