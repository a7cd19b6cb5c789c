/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Contents: reading and writing, and why no program sees what is old.
 *
 * Direct requests go to the device from and to the buffers of the worker, which are aligned.
 * Others go through the page cache of the library, where small writes are gathered; above it is
 * the kernel's.
 *
 * The kernel fills its pages by requests without a lock owner; direct ones have one.  Since it
 * is the only one who writes, its pages are right but for one case: a page that is filled while
 * a direct write of the same bytes is under way, because the kernel drops its pages when that
 * begins.  So a node of which pages may be in the kernel (`cached`) has them dropped when the
 * write is over, before it is answered.  The flag is set before a page is read, and looked at
 * after the write: either the reader finds what has been written, or the writer the flag.
 *
 * The kernel does not wait for asynchronous direct writes when it truncates, as ext4 does.  One
 * that is served after that makes the file longer, and the kernel does not look: so its
 * attributes are dropped when a direct write has come to the end of a file that `was_cut`.
 */

#include <errno.h>
#include <fcntl.h>

#include "fuse/internal.h"

static bool fills_pages(uint32_t flags, uint32_t owner_flag)
{
        return !(flags & owner_flag);
}

int srv_op_read(struct srv_request *rq)
{
        const struct fuse_read_in *in = (const void *)rq->arg;
        const size_t size = in->size < SRV_MAX_IO ? in->size : SRV_MAX_IO;
        struct srv_handle *h = srv_handle_of(in->fh);
        struct uext4_file *file;
        ssize_t n;
        int ret = srv_handle_file(h, in->flags & O_DIRECT, &file);

        if (ret < 0)
                return ret;
        if (fills_pages(in->read_flags, FUSE_READ_LOCKOWNER))
                atomic_store(&h->node->cached, true);
        n = uext4_pread(file, rq->worker->out, size, in->offset);
        if (n < 0)
                return (int)n;
        /* The end, as far as the library knows; there may be more in the kernel. */
        if ((size_t)n < size && rq->server->cache == FUSE_CACHE_WRITEBACK &&
            !fills_pages(in->read_flags, FUSE_READ_LOCKOWNER))
                return srv_read_after_drop(rq, h->node->nodeid, file, in->offset, size);
        rq->bytes = (size_t)n;
        srv_reply(rq, rq->worker->out, (size_t)n);
        return 0;
}

/* ---- writing ---- */

static int rwf_of(const struct fuse_write_in *in)
{
        const bool appends = (in->flags & O_APPEND) && !(in->write_flags & FUSE_WRITE_CACHE);
        const int rwf = appends ? RWF_APPEND : 0;

        if ((in->flags & O_SYNC) == O_SYNC)
                return rwf | RWF_SYNC;
        return in->flags & O_DSYNC ? rwf | RWF_DSYNC : rwf;
}

/* Pages that the kernel writes back may come by any handle, one with O_DIRECT too. */
static int file_to_write(struct srv_request *rq, const struct fuse_write_in *in,
                         struct uext4_file **ret_file)
{
        struct srv_handle *h = srv_handle_of(in->fh);

        if (in->write_flags & FUSE_WRITE_CACHE)
                return srv_node_writer(rq->server, h->node, ret_file);
        return srv_handle_file(h, in->flags & O_DIRECT, ret_file);
}

/* Whether the kernel is to drop what it knows, after a direct write up to `end`. */
static bool leaves_old(struct srv_node *node, uint64_t end, bool *ret_pages)
{
        struct uext4_stat st;

        *ret_pages = atomic_load(&node->cached);
        if (*ret_pages || !atomic_load(&node->was_cut))
                return *ret_pages;
        return uext4_stat(node->inode, &st) == 0 && st.size == end;
}

int srv_op_write(struct srv_request *rq)
{
        const struct fuse_write_in *in = (const void *)rq->arg;
        const size_t room = rq->arg_len - sizeof(*in);
        struct srv_node *node = srv_handle_of(in->fh)->node;
        struct iovec iov = {rq->worker->in + sizeof(*rq->in) + sizeof(*in), in->size};
        struct fuse_write_out out = {0};
        struct uext4_file *file;
        bool pages;
        ssize_t n;
        int ret = in->size > room ? -EINVAL : file_to_write(rq, in, &file);

        if (ret < 0)
                return ret;
        /* The handle is permission; this is about S_ISUID, and reserved blocks. */
        srv_cred_use_asked(rq, in->write_flags & FUSE_WRITE_KILL_SUIDGID ? 0 : ~0ull);
        if (fills_pages(in->write_flags, FUSE_WRITE_LOCKOWNER))
                atomic_store(&node->cached, true);
        n = uext4_pwritev2(file, &iov, 1, in->offset, rwf_of(in));
        if (n < 0)
                return (int)n;
        rq->bytes = (size_t)n;
        out.size = (uint32_t)n;
        if ((in->write_flags & FUSE_WRITE_LOCKOWNER) && n > 0 &&
            leaves_old(node, in->offset + (uint64_t)n, &pages))
                ret = srv_reply_after_drop(rq, node->nodeid, in->offset,
                                           pages ? (uint64_t)n : 0, &out, sizeof(out));
        if (!rq->answered)
                srv_reply(rq, &out, sizeof(out));
        return 0;
}
