/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The trace filter: what it counts and what it remembers. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tdev.h"

#define SIZE (1024 * 1024)

static struct uext4_bdev *trace_of_mem(size_t nr_entries)
{
        struct uext4_bdev *mem = NULL, *trace = NULL;

        assert_int_equal(uext4_bdev_open_mem(SIZE, &mem), 0);
        assert_int_equal(uext4_bdev_open_trace(mem, nr_entries, &trace), 0);
        return trace;
}

static void requests_are_counted(void **state)
{
        struct uext4_bdev *dev = trace_of_mem(0);
        struct uext4_bdev_counts c;
        struct uext4_bdev_trace_entry entry;
        char *buf = t_alloc(8192);

        assert_int_equal(uext4_bdev_write(dev, buf, 8192, 0, 0), 0);
        assert_int_equal(uext4_bdev_write(dev, buf, 512, 0, UEXT4_BDEV_FUA), 0);
        assert_int_equal(uext4_bdev_read(dev, buf, 4096, 512), 0);
        assert_int_equal(uext4_bdev_flush(dev), 0);
        assert_int_equal(uext4_bdev_discard(dev, 0, 1024), 0);
        assert_int_equal(uext4_bdev_write_zeroes(dev, 0, 2048, UEXT4_BDEV_FUA), 0);
        assert_int_equal(uext4_bdev_read(dev, buf, 512, SIZE), -ENXIO); /* never gets here */

        uext4_bdev_trace_counts(dev, &c);
        assert_int_equal(c.requests[UEXT4_BDEV_READ], 1);
        assert_int_equal(c.bytes[UEXT4_BDEV_READ], 4096);
        assert_int_equal(c.requests[UEXT4_BDEV_WRITE], 2);
        assert_int_equal(c.bytes[UEXT4_BDEV_WRITE], 8704);
        assert_int_equal(c.requests[UEXT4_BDEV_FLUSH], 1);
        assert_int_equal(c.requests[UEXT4_BDEV_DISCARD], 1);
        assert_int_equal(c.bytes[UEXT4_BDEV_DISCARD], 1024);
        assert_int_equal(c.requests[UEXT4_BDEV_WRITE_ZEROES], 1);
        assert_int_equal(c.bytes[UEXT4_BDEV_WRITE_ZEROES], 2048);
        assert_int_equal(c.fua, 2);
        assert_int_equal(c.max_in_flight, 0);
        assert_int_equal(uext4_bdev_trace_list(dev, &entry, 1), 0);

        uext4_bdev_trace_reset(dev);
        uext4_bdev_trace_counts(dev, &c);
        assert_int_equal(c.requests[UEXT4_BDEV_READ], 0);
        assert_int_equal(c.fua, 0);
        uext4_bdev_close(dev);
        free(buf);
}

static void queues_are_counted(void **state)
{
        struct uext4_bdev *dev = trace_of_mem(0);
        struct uext4_bdev_queue *q = NULL;
        char *buf = t_alloc(512);
        struct uext4_bdev_counts c;
        struct t_req r[5];

        assert_int_equal(uext4_bdev_queue_new(dev, 5, &q), 0);
        for (int i = 0; i < 5; i++) {
                t_req_init(&r[i], UEXT4_BDEV_READ, buf, 512, 0);
                assert_int_equal(uext4_bdev_queue_add(q, &r[i].req), 0);
        }
        uext4_bdev_trace_counts(dev, &c);
        assert_int_equal(c.in_flight, 5);
        uext4_bdev_trace_reset(dev);
        uext4_bdev_trace_counts(dev, &c);
        assert_int_equal(c.in_flight, 5);
        t_drain(q);
        uext4_bdev_trace_counts(dev, &c);
        assert_int_equal(c.in_flight, 0);
        assert_int_equal(c.max_in_flight, 5);
        uext4_bdev_queue_free(q);
        uext4_bdev_close(dev);
        free(buf);
}

/* Four entries: 3 requests, then 10. */
static void the_last_requests_are_remembered(void **state)
{
        struct uext4_bdev *dev = trace_of_mem(4);
        struct uext4_bdev_trace_entry e[8];
        char *buf = t_alloc(512);

        for (uint64_t i = 0; i < 10; i++) {
                assert_int_equal(
                        uext4_bdev_write(dev, buf, 512, i * 512, i == 8 ? UEXT4_BDEV_FUA : 0),
                        0);
                if (i == 2) {
                        assert_int_equal(uext4_bdev_trace_list(dev, e, 8), 3);
                        assert_int_equal(e[0].seq, 0);
                        assert_int_equal(e[2].pos, 1024);
                }
        }
        assert_int_equal(uext4_bdev_trace_list(dev, e, 8), 4);
        for (uint64_t i = 0; i < 4; i++) {
                assert_int_equal(e[i].seq, 6 + i);
                assert_int_equal(e[i].op, UEXT4_BDEV_WRITE);
                assert_int_equal(e[i].pos, (6 + i) * 512);
                assert_int_equal(e[i].len, 512);
                assert_int_equal(e[i].flags, i == 2 ? UEXT4_BDEV_FUA : 0);
        }
        assert_int_equal(uext4_bdev_trace_list(dev, e, 2), 2);
        assert_int_equal(e[0].seq, 6);
        uext4_bdev_trace_reset(dev);
        assert_int_equal(uext4_bdev_trace_list(dev, e, 8), 0);
        uext4_bdev_close(dev);
        free(buf);
}

/* Below a slice positions are the lower device's, above it they are the slice's. */
static void positions_are_those_of_its_level(void **state)
{
        struct uext4_bdev *low = trace_of_mem(1), *slice = NULL, *high = NULL;
        struct uext4_bdev_trace_entry e;
        char *buf = t_alloc(512);

        assert_int_equal(uext4_bdev_open_slice(low, 4096, 0, &slice), 0);
        assert_int_equal(uext4_bdev_open_trace(slice, 1, &high), 0);
        assert_int_equal(uext4_bdev_read(high, buf, 512, 1024), 0);
        assert_int_equal(uext4_bdev_trace_list(high, &e, 1), 1);
        assert_int_equal(e.pos, 1024);
        assert_int_equal(uext4_bdev_trace_list(low, &e, 1), 1);
        assert_int_equal(e.pos, 5120);
        uext4_bdev_close(high);
        free(buf);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(requests_are_counted),
                cmocka_unit_test(queues_are_counted),
                cmocka_unit_test(the_last_requests_are_remembered),
                cmocka_unit_test(positions_are_those_of_its_level),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
