/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The contract of uext4_bdev.h, held against every backend, every filter, filters on
 * filters, and devices that a program brings.  Each test gets a fresh device full of random
 * bytes and a copy of them in memory, the model; what the test writes it writes to both.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "tdev.h"
#include "util/alloc.h"

#define SIZE (3u * 1024 * 1024 + 4096)

/* ---- the devices ---- */

struct backend;

struct fixture {
        const struct backend *backend;
        struct uext4_bdev *dev;
        char *model;  /* SIZE bytes */
        char *memory; /* of the buffer backend */
        char path[256];
};

struct backend {
        const char *name;
        struct uext4_bdev *(*open)(struct fixture *fx, uint32_t flags);
        const char *dir;  /* of its file; "": the default, NULL: has none */
        bool no_readonly; /* cannot be opened read-only */
        bool no_eventfd;
        bool may_allocate; /* in the steady state of a queue */
};

static struct uext4_bdev *opened(int ret, struct uext4_bdev **dev)
{
        assert_int_equal(ret, 0);
        return *dev;
}

static struct uext4_bdev *open_direct(struct fixture *fx, uint32_t flags)
{
        struct uext4_bdev *dev = NULL;

        return opened(uext4_bdev_open_file(fx->path, flags, NULL, NULL, &dev), &dev);
}

static struct uext4_bdev *open_buffered(struct fixture *fx, uint32_t flags)
{
        return open_direct(fx, flags | UEXT4_BDEV_OPEN_BUFFERED);
}

static struct uext4_bdev *open_mmap(struct fixture *fx, uint32_t flags)
{
        struct uext4_bdev *dev = NULL;

        return opened(uext4_bdev_open_mmap(fx->path, flags, &dev), &dev);
}

static struct uext4_bdev *open_mem(struct fixture *fx, uint32_t flags)
{
        struct uext4_bdev *dev = NULL;

        return opened(uext4_bdev_open_mem(SIZE + 511, &dev), &dev);
}

static struct uext4_bdev *open_buffer(struct fixture *fx, uint32_t flags)
{
        struct uext4_bdev *dev = NULL;

        return opened(uext4_bdev_open_buffer(fx->memory, SIZE, flags, &dev), &dev);
}

static struct uext4_bdev *fault_on(struct uext4_bdev *lower)
{
        struct uext4_bdev *dev = NULL;

        return opened(uext4_bdev_open_fault(lower, &dev), &dev);
}

static struct uext4_bdev *trace_on(struct uext4_bdev *lower)
{
        struct uext4_bdev *dev = NULL;

        return opened(uext4_bdev_open_trace(lower, 16, &dev), &dev);
}

static struct uext4_bdev *open_fault(struct fixture *fx, uint32_t flags)
{
        return fault_on(open_buffer(fx, flags));
}

static struct uext4_bdev *cow_on(struct uext4_bdev *lower)
{
        struct uext4_bdev *dev = NULL;

        return opened(uext4_bdev_open_cow(lower, 0, &dev), &dev);
}

static struct uext4_bdev *open_cow(struct fixture *fx, uint32_t flags)
{
        return cow_on(open_buffer(fx, UEXT4_BDEV_OPEN_READONLY));
}

static struct uext4_bdev *open_cow_on_file(struct fixture *fx, uint32_t flags)
{
        return cow_on(open_direct(fx, UEXT4_BDEV_OPEN_READONLY));
}

static struct uext4_bdev *open_cow_on_trace(struct fixture *fx, uint32_t flags)
{
        return cow_on(trace_on(open_direct(fx, UEXT4_BDEV_OPEN_READONLY)));
}

static struct uext4_bdev *open_trace(struct fixture *fx, uint32_t flags)
{
        return trace_on(open_buffer(fx, flags));
}

static struct uext4_bdev *open_stack(struct fixture *fx, uint32_t flags)
{
        return trace_on(fault_on(open_direct(fx, flags)));
}

/* One in the middle of a bigger device. */
static struct uext4_bdev *open_slice(struct fixture *fx, uint32_t flags)
{
        struct uext4_bdev *lower = NULL, *dev = NULL;

        assert_int_equal(uext4_bdev_open_mem(SIZE + 65536, &lower), 0);
        return opened(uext4_bdev_open_slice(lower, 8192, SIZE, &dev), &dev);
}

/* To the end of the lower device. */
static struct uext4_bdev *open_slice_of_file(struct fixture *fx, uint32_t flags)
{
        struct uext4_bdev *dev = NULL;

        return opened(uext4_bdev_open_slice(open_direct(fx, flags), 0, 0, &dev), &dev);
}

static struct uext4_bdev *open_sim(struct fixture *fx, uint32_t flags)
{
        const struct uext4_bdev_sim_params params = {
                .size = SIZE,
                .caps = UEXT4_BDEV_CAP_FUA | UEXT4_BDEV_CAP_DISCARD,
                .seed = t_random(),
        };
        struct uext4_bdev *dev = NULL;

        return opened(uext4_bdev_open_sim(&params, &dev), &dev);
}

/* Big blocks, no FUA. */
static struct uext4_bdev *open_plain_sim(struct fixture *fx, uint32_t flags)
{
        const struct uext4_bdev_sim_params params = {.size = SIZE, .logical_block = 4096};
        struct uext4_bdev *dev = NULL;

        return opened(uext4_bdev_open_sim(&params, &dev), &dev);
}

static struct uext4_bdev *record_on(struct uext4_bdev *lower)
{
        struct uext4_bdev *log = NULL, *dev = NULL;

        assert_int_equal(uext4_bdev_open_mem(1ull << 30, &log), 0);
        return opened(uext4_bdev_open_record(lower, log, &dev), &dev);
}

static struct uext4_bdev *open_record(struct fixture *fx, uint32_t flags)
{
        return record_on(open_buffer(fx, flags));
}

static struct uext4_bdev *open_trace_on_record_on_sim(struct fixture *fx, uint32_t flags)
{
        return trace_on(record_on(open_plain_sim(fx, flags)));
}

