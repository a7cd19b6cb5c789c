/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The overlay: reads see writes, the lower device never does, and memory has a bound.
 * Lower devices are read-only memory full of random bytes, or the user's device with a queue
 * that can be held.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "tdev.h"
#include "util/alloc.h"

#define CHUNK 4096
#define SIZE  (64 * CHUNK + 1536) /* the last chunk is short */
#define BLOCK 512

struct fixture {
        struct uext4_bdev *dev;
        char *lower; /* the bytes of the lower device */
        char *copy;  /* what they were */
        char *model;
        char *buf;
};

static int setup_with(void **state, uint64_t max_bytes)
{
        struct fixture *fx = calloc(1, sizeof(*fx));
        struct uext4_bdev *lower = NULL;

        fx->lower = t_alloc(SIZE);
        fx->copy = t_alloc(SIZE);
        fx->model = t_alloc(SIZE);
        fx->buf = t_alloc(SIZE);
        t_fill(fx->lower, SIZE);
        memcpy(fx->copy, fx->lower, SIZE);
        memcpy(fx->model, fx->lower, SIZE);
        assert_int_equal(
                uext4_bdev_open_buffer(fx->lower, SIZE, UEXT4_BDEV_OPEN_READONLY, &lower), 0);
        assert_int_equal(uext4_bdev_open_cow(lower, max_bytes, &fx->dev), 0);
        *state = fx;
        return 0;
}

static int setup(void **state)
{
        return setup_with(state, 0);
}

static int setup_for_three_chunks(void **state)
{
        return setup_with(state, 4 * CHUNK - 1);
}

static int teardown(void **state)
{
        struct fixture *fx = *state;

        uext4_bdev_close(fx->dev);
        assert_memory_equal(fx->lower, fx->copy, SIZE);
        free(fx->buf);
        free(fx->model);
        free(fx->copy);
        free(fx->lower);
        free(fx);
        return 0;
}

static void check_against_model(struct fixture *fx)
{
        assert_int_equal(uext4_bdev_read(fx->dev, fx->buf, SIZE, 0), 0);
        assert_memory_equal(fx->buf, fx->model, SIZE);
}

static int write_at(struct fixture *fx, uint64_t pos, size_t len)
{
        int ret;

        t_fill(fx->buf, len);
        ret = uext4_bdev_write(fx->dev, fx->buf, len, pos, 0);
        if (ret == 0)
                memcpy(fx->model + pos, fx->buf, len);
        return ret;
}

static void it_is_writable_and_not_volatile(void **state)
{
        struct fixture *fx = *state;
        const struct uext4_bdev_geometry *geo = uext4_bdev_geometry(fx->dev);

        assert_int_equal(geo->size, SIZE);
        assert_int_equal(geo->caps & (UEXT4_BDEV_CAP_READONLY | UEXT4_BDEV_CAP_VOLATILE), 0);
        assert_true(geo->caps & UEXT4_BDEV_CAP_DISCARD);
        assert_int_equal(uext4_bdev_flush(fx->dev), 0);
        assert_int_equal(uext4_bdev_cow_bytes(fx->dev), 0);
        check_against_model(fx);
        assert_int_equal(uext4_bdev_cow_bytes(fx->dev), 0); /* reading makes no copies */
}

/* Sectors at the edges of a chunk, ranges over several, and the short last chunk. */
static void parts_of_chunks_keep_the_rest(void **state)
{
        static const struct {
                uint64_t pos;
                size_t len;
                uint64_t chunks; /* in use afterwards */
        } table[] = {
                {0, BLOCK, 1},
                {2 * CHUNK - BLOCK, BLOCK, 2},
                {3 * CHUNK - BLOCK, 2 * BLOCK, 4},
                {5 * CHUNK + BLOCK, 2 * CHUNK, 7},
                {6 * CHUNK, CHUNK, 7},
                {9 * CHUNK, 2 * CHUNK, 9},
                {SIZE - BLOCK, BLOCK, 10},
        };
        struct fixture *fx = *state;

        for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
                assert_int_equal(write_at(fx, table[i].pos, table[i].len), 0);
                assert_int_equal(uext4_bdev_cow_bytes(fx->dev), table[i].chunks * CHUNK);
                check_against_model(fx);
        }
        assert_int_equal(uext4_bdev_write_zeroes(fx->dev, SIZE - 3 * BLOCK, BLOCK, 0), 0);
        memset(fx->model + SIZE - 3 * BLOCK, 0, BLOCK);
        assert_int_equal(uext4_bdev_write_zeroes(fx->dev, 20 * CHUNK + BLOCK, CHUNK, 0), 0);
        memset(fx->model + 20 * CHUNK + BLOCK, 0, CHUNK);
        check_against_model(fx);
        assert_int_equal(uext4_bdev_cow_bytes(fx->dev), 12 * CHUNK);
}

