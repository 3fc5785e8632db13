/* Opens the artifact whose folder is the first argument, describes it, runs it on a ramp, prints what comes out.
 *
 *     cc -DMODEL=gossamer_model_NAME -Iartifact example.c artifact/libmodel.a -lm -lpthread -o example
 *     ./example artifact
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

enum { SHOWN = 4, MOST_TENSORS = 64 };

static void describe(const char *kind, const gossamer_tensor *tensors, int count) {
    for (int i = 0; i < count; ++i) {
        printf("%s %s: type %d, [", kind, tensors[i].name, tensors[i].dtype);
        for (int d = 0; d < tensors[i].rank; ++d) printf(d ? ", %lld" : "%lld", (long long)tensors[i].shape[d]);
        printf("], %zu bytes\n", tensors[i].bytes);
    }
}

/* Memory for each tensor; floats count 0, 0.01, 0.02, ...; all else is zero. */
static int allocate(const gossamer_tensor *tensors, int count, void **arrays) {
    for (int i = 0; i < count; ++i) {
        arrays[i] = calloc(1, tensors[i].bytes + 1);
        if (arrays[i] == NULL) return 0;
        if (tensors[i].dtype != GOSSAMER_FLOAT32) continue;
        float *values = arrays[i];
        for (size_t j = 0; j < tensors[i].bytes / sizeof(float); ++j) values[j] = 0.01f * (float)(j % 100);
    }
    return 1;
}

static void print_first(const gossamer_tensor *tensor, const void *array) {
    printf("%s =", tensor->name);
    if (tensor->dtype == GOSSAMER_FLOAT32) {
        const float *values = array;
        for (size_t j = 0; j < SHOWN && j < tensor->bytes / sizeof(float); ++j) printf(" %.6g", values[j]);
    } else {
        const unsigned char *bytes = array;
        for (size_t j = 0; j < SHOWN && j < tensor->bytes; ++j) printf(" 0x%02x", bytes[j]);
    }
    printf("\n");
}

int main(int argc, char **argv) {
    const gossamer_model *model = &MODEL;
    void *inputs[MOST_TENSORS] = {0}, *outputs[MOST_TENSORS] = {0};
    if (argc < 2 || model->input_count > MOST_TENSORS || model->output_count > MOST_TENSORS) {
        fprintf(stderr, "usage: %s ARTIFACT [THREADS]\n", argv[0]);
        return 2;
    }
    describe("input", model->inputs, model->input_count);
    describe("output", model->outputs, model->output_count);

    gossamer_session *session = NULL;
    int32_t status = gossamer_open(model, argv[1], argc > 2 ? atoi(argv[2]) : 0, &session);
    if (status == GOSSAMER_OK) {
        if (!allocate(model->inputs, model->input_count, inputs) ||
            !allocate(model->outputs, model->output_count, outputs)) {
            status = GOSSAMER_ERROR_MEMORY;
        } else {
            status = gossamer_run(session, (const void *const *)inputs, outputs);
        }
    }
    if (status == GOSSAMER_OK) {
        for (int i = 0; i < model->output_count; ++i) print_first(&model->outputs[i], outputs[i]);
    } else {
        fprintf(stderr, "%s: %s\n", argv[1], gossamer_error(status));
    }
    gossamer_close(session);
    for (int i = 0; i < MOST_TENSORS; ++i) {
        free(inputs[i]);
        free(outputs[i]);
    }
    return status == GOSSAMER_OK ? 0 : 1;
}
