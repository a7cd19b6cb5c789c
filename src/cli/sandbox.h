/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_SANDBOX_H
#define UEXT4_CLI_SANDBOX_H

/*
 * sandbox.h - what a process that serves a hostile image gives up, for good.
 *
 * In the order in which it goes: files that are not open yet (Landlock), privileges
 * (no_new_privs, all capabilities; the user stays), and every system call that the server does
 * not need (seccomp).  To be entered before the first byte of the image is looked at, by a
 * process of one thread; its later threads are inside.
 */

#include <stdbool.h>
#include <sys/types.h>

struct sandbox_params {
        pid_t monitor;       /* may be sent SIGTERM */
        const char *journal; /* a file that may be opened still, NULL for none */
        bool reads_proc;     /* the server asks /proc who its callers are */
};

/*
 * 0, or -errno with what failed in *ret_what.  An error of the last step, the filter, leaves
 * the process with what the ones before have taken.  A kernel without Landlock makes do with
 * the other steps, but for a server that `reads_proc`: -EOPNOTSUPP.
 */
int sandbox_enter(const struct sandbox_params *params, const char **ret_what);

/*
 * The second step, when all is ready to serve: nothing is opened any more, and there are no
 * more rings of io_uring, which could do what the filter refuses.  0 or -errno.
 */
int sandbox_close(const struct sandbox_params *params);

/* False in a build with sanitizers or one that counts for coverage, which need the run of the
 * house, and on 32 bits. */
bool sandbox_is_built(void);

#endif
