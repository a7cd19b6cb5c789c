/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Who writes dirty files back.
 *
 * A file that has something dirty is on the mount's list, which has a reference to it.  A
 * thread, begun with the first such file, writes those that have been dirty for AGE_NS, and,
 * when more than a quarter of the cache is dirty, the oldest ones, until it is less.  Above a
 * half, those who write files wait by writing back themselves.
 *
 * A file that is being written back from here is on another list meanwhile.  Afterwards it is
 * dirty again, or the list's reference is given back.  That may delete an inode, and must hold
 * no lock: it is for the thread and vfs_write_all() to do, and the latter waits for the former,
 * so that after syncfs nothing is left of a file that was removed.  What others have written
 * stays listed for the thread, as its most urgent work: nobody else would let go of it.
 */

#include "util/thread.h"
#include "vfs/inode.h"
#include "vfs/pages.h"

#define AGE_NS  (5ull * 1000000000) /* as the journal's interval */
#define LOOK_NS (1ull * 1000000000)

static uint64_t background_limit(const struct vfs_pagecache *cache)
{
        return cache->limit / 4;
}

static uint64_t hard_limit(const struct vfs_pagecache *cache)
{
        return cache->limit / 2;
}

static struct vfs_inode *inode_of(struct vfs_pages *pages)
{
        return container_of(pages, struct vfs_inode, pages);
}

static struct vfs_super *super_of(struct vfs_pagecache *cache)
{
        return container_of(cache, struct vfs_super, pagecache);
}

/* ---- the lists [cache.lock] ---- */

static struct vfs_pages_list_head *head_of(struct vfs_pagecache *cache,
                                           enum vfs_pages_list list)
{
        return list == VFS_PAGES_DIRTY ? &cache->dirty : &cache->writing;
}

/* By `since`, the oldest first. */
static void enter_locked(struct vfs_pages_list_head *head, struct vfs_pages *pages)
{
        struct vfs_pages *before = TAILQ_LAST(head, vfs_pages_list_head);

        while (before && before->since > pages->since)
                before = TAILQ_PREV(before, vfs_pages_list_head, link);
        if (before)
                TAILQ_INSERT_AFTER(head, before, pages, link);
        else
                TAILQ_INSERT_HEAD(head, pages, link);
}

/* What is dirty still when a file has been written may have become so since that began. */
static void move_locked(struct vfs_pagecache *cache, struct vfs_pages *pages,
                        enum vfs_pages_list to)
{
        const bool was_writing = pages->list == VFS_PAGES_WRITING;

        if (pages->list != VFS_PAGES_UNLISTED)
                TAILQ_REMOVE(head_of(cache, pages->list), pages, link);
        pages->list = to;
        if (!was_writing)
                pages->since = clock_ns();
        if (to != VFS_PAGES_UNLISTED)
                enter_locked(head_of(cache, to), pages);
}

bool vfs_flusher_lists(struct vfs_inode *inode)
{
        struct vfs_pagecache *cache = &inode->sb->pagecache;
        bool is_dirty;

        mtx_lock(&cache->lock);
        is_dirty = inode->pages.list == VFS_PAGES_DIRTY;
        mtx_unlock(&cache->lock);
        return is_dirty;
}

bool vfs_flusher_forget(struct vfs_inode *inode)
{
        struct vfs_pagecache *cache = &inode->sb->pagecache;
        bool was_dirty;

        mtx_lock(&cache->lock);
        was_dirty = inode->pages.list == VFS_PAGES_DIRTY;
        if (was_dirty)
                move_locked(cache, &inode->pages, VFS_PAGES_UNLISTED);
        mtx_unlock(&cache->lock);
        return was_dirty;
}

/* The oldest file of the list, to be written; only if it has been there since `before`. */
static struct vfs_inode *take(struct vfs_pagecache *cache, uint64_t before)
{
        struct vfs_pages *pages;