static struct uext4_bdev *open_user(struct fixture *fx, uint32_t flags)
{
        uint32_t caps = UEXT4_BDEV_CAP_VOLATILE;

        if (flags & UEXT4_BDEV_OPEN_READONLY)
                caps |= UEXT4_BDEV_CAP_READONLY;
        return &t_user_new(SIZE, caps, T_USER_SYNC)->dev;
}

static struct uext4_bdev *open_user_short(struct fixture *fx, uint32_t flags)
{
        struct t_user *user = t_user_new(SIZE, 0, T_USER_SYNC);

        user->short_counts = true;
        return &user->dev;
}

static struct uext4_bdev *open_user_queue(struct fixture *fx, uint32_t flags)
{
        struct t_user *user = t_user_new(SIZE, 0, T_USER_QUEUE);

        user->short_counts = true;
        return &user->dev;
}

static struct uext4_bdev *open_cow_on_user_queue(struct fixture *fx, uint32_t flags)
{
        return cow_on(open_user_queue(fx, flags));
}

static struct uext4_bdev *open_trace_on_user_queue(struct fixture *fx, uint32_t flags)
{
        return trace_on(open_user_queue(fx, flags));
}

static const struct backend backends[] = {
        {"file, direct", open_direct, ""},
        {"file, buffered", open_buffered, ""},
        {"file on tmpfs", open_direct, "/dev/shm"},
        {"mmap", open_mmap, ""},
        {"mem", open_mem, .no_readonly = true},
        {"buffer", open_buffer},
        {"slice", open_slice, .no_readonly = true},
        {"slice of file", open_slice_of_file, ""},
        {"fault", open_fault},
        {"trace", open_trace},
        {"trace on fault on file", open_stack, ""},
        {"cow", open_cow, .no_readonly = true},
        {"cow on file", open_cow_on_file, "", .no_readonly = true},
        {"cow on trace on file", open_cow_on_trace, "", .no_readonly = true},
        {"cow on user with queue", open_cow_on_user_queue, .no_readonly = true,
         .no_eventfd = true, .may_allocate = true},
        {"sim", open_sim, .no_readonly = true},
        {"sim, plain", open_plain_sim, .no_readonly = true},
        {"record", open_record, .no_readonly = true},
        {"trace on record on sim", open_trace_on_record_on_sim, .no_readonly = true},
        {"user, synchronous", open_user},
        {"user, short counts", open_user_short, .no_readonly = true, .may_allocate = true},
        {"user with queue", open_user_queue, .no_readonly = true, .no_eventfd = true,
         .may_allocate = true},
        {"trace on user with queue", open_trace_on_user_queue, .no_readonly = true,
         .no_eventfd = true, .may_allocate = true},
};

static const struct backend *current;

static int setup(void **state)
{
        struct fixture *fx = calloc(1, sizeof(*fx));

        fx->backend = current;
        fx->model = t_alloc(SIZE);
        fx->memory = t_alloc(SIZE);
        if (current->dir)
                t_file_new(*current->dir ? current->dir : NULL, SIZE, fx->path,
                           sizeof(fx->path));
        fx->dev = current->open(fx, 0);
        t_fill(fx->model, SIZE);
        assert_int_equal(uext4_bdev_write(fx->dev, fx->model, SIZE, 0, 0), 0);
        *state = fx;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *fx = *state;

        uext4_bdev_close(fx->dev);
        if (*fx->path)
                unlink(fx->path);
        free(fx->memory);
        free(fx->model);
        free(fx);
        return 0;
}

static void check_against_model(struct fixture *fx)
{
        char *buf = t_alloc(SIZE);

        memset(buf, 0x55, SIZE);
        assert_int_equal(uext4_bdev_read(fx->dev, buf, SIZE, 0), 0);
        assert_memory_equal(buf, fx->model, SIZE);
        free(buf);
}

static uint32_t block_of(const struct fixture *fx)
{
        return uext4_bdev_geometry(fx->dev)->logical_block;
}

static uint32_t unit_of(const struct fixture *fx)
{
        const struct uext4_bdev_geometry *geo = uext4_bdev_geometry(fx->dev);

        return geo->logical_block > geo->mem_align ? geo->logical_block : geo->mem_align;
}

/* A range of whole units inside the device, at most `max` bytes, not empty. */
static void random_range(struct fixture *fx, uint64_t max, uint64_t *ret_pos, uint64_t *ret_len)
{
        const uint64_t unit = unit_of(fx);
        const uint64_t len = (1 + t_random_below(max / unit)) * unit;

        *ret_pos = t_random_below((SIZE - len) / unit + 1) * unit;
        *ret_len = len;
}

/* ---- the synchronous face ---- */

static void geometry_keeps_its_rules(void **state)
{
        struct fixture *fx = *state;
        const struct uext4_bdev_geometry *geo = uext4_bdev_geometry(fx->dev);

        assert_int_equal(geo->size, SIZE);
        assert_in_range(geo->logical_block, 512, 65536);
        assert_int_equal(geo->logical_block & (geo->logical_block - 1), 0);
        assert_in_range(geo->mem_align, 1, 65536);
        assert_int_equal(geo->mem_align & (geo->mem_align - 1), 0);
        assert_int_equal(geo->size % geo->logical_block, 0);
}

static void reads_what_was_written(void **state)
{
        struct fixture *fx = *state;
        char *buf = t_alloc(512 * 1024);

        for (int i = 0; i < 100; i++) {
                uint64_t pos, len;

                random_range(fx, 512 * 1024, &pos, &len);
                if (i % 2) {
                        t_fill(buf, len);
                        memcpy(fx->model + pos, buf, len);
                        assert_int_equal(uext4_bdev_write(fx->dev, buf, len, pos, 0), 0);
                } else {
                        assert_int_equal(uext4_bdev_read(fx->dev, buf, len, pos), 0);
                        assert_memory_equal(buf, fx->model + pos, len);
                }
        }
        check_against_model(fx);
        free(buf);
}

