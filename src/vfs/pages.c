/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vfs/pages.h"

#include "vfs/inode.h"

static int by_position(const struct folio *a, const struct folio *b)
{
        return (a->pos > b->pos) - (a->pos < b->pos);
}

RB_GENERATE_INTERNAL(dirty_folios, folio, dirty_link, by_position,
                     static __attribute__((unused)))

static struct vfs_pagecache *cache_of(struct vfs_inode *inode)
{
        return &inode->sb->pagecache;
}

void vfs_pages_init(struct vfs_pages *pages)
{
        *pages = (struct vfs_pages){.dirty = RB_INITIALIZER(&pages->dirty)};
        mtx_init(&pages->lock, RANK_PAGES);
        cond_init(&pages->written);
}

void vfs_pages_done(struct vfs_pages *pages)
{
        struct vfs_pagecache *cache = cache_of(container_of(pages, struct vfs_inode, pages));

        assert(!pages->tree.root && pages->list == VFS_PAGES_UNLISTED);
        /* Who has made room by the last folio may not have let go of `lock` yet. */
        mtx_lock(&cache->lock);
        mtx_unlock(&cache->lock);
        cond_done(&pages->written);
        mtx_done(&pages->lock);
}

/* ---- find and add ---- */

struct folio *vfs_pages_find(struct vfs_inode *inode, uint64_t pos)
{
        struct vfs_pages *pages = &inode->pages;
        struct folio *f;

        mtx_lock(&pages->lock);
        f = pages_tree_find(&pages->tree, pos);
        if (f)
                folio_get(f);
        mtx_unlock(&pages->lock);
        if (f && !atomic_load_explicit(&f->was_used, memory_order_relaxed))
                atomic_store_explicit(&f->was_used, true, memory_order_relaxed);
        return f;
}

static int insert(struct vfs_inode *inode, struct folio *f)
{
        struct vfs_pages *pages = &inode->pages;
        int ret;

        mtx_lock(&pages->lock);
        ret = pages_tree_insert(&pages->tree, f);
        if (ret == 0) {
                folio_get(f); /* the file's */
                atomic_fetch_add(&pages->nr, 1);
                vfs_pagecache_add(cache_of(inode), f);
        }
        mtx_unlock(&pages->lock);
        return ret;
}

/* Memory for a folio: within the bound as long as anything can be written back or dropped for
 * it.  What cannot be (because it is lent, say) is not in the way of going on. */
static void make_room(struct vfs_inode *inode, uint32_t size)
{
        while (!vfs_pagecache_make_room(cache_of(inode), size)) {
                if (!vfs_write_oldest(inode->sb))
                        return;
        }
}

static int add(struct vfs_inode *inode, uint64_t pos, uint32_t size, struct folio **ret_folio)
{
        struct folio *f;
        int ret;

        make_room(inode, size);
        f = folio_new(inode, round_down_pow2(pos, size), size);
        if (!f)
                return -ENOMEM;
        ret = insert(inode, f);
        if (ret < 0)
                folio_put(f);
        else
                *ret_folio = f;
        return ret;
}

int vfs_pages_get(struct vfs_inode *inode, uint64_t pos, uint32_t size,
                  struct folio **ret_folio)
{
        const uint32_t least = vfs_least_folio(inode);
        int ret;

        size = max_t(uint32_t, size, least);
        for (;;) {
                *ret_folio = vfs_pages_find(inode, pos);
                if (*ret_folio)
                        return 0;
                ret = add(inode, pos, size, ret_folio);
                if (ret == 0)
                        return 0;
                if (ret == -ENOMEM && size == least)
                        return ret;
                size = max_t(uint32_t, least, size / 2);
        }
}

/* ---- dirty ---- */

/* [pages.lock] */
static void count_due(struct vfs_pages *pages)
{
        atomic_store_explicit(&pages->nr_due, pages->nr_dirty + pages->nr_writeback,
                              memory_order_release);
}

