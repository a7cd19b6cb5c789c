/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What a write costs, what it refuses, and what it leaves when the device fails: through the
 * public API, on a simulated device with a volatile cache and FUA under the trace and fault
 * filters.
 */

#include <fcntl.h>
#include <linux/falloc.h>

#include "../change/rig.h"
#include "ext4/orphan.h"
#include "uext4.h"

#define EXT4_4K                                                                              \
        "-b 4096 -I 256 -J size=4 -O has_journal,extents,huge_file,flex_bg,64bit,dir_nlink," \
        "extra_isize,metadata_csum"
#define EXT4_1K                                                                       \
        "-b 1024 -J size=1 -O has_journal,extents,huge_file,flex_bg,64bit,dir_nlink," \
        "extra_isize,metadata_csum"
#define EXT3_1K      "-b 1024 -J size=1 -O none,has_journal,sparse_super,large_file"
#define NOJOURNAL_4K "-b 4096 -O ^has_journal,extents,huge_file,flex_bg,64bit,metadata_csum"

#define BLOCK 4096u
#define DEPTH 64

struct stage {
        struct uext4_bdev *sim, *fault, *dev;
        size_t size;
        struct rig_mount m;
        struct uext4_file *file;
        struct uext4_queue *queue;
        uint8_t *buf; /* 1 MiB */
};

static void t_begin(struct stage *st, int flags)
{
        assert_int_equal(rig_mount(&st->m, st->dev, RIG_OPTIONS), 0);
        assert_int_equal(uext4_open_path(st->m.fs, "/file", O_RDWR | flags, &st->file), 0);
        assert_int_equal(uext4_queue_new(st->m.fs, DEPTH, &st->queue), 0);
}

static void t_end(struct stage *st)
{
        uext4_queue_free(st->queue);
        uext4_close(st->file);
        assert_int_equal(rig_unmount(&st->m), 0);
}

static void t_open(struct stage *st, const char *mkfs, uint64_t size, int flags)
{
        struct t_image img = rig_make(size, mkfs, NULL, "write /dev/null file\\n");

        *st = (struct stage){.size = img.size};
        st->sim = t_open_sim(&img, 1);
        assert_int_equal(uext4_bdev_open_fault(st->sim, &st->fault), 0);
        assert_int_equal(uext4_bdev_open_trace(st->fault, 64, &st->dev), 0);
        t_image_free(&img);
        t_begin(st, flags);
        st->buf = t_alloc(1 << 20);
        memset(st->buf, 'x', 1 << 20);
}

/* Unmount, and what e2fsck says. */
static void t_close(struct stage *st)
{
        t_end(st);
        rig_close_sim(st->sim, st->dev);
        free(st->buf);
}

static int64_t t_write(struct stage *st, uint64_t pos, uint64_t len, int flags)
{
        const struct iovec iov = {st->buf, len};

        return uext4_pwritev2(st->file, &iov, 1, pos, flags);
}

#define t_must_write(st, pos, len, flags) \
        assert_int_equal(t_write((st), (pos), (len), (flags)), (len))

static uint64_t t_size(struct stage *st)
{
        struct uext4_stat s;

        assert_int_equal(uext4_stat(uext4_file_inode(st->file), &s), 0);
        return s.size;
}

static uint64_t t_blocks(struct stage *st)
{
        struct uext4_stat s;

        assert_int_equal(uext4_stat(uext4_file_inode(st->file), &s), 0);
        return s.blocks;
}

/* All bytes of a range. */
static void t_assert_bytes(struct stage *st, uint64_t pos, uint64_t len, uint8_t want)
{
        uint8_t *got = t_alloc(len);

        assert_int_equal(uext4_pread(st->file, got, len, pos), (ssize_t)len);
        for (uint64_t i = 0; i < len; i++) {
                if (got[i] != want)
                        fail_msg("byte %llu is %u, not %u", (unsigned long long)(pos + i),
                                 got[i], want);
        }
        free(got);
}

/* ---- counting ---- */

struct cost {
        uint64_t writes, flushes, fua, reads, commits;
};

static struct cost t_count(struct stage *st)
{
        struct uext4_bdev_counts c;
        struct uext4_stats s;

        uext4_bdev_trace_counts(st->dev, &c);
        uext4_get_stats(st->m.fs, &s);
        return (struct cost){
                .writes = c.requests[UEXT4_BDEV_WRITE] + c.requests[UEXT4_BDEV_WRITE_ZEROES],
                .flushes = c.requests[UEXT4_BDEV_FLUSH],
                .fua = c.fua,
                .reads = c.requests[UEXT4_BDEV_READ],
                .commits = s.commits,
        };
}

static struct cost t_since(struct stage *st, const struct cost *then)
{
        struct cost now = t_count(st);

        return (struct cost){now.writes - then->writes, now.flushes - then->flushes,
                             now.fua - then->fua, now.reads - then->reads,
                             now.commits - then->commits};
}

/* ---- costs ---- */

static void overwrite_is_one_request_C44(void **state)
{
        struct cost before, c;
        struct stage st;

        t_open(&st, EXT4_4K, 24 << 20, O_DIRECT);
        t_must_write(&st, 0, 65536, 0);
        assert_int_equal(uext4_fsync(st.file), 0);
        before = t_count(&st);
        t_must_write(&st, 8192, 4096, 0);
        c = t_since(&st, &before);
        assert_int_equal(c.writes, 1);
        assert_int_equal(c.reads, 0);
        assert_int_equal(c.flushes, 0);
        assert_int_equal(c.fua, 0);
        assert_int_equal(c.commits, 0);
        t_close(&st);
}

