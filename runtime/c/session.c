/* Sessions: weights, arena and threads of one use of a model. */
#include <stdatomic.h>

#include "internal.h"
#include "platform.h"

struct gossamer_session {
    const gossamer_model *model;
    const void *weights;
    void *mapping; /* of the weights file, or NULL */
    void *arena;
    void *arena_block; /* what malloc gave for the arena */
    size_t arena_bytes;
    void **io;         /* inputs, then outputs, of the run under way */
    gossamer_pool *pool;
    int32_t threads;
    _Atomic int32_t failed;
    int32_t watched; /* whether `point` is handed to the code: with several threads, and by gossamer_profile */
    gossamer_point point[GOSSAMER_MAX_THREADS];
    pthread_mutex_t lock;
};

/* Where a model without weights finds them. */
static const _Alignas(GOSSAMER_ALIGNMENT) uint8_t no_weights[GOSSAMER_ALIGNMENT];

static void run_thread(void *context, int32_t thread) {
    gossamer_session *s = context;
    void *sync = s->watched ? &s->point[thread] : NULL;
    int32_t status = s->model->call(s->io, s->weights, s->arena, thread, s->threads, sync);
    if (status == 0) return;
    atomic_store(&s->failed, 1);
    gossamer_pool_leave(s->pool);
}

/* Makes room for an arena of `bytes`, and `scratch` for each further thread; what it held is lost. */
static int32_t reserve(gossamer_session *s, uint64_t bytes, uint64_t scratch) {
    uint64_t more = (uint64_t)s->threads - 1, most = SIZE_MAX - GOSSAMER_ALIGNMENT;
    if (bytes > most || (scratch > 0 && more > (most - bytes) / scratch)) return GOSSAMER_ERROR_MEMORY;
    bytes += more * scratch;
    if (s->arena_block != NULL && bytes <= s->arena_bytes) return GOSSAMER_OK;
    free(s->arena_block);
    s->arena_bytes = 0;
    s->arena_block = malloc((size_t)bytes + GOSSAMER_ALIGNMENT);
    if (s->arena_block == NULL) return GOSSAMER_ERROR_MEMORY;
    s->arena_bytes = (size_t)bytes;
    uintptr_t start = (uintptr_t)s->arena_block + GOSSAMER_ALIGNMENT - 1;
    s->arena = (void *)(start & ~(uintptr_t)(GOSSAMER_ALIGNMENT - 1));
    return GOSSAMER_OK;
}

static int32_t allocate(gossamer_session *s) {
    size_t count = (size_t)s->model->input_count + (size_t)s->model->output_count;
    s->io = malloc((count + 1) * sizeof(void *));
    if (s->io == NULL) return GOSSAMER_ERROR_MEMORY;
    return reserve(s, s->model->arena_bytes, s->model->scratch_bytes);
}

static int32_t start(gossamer_session *s) {
    int32_t status = allocate(s);
    if (status != GOSSAMER_OK) return status;
    return gossamer_pool_open(s->threads, run_thread, s, &s->pool);
}

static int32_t check_arguments(const gossamer_model *model, int32_t threads) {
    if (model == NULL || threads < 0 || threads > GOSSAMER_MAX_THREADS) return GOSSAMER_ERROR_ARGUMENT;
    if (model->api_version != GOSSAMER_API_VERSION) return GOSSAMER_ERROR_VERSION;
    for (const char *const *word = model->requires; word != NULL && *word != NULL; ++word) {
        if (!gossamer_has_feature(*word)) return GOSSAMER_ERROR_PROCESSOR;
    }
    return GOSSAMER_OK;
}

/* Takes over `mapping`, also when it fails. */
static int32_t open_session(const gossamer_model *model, const void *weights, void *mapping, int32_t threads,
                            gossamer_session **session) {
    gossamer_session *s = calloc(1, sizeof *s);
    if (s == NULL) {
        if (mapping != NULL) munmap(mapping, model->weights_bytes);
        return GOSSAMER_ERROR_MEMORY;
    }
    s->model = model;
    s->weights = weights;
    s->mapping = mapping;
    s->threads = threads > 0 ? threads : model->threads;
    if (pthread_mutex_init(&s->lock, NULL) != 0) {
        if (mapping != NULL) munmap(mapping, model->weights_bytes);
        free(s);
        return GOSSAMER_ERROR_MEMORY;
    }
    int32_t status = start(s);
    if (status != GOSSAMER_OK) {
        gossamer_close(s);
        return status;
    }
    *session = s;
    return GOSSAMER_OK;
}

static int32_t map_file(int file, size_t bytes, void **mapping) {
    long size = (long)lseek(file, 0, SEEK_END);
    if (size < 0) return GOSSAMER_ERROR_FILE;
    if ((uintmax_t)size != (uintmax_t)bytes) return GOSSAMER_ERROR_SIZE;
    if (bytes == 0) return GOSSAMER_OK;
    void *start = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, file, 0);
    if (start == MAP_FAILED) return GOSSAMER_ERROR_FILE;
    *mapping = start;
    return GOSSAMER_OK;
}

