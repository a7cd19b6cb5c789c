/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Public queues: requests of many files on one device queue.
 *
 * An entry is free, under way, or done.  It is taken from the free list by submit, put on the
 * done list by whichever thread completes it (the owner while he waits, or a helper), and freed
 * when its completion is fetched.  So finished requests stay here until the owner comes for
 * them.
 *
 * The eventfd is signalled by the device queue when it should be driven, and by us when an
 * entry is done that the owner may not know of: because a helper completed it, because it was
 * done at once in submit, or because the owner left it behind.
 */

#include <string.h>
#include <unistd.h>

#include "ext4/write.h"
#include "lib/lib.h"
#include "util/alloc.h"

#define MAX_DEPTH 65536

struct entry {
        struct vfs_kiocb iocb;
        struct iomap_dio dio;
        struct uext4_queue *queue;
        struct uext4_file *file;
        void *user_data;
        int64_t result;
        struct entry *next; /* on the free or done list */
};

struct uext4_queue {
        struct vfs_super *sb;
        struct vfs_queue vfs; /* how helpers find the device queue */
        struct entry *entries;
        struct entry *free;    /* [owner] */
        struct iovec *buffers; /* registered [owner] */
        unsigned nr_buffers;   /* [owner] */

        struct mtx lock;                       /* RANK_LEAF */
        struct entry *done_first, **done_last; /* [lock] */
        uint32_t nr_under_way;                 /* [lock] */
        struct cond ended;                     /* an entry was done while the owner slept */
        bool sleeping;                         /* [lock] the owner waits for `ended` */
        bool fetching; /* [lock] the owner is in wait and will look at the done list */
        int eventfd;   /* [lock] -1: none */
};

/* ---- life ---- */

int uext4_queue_new(struct uext4_fs *fs, unsigned depth, struct uext4_queue **ret_queue)
{
        struct vfs_super *sb = &fs->ext4->vfs;
        struct uext4_queue *q;
        int ret;

        if (depth < 1 || depth > MAX_DEPTH)
                return -EINVAL;
        q = mem_zalloc(sizeof(*q));
        if (!q)
                return -ENOMEM;
        q->sb = sb;
        q->eventfd = -1;
        q->done_last = &q->done_first;
        q->entries = mem_array(depth, sizeof(*q->entries));
        if (!q->entries) {
                ret = -ENOMEM;
                goto free_queue;
        }
        ret = uext4_bdev_queue_new(sb->dev, depth, &q->vfs.bdev_queue);
        if (ret < 0)
                goto free_entries;
        for (unsigned i = depth; i-- > 0;) {
                q->entries[i].queue = q;
                q->entries[i].next = q->free;
                q->free = &q->entries[i];
        }
        mtx_init(&q->lock, RANK_LEAF);
        cond_init(&q->ended);
        vfs_queue_add(sb, &q->vfs);
        *ret_queue = q;
        return 0;
free_entries:
        mem_free(q->entries);
free_queue:
        mem_free(q);
        return ret;
}

void uext4_queue_free(struct uext4_queue *q)
{
        if (!q)
                return;
        vfs_queue_remove(q->sb, &q->vfs);
        q->eventfd = -1; /* the next line closes it: then the number is somebody else's */
        uext4_bdev_queue_free(q->vfs.bdev_queue); /* completes what is under way */
        vfs_queue_finish(q->sb, &q->vfs);
        cond_done(&q->ended);
        mtx_done(&q->lock);
        mem_free(q->buffers);
        mem_free(q->entries);
        mem_free(q);
}

/* ---- registered buffers ---- */

static bool is_idle(struct uext4_queue *q)
{
        bool idle;

        mtx_lock(&q->lock);
        idle = q->nr_under_way == 0;
        mtx_unlock(&q->lock);
        return idle;
}

int uext4_queue_register(struct uext4_queue *q, const struct iovec *buffers, unsigned nr)
{
        struct iovec *copy;
        int ret;

        if (nr < 1 || nr > UEXT4_MAX_BUFFERS)
                return -EINVAL;
        if (!is_idle(q))
                return -EBUSY;
        copy = mem_array(nr, sizeof(*copy));
        if (!copy)
                return -ENOMEM;
        ret = uext4_bdev_queue_register(q->vfs.bdev_queue, buffers, nr);
        if (ret < 0) {
                mem_free(copy);
                return ret;
        }
        memcpy(copy, buffers, nr * sizeof(*copy));
        q->buffers = copy;
        q->nr_buffers = nr;
        return 0;
}