static void dsync_overwrite_is_one_fua_write_B7(void **state)
{
        struct cost before, c;
        struct stage st;

        t_open(&st, EXT4_4K, 24 << 20, O_DIRECT);
        t_must_write(&st, 0, 65536, 0);
        assert_int_equal(uext4_fsync(st.file), 0);
        before = t_count(&st);
        t_must_write(&st, 8192, 4096, RWF_DSYNC);
        t_must_write(&st, 512, 1024, RWF_DSYNC);
        c = t_since(&st, &before);
        assert_int_equal(c.writes, 2);
        assert_int_equal(c.fua, 2);
        assert_int_equal(c.flushes, 0);
        assert_int_equal(c.commits, 0);
        t_close(&st);
}

/* The map of the blocks is not durable yet: a FUA write of the data is not enough. */
static void dsync_overwrite_waits_for_its_map_B5(void **state)
{
        struct cost before, c;
        struct stage st;

        t_open(&st, EXT4_4K, 24 << 20, O_DIRECT);
        t_must_write(&st, 0, 65536, 0);
        before = t_count(&st);
        t_must_write(&st, 8192, 4096, RWF_DSYNC);
        c = t_since(&st, &before);
        assert_int_equal(c.commits, 1);
        t_close(&st);
}

static void fdatasync_of_a_clean_file_costs_nothing_B49(void **state)
{
        struct cost before, c;
        struct stage st;

        t_open(&st, EXT4_4K, 24 << 20, O_DIRECT);
        t_must_write(&st, 0, 65536, 0);
        assert_int_equal(uext4_fdatasync(st.file), 0);
        before = t_count(&st);
        assert_int_equal(uext4_fdatasync(st.file), 0);
        assert_int_equal(uext4_fsync(st.file), 0);
        c = t_since(&st, &before);
        assert_int_equal(c.writes + c.flushes + c.reads, 0);
        /* An overwrite needs a flush, once, and no commit. */
        t_must_write(&st, 0, 4096, 0);
        before = t_count(&st);
        assert_int_equal(uext4_fdatasync(st.file), 0);
        assert_int_equal(uext4_fdatasync(st.file), 0);
        c = t_since(&st, &before);
        assert_int_equal(c.writes, 0);
        assert_int_equal(c.flushes, 1);
        t_close(&st);
}

/* An append inside of the last block: nothing is allocated, so that no orphan is needed. */
static void dsync_append_is_one_commit_B38(void **state)
{
        struct cost before, c;
        struct stage st;

        t_open(&st, EXT4_4K, 24 << 20, O_DIRECT);
        t_must_write(&st, 0, 512, RWF_DSYNC);
        before = t_count(&st);
        t_must_write(&st, 512, 512, RWF_DSYNC);
        c = t_since(&st, &before);
        assert_int_equal(c.commits, 1);
        assert_in_range(c.flushes, 0, 1);
        t_close(&st);
}

static void t_queue_writes(struct stage *st, unsigned nr, uint64_t len, int flags)
{
        struct uext4_completion done[DEPTH];
        struct uext4_request reqs[DEPTH];
        struct iovec iov[DEPTH];

        for (unsigned i = 0; i < nr; i++) {
                iov[i] = (struct iovec){st->buf + i * len, len};
                reqs[i] = (struct uext4_request){.op = UEXT4_WRITE,
                                                 .flags = flags,
                                                 .file = st->file,
                                                 .iov = &iov[i],
                                                 .nr_iov = 1,
                                                 .pos = 2 * i * len};
        }
        assert_int_equal(uext4_queue_submit(st->queue, reqs, nr), nr);
        assert_int_equal(uext4_queue_wait(st->queue, done, nr, DEPTH, -1), nr);
        for (unsigned i = 0; i < nr; i++)
                assert_int_equal(done[i].result, len);
}

/* On memory: the device takes none itself, and a round of a queue finds all that was submitted.
 */
static void t_open_on_memory(struct stage *st, struct t_image *img)
{
        *img = rig_make(24 << 20, EXT4_4K, NULL, "write /dev/null file\\n");
        *st = (struct stage){.buf = t_alloc(1 << 20)};
        memset(st->buf, 'x', 1 << 20);
        assert_int_equal(uext4_bdev_open_buffer(img->data, img->size, 0, &st->dev), 0);
        assert_int_equal(rig_mount(&st->m, st->dev, RIG_OPTIONS), 0);
        assert_int_equal(uext4_open_path(st->m.fs, "/file", O_RDWR | O_DIRECT, &st->file), 0);
        assert_int_equal(uext4_queue_new(st->m.fs, DEPTH, &st->queue), 0);
        assert_int_equal(uext4_fallocate(st->file, 0, 0, 2 << 20), 0);
        assert_int_equal(uext4_fsync(st->file), 0);
}

static void t_close_on_memory(struct stage *st, struct t_image *img)
{
        uext4_queue_free(st->queue);
        uext4_close(st->file);
        rig_end(&st->m, st->dev, img);
        free(st->buf);
}

static void overwrite_takes_no_memory_C44(void **state)
{
        struct t_image img;
        struct stage st;
        uint64_t before;

        t_open_on_memory(&st, &img);
        t_must_write(&st, 0, 1 << 20, 0);
        assert_int_equal(uext4_fsync(st.file), 0);
        t_must_write(&st, 0, 4096, 0); /* the mapping is known now */
        before = mem_count();
        t_must_write(&st, 8192, 4096, 0);
        t_must_write(&st, 512, 512, RWF_DSYNC);
        t_queue_writes(&st, 64, 4096, 0);
        assert_int_equal(mem_count(), before);
        t_close_on_memory(&st, &img);
}