static void enter_dirty(struct folio *f)
{
        struct vfs_pages *pages = &f->inode->pages;

        RB_INSERT(dirty_folios, &pages->dirty, f);
        f->is_dirty = true;
        pages->nr_dirty++;
        count_due(pages);
        atomic_fetch_add(&cache_of(f->inode)->dirty_bytes, f->size);
}

static void leave_dirty(struct folio *f)
{
        struct vfs_pages *pages = &f->inode->pages;

        RB_REMOVE(dirty_folios, &pages->dirty, f);
        f->is_dirty = false;
        pages->nr_dirty--;
        count_due(pages);
        atomic_fetch_sub(&cache_of(f->inode)->dirty_bytes, f->size);
}

void folio_lock_stable(struct folio *f)
{
        struct vfs_pages *pages = &f->inode->pages;

        for (;;) {
                mtx_lock(&f->lock);
                if (!atomic_load_explicit(&f->is_writeback, memory_order_acquire))
                        return;
                mtx_unlock(&f->lock);
                mtx_lock(&pages->lock);
                while (atomic_load_explicit(&f->is_writeback, memory_order_relaxed))
                        cond_wait(&pages->written, &pages->lock);
                mtx_unlock(&pages->lock);
        }
}

void vfs_pages_dirty(struct folio *f, uint64_t from, uint64_t to)
{
        struct vfs_pages *pages = &f->inode->pages;

        folio_set_uptodate(f, from, to);
        folio_set_dirty(f, from, to);
        mtx_lock(&pages->lock);
        if (!f->is_dirty) {
                enter_dirty(f);
                if (pages->nr_dirty == 1)
                        vfs_flusher_note(f->inode);
        }
        mtx_unlock(&pages->lock);
}

/* [pages.lock] The first dirty folio that ends behind `from`. */
static struct folio *first_dirty(struct vfs_pages *pages, uint64_t from)
{
        struct folio *f = RB_ROOT(&pages->dirty);
        struct folio *found = NULL;

        while (f) {
                if (folio_end(f) > from) {
                        found = f;
                        f = RB_LEFT(f, dirty_link);
                } else {
                        f = RB_RIGHT(f, dirty_link);
                }
        }
        return found;
}

static bool is_due(const struct folio *f)
{
        return f->is_dirty || atomic_load_explicit(&f->is_writeback, memory_order_relaxed);
}

/* The first folio that ends behind `from`, begins before `to`, and is dirty or being written,
 * with a reference. */
static struct folio *find_due(struct vfs_inode *inode, uint64_t from, uint64_t to)
{
        struct vfs_pages *pages = &inode->pages;
        struct folio *f;

        if (!vfs_has_dirty(pages))
                return NULL;
        mtx_lock(&pages->lock);
        if (pages->nr_writeback == 0)
                f = first_dirty(pages, from);
        else
                f = pages_tree_next(&pages->tree, from);
        while (f && f->pos < to && !is_due(f))
                f = pages_tree_next(&pages->tree, folio_end(f));
        if (f && f->pos >= to)
                f = NULL;
        if (f)
                folio_get(f);
        mtx_unlock(&pages->lock);
        return f;
}

bool vfs_pages_are_due(struct vfs_inode *inode, uint64_t from, uint64_t to)
{
        struct folio *f = find_due(inode, from, to);

        if (f)
                folio_put(f);
        return f;
}

bool vfs_pages_next_dirty(struct vfs_inode *inode, uint64_t from, uint64_t to,
                          uint64_t *ret_from, uint64_t *ret_to)
{
        bool found = false, goes_on = true;
        struct folio *f;

        while (goes_on && from < to && (f = find_due(inode, from, to)) != NULL) {
                const uint64_t end = min_t(uint64_t, folio_end(f), to);
                uint64_t start, stop;
                bool has;

                mtx_lock(&f->lock);
                has = folio_next_dirty(f, max_t(uint64_t, from, f->pos), end, &start, &stop);
                mtx_unlock(&f->lock);
                from = folio_end(f);
                folio_put(f);
                if (found && (!has || start != *ret_to))
                        break;
                if (!has)
                        continue;
                if (!found)
                        *ret_from = start;
                *ret_to = min_t(uint64_t, stop, to);
                goes_on = stop == from; /* perhaps, in the next folio */
                found = true;
        }
        return found;
}

