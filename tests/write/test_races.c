/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Who meets whom in the middle: one thread is stopped at a known place, on its way to the
 * device (held.h) or before its request is finished, and another one comes along.
 *
 * "It waits" is never judged by the clock: the other thread has been seen to wait, at the lock
 * or for the requests under way.
 */

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../change/rig.h"
#include "held.h"

#define EXT4_4K                                                                              \
        "-b 4096 -I 256 -J size=4 -O has_journal,extents,huge_file,flex_bg,64bit,dir_nlink," \
        "extra_isize,metadata_csum"

#define BLOCK 4096u
#define DEPTH 16

#ifndef FALLOC_FL_WRITE_ZEROES
#define FALLOC_FL_WRITE_ZEROES 0x80
#endif

/* ---- the stage ---- */

/* Where the gate of a stage is. */
enum place {
        NOWHERE,
        DATA_WRITE,   /* before the user's data goes to the device, synchronously */
        DATA_WRITTEN, /* behind that */
        FLUSH,        /* before a flush */
        FINISH,       /* before requests that were reaped are finished */
};

struct race {
        struct t_image img;
        struct uext4_bdev *dev; /* held.h, with something volatile */
        struct rig_mount m;
        struct uext4_file *direct, *buffered;
        struct ext4_inode *inode;
        struct uext4_queue *queue;
        struct held_gate gate;
        _Atomic int place;
        void (*finish)(struct vfs_super *sb, struct vfs_work *works);
        uint8_t *x, *y, *got; /* 64 KiB each, of 'x' and 'y' */
};

#define BUF_SIZE 65536u

static struct race *the_race; /* finish() has no argument of its own */

static void stop_before_finish(struct vfs_super *sb, struct vfs_work *works)
{
        if (the_race->place == FINISH)
                held_gate_pass(&the_race->gate);
        the_race->finish(sb, works);
}

static bool is_data(const struct race *r, const struct held_io *io)
{
        const uint8_t *mem = io->mem;

        return io->op == UEXT4_BDEV_WRITE && mem >= r->x && mem < r->x + BUF_SIZE;
}

static void stop_at_device(void *arg, enum held_when when, const struct held_io *io)
{
        struct race *r = arg;
        const int place = r->place;

        if ((place == DATA_WRITE && when == HELD_BEFORE && is_data(r, io)) ||
            (place == DATA_WRITTEN && when == HELD_AFTER && is_data(r, io)) ||
            (place == FLUSH && when == HELD_BEFORE && io->op == UEXT4_BDEV_FLUSH))
                held_gate_pass(&r->gate);
}

static void race_open_with(struct race *r, struct uext4_bdev *lower)
{
        *r = (struct race){.dev = held_open(lower), .gate = HELD_GATE};
        the_race = r;
        T_CHECK(rig_mount(&r->m, r->dev, RIG_OPTIONS) == 0);
        r->finish = rig_fs(&r->m)->vfs.finish;
        rig_fs(&r->m)->vfs.finish = stop_before_finish;
        held_set_hook(r->dev, stop_at_device, r);
        T_CHECK(uext4_open_path(r->m.fs, "/file", O_RDWR | O_DIRECT, &r->direct) == 0);
        T_CHECK(uext4_open_path(r->m.fs, "/file", O_RDWR, &r->buffered) == 0);
        T_CHECK(uext4_queue_new(r->m.fs, DEPTH, &r->queue) == 0);
        r->inode = (void *)uext4_file_inode(r->direct);
        T_CHECK(posix_memalign((void **)&r->x, 4096, BUF_SIZE) == 0);
        T_CHECK(posix_memalign((void **)&r->y, 4096, BUF_SIZE) == 0);
        T_CHECK(posix_memalign((void **)&r->got, 4096, BUF_SIZE) == 0);
        memset(r->x, 'x', BUF_SIZE);
        memset(r->y, 'y', BUF_SIZE);
}

static void race_open(struct race *r)
{
        struct t_image img = rig_make(24 << 20, EXT4_4K, NULL, "write /dev/null file\\n");

        race_open_with(r, t_open_sim(&img, 1));
        r->img = img;
}