/*
 * Cut `len` bytes at `buf` into at most `max` segments at multiples of mem_align, with empty
 * ones between.
 */
static int random_vector(struct fixture *fx, char *buf, uint64_t len, int max,
                         struct iovec *ret_iov)
{
        const uint64_t align = uext4_bdev_geometry(fx->dev)->mem_align;
        int nr = 0;

        while (len > 0) {
                uint64_t part = len;

                if (t_random_below(8) == 0 && nr < max - 1)
                        ret_iov[nr++] = (struct iovec){NULL, 0};
                if (nr < max - 1)
                        part = (1 + t_random_below(2 * len / align / (uint64_t)max + 1)) *
                               align;
                if (part > len)
                        part = len;
                ret_iov[nr++] = (struct iovec){buf, part};
                buf += part;
                len -= part;
        }
        return nr;
}

static void vectors_of_many_shapes(void **state)
{
        static const int max_segs[] = {1, 2, 3, 17, 200, 1024, 1025, 2500};
        struct fixture *fx = *state;
        struct iovec *iov = calloc(4096, sizeof(*iov));
        char *buf = t_alloc(1024 * 1024);

        for (int i = 0; i < 64; i++) {
                uint64_t pos, len;
                int nr;

                random_range(fx, 1024 * 1024, &pos, &len);
                nr = random_vector(fx, buf, len, max_segs[i % 8], iov);
                if ((i / 8) % 2) {
                        t_fill(buf, len);
                        memcpy(fx->model + pos, buf, len);
                        assert_int_equal(uext4_bdev_writev(fx->dev, iov, nr, pos, 0), 0);
                } else {
                        assert_int_equal(uext4_bdev_readv(fx->dev, iov, nr, pos), 0);
                        assert_memory_equal(buf, fx->model + pos, len);
                }
        }
        check_against_model(fx);
        free(buf);
        free(iov);
}

/* Segments in reverse order in memory, each of the smallest size there is. */
static void vectors_of_the_finest_segments(void **state)
{
        struct fixture *fx = *state;
        const size_t align = uext4_bdev_geometry(fx->dev)->mem_align;
        const size_t len = 8192;
        const size_t nr = len / align;
        struct iovec *iov = calloc(nr, sizeof(*iov));
        char *buf = t_alloc(len);
        struct uext4_bdev_queue *q = NULL;
        struct t_req r;

        for (size_t i = 0; i < nr; i++)
                iov[i] = (struct iovec){buf + len - (i + 1) * align, align};
        assert_int_equal(uext4_bdev_readv(fx->dev, iov, (int)nr, 4096), 0);
        for (size_t i = 0; i < nr; i++)
                assert_memory_equal(iov[i].iov_base, fx->model + 4096 + i * align, align);

        memset(buf, 0, len);
        assert_int_equal(uext4_bdev_queue_new(fx->dev, 1, &q), 0);
        t_req_init(&r, UEXT4_BDEV_READ, buf, len, 4096);
        r.req.iov = iov;
        r.req.nr_iov = (int)nr;
        assert_int_equal(uext4_bdev_queue_add(q, &r.req), 0);
        t_drain(q);
        assert_int_equal(r.result, 0);
        for (size_t i = 0; i < nr; i++)
                assert_memory_equal(iov[i].iov_base, fx->model + 4096 + i * align, align);
        uext4_bdev_queue_free(q);
        free(buf);
        free(iov);
}

/* Both faces say the same about a request that breaks the rules. */
static void assert_refused(struct fixture *fx, enum uext4_bdev_op op, uint32_t flags, void *buf,
                           uint64_t len, uint64_t pos, int error)
{
        const struct iovec iov = {buf, len};
        struct uext4_bdev_queue *q = NULL;
        struct t_req r;
        int ret = 1;

        switch (op) {
        case UEXT4_BDEV_READ:
                ret = uext4_bdev_readv(fx->dev, &iov, 1, pos);
                break;
        case UEXT4_BDEV_WRITE:
                ret = uext4_bdev_writev(fx->dev, &iov, 1, pos, flags);
                break;
        case UEXT4_BDEV_DISCARD:
                ret = uext4_bdev_discard(fx->dev, pos, len);
                break;
        case UEXT4_BDEV_WRITE_ZEROES:
                ret = uext4_bdev_write_zeroes(fx->dev, pos, len, flags);
                break;
        case UEXT4_BDEV_FLUSH:
                break;
        }
        assert_int_equal(ret, error);

        assert_int_equal(uext4_bdev_queue_new(fx->dev, 2, &q), 0);
        t_req_init(&r, op, buf, len, pos);
        r.req.flags = flags;
        assert_int_equal(uext4_bdev_queue_add(q, &r.req), error);
        assert_int_equal(uext4_bdev_queue_in_flight(q), 0);
        assert_int_equal(uext4_bdev_queue_drive(q, -1), 0);
        uext4_bdev_queue_free(q);
        assert_int_equal(r.nr_done, 0);
}

static void ranges_beyond_the_end_are_enxio(void **state)
{
        struct fixture *fx = *state;
        const uint64_t block = block_of(fx), unit = unit_of(fx);
        char *buf = t_alloc(65536);
        const struct {
                uint64_t pos, len;
        } ranges[] = {
                {SIZE, unit},
                {SIZE - unit, 2 * unit},
                {SIZE + block, unit},
                {(uint64_t)INT64_MAX / block * block, unit},
                {UINT64_MAX / block * block, unit},
        };

        for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
                assert_refused(fx, UEXT4_BDEV_READ, 0, buf, ranges[i].len, ranges[i].pos,
                               -ENXIO);
                assert_refused(fx, UEXT4_BDEV_WRITE, 0, buf, ranges[i].len, ranges[i].pos,
                               -ENXIO);
                assert_refused(fx, UEXT4_BDEV_DISCARD, 0, NULL, ranges[i].len, ranges[i].pos,
                               -ENXIO);
                assert_refused(fx, UEXT4_BDEV_WRITE_ZEROES, 0, NULL, ranges[i].len,
                               ranges[i].pos, -ENXIO);
        }
        assert_int_equal(uext4_bdev_read_bytes(fx->dev, buf, 2, SIZE - 1), -ENXIO);
        assert_int_equal(uext4_bdev_read_bytes(fx->dev, buf, 0, SIZE + 1), -ENXIO);
        assert_int_equal(uext4_bdev_read_bytes(fx->dev, buf, 7, UINT64_MAX), -ENXIO);
        assert_int_equal(uext4_bdev_read_bytes(fx->dev, buf, SIZE_MAX, 7), -ENXIO);
        free(buf);
        check_against_model(fx);
}

