/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The recorder: the bytes of its log, the order of its entries, and that replaying it
 * gives the device.  The reader here knows the format of dm-log-writes by its offsets.
 */
#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "tdev.h"
#include "util/alloc.h"

#define SIZE     (128 * 1024)
#define LOG_SIZE (4 * 1024 * 1024)
#define BLOCK    512

enum {
        FLUSH = 1,
        FUA = 2,
        DISCARD = 4,
        MARK = 8,
};

struct fixture {
        struct uext4_bdev *dev;
        struct uext4_bdev *lower; /* owned by dev */
        char *log;
        char *buf;
        char *image;
};

/* Takes `lower`. */
static struct fixture *record_on(struct uext4_bdev *lower, uint64_t log_size)
{
        struct fixture *fx = calloc(1, sizeof(*fx));
        struct uext4_bdev *log = NULL;

        fx->lower = lower;
        fx->log = t_alloc(LOG_SIZE);
        fx->buf = t_alloc(SIZE);
        fx->image = t_alloc(SIZE);
        memset(fx->log, 0x55, LOG_SIZE);
        assert_int_equal(uext4_bdev_open_buffer(fx->log, log_size, 0, &log), 0);
        assert_int_equal(uext4_bdev_open_record(lower, log, &fx->dev), 0);
        return fx;
}

static struct uext4_bdev *mem(void)
{
        struct uext4_bdev *dev = NULL;

        assert_int_equal(uext4_bdev_open_mem(SIZE, &dev), 0);
        return dev;
}

static struct uext4_bdev *sim(uint32_t logical_block)
{
        const struct uext4_bdev_sim_params params = {
                .size = SIZE, .logical_block = logical_block, .caps = UEXT4_BDEV_CAP_FUA};
        struct uext4_bdev *dev = NULL;

        assert_int_equal(uext4_bdev_open_sim(&params, &dev), 0);
        return dev;
}

static void close_device(struct fixture *fx)
{
        uext4_bdev_close(fx->dev);
        fx->dev = NULL;
}

static void done(struct fixture *fx)
{
        uext4_bdev_close(fx->dev);
        free(fx->image);
        free(fx->buf);
        free(fx->log);
        free(fx);
}

/* ---- reading the log ---- */

static uint64_t le64_at(const char *p)
{
        uint64_t x;

        memcpy(&x, p, sizeof(x));
        return le64toh(x);
}

static uint32_t sector_size(const struct fixture *fx)
{
        return (uint32_t)le64_at(fx->log + 24);
}

static uint64_t nr_entries(const struct fixture *fx)
{
        return le64_at(fx->log + 16);
}

struct entry {
        uint64_t sector, nr_sectors, flags, data_len;
        const char *name, *data;
        const char *next;
};

static struct entry entry_at(const struct fixture *fx, const char *p)
{
        struct entry e = {
                .sector = le64_at(p),
                .nr_sectors = le64_at(p + 8),
                .flags = le64_at(p + 16),
                .data_len = le64_at(p + 24),
                .name = p + 32,
                .data = p + sector_size(fx),
        };

        e.next = e.data + (e.flags & DISCARD ? 0 : e.nr_sectors * sector_size(fx));
        T_CHECK(e.next <= fx->log + LOG_SIZE);
        return e;
}

static struct entry entry_number(const struct fixture *fx, uint64_t n)
{
        struct entry e = {.next = fx->log + sector_size(fx)};

        T_CHECK(n < nr_entries(fx));
        do
                e = entry_at(fx, e.next);
        while (n-- > 0);
        return e;
}

static void assert_entry(const struct fixture *fx, uint64_t n, uint64_t flags, uint64_t sector,
                         uint64_t nr_sectors)
{
        const struct entry e = entry_number(fx, n);

        assert_int_equal(e.flags, flags);
        assert_int_equal(e.sector, sector);
        assert_int_equal(e.nr_sectors, nr_sectors);
        if (!(flags & MARK))
                assert_int_equal(e.data_len, 0);
}

/* All that the super block counts, onto zeros. */
static void replay(struct fixture *fx)
{
        memset(fx->image, 0, SIZE);
        for (uint64_t n = 0; n < nr_entries(fx); n++) {
                const struct entry e = entry_number(fx, n);

                if (e.nr_sectors > 0 && !(e.flags & DISCARD))
                        memcpy(fx->image + e.sector * sector_size(fx), e.data,
                               e.nr_sectors * sector_size(fx));
        }
}

