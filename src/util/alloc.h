/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UTIL_ALLOC_H
#define UTIL_ALLOC_H

/*
 * Memory.  The library takes all of its memory here, so that a test can make the
 * Nth allocation fail and can count allocations on a path that must have none.
 */

#include <stddef.h>
#include <stdint.h>

#include "util/base.h"

/* NULL when there is no memory. */
must_check void *mem_alloc(size_t size);
must_check void *mem_zalloc(size_t size);

/* nr * size bytes, zeroed; NULL also when the product overflows. */
must_check void *mem_array(size_t nr, size_t size);

/* `align` is a power of two; mem_free() gives it back. */
must_check void *mem_alloc_aligned(size_t align, size_t size);

/* NULL is fine. */
void mem_free(void *ptr);

static inline void mem_freep(void *pptr)
{
        mem_free(*(void **)pptr);
}

#define _cleanup_mem_ __attribute__((cleanup(mem_freep)))

/* For who takes memory from elsewhere: counts, and says whether there is to be none this time.
 */
must_check bool mem_must_fail(void);

/* For tests: let `nr` allocations of this process pass, then fail one; negative: off. */
void mem_fail_after(int64_t nr);

/* For tests: allocations so far. */
uint64_t mem_count(void);

#endif