static void requests_reaped_together_are_one_commit_C16(void **state)
{
        struct uext4_stats before, after;
        struct t_image img;
        struct stage st;

        t_open_on_memory(&st, &img);
        uext4_get_stats(st.m.fs, &before);
        t_queue_writes(&st, 64, 4096, RWF_DSYNC);
        uext4_get_stats(st.m.fs, &after);
        assert_int_equal(after.commits - before.commits, 1);
        assert_int_equal(after.conversions - before.conversions, 64);
        assert_int_equal(after.finish_batches - before.finish_batches, 1);
        assert_int_equal(after.lock_restarts, before.lock_restarts); /* C4: shared */
        t_close_on_memory(&st, &img);
}

/* ---- neighbours that are reaped together ---- */

#define NR_NEIGHBOURS 16

/* A block each, forwards or backwards; how many were written. */
static unsigned t_queue_neighbours(struct stage *st, bool backwards)
{
        struct uext4_completion done[NR_NEIGHBOURS];
        struct uext4_request reqs[NR_NEIGHBOURS];
        const struct iovec iov = {st->buf, 4096};
        unsigned nr_written = 0;

        for (unsigned i = 0; i < NR_NEIGHBOURS; i++)
                reqs[i] = (struct uext4_request){
                        .op = UEXT4_WRITE,
                        .file = st->file,
                        .iov = &iov,
                        .nr_iov = 1,
                        .pos = (backwards ? NR_NEIGHBOURS - 1 - i : i) * 4096u};
        assert_int_equal(uext4_queue_submit(st->queue, reqs, NR_NEIGHBOURS), NR_NEIGHBOURS);
        assert_int_equal(uext4_queue_wait(st->queue, done, NR_NEIGHBOURS, NR_NEIGHBOURS, -1),
                         NR_NEIGHBOURS);
        for (unsigned i = 0; i < NR_NEIGHBOURS; i++)
                nr_written += done[i].result == 4096;
        return nr_written;
}

static void neighbours_are_one_change_of_the_map_C16(void **state)
{
        for (int backwards = 0; backwards < 2; backwards++) {
                struct ext4_inode *inode;
                struct t_image img;
                struct stage st;
                uint64_t seq;

                t_open_on_memory(&st, &img);
                inode = ext4_inode_of((void *)uext4_file_inode(st.file));
                seq = ext4_es_seq(&inode->es);
                assert_int_equal(t_queue_neighbours(&st, backwards), NR_NEIGHBOURS);
                assert_int_equal(ext4_es_seq(&inode->es) - seq, 1);
                t_assert_bytes(&st, 0, NR_NEIGHBOURS * 4096, 'x');
                t_assert_bytes(&st, NR_NEIGHBOURS * 4096, 4096, 0);
                t_close_on_memory(&st, &img);
        }
}

/* ---- kinds of requests ---- */

static void large_write_into_a_hole_is_several_allocations_B13(void **state)
{
        struct uext4_stats s;
        struct stage st;
        uint8_t *mem = t_alloc(12 << 20);
        const struct iovec iov = {mem, 12 << 20};

        t_open(&st, EXT4_1K, 40 << 20, O_DIRECT);
        assert_int_equal(uext4_truncate(st.file, 12 << 20), 0);
        memset(mem, 'y', 12 << 20);
        assert_int_equal(uext4_pwritev2(st.file, &iov, 1, 0, 0), 12 << 20);
        uext4_get_stats(st.m.fs, &s);
        assert_true(s.allocations >= 3); /* 4096 blocks each */
        t_assert_bytes(&st, 0, 12 << 20, 'y');
        t_close(&st);
        free(mem);
}

static void misaligned_is_an_error_and_no_fallback_B27(void **state)
{
        struct uext4_stats s;
        struct stage st;

        t_open(&st, EXT4_4K, 24 << 20, O_DIRECT);
        assert_int_equal(t_write(&st, 100, 512, 0), -EINVAL);
        assert_int_equal(t_write(&st, 0, 100, 0), -EINVAL);
        uext4_get_stats(st.m.fs, &s);
        assert_int_equal(s.buffered_writes, 0);
        assert_int_equal(s.device_writes, 0);
        assert_int_equal(t_size(&st), 0);
        t_close(&st);
}

static void nowait_does_it_at_once_or_not_at_all_C9(void **state)
{
        struct stage st;

        t_open(&st, EXT4_4K, 24 << 20, O_DIRECT);
        assert_int_equal(t_write(&st, 0, 4096, RWF_NOWAIT), -EAGAIN); /* extends */
        t_must_write(&st, 0, 4096, 0);
        assert_int_equal(uext4_truncate(st.file, 65536), 0);
        assert_int_equal(t_write(&st, 8192, 4096, RWF_NOWAIT), -EAGAIN); /* hole */
        assert_int_equal(t_write(&st, 0, 8192, RWF_NOWAIT), -EAGAIN);    /* two mappings */
        assert_int_equal(t_write(&st, 0, 4096, RWF_NOWAIT), 4096);
        assert_int_equal(uext4_fallocate(st.file, 0, 8192, 8192), 0);
        assert_int_equal(t_write(&st, 8192, 512, RWF_NOWAIT), -EAGAIN); /* part of a block */
        assert_int_equal(t_write(&st, 12288, 4096, RWF_NOWAIT), 4096);
        assert_int_equal(t_write(&st, 0, 4096, RWF_APPEND | RWF_NOWAIT), -EAGAIN);
        assert_int_equal(t_size(&st), 65536);
        t_close(&st);
}