static void misalignment_is_einval(void **state)
{
        struct fixture *fx = *state;
        const uint64_t block = block_of(fx), unit = unit_of(fx);
        const uint32_t align = uext4_bdev_geometry(fx->dev)->mem_align;
        char *buf = t_alloc(2 * 65536 + 8192);

        for (enum uext4_bdev_op op = 0; op < UEXT4_BDEV_NR_OPS; op++) {
                if (op == UEXT4_BDEV_FLUSH)
                        continue;
                assert_refused(fx, op, 0, buf, unit, 1, -EINVAL);
                assert_refused(fx, op, 0, buf, unit, block / 2, -EINVAL);
                assert_refused(fx, op, 0, buf, block / 2, 0, -EINVAL);
                assert_refused(fx, op, 0, buf, unit + block / 2, 0, -EINVAL);
        }
        if (align > 1) {
                assert_refused(fx, UEXT4_BDEV_READ, 0, buf + align / 2, unit, 0, -EINVAL);
                assert_refused(fx, UEXT4_BDEV_WRITE, 0, buf + align / 2, unit, 0, -EINVAL);
        }
        assert_refused(fx, UEXT4_BDEV_WRITE, 0x80, buf, unit, 0, -EINVAL);
        assert_refused(fx, UEXT4_BDEV_WRITE_ZEROES, 0x80, NULL, unit, 0, -EINVAL);
        free(buf);
        check_against_model(fx);
}

static void a_length_that_is_not_the_vectors_is_einval(void **state)
{
        struct fixture *fx = *state;
        struct uext4_bdev_queue *q = NULL;
        char *buf = t_alloc(65536);
        struct t_req r;

        assert_int_equal(uext4_bdev_queue_new(fx->dev, 2, &q), 0);
        t_req_init(&r, UEXT4_BDEV_READ, buf, unit_of(fx), 0);
        r.req.len *= 2;
        assert_int_equal(uext4_bdev_queue_add(q, &r.req), -EINVAL);
        r.req.len = unit_of(fx);
        r.req.nr_iov = -1;
        assert_int_equal(uext4_bdev_queue_add(q, &r.req), -EINVAL);
        uext4_bdev_queue_free(q);
        free(buf);
}

static void nothing_is_fine(void **state)
{
        struct fixture *fx = *state;
        const bool discard = fx->dev->geo.caps & UEXT4_BDEV_CAP_DISCARD;
        struct uext4_bdev_queue *q = NULL;
        struct t_req r;

        assert_int_equal(uext4_bdev_read(fx->dev, NULL, 0, 0), 0);
        assert_int_equal(uext4_bdev_readv(fx->dev, NULL, 0, SIZE), 0);
        assert_int_equal(uext4_bdev_write(fx->dev, NULL, 0, 0, UEXT4_BDEV_FUA), 0);
        assert_int_equal(uext4_bdev_read_bytes(fx->dev, NULL, 0, SIZE), 0);
        assert_int_equal(uext4_bdev_write_zeroes(fx->dev, 0, 0, 0), 0);
        assert_int_equal(uext4_bdev_discard(fx->dev, 0, 0), discard ? 0 : -EOPNOTSUPP);

        assert_int_equal(uext4_bdev_queue_new(fx->dev, 2, &q), 0);
        assert_int_equal(uext4_bdev_queue_kick(q), 0);
        t_req_init(&r, UEXT4_BDEV_READ, NULL, 0, 0);
        assert_int_equal(uext4_bdev_queue_add(q, &r.req), 0);
        t_drain(q);
        assert_int_equal(r.nr_done, 1);
        assert_int_equal(r.result, 0);
        uext4_bdev_queue_free(q);
        uext4_bdev_queue_free(NULL);
        uext4_bdev_close(NULL);
}

static void read_bytes_takes_any_range(void **state)
{
        struct fixture *fx = *state;
        char *buf = t_alloc(SIZE + 64);

        for (int i = 0; i < 300; i++) {
                uint64_t max = i % 10 ? 5000 : SIZE;
                uint64_t len = t_random_below(max + 1);
                uint64_t pos = t_random_below(SIZE - len + 1);
                char *at = buf + t_random_below(64);

                if (i % 7 == 0)
                        pos = SIZE - len;
                assert_int_equal(uext4_bdev_read_bytes(fx->dev, at, len, pos), 0);
                assert_memory_equal(at, fx->model + pos, len);
        }
        free(buf);
}

