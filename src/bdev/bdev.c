/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * bdev.c - a device: its geometry, the checks of every request, and the
 * synchronous face.
 *
 * The methods of a device see checked arguments only, and may move less than
 * they were asked to.  Here a transfer is whole or an error:
 *
 *  I1. Every request has passed bdev_check_range(), and a transfer also
 *      bdev_check_iov(), before a method of the device sees it.
 *  I2. A transfer is split at multiples of bdev_unit() only; so what is left of
 *      a checked request is a checked request.
 *  I3. FUA is legal on every device.  Where it is not a property of one write
 *      (volatile, but no CAP_FUA) the core adds a flush.  A filter is left out of this:
 *      its lower device has done it already.
 */
#include "bdev/bdev.h"

#include <limits.h>
#include <string.h>

#include "bdev/filter.h"
#include "util/alloc.h"

#define MIN_LOGICAL_BLOCK 512
#define MAX_LOGICAL_BLOCK 65536
#define MAX_MEM_ALIGN     65536

/* Bounce and zero buffers; a multiple of every legal unit. */
#define BOUNCE_MAX (256u << 10)

/* ---- a device ---- */

static bool atomic_ok(const struct uext4_bdev_geometry *geo)
{
        if (geo->atomic_max == 0)
                return geo->atomic_min == 0;
        return is_pow2(geo->atomic_min) && is_pow2(geo->atomic_max) &&
               geo->atomic_min >= geo->logical_block && geo->atomic_min <= geo->atomic_max;
}

static bool geometry_ok(const struct uext4_bdev_geometry *geo)
{
        return is_pow2(geo->logical_block) && geo->logical_block >= MIN_LOGICAL_BLOCK &&
               geo->logical_block <= MAX_LOGICAL_BLOCK && is_pow2(geo->mem_align) &&
               geo->mem_align <= MAX_MEM_ALIGN && geo->size <= INT64_MAX &&
               geo->size % geo->logical_block == 0 && atomic_ok(geo);
}

/* write_zeroes may be missing (zeros are written then), and what the caps rule out. */
static bool ops_ok(const struct uext4_bdev_ops *ops, uint32_t caps)
{
        if (!ops->read || !ops->close)
                return false;
        if (!(caps & UEXT4_BDEV_CAP_READONLY) && !ops->write)
                return false;
        if ((caps & UEXT4_BDEV_CAP_VOLATILE) && !ops->flush)
                return false;
        return !(caps & UEXT4_BDEV_CAP_DISCARD) || ops->discard;
}

int uext4_bdev_init(struct uext4_bdev *dev, const struct uext4_bdev_ops *ops,
                    const struct uext4_bdev_geometry *geo)
{
        if (!geometry_ok(geo) || !ops_ok(ops, geo->caps))
                return -EINVAL;
        dev->ops = ops;
        dev->geo = *geo;
        return 0;
}

void uext4_bdev_close(struct uext4_bdev *dev)
{
        if (dev)
                dev->ops->close(dev);
}

void *bdev_mapping(struct uext4_bdev *dev)
{
        return dev->ops->mapping ? dev->ops->mapping(dev) : NULL;
}

/* ---- checks ---- */

static bool op_writes(enum uext4_bdev_op op)
{
        return op == UEXT4_BDEV_WRITE || op == UEXT4_BDEV_DISCARD ||
               op == UEXT4_BDEV_WRITE_ZEROES;
}

static uint32_t op_flags(enum uext4_bdev_op op)
{
        if (op == UEXT4_BDEV_WRITE)
                return UEXT4_BDEV_FUA | UEXT4_BDEV_ATOMIC;
        return op == UEXT4_BDEV_WRITE_ZEROES ? UEXT4_BDEV_FUA : 0;
}

static int check_atomic(const struct uext4_bdev_geometry *geo, uint64_t pos, uint64_t len)
{
        if (geo->atomic_max == 0)
                return -EOPNOTSUPP;
        if (!is_pow2(len) || len < geo->atomic_min || len > geo->atomic_max ||
            (pos & (len - 1)) != 0)
                return -EINVAL;
        return 0;
}

