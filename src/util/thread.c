/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/thread.h"

#include <signal.h>

int thread_start(pthread_t *ret_thread, void *(*fn)(void *arg), void *arg)
{
        static const int faults[] = {SIGBUS, SIGFPE, SIGILL, SIGSEGV};
        sigset_t blocked, old;
        int ret;

        sigfillset(&blocked);
        for (size_t i = 0; i < ARRAY_LEN(faults); i++)
                sigdelset(&blocked, faults[i]);
        pthread_sigmask(SIG_SETMASK, &blocked, &old);
        ret = pthread_create(ret_thread, NULL, fn, arg);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        return -ret;
}
