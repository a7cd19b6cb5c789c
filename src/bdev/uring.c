/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * uring.c - the queue of the file backend: io_uring.
 *
 *      add -> SQE, or backlog when there is no room -> kick -> kernel -> CQE -> reap
 *
 * Two sides that share the ring and three counters:
 *
 *  - the submission side (add, kick), under the submit_lock of queue.c: the SQ
 *    ring, `backlog`, nr_filled, nr_started;
 *  - the completion side (reap), by the holder of the baton: the CQ ring, nr_reaped.
 *
 *  I1. nr_filled - nr_reaped <= cq_entries: the completion ring never overflows.
 *      What is above waits on `backlog`; kick says so, and is called again after
 *      a reap.
 *  I2. reap sleeps in the kernel only while it has a request (nr_started > nr_reaped).
 *  I3. A request is written before nr_filled is released and read by reap after
 *      nr_filled was acquired.  (The kernel lies between the two, which a race
 *      detector cannot see.)
 *
 * The path of one read: a check, an SQE, a CQE, done(): no memory, no lock of
 * this file.
 *
 * Simple on purpose: discard and write_zeroes travel as no-ops, and the thread that reaps
 * carries them out; they are rare, and block devices have only ioctls for them.
 */
#include <liburing.h>
#include <linux/fs.h>
#include <string.h>
#include <time.h>

#include "bdev/file.h"
#include "util/alloc.h"
#include "util/lock.h"

/* In user_data, beside the request's address: reap is to carry it out itself. */
#define TAG_EXECUTE 1u

#define REAP_BATCH 32

/* One segment of a request; SQEs count bytes in 32 bits. */
#define MAX_SINGLE (1u << 30)

/* The kernel had no memory for a request: how long until we ask again. */
#define RETRY_NS 100000

struct uring {
        struct io_uring ring;
        struct uext4_bdev *dev;
        unsigned cq_entries; /* [const] */
        int fd;              /* the file, or its index among the registered ones [const] */
        unsigned sqe_flags;  /* IOSQE_FIXED_FILE or 0 [const] */

        /* submission side */
        struct bdev_fifo backlog;
        _Alignas(CACHE_LINE) _Atomic unsigned nr_filled; /* SQEs written so far; I3 */
        _Atomic unsigned nr_started;                     /* of these, taken by the kernel */

        /* completion side */
        _Alignas(CACHE_LINE) _Atomic unsigned nr_reaped;

        _Atomic bool cancelled; /* -ECANCELED is what we asked for; set once */
};

/* ---- life ---- */

/* Errors that mean "not on this host", as opposed to "not now". */
static bool is_unavailable(int error)
{
        return error == -ENOSYS || error == -EPERM || error == -EACCES || error == -ENOMEM;
}

/* Never lose a completion; wait with a time-out without touching the submission side. */
static bool has_features(const struct io_uring *ring)
{
        const unsigned needed = IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG;

        return (ring->features & needed) == needed;
}

static int new_ring(unsigned depth, struct io_uring *ring)
{
        struct io_uring_params params = {.flags = IORING_SETUP_CLAMP};
        int ret = io_uring_queue_init_params(depth, ring, &params);

        if (ret < 0)
                return ret;
        if (has_features(ring))
                return 0;
        io_uring_queue_exit(ring);
        return -ENOSYS;
}

static int say_unavailable(struct bdev_file *f, int error)
{
        if (!atomic_exchange(&f->said_no_uring, true))
                log_say(&f->log, LOG_NOTICE,
                        "no io_uring on this host (%s), requests are carried out one by one",
                        strerror(-error));
        return -EOPNOTSUPP;
}

/* A registered file spares the kernel a reference count per request. */
static void register_file(struct uring *u)
{
        u->fd = bdev_file_of(u->dev)->file.fd;
        if (io_uring_register_files(&u->ring, &u->fd, 1) == 0) {
                u->fd = 0;
                u->sqe_flags = IOSQE_FIXED_FILE;
        }
}

static int uring_new(struct uext4_bdev *dev, unsigned depth, void **ret_impl)
{
        struct uring *u = mem_alloc_aligned(CACHE_LINE, sizeof(*u));
        int ret;

        if (!u)
                return -ENOMEM;
        *u = (struct uring){.dev = dev};
        ret = new_ring(depth, &u->ring);
        if (ret < 0) {
                mem_free(u);
                return is_unavailable(ret) ? say_unavailable(bdev_file_of(dev), ret) : ret;
        }
        u->cq_entries = u->ring.cq.ring_entries;
        register_file(u);
        *ret_impl = u;
        return 0;
}

static void uring_free(void *impl)
{
        struct uring *u = impl;

        /*
         * The kernel takes a ring apart in its own time.  The file must not wait for
         * that: whoever opens it next would find it locked.
         */
        if (u->sqe_flags & IOSQE_FIXED_FILE)
                io_uring_unregister_files(&u->ring);
        io_uring_queue_exit(&u->ring);
        mem_free(u);
}

/* ---- submission side ---- */