static void discard_gives_memory_back(void **state)
{
        struct fixture *fx = *state;

        assert_int_equal(write_at(fx, 8 * CHUNK, 4 * CHUNK), 0);
        assert_int_equal(write_at(fx, SIZE - BLOCK, BLOCK), 0);
        assert_int_equal(uext4_bdev_cow_bytes(fx->dev), 5 * CHUNK);

        /* Chunks 9 and 10 whole, parts of 8 and 11. */
        assert_int_equal(uext4_bdev_discard(fx->dev, 8 * CHUNK + BLOCK, 3 * CHUNK), 0);
        memcpy(fx->model + 9 * CHUNK, fx->lower + 9 * CHUNK, 2 * CHUNK);
        assert_int_equal(uext4_bdev_cow_bytes(fx->dev), 3 * CHUNK);
        check_against_model(fx);

        /* To the end: the short chunk is whole. */
        assert_int_equal(uext4_bdev_discard(fx->dev, 64 * CHUNK, SIZE - 64 * CHUNK), 0);
        memcpy(fx->model + 64 * CHUNK, fx->lower + 64 * CHUNK, SIZE - 64 * CHUNK);
        assert_int_equal(uext4_bdev_cow_bytes(fx->dev), 2 * CHUNK);
        check_against_model(fx);

        assert_int_equal(uext4_bdev_discard(fx->dev, 0, SIZE), 0);
        assert_int_equal(uext4_bdev_cow_bytes(fx->dev), 0);
        memcpy(fx->model, fx->lower, SIZE);
        check_against_model(fx);
}

static void memory_has_a_bound(void **state)
{
        struct fixture *fx = *state;

        assert_int_equal(write_at(fx, 0, BLOCK), 0);
        assert_int_equal(write_at(fx, 4 * CHUNK, 2 * CHUNK), 0);
        assert_int_equal(write_at(fx, 8 * CHUNK, BLOCK), -ENOSPC);
        assert_int_equal(uext4_bdev_write_zeroes(fx->dev, 9 * CHUNK, CHUNK, 0), -ENOSPC);
        assert_int_equal(uext4_bdev_cow_bytes(fx->dev), 3 * CHUNK);
        check_against_model(fx);

        /* There is room for more of the same, and for others when one goes. */
        assert_int_equal(write_at(fx, BLOCK, 4 * BLOCK), 0);
        assert_int_equal(uext4_bdev_discard(fx->dev, 4 * CHUNK, CHUNK), 0);
        memcpy(fx->model + 4 * CHUNK, fx->lower + 4 * CHUNK, CHUNK);
        assert_int_equal(write_at(fx, 8 * CHUNK, BLOCK), 0);
        assert_int_equal(write_at(fx, 9 * CHUNK, BLOCK), -ENOSPC);
        check_against_model(fx);
}

static int queued(struct uext4_bdev_queue *q, enum uext4_bdev_op op, void *buf, uint64_t len,
                  uint64_t pos)
{
        struct t_req r;

        t_req_init(&r, op, buf, len, pos);
        assert_int_equal(uext4_bdev_queue_add(q, &r.req), 0);
        t_drain(q);
        assert_int_equal(r.nr_done, 1);
        return r.result;
}

