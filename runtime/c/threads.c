/* A pool of threads that run one task side by side, and the barrier they meet at. */
#include <stdatomic.h>

#include "internal.h"
#include "platform.h"

/* How a thread waits: it looks again and again, for some tens of microseconds, the usual imbalance between
 * threads; then it gives the processor away each time, in case another thread waits for it; then it sleeps. */
enum { SPINS = 2000, YIELDS = 50 };

enum { GONE = 1 << 16 };

typedef struct worker {
    gossamer_pool *pool;
    int32_t thread;
    pthread_t handle;
} worker;

struct gossamer_pool {
    gossamer_task task;
    void *context;
    int32_t workers; /* running ones; the caller is one thread more */
    int32_t stop;
    _Atomic uint32_t round;   /* of work; a change wakes the workers */
    _Atomic uint32_t busy;    /* workers that have not finished the round */
    _Atomic uint32_t arrived; /* threads that wait at the barrier, and GONE for each that will not come again */
    _Atomic uint32_t phase;   /* of the barrier; a change lets them go on */
    _Atomic uint32_t sleepers;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    worker worker[];
};

int64_t gossamer_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb"); /* some ten nanoseconds; `yield` takes none */
#elif defined(__arm__) && __ARM_ARCH >= 7
    __asm__ volatile("yield");
#endif
}

/* Waits until `word` is no longer `seen`. What was written before it changed is seen afterwards. */
static void await_change(gossamer_pool *pool, _Atomic uint32_t *word, uint32_t seen) {
    for (int32_t turn = 0; turn < SPINS + YIELDS; ++turn) {
        if (atomic_load_explicit(word, memory_order_acquire) != seen) return;
        if (turn < SPINS) {
            relax();
        } else {
            sched_yield();
        }
    }
    pthread_mutex_lock(&pool->lock);
    /* Counted before the last look at the word; who changes the word looks at the count afterwards. So one of
     * the two sees the other. */
    atomic_fetch_add(&pool->sleepers, 1);
    while (atomic_load(word) == seen) pthread_cond_wait(&pool->wake, &pool->lock);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->lock);
}

/* Called after a word was changed, by a sequentially consistent operation. */
static void wake_sleepers(gossamer_pool *pool) {
    if (atomic_load(&pool->sleepers) == 0) return;
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
}

/* Counts one thread, by `what`, among those not awaited; returns whether it was the last awaited one, and then
 * lets the others go on. */
static int32_t arrive(gossamer_pool *pool, uint32_t what) {
    uint32_t now = atomic_fetch_add(&pool->arrived, what) + what, waiting = now % GONE;
    if (waiting + now / GONE <= (uint32_t)pool->workers) return 0;
    atomic_fetch_sub(&pool->arrived, waiting);
    atomic_fetch_add(&pool->phase, 1);
    wake_sleepers(pool);
    return 1;
}

static void meet(gossamer_pool *pool) {
    uint32_t phase = atomic_load_explicit(&pool->phase, memory_order_acquire);
    if (!arrive(pool, 1)) await_change(pool, &pool->phase, phase);
}

void gossamer_sync(void *sync) {
    gossamer_point *point = sync;
    if (point == NULL) return;
    int32_t timed = point->times != NULL && point->left > 0;
    if (timed) *point->times++ = gossamer_now() - point->start;
    if (point->pool->workers > 0) meet(point->pool);
    if (!timed) return;
    *point->times++ = gossamer_now() - point->start;
    --point->left;
}

void gossamer_pool_leave(gossamer_pool *pool) { arrive(pool, GONE); }

static void *work(void *argument) {
    worker *self = argument;
    gossamer_pool *pool = self->pool;
    for (uint32_t round = 0;; ++round) {
        await_change(pool, &pool->round, round);
        if (pool->stop) return NULL;
        pool->task(pool->context, self->thread);
        if (atomic_fetch_sub(&pool->busy, 1) == 1) wake_sleepers(pool);
    }
}

static void begin_round(gossamer_pool *pool, int32_t stop) {
    pool->stop = stop;
    atomic_store_explicit(&pool->busy, (uint32_t)pool->workers, memory_order_relaxed);
    atomic_store_explicit(&pool->arrived, 0, memory_order_relaxed);
    atomic_fetch_add(&pool->round, 1);
    wake_sleepers(pool);
}

static int32_t start_workers(gossamer_pool *pool, int32_t count) {
    for (int32_t i = 0; i < count; ++i) {
        worker *self = &pool->worker[i];
        self->pool = pool;
        self->thread = i + 1;
        if (pthread_create(&self->handle, NULL, work, self) != 0) return GOSSAMER_ERROR_THREAD;
        pool->workers = i + 1;
    }
    return GOSSAMER_OK;
}

int32_t gossamer_pool_open(int32_t threads, gossamer_task task, void *context, gossamer_pool **out) {
    size_t bytes = sizeof(gossamer_pool) + (size_t)(threads - 1) * sizeof(worker);
    gossamer_pool *pool = calloc(1, bytes);
    if (pool == NULL) return GOSSAMER_ERROR_MEMORY;
    pool->task = task;
    pool->context = context;
    if (pthread_mutex_init(&pool->lock, NULL) != 0) {
        free(pool);
        return GOSSAMER_ERROR_THREAD;
    }
    if (pthread_cond_init(&pool->wake, NULL) != 0) {
        pthread_mutex_destroy(&pool->lock);
        free(pool);
        return GOSSAMER_ERROR_THREAD;
    }
    int32_t status = start_workers(pool, threads - 1);
    if (status != GOSSAMER_OK) {
        gossamer_pool_close(pool);
        return status;
    }
    *out = pool;
    return GOSSAMER_OK;
}

void gossamer_pool_run(gossamer_pool *pool) {
    begin_round(pool, 0);
    pool->task(pool->context, 0);
    for (uint32_t busy; (busy = atomic_load_explicit(&pool->busy, memory_order_acquire)) > 0;) {
        await_change(pool, &pool->busy, busy);
    }
}

void gossamer_pool_close(gossamer_pool *pool) {
    if (pool == NULL) return;
    begin_round(pool, 1);
    for (int32_t i = 0; i < pool->workers; ++i) pthread_join(pool->worker[i].handle, NULL);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}
