/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * device.c - requests with an end on the clock.
 *
 * Each request is one of a lower queue of its own, of depth one: it is submitted there when it
 * begins here, and carried out when it ends here.  So the lower device knows what was under way
 * together, and the order of ends is ours.
 *
 * Requests of both faces are the same, but who calls the synchronous one sleeps until the end.
 * Nobody else runs within a call of the lower device (baton_quiet).
 */
#include "device.h"

#include <errno.h>
#include <sys/queue.h>

#include "../unit/t_util.h"
#include "baton.h"
#include "util/crc.h"

#define SLOW_1_IN  40 /* requests take SLOW_TIMES as long */
#define SLOW_TIMES 30
#define FAULT_1_IN 3 /* when they may */

struct slot {
        LIST_ENTRY(slot) link; /* of a queue's, or of the free ones */
        struct uext4_bdev_queue *lower;
        struct uext4_bdev_req req;    /* there */
        struct uext4_bdev_req *upper; /* of our queue, or NULL */
        uint64_t end_ns;
        bool fails, is_done_though;
        int result;
};

LIST_HEAD(slots, slot);

struct device {
        struct uext4_bdev dev;
        struct uext4_bdev *lower;
        struct device_params params;
        struct slots free;
        uint64_t rand;
        uint64_t nr_events, nr_flushes, nr_faults;
        bool is_cut;
};

static struct device *device_of(struct uext4_bdev *dev)
{
        return container_of(dev, struct device, dev);
}

bool device_is_cut(struct uext4_bdev *dev)
{
        return device_of(dev)->is_cut;
}

uint64_t device_events(struct uext4_bdev *dev)
{
        return device_of(dev)->nr_events;
}

uint64_t device_faults(struct uext4_bdev *dev)
{
        return device_of(dev)->nr_faults;
}

/* ---- events ---- */

static void cut(struct device *d)
{
        d->is_cut = true;
        uext4_bdev_sim_cut(d->lower);
        baton_note("the power goes", d->nr_events, 0, 0);
}

static void event(struct device *d)
{
        if (++d->nr_events == d->params.cut_at)
                cut(d);
}

/* What should have come before has not, if it is missed now. */
static void flush_ended(struct device *d)
{
        if (++d->nr_flushes == d->params.cut_at_flush)
                cut(d);
}

static uint64_t latency(struct device *d, enum uext4_bdev_op op)
{
        const struct device_params *p = &d->params;
        uint64_t max = op == UEXT4_BDEV_READ    ? p->max_read_ns
                       : op == UEXT4_BDEV_FLUSH ? p->max_flush_ns
                                                : p->max_write_ns;

        if (t_below(&d->rand, SLOW_1_IN) == 0)
                max *= SLOW_TIMES;
        return 1 + t_below(&d->rand, max);
}

static bool draws_fault(struct device *d, enum uext4_bdev_op op)
{
        const struct device_params *p = &d->params;

        if (!p->fault_at || d->nr_events < p->fault_at || !(p->fault_ops & 1u << op))
                return false;
        if (p->nr_faults && (d->nr_faults >= p->nr_faults || t_below(&d->rand, FAULT_1_IN)))
                return false;
        d->nr_faults++;
        return true;
}

/* ---- one request ---- */

static void ended(struct uext4_bdev_req *req)
{
        struct slot *slot = container_of(req, struct slot, req);

        slot->result = req->result;
}

static struct slot *take_slot(struct device *d)
{
        struct slot *slot = LIST_FIRST(&d->free);

        if (slot) {
                LIST_REMOVE(slot, link);
                return slot;
        }
        slot = t_alloc(sizeof(*slot));
        T_CHECK(uext4_bdev_queue_new(d->lower, 1, &slot->lower) == 0);
        return slot;
}

static uint64_t sum_of(const struct uext4_bdev_req *req)
{
        uint32_t crc = 0;

        if (req->op == UEXT4_BDEV_WRITE) {
                for (int i = 0; i < req->nr_iov; i++)
                        crc = crc32c(crc, req->iov[i].iov_base, req->iov[i].iov_len);
        }
        return crc;
}

