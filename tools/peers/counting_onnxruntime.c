/* Runs an ONNX file in onnxruntime's C library, for machines that are emulated:
 *
 *     onnxruntime LIBRARY MODEL REPEATS OUTPUTS OUTPUT... [NAME TYPE DIMENSIONS FILE]...
 *
 * One thread; all optimisations, as in the Python package. OUTPUTS counts the names that follow it. An input is
 * its name, ONNX element type, dimensions as "1,3,224,224", and a file with its bytes. Calls
 * gossamer_counting_mark before and after every run. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "counting_mark.h"

/* onnxruntime's interface is a table of functions that only grows at its end; these are places in it since its
 * first version. Every one used here but ERROR_MESSAGE answers NULL or an error. */
enum {
    ERROR_MESSAGE = 2,
    CREATE_ENVIRONMENT = 3,
    CREATE_SESSION = 7,
    RUN = 9,
    CREATE_OPTIONS = 10,
    SET_THREADS = 24,
    CREATE_TENSOR = 49,
    CREATE_CPU_MEMORY = 69,
    RELEASE_VALUE = 96
};
typedef void function(void);
typedef struct base {
    function *const *(*get_api)(uint32_t version);
    const char *(*get_version)(void);
} base;
typedef void *create_environment(int severity, const char *name, void **environment);
typedef void *create_session(const void *environment, const char *path, const void *options, void **session);
typedef void *create_options(void **options);
typedef void *set_threads(void *options, int count);
typedef void *create_tensor(const void *memory, void *data, size_t bytes, const int64_t *shape, size_t rank,
                            int type, void **value);
typedef void *create_cpu_memory(int allocator, int type, void **memory);
typedef void *run(void *session, const void *options, const char *const *input_names, const void *const *inputs,
                  size_t input_count, const char *const *output_names, size_t output_count, void **outputs);
typedef void release_value(void *value);
typedef const char *error_message(const void *status);

enum { WARNINGS = 3, ARENA_ALLOCATOR = 1, DEFAULT_MEMORY = 0, MOST_TENSORS = 64, MOST_DIMENSIONS = 16 };

static function *const *api;

static void fail(const char *what) {
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static void check(void *status) {
    if (status != NULL) fail(((error_message *)api[ERROR_MESSAGE])(status));
}

static void *read_file(const char *path, size_t *bytes) {
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) fail(path);
    *bytes = (size_t)ftell(file);
    rewind(file);
    void *data = malloc(*bytes + 1);
    if (data == NULL || fread(data, 1, *bytes, file) != *bytes) fail(path);
    fclose(file);
    return data;
}

static void *read_input(void *memory, int type, char *dimensions, const char *path) {
    int64_t shape[MOST_DIMENSIONS];
    size_t rank = 0, bytes;
    for (char *word = strtok(dimensions, ","); word != NULL && rank < MOST_DIMENSIONS; word = strtok(NULL, ",")) {
        shape[rank++] = strtoll(word, NULL, 10);
    }
    void *data = read_file(path, &bytes), *value;
    check(((create_tensor *)api[CREATE_TENSOR])(memory, data, bytes, shape, rank, type, &value));
    return value;
}

static void *open_session(const char *model) {
    void *environment, *options, *session;
    check(((create_environment *)api[CREATE_ENVIRONMENT])(WARNINGS, "count", &environment));
    check(((create_options *)api[CREATE_OPTIONS])(&options));
    check(((set_threads *)api[SET_THREADS])(options, 1));
    check(((create_session *)api[CREATE_SESSION])(environment, model, options, &session));
    return session;
}

static void load(const char *path) {
    void *library = dlopen(path, RTLD_NOW);
    if (library == NULL) fail(dlerror());
    const base *(*get_base)(void) = (const base *(*)(void))dlsym(library, "OrtGetApiBase");
    api = get_base != NULL ? get_base()->get_api(1) : NULL;
    if (api == NULL) fail("the library has no OrtGetApiBase");
}

int main(int argc, char **argv) {
    size_t output_count = argc > 4 ? strtoul(argv[4], NULL, 10) : 0;
    size_t input_count = ((size_t)argc - 5 - output_count) / 4;
    if (argc < 5 || output_count > MOST_TENSORS || input_count > MOST_TENSORS) fail("wrong arguments");
    load(argv[1]);
    void *memory, *session = open_session(argv[2]), *inputs[MOST_TENSORS], *outputs[MOST_TENSORS];
    const char *names[MOST_TENSORS];
    char **input = argv + 5 + output_count;
    check(((create_cpu_memory *)api[CREATE_CPU_MEMORY])(ARENA_ALLOCATOR, DEFAULT_MEMORY, &memory));
    for (size_t i = 0; i < input_count; ++i, input += 4) {
        names[i] = input[0];
        inputs[i] = read_input(memory, atoi(input[1]), input[2], input[3]);
    }
    for (int repeat = 0; repeat < atoi(argv[3]); ++repeat) {
        memset(outputs, 0, sizeof outputs);
        gossamer_counting_mark();
        check(((run *)api[RUN])(session, NULL, names, (const void *const *)inputs, input_count,
                                (const char *const *)argv + 5, output_count, outputs));
        gossamer_counting_mark();
        for (size_t i = 0; i < output_count; ++i) ((release_value *)api[RELEASE_VALUE])(outputs[i]);
    }
    return 0;
}