/* What the device has; and e2fsck is content. */
static void race_close(struct race *r)
{
        uext4_queue_free(r->queue);
        uext4_close(r->direct);
        uext4_close(r->buffered);
        T_CHECK(rig_unmount(&r->m) == 0);
        held_set_hook(r->dev, NULL, NULL);
        T_CHECK(uext4_bdev_read(r->dev, r->img.data, r->img.size, 0) == 0);
        uext4_bdev_close(r->dev);
        rig_must_be_clean(r->img.data, r->img.size);
        t_image_free(&r->img);
        free(r->x);
        free(r->y);
        free(r->got);
}

static void stop_at(struct race *r, enum place place)
{
        held_gate_arm(&r->gate);
        r->place = (int)place;
}

static void race_go(struct race *r)
{
        r->place = NOWHERE;
        held_gate_open(&r->gate);
}

/* ---- another thread ---- */

struct helper {
        struct race *r;
        int64_t (*fn)(struct race *r, const void *arg);
        const void *arg;
        int64_t ret;
        _Atomic bool done;
        pthread_t id;
};

static void *helper_main(void *arg)
{
        struct helper *h = arg;

        h->ret = h->fn(h->r, h->arg);
        h->done = true;
        return NULL;
}

static void start(struct helper *h, struct race *r,
                  int64_t (*fn)(struct race *r, const void *arg), const void *arg)
{
        *h = (struct helper){.r = r, .fn = fn, .arg = arg};
        T_CHECK(pthread_create(&h->id, NULL, helper_main, h) == 0);
}

static int64_t result_of(struct helper *h)
{
        pthread_join(h->id, NULL);
        return h->ret;
}

/* Until somebody sleeps at the inode lock. */
static void wait_for_lock_waiter(struct race *r)
{
        while (!(atomic_load(&r->inode->vfs.lock.state) & RWSEM_WAITERS))
                sched_yield();
}

/* ---- what the threads do ---- */

struct io {
        uint64_t pos, len;
        int flags;
};

static int64_t write_x(struct race *r, const void *arg)
{
        const struct io *io = arg;
        const struct iovec iov = {r->x, io->len};

        return uext4_pwritev2(r->direct, &iov, 1, io->pos, io->flags);
}

static int64_t write_y(struct race *r, const void *arg)
{
        const struct io *io = arg;
        const struct iovec iov = {r->y, io->len};

        return uext4_pwritev2(r->direct, &iov, 1, io->pos, io->flags);
}

static int64_t read_buffered(struct race *r, const void *arg)
{
        const struct io *io = arg;

        return uext4_pread(r->buffered, r->got, io->len, io->pos);
}

static int64_t wait_for_one(struct race *r, const void *arg)
{
        struct uext4_completion done;
        int n = uext4_queue_wait(r->queue, &done, 1, 1, -1);

        return n == 1 ? done.result : -ETIME;
}

static int64_t free_queue(struct race *r, const void *arg)
{
        uext4_queue_free(r->queue);
        r->queue = NULL;
        return 0;
}

static int64_t truncate_to(struct race *r, const void *arg)
{
        const struct io *io = arg;

        return uext4_truncate(r->buffered, io->pos);
}

static void submit_x(struct race *r, struct io io)
{
        static struct iovec iov;
        const struct uext4_request req = {.op = UEXT4_WRITE,
                                          .flags = io.flags,
                                          .file = r->direct,
                                          .iov = &iov,
                                          .nr_iov = 1,
                                          .pos = io.pos};

        iov = (struct iovec){r->x, io.len};
        T_CHECK(uext4_queue_submit(r->queue, &req, 1) == 1);
}

/* ---- what is in the file ---- */

/* As a look-up without any lock sees it. */
static uint64_t size_of(struct race *r)
{
        return vfs_size(&r->inode->vfs);
}

static void assert_bytes(struct race *r, uint64_t pos, uint64_t len, uint8_t want)
{
        for (unsigned way = 0; way < 2; way++) {
                assert_int_equal(uext4_pread(way ? r->direct : r->buffered, r->got, len, pos),
                                 len);
                for (uint64_t i = 0; i < len; i++) {
                        if (r->got[i] != want)
                                fail_msg("byte %llu is %u, not %u",
                                         (unsigned long long)(pos + i), r->got[i], want);
                }
        }
}

static bool is_unwritten(struct race *r, uint64_t pos)
{
        struct fiemap_extent fe;

        assert_int_equal(uext4_fiemap(r->direct, pos, 1, &fe, 1), 1);
        return fe.fe_flags & FIEMAP_EXTENT_UNWRITTEN;
}

static void preallocate(struct race *r, uint64_t len)
{
        assert_int_equal(uext4_fallocate(r->direct, 0, 0, len), 0);
}

