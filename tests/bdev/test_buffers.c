/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Memory that is registered with a queue, and writes that are not torn: what is asked of both.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tdev.h"

#define SIZE  (1u << 20)
#define BLOCK 4096u

/* ---- devices ---- */

enum kind {
        ON_FILE, /* io_uring, where the host has it */
        ON_CACHED_FILE,
        ON_MEMORY,
        ON_FILTERS,
        ON_SLICE,
        ON_COW,
        ON_SIM,
        NR_KINDS,
};

static struct uext4_bdev *open_file(uint32_t flags)
{
        struct uext4_bdev *dev;
        char path[256];

        t_file_new(NULL, SIZE, path, sizeof(path));
        assert_int_equal(uext4_bdev_open_file(path, flags, NULL, NULL, &dev), 0);
        unlink(path);
        return dev;
}

static struct uext4_bdev *open_kind(enum kind kind)
{
        const struct uext4_bdev_sim_params params = {
                .size = SIZE, .atomic_max = 16384, .seed = 1};
        struct uext4_bdev *dev = NULL, *lower;

        switch (kind) {
        case ON_FILE:
                return open_file(0);
        case ON_CACHED_FILE:
                return open_file(UEXT4_BDEV_OPEN_BUFFERED);
        case ON_MEMORY:
                assert_int_equal(uext4_bdev_open_mem(SIZE, &dev), 0);
                return dev;
        case ON_FILTERS:
                assert_int_equal(uext4_bdev_open_fault(open_file(0), &lower), 0);
                assert_int_equal(uext4_bdev_open_trace(lower, 16, &dev), 0);
                return dev;
        case ON_SLICE:
                assert_int_equal(uext4_bdev_open_slice(open_file(0), 65536, 0, &dev), 0);
                return dev;
        case ON_COW:
                assert_int_equal(uext4_bdev_open_cow(open_file(0), 0, &dev), 0);
                return dev;
        default:
                assert_int_equal(uext4_bdev_open_sim(&params, &dev), 0);
                return dev;
        }
}

static int result_of;
static bool is_done;

static void done(struct uext4_bdev_req *req)
{
        result_of = req->result;
        is_done = true;
}

/* One request, and its result, or what add said. */
static int run(struct uext4_bdev_queue *q, struct uext4_bdev_req req)
{
        int ret;

        req.done = done;
        for (int i = 0; i < req.nr_iov; i++)
                req.len += req.iov[i].iov_len;
        is_done = false;
        ret = uext4_bdev_queue_add(q, &req);
        if (ret < 0)
                return ret;
        while (!is_done)
                assert_true(uext4_bdev_queue_drive(q, -1) >= 0);
        return result_of;
}

/* ---- registered buffers ---- */

static void registered_buffers_are_used_many_times(void **state)
{
        for (enum kind kind = 0; kind < NR_KINDS; kind++) {
                struct uext4_bdev *dev = open_kind(kind);
                char *mem = t_alloc(64 * BLOCK), *other = t_alloc(BLOCK);
                const struct iovec buffers[2] = {{mem, 16 * BLOCK},
                                                 {mem + 32 * BLOCK, 32 * BLOCK}};
                struct uext4_bdev_queue *q;

                assert_int_equal(uext4_bdev_queue_new(dev, 8, &q), 0);
                for (unsigned round = 0; round < 2; round++) {
                        assert_int_equal(uext4_bdev_queue_register(q, buffers, 2), 0);
                        t_fill(mem, 64 * BLOCK);
                        for (unsigned i = 0; i < 16; i++) {
                                struct iovec iov = {mem + i * BLOCK, BLOCK};
                                struct uext4_bdev_req req = {.op = UEXT4_BDEV_WRITE,
                                                             .flags = UEXT4_BDEV_FIXED,
                                                             .pos = i * BLOCK,
                                                             .iov = &iov,
                                                             .nr_iov = 1};

                                if (i % 4 == 3)
                                        req.flags |= UEXT4_BDEV_FUA;
                                assert_int_equal(run(q, req), 0);
                                iov.iov_base = mem + (32 + i) * BLOCK;
                                req.op = UEXT4_BDEV_READ;
                                req.flags = UEXT4_BDEV_FIXED;
                                req.buffer = 1;
                                assert_int_equal(run(q, req), 0);
                        }
                        assert_memory_equal(mem, mem + 32 * BLOCK, 16 * BLOCK);
                        assert_int_equal(uext4_bdev_queue_unregister(q), 0);
                }
                /* Others beside them. */
                assert_int_equal(uext4_bdev_queue_register(q, buffers, 2), 0);
                assert_int_equal(
                        run(q, (struct uext4_bdev_req){.op = UEXT4_BDEV_READ,
                                                       .iov = &(struct iovec){other, BLOCK},
                                                       .nr_iov = 1}),
                        0);
                assert_memory_equal(other, mem, BLOCK);
                uext4_bdev_queue_free(q); /* they are forgotten with it */
                uext4_bdev_close(dev);
                free(mem);
                free(other);
        }
}

