/* Calls a model's code with every buffer between pages that nobody may touch:
 *
 *     guarded WEIGHTS INPUTS THREADS OUTPUTS [THREADS OUTPUTS]...
 *
 * INPUTS holds the bytes of all inputs, one after another; the outputs are written to OUTPUTS likewise. For each
 * number of threads the code runs twice: first with buffers that end where a forbidden page starts, its threads
 * taking turns at every kernel in the order of their numbers; then with buffers that start where a forbidden page
 * ends, and the threads in the opposite order. What else lies in the pages differs between the runs, and so does
 * what outputs and arena hold before. The results must not differ. Inputs and weights are read-only.
 *
 * Prints a line for each fault. Exit status: 0 no fault, 1 faults, 2 cannot run, 3 a forbidden page was touched.
 */
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gossamer.h"

extern const gossamer_model MODEL;

enum { MOST_REGIONS = 4096, LEAST_SLACK = 256 };

typedef struct region {
    const char *kind;
    int index;
    unsigned char *map, *data;
    size_t pages, bytes; /* pages between the forbidden ones */
} region;

static region regions[MOST_REGIONS]; /* inputs, outputs, weights, arena */
static int region_count, faults;
static size_t page;

static void fault(const region *r, const char *what) {
    printf("%s %d: %s\n", r->kind, r->index, what);
    ++faults;
}

static region *place(const char *kind, int index, size_t bytes, size_t alignment, int at_end, int canary) {
    region *r = &regions[region_count];
    if (region_count == MOST_REGIONS) return NULL;
    size_t whole = (bytes + alignment - 1) / alignment * alignment;
    size_t pages = (whole + LEAST_SLACK + page - 1) / page;
    unsigned char *map = mmap(NULL, (pages + 2) * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) return NULL;
    unsigned char *first = map + page;
    if (mprotect(first, pages * page, PROT_READ | PROT_WRITE) != 0) return NULL;
    memset(first, canary, pages * page);
    *r = (region){kind, index, map, at_end ? first + pages * page - whole : first, pages, bytes};
    ++region_count;
    return r;
}

static void check(const region *r, unsigned char canary) {
    const unsigned char *first = r->map + page, *last = first + r->pages * page;
    for (const unsigned char *at = first; at < last; ++at) {
        if ((at >= r->data && at < r->data + r->bytes) || *at == canary) continue;
        fault(r, at < r->data ? "written before its start" : "written past its end");
        return;
    }
}

static void on_forbidden(int signal_number, siginfo_t *info, void *context) {
    (void)context;
    const unsigned char *at = info->si_addr;
    printf("signal %d\n", signal_number);
    for (const region *r = regions; r < regions + region_count; ++r) {
        if (at < r->map || at >= r->map + (r->pages + 2) * page) continue;
        long offset = (long)(at - r->data);
        printf("%s %d: its byte %ld of %zu was touched, or written though constant\n", r->kind, r->index, offset,
               r->bytes);
    }
    fflush(stdout);
    _exit(3);
}

/* ---- threads that take turns ------------------------------------------------------------------------------ */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t passed = PTHREAD_COND_INITIALIZER;
static int thread_count, turn, backwards, finished[GOSSAMER_MAX_THREADS];
static int32_t statuses[GOSSAMER_MAX_THREADS];
static _Thread_local int own;
static void *io[MOST_REGIONS];

static void await_turn(void) {
    while (turn != own) pthread_cond_wait(&passed, &lock);
}

static void pass_turn(void) {
    for (int i = 0; i < thread_count; ++i) {
        turn = (turn + (backwards ? thread_count - 1 : 1)) % thread_count;
        if (!finished[turn]) break;
    }
    pthread_cond_broadcast(&passed);
}

/* Called by the code after every kernel, in place of the runtime's barrier: the next thread computes its share. */
void gossamer_sync(void *sync) {
    (void)sync;
    if (thread_count < 2) return;
    pthread_mutex_lock(&lock);
    pass_turn();
    await_turn();
    pthread_mutex_unlock(&lock);
}