/* ---- a reader ---- */

static void reader_sees_zeros_until_blocks_are_converted_B40(void **state)
{
        struct helper h;
        struct race r;

        race_open(&r);
        preallocate(&r, 16 * BLOCK);
        stop_at(&r, FINISH);
        submit_x(&r, (struct io){BLOCK, 2 * BLOCK, 0});
        start(&h, &r, wait_for_one, NULL);
        held_gate_wait(&r.gate); /* the data is on the device */
        assert_bytes(&r, 0, 4 * BLOCK, 0);
        assert_true(is_unwritten(&r, BLOCK));
        assert_int_equal(atomic_load(&r.inode->vfs.dio.nr), 1); /* C12 */
        race_go(&r);
        assert_int_equal(result_of(&h), 2 * BLOCK);
        assert_int_equal(atomic_load(&r.inode->vfs.dio.nr), 0);
        assert_bytes(&r, BLOCK, 2 * BLOCK, 'x');
        assert_false(is_unwritten(&r, BLOCK));
        assert_bytes(&r, 3 * BLOCK, BLOCK, 0);
        race_close(&r);
}

/* Convert, count down, sync, tell. */
static void sync_comes_last_C16(void **state)
{
        struct helper h;
        struct race r;

        race_open(&r);
        preallocate(&r, 16 * BLOCK);
        assert_int_equal(uext4_fsync(r.direct), 0);
        stop_at(&r, FLUSH);
        submit_x(&r, (struct io){BLOCK, BLOCK, RWF_DSYNC});
        start(&h, &r, wait_for_one, NULL);
        held_gate_wait(&r.gate);
        assert_bytes(&r, BLOCK, BLOCK, 'x');
        assert_int_equal(atomic_load(&r.inode->vfs.dio.nr), 0);
        assert_false(h.done);
        race_go(&r);
        assert_int_equal(result_of(&h), BLOCK);
        race_close(&r);
}

/* The size is old until the data is there; who asks for the lock waits, or is told so. */
static void size_moves_behind_the_data_B44(void **state)
{
        static const struct io io = {0, 2 * BLOCK, 0};
        struct helper writer, reader;
        struct iovec iov;
        struct race r;

        for (enum place place = DATA_WRITE; place <= DATA_WRITTEN; place++) {
                race_open(&r);
                iov = (struct iovec){r.y, BLOCK};
                stop_at(&r, place);
                start(&writer, &r, write_x, &io);
                held_gate_wait(&r.gate);
                assert_int_equal(size_of(&r), 0);
                assert_int_equal(uext4_preadv2(r.direct, &iov, 1, 0, RWF_NOWAIT), -EAGAIN);
                assert_int_equal(uext4_pwritev2(r.direct, &iov, 1, 0, RWF_NOWAIT), -EAGAIN);
                start(&reader, &r, read_buffered, &io);
                wait_for_lock_waiter(&r); /* B33: it is exclusive */
                assert_false(reader.done);
                race_go(&r);
                assert_int_equal(result_of(&writer), 2 * BLOCK);
                assert_int_equal(result_of(&reader), 2 * BLOCK);
                assert_bytes(&r, 0, 2 * BLOCK, 'x');
                race_close(&r);
        }
}

/* L4: what is synced has the size already. */
static void size_is_there_before_the_sync_C14(void **state)
{
        static const struct io io = {0, 2 * BLOCK, RWF_DSYNC};
        struct helper writer;
        struct race r;

        race_open(&r);
        stop_at(&r, FLUSH);
        start(&writer, &r, write_x, &io);
        held_gate_wait(&r.gate);
        assert_int_equal(size_of(&r), 2 * BLOCK);
        assert_bytes(&r, 0, 2 * BLOCK, 'x'); /* B48: the lock is free */
        race_go(&r);
        assert_int_equal(result_of(&writer), 2 * BLOCK);
        race_close(&r);
}

/* ---- two writers in one block ---- */