static void prep_transfer(const struct uring *u, struct io_uring_sqe *sqe,
                          const struct uext4_bdev_req *req, int nr_segs)
{
        const struct iovec *iov = req->iov;
        const unsigned single = (unsigned)min_t(size_t, iov->iov_len, MAX_SINGLE);

        if (req->flags & UEXT4_BDEV_FIXED && req->op == UEXT4_BDEV_READ)
                io_uring_prep_read_fixed(sqe, u->fd, iov->iov_base, single, req->pos,
                                         (int)req->buffer);
        else if (req->flags & UEXT4_BDEV_FIXED)
                io_uring_prep_write_fixed(sqe, u->fd, iov->iov_base, single, req->pos,
                                          (int)req->buffer);
        else if (req->op == UEXT4_BDEV_READ && nr_segs == 1)
                io_uring_prep_read(sqe, u->fd, iov->iov_base, single, req->pos);
        else if (req->op == UEXT4_BDEV_READ)
                io_uring_prep_readv(sqe, u->fd, iov, (unsigned)nr_segs, req->pos);
        else if (nr_segs == 1)
                io_uring_prep_write(sqe, u->fd, iov->iov_base, single, req->pos);
        else
                io_uring_prep_writev(sqe, u->fd, iov, (unsigned)nr_segs, req->pos);
        if (req->flags & UEXT4_BDEV_FUA)
                sqe->rw_flags = RWF_DSYNC;
        if (unlikely(req->flags & UEXT4_BDEV_ATOMIC))
                sqe->rw_flags |= RWF_ATOMIC;
        io_uring_sqe_set_flags(sqe, u->sqe_flags);
}

/* Returns false for what the thread that reaps is to carry out. */
static bool prep(const struct uring *u, struct io_uring_sqe *sqe,
                 const struct uext4_bdev_req *req)
{
        int nr_segs;

        switch (req->op) {
        case UEXT4_BDEV_READ:
        case UEXT4_BDEV_WRITE:
                nr_segs = req->len == 0 ? 0 : bdev_file_nr_segs(u->dev, req->iov, req->nr_iov);
                if (nr_segs == 0)
                        break;
                prep_transfer(u, sqe, req, nr_segs);
                return true;
        case UEXT4_BDEV_FLUSH:
                if (!(u->dev->geo.caps & UEXT4_BDEV_CAP_VOLATILE))
                        break;
                io_uring_prep_fsync(sqe, u->fd, IORING_FSYNC_DATASYNC);
                io_uring_sqe_set_flags(sqe, u->sqe_flags);
                return true;
        default:
                break;
        }
        io_uring_prep_nop(sqe);
        return false;
}

static bool has_room(struct uring *u) /* I1 */
{
        return atomic_load_explicit(&u->nr_filled, memory_order_relaxed) -
                       atomic_load_explicit(&u->nr_reaped, memory_order_acquire) <
               u->cq_entries;
}

/* Hand the SQEs to the kernel: 0, -errno, or 1 when it wants to be asked again later. */
static int start(struct uring *u)
{
        while (io_uring_sq_ready(&u->ring) > 0) {
                int ret = io_uring_submit(&u->ring);
                unsigned filled = atomic_load_explicit(&u->nr_filled, memory_order_relaxed);

                atomic_store_explicit(&u->nr_started, filled - io_uring_sq_ready(&u->ring),
                                      memory_order_release);
                if (ret == 0 || ret == -EAGAIN || ret == -EBUSY)
                        return 1;
                if (ret < 0 && ret != -EINTR)
                        return ret;
        }
        return 0;
}

/* False when there is no room. */
static bool fill(struct uring *u, struct uext4_bdev_req *req)
{
        struct io_uring_sqe *sqe;
        uintptr_t tag;

        if (unlikely(!has_room(u)))
                return false;
        sqe = io_uring_get_sqe(&u->ring);
        if (unlikely(!sqe) && start(u) == 0)
                sqe = io_uring_get_sqe(&u->ring);
        if (unlikely(!sqe))
                return false;
        tag = prep(u, sqe, req) ? 0 : TAG_EXECUTE;
        io_uring_sqe_set_data64(sqe, (uintptr_t)req | tag);
        atomic_fetch_add_explicit(&u->nr_filled, 1, memory_order_release); /* I3 */
        return true;
}

static int uring_add(void *impl, struct uext4_bdev_req *req)
{
        struct uring *u = impl;

        if (unlikely(u->backlog.first) || unlikely(!fill(u, req)))
                bdev_fifo_push(&u->backlog, req);
        return 0;
}

static void fill_from_backlog(struct uring *u)
{
        while (u->backlog.first) {
                struct uext4_bdev_req *req = u->backlog.first;
                struct uext4_bdev_req *next = req->next; /* filled, it may be reaped at once */

                if (!fill(u, req))
                        return;
                u->backlog.first = next;
        }
}

static int uring_kick(void *impl)
{
        struct uring *u = impl;
        int ret;

        do {
                fill_from_backlog(u);
                ret = start(u);
        } while (ret == 0 && u->backlog.first && has_room(u));
        return ret == 0 ? u->backlog.first != NULL : ret;
}