int uext4_queue_unregister(struct uext4_queue *q)
{
        if (!is_idle(q))
                return -EBUSY;
        mem_free(q->buffers);
        q->buffers = NULL;
        q->nr_buffers = 0;
        return uext4_bdev_queue_unregister(q->vfs.bdev_queue);
}

/* All of the request's memory is in its buffer. */
static bool is_in_buffer(const struct uext4_queue *q, const struct uext4_request *req)
{
        const struct iovec *buffer;

        if (req->buffer >= q->nr_buffers)
                return false;
        buffer = &q->buffers[req->buffer];
        for (int i = 0; i < req->nr_iov; i++) {
                const size_t skip =
                        (uintptr_t)req->iov[i].iov_base - (uintptr_t)buffer->iov_base;

                if (skip > buffer->iov_len || req->iov[i].iov_len > buffer->iov_len - skip)
                        return false;
        }
        return true;
}

/* ---- completion ---- */

static void signal_locked(struct uext4_queue *q)
{
        const uint64_t one = 1;

        /* It can only fail when the counter is full, and then it is readable. */
        if (q->eventfd >= 0 && write(q->eventfd, &one, sizeof(one)) < 0)
                return;
}

static void finish(struct entry *e, int64_t result)
{
        struct uext4_queue *q = e->queue;
        struct uext4_file *file = e->file;
        struct vfs_super *sb = q->sb;

        mtx_lock(&q->lock);
        e->result = result;
        e->next = NULL;
        *q->done_last = e;
        q->done_last = &e->next;
        q->nr_under_way--;
        if (!q->fetching)
                signal_locked(q);
        if (q->sleeping)
                cond_signal(&q->ended);
        mtx_unlock(&q->lock);
        /* From here on the owner may have reused the entry, and close may free the file. */
        vfs_pending_end(sb, &file->queued);
}

static void complete(struct vfs_kiocb *iocb, int64_t result)
{
        finish(container_of(iocb, struct entry, iocb), result);
}

/* ---- submit ---- */

static int64_t start_read(struct entry *e, struct iov_iter *iter)
{
        if (!e->file->direct)
                return ext4_file_read_buffered(&e->iocb, iter);
        return ext4_file_read_direct(&e->dio, &e->iocb, iter);
}

static int64_t start_write(struct entry *e, struct iov_iter *iter)
{
        if (!e->file->direct)
                return ext4_file_write_buffered(&e->iocb, iter);
        return ext4_file_write_direct(&e->dio, &e->iocb, iter);
}

static int64_t start(struct entry *e, const struct uext4_request *req)
{
        const bool write = req->op == UEXT4_WRITE;
        struct iov_iter iter;
        int ret;

        if (req->file->inode->vfs.sb != e->queue->sb)
                return -EXDEV; /* it would go to this mount's device */
        if ((!write && req->op != UEXT4_READ) || req->pos > INT64_MAX)
                return -EINVAL;
        if (write ? !req->file->writes : !req->file->reads)
                return -EBADF;
        if ((req->options & ~(uint32_t)UEXT4_REQ_FIXED) ||
            ((req->options & UEXT4_REQ_FIXED) && !is_in_buffer(e->queue, req)))
                return -EINVAL;
        e->iocb = (struct vfs_kiocb){
                .inode = &req->file->inode->vfs,
                .pos = req->pos,
                .queue = &e->queue->vfs,
                .complete = complete,
                .error_seen = &req->file->error_seen,
        };
        ret = write ? lib_write_flags(req->file, req->flags, &e->iocb.flags)
                    : lib_read_flags(req->file, req->flags, &e->iocb.flags);
        if (ret == 0)
                ret = iov_iter_init(&iter, req->iov, req->nr_iov);
        if (ret < 0)
                return ret;
        if (req->options & UEXT4_REQ_FIXED) {
                e->iocb.flags |= VFS_FIXED;
                e->iocb.buffer = req->buffer;
        }
        return write ? start_write(e, &iter) : start_read(e, &iter);
}

