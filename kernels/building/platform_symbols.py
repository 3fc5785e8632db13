"""Functions that every C library of our targets exports, and that shipped code may leave undefined."""

from __future__ import annotations

__all__ = ["LIBC", "LIBM"]

# What the C runtime calls, and what compilers call of themselves.
_LIBC = """
    malloc calloc free open close lseek mmap munmap sched_yield strlen strcmp clock_gettime
    read realpath getauxval
    pthread_create pthread_join
    pthread_mutex_init pthread_mutex_lock pthread_mutex_unlock pthread_mutex_destroy
    pthread_cond_init pthread_cond_wait pthread_cond_broadcast pthread_cond_destroy
    memcpy memmove memset memcmp bcmp
"""
LIBC = frozenset(_LIBC.split())

# C99's functions of real numbers, in double precision; the float ones end in f.
_LIBM = """
    acos acosh asin asinh atan atan2 atanh cbrt ceil cos cosh erf erfc exp exp2 expm1 fabs floor fma fmax
    fmin fmod hypot ldexp lgamma log log10 log1p log2 logb nearbyint pow remainder rint round scalbn sin
    sinh sqrt tan tanh tgamma trunc
"""
LIBM = frozenset(name + suffix for name in _LIBM.split() for suffix in ("", "f"))
