/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Open files: durability, space, holes, copying. */

#include <errno.h>

#include "fuse/internal.h"

enum {
        /* One request copies no more, so that others are not kept waiting; who asked for more
         * goes on. */
        MAX_COPY = 64 << 20,
};

int srv_op_fsync(struct srv_request *rq)
{
        const struct fuse_fsync_in *in = (const void *)rq->arg;
        struct uext4_file *file = srv_handle_of(in->fh)->primary;

        return in->fsync_flags & FUSE_FSYNC_FDATASYNC ? uext4_fdatasync(file)
                                                      : uext4_fsync(file);
}

/* The kernel sends it to servers of block devices alone. */
int srv_op_syncfs(struct srv_request *rq)
{
        return uext4_syncfs(rq->server->fs);
}

/* A change of contents that does not say whether S_ISUID goes: it goes unless it is root's. */
static void use_changer(struct srv_request *rq)
{
        srv_cred_use_asked(rq, rq->in->uid == 0 ? ~0ull : 0);
}

int srv_op_fallocate(struct srv_request *rq)
{
        const struct fuse_fallocate_in *in = (const void *)rq->arg;

        use_changer(rq);
        return uext4_fallocate(srv_handle_of(in->fh)->primary, (int)in->mode, in->offset,
                               in->length);
}

int srv_op_lseek(struct srv_request *rq)
{
        const struct fuse_lseek_in *in = (const void *)rq->arg;
        struct srv_handle *h = srv_handle_of(in->fh);
        struct fuse_lseek_out out;
        int64_t pos;

        /* The library knows of no data that are in the kernel only. */
        if (rq->server->cache == FUSE_CACHE_WRITEBACK)
                return srv_seek_after_drop(rq, h->node->nodeid, h->primary, in->offset,
                                           (int)in->whence);
        pos = uext4_seek(h->primary, in->offset, (int)in->whence);
        if (pos < 0)
                return (int)pos;
        out.offset = (uint64_t)pos;
        return srv_reply(rq, &out, sizeof(out));
}

int srv_op_copy(struct srv_request *rq)
{
        const struct fuse_copy_file_range_in *in = (const void *)rq->arg;
        const size_t len = in->len < MAX_COPY ? in->len : MAX_COPY;
        struct fuse_write_out out = {0};
        ssize_t n;

        use_changer(rq);
        n = uext4_copy_range(srv_handle_of(in->fh_in)->primary, in->off_in,
                             srv_handle_of(in->fh_out)->primary, in->off_out, len);
        if (n < 0)
                return (int)n;
        rq->bytes = (size_t)n;
        out.size = (uint32_t)n;
        return srv_reply(rq, &out, sizeof(out));
}