static void parts_of_a_new_block_come_one_by_one_B36(void **state)
{
        static const struct io first = {BLOCK + 512, 512, 0}, second = {BLOCK, 512, 0};
        struct helper a, b;
        struct race r;

        for (unsigned hole = 0; hole < 2; hole++) {
                race_open(&r);
                if (hole)
                        assert_int_equal(uext4_truncate(r.direct, 4 * BLOCK), 0);
                else
                        preallocate(&r, 4 * BLOCK);
                stop_at(&r, DATA_WRITE);
                start(&a, &r, write_x, &first);
                held_gate_wait(&r.gate);
                start(&b, &r, write_y, &second);
                wait_for_lock_waiter(&r);
                assert_false(b.done);
                race_go(&r);
                assert_int_equal(result_of(&a), 512);
                assert_int_equal(result_of(&b), 512);
                assert_bytes(&r, BLOCK, 512, 'y');
                assert_bytes(&r, BLOCK + 512, 512, 'x');
                assert_bytes(&r, BLOCK + 1024, BLOCK - 1024, 0);
                race_close(&r);
        }
}

static void parts_of_a_written_block_go_together_C5(void **state)
{
        static const struct io first = {BLOCK + 512, 512, 0}, second = {BLOCK, 512, 0};
        struct helper a;
        struct race r;

        race_open(&r);
        assert_int_equal(write_y(&r, &(struct io){0, 4 * BLOCK, 0}), 4 * BLOCK);
        stop_at(&r, DATA_WRITE);
        start(&a, &r, write_x, &first);
        held_gate_wait(&r.gate);
        assert_int_equal(write_y(&r, &second), 512);
        assert_false(a.done);
        race_go(&r);
        assert_int_equal(result_of(&a), 512);
        assert_bytes(&r, BLOCK + 512, 512, 'x');
        assert_bytes(&r, BLOCK, 512, 'y');
        race_close(&r);
}

/* A whole block is under way, and not converted, when a part of it comes. */
static void part_waits_for_the_block_under_way_B36(void **state)
{
        static const struct io part = {BLOCK + 512, 512, 0};
        struct uext4_completion done;
        struct helper h;
        struct race r;

        race_open(&r);
        preallocate(&r, 4 * BLOCK);
        held_stop(r.dev);
        submit_x(&r, (struct io){BLOCK, BLOCK, 0});
        start(&h, &r, write_y, &part);
        held_wait_for_waiter(r.dev);
        assert_false(h.done);
        held_go(r.dev);
        assert_int_equal(result_of(&h), 512);
        assert_int_equal(uext4_queue_wait(r.queue, &done, 1, 1, -1), 1);
        assert_int_equal(done.result, BLOCK);
        assert_bytes(&r, BLOCK, 512, 'x');
        assert_bytes(&r, BLOCK + 512, 512, 'y');
        assert_bytes(&r, BLOCK + 1024, BLOCK - 1024, 'x');
        race_close(&r);
}

/* ---- requests under way, and what takes blocks away ---- */

/* Block 2 of a file of eight, all of 'y' where it is written, is being written. */
enum under_way {
        OVERWRITE,
        INTO_SPACE,
        INTO_HOLE,
        NR_UNDER_WAY,
};

struct change {
        const char *name;
        int mode; /* of fallocate; -1: truncate to pos; -2: unlink the name and truncate */
        uint64_t pos, len;
        int64_t x_at; /* where the block is afterwards; -1: nowhere, -2: half of it */
};

static const struct change changes[] = {
        {"truncate to nothing", -1, 0, 0, -1},
        {"truncate before it", -1, 2 * BLOCK, 0, -1},
        {"truncate in it", -1, 2 * BLOCK + 512, 0, -2},
        {"truncate behind it", -1, 20 * BLOCK, 0, 2 * BLOCK},
        {"punch", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, BLOCK, 3 * BLOCK, -1},
        {"punch a part", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2 * BLOCK + 512,
         BLOCK - 512, -2},
        {"zero", FALLOC_FL_ZERO_RANGE, 2 * BLOCK, BLOCK, -1},
        {"zero a part", FALLOC_FL_ZERO_RANGE, 2 * BLOCK + 512, BLOCK - 512, -2},
        {"write zeroes", FALLOC_FL_WRITE_ZEROES, 2 * BLOCK, BLOCK, -1},
        {"collapse it", FALLOC_FL_COLLAPSE_RANGE, 2 * BLOCK, BLOCK, -1},
        {"collapse before it", FALLOC_FL_COLLAPSE_RANGE, 0, BLOCK, BLOCK},
        {"insert before it", FALLOC_FL_INSERT_RANGE, BLOCK, 2 * BLOCK, 4 * BLOCK},
        {"insert there", FALLOC_FL_INSERT_RANGE, 2 * BLOCK, BLOCK, 3 * BLOCK},
};