/* ---- writing back ---- */

struct folio *vfs_pages_take_dirty(struct vfs_inode *inode, uint64_t from, uint64_t to)
{
        struct vfs_pages *pages = &inode->pages;
        struct folio *f;

        mtx_lock(&pages->lock);
        while ((f = first_dirty(pages, from)) && f->pos < to &&
               atomic_load_explicit(&f->is_writeback, memory_order_relaxed))
                from = folio_end(f); /* dirty again while it is being written: not now */
        if (f && f->pos >= to)
                f = NULL;
        if (f) {
                folio_get(f);
                atomic_store_explicit(&f->is_writeback, true, memory_order_release);
                atomic_fetch_add(&cache_of(inode)->dirty_bytes, f->size);
                pages->nr_writeback++; /* order: there is something due at each moment */
                leave_dirty(f);
        }
        mtx_unlock(&pages->lock);
        return f;
}

void vfs_pages_written(struct folio *f)
{
        struct vfs_inode *inode = f->inode;
        struct vfs_pages *pages = &inode->pages;

        mtx_lock(&pages->lock);
        /* Made dirty by who was changing it when it was taken: that has been written, too. */
        if (f->is_dirty)
                leave_dirty(f);
        atomic_store_explicit(&f->is_writeback, false, memory_order_release);
        atomic_fetch_sub(&cache_of(inode)->dirty_bytes, f->size);
        pages->nr_writeback--;
        count_due(pages);
        cond_broadcast(&pages->written);
        mtx_unlock(&pages->lock);
        folio_put(f);
}

/* [pages.lock] */
static bool is_being_written(struct vfs_pages *pages, uint64_t from, uint64_t to)
{
        struct folio *f;

        if (pages->nr_writeback == 0)
                return false;
        for (f = pages_tree_next(&pages->tree, from); f && f->pos < to;
             f = pages_tree_next(&pages->tree, folio_end(f))) {
                if (atomic_load_explicit(&f->is_writeback, memory_order_relaxed))
                        return true;
        }
        return false;
}

void vfs_pages_wait(struct vfs_inode *inode, uint64_t from, uint64_t to)
{
        struct vfs_pages *pages = &inode->pages;

        if (!vfs_has_dirty(pages))
                return;
        mtx_lock(&pages->lock);
        while (is_being_written(pages, from, to))
                cond_wait(&pages->written, &pages->lock);
        mtx_unlock(&pages->lock);
}

int vfs_pages_flush(struct vfs_inode *inode, uint64_t from, uint64_t to)
{
        uint64_t seen;
        int ret, err;

        if (!vfs_has_dirty(&inode->pages))
                return 0;
        seen = vfs_pages_error_now(inode);
        ret = cache_of(inode)->ops->write(inode, from, to);
        vfs_pages_wait(inode, from, to);
        err = vfs_pages_error_since(inode, &seen); /* of what others wrote */
        return first_error(ret, err);
}

/* ---- removing ---- */

/* [folio lock and pages.lock] */
static void remove_locked(struct folio *f)
{
        struct vfs_pages *pages = &f->inode->pages;

        if (f->is_dirty)
                leave_dirty(f);
        f->is_removed = true;
        pages_tree_remove(&pages->tree, f);
        atomic_fetch_sub(&pages->nr, 1);
        vfs_pagecache_remove(cache_of(f->inode), f);
}

enum removal {
        KEEP_DIRTY,
        DROP_DIRTY,
};

