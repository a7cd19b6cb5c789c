/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fault.c - a filter that fails or cuts short the requests that a rule catches.
 *
 * Rules are kept newest first.  The first one that matches a request decides,
 * be it that it lets the request pass (`skip`); a rule that has failed its
 * `count` matches no more.
 */
#include "bdev/filter.h"

#include <sys/queue.h>

#include "util/alloc.h"
#include "util/lock.h"

struct rule {
        struct uext4_bdev_fault spec; /* [const] */
        uint64_t nr_matched;          /* [fault.lock] */
        SLIST_ENTRY(rule) link;       /* [fault.lock] */
};

struct fault {
        struct bdev_filter f;
        struct mtx lock;          /* RANK_LEAF */
        SLIST_HEAD(, rule) rules; /* newest first [lock] */
        uint64_t hits;            /* [lock] */
};

static struct fault *fault_of(struct bdev_filter *f)
{
        return container_of(f, struct fault, f);
}

static bool rule_is_spent(const struct rule *r)
{
        return r->spec.count != 0 && r->nr_matched >= r->spec.skip &&
               r->nr_matched - r->spec.skip >= r->spec.count;
}

static bool ranges_overlap(const struct uext4_bdev_fault *spec, const struct bdev_filter_io *io)
{
        if (io->op == UEXT4_BDEV_FLUSH)
                return true;
        if (spec->pos >= io->pos + io->len)
                return false;
        return spec->len == 0 || io->pos < spec->pos || io->pos - spec->pos < spec->len;
}

static bool rule_matches(const struct rule *r, const struct bdev_filter_io *io)
{
        if (!(r->spec.ops & (1u << io->op)) || rule_is_spent(r))
                return false;
        if (r->spec.error == 0 && r->spec.short_len >= io->len)
                return false; /* short enough as it is */
        return ranges_overlap(&r->spec, io);
}

static const struct rule *deciding_rule_locked(struct fault *fault,
                                               const struct bdev_filter_io *io)
{
        struct rule *r;

        SLIST_FOREACH (r, &fault->rules, link) {
                if (!rule_matches(r, io))
                        continue;
                if (r->nr_matched++ < r->spec.skip)
                        return NULL;
                fault->hits++;
                return r;
        }
        return NULL;
}

static int fault_begin(struct bdev_filter *f, struct bdev_filter_io *io)
{
        struct fault *fault = fault_of(f);
        const struct rule *r;
        int ret = 0;

        mtx_lock(&fault->lock);
        r = deciding_rule_locked(fault, io);
        if (r && r->spec.error < 0)
                ret = r->spec.error;
        else if (r)
                io->len = round_down_pow2(r->spec.short_len, bdev_unit(f->lower));
        mtx_unlock(&fault->lock);
        return ret;
}

static const struct bdev_filter_hooks fault_hooks = {.begin = fault_begin};

static void fault_close(struct uext4_bdev *dev)
{
        struct bdev_filter *f = bdev_filter_of(dev);
        struct fault *fault = fault_of(f);

        uext4_bdev_fault_clear(dev);
        uext4_bdev_close(f->lower);
        mtx_done(&fault->lock);
        mem_free(fault);
}

/* No mapping: memory cannot fail. */
static const struct uext4_bdev_ops fault_ops = {
        .name = "fault",
        .read = bdev_filter_read,
        .write = bdev_filter_write,
        .flush = bdev_filter_flush,
        .discard = bdev_filter_discard,
        .write_zeroes = bdev_filter_write_zeroes,
        .close = fault_close,
        .queue = &bdev_filter_queue_ops,
};

int uext4_bdev_open_fault(struct uext4_bdev *lower, struct uext4_bdev **ret_dev)
{
        struct fault *fault = mem_zalloc(sizeof(*fault));
        int ret;

        if (!fault)
                return -ENOMEM;
        ret = uext4_bdev_init(&fault->f.dev, &fault_ops, &lower->geo);
        if (ret < 0) {
                mem_free(fault);
                return ret;
        }
        fault->f.lower = lower;
        fault->f.hooks = &fault_hooks;
        mtx_init(&fault->lock, RANK_LEAF);
        SLIST_INIT(&fault->rules);
        *ret_dev = &fault->f.dev;
        return 0;
}

static struct fault *fault_of_dev(struct uext4_bdev *dev)
{
        assert(dev->ops == &fault_ops);
        return fault_of(bdev_filter_of(dev));
}

static bool spec_ok(const struct uext4_bdev_fault *spec)
{
        const uint32_t transfers = 1u << UEXT4_BDEV_READ | 1u << UEXT4_BDEV_WRITE;

        if (spec->ops == 0 || (spec->ops & ~((1u << UEXT4_BDEV_NR_OPS) - 1)) || spec->error > 0)
                return false;
        return spec->error < 0 || !(spec->ops & ~transfers);
}

int uext4_bdev_fault_add(struct uext4_bdev *dev, const struct uext4_bdev_fault *spec)
{
        struct fault *fault = fault_of_dev(dev);
        struct rule *r;

        if (!spec_ok(spec))
                return -EINVAL;
        r = mem_zalloc(sizeof(*r));
        if (!r)
                return -ENOMEM;
        r->spec = *spec;
        mtx_lock(&fault->lock);
        SLIST_INSERT_HEAD(&fault->rules, r, link);
        mtx_unlock(&fault->lock);
        return 0;
}

void uext4_bdev_fault_clear(struct uext4_bdev *dev)
{
        struct fault *fault = fault_of_dev(dev);

        mtx_lock(&fault->lock);
        while (!SLIST_EMPTY(&fault->rules)) {
                struct rule *r = SLIST_FIRST(&fault->rules);

                SLIST_REMOVE_HEAD(&fault->rules, link);
                mem_free(r);
        }
        mtx_unlock(&fault->lock);
}

uint64_t uext4_bdev_fault_hits(struct uext4_bdev *dev)
{
        struct fault *fault = fault_of_dev(dev);
        uint64_t hits;

        mtx_lock(&fault->lock);
        hits = fault->hits;
        mtx_unlock(&fault->lock);
        return hits;
}
