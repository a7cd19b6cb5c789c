/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef WRITE_HELD_H
#define WRITE_HELD_H

/*
 * A device whose requests wait for the test.
 *
 * Requests of its queues are carried out when somebody drives the queue, unless they are held:
 * then they wait for held_go(), and the test may wait until somebody waits for them.
 * Requests of the synchronous face are told to a hook, before and after; the hook may sleep, or
 * call the library, as far as the locks of the thread that it runs in allow.
 */

#include <pthread.h>

#include "../unit/t_util.h"
#include "uext4.h"

enum held_when {
        HELD_BEFORE,
        HELD_AFTER,
};

struct held_io {
        enum uext4_bdev_op op;
        uint32_t flags;
        uint64_t pos, len;
        const void *mem; /* where the vector begins; NULL: none */
};

typedef void held_fn(void *arg, enum held_when when, const struct held_io *io);

/* Owns lower. */
struct uext4_bdev *held_open(struct uext4_bdev *lower);

/* NULL: none.  Nothing is under way. */
void held_set_hook(struct uext4_bdev *dev, held_fn *fn, void *arg);

/* From now on requests of queues are held; they go on. */
void held_stop(struct uext4_bdev *dev);
void held_go(struct uext4_bdev *dev);

/* As held_stop(), until somebody has waited for them `nr` times. */
void held_stop_until_waited(struct uext4_bdev *dev, unsigned nr);

/* How many are held now. */
unsigned held_nr(struct uext4_bdev *dev);

/* Wait until a thread waits for requests that are held. */
void held_wait_for_waiter(struct uext4_bdev *dev);

/* ---- a place where one thread stops, as a hook makes it ---- */

struct held_gate {
        pthread_mutex_t lock;
        pthread_cond_t changed;
        bool is_armed; /* [lock] the next one who comes stops */
        bool is_at;    /* [lock] he is there */
        bool may_go;   /* [lock] */
};

#define HELD_GATE                                                                      \
        {                                                                              \
                .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER \
        }

void held_gate_arm(struct held_gate *g);
void held_gate_pass(struct held_gate *g);

/* Until somebody has stopped there. */
void held_gate_wait(struct held_gate *g);
void held_gate_open(struct held_gate *g);

#endif
