/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * file.c - a file or block device of the host, one request at a time.
 *
 * Direct I/O where the host grants it.  What it asks for in return, a logical
 * block and an alignment of memory, is learnt in this order: the block device says so,
 * statx says so, or we try what it takes to read the first bytes.  Where
 * direct I/O does not work out the file is used through the host's cache, and
 * the user is told, once.
 */
#include "bdev/file.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bdev/vec.h"
#include "util/alloc.h"

#define MIN_BLOCK 512
#define MAX_BLOCK 65536

/* A transfer that the kernel cannot take in one go; a vector of ours can be longer. */
#define MAX_SEGS 1024 /* UIO_MAXIOV */

static int fd_of(struct uext4_bdev *dev)
{
        return bdev_file_of(dev)->file.fd;
}

/* ---- transfers ---- */

int bdev_file_nr_segs(const struct uext4_bdev *dev, const struct iovec *iov, int nr_iov)
{
        const uint64_t unit = bdev_unit(dev);
        uint64_t sum = 0;
        int whole = 0;

        if (nr_iov <= MAX_SEGS)
                return nr_iov;
        for (int i = 0; i < MAX_SEGS; i++) {
                sum += iov[i].iov_len;
                if (sum % unit == 0 && sum > 0)
                        whole = i + 1;
        }
        return whole;
}

/* One try; -EINTR is tried again. */
static int64_t sys_read(int fd, const struct iovec *iov, int nr_iov, uint64_t pos)
{
        ssize_t moved;

        do {
                if (nr_iov == 1)
                        moved = pread(fd, iov->iov_base, iov->iov_len, (off_t)pos);
                else
                        moved = preadv2(fd, iov, nr_iov, (off_t)pos, 0);
        } while (moved < 0 && errno == EINTR);
        return moved < 0 ? -errno : moved;
}

static int64_t sys_write(int fd, const struct iovec *iov, int nr_iov, uint64_t pos, int rwf)
{
        ssize_t moved;

        do {
                if (nr_iov == 1 && rwf == 0)
                        moved = pwrite(fd, iov->iov_base, iov->iov_len, (off_t)pos);
                else
                        moved = pwritev2(fd, iov, nr_iov, (off_t)pos, rwf);
        } while (moved < 0 && errno == EINTR);
        return moved < 0 ? -errno : moved;
}

/* Durable when it returns, also where the host does not know RWF_DSYNC. */
static int64_t sys_write_fua(int fd, const struct iovec *iov, int nr_iov, uint64_t pos, int rwf)
{
        int64_t moved = sys_write(fd, iov, nr_iov, pos, RWF_DSYNC | rwf);

        if (moved != -EOPNOTSUPP)
                return moved;
        moved = sys_write(fd, iov, nr_iov, pos, rwf);
        if (moved > 0 && fdatasync(fd) < 0)
                return -errno;
        return moved;
}

/*
 * Of a vector so fine that MAX_SEGS segments are less than a unit: the first unit, by way of a
 * buffer.  The caller goes on behind it.
 */
static int64_t transfer_one_unit(struct uext4_bdev *dev, enum uext4_bdev_op op,
                                 const struct iovec *iov, uint64_t pos, uint32_t flags)
{
        const size_t unit = bdev_unit(dev);
        _cleanup_mem_ char *buf = mem_alloc_aligned(unit, unit);
        const struct iovec whole = {buf, unit};
        struct vec v = {.iov = iov};
        int64_t moved;

        if (!buf)
                return -ENOMEM;
        if (op == UEXT4_BDEV_WRITE) {
                vec_get(&v, buf, unit);
                return dev->ops->write(dev, &whole, 1, pos, flags);
        }
        moved = dev->ops->read(dev, &whole, 1, pos);
        if (moved == (int64_t)unit)
                vec_put(&v, buf, unit);
        return moved;
}

static int64_t file_read(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                         uint64_t pos)
{
        int nr = bdev_file_nr_segs(dev, iov, nr_iov);

        if (unlikely(nr == 0))
                return transfer_one_unit(dev, UEXT4_BDEV_READ, iov, pos, 0);
        return sys_read(fd_of(dev), iov, nr, pos);
}

static int64_t file_write(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                          uint64_t pos, uint32_t flags)
{
        const int rwf = flags & UEXT4_BDEV_ATOMIC ? RWF_ATOMIC : 0;
        int nr = bdev_file_nr_segs(dev, iov, nr_iov);

        if (unlikely(rwf && nr < nr_iov))
                return -EINVAL; /* not in one call */
        if (unlikely(nr == 0))
                return transfer_one_unit(dev, UEXT4_BDEV_WRITE, iov, pos, flags);
        if (flags & UEXT4_BDEV_FUA)
                return sys_write_fua(fd_of(dev), iov, nr, pos, rwf);
        return sys_write(fd_of(dev), iov, nr, pos, rwf);
}

/* ---- the rest of the methods ---- */