static void nowait_does_not_wait_for_the_lock_B33(void **state)
{
        struct vfs_inode *inode;
        struct stage st;

        t_open(&st, EXT4_4K, 24 << 20, O_DIRECT);
        t_must_write(&st, 0, 4096, 0);
        inode = &((struct ext4_inode *)(void *)uext4_file_inode(st.file))->vfs;
        rwsem_write_lock(&inode->lock);
        assert_int_equal(t_write(&st, 0, 4096, RWF_NOWAIT), -EAGAIN);
        rwsem_write_unlock(&inode->lock);
        rwsem_read_lock(&inode->lock);
        assert_int_equal(t_write(&st, 0, 4096, RWF_NOWAIT), 4096); /* C2: shared */
        assert_int_equal(t_write(&st, 4096, 4096, RWF_NOWAIT), -EAGAIN);
        rwsem_read_unlock(&inode->lock);
        t_close(&st);
}

static void flags_that_do_not_exist_are_refused_C52(void **state)
{
        struct stage st;

        t_open(&st, EXT4_4K, 24 << 20, O_DIRECT);
        assert_int_equal(t_write(&st, 0, 4096, 0x40 /* RWF_ATOMIC */), -EOPNOTSUPP);
        assert_int_equal(t_write(&st, 0, 4096, 1 << 30), -EOPNOTSUPP);
        assert_int_equal(t_write(&st, INT64_MAX - 4095, 4096, 0), -EFBIG);
        assert_int_equal(t_write(&st, 1ull << 62, 4096, 0), -EFBIG);
        assert_int_equal(t_write(&st, 0, 0, 0), 0);
        t_close(&st);
}

/* One request of the queue, and its result. */
static int64_t t_fixed(struct stage *st, enum uext4_req_op op, const struct iovec *iov,
                       uint32_t buffer, uint32_t options)
{
        const struct uext4_request req = {.op = op,
                                          .file = st->file,
                                          .iov = iov,
                                          .nr_iov = 1,
                                          .options = options,
                                          .buffer = buffer};
        struct uext4_completion c;

        assert_int_equal(uext4_queue_submit(st->queue, &req, 1), 1);
        assert_int_equal(uext4_queue_wait(st->queue, &c, 1, 1, -1), 1);
        return c.result;
}

static void registered_buffers_go_down_with_requests(void **state)
{
        struct uext4_bdev_trace_entry last;
        struct iovec buffers[2], iov;
        struct stage st;

        t_open(&st, EXT4_4K, 24 << 20, O_DIRECT);
        t_must_write(&st, 0, 65536, 0);
        buffers[0] = (struct iovec){st.buf, 65536};
        buffers[1] = (struct iovec){st.buf + 131072, 65536};
        iov = (struct iovec){st.buf + 4096, 8192};
        assert_int_equal(t_fixed(&st, UEXT4_WRITE, &iov, 0, UEXT4_REQ_FIXED), -EINVAL);
        assert_int_equal(uext4_queue_register(st.queue, buffers, 0), -EINVAL);
        assert_int_equal(uext4_queue_register(st.queue, buffers, 2), 0);
        assert_int_equal(uext4_queue_register(st.queue, buffers, 2), -EBUSY);
        memset(iov.iov_base, 'f', iov.iov_len);
        uext4_bdev_trace_reset(st.dev);
        assert_int_equal(t_fixed(&st, UEXT4_WRITE, &iov, 0, UEXT4_REQ_FIXED), 8192);
        assert_int_equal(uext4_bdev_trace_list(st.dev, &last, 1), 1);
        assert_int_equal(last.flags, UEXT4_BDEV_FIXED);
        assert_int_equal(t_fixed(&st, UEXT4_WRITE, &iov, 0, 1u << 7), -EINVAL);
        assert_int_equal(t_fixed(&st, UEXT4_WRITE, &iov, 1, UEXT4_REQ_FIXED), -EINVAL);
        assert_int_equal(t_fixed(&st, UEXT4_WRITE, &iov, 2, UEXT4_REQ_FIXED), -EINVAL);
        iov.iov_base = st.buf + 131072;
        assert_int_equal(t_fixed(&st, UEXT4_READ, &iov, 1, UEXT4_REQ_FIXED), 8192);
        assert_memory_equal(st.buf + 131072, st.buf + 4096, 8192);
        assert_int_equal(uext4_queue_unregister(st.queue), 0);
        assert_int_equal(t_fixed(&st, UEXT4_READ, &iov, 1, UEXT4_REQ_FIXED), -EINVAL);
        assert_int_equal(t_fixed(&st, UEXT4_READ, &iov, 1, 0), 8192);
        t_close(&st);
}

/* Its requests would go to the device of the queue. */
static void a_file_of_another_mount_is_refused(void **state)
{
        const struct iovec iov = {NULL, 0};
        struct stage st, other;

        t_open(&st, EXT4_4K, 24 << 20, O_DIRECT);
        t_open(&other, EXT4_4K, 24 << 20, O_DIRECT);
        for (enum uext4_req_op op = UEXT4_READ; op <= UEXT4_WRITE; op++) {
                const struct uext4_request req = {
                        .op = op, .file = other.file, .iov = &iov, .nr_iov = 1};
                struct uext4_completion c;

                assert_int_equal(uext4_queue_submit(st.queue, &req, 1), 1);
                assert_int_equal(uext4_queue_wait(st.queue, &c, 1, 1, -1), 1);
                assert_int_equal(c.result, -EXDEV);
        }
        t_close(&other);
        t_close(&st);
}

static void append_goes_to_the_end(void **state)
{
        struct stage st;

        t_open(&st, EXT4_4K, 24 << 20, O_APPEND);
        t_must_write(&st, 5000, 700, 0);
        t_must_write(&st, 0, 4000, 0);
        assert_int_equal(t_size(&st), 4700);
        t_close(&st);
}

/* ---- neighbours ---- */