static void flush_and_fua_succeed(void **state)
{
        struct fixture *fx = *state;
        const uint64_t len = 2 * unit_of(fx);
        struct uext4_bdev_queue *q = NULL;
        char *buf = t_alloc(2 * len);
        struct t_req r[3];

        t_fill(buf, 2 * len);
        memcpy(fx->model, buf, 2 * len);
        assert_int_equal(uext4_bdev_flush(fx->dev), 0);
        assert_int_equal(uext4_bdev_write(fx->dev, buf, len, 0, UEXT4_BDEV_FUA), 0);

        assert_int_equal(uext4_bdev_queue_new(fx->dev, 4, &q), 0);
        t_req_init(&r[0], UEXT4_BDEV_WRITE, buf + len, len, len);
        t_req_init(&r[1], UEXT4_BDEV_WRITE_ZEROES, NULL, len, 4 * len);
        t_req_init(&r[2], UEXT4_BDEV_FLUSH, NULL, 0, 0);
        r[0].req.flags = r[1].req.flags = UEXT4_BDEV_FUA;
        memset(fx->model + 4 * len, 0, len);
        for (int i = 0; i < 3; i++)
                assert_int_equal(uext4_bdev_queue_add(q, &r[i].req), 0);
        t_drain(q);
        for (int i = 0; i < 3; i++)
                assert_int_equal(r[i].result, 0);
        uext4_bdev_queue_free(q);
        check_against_model(fx);
        free(buf);
}

/* Undefined afterwards, but only there. */
static void discard_keeps_to_its_range(void **state)
{
        struct fixture *fx = *state;
        const uint64_t pos = 65536, len = 256 * 1024;
        int ret = uext4_bdev_discard(fx->dev, pos, len);

        if (!(fx->dev->geo.caps & UEXT4_BDEV_CAP_DISCARD)) {
                assert_int_equal(ret, -EOPNOTSUPP);
        } else {
                assert_int_equal(ret, 0);
                assert_int_equal(uext4_bdev_read(fx->dev, fx->model + pos, len, pos), 0);
        }
        check_against_model(fx);
}

static void write_zeroes_keeps_to_its_range(void **state)
{
        struct fixture *fx = *state;

        for (int i = 0; i < 12; i++) {
                uint64_t pos, len;

                random_range(fx, i % 4 ? 65536 : 1024 * 1024, &pos, &len);
                memset(fx->model + pos, 0, len);
                assert_int_equal(
                        uext4_bdev_write_zeroes(fx->dev, pos, len, i == 0 ? UEXT4_BDEV_FUA : 0),
                        0);
        }
        check_against_model(fx);
}

static void a_read_only_device_refuses_to_change(void **state)
{
        struct fixture *fx = *state;
        const uint64_t unit = unit_of(fx);
        char *buf = t_alloc(65536);

        if (fx->backend->no_readonly) {
                free(buf);
                return;
        }
        uext4_bdev_close(fx->dev);
        fx->dev = fx->backend->open(fx, UEXT4_BDEV_OPEN_READONLY);
        assert_true(fx->dev->geo.caps & UEXT4_BDEV_CAP_READONLY);
        assert_refused(fx, UEXT4_BDEV_WRITE, 0, buf, unit, 0, -EROFS);
        assert_refused(fx, UEXT4_BDEV_WRITE_ZEROES, 0, NULL, unit, 0, -EROFS);
        assert_refused(fx, UEXT4_BDEV_DISCARD, 0, NULL, unit, 0, -EROFS);
        assert_int_equal(uext4_bdev_flush(fx->dev), 0);
        if (*fx->path || fx->backend->open == open_buffer)
                check_against_model(fx);
        free(buf);
}

/* ---- queues ---- */

/*
 * A random load: the device is cut into slots, each with one request at a time, so that
 * the model knows what every read must find.  A slot's done() starts its next request.
 */
#define SLOT_LEN 65536
#define NR_SLOTS (SIZE / SLOT_LEN)

struct load;

struct slot {
        struct uext4_bdev_req req;
        struct load *load;
        struct iovec iov[4];
        char *buf;
        uint64_t base;
        unsigned rounds; /* left */
        uint64_t random;
};

struct load {
        struct fixture *fx;
        struct uext4_bdev_queue *q;
        _Atomic unsigned nr_active; /* slots with rounds left */
        struct slot slots[NR_SLOTS];
};

static uint64_t slot_random(struct slot *s, uint64_t limit)
{
        s->random = s->random * 6364136223846793005u + 1442695040888963407u;
        return (s->random >> 33) % limit;
}

static void slot_vector(struct slot *s, uint64_t len)
{
        const uint64_t unit = unit_of(s->load->fx);
        char *at = s->buf;

        s->req.nr_iov = 0;
        while (len > 0) {
                uint64_t part = len;

                if (s->req.nr_iov < 3)
                        part = (1 + slot_random(s, len / unit)) * unit;
                s->iov[s->req.nr_iov++] = (struct iovec){at, part};
                at += part;
                len -= part;
        }
        s->req.iov = s->iov;
}

static void slot_done(struct uext4_bdev_req *req);

static void slot_prepare(struct slot *s)
{
        static const enum uext4_bdev_op ops[] = {
                UEXT4_BDEV_READ,  UEXT4_BDEV_READ,  UEXT4_BDEV_READ,         UEXT4_BDEV_READ,
                UEXT4_BDEV_WRITE, UEXT4_BDEV_WRITE, UEXT4_BDEV_WRITE_ZEROES,
        };
        const uint64_t unit = unit_of(s->load->fx);
        char *model = s->load->fx->model;
        const uint64_t first = slot_random(s, SLOT_LEN / unit);
        const uint64_t nr = 1 + slot_random(s, SLOT_LEN / unit - first);

        s->req = (struct uext4_bdev_req){
                .op = ops[slot_random(s, 7)],
                .pos = s->base + first * unit,
                .len = nr * unit,
                .done = slot_done,
        };
        slot_vector(s, s->req.len);
        switch (s->req.op) {
        case UEXT4_BDEV_WRITE:
                memset(s->buf, (int)slot_random(s, 256), s->req.len);
                memcpy(model + s->req.pos, s->buf, s->req.len);
                break;
        case UEXT4_BDEV_WRITE_ZEROES:
                s->req.iov = NULL;
                s->req.nr_iov = 0;
                memset(model + s->req.pos, 0, s->req.len);
                break;
        default:
                memset(s->buf, 0xee, s->req.len);
                break;
        }
}

static void slot_start(struct slot *s)
{
        slot_prepare(s);
        T_CHECK(uext4_bdev_queue_add(s->load->q, &s->req) == 0);
}

