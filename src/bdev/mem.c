/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mem.c - memory as a device: pages of our own, or a buffer of the caller's.
 *
 * A request is a memcpy, so there is nothing to align and nothing volatile.  Two that
 * overlap are for those to avoid who make them, as with a disk.  Our own
 * pages are made by the first write to each; a sparse device of terabytes costs
 * what was written to it.
 */
#include "bdev/bdev.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/alloc.h"
#include "util/tsan.h"

#define MEM_BLOCK 512

/* Nothing cuts a memcpy short that leaves the memory behind. */
#define MEM_ATOMIC_MAX (64u << 10)

static struct bdev_mapped *mapped_of(struct uext4_bdev *dev)
{
        return container_of(dev, struct bdev_mapped, dev);
}

/*
 * Who reads sectors that are being written gets some of the old and some of the new, and may:
 * it is no race of this program.  The caller's memory is another matter.
 */
static void copy_in(void *device, const void *from, size_t len)
{
        tsan_reads(from, len);
        tsan_ignore_begin();
        memcpy(device, from, len);
        tsan_ignore_end();
}

static void copy_out(void *to, const void *device, size_t len)
{
        tsan_writes(to, len);
        tsan_ignore_begin();
        memcpy(to, device, len);
        tsan_ignore_end();
}

/* ---- methods shared with mmap.c ---- */

int64_t bdev_mapped_read(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                         uint64_t pos)
{
        const char *from = mapped_of(dev)->map + pos;
        int64_t moved = 0;

        for (int i = 0; i < nr_iov; i++) {
                if (iov[i].iov_len == 0)
                        continue;
                copy_out(iov[i].iov_base, from + moved, iov[i].iov_len);
                moved += (int64_t)iov[i].iov_len;
        }
        return moved;
}

int64_t bdev_mapped_write(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                          uint64_t pos, uint32_t flags)
{
        char *to = mapped_of(dev)->map + pos;
        int64_t moved = 0;

        for (int i = 0; i < nr_iov; i++) {
                if (iov[i].iov_len == 0)
                        continue;
                copy_in(to + moved, iov[i].iov_base, iov[i].iov_len);
                moved += (int64_t)iov[i].iov_len;
        }
        return moved;
}

int bdev_mapped_write_zeroes(struct uext4_bdev *dev, uint64_t pos, uint64_t len, uint32_t flags)
{
        memset(mapped_of(dev)->map + pos, 0, len);
        return 0;
}

void *bdev_mapped_mapping(struct uext4_bdev *dev)
{
        return mapped_of(dev)->map;
}

/* ---- memory ---- */

/* Whole pages inside of the range are given back, and read as zeros. */
static int mem_discard(struct uext4_bdev *dev, uint64_t pos, uint64_t len)
{
        const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
        const uint64_t start = round_up_pow2(pos, page);
        const uint64_t stop = round_down_pow2(pos + len, page);

        if (start < stop &&
            madvise(mapped_of(dev)->map + start, stop - start, MADV_DONTNEED) < 0)
                return -errno;
        return 0;
}

static void mem_close(struct uext4_bdev *dev)
{
        struct bdev_mapped *m = mapped_of(dev);

        munmap(m->map, dev->geo.size);
        mem_free(m);
}

static void buffer_close(struct uext4_bdev *dev)
{
        mem_free(mapped_of(dev));
}

static const struct uext4_bdev_ops mem_ops = {
        .name = "mem",
        .read = bdev_mapped_read,
        .write = bdev_mapped_write,
        .discard = mem_discard,
        .write_zeroes = bdev_mapped_write_zeroes,
        .close = mem_close,
        .mapping = bdev_mapped_mapping,
};

static const struct uext4_bdev_ops buffer_ops = {
        .name = "buffer",
        .read = bdev_mapped_read,
        .write = bdev_mapped_write,
        .write_zeroes = bdev_mapped_write_zeroes,
        .close = buffer_close,
        .mapping = bdev_mapped_mapping,
};

static int open_mapped(char *map, uint64_t size, const struct uext4_bdev_ops *ops,
                       uint32_t caps, struct uext4_bdev **ret_dev)
{
        const bool is_own = ops == &mem_ops;
        const struct uext4_bdev_geometry geo = {
                .size = size,
                .logical_block = MEM_BLOCK,
                .mem_align = 1,
                .caps = caps,
                .atomic_min = is_own ? MEM_BLOCK : 0,
                .atomic_max = is_own ? MEM_ATOMIC_MAX : 0,
        };
        struct bdev_mapped *m = mem_zalloc(sizeof(*m));
        int ret;

        if (!m)
                return -ENOMEM;
        m->map = map;
        ret = uext4_bdev_init(&m->dev, ops, &geo);
        if (ret < 0) {
                mem_free(m);
                return ret;
        }
        *ret_dev = &m->dev;
        return 0;
}

int uext4_bdev_open_mem(uint64_t size, struct uext4_bdev **ret_dev)
{
        char *map;
        int ret;

        size = round_down_pow2(size, MEM_BLOCK);
        if (size == 0)
                return -EINVAL;
        map = mmap(NULL, size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (map == MAP_FAILED)
                return -errno;
        ret = open_mapped(map, size, &mem_ops, UEXT4_BDEV_CAP_DISCARD, ret_dev);
        if (ret < 0)
                munmap(map, size);
        return ret;
}

int uext4_bdev_open_buffer(void *mem, uint64_t size, uint32_t flags,
                           struct uext4_bdev **ret_dev)
{
        uint32_t caps = flags & UEXT4_BDEV_OPEN_READONLY ? UEXT4_BDEV_CAP_READONLY : 0;

        return open_mapped(mem, round_down_pow2(size, MEM_BLOCK), &buffer_ops, caps, ret_dev);
}