int bdev_check_range(const struct uext4_bdev *dev, enum uext4_bdev_op op, uint32_t flags,
                     uint64_t pos, uint64_t len)
{
        const struct uext4_bdev_geometry *geo = &dev->geo;

        if (unlikely((unsigned)op >= UEXT4_BDEV_NR_OPS || (flags & ~op_flags(op))))
                return -EINVAL;
        if (op == UEXT4_BDEV_FLUSH)
                return 0;
        if (unlikely((geo->caps & UEXT4_BDEV_CAP_READONLY) && op_writes(op)))
                return -EROFS;
        if (unlikely(((pos | len) & (geo->logical_block - 1)) != 0))
                return -EINVAL;
        if (unlikely(pos > geo->size || len > geo->size - pos))
                return -ENXIO;
        if (op == UEXT4_BDEV_DISCARD && !(geo->caps & UEXT4_BDEV_CAP_DISCARD))
                return -EOPNOTSUPP;
        if (unlikely(flags & UEXT4_BDEV_ATOMIC))
                return check_atomic(geo, pos, len);
        return 0;
}

int bdev_check_iov(const struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                   uint64_t *ret_len)
{
        const uintptr_t mask = dev->geo.mem_align - 1;
        uint64_t sum = 0;

        if (unlikely(nr_iov < 0))
                return -EINVAL;
        for (int i = 0; i < nr_iov; i++) {
                if (iov[i].iov_len == 0)
                        continue;
                if (unlikely((((uintptr_t)iov[i].iov_base | iov[i].iov_len) & mask) != 0))
                        return -EINVAL;
                if (unlikely(iov[i].iov_len > INT64_MAX - sum))
                        return -EINVAL;
                sum += iov[i].iov_len;
        }
        *ret_len = sum;
        return 0;
}

/* ---- whole or error ---- */

/* Where a transfer stands in its vector: `skip` bytes into iov[0]. */
struct cursor {
        const struct iovec *iov;
        int nr_iov;
        size_t skip;
};

static void cursor_advance(struct cursor *c, uint64_t bytes)
{
        bytes += c->skip;
        while (c->nr_iov > 0 && bytes >= c->iov->iov_len) {
                bytes -= c->iov->iov_len;
                c->iov++;
                c->nr_iov--;
        }
        c->skip = bytes;
}

static int64_t call_transfer(struct uext4_bdev *dev, const struct bdev_io *io,
                             const struct iovec *iov, int nr_iov, uint64_t pos)
{
        if (io->op == UEXT4_BDEV_READ)
                return dev->ops->read(dev, iov, nr_iov, pos);
        return dev->ops->write(dev, iov, nr_iov, pos, io->flags);
}

/* One more attempt, from the cursor on.  A vector that starts in its middle is copied. */
static int64_t call_from_cursor(struct uext4_bdev *dev, const struct bdev_io *io,
                                const struct cursor *c, uint64_t pos)
{
        struct iovec few[8];
        struct iovec *iov = few;
        int64_t moved;

        if (c->skip == 0)
                return call_transfer(dev, io, c->iov, c->nr_iov, pos);
        if ((size_t)c->nr_iov > ARRAY_LEN(few)) {
                iov = mem_array((size_t)c->nr_iov, sizeof(*iov));
                if (!iov)
                        return -ENOMEM;
        }
        memcpy(iov, c->iov, (size_t)c->nr_iov * sizeof(*iov));
        iov[0].iov_base = (char *)iov[0].iov_base + c->skip;
        iov[0].iov_len -= c->skip;
        moved = call_transfer(dev, io, iov, c->nr_iov, pos);
        if (iov != few)
                mem_free(iov);
        return moved;
}

