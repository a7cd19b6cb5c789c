/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/alloc.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static _Atomic int64_t fail_countdown = -1; /* < 0: off */
static _Atomic uint64_t nr_allocs;

bool mem_must_fail(void)
{
        atomic_fetch_add_explicit(&nr_allocs, 1, memory_order_relaxed);
        if (likely(atomic_load_explicit(&fail_countdown, memory_order_relaxed) < 0))
                return false;
        return atomic_fetch_sub(&fail_countdown, 1) == 0;
}

void *mem_alloc(size_t size)
{
        if (mem_must_fail())
                return NULL;
        return malloc(size);
}

void *mem_zalloc(size_t size)
{
        return mem_array(1, size);
}

void *mem_array(size_t nr, size_t size)
{
        if (mem_must_fail())
                return NULL;
        return calloc(nr, size);
}

void *mem_alloc_aligned(size_t align, size_t size)
{
        void *ptr;

        if (mem_must_fail())
                return NULL;
        if (posix_memalign(&ptr, max_t(size_t, align, sizeof(void *)), size) != 0)
                return NULL;
        return ptr;
}

void mem_free(void *ptr)
{
        free(ptr);
}

void mem_fail_after(int64_t nr)
{
        atomic_store(&fail_countdown, nr);
}

uint64_t mem_count(void)
{
        return atomic_load_explicit(&nr_allocs, memory_order_relaxed);
}