/* ---- completion side ---- */

/*
 * What the ring could not do the synchronous face may: a submitter that ends takes its
 * requests with it (-ECANCELED, -EINTR) though nobody asked for that, memory
 * was short (-EAGAIN), a flag is not known there (-EOPNOTSUPP).
 */
static bool wants_execute(struct uring *u, int result)
{
        if (result == -ECANCELED || result == -EINTR)
                return !atomic_load_explicit(&u->cancelled, memory_order_relaxed);
        return result == -EAGAIN || result == -EOPNOTSUPP;
}

struct finished {
        uint64_t data;
        int result;
};

static void finish(struct uring *u, struct finished fin)
{
        struct uext4_bdev_req *req = (void *)(uintptr_t)(fin.data & ~(uint64_t)TAG_EXECUTE);

        if (unlikely(fin.data & TAG_EXECUTE) ||
            (unlikely(fin.result < 0) && wants_execute(u, fin.result)))
                bdev_queue_finish(req, bdev_execute(u->dev, req));
        else
                uext4_bdev_complete(req, fin.result);
}

/* The CQEs are copied and given back first: done() may start more requests than we took. */
static unsigned take_batch(struct uring *u, struct finished *batch, unsigned max)
{
        struct io_uring_cqe *cqe;
        unsigned head;
        unsigned nr = 0;

        io_uring_for_each_cqe(&u->ring, head, cqe)
        {
                if (nr == max)
                        break;
                batch[nr++] = (struct finished){cqe->user_data, cqe->res};
        }
        io_uring_cq_advance(&u->ring, nr);
        atomic_fetch_add_explicit(&u->nr_reaped, nr, memory_order_release);
        atomic_load_explicit(&u->nr_filled, memory_order_acquire); /* I3 */
        return nr;
}

/* Nothing is with the kernel, and it was too busy to take more. */
static void nap(int64_t timeout_ns)
{
        const struct timespec ts = {
                .tv_nsec = timeout_ns < 0 ? RETRY_NS : min_t(int64_t, timeout_ns, RETRY_NS),
        };

        nanosleep(&ts, NULL);
}

/* Until there is a CQE, or time is up, or a signal came: the caller looks again. */
static int wait_for_cqe(struct uring *u, int64_t timeout_ns)
{
        struct __kernel_timespec ts = {timeout_ns / 1000000000, timeout_ns % 1000000000};
        struct io_uring_cqe *cqe;
        int ret;

        if (atomic_load_explicit(&u->nr_started, memory_order_acquire) ==
            atomic_load_explicit(&u->nr_reaped, memory_order_relaxed)) { /* I2 */
                nap(timeout_ns);
                return 0;
        }
        ret = io_uring_wait_cqes(&u->ring, &cqe, 1, timeout_ns < 0 ? NULL : &ts, NULL);
        if (ret == -ETIME || ret == -EINTR || ret == -EAGAIN || ret == -EBUSY)
                return 0;
        return ret;
}

/*
 * Completes what was there when it looked: with done() adding requests that
 * complete at once, "all there is" would never end.
 */
static int uring_reap(void *impl, int64_t timeout_ns)
{
        struct uring *u = impl;
        unsigned todo = io_uring_cq_ready(&u->ring);
        int total = 0;

        if (todo == 0 && timeout_ns != 0) {
                int ret = wait_for_cqe(u, timeout_ns);

                if (ret < 0)
                        return ret;
                todo = io_uring_cq_ready(&u->ring);
        }
        while (todo > 0) {
                struct finished batch[REAP_BATCH];
                unsigned nr = take_batch(u, batch, min_t(unsigned, todo, REAP_BATCH));

                for (unsigned i = 0; i < nr; i++)
                        finish(u, batch[i]);
                todo -= nr;
                total += (int)nr;
        }
        return total;
}

/* Best effort: kernels before 6.0 do not know how, and a transfer under way goes on. */
static void uring_cancel_all(void *impl)
{
        struct uring *u = impl;
        struct io_uring_sync_cancel_reg reg = {
                .flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL,
        };

        atomic_store(&u->cancelled, true);
        io_uring_register_sync_cancel(&u->ring, &reg);
}

static int uring_set_eventfd(void *impl, int fd)
{
        struct uring *u = impl;

        return io_uring_register_eventfd(&u->ring, fd);
}

/* The kernel takes hold of the pages once, instead of with each request. */
static int uring_set_buffers(void *impl, const struct iovec *buffers, unsigned nr)
{
        struct uring *u = impl;
        int ret = nr > 0 ? io_uring_register_buffers(&u->ring, buffers, nr)
                         : io_uring_unregister_buffers(&u->ring);

        return min_t(int, ret, 0);
}

const struct uext4_bdev_queue_ops bdev_uring_ops = {
        .new_queue = uring_new,
        .free_queue = uring_free,
        .add = uring_add,
        .kick = uring_kick,
        .reap = uring_reap,
        .cancel_all = uring_cancel_all,
        .set_eventfd = uring_set_eventfd,
        .set_buffers = uring_set_buffers,
};