int bdev_move_rest(struct uext4_bdev *dev, const struct bdev_io *io, int64_t moved)
{
        struct cursor c = {.iov = io->iov, .nr_iov = io->nr_iov};
        uint64_t done = 0;

        while (done < io->len) {
                uint64_t step;

                if (moved < 0)
                        return (int)moved;
                if ((uint64_t)moved > io->len - done)
                        return -EIO; /* more than it was asked for: do not trust the rest */
                step = round_down_pow2((uint64_t)moved, bdev_unit(dev)); /* I2 */
                if (step == 0)
                        return -EIO;
                if (unlikely(io->flags & UEXT4_BDEV_ATOMIC) && step != io->len)
                        return -EIO; /* it cannot be made whole any more */
                done += step;
                if (done == io->len)
                        break;
                cursor_advance(&c, step);
                moved = call_from_cursor(dev, io, &c, io->pos + done);
        }
        return 0;
}

/* I3.  The caller has written; now it wants this durable. */
int bdev_settle_fua(struct uext4_bdev *dev, uint32_t flags)
{
        if (!(flags & UEXT4_BDEV_FUA) || bdev_is_filter(dev))
                return 0;
        if ((dev->geo.caps & (UEXT4_BDEV_CAP_VOLATILE | UEXT4_BDEV_CAP_FUA)) !=
            UEXT4_BDEV_CAP_VOLATILE)
                return 0;
        return dev->ops->flush(dev);
}

static int transfer(struct uext4_bdev *dev, const struct bdev_io *io)
{
        int ret;

        if (io->len == 0)
                return 0;
        ret = bdev_move_rest(dev, io, call_transfer(dev, io, io->iov, io->nr_iov, io->pos));
        return ret < 0 ? ret : bdev_settle_fua(dev, io->flags);
}

int bdev_zero_by_writing(struct uext4_bdev *dev, uint64_t pos, uint64_t len, uint32_t flags)
{
        const size_t size = min_t(uint64_t, len, BOUNCE_MAX);
        _cleanup_mem_ void *zeros = mem_alloc_aligned(bdev_unit(dev), size);

        if (!zeros)
                return -ENOMEM;
        memset(zeros, 0, size);
        while (len > 0) {
                const struct iovec iov = {zeros, min_t(uint64_t, len, size)};
                const struct bdev_io io = {UEXT4_BDEV_WRITE, flags, &iov, 1, pos, iov.iov_len};
                int ret = transfer(dev, &io);

                if (ret < 0)
                        return ret;
                pos += iov.iov_len;
                len -= iov.iov_len;
        }
        return 0;
}

static int write_zeroes(struct uext4_bdev *dev, uint64_t pos, uint64_t len, uint32_t flags)
{
        int ret = -EOPNOTSUPP;

        if (len == 0)
                return 0;
        if (dev->ops->write_zeroes)
                ret = dev->ops->write_zeroes(dev, pos, len, flags);
        if (ret == -EOPNOTSUPP)
                return bdev_zero_by_writing(dev, pos, len, flags);
        return ret < 0 ? ret : bdev_settle_fua(dev, flags);
}

/* A filter sees every flush, so that it can count it or make it fail. */
static int flush(struct uext4_bdev *dev)
{
        if (!(dev->geo.caps & UEXT4_BDEV_CAP_VOLATILE) && !bdev_is_filter(dev))
                return 0;
        return dev->ops->flush(dev);
}

int bdev_execute(struct uext4_bdev *dev, const struct uext4_bdev_req *req)
{
        const struct bdev_io io = bdev_io_of(req);

        switch (req->op) {
        case UEXT4_BDEV_READ:
        case UEXT4_BDEV_WRITE:
                return transfer(dev, &io);
        case UEXT4_BDEV_FLUSH:
                return flush(dev);
        case UEXT4_BDEV_DISCARD:
                return req->len == 0 ? 0 : dev->ops->discard(dev, req->pos, req->len);
        case UEXT4_BDEV_WRITE_ZEROES:
                return write_zeroes(dev, req->pos, req->len, req->flags);
        }
        return -EINVAL;
}

/* ---- the synchronous face ---- */