/* Both faces, all operations, ranges of all sizes. */
static void random_requests_agree_with_the_model(void **state)
{
        struct fixture *fx = *state;
        struct uext4_bdev_queue *q = NULL;

        assert_int_equal(uext4_bdev_queue_new(fx->dev, 4, &q), 0);
        for (int i = 0; i < 2000; i++) {
                const uint64_t max = t_random_below(16) ? 24 : SIZE / BLOCK;
                const uint64_t len = (1 + t_random_below(max)) * BLOCK;
                const uint64_t pos = t_random_below((SIZE - len) / BLOCK + 1) * BLOCK;
                const bool use_queue = t_random_below(2);
                const struct iovec iov[3] = {
                        {fx->buf, 1}, {fx->buf + 1, len - 100}, {fx->buf + len - 99, 99}};

                switch (t_random_below(8)) {
                case 0:
                case 1:
                        t_fill(fx->buf, len);
                        memcpy(fx->model + pos, fx->buf, len);
                        if (use_queue)
                                assert_int_equal(queued(q, UEXT4_BDEV_WRITE, fx->buf, len, pos),
                                                 0);
                        else
                                assert_int_equal(uext4_bdev_writev(fx->dev, iov, 3, pos, 0), 0);
                        break;
                case 2:
                        memset(fx->model + pos, 0, len);
                        if (use_queue)
                                assert_int_equal(
                                        queued(q, UEXT4_BDEV_WRITE_ZEROES, NULL, len, pos), 0);
                        else
                                assert_int_equal(uext4_bdev_write_zeroes(fx->dev, pos, len, 0),
                                                 0);
                        break;
                case 3: /* undefined afterwards */
                        assert_int_equal(queued(q, UEXT4_BDEV_DISCARD, NULL, len, pos), 0);
                        assert_int_equal(uext4_bdev_read(fx->dev, fx->model + pos, len, pos),
                                         0);
                        break;
                default:
                        memset(fx->buf, 0x55, len);
                        if (use_queue)
                                assert_int_equal(queued(q, UEXT4_BDEV_READ, fx->buf, len, pos),
                                                 0);
                        else
                                assert_int_equal(uext4_bdev_readv(fx->dev, iov, 3, pos), 0);
                        assert_memory_equal(fx->buf, fx->model + pos, len);
                }
        }
        uext4_bdev_queue_free(q);
        check_against_model(fx);
}

/* A bad block below hurts only who needs it. */
static void lower_errors_are_seen_where_lower_is_read(void **state)
{
        struct uext4_bdev *mem = NULL, *fault = NULL, *cow = NULL;
        const struct uext4_bdev_fault bad = {
                .ops = 1u << UEXT4_BDEV_READ, .pos = 4 * CHUNK, .len = BLOCK, .error = -EILSEQ};
        char *buf = t_alloc(16 * CHUNK);

        assert_int_equal(uext4_bdev_open_mem(16 * CHUNK, &mem), 0);
        assert_int_equal(uext4_bdev_open_fault(mem, &fault), 0);
        assert_int_equal(uext4_bdev_fault_add(fault, &bad), 0);
        assert_int_equal(uext4_bdev_open_cow(fault, 0, &cow), 0);
        memset(buf, 7, 16 * CHUNK);

        assert_int_equal(uext4_bdev_read(cow, buf, 16 * CHUNK, 0), -EILSEQ);
        assert_int_equal(uext4_bdev_write(cow, buf, BLOCK, 5 * CHUNK - BLOCK, 0), -EILSEQ);
        assert_int_equal(uext4_bdev_cow_bytes(cow), 0);
        assert_int_equal(uext4_bdev_write(cow, buf, CHUNK, 4 * CHUNK, 0), 0);
        assert_int_equal(uext4_bdev_write(cow, buf, BLOCK, 5 * CHUNK - BLOCK, 0), 0);
        assert_int_equal(uext4_bdev_read(cow, buf, 16 * CHUNK, 0), 0);
        uext4_bdev_close(cow);
        free(buf);
}