static int64_t do_change(struct race *r, const void *arg)
{
        const struct change *c = arg;

        if (c->mode == -1)
                return uext4_truncate(r->direct, c->pos);
        return uext4_fallocate(r->direct, c->mode, c->pos, c->len);
}

static void make_eight_blocks(struct race *r, enum under_way kind)
{
        assert_int_equal(uext4_truncate(r->direct, 0), 0);
        assert_int_equal(write_y(r, &(struct io){0, 8 * BLOCK, 0}), 8 * BLOCK);
        if (kind != OVERWRITE)
                assert_int_equal(uext4_fallocate(r->direct,
                                                 FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                                 2 * BLOCK, BLOCK),
                                 0);
        if (kind == INTO_SPACE)
                assert_int_equal(uext4_fallocate(r->direct, 0, 2 * BLOCK, BLOCK), 0);
}

/* There is no 'x' but where it shall be. */
static void check_change(struct race *r, const struct change *c)
{
        const int64_t size = (int64_t)size_of(r);
        const int64_t at = c->x_at == -2 ? 2 * BLOCK : c->x_at;
        const int64_t end = at + (c->x_at == -2 ? 512 : BLOCK);

        assert_int_equal(uext4_pread(r->buffered, r->got, BUF_SIZE, 0),
                         min_t(int64_t, size, BUF_SIZE));
        for (int64_t i = 0; i < size && i < BUF_SIZE; i++) {
                if ((r->got[i] == 'x') != (at >= 0 && i >= at && i < end))
                        fail_msg("%s: byte %lld is %u", c->name, (long long)i, r->got[i]);
        }
        if (c->x_at == -2 && size > 2 * BLOCK + 512)
                assert_int_equal(r->got[2 * BLOCK + 512], 0);
}

static void fetch_x(struct race *r)
{
        struct uext4_completion done;

        assert_int_equal(uext4_queue_wait(r->queue, &done, 1, 1, -1), 1);
        assert_int_equal(done.result, BLOCK);
}

static void changes_wait_for_requests_C11(void **state)
{
        struct helper h;
        struct race r;

        race_open(&r);
        for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
                for (enum under_way kind = 0; kind < NR_UNDER_WAY; kind++) {
                        make_eight_blocks(&r, kind);
                        held_stop(r.dev);
                        submit_x(&r, (struct io){2 * BLOCK, BLOCK, i % 2 ? RWF_DSYNC : 0});
                        assert_int_equal(held_nr(r.dev), 1);
                        start(&h, &r, do_change, &changes[i]);
                        held_wait_for_waiter(r.dev);
                        assert_false(h.done);
                        held_go(r.dev);
                        assert_int_equal(result_of(&h), 0);
                        fetch_x(&r);
                        check_change(&r, &changes[i]);
                }
        }
        race_close(&r);
}

struct meddler {
        struct race *r;
        unsigned nr_zeroed, nr_flushed;
};

/* Somebody syncs the file right before zeros go to the device. */
static void sync_before_zeros(void *arg, enum held_when when, const struct held_io *io)
{
        struct meddler *m = arg;

        if (when == HELD_BEFORE && io->op == UEXT4_BDEV_WRITE_ZEROES && m->nr_zeroed++ == 0)
                T_CHECK(uext4_fdatasync(m->r->buffered) == 0);
        m->nr_flushed += when == HELD_AFTER && io->op == UEXT4_BDEV_FLUSH;
}

/* The flush that comes too early is not taken for the one that zeros need. */
static void zeros_are_flushed_by_who_syncs_afterwards_B49(void **state)
{
        struct meddler m;
        struct race r;

        race_open(&r);
        m = (struct meddler){.r = &r};
        make_eight_blocks(&r, OVERWRITE);
        assert_int_equal(uext4_fsync(r.direct), 0);
        held_set_hook(r.dev, sync_before_zeros, &m);
        assert_int_equal(uext4_fallocate(r.direct, FALLOC_FL_WRITE_ZEROES, 0, 8 * BLOCK), 0);
        assert_int_equal(m.nr_zeroed, 1);
        m.nr_flushed = 0;
        assert_int_equal(uext4_fdatasync(r.direct), 0);
        assert_int_equal(m.nr_flushed, 1);
        race_close(&r);
}

