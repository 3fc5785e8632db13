/* A system call that does nothing, by which an emulated program tells the instruction counter around it (the
 * qemu plugin of `gossamer bench --count-instructions`) that a run begins or ends. */
#ifndef GOSSAMER_COUNTING_MARK_H
#define GOSSAMER_COUNTING_MARK_H

#include <sys/prctl.h>

#define GOSSAMER_COUNTING_MARK 0x676f7373 /* no option of prctl: the kernel answers EINVAL */

static inline void gossamer_counting_mark(void) {
    prctl(GOSSAMER_COUNTING_MARK, 0L, 0L, 0L, 0L);
}

#endif