static int32_t map_weights(const gossamer_model *model, const char *path, void **mapping) {
    int file = gossamer_open_in_folder(path, "weights.bin");
    if (file == GOSSAMER_FILE_OUTSIDE) return GOSSAMER_ERROR_FILE;
    if (file < 0) file = gossamer_open_file(path);
    if (file < 0) return GOSSAMER_ERROR_FILE;
    int32_t status = map_file(file, model->weights_bytes, mapping);
    close(file);
    if (status != GOSSAMER_OK || *mapping == NULL) return status;
    uint8_t digest[32], difference = 0;
    gossamer_sha256(*mapping, model->weights_bytes, digest);
    for (int i = 0; i < 32; ++i) difference |= (uint8_t)(digest[i] ^ model->weights_sha256[i]);
    if (difference == 0) return GOSSAMER_OK;
    munmap(*mapping, model->weights_bytes);
    return GOSSAMER_ERROR_HASH;
}

/* Whether a manifest, where the path is a folder with one, is that of the model. */
static int32_t check_folder(const gossamer_model *model, const char *path) {
    int file = gossamer_open_in_folder(path, "manifest.json");
    if (file >= 0) close(file);
    if (file == GOSSAMER_FILE_OUTSIDE) return GOSSAMER_ERROR_FILE;
    return file < 0 ? GOSSAMER_OK : gossamer_check(model, path, NULL, 0);
}

int32_t gossamer_open(const gossamer_model *model, const char *path, int32_t threads,
                      gossamer_session **session) {
    if (session == NULL) return GOSSAMER_ERROR_ARGUMENT;
    *session = NULL;
    int32_t status = check_arguments(model, threads);
    if (status != GOSSAMER_OK) return status;
    if (path == NULL && model->weights == NULL) return GOSSAMER_ERROR_ARGUMENT;
    status = path == NULL ? GOSSAMER_OK : check_folder(model, path);
    if (status != GOSSAMER_OK) return status;
    if (model->weights != NULL) return open_session(model, model->weights, NULL, threads, session);
    void *mapping = NULL;
    status = map_weights(model, path, &mapping);
    if (status != GOSSAMER_OK) return status;
    return open_session(model, mapping != NULL ? mapping : no_weights, mapping, threads, session);
}

int32_t gossamer_open_memory(const gossamer_model *model, const void *weights, size_t bytes, int32_t threads,
                             gossamer_session **session) {
    if (session == NULL) return GOSSAMER_ERROR_ARGUMENT;
    *session = NULL;
    int32_t status = check_arguments(model, threads);
    if (status != GOSSAMER_OK) return status;
    if (bytes != model->weights_bytes) return GOSSAMER_ERROR_SIZE;
    if (bytes == 0) weights = no_weights;
    if (weights == NULL) return GOSSAMER_ERROR_ARGUMENT;
    if ((uintptr_t)weights % GOSSAMER_ALIGNMENT != 0) return GOSSAMER_ERROR_ALIGNMENT;
    return open_session(model, weights, NULL, threads, session);
}

const gossamer_model *gossamer_describe(const gossamer_session *session) {
    return session == NULL ? NULL : session->model;
}

/* A tensor of `open` size may need memory, whatever its description says. */
static int32_t check_pointers(const gossamer_tensor *tensors, int32_t count, const void *const *pointers, int open) {
    if (count > 0 && pointers == NULL) return GOSSAMER_ERROR_ARGUMENT;
    for (int32_t i = 0; i < count; ++i) {
        if (pointers[i] == NULL && (open || tensors[i].bytes > 0)) return GOSSAMER_ERROR_ARGUMENT;
    }
    return GOSSAMER_OK;
}

/* Each thread's point: where its times go, when they are wanted. */
static void set_points(gossamer_session *s, int64_t *times, int32_t kernels) {
    int64_t start = times == NULL ? 0 : gossamer_now();
    for (int32_t i = 0; i < s->threads; ++i) {
        int64_t *own = times == NULL ? NULL : times + (size_t)i * (size_t)kernels * 2;
        s->point[i] = (gossamer_point){s->pool, own, start, kernels};
    }
    s->watched = s->threads > 1 || times != NULL;
}

int32_t gossamer_sizes(const gossamer_model *model, int64_t *table) {
    if (model == NULL || model->sizes == NULL || table == NULL) return GOSSAMER_ERROR_ARGUMENT;
    for (int32_t i = 0; i < model->symbol_count; ++i) {
        const gossamer_symbol *symbol = &model->symbols[i];
        int64_t size = table[symbol->place];
        if (size < symbol->least || size > symbol->most) return table[0] = 0, GOSSAMER_ERROR_SHAPE;
    }
    return model->sizes(table) == 0 && table[0] >= 0 ? GOSSAMER_OK : GOSSAMER_ERROR_SHAPE;
}

