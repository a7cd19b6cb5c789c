/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The first request: what the kernel can, and what we want of it. */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "fuse/internal.h"

enum {
        MAX_BACKGROUND = 256, /* requests that nobody sleeps for: reading ahead, async I/O */
        CONGESTION = 192,     /* of these, from which on the kernel reads ahead no more */
};

/*
 * Each with its reason:
 *
 * - ASYNC_DIO: many direct requests of one thread at a time, but with WRITEBACK_CACHE.  What a
 *   buffered reader may read meanwhile is dropped before the answer (data.c).
 * - EXPLICIT_INVAL_DATA: a new size or time is no sign that contents have changed: nobody
 *   changes them behind the kernel's back, but those whose pages are dropped as above.
 * - HANDLE_KILLPRIV_V2: the library takes S_ISUID and "security.capability" away.
 * - DONT_MASK: umask or a default ACL, whichever it is, is applied by the library.
 * - No POSIX_LOCKS, no FLOCK_LOCKS: the kernel keeps locks itself.  There is one server, and
 *   all programs come by this kernel.
 */
static const uint32_t always =
        FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_EXPORT_SUPPORT | FUSE_BIG_WRITES |
        FUSE_DONT_MASK | FUSE_HAS_IOCTL_DIR | FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO |
        FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES | FUSE_CACHE_SYMLINKS |
        FUSE_EXPLICIT_INVAL_DATA | FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT | FUSE_INIT_EXT;

static uint32_t flags_wanted(const struct fuse_server *server)
{
        uint32_t flags = always;

        if (server->default_permissions)
                flags |= FUSE_POSIX_ACL;
        /* There the size is what the kernel says; and it does not wait for asynchronous writes
         * when it truncates, so that one of them could make the file longer than it knows. */
        if (server->cache == FUSE_CACHE_WRITEBACK)
                flags = (flags | FUSE_WRITEBACK_CACHE) & ~(uint32_t)FUSE_ASYNC_DIO;
        return flags;
}

int srv_op_init(struct srv_request *rq)
{
        const long page = sysconf(_SC_PAGESIZE);
        struct fuse_init_in in = {0};
        struct fuse_init_out out = {
                .major = FUSE_KERNEL_VERSION,
                .max_background = MAX_BACKGROUND,
                .congestion_threshold = CONGESTION,
                .max_write = SRV_MAX_IO,
                .time_gran = 1,
                .max_pages = (uint16_t)(SRV_MAX_IO / page),
        };

        memcpy(&in, rq->arg, rq->arg_len < sizeof(in) ? rq->arg_len : sizeof(in));
        if (in.major < FUSE_KERNEL_VERSION)
                return -EPROTO;
        if (in.major > FUSE_KERNEL_VERSION) /* it comes again, with ours */
                return srv_reply(rq, &out, sizeof(out));
        out.minor = in.minor < PROTO_MINOR ? in.minor : PROTO_MINOR;
        out.max_readahead = in.max_readahead < SRV_MAX_IO ? in.max_readahead : SRV_MAX_IO;
        out.flags = in.flags & flags_wanted(rq->server);
        if (in.flags & FUSE_INIT_EXT)
                out.flags2 = in.flags2 & PROTO_INIT2_DIRECT_IO_MMAP;
        return srv_reply(rq, &out, sizeof(out));
}
