/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The memory of a mount's folios.
 *
 * All of them stand in one list.  When there is to be a new one and the bound is reached, the
 * front of the list is looked at: what was used since the last time, is dirty or in use goes to
 * the back, another one goes away.
 *
 * Lock order is pages.lock, then the list's; here the list comes first, and so pages.lock is
 * only tried.  An inode stays as long as one of its folios is on the list and the list's lock
 * is held: who takes an inode's folios away needs that lock.
 */

#include "vfs/inode.h"
#include "vfs/pages.h"

/* Whether overruns of its pieces would not be found. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_IS_BLIND true
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define ARENA_IS_BLIND true
#endif
#ifndef ARENA_IS_BLIND
#define ARENA_IS_BLIND false
#endif

void vfs_pagecache_init(struct vfs_pagecache *cache, uint64_t limit)
{
        *cache = (struct vfs_pagecache){.limit = limit};
        mtx_init(&cache->lock, RANK_PAGECACHE);
        cond_init(&cache->wake);
        TAILQ_INIT(&cache->lru);
        cond_init(&cache->done);
        TAILQ_INIT(&cache->dirty);
        TAILQ_INIT(&cache->writing);
        vfs_readers_init(&cache->readers);
}

void vfs_pagecache_done(struct vfs_pagecache *cache)
{
        vfs_readers_done(&cache->readers);
        assert(TAILQ_EMPTY(&cache->lru) && TAILQ_EMPTY(&cache->dirty));
        if (atomic_load(&cache->has_arena))
                arena_done(&cache->arena);
        cond_done(&cache->done);
        cond_done(&cache->wake);
        mtx_done(&cache->lock);
}

/* ---- memory ---- */

/* Folios of different sizes lie between each other: there is a quarter more than the bound, so
 * that large pieces are found among small ones.  Address Sanitizer watches malloc()'s. */
static uint64_t arena_size(const struct vfs_pagecache *cache)
{
        if (ARENA_IS_BLIND)
                return 0;
        return cache->limit + cache->limit / 4;
}

struct arena *vfs_pagecache_arena(struct vfs_pagecache *cache)
{
        if (likely(atomic_load_explicit(&cache->has_arena, memory_order_acquire)))
                return &cache->arena;
        mtx_lock(&cache->lock);
        if (!atomic_load_explicit(&cache->has_arena, memory_order_relaxed)) {
                arena_init(&cache->arena, arena_size(cache));
                /* Partner: who does not take the lock, above. */
                atomic_store_explicit(&cache->has_arena, true, memory_order_release);
        }
        mtx_unlock(&cache->lock);
        return &cache->arena;
}

/* ---- the list ---- */

void vfs_pagecache_add(struct vfs_pagecache *cache, struct folio *f)
{
        atomic_fetch_add(&cache->bytes, f->size);
        mtx_lock(&cache->lock);
        TAILQ_INSERT_TAIL(&cache->lru, f, lru);
        cache->nr++;
        mtx_unlock(&cache->lock);
}

static void unlist_locked(struct vfs_pagecache *cache, struct folio *f)
{
        TAILQ_REMOVE(&cache->lru, f, lru);
        cache->nr--;
        atomic_fetch_sub(&cache->bytes, f->size);
}

void vfs_pagecache_remove(struct vfs_pagecache *cache, struct folio *f)
{
        mtx_lock(&cache->lock);
        unlist_locked(cache, f);
        mtx_unlock(&cache->lock);
}

/* [pages.lock, cache.lock] Nobody has it, and the device has all of it. */
static bool is_idle(struct folio *f)
{
        return !f->is_dirty && !atomic_load(&f->is_writeback) && atomic_load(&f->refs) == 1;
}

/* [cache.lock] Take a folio out of its file, if that can be. */
static bool evict_locked(struct vfs_pagecache *cache, struct folio *f)
{
        struct vfs_pages *pages = &f->inode->pages;
        bool goes;

        if (atomic_exchange_explicit(&f->was_used, false, memory_order_relaxed))
                return false;
        if (!mtx_trylock(&pages->lock))
                return false;
        goes = is_idle(f);
        if (goes) {
                f->is_removed = true; /* nobody else knows it */
                pages_tree_remove(&pages->tree, f);
                atomic_fetch_sub(&pages->nr, 1);
                unlist_locked(cache, f);
        }
        mtx_unlock(&pages->lock);
        return goes;
}

static bool has_room(struct vfs_pagecache *cache, uint32_t size)
{
        return atomic_load(&cache->bytes) + size <= cache->limit;
}

bool vfs_pagecache_make_room(struct vfs_pagecache *cache, uint32_t size)
{
        struct folio_list victims = TAILQ_HEAD_INITIALIZER(victims);
        struct folio *f;
        uint64_t looks;

        if (has_room(cache, size))
                return true;
        mtx_lock(&cache->lock);
        /* Twice round at most: the first time may only take the mark of use away. */
        for (looks = 2 * cache->nr; looks > 0 && !has_room(cache, size); looks--) {
                f = TAILQ_FIRST(&cache->lru);
                if (!f)
                        break;
                if (evict_locked(cache, f)) {
                        TAILQ_INSERT_TAIL(&victims, f, lru);
                } else {
                        TAILQ_REMOVE(&cache->lru, f, lru);
                        TAILQ_INSERT_TAIL(&cache->lru, f, lru);
                }
        }
        mtx_unlock(&cache->lock);
        while ((f = TAILQ_FIRST(&victims))) {
                TAILQ_REMOVE(&victims, f, lru);
                folio_put(f);
        }
        return has_room(cache, size);
}