static void what_is_not_in_a_buffer_is_refused(void **state)
{
        struct uext4_bdev *dev = open_kind(ON_FILE);
        char *mem = t_alloc(16 * BLOCK);
        const struct iovec buffer = {mem, 4 * BLOCK};
        const struct iovec bad[] = {{NULL, BLOCK}, {mem, 0}};
        struct uext4_bdev_queue *q;
        const struct {
                enum uext4_bdev_op op;
                struct iovec iov[2];
                int nr_iov;
                uint32_t buffer;
        } rows[] = {
                {UEXT4_BDEV_READ, {{mem + 3 * BLOCK, 2 * BLOCK}}, 1, 0},
                {UEXT4_BDEV_READ, {{mem + 5 * BLOCK, BLOCK}}, 1, 0},
                {UEXT4_BDEV_WRITE, {{mem, BLOCK}}, 1, 1},
                {UEXT4_BDEV_WRITE, {{mem, BLOCK}, {mem + BLOCK, BLOCK}}, 2, 0},
                {UEXT4_BDEV_FLUSH, {{NULL, 0}}, 0, 0},
                {UEXT4_BDEV_WRITE_ZEROES, {{NULL, 0}}, 0, 0},
        };

        assert_int_equal(uext4_bdev_queue_new(dev, 8, &q), 0);
        assert_int_equal(uext4_bdev_queue_unregister(q), 0);
        assert_int_equal(uext4_bdev_queue_register(q, &buffer, 0), -EINVAL);
        assert_int_equal(uext4_bdev_queue_register(q, &buffer, UEXT4_MAX_BUFFERS + 1), -EINVAL);
        for (unsigned i = 0; i < 2; i++)
                assert_int_equal(uext4_bdev_queue_register(q, &bad[i], 1), -EINVAL);
        for (unsigned registered = 0; registered < 2; registered++) {
                for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
                        const struct uext4_bdev_req req = {.op = rows[i].op,
                                                           .flags = UEXT4_BDEV_FIXED,
                                                           .iov = rows[i].iov,
                                                           .nr_iov = rows[i].nr_iov,
                                                           .buffer = rows[i].buffer};

                        assert_int_equal(run(q, req), -EINVAL);
                }
                assert_int_equal(uext4_bdev_queue_register(q, &buffer, 1),
                                 registered ? -EBUSY : 0);
        }
        assert_int_equal(uext4_bdev_write(dev, mem, BLOCK, 0, UEXT4_BDEV_FIXED), -EINVAL);
        uext4_bdev_queue_free(q);
        uext4_bdev_close(dev);
        free(mem);
}

