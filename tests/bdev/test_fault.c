/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The fault filter: which requests a rule catches, and what their callers see. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "tdev.h"

#define SIZE  (1024 * 1024)
#define BLOCK 512

#define READS  (1u << UEXT4_BDEV_READ)
#define WRITES (1u << UEXT4_BDEV_WRITE)

struct fixture {
        struct uext4_bdev *dev;
        char *model;
        char *buf;
};

static int setup(void **state)
{
        struct fixture *fx = calloc(1, sizeof(*fx));
        struct uext4_bdev *mem = NULL;

        fx->model = t_alloc(SIZE);
        fx->buf = t_alloc(SIZE);
        t_fill(fx->model, SIZE);
        assert_int_equal(uext4_bdev_open_mem(SIZE, &mem), 0);
        assert_int_equal(uext4_bdev_write(mem, fx->model, SIZE, 0, 0), 0);
        assert_int_equal(uext4_bdev_open_fault(mem, &fx->dev), 0);
        *state = fx;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *fx = *state;

        uext4_bdev_close(fx->dev);
        free(fx->buf);
        free(fx->model);
        free(fx);
        return 0;
}

static void add_rule(struct fixture *fx, struct uext4_bdev_fault rule)
{
        assert_int_equal(uext4_bdev_fault_add(fx->dev, &rule), 0);
}

static int read_at(struct fixture *fx, uint64_t pos, size_t len)
{
        return uext4_bdev_read(fx->dev, fx->buf, len, pos);
}

static int queued(struct fixture *fx, enum uext4_bdev_op op, uint64_t pos, size_t len)
{
        struct uext4_bdev_queue *q = NULL;
        struct t_req r;

        assert_int_equal(uext4_bdev_queue_new(fx->dev, 2, &q), 0);
        t_req_init(&r, op, fx->buf, len, pos);
        assert_int_equal(uext4_bdev_queue_add(q, &r.req), 0);
        assert_int_equal(r.nr_done, 0); /* not before somebody drives */
        t_drain(q);
        assert_int_equal(r.nr_done, 1);
        uext4_bdev_queue_free(q);
        return r.result;
}

static void an_operation_fails(void **state)
{
        struct fixture *fx = *state;

        add_rule(fx, (struct uext4_bdev_fault){.ops = WRITES, .error = -ENOSPC});
        assert_int_equal(read_at(fx, 0, BLOCK), 0);
        assert_int_equal(uext4_bdev_write(fx->dev, fx->buf, BLOCK, 0, 0), -ENOSPC);
        assert_int_equal(queued(fx, UEXT4_BDEV_READ, 0, BLOCK), 0);
        assert_int_equal(queued(fx, UEXT4_BDEV_WRITE, 0, BLOCK), -ENOSPC);
        assert_int_equal(uext4_bdev_fault_hits(fx->dev), 2);
        assert_int_equal(read_at(fx, 0, SIZE), 0);
        assert_memory_equal(fx->buf, fx->model, SIZE);
}

static void the_other_operations_fail(void **state)
{
        struct fixture *fx = *state;

        add_rule(fx, (struct uext4_bdev_fault){.ops = 1u << UEXT4_BDEV_FLUSH |
                                                      1u << UEXT4_BDEV_DISCARD |
                                                      1u << UEXT4_BDEV_WRITE_ZEROES,
                                               .error = -EIO});
        assert_int_equal(uext4_bdev_flush(fx->dev), -EIO);
        assert_int_equal(uext4_bdev_discard(fx->dev, 0, BLOCK), -EIO);
        assert_int_equal(uext4_bdev_write_zeroes(fx->dev, 0, BLOCK, 0), -EIO);
        assert_int_equal(queued(fx, UEXT4_BDEV_FLUSH, 0, 0), -EIO);
        assert_int_equal(queued(fx, UEXT4_BDEV_DISCARD, 0, BLOCK), -EIO);
        assert_int_equal(queued(fx, UEXT4_BDEV_WRITE_ZEROES, 0, BLOCK), -EIO);
        uext4_bdev_fault_clear(fx->dev);
        assert_int_equal(uext4_bdev_flush(fx->dev), 0);
        assert_int_equal(queued(fx, UEXT4_BDEV_FLUSH, 0, 0), 0);
        assert_int_equal(uext4_bdev_fault_hits(fx->dev), 6);
}

