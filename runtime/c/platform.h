/* What the runtime asks of the operating system. No Android headers come with the cross compiler, so what
 * bionic has is declared here as its 64-bit ABI fixes it; everywhere else the system's headers are used. */
#ifndef GOSSAMER_PLATFORM_H
#define GOSSAMER_PLATFORM_H

#include <stddef.h>
#include <stdint.h>

#if defined(__ANDROID__)

#if !defined(__LP64__)
#error "only 64-bit Android is declared here"
#endif

typedef long ssize_t;
typedef long pthread_t;
typedef struct {
    int32_t opaque[10];
} pthread_mutex_t;
typedef struct {
    int32_t opaque[12];
} pthread_cond_t;

int pthread_create(pthread_t *thread, const void *attributes, void *(*start)(void *), void *argument);
int pthread_join(pthread_t thread, void **result);
int pthread_mutex_init(pthread_mutex_t *mutex, const void *attributes);
int pthread_mutex_lock(pthread_mutex_t *mutex);
int pthread_mutex_unlock(pthread_mutex_t *mutex);
int pthread_mutex_destroy(pthread_mutex_t *mutex);
int pthread_cond_init(pthread_cond_t *condition, const void *attributes);
int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex);
int pthread_cond_broadcast(pthread_cond_t *condition);
int pthread_cond_destroy(pthread_cond_t *condition);
int sched_yield(void);

void *malloc(size_t bytes);
void *calloc(size_t count, size_t bytes);
void free(void *block);
size_t strlen(const char *text);
int strcmp(const char *first, const char *second);
void *memcpy(void *to, const void *from, size_t bytes);

int open(const char *path, int flags, ...);
int close(int file);
long lseek(int file, long offset, int whence);
ssize_t read(int file, void *bytes, size_t count);
char *realpath(const char *path, char *resolved);
unsigned long getauxval(unsigned long which);
void *mmap(void *address, size_t bytes, int protection, int flags, int file, long offset);
int munmap(void *address, size_t bytes);

struct timespec {
    long tv_sec;
    long tv_nsec;
};
int clock_gettime(int clock, struct timespec *time);

#define O_RDONLY 0
#define O_CLOEXEC 02000000
#define O_NONBLOCK 04000
#define SEEK_SET 0
#define SEEK_END 2
#define PROT_READ 1
#define MAP_PRIVATE 2
#define MAP_FAILED ((void *)-1)
#define CLOCK_MONOTONIC 1

#else

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif

#endif

#endif
