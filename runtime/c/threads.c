/* A pool of threads that run one task side by side, and the barrier they meet at. */
#include "internal.h"
#include "platform.h"

/* Turns of a waiting loop before the processor is given away: some microseconds, the usual imbalance between
 * threads; longer waits mean that a thread is not running at all. */
enum { SPINS_AT_BARRIER = 2000, SPINS_BEFORE_SLEEP = 4000 };

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
    _Atomic uint32_t round; /* of work; a change wakes the workers */
    _Atomic int32_t busy;   /* workers that have not finished the round */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    worker worker[];
};

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || (defined(__arm__) && __ARM_ARCH >= 7)
    __asm__ volatile("yield");
#endif
}

int64_t gossamer_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void meet(gossamer_barrier *barrier) {
    if (barrier->parties < 2) return;
    uint32_t phase = atomic_load_explicit(&barrier->phase, memory_order_acquire);
    if (atomic_fetch_add_explicit(&barrier->arrived, 1, memory_order_acq_rel) + 1 == barrier->parties) {
        atomic_store_explicit(&barrier->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&barrier->phase, phase + 1, memory_order_release);
        return;
    }
    for (int32_t turn = 0; atomic_load_explicit(&barrier->phase, memory_order_acquire) == phase; ++turn) {
        if (atomic_load_explicit(&barrier->broken, memory_order_relaxed)) return;
        if (turn < SPINS_AT_BARRIER) {
            relax();
        } else {
            sched_yield();
        }
    }
}

void gossamer_sync(void *sync) {
    gossamer_point *point = sync;
    if (point == NULL) return;
    int32_t timed = point->times != NULL && point->left > 0;
    if (timed) *point->times++ = gossamer_now() - point->start;
    meet(point->barrier);
    if (!timed) return;
    *point->times++ = gossamer_now() - point->start;
    --point->left;
}

/* Waits for a round after `seen`; returns 0 when the pool stops. */
static int32_t await_round(gossamer_pool *pool, uint32_t seen) {
    for (int32_t turn = 0; turn < SPINS_BEFORE_SLEEP; ++turn) {
        if (atomic_load_explicit(&pool->round, memory_order_acquire) != seen) break;
        relax();
    }
    pthread_mutex_lock(&pool->lock);
    while (atomic_load_explicit(&pool->round, memory_order_relaxed) == seen) {
        pthread_cond_wait(&pool->wake, &pool->lock);
    }
    int32_t stop = pool->stop;
    pthread_mutex_unlock(&pool->lock);
    return !stop;
}

static void *work(void *argument) {
    worker *self = argument;
    gossamer_pool *pool = self->pool;
    for (uint32_t round = 0; await_round(pool, round); ++round) {
        pool->task(pool->context, self->thread);
        atomic_fetch_sub_explicit(&pool->busy, 1, memory_order_release);
    }
    return NULL;
}

static void begin_round(gossamer_pool *pool, int32_t stop) {
    pthread_mutex_lock(&pool->lock);
    pool->stop = stop;
    atomic_store_explicit(&pool->busy, pool->workers, memory_order_relaxed);
    atomic_fetch_add_explicit(&pool->round, 1, memory_order_release);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
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
    if (pool->workers > 0) begin_round(pool, 0);
    pool->task(pool->context, 0);
    for (int32_t turn = 0; atomic_load_explicit(&pool->busy, memory_order_acquire) > 0; ++turn) {
        if (turn < SPINS_AT_BARRIER) {
            relax();
        } else {
            sched_yield();
        }
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