/* The thread that waits is the one that has to drive the queue. */
static void one_thread_submits_and_changes_C11(void **state)
{
        struct race r;

        race_open(&r);
        for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
                for (enum under_way kind = 0; kind < NR_UNDER_WAY; kind++) {
                        make_eight_blocks(&r, kind);
                        held_stop_until_waited(r.dev, 2);
                        submit_x(&r, (struct io){2 * BLOCK, BLOCK, i % 2 ? 0 : RWF_DSYNC});
                        assert_int_equal(do_change(&r, &changes[i]), 0);
                        assert_int_equal(atomic_load(&r.inode->vfs.dio.nr), 0);
                        fetch_x(&r);
                        check_change(&r, &changes[i]);
                }
        }
        race_close(&r);
}

/* What is written through memory takes the rest of its block from the device: from behind the
 * request that is under way to it. */
static void a_buffered_write_waits_for_requests_B45(void **state)
{
        struct race r;
        char b[100];

        memset(b, 'b', sizeof(b));
        race_open(&r);
        for (enum under_way kind = 0; kind < NR_UNDER_WAY; kind++) {
                make_eight_blocks(&r, kind);
                held_stop_until_waited(r.dev, 1);
                submit_x(&r, (struct io){2 * BLOCK, BLOCK, 0});
                assert_int_equal(uext4_pwrite(r.buffered, b, sizeof(b), 2 * BLOCK + 600),
                                 sizeof(b));
                fetch_x(&r);
                assert_int_equal(uext4_fsync(r.direct), 0);
                assert_bytes(&r, 0, 2 * BLOCK, 'y');
                assert_bytes(&r, 2 * BLOCK, 512, 'x');
                assert_int_equal(uext4_pread(r.buffered, r.got, BLOCK, 2 * BLOCK), BLOCK);
                for (unsigned i = 0; i < BLOCK; i++)
                        assert_int_equal(r.got[i], i >= 600 && i < 700 ? 'b' : 'x');
                assert_bytes(&r, 3 * BLOCK, BLOCK, 'y');
        }
        race_close(&r);
}

/* It makes durable what has ended, and nothing else. */
static void fsync_does_not_wait_for_requests_B49(void **state)
{
        struct race r;

        race_open(&r);
        make_eight_blocks(&r, INTO_SPACE);
        held_stop(r.dev);
        submit_x(&r, (struct io){2 * BLOCK, BLOCK, 0});
        assert_int_equal(uext4_fsync(r.direct), 0);
        assert_int_equal(uext4_syncfs(r.m.fs), 0);
        assert_int_equal(held_nr(r.dev), 1);
        held_go(r.dev);
        fetch_x(&r);
        assert_true(vfs_needs_flush(&r.inode->vfs));
        assert_int_equal(uext4_fdatasync(r.direct), 0);
        assert_false(vfs_needs_flush(&r.inode->vfs));
        race_close(&r);
}

static int64_t close_direct(struct race *r, const void *arg)
{
        uext4_close(r->direct);
        r->direct = NULL;
        return 0;
}

static void close_and_unmount_with_requests_under_way(void **state)
{
        struct helper h;
        struct race r;

        race_open(&r);
        make_eight_blocks(&r, INTO_SPACE);
        held_stop(r.dev);
        submit_x(&r, (struct io){2 * BLOCK, BLOCK, RWF_DSYNC});
        assert_int_equal(uext4_unmount(r.m.fs), -EBUSY);
        start(&h, &r, close_direct, NULL);
        held_wait_for_waiter(r.dev);
        assert_false(h.done);
        held_go(r.dev);
        assert_int_equal(result_of(&h), 0);
        fetch_x(&r);
        assert_int_equal(uext4_open_path(r.m.fs, "/file", O_RDWR | O_DIRECT, &r.direct), 0);
        assert_bytes(&r, 2 * BLOCK, BLOCK, 'x');
        race_close(&r);
}

/* A file without a name goes with its last reference, after its requests. */
static void unlinked_file_goes_after_its_requests_B42(void **state)
{
        struct uext4_inode *root;
        struct helper h;
        struct race r;

        race_open(&r);
        make_eight_blocks(&r, INTO_SPACE);
        assert_int_equal(uext4_inode_get(r.m.fs, UEXT4_ROOT_INO, 0, &root), 0);
        assert_int_equal(uext4_unlink(root, "file", 4), 0);
        uext4_inode_put(root);
        uext4_close(r.buffered);
        r.buffered = NULL;
        held_stop(r.dev);
        submit_x(&r, (struct io){2 * BLOCK, BLOCK, 0});
        start(&h, &r, close_direct, NULL);
        held_wait_for_waiter(r.dev);
        held_go(r.dev);
        assert_int_equal(result_of(&h), 0);
        fetch_x(&r);
        race_close(&r);
}

