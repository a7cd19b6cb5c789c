/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mmap.c - a file as one shared mapping.
 *
 * Requests are copies, as in mem.c; durability comes from fdatasync, which also
 * writes what was stored through the mapping.  Simple on purpose: somebody who
 * cuts the file short while it is open gives us SIGBUS; the lock asks them not to.
 */
#include <sys/mman.h>
#include <unistd.h>

#include "bdev/bdev.h"
#include "bdev/host.h"
#include "util/alloc.h"

#define MMAP_BLOCK 512

struct mmap_dev {
        struct bdev_mapped mapped;
        struct host_file file;
};

static struct mmap_dev *mmap_dev_of(struct uext4_bdev *dev)
{
        return container_of(dev, struct mmap_dev, mapped.dev);
}

static int mmap_flush(struct uext4_bdev *dev)
{
        return fdatasync(mmap_dev_of(dev)->file.fd) < 0 ? -errno : 0;
}

static void mmap_close(struct uext4_bdev *dev)
{
        struct mmap_dev *m = mmap_dev_of(dev);

        munmap(m->mapped.map, dev->geo.size);
        host_close(&m->file);
        mem_free(m);
}

static const struct uext4_bdev_ops mmap_ops = {
        .name = "mmap",
        .read = bdev_mapped_read,
        .write = bdev_mapped_write,
        .flush = mmap_flush,
        .write_zeroes = bdev_mapped_write_zeroes,
        .close = mmap_close,
        .mapping = bdev_mapped_mapping,
};

static int mmap_init(struct mmap_dev *m, uint32_t flags)
{
        const bool readonly = flags & UEXT4_BDEV_OPEN_READONLY;
        const struct uext4_bdev_geometry geo = {
                .size = round_down_pow2(m->file.size, MMAP_BLOCK),
                .logical_block = MMAP_BLOCK,
                .mem_align = 1,
                .caps = readonly ? UEXT4_BDEV_CAP_READONLY : UEXT4_BDEV_CAP_VOLATILE,
        };
        void *map;
        int ret = uext4_bdev_init(&m->mapped.dev, &mmap_ops, &geo);

        if (ret < 0)
                return ret;
        map = mmap(NULL, geo.size, readonly ? PROT_READ : PROT_READ | PROT_WRITE, MAP_SHARED,
                   m->file.fd, 0);
        if (map == MAP_FAILED)
                return -errno; /* -EINVAL for an empty file */
        m->mapped.map = map;
        return 0;
}

int uext4_bdev_open_mmap(const char *path, uint32_t flags, struct uext4_bdev **ret_dev)
{
        struct mmap_dev *m = mem_zalloc(sizeof(*m));
        int ret;

        if (!m)
                return -ENOMEM;
        ret = host_open(path, flags, HOST_CACHED, &m->file);
        if (ret < 0)
                goto free_dev;
        ret = mmap_init(m, flags);
        if (ret < 0)
                goto close_file;
        *ret_dev = &m->mapped.dev;
        return 0;

close_file:
        host_close(&m->file);
free_dev:
        mem_free(m);
        return ret;
}