static void t_submit_one(struct stage *st, struct uext4_request *req, struct iovec *iov,
                         uint64_t pos, uint64_t len)
{
        *iov = (struct iovec){st->buf, len};
        *req = (struct uext4_request){
                .op = UEXT4_WRITE, .file = st->file, .iov = iov, .nr_iov = 1, .pos = pos};
        assert_int_equal(uext4_queue_submit(st->queue, req, 1), 1);
}

/* "write offset 4608 expected 4096 got 512": parts of one block that nobody has written. */
static void unaligned_writes_do_not_zero_a_neighbour_B36(void **state)
{
        static const uint64_t order[] = {4608, 4096, 7680, 5120, 6656};
        struct uext4_completion done[8];
        struct uext4_request reqs[8];
        struct iovec iov[8];
        struct stage st;

        t_open(&st, EXT4_4K, 24 << 20, O_DIRECT);
        assert_int_equal(uext4_truncate(st.file, 65536), 0);
        for (unsigned i = 0; i < ARRAY_LEN(order); i++)
                t_submit_one(&st, &reqs[i], &iov[i], order[i], 512);
        assert_int_equal(uext4_queue_wait(st.queue, done, 5, 8, -1), 5);
        for (unsigned i = 0; i < ARRAY_LEN(order); i++) {
                assert_int_equal(done[i].result, 512);
                t_assert_bytes(&st, order[i], 512, 'x');
        }
        t_assert_bytes(&st, 5632, 1024, 0);
        t_assert_bytes(&st, 7168, 512, 0);
        t_assert_bytes(&st, 8192, 4096, 0);
        t_close(&st);
}

/* A whole block is under way, on the device but not converted, when a part of it is written:
 * zeros around that would be the end of the rest. */
static void part_of_a_block_waits_for_the_whole_C5(void **state)
{
        struct uext4_completion done;
        struct uext4_request req;
        struct t_image img;
        struct iovec iov;
        struct stage st;

        t_open_on_memory(&st, &img);
        t_submit_one(&st, &req, &iov, 4096, 4096);
        t_must_write(&st, 4608, 512, 0);
        assert_int_equal(uext4_queue_wait(st.queue, &done, 1, 1, -1), 1);
        assert_int_equal(done.result, 4096);
        t_assert_bytes(&st, 4096, 4096, 'x');
        t_close_on_memory(&st, &img);
}

static void truncation_waits_for_requests_C11(void **state)
{
        struct uext4_completion done;
        struct uext4_request req;
        struct iovec iov;
        struct stage st;

        t_open(&st, EXT4_4K, 24 << 20, O_DIRECT);
        assert_int_equal(uext4_fallocate(st.file, 0, 0, 65536), 0);
        t_submit_one(&st, &req, &iov, 32768, 8192);
        assert_int_equal(uext4_truncate(st.file, 0), 0);
        assert_int_equal(uext4_queue_wait(st.queue, &done, 1, 1, 0), 1); /* is there already */
        assert_int_equal(done.result, 8192);
        assert_int_equal(t_blocks(&st), 0);
        t_close(&st);
}

/* Closing, and freeing the queue, with requests that are not fetched or not even over. */
static void close_waits_for_requests(void **state)
{
        struct uext4_request reqs[2];
        struct iovec iov[2];
        struct stage st;

        t_open(&st, EXT4_4K, 24 << 20, O_DIRECT);
        assert_int_equal(uext4_fallocate(st.file, 0, 0, 65536), 0);
        t_submit_one(&st, &reqs[0], &iov[0], 0, 4096);
        uext4_close(st.file);
        assert_int_equal(uext4_open_path(st.m.fs, "/file", O_RDWR | O_DIRECT, &st.file), 0);
        t_assert_bytes(&st, 0, 4096, 'x');
        t_submit_one(&st, &reqs[1], &iov[1], 8192, 4096);
        t_close(&st); /* frees the queue first */
}

/* ---- the end of the file ---- */

/* Whatever is behind the end in the last block, a file that grows must not show it. */
static void old_tail_is_zeroed_C23(void **state)
{
        static const struct {
                const char *name;
                uint64_t pos, len;
                int flags;
        } rows[] = {
                {"direct, further on", 8192, 4096, O_DIRECT},
                {"direct, in the block", 2048, 512, O_DIRECT},
                {"direct, over the end", 0, 1536, O_DIRECT},
                {"buffered, further on", 9000, 100, 0},
                {"buffered, in the block", 2000, 10, 0},
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                uint64_t end = rows[i].pos + rows[i].len;
                struct fiemap_extent fe;
                struct stage st;
                char *junk;

                t_open(&st, EXT4_4K, 24 << 20, rows[i].flags);
                if (rows[i].flags)
                        t_must_write(&st, 0, 1024, RWF_DSYNC);
                else
                        t_must_write(&st, 0, 1000, RWF_DSYNC);
                assert_int_equal(uext4_fiemap(st.file, 0, 1, &fe, 1), 1);
                junk = t_alloc(4096);
                memset(junk, 'j', 4096);
                memset(junk, 'x', 1000);
                t_end(&st); /* somebody else has the image meanwhile */
                assert_int_equal(uext4_bdev_write(st.dev, junk, 4096, fe.fe_physical, 0), 0);
                t_begin(&st, rows[i].flags);
                t_must_write(&st, rows[i].pos, rows[i].len, 0);
                assert_int_equal(uext4_fdatasync(st.file), 0);
                /* On the device, too, for others who read it. */
                assert_int_equal(uext4_bdev_read(st.dev, junk, 4096, fe.fe_physical), 0);
                for (uint64_t n = max_t(uint64_t, end, 1536); n < 4096; n++)
                        assert_int_equal(junk[n], rows[i].pos == 2048 && n < end ? 'x' : 0);
                assert_int_equal(uext4_truncate(st.file, 20480), 0);
                if (rows[i].pos > 1024) {
                        t_assert_bytes(&st, 1536, min_t(uint64_t, rows[i].pos, 4096) - 1536, 0);
                }
                t_assert_bytes(&st, rows[i].pos, rows[i].len, 'x');
                if (end % 512 == 0)
                        t_assert_bytes(&st, end, 20480 - end, 0);
                free(junk);
                t_close(&st);
        }
}