static int file_flush(struct uext4_bdev *dev)
{
        return fdatasync(fd_of(dev)) < 0 ? -errno : 0;
}

static int sys_fallocate(int fd, int mode, uint64_t pos, uint64_t len)
{
        int ret;

        do {
                ret = fallocate(fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)pos, (off_t)len);
        } while (ret < 0 && errno == EINTR);
        return ret < 0 ? -errno : 0;
}

static int sys_range_ioctl(int fd, unsigned long request, uint64_t pos, uint64_t len)
{
        uint64_t range[2] = {pos, len};

        return ioctl(fd, request, range) < 0 ? -errno : 0;
}

static int file_discard(struct uext4_bdev *dev, uint64_t pos, uint64_t len)
{
        const struct host_file *file = &bdev_file_of(dev)->file;

        if (file->is_block_device)
                return sys_range_ioctl(file->fd, BLKDISCARD, pos, len);
        return sys_fallocate(file->fd, FALLOC_FL_PUNCH_HOLE, pos, len);
}

static int zero_range(const struct host_file *file, uint64_t pos, uint64_t len)
{
        int ret;

        if (file->is_block_device)
                return sys_range_ioctl(file->fd, BLKZEROOUT, pos, len);
        ret = sys_fallocate(file->fd, FALLOC_FL_ZERO_RANGE, pos, len);
        if (ret == -EOPNOTSUPP)
                ret = sys_fallocate(file->fd, FALLOC_FL_PUNCH_HOLE, pos, len);
        return ret;
}

/* -EOPNOTSUPP makes the caller write the zeros. */
static int file_write_zeroes(struct uext4_bdev *dev, uint64_t pos, uint64_t len, uint32_t flags)
{
        int ret = zero_range(&bdev_file_of(dev)->file, pos, len);

        if (ret == 0 && (flags & UEXT4_BDEV_FUA))
                ret = file_flush(dev);
        return ret;
}

static void file_close(struct uext4_bdev *dev)
{
        struct bdev_file *f = bdev_file_of(dev);

        host_close(&f->file);
        mem_free(f);
}

static const struct uext4_bdev_ops file_ops = {
        .name = "file",
        .read = file_read,
        .write = file_write,
        .flush = file_flush,
        .discard = file_discard,
        .write_zeroes = file_write_zeroes,
        .close = file_close,
        .queue = &bdev_uring_ops,
};

/* ---- what direct I/O asks for ---- */

/* Zeros: this file has no direct I/O after all. */
struct dio_align {
        uint32_t logical_block;
        uint32_t mem_align;
};

/* Can `size` bytes at 0 be read into memory aligned to that and no better? */
static bool can_read(int fd, uint32_t size)
{
        _cleanup_mem_ char *buf = mem_alloc_aligned(MAX_BLOCK, 2 * MAX_BLOCK);

        return buf && pread(fd, buf + size, size, 0) >= 0;
}

static struct dio_align dio_align_by_trying(int fd)
{
        for (uint32_t size = MIN_BLOCK; size <= 4096; size *= 8)
                if (can_read(fd, size))
                        return (struct dio_align){size, size};
        return (struct dio_align){0, 0};
}

static struct dio_align dio_align_sane(uint32_t block, uint32_t mem)
{
        block = max_t(uint32_t, block, MIN_BLOCK);
        if (!is_pow2(block) || block > MAX_BLOCK || !is_pow2(mem) || mem > MAX_BLOCK)
                return (struct dio_align){0, 0};
        return (struct dio_align){block, mem};
}

/* A block device knows its block, and takes memory aligned to that if it says nothing else. */
static struct dio_align dio_align_of(const struct host_file *file)
{
        struct statx stx;
        bool told = statx(file->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
                    (stx.stx_mask & STATX_DIOALIGN) != 0;
        int block;

        if (file->is_block_device && ioctl(file->fd, BLKSSZGET, &block) == 0 && block > 0)
                return dio_align_sane((uint32_t)block, told && stx.stx_dio_mem_align
                                                               ? stx.stx_dio_mem_align
                                                               : (uint32_t)block);
        if (told)
                return dio_align_sane(stx.stx_dio_offset_align, stx.stx_dio_mem_align);
        return dio_align_by_trying(file->fd);
}

/* Block and alignment to use; may give up direct I/O, with the reason in *ret_why. */
static int choose_align(struct host_file *file, struct dio_align *ret_align,
                        const char **ret_why)
{
        struct dio_align align = {MIN_BLOCK, 1};
        int ret = 0;

        *ret_why = "the file system does not offer it";
        if (file->is_direct) {
                align = dio_align_of(file);
                if (align.logical_block == 0)
                        ret = host_give_up_direct(file);
                else if (round_down_pow2(file->size, MIN_BLOCK) % align.logical_block != 0) {
                        *ret_why = "the size is no multiple of its block";
                        ret = host_give_up_direct(file);
                }
                if (!file->is_direct)
                        align = (struct dio_align){MIN_BLOCK, 1};
        }
        *ret_align = align;
        return ret;
}

/* ---- capabilities ---- */

/* From sysfs; a partition finds the queue of its disk one up. */
static bool block_device_can_discard(const struct host_file *file)
{
        static const char *const dirs[] = {"", "../"};
        unsigned long long bytes = 0;

        for (size_t i = 0; i < ARRAY_LEN(dirs) && bytes == 0; i++) {
                char path[96];
                FILE *f;

                snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%squeue/discard_max_bytes",
                         file->major, file->minor, dirs[i]);
                f = fopen(path, "re");
                if (!f)
                        continue;
                if (fscanf(f, "%llu", &bytes) != 1)
                        bytes = 0;
                fclose(f);
        }
        return bytes > 0;
}