/* ---- who helps ---- */

/* A helper has taken the requests of the queue from the device and is finishing them. */
static void stop_a_helper(struct race *r, struct helper *h)
{
        static const struct io to = {16 * BLOCK, 0, 0};

        preallocate(r, 16 * BLOCK);
        held_stop(r->dev);
        submit_x(r, (struct io){2 * BLOCK, BLOCK, RWF_DSYNC});
        stop_at(r, FINISH);
        start(h, r, truncate_to, &to);
        held_wait_for_waiter(r->dev);
        held_go(r->dev);
        held_gate_wait(&r->gate);
}

static void owner_waits_for_the_helper(void **state)
{
        struct uext4_completion done;
        struct helper helper, owner;
        struct race r;

        race_open(&r);
        stop_a_helper(&r, &helper);
        assert_int_equal(uext4_queue_wait(r.queue, &done, 1, 1, 0), 0);
        assert_int_equal(uext4_queue_wait(r.queue, &done, 1, 1, 1000000), 0);
        start(&owner, &r, wait_for_one, NULL);
        race_go(&r);
        assert_int_equal(result_of(&owner), BLOCK);
        assert_int_equal(result_of(&helper), 0);
        assert_bytes(&r, 2 * BLOCK, BLOCK, 'x');
        race_close(&r);
}

static void queue_goes_after_the_helper(void **state)
{
        struct helper helper, owner;
        struct race r;

        race_open(&r);
        stop_a_helper(&r, &helper);
        start(&owner, &r, free_queue, NULL);
        race_go(&r);
        assert_int_equal(result_of(&owner), 0);
        assert_int_equal(result_of(&helper), 0);
        assert_bytes(&r, 2 * BLOCK, BLOCK, 'x');
        race_close(&r);
}

static int foreign_fd;

/* The lowest number that is free: what has just been closed. */
static void open_another_descriptor(struct vfs_super *sb, struct vfs_work *works)
{
        foreign_fd = eventfd(0, EFD_NONBLOCK);
        the_race->finish(sb, works);
}

/* A queue that goes finishes its requests after its descriptor was closed. */
static void queue_that_goes_signals_nobody_else(void **state)
{
        eventfd_t told;
        struct race r;
        int fd;

        race_open(&r);
        preallocate(&r, 16 * BLOCK);
        fd = uext4_queue_eventfd(r.queue);
        assert_true(fd >= 0);
        submit_x(&r, (struct io){2 * BLOCK, BLOCK, 0});
        rig_fs(&r.m)->vfs.finish = open_another_descriptor;
        uext4_queue_free(r.queue);
        r.queue = NULL;
        assert_int_equal(foreign_fd, fd);
        assert_int_equal(eventfd_read(foreign_fd, &told), -1);
        close(foreign_fd);
        assert_bytes(&r, 2 * BLOCK, BLOCK, 'x');
        race_close(&r);
}

static void file_is_closed_after_the_helper(void **state)
{
        struct uext4_completion done;
        struct helper helper, owner;
        struct race r;

        race_open(&r);
        stop_a_helper(&r, &helper);
        start(&owner, &r, close_direct, NULL);
        race_go(&r);
        assert_int_equal(result_of(&owner), 0);
        assert_int_equal(result_of(&helper), 0);
        assert_int_equal(uext4_queue_wait(r.queue, &done, 1, 1, 0), 1);
        assert_int_equal(done.result, BLOCK);
        race_close(&r);
}

/* ---- NOWAIT ---- */

static int64_t queued_nowait(struct race *r, uint64_t pos, uint64_t len)
{
        submit_x(r, (struct io){pos, len, RWF_NOWAIT});
        return wait_for_one(r, NULL);
}