static int check_and_transfer(struct uext4_bdev *dev, struct bdev_io *io)
{
        int ret = bdev_check_iov(dev, io->iov, io->nr_iov, &io->len);

        if (ret == 0)
                ret = bdev_check_range(dev, io->op, io->flags, io->pos, io->len);
        return ret < 0 ? ret : transfer(dev, io);
}

int uext4_bdev_readv(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov, uint64_t pos)
{
        struct bdev_io io = {
                .op = UEXT4_BDEV_READ,
                .iov = iov,
                .nr_iov = nr_iov,
                .pos = pos,
        };

        return check_and_transfer(dev, &io);
}

int uext4_bdev_writev(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov, uint64_t pos,
                      uint32_t flags)
{
        struct bdev_io io = {
                .op = UEXT4_BDEV_WRITE,
                .flags = flags,
                .iov = iov,
                .nr_iov = nr_iov,
                .pos = pos,
        };

        return check_and_transfer(dev, &io);
}

int uext4_bdev_read(struct uext4_bdev *dev, void *buf, size_t len, uint64_t pos)
{
        const struct iovec iov = {buf, len};

        return uext4_bdev_readv(dev, &iov, 1, pos);
}

int uext4_bdev_write(struct uext4_bdev *dev, const void *buf, size_t len, uint64_t pos,
                     uint32_t flags)
{
        /* An iovec has no const; writing only reads from it. */
        const struct iovec iov = {(void *)(uintptr_t)buf, len};

        return uext4_bdev_writev(dev, &iov, 1, pos, flags);
}

int uext4_bdev_flush(struct uext4_bdev *dev)
{
        return flush(dev);
}

int uext4_bdev_discard(struct uext4_bdev *dev, uint64_t pos, uint64_t len)
{
        int ret = bdev_check_range(dev, UEXT4_BDEV_DISCARD, 0, pos, len);

        if (ret < 0 || len == 0)
                return ret;
        return dev->ops->discard(dev, pos, len);
}

int uext4_bdev_write_zeroes(struct uext4_bdev *dev, uint64_t pos, uint64_t len, uint32_t flags)
{
        int ret = bdev_check_range(dev, UEXT4_BDEV_WRITE_ZEROES, flags, pos, len);

        return ret < 0 ? ret : write_zeroes(dev, pos, len, flags);
}

/* ---- bytes ---- */

static bool bytes_are_aligned(const struct uext4_bdev *dev, const void *buf, size_t len,
                              uint64_t pos)
{
        return ((pos | len) & (dev->geo.logical_block - 1)) == 0 &&
               (((uintptr_t)buf | len) & (dev->geo.mem_align - 1)) == 0;
}

/*
 * The units around the range pass through a bounce buffer, a piece at a time.
 * Where mem_align is above the logical block, whole units may pass the end of the
 * device: the piece then begins earlier.
 */
int uext4_bdev_read_bytes(struct uext4_bdev *dev, void *buf, size_t len, uint64_t pos)
{
        const uint64_t unit = bdev_unit(dev);
        const uint32_t block = dev->geo.logical_block;
        _cleanup_mem_ char *bounce = NULL;
        size_t size;

        if (pos > dev->geo.size || len > dev->geo.size - pos)
                return -ENXIO;
        if (bytes_are_aligned(dev, buf, len, pos))
                return uext4_bdev_read(dev, buf, len, pos);
        size = len < BOUNCE_MAX ? round_up_pow2(pos % block + len, unit) : BOUNCE_MAX;
        bounce = mem_alloc_aligned(unit, size);
        if (!bounce)
                return -ENOMEM;
        while (len > 0) {
                uint64_t start = round_down_pow2(pos, block);
                const size_t part = min_t(size_t, len, size - (pos - start));
                const size_t whole = round_up_pow2(pos - start + part, unit);
                int ret;

                if (whole > dev->geo.size - start && whole <= dev->geo.size)
                        start = dev->geo.size - whole;
                ret = uext4_bdev_read(dev, bounce, whole, start);
                if (ret < 0)
                        return ret;
                memcpy(buf, bounce + (pos - start), part);
                buf = (char *)buf + part;
                pos += part;
                len -= part;
        }
        return 0;
}
