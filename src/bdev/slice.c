/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* slice.c - a filter: a range of another device as a device, such as one partition. */
#include "bdev/filter.h"

#include "util/alloc.h"

struct slice {
        struct bdev_filter f;
        uint64_t start; /* where it begins on the lower device [const] */
};

static struct slice *slice_of(struct bdev_filter *f)
{
        return container_of(f, struct slice, f);
}

static int slice_begin(struct bdev_filter *f, struct bdev_filter_io *io)
{
        io->pos += slice_of(f)->start;
        return 0;
}

static const struct bdev_filter_hooks slice_hooks = {.begin = slice_begin};

static void *slice_mapping(struct uext4_bdev *dev)
{
        struct bdev_filter *f = bdev_filter_of(dev);
        char *map = bdev_mapping(f->lower);

        return map ? map + slice_of(f)->start : NULL;
}

static void slice_close(struct uext4_bdev *dev)
{
        struct bdev_filter *f = bdev_filter_of(dev);

        uext4_bdev_close(f->lower);
        mem_free(slice_of(f));
}

static const struct uext4_bdev_ops slice_ops = {
        .name = "slice",
        .read = bdev_filter_read,
        .write = bdev_filter_write,
        .flush = bdev_filter_flush,
        .discard = bdev_filter_discard,
        .write_zeroes = bdev_filter_write_zeroes,
        .close = slice_close,
        .queue = &bdev_filter_queue_ops,
        .mapping = slice_mapping,
};

/* What is naturally aligned in the slice must be so below. */
static void cut_atomic(struct uext4_bdev_geometry *geo, uint64_t start)
{
        while (geo->atomic_max > 0 && (start & (geo->atomic_max - 1)) != 0)
                geo->atomic_max /= 2;
        if (geo->atomic_max < geo->atomic_min)
                geo->atomic_min = geo->atomic_max = 0;
}

int uext4_bdev_open_slice(struct uext4_bdev *lower, uint64_t pos, uint64_t len,
                          struct uext4_bdev **ret_dev)
{
        struct uext4_bdev_geometry geo = lower->geo;
        struct slice *s;
        int ret;

        if (pos > geo.size || len > geo.size - pos)
                return -ENXIO;
        if (len == 0)
                len = geo.size - pos;
        if ((pos | len) & (geo.logical_block - 1))
                return -EINVAL;
        s = mem_zalloc(sizeof(*s));
        if (!s)
                return -ENOMEM;
        geo.size = len;
        cut_atomic(&geo, pos);
        ret = uext4_bdev_init(&s->f.dev, &slice_ops, &geo);
        if (ret < 0) {
                mem_free(s);
                return ret;
        }
        s->f.lower = lower;
        s->f.hooks = &slice_hooks;
        s->start = pos;
        *ret_dev = &s->f.dev;
        return 0;
}