/* ---- errors ---- */

static void t_fail_data_writes(struct stage *st, uint64_t skip, uint64_t count)
{
        const struct uext4_bdev_fault rule = {
                .ops = 1u << UEXT4_BDEV_WRITE, .skip = skip, .count = count, .error = -EIO};

        assert_int_equal(uext4_bdev_fault_add(st->fault, &rule), 0);
}

static void failed_extending_write_leaves_the_old_file_B41(void **state)
{
        struct stage st;
        uint64_t blocks;

        t_open(&st, EXT4_4K, 24 << 20, O_DIRECT);
        t_must_write(&st, 0, 4096, RWF_DSYNC);
        blocks = t_blocks(&st);
        t_fail_data_writes(&st, 0, 1);
        assert_int_equal(t_write(&st, 4096, 65536, 0), -EIO);
        assert_int_equal(t_size(&st), 4096);
        assert_int_equal(t_blocks(&st), blocks);
        assert_false(ext4_is_orphan((void *)uext4_file_inode(st.file)));
        t_must_write(&st, 4096, 65536, 0);
        assert_false(ext4_is_orphan((void *)uext4_file_inode(st.file)));
        assert_int_equal(t_size(&st), 69632);
        t_close(&st);
}

static void failed_write_into_space_converts_nothing_B40(void **state)
{
        struct stage st;

        t_open(&st, EXT4_4K, 24 << 20, O_DIRECT);
        assert_int_equal(uext4_fallocate(st.file, 0, 0, 65536), 0);
        t_fail_data_writes(&st, 0, 1);
        assert_int_equal(t_write(&st, 4096, 8192, 0), -EIO);
        t_assert_bytes(&st, 0, 65536, 0);
        t_close(&st);
}

static void failed_request_of_a_batch_converts_nothing_C32(void **state)
{
        struct uext4_completion done;
        struct uext4_request req;
        struct iovec iov;
        struct stage st;

        t_open(&st, EXT4_4K, 24 << 20, O_DIRECT);
        assert_int_equal(uext4_fallocate(st.file, 0, 0, 65536), 0);
        t_fail_data_writes(&st, 0, 1);
        t_submit_one(&st, &req, &iov, 4096, 8192);
        assert_int_equal(uext4_queue_wait(st.queue, &done, 1, 1, -1), 1);
        assert_int_equal(done.result, -EIO);
        t_assert_bytes(&st, 0, 65536, 0);
        t_close(&st);
}

/* Its neighbours on both sides are written. */
static void failed_request_between_others_stays_unwritten_B40(void **state)
{
        struct fiemap_extent found[4];
        struct stage st;

        t_open(&st, EXT4_4K, 24 << 20, O_DIRECT);
        assert_int_equal(uext4_fallocate(st.file, 0, 0, NR_NEIGHBOURS * 4096), 0);
        assert_int_equal(uext4_fsync(st.file), 0);
        t_fail_data_writes(&st, 5, 1);
        assert_int_equal(t_queue_neighbours(&st, false), NR_NEIGHBOURS - 1);
        assert_int_equal(uext4_fiemap(st.file, 0, 1 << 20, found, ARRAY_LEN(found)), 3);
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(!!(found[i].fe_flags & FIEMAP_EXTENT_UNWRITTEN), i == 1);
        assert_int_equal(found[1].fe_logical, 5 * 4096);
        assert_int_equal(found[1].fe_length, 4096);
        t_close(&st);
}

static void space_that_was_just_freed_is_found_B16(void **state)
{
        struct statvfs s;
        struct stage st;

        t_open(&st, EXT4_1K, 12 << 20, O_DIRECT);
        assert_int_equal(uext4_statfs(st.m.fs, &s), 0);
        assert_int_equal(uext4_fallocate(st.file, 0, 0, (s.f_bavail - 200) * s.f_frsize), 0);
        assert_int_equal(uext4_fsync(st.file), 0);
        assert_int_equal(uext4_truncate(st.file, 0), 0);
        t_must_write(&st, 0, 1 << 20, 0); /* the freed blocks are not durable yet */
        t_must_write(&st, 1 << 20, 1 << 20, 0);
        t_close(&st);
}

static void full_device_gives_a_short_count(void **state)
{
        struct statvfs s;
        struct stage st;

        t_open(&st, EXT4_1K " -m 0", 12 << 20, O_DIRECT);
        assert_int_equal(uext4_statfs(st.m.fs, &s), 0);
        assert_int_equal(uext4_fallocate(st.file, FALLOC_FL_KEEP_SIZE, 1 << 30,
                                         (s.f_bavail - 300) * s.f_frsize),
                         0);
        for (;;) {
                int64_t ret = t_write(&st, t_size(&st), 1 << 20, 0);

                if (ret == -ENOSPC)
                        break;
                assert_in_range(ret, 1, 1 << 20);
        }
        assert_true(t_size(&st) > 0);
        t_assert_bytes(&st, 0, t_size(&st), 'x');
        t_close(&st);
}