/* ---- */

static int write_at(struct fixture *fx, uint64_t block, uint64_t nr, uint32_t flags)
{
        t_fill(fx->buf, nr * BLOCK);
        return uext4_bdev_write(fx->dev, fx->buf, nr * BLOCK, block * BLOCK, flags);
}

static void the_format_is_that_of_dm_log_writes(void **state)
{
        static const char super[28] = "rhswfsj\0" /* 0x6a736677736872, little-endian */
                                      "\1\0\0\0\0\0\0\0"
                                      "\3\0\0\0\0\0\0\0"
                                      "\0\2\0";
        static const char write[32] = "\5\0\0\0\0\0\0\0\2";
        static const char flush[32] = "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1";
        static const char mark[38] = "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
                                     "\x8\0\0\0\0\0\0\0\5\0\0\0\0\0\0\0hello";
        struct fixture *fx = record_on(mem(), LOG_SIZE);

        assert_int_equal(nr_entries(fx), 0);
        assert_int_equal(write_at(fx, 5, 2, 0), 0);
        assert_int_equal(uext4_bdev_flush(fx->dev), 0);
        assert_int_equal(uext4_bdev_record_mark(fx->dev, "hello"), 0);
        assert_memory_equal(fx->log, super, sizeof(super));
        assert_memory_equal(fx->log + 512, write, sizeof(write));
        assert_memory_equal(fx->log + 1024, fx->buf, 1024);
        assert_memory_equal(fx->log + 2048, flush, sizeof(flush));
        assert_memory_equal(fx->log + 2560, mark, sizeof(mark));
        for (int i = 2560 + 37; i < 3072; i++)
                assert_int_equal(fx->log[i], 0);
        assert_int_equal(fx->log[3072], 0x55);
        done(fx);
}

static void a_write_is_logged_by_the_next_flush(void **state)
{
        struct fixture *fx = record_on(mem(), LOG_SIZE);

        assert_int_equal(write_at(fx, 1, 1, 0), 0);
        assert_int_equal(uext4_bdev_discard(fx->dev, 16 * BLOCK, 8 * BLOCK), 0);
        assert_int_equal(uext4_bdev_write_zeroes(fx->dev, 2 * BLOCK, 4 * BLOCK, 0), 0);
        assert_int_equal(uext4_bdev_record_mark(fx->dev, "early"), 0);
        assert_int_equal(nr_entries(fx), 1);
        assert_entry(fx, 0, MARK, 0, 0);
        assert_int_equal(uext4_bdev_flush(fx->dev), 0);
        assert_int_equal(nr_entries(fx), 5);
        assert_entry(fx, 1, 0, 1, 1);
        assert_entry(fx, 2, DISCARD, 16, 8);
        assert_entry(fx, 3, 0, 2, 4);
        assert_entry(fx, 4, FLUSH, 0, 0);
        for (int i = 0; i < 4 * BLOCK; i++)
                assert_int_equal(entry_number(fx, 3).data[i], 0);
        assert_int_equal(uext4_bdev_flush(fx->dev), 0); /* an empty one is logged, too */
        assert_entry(fx, 5, FLUSH, 0, 0);
        done(fx);
}

static void fua_is_logged_at_once(void **state)
{
        struct fixture *fx = record_on(mem(), LOG_SIZE);

        assert_true(fx->dev->geo.caps & UEXT4_BDEV_CAP_VOLATILE);
        assert_int_equal(write_at(fx, 1, 1, 0), 0);
        assert_int_equal(write_at(fx, 8, 2, UEXT4_BDEV_FUA), 0);
        assert_int_equal(uext4_bdev_write_zeroes(fx->dev, 0, BLOCK, UEXT4_BDEV_FUA), 0);
        assert_int_equal(nr_entries(fx), 2);
        assert_entry(fx, 0, FUA, 8, 2);
        assert_entry(fx, 1, FUA, 0, 1);

        /* Over something that waits: that goes first, with what is older than it. */
        assert_int_equal(write_at(fx, 30, 4, 0), 0);
        assert_int_equal(write_at(fx, 40, 4, 0), 0);
        assert_int_equal(write_at(fx, 33, 2, UEXT4_BDEV_FUA), 0);
        assert_int_equal(nr_entries(fx), 5);
        assert_entry(fx, 2, 0, 1, 1);
        assert_entry(fx, 3, 0, 30, 4);
        assert_entry(fx, 4, FUA, 33, 2);
        assert_int_equal(uext4_bdev_flush(fx->dev), 0);
        assert_entry(fx, 5, 0, 40, 4);
        replay(fx);
        assert_int_equal(uext4_bdev_read(fx->dev, fx->buf, SIZE, 0), 0);
        assert_memory_equal(fx->buf, fx->image, SIZE);
        done(fx);
}