/* A hole behind the end of a file changes nothing, and tells. */
static bool file_can_discard(const struct host_file *file)
{
        const uint64_t behind = round_up_pow2(file->size, MAX_BLOCK);

        return sys_fallocate(file->fd, FALLOC_FL_PUNCH_HOLE, behind, MAX_BLOCK) == 0;
}

static uint32_t caps_of(const struct host_file *file, bool readonly)
{
        uint32_t caps = file->is_direct ? UEXT4_BDEV_CAP_DIRECT : 0;

        if (readonly)
                return caps | UEXT4_BDEV_CAP_READONLY;
        if (file->is_block_device ? block_device_can_discard(file) : file_can_discard(file))
                caps |= UEXT4_BDEV_CAP_DISCARD;
        return caps | UEXT4_BDEV_CAP_FUA | UEXT4_BDEV_CAP_VOLATILE;
}

/* ---- atomic writes ---- */

/* Of statx(2) since Linux 6.11: a bit of the mask, and where it puts its two numbers. */
#define ATOMIC_MASK   0x10000u
#define ATOMIC_MIN_AT 0xa8
#define ATOMIC_MAX_AT 0xac

static uint32_t stx_u32(const struct statx *stx, size_t at)
{
        uint32_t value;

        _Static_assert(sizeof(*stx) == 0x100, "struct statx has a fixed size");
        memcpy(&value, (const char *)stx + at, sizeof(value));
        return value;
}

/* Direct writes of these lengths the host never tears.  Zeros: it does not say so. */
static void set_atomic(const struct host_file *file, struct uext4_bdev_geometry *geo)
{
        struct statx stx;
        uint32_t min, max;

        if (!file->is_direct || (geo->caps & UEXT4_BDEV_CAP_READONLY) ||
            statx(file->fd, "", AT_EMPTY_PATH, ATOMIC_MASK, &stx) < 0 ||
            !(stx.stx_mask & ATOMIC_MASK))
                return;
        min = max_t(uint32_t, stx_u32(&stx, ATOMIC_MIN_AT), geo->logical_block);
        max = stx_u32(&stx, ATOMIC_MAX_AT);
        if (!is_pow2(min) || !is_pow2(max) || min > max)
                return;
        geo->atomic_min = min;
        geo->atomic_max = max;
}

/* ---- open ---- */

static int file_init(struct bdev_file *f, const char *path, uint32_t flags)
{
        const bool want_direct = !(flags & UEXT4_BDEV_OPEN_BUFFERED);
        struct uext4_bdev_geometry geo;
        struct dio_align align;
        const char *why;
        int ret = choose_align(&f->file, &align, &why);

        if (ret < 0)
                return ret;
        if (want_direct && !f->file.is_direct)
                log_say(&f->log, LOG_NOTICE,
                        "%s: no direct I/O (%s), using the cache of the host", path, why);
        geo = (struct uext4_bdev_geometry){
                .size = round_down_pow2(f->file.size, align.logical_block),
                .logical_block = align.logical_block,
                .mem_align = align.mem_align,
                .caps = caps_of(&f->file, flags & UEXT4_BDEV_OPEN_READONLY),
        };
        set_atomic(&f->file, &geo);
        return uext4_bdev_init(&f->dev, &file_ops, &geo);
}

int uext4_bdev_open_file(const char *path, uint32_t flags, uext4_log_fn *log, void *log_arg,
                         struct uext4_bdev **ret_dev)
{
        struct bdev_file *f = mem_zalloc(sizeof(*f));
        int ret;

        if (!f)
                return -ENOMEM;
        f->log = (struct log_sink){log, log_arg};
        ret = host_open(path, flags,
                        flags & UEXT4_BDEV_OPEN_BUFFERED ? HOST_CACHED : HOST_DIRECT, &f->file);
        if (ret < 0)
                goto free_dev;
        ret = file_init(f, path, flags);
        if (ret < 0)
                goto close_file;
        *ret_dev = &f->dev;
        return 0;

close_file:
        host_close(&f->file);
free_dev:
        mem_free(f);
        return ret;
}