/* The lower queue is held: what goes there stays under way, the rest does not. */
static void reads_without_a_copy_use_the_lower_queue(void **state)
{
        struct t_user *user = t_user_new(256 * 1024, UEXT4_BDEV_CAP_VOLATILE, T_USER_QUEUE);
        struct uext4_bdev *cow = NULL;
        struct uext4_bdev_queue *q = NULL;
        char *buf = t_alloc(4 * CHUNK);
        struct t_req below[2], own[3];

        t_fill(user->mem, 256 * 1024);
        assert_int_equal(uext4_bdev_open_cow(&user->dev, 0, &cow), 0);
        memset(buf, 1, CHUNK);
        assert_int_equal(uext4_bdev_write(cow, buf, CHUNK, CHUNK, 0), 0);
        assert_int_equal(uext4_bdev_queue_new(cow, 8, &q), 0);
        t_user_hold(user, true);

        t_req_init(&below[0], UEXT4_BDEV_READ, buf, CHUNK, 0);
        t_req_init(&below[1], UEXT4_BDEV_READ, buf + CHUNK, CHUNK, 2 * CHUNK);
        t_req_init(&own[0], UEXT4_BDEV_READ, buf + 2 * CHUNK, 2 * CHUNK, CHUNK);
        t_req_init(&own[1], UEXT4_BDEV_WRITE, buf, CHUNK, 5 * CHUNK);
        t_req_init(&own[2], UEXT4_BDEV_FLUSH, NULL, 0, 0);
        for (int i = 0; i < 2; i++)
                assert_int_equal(uext4_bdev_queue_add(q, &below[i].req), 0);
        for (int i = 0; i < 3; i++)
                assert_int_equal(uext4_bdev_queue_add(q, &own[i].req), 0);
        while (uext4_bdev_queue_in_flight(q) > 2)
                assert_true(uext4_bdev_queue_drive(q, 1000000) >= 0);
        for (int i = 0; i < 3; i++)
                assert_int_equal(own[i].nr_done, 1);
        assert_int_equal(below[0].nr_done + below[1].nr_done, 0);
        assert_int_equal(uext4_bdev_queue_drive(q, 1000000), 0);

        t_user_hold(user, false);
        t_drain(q);
        for (int i = 0; i < 2; i++)
                assert_int_equal(below[i].result, 0);
        assert_memory_equal(buf, user->mem, CHUNK);
        assert_memory_equal(buf + CHUNK, user->mem + 2 * CHUNK, CHUNK);
        assert_int_equal(buf[2 * CHUNK], 1);
        assert_memory_equal(buf + 3 * CHUNK, user->mem + 2 * CHUNK, CHUNK);
        assert_int_equal(user->nr_flushes, 0);
        uext4_bdev_queue_free(q);
        uext4_bdev_close(cow);
        free(buf);
}

/* Each allocation fails once: an error, no leak, and the device goes on. */
static void memory_may_run_out(void **state)
{
        int ret = -ENOMEM;
        char buf[BLOCK] = {0};

        for (int64_t n = 0; ret == -ENOMEM; n++) {
                struct uext4_bdev *mem = NULL, *cow = NULL;

                assert_int_equal(uext4_bdev_open_mem(4 * CHUNK, &mem), 0);
                mem_fail_after(n);
                ret = uext4_bdev_open_cow(mem, 0, &cow);
                if (ret == 0)
                        ret = uext4_bdev_write(cow, buf, BLOCK, 0, 0);
                mem_fail_after(-1);
                if (cow)
                        assert_int_equal(uext4_bdev_write(cow, buf, BLOCK, 0, 0), 0);
                uext4_bdev_close(cow ? cow : mem);
        }
        assert_int_equal(ret, 0);
}

/* ---- two writes that meet in a chunk: the lower read of one lets the other one pass ---- */

struct meddler {
        struct uext4_bdev dev;
        struct uext4_bdev *cow;
        bool meddle;
};

