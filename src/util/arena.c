/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A buddy allocator: see arena.h.
 *
 * What is free of a chunk is bits beside it, never links inside: free memory is not touched,
 * and may be the kernel's.  There is a bit for each piece of each order, set when that piece is
 * free as a whole and its neighbour, with which it would be one piece, is not.
 */

#include "util/arena.h"

#include <sys/mman.h>

#include "util/alloc.h"

#define MIN_BITS   12u
#define TOP_ORDER  (ARENA_ORDERS - 1)
#define NR_PIECES  (ARENA_CHUNK_SIZE / ARENA_MIN_SIZE)
#define NOT_LISTED UINT8_MAX

struct arena_chunk {
        TAILQ_ENTRY(arena_chunk) link;
        uint64_t free[2 * NR_PIECES / 64]; /* the bits of order 0 first */
        uint8_t order;                     /* the list on which it is: its largest free piece */
};

/* ---- bits ---- */

/* Where the bits of an order begin. */
static uint32_t base_of(unsigned order)
{
        return 2 * NR_PIECES - (2 * NR_PIECES >> order);
}

static bool take_bit(struct arena_chunk *c, unsigned order, uint32_t nr)
{
        const uint32_t bit = base_of(order) + nr;
        const uint64_t mask = 1ull << bit % 64;
        const bool was_set = c->free[bit / 64] & mask;

        c->free[bit / 64] &= ~mask;
        return was_set;
}

static void set_bit(struct arena_chunk *c, unsigned order, uint32_t nr)
{
        const uint32_t bit = base_of(order) + nr;

        c->free[bit / 64] |= 1ull << bit % 64;
}

/* The first free piece of the order; false: none. */
static bool find_bit(const struct arena_chunk *c, unsigned order, uint32_t *ret_nr)
{
        const uint32_t end = base_of(order + 1);
        uint32_t bit = base_of(order);

        while (bit < end) {
                const uint64_t word = c->free[bit / 64] >> bit % 64;

                if (word) {
                        *ret_nr = bit + (uint32_t)__builtin_ctzll(word) - base_of(order);
                        return bit + (uint32_t)__builtin_ctzll(word) < end;
                }
                bit = (bit / 64 + 1) * 64;
        }
        return false;
}

/* ---- chunks [lock] ---- */

/* Put it where it belongs now.  What is free as a whole is used last. */
static void list(struct arena *a, struct arena_chunk *c)
{
        unsigned order = ARENA_ORDERS;
        uint32_t nr;

        while (order > 0 && !find_bit(c, order - 1, &nr))
                order--;
        if (c->order != NOT_LISTED && c->order + 1u == order)
                return;
        if (c->order != NOT_LISTED)
                TAILQ_REMOVE(&a->by_order[c->order], c, link);
        c->order = order == 0 ? NOT_LISTED : (uint8_t)(order - 1);
        if (c->order != NOT_LISTED)
                TAILQ_INSERT_HEAD(&a->by_order[c->order], c, link);
}

/* One with a free piece of the order, or more: the least. */
static struct arena_chunk *find_chunk(struct arena *a, unsigned order)
{
        struct arena_chunk *c;

        for (unsigned i = order; i < ARENA_ORDERS; i++) {
                c = TAILQ_FIRST(&a->by_order[i]);
                if (c)
                        return c;
        }
        if (a->nr_begun == a->nr_chunks)
                return NULL;
        c = &a->chunks[a->nr_begun++];
        c->order = NOT_LISTED;
        set_bit(c, TOP_ORDER, 0);
        list(a, c);
        return c;
}

/* The chunk has one: which of the pieces of this order it is. */
static uint32_t take_piece(struct arena_chunk *c, unsigned order)
{
        unsigned from = order;
        uint32_t nr = 0;

        while (!find_bit(c, from, &nr))
                from++;
        (void)take_bit(c, from, nr);
        while (from > order) {
                from--;
                nr *= 2;
                set_bit(c, from, nr + 1);
        }
        return nr;
}

/* True: nothing of the chunk is in use any more. */
static bool return_piece(struct arena_chunk *c, unsigned order, uint32_t nr)
{
        while (order < TOP_ORDER && take_bit(c, order, nr ^ 1)) {
                order++;
                nr /= 2;
        }
        set_bit(c, order, nr);
        return order == TOP_ORDER;
}

/* ---- the arena ---- */

static unsigned order_of(uint32_t size)
{
        const uint32_t pieces = (size - 1) >> MIN_BITS;

        return pieces == 0 ? 0 : 32 - (unsigned)__builtin_clz(pieces);
}

static char *map(uint64_t size)
{
        char *ptr = mmap(NULL, size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        return ptr == MAP_FAILED ? NULL : ptr;
}

void arena_init(struct arena *a, uint64_t size)
{
        const uint64_t nr = min_t(uint64_t, div_round_up(size, ARENA_CHUNK_SIZE), UINT32_MAX);
        uint64_t skip;

        *a = (struct arena){.nr_chunks = (uint32_t)nr};
        mtx_init(&a->lock, RANK_LEAF);
        for (unsigned i = 0; i < ARENA_ORDERS; i++)
                TAILQ_INIT(&a->by_order[i]);
        if (nr == 0)
                return;
        a->chunks = mem_array(nr, sizeof(*a->chunks));
        a->mapped = a->chunks ? map((nr + 1) * ARENA_CHUNK_SIZE) : NULL;
        if (!a->mapped) {
                mem_free(a->chunks);
                a->chunks = NULL;
                a->nr_chunks = 0;
                return;
        }
        skip = -(uintptr_t)a->mapped % ARENA_CHUNK_SIZE;
        a->memory = a->mapped + skip;
        /* Where there are no large pages small ones do. */
        (void)madvise(a->memory, nr * ARENA_CHUNK_SIZE, MADV_HUGEPAGE);
}

void arena_done(struct arena *a)
{
        for (uint32_t i = 0; i < a->nr_begun; i++)
                assert(a->chunks[i].order == TOP_ORDER);
        if (a->mapped)
                munmap(a->mapped, (a->nr_chunks + 1ull) * ARENA_CHUNK_SIZE);
        mem_free(a->chunks);
        mtx_done(&a->lock);
}

void *arena_get(struct arena *a, uint32_t size)
{
        const unsigned order = order_of(size);
        struct arena_chunk *c;
        char *ptr = NULL;

        assert(size > 0 && size <= ARENA_MAX_SIZE);
        if (mem_must_fail())
                return NULL;
        mtx_lock(&a->lock);
        c = find_chunk(a, order);
        if (c) {
                ptr = a->memory + (uint64_t)(c - a->chunks) * ARENA_CHUNK_SIZE +
                      ((uint64_t)take_piece(c, order) << (MIN_BITS + order));
                list(a, c);
        }
        mtx_unlock(&a->lock);
        return ptr;
}

void arena_put(struct arena *a, void *ptr, uint32_t size)
{
        const uint64_t at = (uint64_t)((char *)ptr - a->memory);
        struct arena_chunk *c = &a->chunks[at / ARENA_CHUNK_SIZE];
        const unsigned order = order_of(size);

        mtx_lock(&a->lock);
        if (return_piece(c, order, (uint32_t)(at % ARENA_CHUNK_SIZE >> (MIN_BITS + order))))
                /* order: under the lock, before anybody can have it */
                (void)madvise(a->memory + round_down_pow2(at, ARENA_CHUNK_SIZE),
                              ARENA_CHUNK_SIZE, MADV_FREE);
        list(a, c);
        mtx_unlock(&a->lock);
}