        mtx_lock(&cache->lock);
        pages = TAILQ_FIRST(&cache->dirty);
        if (pages && pages->since > before)
                pages = NULL;
        if (pages)
                move_locked(cache, pages, VFS_PAGES_WRITING);
        mtx_unlock(&cache->lock);
        return pages ? inode_of(pages) : NULL;
}

static void *flusher(void *arg);

/* [cache.lock] Without a thread those who write and sync do it. */
static void start_locked(struct vfs_pagecache *cache)
{
        if (cache->has_flusher || cache->stops)
                return;
        cache->has_flusher = thread_start(&cache->flusher, flusher, cache) == 0;
        if (!cache->has_flusher)
                log_say(&super_of(cache)->log, LOG_WARNING,
                        "no thread to write back: files are written at fsync and unmount");
}

/* It has been written; true: the caller has the list's reference. */
static bool end_writing(struct vfs_pagecache *cache, struct vfs_inode *inode)
{
        bool stays;

        mtx_lock(&cache->lock);
        stays = vfs_has_dirty(&inode->pages);
        move_locked(cache, &inode->pages, stays ? VFS_PAGES_DIRTY : VFS_PAGES_UNLISTED);
        if (stays)
                start_locked(cache); /* who made it dirty found it listed already */
        else
                cache->nr_releasing++;
        cond_broadcast(&cache->done);
        mtx_unlock(&cache->lock);
        return !stays;
}

static void release(struct vfs_pagecache *cache, struct vfs_inode *inode)
{
        cache->ops->release(inode);
        mtx_lock(&cache->lock);
        cache->nr_releasing--;
        cond_broadcast(&cache->done);
        mtx_unlock(&cache->lock);
}

static int write_taken(struct vfs_pagecache *cache, struct vfs_inode *inode)
{
        int ret = vfs_pages_flush(inode, 0, UINT64_MAX);

        if (end_writing(cache, inode))
                release(cache, inode);
        return ret;
}

/* The same, of somebody who may not let go of it. */
static void end_writing_for_thread(struct vfs_pagecache *cache, struct vfs_inode *inode)
{
        mtx_lock(&cache->lock);
        if (!vfs_has_dirty(&inode->pages)) {
                inode->pages.since = 0;
                cache->is_pressed = true;
                cond_signal(&cache->wake);
        }
        move_locked(cache, &inode->pages, VFS_PAGES_DIRTY);
        cond_broadcast(&cache->done);
        mtx_unlock(&cache->lock);
}

/* ---- all, and one ---- */

/* [cache.lock] */
static bool are_others_busy(struct vfs_pagecache *cache, uint64_t before)
{
        struct vfs_pages *pages = TAILQ_FIRST(&cache->writing);

        return (pages && pages->since <= before) || cache->nr_releasing > 0;
}

/* Until what others had begun to write before `before` is written.  False: nobody had. */
static bool wait_for_others(struct vfs_pagecache *cache, uint64_t before)
{
        bool had = false;

        mtx_lock(&cache->lock);
        while (are_others_busy(cache, before)) {
                had = true;
                cond_wait(&cache->done, &cache->lock);
        }
        mtx_unlock(&cache->lock);
        return had;
}

int vfs_write_all(struct vfs_super *sb)
{
        struct vfs_pagecache *cache = &sb->pagecache;
        const uint64_t now = clock_ns();
        struct vfs_inode *inode;
        int ret = 0;

        do { /* others may have passed what was dirtied again before this call */
                while ((inode = take(cache, now)))
                        ret = first_error(ret, write_taken(cache, inode));
        } while (wait_for_others(cache, now)); /* order: all that came before */
        return ret;
}

/* One that is really dirty: what is only listed is for the thread. */
static struct vfs_inode *take_dirty(struct vfs_pagecache *cache)
{
        struct vfs_pages *pages;

        mtx_lock(&cache->lock);
        TAILQ_FOREACH (pages, &cache->dirty, link) {
                if (vfs_has_dirty(pages))
                        break;
        }
        if (pages)
                move_locked(cache, pages, VFS_PAGES_WRITING);
        mtx_unlock(&cache->lock);
        return pages ? inode_of(pages) : NULL;
}