static void slot_done(struct uext4_bdev_req *req)
{
        struct slot *s = (struct slot *)(void *)req;

        T_CHECK(req->result == 0);
        if (req->op == UEXT4_BDEV_READ)
                T_CHECK(memcmp(s->buf, s->load->fx->model + req->pos, req->len) == 0);
        if (--s->rounds > 0)
                slot_start(s);
        else
                atomic_fetch_sub(&s->load->nr_active, 1);
}

static struct load *load_new(struct fixture *fx, unsigned depth, unsigned rounds)
{
        struct load *load = calloc(1, sizeof(*load));

        load->fx = fx;
        assert_int_equal(uext4_bdev_queue_new(fx->dev, depth, &load->q), 0);
        load->nr_active = NR_SLOTS;
        for (unsigned i = 0; i < NR_SLOTS; i++) {
                struct slot *s = &load->slots[i];

                s->load = load;
                s->buf = t_alloc(SLOT_LEN);
                s->base = (uint64_t)i * SLOT_LEN;
                s->rounds = rounds;
                s->random = t_random();
        }
        return load;
}

static void load_free(struct load *load)
{
        uext4_bdev_queue_free(load->q);
        for (unsigned i = 0; i < NR_SLOTS; i++)
                free(load->slots[i].buf);
        free(load);
}

static void queue_agrees_with_model(void **state)
{
        struct fixture *fx = *state;
        static const unsigned depths[] = {1, 8, 128};

        for (int i = 0; i < 3; i++) {
                struct load *load = load_new(fx, depths[i], 20);

                for (unsigned s = 0; s < NR_SLOTS; s++)
                        slot_start(&load->slots[s]);
                assert_int_equal(uext4_bdev_queue_in_flight(load->q), NR_SLOTS);
                assert_int_equal(uext4_bdev_queue_kick(load->q), 0);
                t_drain(load->q);
                assert_int_equal(load->nr_active, 0);
                load_free(load);
        }
        check_against_model(fx);
}

static void more_requests_than_depth(void **state)
{
        enum {
                NR = 600
        };
        struct fixture *fx = *state;
        const uint64_t unit = unit_of(fx);
        struct uext4_bdev_queue *q = NULL;
        struct t_req *r = calloc(NR, sizeof(*r));
        char *buf = t_alloc(NR * unit);

        assert_int_equal(uext4_bdev_queue_new(fx->dev, 4, &q), 0);
        for (size_t i = 0; i < NR; i++) {
                t_req_init(&r[i], UEXT4_BDEV_READ, buf + i * unit, unit, i * unit);
                assert_int_equal(uext4_bdev_queue_add(q, &r[i].req), 0);
        }
        assert_int_equal(uext4_bdev_queue_in_flight(q), NR);
        t_drain(q);
        for (size_t i = 0; i < NR; i++) {
                assert_int_equal(r[i].nr_done, 1);
                assert_int_equal(r[i].result, 0);
        }
        assert_memory_equal(buf, fx->model, NR * unit);
        uext4_bdev_queue_free(q);
        free(buf);
        free(r);
}

struct chain {
        struct t_req r;
        unsigned left;
};

static void chain_done(struct uext4_bdev_req *req)
{
        struct chain *c = (struct chain *)(void *)req;

        T_CHECK(req->result == 0);
        if (--c->left > 0)
                T_CHECK(uext4_bdev_queue_add(req->queue, req) == 0);
}

static void done_may_add(void **state)
{
        struct fixture *fx = *state;
        struct uext4_bdev_queue *q = NULL;
        char *buf = t_alloc(65536);
        struct chain c = {.left = 300};

        assert_int_equal(uext4_bdev_queue_new(fx->dev, 2, &q), 0);
        t_req_init(&c.r, UEXT4_BDEV_READ, buf, unit_of(fx), 0);
        c.r.req.done = chain_done;
        assert_int_equal(uext4_bdev_queue_add(q, &c.r.req), 0);
        t_drain(q);
        assert_int_equal(c.left, 0);
        uext4_bdev_queue_free(q);
        free(buf);
}

static void a_queue_in_steady_state_allocates_nothing(void **state)
{
        struct fixture *fx = *state;
        struct uext4_bdev_queue *q = NULL;
        char *buf = t_alloc(65536);
        struct chain c = {.left = 50};
        uint64_t before;

        assert_int_equal(uext4_bdev_queue_new(fx->dev, 2, &q), 0);
        t_req_init(&c.r, UEXT4_BDEV_READ, buf, unit_of(fx), 0);
        c.r.req.done = chain_done;
        for (int i = 0; i < 2; i++) {
                c.left = 50;
                before = mem_count();
                assert_int_equal(uext4_bdev_queue_add(q, &c.r.req), 0);
                t_drain(q);
        }
        if (!fx->backend->may_allocate)
                assert_int_equal(mem_count(), before);
        uext4_bdev_queue_free(q);
        free(buf);
}

static void driving_an_idle_queue_returns_at_once(void **state)
{
        struct fixture *fx = *state;
        struct uext4_bdev_queue *q = NULL;

        assert_int_equal(uext4_bdev_queue_new(fx->dev, 2, &q), 0);
        assert_int_equal(uext4_bdev_queue_drive(q, 0), 0);
        assert_int_equal(uext4_bdev_queue_drive(q, 1), 0);
        assert_int_equal(uext4_bdev_queue_drive(q, -1), 0);
        uext4_bdev_queue_free(q);
}

