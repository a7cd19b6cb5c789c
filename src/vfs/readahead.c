/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Reading ahead of those who read on and on.
 *
 * A thread of the mount, begun when it is asked for the first time, fills the folios that an
 * open file will want next.  Nobody depends on it: who finds a folio missing, or half filled,
 * fills it himself, or waits for its lock when the thread is about that.  So it drops what it
 * cannot have at once, and errors are for the reader to find.
 *
 * What it is asked for is kept in the open file.  It holds no reference to the inode: who
 * closes the file waits for the thread to be done with it.
 */

#include "util/thread.h"
#include "vfs/inode.h"

void vfs_readers_init(struct vfs_readers *r)
{
        mtx_init(&r->lock, RANK_LEAF);
        cond_init(&r->wake);
        cond_init(&r->done);
        TAILQ_INIT(&r->asked);
        r->now = NULL;
        r->has_thread = false;
        r->stops = false;
}

void vfs_readers_done(struct vfs_readers *r)
{
        assert(TAILQ_EMPTY(&r->asked)); /* all files are closed */
        mtx_lock(&r->lock);
        r->stops = true;
        cond_signal(&r->wake);
        mtx_unlock(&r->lock);
        if (r->has_thread)
                pthread_join(r->thread, NULL);
        cond_done(&r->done);
        cond_done(&r->wake);
        mtx_done(&r->lock);
}

/* ---- the thread ---- */

/* What it does without the lock: one folio. */
struct part {
        struct vfs_readahead *ra;
        struct vfs_inode *inode;
        uint64_t pos;
        uint32_t size;
};

static void enter_locked(struct vfs_readers *r, struct vfs_readahead *ra)
{
        if (ra->is_listed || ra == r->now || ra->from >= ra->to)
                return;
        TAILQ_INSERT_TAIL(&r->asked, ra, link);
        ra->is_listed = true;
}

/* One folio is filled, and ends there; 0: it was not to be had. */
static void end_part_locked(struct vfs_readers *r, const struct part *p, uint64_t end)
{
        struct vfs_readahead *ra = p->ra;

        ra->from = end == 0 ? ra->to : max_t(uint64_t, ra->from, end);
        r->now = NULL;
        enter_locked(r, ra); /* behind the others */
        cond_broadcast(&r->done);
}

static bool begin_part_locked(struct vfs_readers *r, struct part *p)
{
        struct vfs_readahead *ra;

        while (!(ra = TAILQ_FIRST(&r->asked)) && !r->stops)
                cond_wait(&r->wake, &r->lock);
        if (!ra)
                return false;
        TAILQ_REMOVE(&r->asked, ra, link);
        ra->is_listed = false;
        r->now = ra;
        *p = (struct part){ra, ra->inode, ra->from, ra->unit};
        return true;
}

static void *reader(void *arg)
{
        struct vfs_readers *r = arg;
        struct part p;

        mtx_lock(&r->lock);
        while (begin_part_locked(r, &p)) {
                uint64_t end;

                mtx_unlock(&r->lock);
                end = p.inode->sb->pagecache.ops->fill(p.inode, p.pos, p.size);
                mtx_lock(&r->lock);
                end_part_locked(r, &p, end);
        }
        mtx_unlock(&r->lock);
        return NULL;
}

/* ---- who asks ---- */

void vfs_readahead_ask(struct vfs_readahead *ra, struct vfs_inode *inode, uint64_t from,
                       uint64_t to, uint32_t unit)
{
        struct vfs_readers *r = &inode->sb->pagecache.readers;

        mtx_lock(&r->lock);
        ra->inode = inode;
        /* Where the thread is, if that is between. */
        if (ra->from < from || ra->from > to)
                ra->from = from;
        ra->to = to;
        ra->unit = unit;
        atomic_store_explicit(&ra->was_asked, true, memory_order_relaxed);
        enter_locked(r, ra);
        if (!r->has_thread) /* without one readers do all of it */
                r->has_thread = thread_start(&r->thread, reader, r) == 0;
        cond_signal(&r->wake);
        mtx_unlock(&r->lock);
}

void vfs_readahead_end(struct vfs_readahead *ra, struct vfs_inode *inode)
{
        struct vfs_readers *r = &inode->sb->pagecache.readers;

        if (!atomic_load_explicit(&ra->was_asked, memory_order_relaxed))
                return;
        mtx_lock(&r->lock);
        ra->from = ra->to = 0;
        if (ra->is_listed)
                TAILQ_REMOVE(&r->asked, ra, link);
        ra->is_listed = false;
        while (r->now == ra)
                cond_wait(&r->done, &r->lock);
        mtx_unlock(&r->lock);
}