static void they_stay_while_requests_are_under_way(void **state)
{
        struct t_user *user = t_user_new(SIZE, 0, T_USER_QUEUE);
        char *mem = t_alloc(BLOCK);
        const struct iovec iov = {mem, BLOCK};
        struct uext4_bdev_req req = {.op = UEXT4_BDEV_READ,
                                     .len = BLOCK,
                                     .iov = &iov,
                                     .nr_iov = 1,
                                     .flags = UEXT4_BDEV_FIXED,
                                     .done = done};
        struct uext4_bdev_queue *q;

        assert_int_equal(uext4_bdev_queue_new(&user->dev, 8, &q), 0);
        assert_int_equal(uext4_bdev_queue_register(q, &iov, 1), 0);
        assert_int_equal(uext4_bdev_queue_add(q, &req), 0);
        assert_int_equal(uext4_bdev_queue_unregister(q), -EBUSY);
        assert_int_equal(uext4_bdev_queue_register(q, &iov, 1), -EBUSY);
        uext4_bdev_queue_free(q);
        uext4_bdev_close(&user->dev);
        free(mem);
}

/* Also to nothing at all. */
static void cut_down_they_are_read_to_the_end(void **state)
{
        static const struct {
                uint64_t short_len;
                int want;
        } rows[] = {{512, 0}, {0, -EIO}};
        char *mem = t_alloc(BLOCK);
        const struct iovec iov = {mem, BLOCK};
        const struct uext4_bdev_req req = {
                .op = UEXT4_BDEV_READ, .flags = UEXT4_BDEV_FIXED, .iov = &iov, .nr_iov = 1};

        for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
                const struct uext4_bdev_fault rule = {.ops = 1u << UEXT4_BDEV_READ,
                                                      .count = 1,
                                                      .short_len = rows[i].short_len};
                struct uext4_bdev_queue *q;
                struct uext4_bdev *dev;

                assert_int_equal(uext4_bdev_open_fault(open_kind(ON_MEMORY), &dev), 0);
                assert_int_equal(uext4_bdev_queue_new(dev, 4, &q), 0);
                assert_int_equal(uext4_bdev_queue_register(q, &iov, 1), 0);
                assert_int_equal(uext4_bdev_fault_add(dev, &rule), 0);
                assert_int_equal(run(q, req), rows[i].want);
                assert_int_equal(uext4_bdev_fault_hits(dev), 1);
                uext4_bdev_queue_free(q);
                uext4_bdev_close(dev);
        }
        free(mem);
}

/* ---- atomic writes ---- */

static void atomic_writes_have_bounds_C52(void **state)
{
        static const struct {
                uint64_t pos, len;
                int want;
        } rows[] = {
                {0, 512, 0},          {512, 512, 0},
                {16384, 16384, 0},    {8192, 16384, -EINVAL},
                {0, 32768, -EINVAL},  {0, 1536, -EINVAL},
                {512, 1024, -EINVAL}, {0, 0, -EINVAL},
        };
        struct uext4_bdev *sim = open_kind(ON_SIM);
        struct uext4_bdev *file = open_kind(ON_FILE);
        char *mem = t_alloc(SIZE);

        for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
                assert_int_equal(
                        uext4_bdev_write(sim, mem, rows[i].len, rows[i].pos, UEXT4_BDEV_ATOMIC),
                        rows[i].want);
        /* Whatever the host says of a file, it is carried out or refused, not torn. */
        if (uext4_bdev_geometry(file)->atomic_max == 0)
                assert_int_equal(uext4_bdev_write(file, mem, BLOCK, 0, UEXT4_BDEV_ATOMIC),
                                 -EOPNOTSUPP);
        else
                assert_int_equal(uext4_bdev_write(file, mem,
                                                  uext4_bdev_geometry(file)->atomic_min, 0,
                                                  UEXT4_BDEV_ATOMIC),
                                 0);
        assert_int_equal(uext4_bdev_write_zeroes(sim, 0, BLOCK, UEXT4_BDEV_ATOMIC), -EINVAL);
        uext4_bdev_close(sim);
        uext4_bdev_close(file);
        free(mem);
}

