/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UTIL_ARENA_H
#define UTIL_ARENA_H

/*
 * Memory for large pieces that come and go: powers of two from 4 KiB to 1 MiB, each aligned to
 * its size.
 *
 * malloc() takes such pieces from the kernel and gives them back one by one, and their pages
 * are faulted in and zeroed each time.  An arena keeps them: what is given back is what the
 * next one gets.  It is made of chunks of 2 MiB, which the kernel is asked to back with one
 * large page each.  A chunk of which nothing is used stays where it is, but the kernel may have
 * its memory when it needs some.
 */

#include <sys/queue.h>

#include "util/lock.h"

#define ARENA_MIN_SIZE   4096u
#define ARENA_MAX_SIZE   (1u << 20)
#define ARENA_CHUNK_SIZE (2u << 20)

#define ARENA_ORDERS 10u /* of 2 << 20 bytes, too: a whole chunk */

struct arena_chunk;
TAILQ_HEAD(arena_chunks, arena_chunk);

struct arena {
        struct mtx lock;
        char *memory; /* NULL: none was to be had */
        char *mapped; /* where what is mapped begins, for the sake of alignment */
        struct arena_chunk *chunks;
        uint32_t nr_chunks; /* that there may be */
        uint32_t nr_begun;  /* [lock] that have been used at all */

        /* [lock] Chunks with something free, by the largest free piece of each. */
        struct arena_chunks by_order[ARENA_ORDERS];
};

/* For `size` bytes, rounded up to chunks.  Address space only: memory is taken when it is used.
 * When there is none, or size is 0, the arena gives nothing. */
void arena_init(struct arena *a, uint64_t size);

/* Nothing is in use. */
void arena_done(struct arena *a);

/* A piece of at least `size` bytes, not above ARENA_MAX_SIZE.  NULL: none is free. */
must_check void *arena_get(struct arena *a, uint32_t size);

/* The same size again. */
void arena_put(struct arena *a, void *ptr, uint32_t size);

static inline bool arena_has(const struct arena *a, const void *ptr)
{
        return a->memory && (uintptr_t)ptr - (uintptr_t)a->memory <
                                    (uint64_t)a->nr_chunks * ARENA_CHUNK_SIZE;
}

#endif
