/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vfs/super.h"

/* How long to sleep before looking again for a queue to help: requests may have been
 * added to a queue that was idle when we looked. */
#define DRAIN_NAP_NS 10000000

void vfs_super_init(struct vfs_super *sb, struct uext4_bdev *dev, const struct log_sink *log)
{
        *sb = (struct vfs_super){.dev = dev, .log = *log};
        vfs_pagecache_init(&sb->pagecache, VFS_PAGECACHE_LIMIT);
        mtx_init(&sb->queue_lock, RANK_QUEUE_LIST);
        cond_init(&sb->queue_unpinned);
        LIST_INIT(&sb->queues);
        mtx_init(&sb->drain_lock, RANK_DRAIN);
        cond_init(&sb->ended);
        mtx_init(&sb->lease_lock, RANK_LEAF);
        cond_init(&sb->lease_ended);
}

void vfs_super_done(struct vfs_super *sb)
{
        assert(LIST_EMPTY(&sb->queues));
        vfs_pagecache_done(&sb->pagecache);
        cond_done(&sb->lease_ended);
        mtx_done(&sb->lease_lock);
        cond_done(&sb->ended);
        mtx_done(&sb->drain_lock);
        cond_done(&sb->queue_unpinned);
        mtx_done(&sb->queue_lock);
}

void vfs_queue_add(struct vfs_super *sb, struct vfs_queue *queue)
{
        queue->pins = 0;
        atomic_init(&queue->works, NULL);
        mtx_lock(&sb->queue_lock);
        LIST_INSERT_HEAD(&sb->queues, queue, list);
        mtx_unlock(&sb->queue_lock);
}

void vfs_queue_remove(struct vfs_super *sb, struct vfs_queue *queue)
{
        mtx_lock(&sb->queue_lock);
        LIST_REMOVE(queue, list);
        while (queue->pins > 0)
                cond_wait(&sb->queue_unpinned, &sb->queue_lock);
        mtx_unlock(&sb->queue_lock);
}

static bool is_busy(struct vfs_queue *q)
{
        return uext4_bdev_queue_in_flight(q->bdev_queue) > 0 || atomic_load(&q->works);
}

/* A busy queue other than those before `after`, pinned; `after` is unpinned.  A queue that was
 * removed meanwhile ends the walk: its owner is driving it himself. */
static struct vfs_queue *next_busy(struct vfs_super *sb, struct vfs_queue *after)
{
        struct vfs_queue *q;
        bool listed = false;

        mtx_lock(&sb->queue_lock);
        if (after) {
                LIST_FOREACH (q, &sb->queues, list)
                        listed |= q == after;
                if (--after->pins == 0)
                        cond_broadcast(&sb->queue_unpinned);
                q = listed ? LIST_NEXT(after, list) : NULL;
        } else {
                q = LIST_FIRST(&sb->queues);
        }
        while (q && !is_busy(q))
                q = LIST_NEXT(q, list);
        if (q)
                q->pins++;
        mtx_unlock(&sb->queue_lock);
        return q;
}

bool vfs_help_queues(struct vfs_super *sb, int64_t timeout_ns)
{
        struct vfs_queue *q = NULL;
        bool any = false;

        while ((q = next_busy(sb, q))) {
                any = true;
                /* A broken queue has told its owner; there is nothing to do about it here. */
                if (uext4_bdev_queue_drive(q->bdev_queue, timeout_ns) < 0)
                        any = false;
                vfs_queue_finish(sb, q);
        }
        return any;
}

/* ---- requests to be finished ---- */

void vfs_queue_defer(struct vfs_queue *queue, struct vfs_work *work)
{
        work->next = atomic_load_explicit(&queue->works, memory_order_relaxed);
        while (!atomic_compare_exchange_weak(&queue->works, &work->next, work))
                ;
}

void vfs_queue_finish_works(struct vfs_super *sb, struct vfs_queue *queue)
{
        struct vfs_work *latest = atomic_exchange(&queue->works, NULL);
        struct vfs_work *works = NULL;

        while (latest) { /* turn the list round */
                struct vfs_work *next = latest->next;

                latest->next = works;
                works = latest;
                latest = next;
        }
        if (works)
                sb->finish(sb, works);
}

/* ---- flushes ---- */

void vfs_flush_end(struct vfs_super *sb, uint64_t number)
{
        uint64_t done = atomic_load(&sb->flushes_done);

        while (done < number && !atomic_compare_exchange_weak(&sb->flushes_done, &done, number))
                ;
}

/* ---- waiting ---- */

void vfs_pending_wake(struct vfs_super *sb)
{
        mtx_lock(&sb->drain_lock);
        cond_broadcast(&sb->ended);
        mtx_unlock(&sb->drain_lock);
}

/* The requests are being carried by other threads, synchronously: sleep until one ends. */
static void drain_nap(struct vfs_super *sb, struct vfs_pending *p)
{
        mtx_lock(&sb->drain_lock);
        atomic_fetch_add(&sb->nr_sleepers, 1);
        if (atomic_load(&p->nr) > 0)
                cond_wait_until(&sb->ended, &sb->drain_lock, clock_ns() + DRAIN_NAP_NS);
        atomic_fetch_sub(&sb->nr_sleepers, 1);
        mtx_unlock(&sb->drain_lock);
}

void vfs_pending_drain(struct vfs_super *sb, struct vfs_pending *p)
{
        while (atomic_load(&p->nr) > 0) {
                if (!vfs_help_queues(sb, DRAIN_NAP_NS))
                        drain_nap(sb, p);
        }
}

unsigned vfs_counter_stripe_new(void)
{
        static _Atomic unsigned next = 1;
        unsigned n = atomic_fetch_add_explicit(&next, 1, memory_order_relaxed);

        return n ? n : VFS_COUNTER_STRIPES; /* 0 means none, also after wrapping */
}

uint64_t vfs_counter_sum(struct vfs_super *sb, enum vfs_counter what)
{
        uint64_t sum = 0;

        for (unsigned i = 0; i < VFS_COUNTER_STRIPES; i++)
                sum += atomic_load_explicit(&sb->counters[i].value[what], memory_order_relaxed);
        return sum;
}