/* Another file gets all there is. */
static void t_fill_device(struct stage *st)
{
        struct uext4_inode *root, *inode;
        struct uext4_file *file;
        uint64_t pos = 0;
        int ret;

        assert_int_equal(uext4_resolve(st->m.fs, "/", 0, &root), 0);
        assert_int_equal(uext4_create(root, "rest", 4, 0644, &inode), 0);
        assert_int_equal(uext4_open(inode, O_RDWR, &file), 0);
        for (uint64_t len = 16 << 20; len >= BLOCK; pos += ret == 0 ? len : 0) {
                ret = uext4_fallocate(file, 0, pos, len);
                assert_true(ret == 0 || ret == -ENOSPC);
                len >>= ret == 0 ? 0 : 1;
        }
        uext4_close(file);
        uext4_inode_put(inode);
        uext4_inode_put(root);
}

/* An extent would have to be cut in two, and there is no block for a node of the tree. */
static void insertion_without_space_changes_nothing(void **state)
{
        struct fiemap_extent found[8];
        struct stage st;

        t_open(&st, EXT4_4K " -m 0", 24 << 20, O_DIRECT);
        for (unsigned i = 0; i < 4; i++)
                t_must_write(&st, i * 3 * BLOCK, 2 * BLOCK, 0);
        t_fill_device(&st);
        assert_int_equal(uext4_fallocate(st.file, FALLOC_FL_INSERT_RANGE, BLOCK, BLOCK),
                         -ENOSPC);
        assert_int_equal(t_size(&st), 11 * BLOCK);
        t_end(&st); /* what is remembered of the map may be in more pieces than the map */
        t_begin(&st, O_DIRECT);
        assert_int_equal(uext4_fiemap(st.file, 0, 1 << 20, found, ARRAY_LEN(found)), 4);
        for (unsigned i = 0; i < 4; i++) {
                assert_int_equal(found[i].fe_logical, i * 3 * BLOCK);
                t_assert_bytes(&st, i * 3 * BLOCK, 2 * BLOCK, 'x');
        }
        t_close(&st);
}

/* ---- other files ---- */

static void ext3_holes_are_written_buffered_R1(void **state)
{
        struct uext4_stats s;
        struct stage st;

        t_open(&st, EXT3_1K, 12 << 20, O_DIRECT);
        t_must_write(&st, 0, 4096, 0);
        assert_int_equal(uext4_truncate(st.file, 65536), 0);
        t_must_write(&st, 3072, 0xc00, 0); /* part direct, part not: all of it counts */
        t_must_write(&st, 32256, 512, RWF_DSYNC);
        uext4_get_stats(st.m.fs, &s);
        assert_int_equal(s.fallback_hole, 2);
        t_assert_bytes(&st, 0, 6144, 'x');
        t_assert_bytes(&st, 6144, 32256 - 6144, 0);
        t_assert_bytes(&st, 32256, 512, 'x');
        t_close(&st);
}

/* R3, C29: the direct bytes count when the rest fails. */
static void failed_fallback_gives_the_direct_count_C29(void **state)
{
        struct stage st;

        t_open(&st, EXT3_1K, 12 << 20, O_DIRECT);
        t_must_write(&st, 0, 2048, 0);
        assert_int_equal(uext4_truncate(st.file, 65536), 0);
        t_fail_data_writes(&st, 1, 1);
        assert_int_equal(t_write(&st, 1024, 4096, 0), 1024);
        t_assert_bytes(&st, 0, 2048, 'x');
        t_assert_bytes(&st, 2048, 63488, 0);
        assert_int_equal(uext4_fsync(st.file), -EIO); /* of the rest */
        t_close(&st);
}

static void fsync_without_a_journal_stores_the_inode_C59(void **state)
{
        struct uext4_bdev_sim_survivor none = {.mode = UEXT4_BDEV_SIM_NONE};
        struct uext4_file *file;
        struct uext4_bdev *dev;
        struct rig_mount m;
        uint8_t got[8192];
        struct stage st;
        char *image;

        t_open(&st, NOJOURNAL_4K, 24 << 20, O_DIRECT);
        t_must_write(&st, 0, 4096, 0);
        assert_int_equal(uext4_fsync(st.file), 0);
        t_must_write(&st, 4096, 4096, RWF_DSYNC); /* B48: the sync of a write */
        image = t_alloc(st.size);
        assert_int_equal(uext4_bdev_sim_survivor(st.sim, &none, image), 0);
        assert_int_equal(uext4_bdev_open_buffer(image, st.size, UEXT4_BDEV_OPEN_READONLY, &dev),
                         0);
        assert_int_equal(rig_mount(&m, dev, "ro"), 0);
        assert_int_equal(uext4_open_path(m.fs, "/file", O_RDONLY, &file), 0);
        assert_int_equal(uext4_pread(file, got, sizeof(got), 0), 8192);
        assert_memory_equal(got, st.buf, 8192);
        uext4_close(file);
        assert_int_equal(rig_unmount(&m), 0);
        uext4_bdev_close(dev);
        free(image);
        t_close(&st);
}

static void unlinked_file_is_written_and_goes_B42(void **state)
{
        struct uext4_inode *root;
        struct stage st;

        t_open(&st, EXT4_4K, 24 << 20, O_DIRECT);
        t_must_write(&st, 0, 4096, 0);
        assert_int_equal(uext4_inode_get(st.m.fs, UEXT4_ROOT_INO, 0, &root), 0);
        assert_int_equal(uext4_unlink(root, "file", 4), 0);
        uext4_inode_put(root);
        t_must_write(&st, 4096, 65536, RWF_DSYNC);
        assert_true(ext4_is_orphan((void *)uext4_file_inode(st.file)));
        t_assert_bytes(&st, 0, 69632, 'x');
        t_close(&st);
}