/* Rule [1024, 2048): every way to lie beside it or over it. */
static void a_range_fails(void **state)
{
        static const struct {
                uint64_t pos;
                size_t len;
                int ret;
        } table[] = {
                {0, 1024, 0},       {0, 1536, -EIO}, {1024, 512, -EIO}, {1536, 512, -EIO},
                {1536, 1024, -EIO}, {2048, 512, 0},  {0, 4096, -EIO},   {SIZE - 512, 512, 0},
        };
        struct fixture *fx = *state;

        add_rule(fx, (struct uext4_bdev_fault){
                             .ops = READS, .pos = 1024, .len = 1024, .error = -EIO});
        for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
                assert_int_equal(read_at(fx, table[i].pos, table[i].len), table[i].ret);

        uext4_bdev_fault_clear(fx->dev);
        add_rule(fx, (struct uext4_bdev_fault){.ops = READS, .pos = 4096, .error = -EIO});
        assert_int_equal(read_at(fx, 0, 4096), 0);
        assert_int_equal(read_at(fx, SIZE - BLOCK, BLOCK), -EIO);
}

static void skip_and_count_are_kept(void **state)
{
        static const int expected[] = {0, 0, -EIO, -EIO, -EIO, 0, 0};
        struct fixture *fx = *state;

        add_rule(fx, (struct uext4_bdev_fault){.ops = READS,
                                               .pos = 512,
                                               .len = 512,
                                               .skip = 2,
                                               .count = 3,
                                               .error = -EIO});
        for (int i = 0; i < 7; i++) {
                assert_int_equal(read_at(fx, 0, 512), 0);
                assert_int_equal(read_at(fx, 512, 512), expected[i]);
        }
        assert_int_equal(uext4_bdev_fault_hits(fx->dev), 3);
}

static void the_newest_rule_decides(void **state)
{
        struct fixture *fx = *state;

        add_rule(fx, (struct uext4_bdev_fault){.ops = READS, .error = -EIO});
        add_rule(fx, (struct uext4_bdev_fault){
                             .ops = READS, .skip = 1, .count = 1, .error = -EILSEQ});
        assert_int_equal(read_at(fx, 0, BLOCK), 0); /* the newer one lets it pass */
        assert_int_equal(read_at(fx, 0, BLOCK), -EILSEQ);
        assert_int_equal(read_at(fx, 0, BLOCK), -EIO); /* the newer one is spent */
        assert_int_equal(read_at(fx, 0, BLOCK), -EIO);
}

/* Once cut short, the core goes on behind it and the caller sees all of its bytes. */
static void a_short_transfer_is_finished(void **state)
{
        static const uint64_t lens[] = {512, 1000, 4096, 65535};
        struct fixture *fx = *state;

        for (size_t i = 0; i < 4; i++) {
                const struct uext4_bdev_fault rule = {
                        .ops = READS | WRITES, .count = 1, .short_len = lens[i]};
                const struct iovec iov[3] = {
                        {fx->buf, 700}, {fx->buf + 700, 60000}, {fx->buf + 60700, 4836}};

                memset(fx->buf, 0, 65536);
                add_rule(fx, rule);
                assert_int_equal(uext4_bdev_readv(fx->dev, iov, 3, 4096), 0);
                assert_memory_equal(fx->buf, fx->model + 4096, 65536);

                memset(fx->buf, 0, 65536);
                add_rule(fx, rule);
                assert_int_equal(queued(fx, UEXT4_BDEV_READ, 4096, 65536), 0);
                assert_memory_equal(fx->buf, fx->model + 4096, 65536);

                t_fill(fx->buf, 65536);
                memcpy(fx->model + 8192, fx->buf, 65536);
                add_rule(fx, rule);
                assert_int_equal(uext4_bdev_writev(fx->dev, iov, 3, 8192, 0), 0);
                t_fill(fx->buf, 65536);
                memcpy(fx->model + 131072, fx->buf, 65536);
                add_rule(fx, rule);
                assert_int_equal(queued(fx, UEXT4_BDEV_WRITE, 131072, 65536), 0);
        }
        assert_int_equal(uext4_bdev_fault_hits(fx->dev), 16);
        assert_int_equal(read_at(fx, 0, SIZE), 0);
        assert_memory_equal(fx->buf, fx->model, SIZE);
}