static void polling_completes(void **state)
{
        struct fixture *fx = *state;
        struct uext4_bdev_queue *q = NULL;
        char *buf = t_alloc(65536);
        struct t_req r;
        int ret = 0;

        assert_int_equal(uext4_bdev_queue_new(fx->dev, 2, &q), 0);
        t_req_init(&r, UEXT4_BDEV_READ, buf, unit_of(fx), 0);
        assert_int_equal(uext4_bdev_queue_add(q, &r.req), 0);
        assert_int_equal(uext4_bdev_queue_kick(q), 0);
        while (ret == 0)
                ret = uext4_bdev_queue_drive(q, 0);
        assert_int_equal(ret, 1);
        assert_int_equal(r.nr_done, 1);

        t_req_init(&r, UEXT4_BDEV_READ, buf, unit_of(fx), 0);
        assert_int_equal(uext4_bdev_queue_add(q, &r.req), 0);
        assert_int_equal(uext4_bdev_queue_drive(q, INT64_MAX), 1);
        assert_int_equal(r.nr_done, 1);
        uext4_bdev_queue_free(q);
        free(buf);
}

static bool becomes_readable(int fd, int timeout_ms)
{
        struct pollfd p = {.fd = fd, .events = POLLIN};

        return poll(&p, 1, timeout_ms) == 1 && (p.revents & POLLIN);
}

/* Sleep on the descriptor, take its count, drive without waiting: nothing is missed. */
static void the_eventfd_tells_when_to_drive(void **state)
{
        struct fixture *fx = *state;
        struct uext4_bdev_queue *q;
        char *buf;
        struct t_req r[8];
        struct chain c = {.left = 20};
        int fd;

        if (fx->backend->no_eventfd)
                return;
        buf = t_alloc(9 * 65536);
        assert_int_equal(uext4_bdev_queue_new(fx->dev, 4, &q), 0);
        fd = uext4_bdev_queue_eventfd(q);
        assert_true(fd >= 0);
        assert_int_equal(uext4_bdev_queue_eventfd(q), fd);
        assert_false(becomes_readable(fd, 0));
        for (int i = 0; i < 8; i++) {
                t_req_init(&r[i], UEXT4_BDEV_READ, buf + i * 65536, 65536, (uint64_t)i * 65536);
                assert_int_equal(uext4_bdev_queue_add(q, &r[i].req), 0);
        }
        t_req_init(&c.r, UEXT4_BDEV_READ, buf + 8 * 65536, unit_of(fx), 0);
        c.r.req.done = chain_done;
        assert_int_equal(uext4_bdev_queue_add(q, &c.r.req), 0);
        assert_int_equal(uext4_bdev_queue_kick(q), 0);
        while (uext4_bdev_queue_in_flight(q) > 0) {
                eventfd_t count;

                assert_true(becomes_readable(fd, 20000));
                eventfd_read(fd, &count);
                assert_true(uext4_bdev_queue_drive(q, 0) >= 0);
        }
        assert_memory_equal(buf, fx->model, 8 * 65536);
        uext4_bdev_queue_free(q);
        free(buf);
}

static void a_late_eventfd_tells_of_earlier_requests(void **state)
{
        struct fixture *fx = *state;
        struct uext4_bdev_queue *q;
        char *buf;
        struct t_req r;
        int fd;

        if (fx->backend->no_eventfd)
                return;
        buf = t_alloc(65536);
        assert_int_equal(uext4_bdev_queue_new(fx->dev, 4, &q), 0);
        t_req_init(&r, UEXT4_BDEV_READ, buf, 65536, 0);
        assert_int_equal(uext4_bdev_queue_add(q, &r.req), 0);
        assert_int_equal(uext4_bdev_queue_kick(q), 0);
        usleep(2000);
        fd = uext4_bdev_queue_eventfd(q);
        assert_true(becomes_readable(fd, 20000));
        t_drain(q);
        uext4_bdev_queue_free(q);
        free(buf);
}

static void stubborn_done(struct uext4_bdev_req *req)
{
        struct t_req *r = (struct t_req *)(void *)req;

        T_CHECK(req->result == 0 || req->result == -ECANCELED);
        r->nr_done++;
        uext4_bdev_queue_add(req->queue, req); /* until the queue says no */
}

static void free_completes_what_is_under_way(void **state)
{
        enum {
                NR = 100
        };
        struct fixture *fx = *state;

        for (int kicked = 0; kicked < 2; kicked++) {
                struct uext4_bdev_queue *q = NULL;
                struct t_req *r = calloc(NR, sizeof(*r));
                char *buf = t_alloc(NR * 16384);

                assert_int_equal(uext4_bdev_queue_new(fx->dev, 16, &q), 0);
                for (size_t i = 0; i < NR; i++) {
                        t_req_init(&r[i], UEXT4_BDEV_READ, buf + i * 16384, 16384, i * 16384);
                        r[i].req.done = stubborn_done;
                        assert_int_equal(uext4_bdev_queue_add(q, &r[i].req), 0);
                }
                if (kicked)
                        assert_int_equal(uext4_bdev_queue_kick(q), 0);
                uext4_bdev_queue_free(q);
                for (size_t i = 0; i < NR; i++)
                        assert_int_equal(r[i].nr_done, 1);
                free(buf);
                free(r);
        }
}

/* ---- helpers ---- */

struct posting {
        struct t_req r;
        sem_t *sem;
};

static void posting_done(struct uext4_bdev_req *req)
{
        struct posting *p = (struct posting *)(void *)req;

        T_CHECK(req->result == 0);
        sem_post(p->sem);
}

static void *drive_until_idle(void *q)
{
        t_drain(q);
        return NULL;
}