static int64_t meddle_and_read(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                               uint64_t pos)
{
        struct meddler *m = (struct meddler *)(void *)dev;
        int64_t moved = 0;
        char buf[BLOCK];

        if (m->meddle) {
                m->meddle = false;
                memset(buf, 2, BLOCK);
                T_CHECK(uext4_bdev_write(m->cow, buf, BLOCK, BLOCK, 0) == 0);
        }
        for (int i = 0; i < nr_iov; i++) {
                memset(iov[i].iov_base, 9, iov[i].iov_len);
                moved += (int64_t)iov[i].iov_len;
        }
        return moved;
}

static void leave_open(struct uext4_bdev *dev)
{
}

static void the_first_copy_of_a_chunk_stays(void **state)
{
        static const struct uext4_bdev_ops ops = {
                .name = "meddler", .read = meddle_and_read, .close = leave_open};
        const struct uext4_bdev_geometry geo = {.size = 4 * CHUNK,
                                                .logical_block = BLOCK,
                                                .mem_align = 1,
                                                .caps = UEXT4_BDEV_CAP_READONLY};
        struct meddler m = {.meddle = true};
        char buf[3 * BLOCK];

        assert_int_equal(uext4_bdev_init(&m.dev, &ops, &geo), 0);
        assert_int_equal(uext4_bdev_open_cow(&m.dev, CHUNK, &m.cow), 0);
        memset(buf, 1, BLOCK);
        assert_int_equal(uext4_bdev_write(m.cow, buf, BLOCK, 0, 0), 0);
        assert_false(m.meddle);
        assert_int_equal(uext4_bdev_read(m.cow, buf, 3 * BLOCK, 0), 0);
        assert_int_equal(buf[0], 1);
        assert_int_equal(buf[BLOCK], 2);
        assert_int_equal(buf[2 * BLOCK], 9);
        assert_int_equal(uext4_bdev_cow_bytes(m.cow), CHUNK);
        uext4_bdev_close(m.cow);
}

/* ---- threads: each owns every fourth block, so that they meet in every chunk ---- */

struct writer {
        struct fixture *fx;
        pthread_t thread;
        uint64_t first;
        uint64_t seed;
};

static void *write_every_fourth(void *arg)
{
        struct writer *w = arg;
        char *buf = t_alloc(2 * BLOCK);

        for (int round = 0; round < 8; round++) {
                for (uint64_t b = w->first; b < SIZE / BLOCK; b += 4) {
                        memset(buf, (int)(w->seed + b + (uint64_t)round), BLOCK);
                        T_CHECK(uext4_bdev_write(w->fx->dev, buf, BLOCK, b * BLOCK, 0) == 0);
                        T_CHECK(uext4_bdev_read(w->fx->dev, buf + BLOCK, BLOCK, b * BLOCK) ==
                                0);
                        T_CHECK(memcmp(buf, buf + BLOCK, BLOCK) == 0);
                        memcpy(w->fx->model + b * BLOCK, buf, BLOCK);
                }
        }
        free(buf);
        return NULL;
}

static void threads_meet_in_chunks(void **state)
{
        struct fixture *fx = *state;
        struct writer w[3];

        for (int i = 0; i < 3; i++) {
                w[i] = (struct writer){.fx = fx, .first = (uint64_t)i, .seed = t_random()};
                pthread_create(&w[i].thread, NULL, write_every_fourth, &w[i]);
        }
        for (int i = 0; i < 3; i++)
                pthread_join(w[i].thread, NULL);
        check_against_model(fx);
        assert_int_equal(uext4_bdev_cow_bytes(fx->dev), 65 * CHUNK);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        static const struct CMUnitTest tests[] = {
                T(it_is_writable_and_not_volatile),
                T(parts_of_chunks_keep_the_rest),
                T(discard_gives_memory_back),
                cmocka_unit_test_setup_teardown(memory_has_a_bound, setup_for_three_chunks,
                                                teardown),
                T(random_requests_agree_with_the_model),
                cmocka_unit_test(lower_errors_are_seen_where_lower_is_read),
                cmocka_unit_test(reads_without_a_copy_use_the_lower_queue),
                cmocka_unit_test(the_first_copy_of_a_chunk_stays),
                cmocka_unit_test(memory_may_run_out),
                T(threads_meet_in_chunks),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
