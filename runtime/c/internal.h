/* Shared by the files of the runtime; not shipped. */
#ifndef GOSSAMER_INTERNAL_H
#define GOSSAMER_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

#include "gossamer.h"

/* Threads that do one task together, again and again: task(context, 0) on the caller, the rest on workers. While
 * they do, they can meet. */
typedef struct gossamer_pool gossamer_pool;
typedef void (*gossamer_task)(void *context, int32_t thread);

int32_t gossamer_pool_open(int32_t threads, gossamer_task task, void *context, gossamer_pool **out);
void gossamer_pool_run(gossamer_pool *pool);
/* Called by a thread whose task failed: until the end of the round nobody waits for it. */
void gossamer_pool_leave(gossamer_pool *pool);
void gossamer_pool_close(gossamer_pool *pool);

/* What one thread of a run hands to compiled code as `sync`. With `times`, the nanoseconds since `start` when the
 * thread came to the barrier and when it left are written there, in pairs, for at most `left` kernels. */
typedef struct gossamer_point {
    gossamer_pool *pool;
    int64_t *times;
    int64_t start;
    int32_t left;
} gossamer_point;

/* Called by compiled code after every kernel, by every thread of a run. `sync` is a gossamer_point or NULL. */
void gossamer_sync(void *sync);

int64_t gossamer_now(void); /* nanoseconds of a clock that only goes forward */

void gossamer_sha256(const uint8_t *data, size_t bytes, uint8_t digest[32]);

#define GOSSAMER_FILE_OUTSIDE (-2)

/* A descriptor of a file, or -1; never waits, whatever `path` is. */
int gossamer_open_file(const char *path);
/* The same for `folder`/`name`; GOSSAMER_FILE_OUTSIDE where a link leads out of the folder. */
int gossamer_open_in_folder(const char *folder, const char *name);

/* Whether this processor has a feature, by the word that /proc/cpuinfo uses for it. */
int gossamer_has_feature(const char *word);

/* gossamer_check over the bytes of a manifest. */
int32_t gossamer_check_text(const gossamer_model *model, const char *text, size_t bytes, char *message,
                            size_t room);

#endif