static bool wait_for_one(struct vfs_pagecache *cache)
{
        bool any;

        mtx_lock(&cache->lock);
        any = !TAILQ_EMPTY(&cache->writing);
        if (any)
                cond_wait(&cache->done, &cache->lock);
        mtx_unlock(&cache->lock);
        return any;
}

bool vfs_write_oldest(struct vfs_super *sb)
{
        struct vfs_pagecache *cache = &sb->pagecache;
        struct vfs_inode *inode = take_dirty(cache);

        if (!inode)
                return wait_for_one(cache);
        (void)vfs_pages_flush(inode, 0, UINT64_MAX); /* its error is kept for its files */
        end_writing_for_thread(cache, inode);
        return true;
}

/* ---- the thread ---- */

static bool is_too_dirty(struct vfs_pagecache *cache)
{
        return atomic_load(&cache->dirty_bytes) > background_limit(cache);
}

/* Sleep until there is something to do; false at the end. */
static bool sleep_and_go_on(struct vfs_pagecache *cache)
{
        bool stops;

        mtx_lock(&cache->lock);
        if (!cache->stops && !cache->is_pressed)
                cond_wait_until(&cache->wake, &cache->lock, clock_ns() + LOOK_NS);
        cache->is_pressed = false;
        stops = cache->stops;
        mtx_unlock(&cache->lock);
        return !stops;
}

static void write_what_is_due(struct vfs_pagecache *cache)
{
        const uint64_t now = clock_ns();
        struct vfs_inode *inode;

        while ((inode = take(cache, is_too_dirty(cache) ? now : now - AGE_NS)))
                (void)write_taken(cache, inode);
}

static void *flusher(void *arg)
{
        struct vfs_pagecache *cache = arg;

        while (sleep_and_go_on(cache))
                write_what_is_due(cache);
        return NULL;
}

void vfs_flusher_note(struct vfs_inode *inode)
{
        struct vfs_pagecache *cache = &inode->sb->pagecache;
        bool is_new;

        mtx_lock(&cache->lock);
        is_new = inode->pages.list == VFS_PAGES_UNLISTED;
        mtx_unlock(&cache->lock);
        if (!is_new)
                return;
        cache->ops->hold(inode); /* first: who finds it on the list finds the reference */
        mtx_lock(&cache->lock);
        move_locked(cache, &inode->pages, VFS_PAGES_DIRTY);
        start_locked(cache);
        mtx_unlock(&cache->lock);
}

void vfs_flusher_stop(struct vfs_super *sb)
{
        struct vfs_pagecache *cache = &sb->pagecache;
        bool has_flusher;

        mtx_lock(&cache->lock);
        cache->stops = true;
        has_flusher = cache->has_flusher;
        cache->has_flusher = false;
        cond_broadcast(&cache->wake);
        mtx_unlock(&cache->lock);
        if (has_flusher)
                pthread_join(cache->flusher, NULL);
        mtx_lock(&cache->lock);
        cache->stops = false;
        mtx_unlock(&cache->lock);
}

/* ---- pressure ---- */

static void press(struct vfs_pagecache *cache)
{
        mtx_lock(&cache->lock);
        cache->is_pressed = true;
        cond_signal(&cache->wake);
        mtx_unlock(&cache->lock);
}

void vfs_balance_dirty(struct vfs_inode *inode)
{
        struct vfs_pagecache *cache = &inode->sb->pagecache;

        if (!is_too_dirty(cache))
                return;
        press(cache);
        while (atomic_load(&cache->dirty_bytes) > hard_limit(cache)) {
                if (vfs_has_dirty(&inode->pages))
                        (void)vfs_pages_flush(inode, 0, UINT64_MAX); /* kept for fsync */
                else if (!vfs_write_oldest(inode->sb))
                        return;
        }
}
