/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef TESTS_INTEROP_GATE_H
#define TESTS_INTEROP_GATE_H

/*
 * gate.h - a device whose queued requests finish when the test says so.
 *
 * It reads a file.  The synchronous face always works.  A queue's requests stay under way while
 * the gate is shut, and finish, in whatever thread drives the queue, when it is open.  So "a
 * request is under way" is a state that a test sets up, not a race that it hopes for.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "uext4.h"

struct gate {
        struct uext4_bdev dev;
        int fd;
        pthread_mutex_t lock;
        pthread_cond_t changed;
        bool open;                 /* [lock] */
        bool fail;                 /* [lock] requests end with -EIO */
        unsigned nr_pending;       /* [lock] requests under way in all queues */
        unsigned nr_reads;         /* [lock] synchronous reads so far */
        unsigned nr_queued;        /* [lock] requests that came by a queue so far */
        unsigned nr_cancels;       /* [lock] calls of cancel_all */
        struct gate_queue *queues; /* [lock] */
};

/* The gate is open.  Ends the process when the file cannot be had. */
void gate_init(struct gate *g, const char *path);
void gate_done(struct gate *g);

void gate_set(struct gate *g, bool open);
void gate_fail(struct gate *g, bool fail);
unsigned gate_pending(struct gate *g);
unsigned gate_reads(struct gate *g); /* by the synchronous face */
unsigned gate_queued(struct gate *g);
unsigned gate_cancels(struct gate *g);

#endif