static void what_was_not_flushed_is_logged_at_close(void **state)
{
        struct fixture *fx = record_on(mem(), LOG_SIZE);

        assert_int_equal(write_at(fx, 1, 3, 0), 0);
        assert_int_equal(nr_entries(fx), 0);
        close_device(fx);
        assert_int_equal(nr_entries(fx), 1);
        assert_entry(fx, 0, 0, 1, 3);
        assert_memory_equal(entry_number(fx, 0).data, fx->buf, 3 * BLOCK);
        done(fx);
}

/* Both faces.  At each flush the log is what the device below has on its medium. */
static void replaying_gives_the_medium(void **state)
{
        static const uint32_t blocks[] = {512, 4096};

        for (int b = 0; b < 2; b++) {
                const struct uext4_bdev_sim_survivor none = {.mode = UEXT4_BDEV_SIM_NONE};
                struct fixture *fx = record_on(sim(blocks[b]), LOG_SIZE);
                struct uext4_bdev_queue *q = NULL;
                struct t_req r;

                assert_int_equal(sector_size(fx), blocks[b]);
                assert_int_equal(uext4_bdev_queue_new(fx->dev, 1, &q), 0);
                for (int i = 0; i < 300; i++) {
                        const uint64_t len = (1 + t_random_below(4)) * blocks[b];
                        const uint64_t pos =
                                t_random_below((SIZE - len) / blocks[b]) * blocks[b];

                        t_fill(fx->buf, len);
                        t_req_init(&r, t_random_below(8) ? UEXT4_BDEV_WRITE : UEXT4_BDEV_FLUSH,
                                   fx->buf, len, pos);
                        if (r.req.op == UEXT4_BDEV_WRITE && t_random_below(6) == 0)
                                r.req.flags = UEXT4_BDEV_FUA;
                        assert_int_equal(uext4_bdev_queue_add(q, &r.req), 0);
                        t_drain(q);
                        assert_int_equal(r.result, 0);
                        if (r.req.op != UEXT4_BDEV_FLUSH)
                                continue;
                        replay(fx);
                        assert_int_equal(uext4_bdev_sim_survivor(fx->lower, &none, fx->buf), 0);
                        assert_memory_equal(fx->buf, fx->image, SIZE);
                }
                uext4_bdev_queue_free(q);
                done(fx);
        }
}

static void marks_have_names_that_fit(void **state)
{
        struct fixture *fx = record_on(mem(), LOG_SIZE);
        char name[512];

        memset(name, 'x', sizeof(name));
        name[480] = 0;
        assert_int_equal(uext4_bdev_record_mark(fx->dev, name), -ENAMETOOLONG);
        name[479] = 0;
        assert_int_equal(uext4_bdev_record_mark(fx->dev, name), 0);
        assert_int_equal(uext4_bdev_record_mark(fx->dev, ""), 0);
        assert_int_equal(nr_entries(fx), 2);
        assert_int_equal(entry_number(fx, 0).data_len, 479);
        assert_string_equal(entry_number(fx, 0).name, name);
        assert_int_equal(entry_number(fx, 1).data_len, 0);
        done(fx);
}

