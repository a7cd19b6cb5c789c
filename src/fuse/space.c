/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Space that is about to come back.
 *
 * What a program has removed is freed when the kernel has forgotten it, which it says in its
 * own time: maybe after the next request, which needs the space.  So a request that finds none
 * waits for what is being freed; and, when names have just been removed, for a moment, for what
 * may come.  It is made again if anything was freed meanwhile.
 */

#include <errno.h>
#include <unistd.h>

#include "fuse/internal.h"

enum {
        RECENT_NS = 1000000000, /* after the last removal */
        STEP_US = 2000,
        MAX_STEPS = 50,
};

void srv_space_removed(struct fuse_server *server)
{
        atomic_store_explicit(&server->last_removal, srv_clock_ns(CLOCK_MONOTONIC),
                              memory_order_relaxed);
}

void srv_space_freeing(struct fuse_server *server)
{
        atomic_fetch_add(&server->nr_freeing, 1);
}

void srv_space_freed(struct fuse_server *server)
{
        atomic_fetch_add(&server->nr_freed, 1);
        atomic_fetch_sub(&server->nr_freeing, 1);
}

uint64_t srv_space_mark(struct fuse_server *server)
{
        return atomic_load(&server->nr_freed);
}

bool srv_space_came(struct fuse_server *server, uint64_t mark)
{
        const int64_t since = srv_clock_ns(CLOCK_MONOTONIC) -
                              atomic_load_explicit(&server->last_removal, memory_order_relaxed);
        int steps = since < RECENT_NS ? MAX_STEPS : 0;

        while (atomic_load(&server->nr_freeing) > 0 ||
               (atomic_load(&server->nr_freed) == mark && steps-- > 0))
                usleep(STEP_US);
        return atomic_load(&server->nr_freed) != mark;
}
