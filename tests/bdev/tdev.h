/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef TESTS_BDEV_TDEV_H
#define TESTS_BDEV_TDEV_H

/* What the tests of bdev/ share: files, patterns, random numbers, and devices of a program's
 * own. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../lib/check.h"
#include "uext4_bdev.h"

/* A new file of `size` bytes in `dir` (NULL: TMPDIR or /tmp); gives its path. */
void t_file_new(const char *dir, uint64_t size, char *ret_path, size_t path_size);

/* From UEXT4_SEED, 1 without; the seed is printed once. */
uint64_t t_random(void);
uint64_t t_random_below(uint64_t limit);

void t_fill(void *buf, size_t len);

/* Aligned as strictly as any device asks; free(). */
void *t_alloc(size_t len);

/* ---- a device that a program brings: memory with a mind of its own ---- */

struct t_user {
        struct uext4_bdev dev;
        char *mem;
        bool short_counts; /* move one block less than asked, now and then */
        _Atomic unsigned nr_flushes;
        _Atomic unsigned nr_calls;
};

enum t_user_queue {
        T_USER_SYNC,  /* a synchronous face only */
        T_USER_QUEUE, /* a queue of its own, which completes the newest first */
};

struct t_user *t_user_new(uint64_t size, uint32_t caps, enum t_user_queue queue);

/* Requests stay under way while it is held. */
void t_user_hold(struct t_user *user, bool held);

/* ---- many requests ---- */

/* A request with its memory; done() counts and posts. */
struct t_req {
        struct uext4_bdev_req req;
        struct iovec iov;
        _Atomic int nr_done;
        _Atomic int result;
};

void t_req_init(struct t_req *r, enum uext4_bdev_op op, void *buf, uint64_t len, uint64_t pos);

/* Drive until the queue is idle; all of its errors end the test. */
void t_drain(struct uext4_bdev_queue *q);

#endif