/* Room for the super block, a write of one block, and a flush. */
static void a_full_log_is_told(void **state)
{
        struct fixture *fx = record_on(mem(), 4 * BLOCK);

        assert_int_equal(write_at(fx, 1, 1, 0), 0);
        assert_int_equal(uext4_bdev_flush(fx->dev), 0);
        assert_int_equal(nr_entries(fx), 2);
        assert_int_equal(write_at(fx, 2, 1, 0), 0);
        assert_int_equal(uext4_bdev_flush(fx->dev), -ENOSPC);
        assert_int_equal(uext4_bdev_record_mark(fx->dev, "x"), -ENOSPC);
        assert_int_equal(write_at(fx, 3, 1, UEXT4_BDEV_FUA), -ENOSPC);
        assert_int_equal(uext4_bdev_flush(fx->dev), -ENOSPC);
        close_device(fx);
        assert_int_equal(nr_entries(fx), 2);
        assert_int_equal(fx->log[4 * BLOCK], 0x55);
        done(fx);
}

static void what_failed_is_not_logged(void **state)
{
        struct uext4_bdev *fault = NULL;
        struct fixture *fx;
        struct uext4_bdev_fault rule = {.ops = 1u << UEXT4_BDEV_WRITE |
                                               1u << UEXT4_BDEV_DISCARD |
                                               1u << UEXT4_BDEV_WRITE_ZEROES,
                                        .error = -EILSEQ};

        assert_int_equal(uext4_bdev_open_fault(mem(), &fault), 0);
        fx = record_on(fault, LOG_SIZE);
        assert_int_equal(write_at(fx, 1, 1, 0), 0);
        assert_int_equal(uext4_bdev_fault_add(fault, &rule), 0);
        assert_int_equal(write_at(fx, 2, 1, 0), -EILSEQ);
        assert_int_equal(write_at(fx, 2, 1, UEXT4_BDEV_FUA), -EILSEQ);
        assert_int_equal(uext4_bdev_write_zeroes(fx->dev, 0, BLOCK, 0), -EILSEQ);
        assert_int_equal(uext4_bdev_discard(fx->dev, 0, BLOCK), -EILSEQ);
        rule.ops = 1u << UEXT4_BDEV_FLUSH;
        assert_int_equal(uext4_bdev_fault_add(fault, &rule), 0);
        assert_int_equal(uext4_bdev_flush(fx->dev), -EILSEQ);
        assert_int_equal(nr_entries(fx), 0);
        uext4_bdev_fault_clear(fault);
        assert_int_equal(uext4_bdev_flush(fx->dev), 0);
        assert_int_equal(nr_entries(fx), 2);
        assert_entry(fx, 0, 0, 1, 1);
        assert_entry(fx, 1, FLUSH, 0, 0);
        done(fx);
}

static void a_log_that_does_not_fit_is_refused(void **state)
{
        struct uext4_bdev *lower = mem(), *coarse = sim(4096), *readonly = NULL, *dev = NULL;
        char *buf = t_alloc(SIZE);

        assert_int_equal(uext4_bdev_open_buffer(buf, SIZE, UEXT4_BDEV_OPEN_READONLY, &readonly),
                         0);
        assert_int_equal(uext4_bdev_open_record(lower, coarse, &dev), -EINVAL);
        assert_int_equal(uext4_bdev_open_record(lower, readonly, &dev), -EINVAL);
        uext4_bdev_close(readonly);
        uext4_bdev_close(lower);
        uext4_bdev_close(coarse);
        free(buf);
}

/* ---- a write that completes while a flush is under way ---- */

struct busy {
        struct uext4_bdev dev;
        struct fixture *fx;
        bool write_in_flush;
};

static int64_t move_nothing(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                            uint64_t pos)
{
        return (int64_t)iov->iov_len;
}

static int64_t take(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov, uint64_t pos,
                    uint32_t flags)
{
        return (int64_t)iov->iov_len;
}

static int flush_and_write(struct uext4_bdev *dev)
{
        struct busy *busy = (struct busy *)(void *)dev;

        if (busy->write_in_flush) {
                busy->write_in_flush = false;
                T_CHECK(write_at(busy->fx, 9, 1, 0) == 0);
        }
        return 0;
}

static void leave_open(struct uext4_bdev *dev)
{
}