/* Puts the table at the head of an arena that is large enough. */
static int32_t place_table(gossamer_session *s, int64_t *table) {
    int32_t status = gossamer_sizes(s->model, table);
    if (status == GOSSAMER_OK) status = reserve(s, (uint64_t)table[0], (uint64_t)table[1]);
    if (status == GOSSAMER_OK) memcpy(s->arena, table, (size_t)s->model->table_count * sizeof *table);
    return status;
}

static void compute(gossamer_session *session, const void *const *inputs, void *const *outputs) {
    const gossamer_model *model = session->model;
    for (int32_t i = 0; i < model->input_count; ++i) session->io[i] = (void *)inputs[i];
    for (int32_t i = 0; i < model->output_count; ++i) session->io[model->input_count + i] = outputs[i];
    atomic_store(&session->failed, 0);
    gossamer_pool_run(session->pool);
}

/* With a `table` where the model has one. */
static int32_t run(gossamer_session *session, int64_t *table, const void *const *inputs, void *const *outputs,
                   int64_t *times, int32_t kernels) {
    const gossamer_model *model = session->model;
    if ((table == NULL) != (model->sizes == NULL)) return GOSSAMER_ERROR_ARGUMENT;
    int32_t status = check_pointers(model->inputs, model->input_count, inputs, table != NULL);
    if (status == GOSSAMER_OK) {
        status = check_pointers(model->outputs, model->output_count, (const void *const *)outputs, table != NULL);
    }
    if (status != GOSSAMER_OK) return status;
    pthread_mutex_lock(&session->lock);
    if (table != NULL) status = place_table(session, table);
    if (status == GOSSAMER_OK) {
        set_points(session, times, kernels);
        compute(session, inputs, outputs);
        status = atomic_load(&session->failed) ? GOSSAMER_ERROR_KERNEL : GOSSAMER_OK;
        if (table != NULL) memcpy(table, session->arena, (size_t)model->table_count * sizeof *table);
        if (table != NULL && status == GOSSAMER_OK && table[0] < 0) status = GOSSAMER_ERROR_SHAPE;
    }
    pthread_mutex_unlock(&session->lock);
    return status;
}

int32_t gossamer_run(gossamer_session *session, const void *const *inputs, void *const *outputs) {
    return session == NULL ? GOSSAMER_ERROR_ARGUMENT : run(session, NULL, inputs, outputs, NULL, 0);
}

int32_t gossamer_run_sized(gossamer_session *session, int64_t *table, const void *const *inputs,
                           void *const *outputs) {
    if (session == NULL || table == NULL) return GOSSAMER_ERROR_ARGUMENT;
    return run(session, table, inputs, outputs, NULL, 0);
}

int32_t gossamer_profile(gossamer_session *session, const void *const *inputs, void *const *outputs,
                         int64_t *nanoseconds, int32_t kernels) {
    if (session == NULL || nanoseconds == NULL || kernels < 0) return GOSSAMER_ERROR_ARGUMENT;
    return run(session, NULL, inputs, outputs, nanoseconds, kernels);
}

int32_t gossamer_profile_sized(gossamer_session *session, int64_t *table, const void *const *inputs,
                               void *const *outputs, int64_t *nanoseconds, int32_t kernels) {
    if (session == NULL || table == NULL || nanoseconds == NULL || kernels < 0) return GOSSAMER_ERROR_ARGUMENT;
    return run(session, table, inputs, outputs, nanoseconds, kernels);
}

void gossamer_close(gossamer_session *session) {
    if (session == NULL) return;
    gossamer_pool_close(session->pool);
    if (session->mapping != NULL) munmap(session->mapping, session->model->weights_bytes);
    free(session->io);
    free(session->arena_block);
    pthread_mutex_destroy(&session->lock);
    free(session);
}

const char *gossamer_error(int32_t status) {
    switch (status) {
    case GOSSAMER_OK: return "no error";
    case GOSSAMER_ERROR_ARGUMENT: return "an argument is null or out of range";
    case GOSSAMER_ERROR_VERSION: return "the model was compiled for another version of the gossamer interface";
    case GOSSAMER_ERROR_FILE: return "the weights file cannot be opened or mapped";
    case GOSSAMER_ERROR_SIZE: return "the weights have the wrong size; they belong to another model or are cut";
    case GOSSAMER_ERROR_HASH: return "the weights have the wrong SHA-256; they were altered or damaged";
    case GOSSAMER_ERROR_ALIGNMENT: return "the weights are not aligned to 64 bytes";
    case GOSSAMER_ERROR_MEMORY: return "not enough memory";
    case GOSSAMER_ERROR_THREAD: return "a worker thread cannot be started";
    case GOSSAMER_ERROR_KERNEL: return "a kernel failed; the outputs are not usable";
    case GOSSAMER_ERROR_SHAPE: return "the model cannot take these sizes";
    case GOSSAMER_ERROR_MANIFEST: return "manifest.json is broken or belongs to another model";
    case GOSSAMER_ERROR_PROCESSOR: return "the processor lacks instructions that the model was compiled for";
    default: return "unknown status";
    }
}