static void always_short_still_gets_there(void **state)
{
        struct fixture *fx = *state;

        add_rule(fx, (struct uext4_bdev_fault){.ops = READS, .short_len = 1024});
        assert_int_equal(read_at(fx, 0, 65536), 0);
        assert_int_equal(uext4_bdev_fault_hits(fx->dev), 63); /* the last one is 1024 itself */
        assert_int_equal(queued(fx, UEXT4_BDEV_READ, 0, 65536), 0);
        assert_memory_equal(fx->buf, fx->model, 65536);
}

static void an_early_end_is_eio(void **state)
{
        struct fixture *fx = *state;

        add_rule(fx, (struct uext4_bdev_fault){.ops = READS, .count = 3, .short_len = 0});
        assert_int_equal(read_at(fx, 0, 4096), -EIO);
        assert_int_equal(queued(fx, UEXT4_BDEV_READ, 0, 4096), -EIO);
        assert_int_equal(uext4_bdev_read_bytes(fx->dev, fx->buf, 3, 3), -EIO);
        assert_int_equal(read_at(fx, 0, 4096), 0);
}

/* The rest of a short transfer fails: that is the result. */
static void an_error_behind_a_short_count_is_seen(void **state)
{
        struct fixture *fx = *state;

        add_rule(fx, (struct uext4_bdev_fault){.ops = READS, .skip = 1, .error = -EILSEQ});
        add_rule(fx, (struct uext4_bdev_fault){.ops = READS, .count = 1, .short_len = 512});
        assert_int_equal(read_at(fx, 0, 4096), 0); /* first: short; its rest: skipped */
        assert_int_equal(read_at(fx, 0, 4096), -EILSEQ);
}

static void a_queue_passes_good_and_bad(void **state)
{
        enum {
                NR = 64
        };
        struct fixture *fx = *state;
        struct uext4_bdev_queue *q = NULL;
        struct t_req r[NR];
        struct pollfd p = {.events = POLLIN};

        add_rule(fx,
                 (struct uext4_bdev_fault){.ops = READS, .pos = 32 * 4096, .error = -EILSEQ});
        assert_int_equal(uext4_bdev_queue_new(fx->dev, 8, &q), 0);
        p.fd = uext4_bdev_queue_eventfd(q);
        t_req_init(&r[0], UEXT4_BDEV_READ, fx->buf, 4096, SIZE - 4096);
        assert_int_equal(uext4_bdev_queue_add(q, &r[0].req), 0);
        assert_int_equal(uext4_bdev_queue_kick(q), 0);
        assert_int_equal(poll(&p, 1, 10000), 1); /* a failed one makes it readable, too */
        t_drain(q);
        assert_int_equal(r[0].result, -EILSEQ);

        for (size_t i = 0; i < NR; i++) {
                t_req_init(&r[i], UEXT4_BDEV_READ, fx->buf + i * 4096, 4096, i * 4096);
                assert_int_equal(uext4_bdev_queue_add(q, &r[i].req), 0);
        }
        t_drain(q);
        for (int i = 0; i < NR; i++)
                assert_int_equal(r[i].result, i < 32 ? 0 : -EILSEQ);
        assert_memory_equal(fx->buf, fx->model, 32 * 4096);
        uext4_bdev_queue_free(q);
}

static void nonsense_rules_are_refused(void **state)
{
        static const struct uext4_bdev_fault rules[] = {
                {.error = -EIO},
                {.ops = 1u << UEXT4_BDEV_NR_OPS, .error = -EIO},
                {.ops = READS, .error = EIO},
                {.ops = 1u << UEXT4_BDEV_FLUSH, .short_len = 512},
        };
        struct fixture *fx = *state;

        for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
                assert_int_equal(uext4_bdev_fault_add(fx->dev, &rules[i]), -EINVAL);
        assert_int_equal(read_at(fx, 0, SIZE), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        static const struct CMUnitTest tests[] = {
                T(an_operation_fails),
                T(the_other_operations_fail),
                T(a_range_fails),
                T(skip_and_count_are_kept),
                T(the_newest_rule_decides),
                T(a_short_transfer_is_finished),
                T(always_short_still_gets_there),
                T(an_early_end_is_eio),
                T(an_error_behind_a_short_count_is_seen),
                T(a_queue_passes_good_and_bad),
                T(nonsense_rules_are_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
