/* What compiled code calls from inside a WebAssembly module. */
#include <stddef.h>

/* The loader's: called after every kernel unless `sync` is 0. */
__attribute__((import_module("env"), import_name("sync"))) void host_sync(void *sync);

void gossamer_sync(void *sync) { host_sync(sync); }

/* With bulk memory these builtins are one instruction each, not calls of themselves. */
void *memcpy(void *restrict to, const void *restrict from, size_t bytes) {
    return __builtin_memcpy(to, from, bytes);
}

void *memmove(void *to, const void *from, size_t bytes) { return __builtin_memmove(to, from, bytes); }

void *memset(void *to, int value, size_t bytes) { return __builtin_memset(to, value, bytes); }