/* The owner sleeps on something else, having kicked or not. */
static void a_helper_drives_a_queue_whose_owner_sleeps(void **state)
{
        struct fixture *fx = *state;
        struct posting p[16];
        char *buf = t_alloc(16 * 8192);
        sem_t sem;

        sem_init(&sem, 0, 0);
        for (int kicked = 0; kicked < 2; kicked++) {
                struct uext4_bdev_queue *q = NULL;
                pthread_t helper;

                assert_int_equal(uext4_bdev_queue_new(fx->dev, 4, &q), 0);
                for (int i = 0; i < 16; i++) {
                        t_req_init(&p[i].r, UEXT4_BDEV_READ, buf + i * 8192, 8192,
                                   (uint64_t)i * 8192);
                        p[i].sem = &sem;
                        p[i].r.req.done = posting_done;
                        assert_int_equal(uext4_bdev_queue_add(q, &p[i].r.req), 0);
                }
                if (kicked)
                        assert_int_equal(uext4_bdev_queue_kick(q), 0);
                pthread_create(&helper, NULL, drive_until_idle, q);
                for (int i = 0; i < 16; i++)
                        while (sem_wait(&sem) < 0)
                                ;
                pthread_join(helper, NULL);
                assert_int_equal(uext4_bdev_queue_in_flight(q), 0);
                assert_memory_equal(buf, fx->model, 16 * 8192);
                uext4_bdev_queue_free(q);
        }
        sem_destroy(&sem);
        free(buf);
}

static void *kick_and_end(void *q)
{
        T_CHECK(uext4_bdev_queue_kick(q) == 0);
        return NULL;
}

/* What a thread has started does not end with it, not even what still waits for its turn. */
static void requests_outlive_the_thread_that_kicked(void **state)
{
        enum {
                NR = 192,
                LEN = 16384
        };
        struct fixture *fx = *state;
        struct uext4_bdev_queue *q = NULL;
        char *buf = t_alloc(NR * LEN);
        struct t_req r[NR];
        pthread_t thread;

        assert_int_equal(uext4_bdev_queue_new(fx->dev, NR, &q), 0);
        for (size_t i = 0; i < NR; i++) {
                t_req_init(&r[i], UEXT4_BDEV_READ, buf + i * LEN, LEN, i * LEN);
                assert_int_equal(uext4_bdev_queue_add(q, &r[i].req), 0);
        }
        pthread_create(&thread, NULL, kick_and_end, q);
        pthread_join(thread, NULL);
        t_drain(q);
        for (size_t i = 0; i < NR; i++)
                assert_int_equal(r[i].result, 0);
        assert_memory_equal(buf, fx->model, NR * LEN);
        uext4_bdev_queue_free(q);
        free(buf);
}

struct helping {
        struct load *load;
        int64_t timeout_ns;
};

static void *help(void *arg)
{
        struct helping *h = arg;

        while (atomic_load(&h->load->nr_active) > 0)
                T_CHECK(uext4_bdev_queue_drive(h->load->q, h->timeout_ns) >= 0);
        return NULL;
}

/* Helpers with different patience, while the owner adds, and drives or not. */
static void helpers_and_owner_share_the_work(void **state)
{
        struct fixture *fx = *state;

        for (int owner_drives = 0; owner_drives < 2; owner_drives++) {
                struct load *load = load_new(fx, 16, 12);
                struct helping how[3] = {{load, -1}, {load, 50000}, {load, 0}};
                pthread_t helpers[3];

                for (int i = 0; i < 3; i++)
                        pthread_create(&helpers[i], NULL, help, &how[i]);
                for (unsigned s = 0; s < NR_SLOTS; s++) {
                        slot_start(&load->slots[s]);
                        if (s % 5 == 0)
                                assert_int_equal(uext4_bdev_queue_kick(load->q), 0);
                }
                if (owner_drives)
                        help(&how[0]);
                for (int i = 0; i < 3; i++)
                        pthread_join(helpers[i], NULL);
                assert_int_equal(uext4_bdev_queue_in_flight(load->q), 0);
                load_free(load);
        }
        check_against_model(fx);
}

struct reader {
        struct fixture *fx;
        pthread_t thread;
};

static void *read_all(void *arg)
{
        struct reader *reader = arg;
        struct fixture *fx = reader->fx;
        char *buf = t_alloc(65536);

        for (uint64_t pos = 0; pos + 65536 <= SIZE; pos += 65536) {
                T_CHECK(uext4_bdev_read(fx->dev, buf, 65536, pos) == 0);
                T_CHECK(memcmp(buf, fx->model + pos, 65536) == 0);
        }
        free(buf);
        return NULL;
}

static void many_threads_read(void **state)
{
        struct reader readers[4];

        for (int i = 0; i < 4; i++) {
                readers[i].fx = *state;
                pthread_create(&readers[i].thread, NULL, read_all, &readers[i]);
        }
        for (int i = 0; i < 4; i++)
                pthread_join(readers[i].thread, NULL);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static const struct CMUnitTest tests[] = {
        T(geometry_keeps_its_rules),
        T(reads_what_was_written),
        T(vectors_of_many_shapes),
        T(vectors_of_the_finest_segments),
        T(ranges_beyond_the_end_are_enxio),
        T(misalignment_is_einval),
        T(a_length_that_is_not_the_vectors_is_einval),
        T(nothing_is_fine),
        T(read_bytes_takes_any_range),
        T(flush_and_fua_succeed),
        T(discard_keeps_to_its_range),
        T(write_zeroes_keeps_to_its_range),
        T(a_read_only_device_refuses_to_change),
        T(queue_agrees_with_model),
        T(more_requests_than_depth),
        T(done_may_add),
        T(a_queue_in_steady_state_allocates_nothing),
        T(driving_an_idle_queue_returns_at_once),
        T(polling_completes),
        T(the_eventfd_tells_when_to_drive),
        T(a_late_eventfd_tells_of_earlier_requests),
        T(free_completes_what_is_under_way),
        T(a_helper_drives_a_queue_whose_owner_sleeps),
        T(requests_outlive_the_thread_that_kicked),
        T(helpers_and_owner_share_the_work),
        T(many_threads_read),
};

int main(void)
{
        int failed = 0;

        for (size_t i = 0; i < sizeof(backends) / sizeof(backends[0]); i++) {
                current = &backends[i];
                if (current->dir && *current->dir && access(current->dir, W_OK) != 0) {
                        print_message("%s: no %s here, skipped\n", current->name, current->dir);
                        continue;
                }
                failed += cmocka_run_group_tests_name(current->name, tests, NULL, NULL);
        }
        return failed != 0;
}