static struct slot *begin(struct device *d, const struct uext4_bdev_req *req)
{
        static const char *const names[UEXT4_BDEV_NR_OPS] = {"read", "write", "flush",
                                                             "discard", "write zeroes"};
        struct slot *slot;

        baton_point("device");
        baton_quiet();
        slot = take_slot(d);
        slot->req = *req;
        slot->req.done = ended;
        slot->upper = NULL;
        event(d);
        slot->fails = draws_fault(d, req->op);
        slot->is_done_though = slot->fails && t_below(&d->rand, 2) == 0;
        slot->end_ns = baton_now() + latency(d, req->op);
        baton_note(slot->fails ? "begins, to fail:" : "begins:", d->nr_events, slot->end_ns, 0);
        baton_note(names[req->op], req->pos, req->len << 8 | req->flags, sum_of(req));
        if (!slot->fails || slot->is_done_though) {
                T_CHECK(uext4_bdev_queue_add(slot->lower, &slot->req) == 0);
                T_CHECK(uext4_bdev_queue_kick(slot->lower) == 0);
        }
        baton_loud();
        return slot;
}

/* Its end has come: 0 or -errno. */
static int end(struct device *d, struct slot *slot)
{
        int ret;

        baton_quiet();
        event(d);
        if (!slot->fails || slot->is_done_though)
                T_CHECK(uext4_bdev_queue_drive(slot->lower, -1) == 1);
        if (slot->req.op == UEXT4_BDEV_FLUSH || (slot->req.flags & UEXT4_BDEV_FUA))
                flush_ended(d);
        ret = slot->fails ? -EIO : slot->result;
        baton_note("ends", slot->req.op, slot->req.pos, (uint64_t)-ret);
        LIST_INSERT_HEAD(&d->free, slot, link);
        baton_loud();
        return ret;
}

/* ---- the synchronous face ---- */

static int carry_out(struct uext4_bdev *dev, struct uext4_bdev_req req)
{
        struct device *d = device_of(dev);
        struct slot *slot = begin(d, &req);

        baton_sleep(slot->end_ns - baton_now());
        return end(d, slot);
}

static int64_t transfer(struct uext4_bdev *dev, enum uext4_bdev_op op, const struct iovec *iov,
                        int nr_iov, uint64_t pos, uint32_t flags)
{
        struct uext4_bdev_req req = {
                .op = op, .flags = flags, .pos = pos, .iov = iov, .nr_iov = nr_iov};
        int ret;

        for (int i = 0; i < nr_iov; i++)
                req.len += iov[i].iov_len;
        ret = carry_out(dev, req);
        return ret < 0 ? ret : (int64_t)req.len;
}

static int64_t device_read(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                           uint64_t pos)
{
        return transfer(dev, UEXT4_BDEV_READ, iov, nr_iov, pos, 0);
}

static int64_t device_write(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                            uint64_t pos, uint32_t flags)
{
        return transfer(dev, UEXT4_BDEV_WRITE, iov, nr_iov, pos, flags);
}

static int device_flush(struct uext4_bdev *dev)
{
        return carry_out(dev, (struct uext4_bdev_req){.op = UEXT4_BDEV_FLUSH});
}

static int device_discard(struct uext4_bdev *dev, uint64_t pos, uint64_t len)
{
        return carry_out(
                dev, (struct uext4_bdev_req){.op = UEXT4_BDEV_DISCARD, .pos = pos, .len = len});
}

static int device_write_zeroes(struct uext4_bdev *dev, uint64_t pos, uint64_t len,
                               uint32_t flags)
{
        return carry_out(dev, (struct uext4_bdev_req){.op = UEXT4_BDEV_WRITE_ZEROES,
                                                      .pos = pos,
                                                      .len = len,
                                                      .flags = flags});
}

/* ---- queues ---- */

struct queue {
        struct device *d;
        struct uext4_bdev_req *added, **last; /* not begun, the oldest first */
        struct slots begun;
};