static void times_are_those_of_the_last_write(void **state)
{
        struct uext4_stat before, after;
        struct timespec nap = {.tv_nsec = 20000000};
        struct stage st;

        t_open(&st, EXT4_4K, 24 << 20, O_DIRECT);
        t_must_write(&st, 0, 4096, 0);
        assert_int_equal(uext4_stat(uext4_file_inode(st.file), &before), 0);
        nanosleep(&nap, NULL);
        t_must_write(&st, 0, 4096, 0);
        assert_int_equal(uext4_stat(uext4_file_inode(st.file), &after), 0);
        assert_true(after.mtime.tv_sec > before.mtime.tv_sec ||
                    after.mtime.tv_nsec > before.mtime.tv_nsec);
        assert_int_equal(after.ctime.tv_nsec, after.mtime.tv_nsec);
        uext4_close(st.file); /* stores them */
        uext4_queue_free(st.queue);
        assert_int_equal(rig_unmount(&st.m), 0);
        assert_int_equal(rig_mount(&st.m, st.dev, RIG_OPTIONS), 0);
        assert_int_equal(uext4_open_path(st.m.fs, "/file", O_RDWR | O_DIRECT, &st.file), 0);
        assert_int_equal(uext4_stat(uext4_file_inode(st.file), &before), 0);
        assert_int_equal(before.mtime.tv_nsec, after.mtime.tv_nsec);
        assert_int_equal(uext4_queue_new(st.m.fs, DEPTH, &st.queue), 0);
        t_close(&st);
}

/* The superblock learns of it with the size; revision 0 has no features. */
static void the_first_file_of_2_gib_is_a_feature(void **state)
{
        static const struct {
                const char *mkfs;
                int want;
        } rows[] = {{"-b 4096 -I 256 -N 64 -O none,ext_attr,filetype,extent,metadata_csum", 0},
                    {"-b 4096 -N 64 -O none,sparse_super", 0},
                    {"-b 4096 -N 64 -r 0 -O none", -EFBIG}};

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                const struct ext4_super_block *sb;
                uint8_t bytes[4096] __attribute__((aligned(4096)));
                struct iovec iov = {bytes, sizeof(bytes)};
                struct stage st;

                t_open(&st, rows[i].mkfs, 4 << 20, 0);
                for (unsigned n = 0; n < 2; n++) /* the second time it is there */
                        assert_int_equal(uext4_truncate(st.file, (3ull + n) << 30),
                                         rows[i].want);
                assert_int_equal(uext4_truncate(st.file, (2ull << 30) - 1), 0);
                assert_int_equal(uext4_syncfs(st.m.fs), 0);
                assert_int_equal(uext4_bdev_readv(st.dev, &iov, 1, 0), 0);
                sb = (const void *)(bytes + EXT4_SUPER_OFFSET);
                assert_int_equal(
                        !(le32_get(sb->s_feature_ro_compat) & EXT4_RO_COMPAT_LARGE_FILE),
                        rows[i].want < 0);
                t_close(&st);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_first_file_of_2_gib_is_a_feature),
                cmocka_unit_test(overwrite_is_one_request_C44),
                cmocka_unit_test(overwrite_takes_no_memory_C44),
                cmocka_unit_test(dsync_overwrite_is_one_fua_write_B7),
                cmocka_unit_test(dsync_overwrite_waits_for_its_map_B5),
                cmocka_unit_test(fdatasync_of_a_clean_file_costs_nothing_B49),
                cmocka_unit_test(dsync_append_is_one_commit_B38),
                cmocka_unit_test(requests_reaped_together_are_one_commit_C16),
                cmocka_unit_test(neighbours_are_one_change_of_the_map_C16),
                cmocka_unit_test(large_write_into_a_hole_is_several_allocations_B13),
                cmocka_unit_test(misaligned_is_an_error_and_no_fallback_B27),
                cmocka_unit_test(nowait_does_it_at_once_or_not_at_all_C9),
                cmocka_unit_test(nowait_does_not_wait_for_the_lock_B33),
                cmocka_unit_test(flags_that_do_not_exist_are_refused_C52),
                cmocka_unit_test(registered_buffers_go_down_with_requests),
                cmocka_unit_test(a_file_of_another_mount_is_refused),
                cmocka_unit_test(append_goes_to_the_end),
                cmocka_unit_test(unaligned_writes_do_not_zero_a_neighbour_B36),
                cmocka_unit_test(part_of_a_block_waits_for_the_whole_C5),
                cmocka_unit_test(truncation_waits_for_requests_C11),
                cmocka_unit_test(close_waits_for_requests),
                cmocka_unit_test(old_tail_is_zeroed_C23),
                cmocka_unit_test(failed_extending_write_leaves_the_old_file_B41),
                cmocka_unit_test(failed_write_into_space_converts_nothing_B40),
                cmocka_unit_test(failed_request_of_a_batch_converts_nothing_C32),
                cmocka_unit_test(failed_request_between_others_stays_unwritten_B40),
                cmocka_unit_test(space_that_was_just_freed_is_found_B16),
                cmocka_unit_test(full_device_gives_a_short_count),
                cmocka_unit_test(insertion_without_space_changes_nothing),
                cmocka_unit_test(ext3_holes_are_written_buffered_R1),
                cmocka_unit_test(failed_fallback_gives_the_direct_count_C29),
                cmocka_unit_test(fsync_without_a_journal_stores_the_inode_C59),
                cmocka_unit_test(unlinked_file_is_written_and_goes_B42),
                cmocka_unit_test(times_are_those_of_the_last_write),
        };

        cmocka_set_test_filter(getenv("UEXT4_TEST"));
        return cmocka_run_group_tests_name("write", tests, NULL, NULL);
}