static void nowait_does_not_meet_anybody_B33(void **state)
{
        static const struct io io = {8 * BLOCK, BLOCK, 0};
        struct uext4_stats before, after;
        struct helper h;
        struct race r;

        race_open(&r);
        make_eight_blocks(&r, INTO_SPACE);
        uext4_get_stats(r.m.fs, &before);
        stop_at(&r, DATA_WRITE);
        start(&h, &r, write_x, &io); /* extends */
        held_gate_wait(&r.gate);
        assert_int_equal(queued_nowait(&r, 0, BLOCK), -EAGAIN);
        assert_int_equal(queued_nowait(&r, 2 * BLOCK, BLOCK), -EAGAIN);
        race_go(&r);
        assert_int_equal(result_of(&h), BLOCK);
        assert_int_equal(queued_nowait(&r, 0, BLOCK), BLOCK);
        assert_int_equal(queued_nowait(&r, 2 * BLOCK + 512, 512), -EAGAIN); /* C9 */
        assert_int_equal(queued_nowait(&r, 2 * BLOCK, BLOCK), BLOCK);
        assert_int_equal(queued_nowait(&r, 2 * BLOCK + 512, 512), 512);
        uext4_get_stats(r.m.fs, &after);
        assert_int_equal(after.nowait_again - before.nowait_again, 3);
        race_close(&r);
}

/* ---- a reader behind an appender ---- */

#define APPEND_MAX (4u << 20)

struct append {
        struct race *r;
        _Atomic bool over;
        _Atomic unsigned nr_there; /* followers that have read something */
};

static void append_all(struct append *a)
{
        static const unsigned lengths[] = {512, 4096, 1536, 8192, 512, 20480};
        uint64_t pos = 0;

        for (unsigned i = 0; pos + BUF_SIZE < APPEND_MAX; i++) {
                const struct io io = {pos, lengths[i % ARRAY_LEN(lengths)],
                                      i % 64 == 63 ? RWF_DSYNC : 0};

                T_CHECK(write_x(a->r, &io) == (int64_t)io.len);
                pos += io.len;
                while (i == 64 && a->nr_there < 2)
                        sched_yield();
        }
        a->over = true;
}

/* Who sees the size sees the data (L3, C13). */
static void follow(struct append *a, struct uext4_file *file)
{
        bool is_there = false;
        uint8_t *mem;

        T_CHECK(posix_memalign((void **)&mem, 4096, 8192) == 0);
        while (!a->over) {
                uint64_t size = size_of(a->r);
                uint64_t pos = size > 8192 ? size - 8192 : 0;
                ssize_t got = uext4_pread(file, mem, 8192, pos);

                T_CHECK(got >= (ssize_t)(size - pos));
                for (ssize_t i = 0; i < got; i++)
                        T_CHECK(mem[i] == 'x');
                a->nr_there += got > 0 && !is_there;
                is_there |= got > 0;
        }
        free(mem);
}

static void append_or_follow(void *arg, unsigned n)
{
        struct append *a = arg;

        if (n == 0)
                append_all(a);
        else
                follow(a, n == 1 ? a->r->direct : a->r->buffered);
}

static void who_sees_the_size_sees_the_data_C13(void **state)
{
        struct race r;
        struct append a = {.r = &r};

        race_open(&r);
        t_run_threads(3, append_or_follow, &a);
        race_close(&r);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(reader_sees_zeros_until_blocks_are_converted_B40),
                cmocka_unit_test(sync_comes_last_C16),
                cmocka_unit_test(size_moves_behind_the_data_B44),
                cmocka_unit_test(size_is_there_before_the_sync_C14),
                cmocka_unit_test(parts_of_a_new_block_come_one_by_one_B36),
                cmocka_unit_test(parts_of_a_written_block_go_together_C5),
                cmocka_unit_test(part_waits_for_the_block_under_way_B36),
                cmocka_unit_test(changes_wait_for_requests_C11),
                cmocka_unit_test(one_thread_submits_and_changes_C11),
                cmocka_unit_test(zeros_are_flushed_by_who_syncs_afterwards_B49),
                cmocka_unit_test(a_buffered_write_waits_for_requests_B45),
                cmocka_unit_test(fsync_does_not_wait_for_requests_B49),
                cmocka_unit_test(close_and_unmount_with_requests_under_way),
                cmocka_unit_test(unlinked_file_goes_after_its_requests_B42),
                cmocka_unit_test(owner_waits_for_the_helper),
                cmocka_unit_test(queue_goes_after_the_helper),
                cmocka_unit_test(queue_that_goes_signals_nobody_else),
                cmocka_unit_test(file_is_closed_after_the_helper),
                cmocka_unit_test(nowait_does_not_meet_anybody_B33),
                cmocka_unit_test(who_sees_the_size_sees_the_data_C13),
        };

        cmocka_set_test_filter(getenv("UEXT4_TEST"));
        return cmocka_run_group_tests_name("write_races", tests, NULL, NULL);
}