static int queue_new(struct uext4_bdev *dev, unsigned depth, void **ret_impl)
{
        struct queue *q = t_alloc(sizeof(*q));

        q->d = device_of(dev);
        q->last = &q->added;
        *ret_impl = q;
        return 0;
}

static void queue_free(void *impl)
{
        free(impl);
}

static int queue_add(void *impl, struct uext4_bdev_req *req)
{
        struct queue *q = impl;

        req->next = NULL;
        *q->last = req;
        q->last = &req->next;
        return 0;
}

static int queue_kick(void *impl)
{
        struct queue *q = impl;
        struct uext4_bdev_req *req;

        while ((req = q->added)) {
                struct slot *slot;

                q->added = req->next;
                if (!q->added)
                        q->last = &q->added;
                slot = begin(q->d, req);
                slot->upper = req;
                LIST_INSERT_HEAD(&q->begun, slot, link);
        }
        baton_wake(q, true);
        return 0;
}

static struct slot *first_to_end(const struct queue *q)
{
        struct slot *slot, *first = NULL;

        LIST_FOREACH (slot, &q->begun, link) {
                if (!first || slot->end_ns < first->end_ns)
                        first = slot;
        }
        return first;
}

static int end_what_is_due(struct queue *q)
{
        struct slot *slot;
        int nr = 0;

        while ((slot = first_to_end(q)) && slot->end_ns <= baton_now()) {
                struct uext4_bdev_req *req = slot->upper;
                const bool moves = req->op == UEXT4_BDEV_READ || req->op == UEXT4_BDEV_WRITE;
                int ret;

                LIST_REMOVE(slot, link);
                ret = end(q->d, slot);
                uext4_bdev_complete(req, ret < 0 ? ret : moves ? (int64_t)req->len : 0);
                nr++;
        }
        return nr;
}

static int queue_reap(void *impl, int64_t timeout_ns)
{
        const uint64_t until =
                timeout_ns < 0 ? BATON_NEVER : baton_now() + (uint64_t)timeout_ns;
        struct queue *q = impl;
        int nr;

        while ((nr = end_what_is_due(q)) == 0 && baton_now() < until) {
                const struct slot *slot = first_to_end(q);

                (void)baton_wait(q, "queue of the device",
                                 slot ? min_t(uint64_t, slot->end_ns, until) : until);
        }
        return nr;
}

static void queue_cancel_all(void *impl)
{
}

static int queue_set_eventfd(void *impl, int fd)
{
        return -EOPNOTSUPP; /* what polls is not part of a run */
}

static const struct uext4_bdev_queue_ops queue_ops = {
        .new_queue = queue_new,
        .free_queue = queue_free,
        .add = queue_add,
        .kick = queue_kick,
        .reap = queue_reap,
        .cancel_all = queue_cancel_all,
        .set_eventfd = queue_set_eventfd,
};

/* ---- life ---- */

static void device_close(struct uext4_bdev *dev)
{
        struct device *d = device_of(dev);
        struct slot *slot;

        while ((slot = LIST_FIRST(&d->free))) {
                LIST_REMOVE(slot, link);
                uext4_bdev_queue_free(slot->lower);
                free(slot);
        }
        uext4_bdev_close(d->lower);
        free(d);
}

static const struct uext4_bdev_ops device_ops = {
        .name = "timed",
        .read = device_read,
        .write = device_write,
        .flush = device_flush,
        .discard = device_discard,
        .write_zeroes = device_write_zeroes,
        .close = device_close,
        .queue = &queue_ops,
};

int device_open(struct uext4_bdev *lower, const struct device_params *params,
                struct uext4_bdev **ret_dev)
{
        struct device *d = t_alloc(sizeof(*d));
        int ret = uext4_bdev_init(&d->dev, &device_ops, uext4_bdev_geometry(lower));

        if (ret < 0) {
                free(d);
                return ret;
        }
        d->lower = lower;
        d->params = *params;
        d->rand = params->seed;
        *ret_dev = &d->dev;
        return 0;
}