/* The folio was found in the file, and is the caller's to put. */
static int remove_one(struct folio *f, enum removal how)
{
        struct vfs_pages *pages = &f->inode->pages;
        bool gone = false;
        int ret = 0;

        folio_lock_stable(f);
        mtx_lock(&pages->lock);
        if (!f->is_removed && how == KEEP_DIRTY && is_due(f)) {
                ret = -EBUSY;
        } else if (!f->is_removed) {
                remove_locked(f);
                gone = true;
        }
        mtx_unlock(&pages->lock);
        mtx_unlock(&f->lock);
        if (gone)
                folio_put(f); /* the file's */
        return ret;
}

static struct folio *find_next(struct vfs_inode *inode, uint64_t from)
{
        struct vfs_pages *pages = &inode->pages;
        struct folio *f;

        mtx_lock(&pages->lock);
        f = pages_tree_next(&pages->tree, from);
        if (f)
                folio_get(f);
        mtx_unlock(&pages->lock);
        return f;
}

bool vfs_pages_have(struct vfs_inode *inode, uint64_t from, uint64_t to)
{
        struct vfs_pages *pages = &inode->pages;
        const struct folio *f;
        bool have;

        mtx_lock(&pages->lock);
        f = pages_tree_next(&pages->tree, from);
        have = f && f->pos < to;
        mtx_unlock(&pages->lock);
        return have;
}

int vfs_pages_invalidate(struct vfs_inode *inode, uint64_t from, uint64_t to)
{
        struct folio *f;
        int ret = 0;

        if (!vfs_has_pages(&inode->pages))
                return 0;
        while (from < to && (f = find_next(inode, from)) != NULL) {
                bool is_behind = f->pos >= to;

                from = folio_end(f);
                if (!is_behind)
                        ret = first_error(ret, remove_one(f, KEEP_DIRTY));
                folio_put(f);
                if (is_behind)
                        break;
        }
        return ret;
}

void vfs_pages_discard(struct vfs_inode *inode, uint64_t from, uint64_t to)
{
        struct folio *f;

        if (!vfs_has_pages(&inode->pages))
                return;
        while (from < to && (f = find_next(inode, from)) != NULL) {
                const bool is_behind = folio_end(f) > to;

                if (!is_behind && f->pos >= from)
                        (void)remove_one(f, DROP_DIRTY); /* which cannot fail */
                from = folio_end(f);
                folio_put(f);
                if (is_behind)
                        break;
        }
}

/* ---- errors ---- */

#define ERRNO_BITS 16

uint64_t vfs_pages_error_now(struct vfs_inode *inode)
{
        return atomic_load(&inode->pages.error);
}

void vfs_pages_set_error(struct vfs_inode *inode, int err)
{
        uint64_t old = vfs_pages_error_now(inode);
        uint64_t new;

        do {
                new = ((old >> ERRNO_BITS) + 1) << ERRNO_BITS | (uint16_t)-err;
        } while (!atomic_compare_exchange_weak(&inode->pages.error, &old, new));
        if (!atomic_exchange(&inode->pages.is_untold, true))
                atomic_fetch_add(&cache_of(inode)->nr_untold, 1);
}

void vfs_pages_forget_error(struct vfs_inode *inode)
{
        if (atomic_exchange(&inode->pages.is_untold, false))
                atomic_fetch_sub(&cache_of(inode)->nr_untold, 1);
}

bool vfs_has_untold_error(struct vfs_super *sb)
{
        return atomic_load(&sb->pagecache.nr_untold) > 0;
}

static int errno_of(uint64_t error)
{
        return -(int)(error & ((1u << ERRNO_BITS) - 1));
}

int vfs_pages_error_since(struct vfs_inode *inode, uint64_t *seen)
{
        const uint64_t now = vfs_pages_error_now(inode);

        if (now == *seen)
                return 0;
        *seen = now;
        return errno_of(now);
}

int vfs_pages_tell_error(struct vfs_inode *inode, _Atomic uint64_t *seen)
{
        const uint64_t now = vfs_pages_error_now(inode);
        uint64_t old = atomic_load(seen);

        do {
                if (old >= now) /* it grows with its number */
                        return 0;
        } while (!atomic_compare_exchange_weak(seen, &old, now));
        vfs_pages_forget_error(inode);
        return errno_of(now);
}
