/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef WATCH_H
#define WATCH_H

/*
 * A filter that calls somebody at every moment at which what a power cut may leave is
 * different: before each write and flush, and while a write with FUA is under way.  So all
 * cuts of a run can be looked at in that one run, because the simulated device tells at any
 * time what would survive.
 *
 * A write with FUA goes to the lower device twice, the first time without the flag: between
 * the two, it is a write that any part of may survive.  Afterwards that makes no difference.
 *
 * With a lock requests of many threads are let through one by one.
 */

#include <pthread.h>

#include "uext4_bdev.h"

enum watch_when {
        WATCH_BEFORE,    /* the request comes next */
        WATCH_UNDER_WAY, /* a write with FUA: any part of it may survive */
        WATCH_AFTER,     /* a flush: it has ended, and its caller does not know it yet */
};

struct watch_hook {
        void (*fn)(void *arg, enum watch_when when, enum uext4_bdev_op op);
        void *arg;
        /* Held during fn and the request; one for all devices that belong together.  NULL:
         * none. */
        pthread_mutex_t *lock;
};

/* Owns lower. */
int watch_open(struct uext4_bdev *lower, const struct watch_hook *hook,
               struct uext4_bdev **ret_dev);

#endif
