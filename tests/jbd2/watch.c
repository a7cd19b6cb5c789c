/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "watch.h"

#include <errno.h>
#include <stdlib.h>

struct watch {
        struct uext4_bdev dev;
        struct uext4_bdev *lower;
        struct watch_hook hook;
};

static struct watch *watch_of(struct uext4_bdev *dev)
{
        return (struct watch *)dev; /* its first member */
}

static void lock(struct watch *w)
{
        if (w->hook.lock)
                pthread_mutex_lock(w->hook.lock);
}

static void unlock(struct watch *w)
{
        if (w->hook.lock)
                pthread_mutex_unlock(w->hook.lock);
}

static void look(struct watch *w, enum watch_when when, enum uext4_bdev_op op)
{
        w->hook.fn(w->hook.arg, when, op);
}

static int64_t sum(const struct iovec *iov, int nr_iov)
{
        int64_t len = 0;

        for (int i = 0; i < nr_iov; i++)
                len += (int64_t)iov[i].iov_len;
        return len;
}

static int64_t watch_read(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                          uint64_t pos)
{
        int ret = uext4_bdev_readv(watch_of(dev)->lower, iov, nr_iov, pos);

        return ret < 0 ? ret : sum(iov, nr_iov);
}

static int64_t watch_write(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                           uint64_t pos, uint32_t flags)
{
        struct watch *w = watch_of(dev);
        int ret = 0;

        lock(w);
        look(w, WATCH_BEFORE, UEXT4_BDEV_WRITE);
        if (flags & UEXT4_BDEV_FUA) {
                ret = uext4_bdev_writev(w->lower, iov, nr_iov, pos, 0);
                if (ret == 0)
                        look(w, WATCH_UNDER_WAY, UEXT4_BDEV_WRITE);
        }
        if (ret == 0)
                ret = uext4_bdev_writev(w->lower, iov, nr_iov, pos, flags);
        unlock(w);
        return ret < 0 ? ret : sum(iov, nr_iov);
}

static int watch_flush(struct uext4_bdev *dev)
{
        struct watch *w = watch_of(dev);
        int ret;

        lock(w);
        look(w, WATCH_BEFORE, UEXT4_BDEV_FLUSH);
        ret = uext4_bdev_flush(w->lower);
        look(w, WATCH_AFTER, UEXT4_BDEV_FLUSH);
        unlock(w);
        return ret;
}

static int watch_write_zeroes(struct uext4_bdev *dev, uint64_t pos, uint64_t len,
                              uint32_t flags)
{
        struct watch *w = watch_of(dev);
        int ret;

        lock(w);
        look(w, WATCH_BEFORE, UEXT4_BDEV_WRITE_ZEROES);
        ret = uext4_bdev_write_zeroes(w->lower, pos, len, flags);
        unlock(w);
        return ret;
}

static int watch_discard(struct uext4_bdev *dev, uint64_t pos, uint64_t len)
{
        struct watch *w = watch_of(dev);
        int ret;

        lock(w);
        look(w, WATCH_BEFORE, UEXT4_BDEV_DISCARD);
        ret = uext4_bdev_discard(w->lower, pos, len);
        unlock(w);
        return ret;
}

static void watch_close(struct uext4_bdev *dev)
{
        struct watch *w = watch_of(dev);

        uext4_bdev_close(w->lower);
        free(w);
}

static const struct uext4_bdev_ops watch_ops = {
        .name = "watch",
        .read = watch_read,
        .write = watch_write,
        .flush = watch_flush,
        .discard = watch_discard,
        .write_zeroes = watch_write_zeroes,
        .close = watch_close,
};

int watch_open(struct uext4_bdev *lower, const struct watch_hook *hook,
               struct uext4_bdev **ret_dev)
{
        struct watch *w = calloc(1, sizeof(*w));
        int ret;

        if (!w)
                return -ENOMEM;
        w->lower = lower;
        w->hook = *hook;
        ret = uext4_bdev_init(&w->dev, &watch_ops, uext4_bdev_geometry(lower));
        if (ret < 0)
                free(w);
        else
                *ret_dev = &w->dev;
        return ret;
}