/* A slice that begins in the middle of one cannot have it. */
static void a_slice_has_what_is_aligned_below(void **state)
{
        static const struct {
                uint64_t pos;
                uint32_t max;
        } rows[] = {{0, 16384}, {65536, 16384}, {8192, 8192}, {512, 512}, {1536, 512}};

        for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
                struct uext4_bdev *dev;

                assert_int_equal(uext4_bdev_open_slice(open_kind(ON_SIM), rows[i].pos, 0, &dev),
                                 0);
                assert_int_equal(uext4_bdev_geometry(dev)->atomic_max, rows[i].max);
                assert_int_equal(uext4_bdev_geometry(dev)->atomic_min, 512);
                uext4_bdev_close(dev);
        }
}

/* It counts as one sector: of all outcomes there are two. */
static void the_simulator_does_not_tear_it(void **state)
{
        for (uint32_t flags = 0; flags <= UEXT4_BDEV_ATOMIC; flags += UEXT4_BDEV_ATOMIC) {
                struct uext4_bdev *sim = open_kind(ON_SIM);
                struct uext4_bdev_sim_survivor how = {.mode = UEXT4_BDEV_SIM_SECTORS};
                struct uext4_bdev_sim_state st;
                char *mem = t_alloc(SIZE);
                unsigned nr_torn = 0;

                memset(mem, 'x', 2048);
                assert_int_equal(uext4_bdev_write(sim, mem, 2048, 4096, flags), 0);
                uext4_bdev_sim_state(sim, &st);
                assert_int_equal(st.nr_sectors, flags ? 1 : 4);
                for (; uext4_bdev_sim_survivor(sim, &how, mem) == 0; how.index++) {
                        unsigned nr = 0;

                        for (unsigned at = 4096; at < 4096 + 2048; at += 512)
                                nr += mem[at] == 'x';
                        nr_torn += nr > 0 && nr < 4;
                }
                assert_int_equal(how.index, flags ? 2 : 16);
                assert_int_equal(nr_torn, flags ? 0 : 14);
                uext4_bdev_close(sim);
                free(mem);
        }
}

/* What is moved in part cannot be made whole any more. */
static void cut_down_it_is_an_error(void **state)
{
        const struct uext4_bdev_fault rule = {
                .ops = 1u << UEXT4_BDEV_WRITE, .count = 2, .short_len = 512};
        struct uext4_bdev *dev;
        struct uext4_bdev_queue *q;
        char *mem = t_alloc(BLOCK);
        const struct iovec iov = {mem, BLOCK};

        assert_int_equal(uext4_bdev_open_fault(open_kind(ON_SIM), &dev), 0);
        assert_int_equal(uext4_bdev_queue_new(dev, 4, &q), 0);
        assert_int_equal(uext4_bdev_fault_add(dev, &rule), 0);
        assert_int_equal(uext4_bdev_write(dev, mem, BLOCK, 0, UEXT4_BDEV_ATOMIC), -EIO);
        assert_int_equal(run(q, (struct uext4_bdev_req){.op = UEXT4_BDEV_WRITE,
                                                        .flags = UEXT4_BDEV_ATOMIC,
                                                        .iov = &iov,
                                                        .nr_iov = 1}),
                         -EIO);
        assert_int_equal(uext4_bdev_write(dev, mem, BLOCK, 0, UEXT4_BDEV_ATOMIC), 0);
        uext4_bdev_queue_free(q);
        uext4_bdev_close(dev);
        free(mem);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(registered_buffers_are_used_many_times),
                cmocka_unit_test(what_is_not_in_a_buffer_is_refused),
                cmocka_unit_test(they_stay_while_requests_are_under_way),
                cmocka_unit_test(cut_down_they_are_read_to_the_end),
                cmocka_unit_test(atomic_writes_have_bounds_C52),
                cmocka_unit_test(a_slice_has_what_is_aligned_below),
                cmocka_unit_test(the_simulator_does_not_tear_it),
                cmocka_unit_test(cut_down_it_is_an_error),
        };

        return cmocka_run_group_tests_name("bdev_buffers", tests, NULL, NULL);
}