static void *run_thread(void *argument) {
    own = (int)(intptr_t)argument;
    pthread_mutex_lock(&lock);
    await_turn();
    pthread_mutex_unlock(&lock);
    const void *weights = regions[MODEL.input_count + MODEL.output_count].data;
    void *arena = regions[MODEL.input_count + MODEL.output_count + 1].data;
    statuses[own] = MODEL.call(io, weights, arena, own, thread_count, &turn);
    pthread_mutex_lock(&lock);
    finished[own] = 1;
    pass_turn();
    pthread_mutex_unlock(&lock);
    return NULL;
}

static int run_threads(int count, int reversed) {
    pthread_t handles[GOSSAMER_MAX_THREADS];
    thread_count = count;
    backwards = reversed;
    turn = reversed ? count - 1 : 0;
    memset(finished, 0, sizeof finished);
    for (int i = 0; i < count; ++i) {
        if (pthread_create(&handles[i], NULL, run_thread, (void *)(intptr_t)i) != 0) return 2;
    }
    int status = 0;
    for (int i = 0; i < count; ++i) {
        pthread_join(handles[i], NULL);
        if (statuses[i] != 0) status = 2;
    }
    return status;
}

/* ---- one run ---------------------------------------------------------------------------------------------- */
static int read_into(region *r, FILE *file) {
    return r != NULL && file != NULL && fread(r->data, 1, r->bytes, file) == r->bytes &&
           mprotect(r->map + page, r->pages * page, PROT_READ) == 0;
}

static int place_all(FILE *weights, FILE *inputs, int threads, int at_end, int canary) {
    size_t arena_bytes = MODEL.arena_bytes + (size_t)(threads - 1) * MODEL.scratch_bytes;
    for (int i = 0; i < MODEL.input_count; ++i) {
        region *r = place("input", i, MODEL.inputs[i].bytes, 1, at_end, canary);
        if (!read_into(r, inputs)) return 0;
        io[i] = r->data;
    }
    for (int i = 0; i < MODEL.output_count; ++i) {
        region *r = place("output", i, MODEL.outputs[i].bytes, 1, at_end, canary);
        if (r == NULL) return 0;
        io[MODEL.input_count + i] = r->data;
    }
    region *r = place("weights", 0, MODEL.weights_bytes, GOSSAMER_ALIGNMENT, at_end, canary);
    return read_into(r, weights) && place("arena", 0, arena_bytes, GOSSAMER_ALIGNMENT, at_end, canary) != NULL;
}

/* `results` receives the outputs of the first run; those of the second are compared with it. */
static int run(const char *weights_path, const char *inputs_path, int threads, unsigned char *results, int second) {
    int canary = second ? 0x7F : 0xFF; /* bytes of a float near the largest, and of NaN */
    FILE *weights = fopen(weights_path, "rb"), *inputs = fopen(inputs_path, "rb");
    int placed = place_all(weights, inputs, threads, !second, canary);
    if (weights != NULL) fclose(weights);
    if (inputs != NULL) fclose(inputs);
    if (!placed || run_threads(threads, second) != 0) return 2;
    for (region *r = regions; r < regions + region_count; ++r) {
        check(r, (unsigned char)canary);
        if (strcmp(r->kind, "output") == 0) {
            if (!second) memcpy(results, r->data, r->bytes);
            else if (memcmp(results, r->data, r->bytes) != 0) {
                fault(r, "depends on other memory or on the order of threads");
            }
            results += r->bytes;
        }
        munmap(r->map, (r->pages + 2) * page);
    }
    region_count = 0;
    return 0;
}

int main(int argc, char **argv) {
    struct sigaction action = {.sa_sigaction = on_forbidden, .sa_flags = SA_SIGINFO};
    if (argc < 5 || argc % 2 == 0 || MODEL.input_count + MODEL.output_count + 2 > MOST_REGIONS) return 2;
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    page = (size_t)sysconf(_SC_PAGESIZE);
    size_t bytes = 0;
    for (int i = 0; i < MODEL.output_count; ++i) bytes += MODEL.outputs[i].bytes;
    unsigned char *results = malloc(bytes + 1);
    for (int i = 3; results != NULL && i + 1 < argc; i += 2) {
        for (int second = 0; second < 2; ++second) {
            int status = run(argv[1], argv[2], atoi(argv[i]), results, second);
            if (status != 0) return status;
        }
        FILE *file = fopen(argv[i + 1], "wb");
        if (file == NULL || fwrite(results, 1, bytes, file) != bytes || fclose(file) != 0) return 2;
    }
    free(results);
    return faults != 0;
}
