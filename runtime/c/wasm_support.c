/* What compiled code calls from inside a WebAssembly module; the module runs on one thread. */
#include <stddef.h>

void gossamer_sync(void *sync) { (void)sync; }

/* With bulk memory these builtins are one instruction each, not calls of themselves. */
void *memcpy(void *restrict to, const void *restrict from, size_t bytes) {
    return __builtin_memcpy(to, from, bytes);
}

void *memmove(void *to, const void *from, size_t bytes) { return __builtin_memmove(to, from, bytes); }

void *memset(void *to, int value, size_t bytes) { return __builtin_memset(to, value, bytes); }
