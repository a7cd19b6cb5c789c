/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UTIL_THREAD_H
#define UTIL_THREAD_H

#include <pthread.h>

#include "util/base.h"

/*
 * Begin a thread of the library's own.  Signals sent to the process are for the program's
 * threads: this one takes none but those that its own faults raise.  0 or -errno.
 */
must_check int thread_start(pthread_t *ret_thread, void *(*fn)(void *arg), void *arg);

#endif