static void submit_one(struct uext4_queue *q, const struct uext4_request *req)
{
        struct entry *e = q->free;
        int64_t ret;

        q->free = e->next;
        e->file = req->file;
        e->user_data = req->user_data;
        vfs_pending_begin(&e->file->queued);
        mtx_lock(&q->lock);
        q->nr_under_way++;
        mtx_unlock(&q->lock);
        ret = start(e, req);
        if (ret != VFS_QUEUED)
                finish(e, ret);
}

int uext4_queue_submit(struct uext4_queue *q, const struct uext4_request *reqs, unsigned nr)
{
        unsigned i;
        int ret;

        for (i = 0; i < nr && q->free; i++)
                submit_one(q, &reqs[i]);
        ret = uext4_bdev_queue_kick(q->vfs.bdev_queue);
        if (ret < 0)
                log_say(&q->sb->log, LOG_ERR, "a queue of the device is broken: error %d",
                        -ret);
        return i > 0 || nr == 0 ? (int)i : -EAGAIN;
}

/* ---- wait ---- */

/* Returns how many were fetched. */
static unsigned fetch_locked(struct uext4_queue *q, struct uext4_completion *completions,
                             unsigned max)
{
        unsigned n = 0;

        while (n < max && q->done_first) {
                struct entry *e = q->done_first;

                q->done_first = e->next;
                if (!q->done_first)
                        q->done_last = &q->done_first;
                completions[n++] = (struct uext4_completion){e->user_data, e->result};
                e->next = q->free;
                q->free = e;
        }
        return n;
}

/*
 * Nothing is under way on the device, but requests are not done: a helper is finishing them.
 * Sleep until it has.  False when the time is over.
 */
static bool sleep_locked(struct uext4_queue *q, int64_t left, uint64_t deadline)
{
        bool in_time;

        q->sleeping = true;
        in_time = cond_wait_for(&q->ended, &q->lock, left, deadline);
        q->sleeping = false;
        return in_time;
}

static bool is_left_to_helpers(struct uext4_queue *q)
{
        return !q->done_first && q->nr_under_way > 0 &&
               uext4_bdev_queue_in_flight(q->vfs.bdev_queue) == 0 &&
               !atomic_load(&q->vfs.works);
}

int uext4_queue_wait(struct uext4_queue *q, struct uext4_completion *completions, unsigned min,
                     unsigned max, int64_t timeout_ns)
{
        const uint64_t deadline = clock_deadline(timeout_ns);
        unsigned n = 0;
        int ret = 0;

        mtx_lock(&q->lock);
        q->fetching = true;
        for (bool first = true;; first = false) {
                int64_t left;

                n += fetch_locked(q, completions + n, max - n);
                if (n == max || q->nr_under_way == 0 || (n >= min && (min > 0 || !first)))
                        break;
                left = n < min ? clock_left(timeout_ns, deadline) : 0;
                mtx_unlock(&q->lock);
                ret = uext4_bdev_queue_drive(q->vfs.bdev_queue, left);
                vfs_queue_finish(q->sb, &q->vfs);
                mtx_lock(&q->lock);
                if (ret == 0 && left != 0 && is_left_to_helpers(q) &&
                    !sleep_locked(q, left, deadline))
                        left = 0;
                if (ret < 0 || (ret == 0 && left == 0)) {
                        n += fetch_locked(q, completions + n, max - n);
                        break;
                }
        }
        q->fetching = false;
        if (q->done_first)
                signal_locked(q);
        mtx_unlock(&q->lock);
        return n == 0 && ret < 0 ? ret : (int)n;
}

int uext4_queue_eventfd(struct uext4_queue *q)
{
        int fd = uext4_bdev_queue_eventfd(q->vfs.bdev_queue);

        if (fd < 0)
                return fd;
        mtx_lock(&q->lock);
        q->eventfd = fd;
        if (q->done_first)
                signal_locked(q);
        mtx_unlock(&q->lock);
        return fd;
}