static void a_flush_logs_what_had_completed(void **state)
{
        static const struct uext4_bdev_ops ops = {.name = "busy",
                                                  .read = move_nothing,
                                                  .write = take,
                                                  .flush = flush_and_write,
                                                  .close = leave_open};
        const struct uext4_bdev_geometry geo = {.size = SIZE,
                                                .logical_block = BLOCK,
                                                .mem_align = 1,
                                                .caps = UEXT4_BDEV_CAP_VOLATILE |
                                                        UEXT4_BDEV_CAP_FUA};
        struct busy busy = {.write_in_flush = true};

        assert_int_equal(uext4_bdev_init(&busy.dev, &ops, &geo), 0);
        busy.fx = record_on(&busy.dev, LOG_SIZE);
        assert_int_equal(write_at(busy.fx, 3, 1, 0), 0);
        assert_int_equal(uext4_bdev_flush(busy.fx->dev), 0);
        assert_int_equal(nr_entries(busy.fx), 2);
        assert_entry(busy.fx, 0, 0, 3, 1);
        assert_entry(busy.fx, 1, FLUSH, 0, 0);
        assert_int_equal(uext4_bdev_flush(busy.fx->dev), 0);
        assert_int_equal(nr_entries(busy.fx), 4);
        assert_entry(busy.fx, 2, 0, 9, 1);
        done(busy.fx);
}

/* Each allocation fails once: an error, no leak, and the device goes on. */
static void memory_may_run_out(void **state)
{
        char buf[BLOCK] = {0};
        int ret = -ENOMEM;

        for (int64_t n = 0; ret == -ENOMEM; n++) {
                struct uext4_bdev *lower = mem(), *log = mem(), *dev = NULL;

                mem_fail_after(n);
                ret = uext4_bdev_open_record(lower, log, &dev);
                if (ret == 0)
                        ret = uext4_bdev_write(dev, buf, BLOCK, 0, 0);
                if (ret == 0)
                        ret = uext4_bdev_discard(dev, 0, BLOCK);
                if (ret == 0)
                        ret = uext4_bdev_flush(dev);
                mem_fail_after(-1);
                if (dev)
                        assert_int_equal(uext4_bdev_flush(dev), 0);
                else
                        uext4_bdev_close(log);
                uext4_bdev_close(dev ? dev : lower);
        }
        assert_int_equal(ret, 0);
}

/* ---- threads ---- */

struct writer {
        struct fixture *fx;
        pthread_t thread;
        uint64_t first;
};

static void *write_own_blocks(void *arg)
{
        struct writer *w = arg;
        char buf[BLOCK];

        for (unsigned i = 0; i < 200; i++) {
                const uint64_t block = w->first + 4 * t_random_below(SIZE / BLOCK / 4);
                const uint32_t flags = i % 7 ? 0 : UEXT4_BDEV_FUA;

                memset(buf, (int)(i + 50 * w->first), BLOCK);
                T_CHECK(uext4_bdev_write(w->fx->dev, buf, BLOCK, block * BLOCK, flags) == 0);
                if (i % 9 == 0)
                        T_CHECK(uext4_bdev_flush(w->fx->dev) == 0);
        }
        return NULL;
}

static void threads_share_a_log(void **state)
{
        struct fixture *fx = record_on(sim(0), LOG_SIZE);
        struct writer w[4];

        for (uint64_t i = 0; i < 4; i++) {
                w[i] = (struct writer){.fx = fx, .first = i};
                pthread_create(&w[i].thread, NULL, write_own_blocks, &w[i]);
        }
        for (int i = 0; i < 4; i++)
                pthread_join(w[i].thread, NULL);
        assert_int_equal(uext4_bdev_flush(fx->dev), 0);
        replay(fx);
        assert_int_equal(uext4_bdev_read(fx->dev, fx->buf, SIZE, 0), 0);
        assert_memory_equal(fx->buf, fx->image, SIZE);
        done(fx);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_format_is_that_of_dm_log_writes),
                cmocka_unit_test(a_write_is_logged_by_the_next_flush),
                cmocka_unit_test(fua_is_logged_at_once),
                cmocka_unit_test(what_was_not_flushed_is_logged_at_close),
                cmocka_unit_test(replaying_gives_the_medium),
                cmocka_unit_test(marks_have_names_that_fit),
                cmocka_unit_test(a_full_log_is_told),
                cmocka_unit_test(what_failed_is_not_logged),
                cmocka_unit_test(a_log_that_does_not_fit_is_refused),
                cmocka_unit_test(a_flush_logs_what_had_completed),
                cmocka_unit_test(memory_may_run_out),
                cmocka_unit_test(threads_share_a_log),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
