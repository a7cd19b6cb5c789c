/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Opening and making files, and what the kernel may do with their pages.
 *
 * - With O_DIRECT nothing is cached, and writes inside the size run side by side.  So it is
 *   where the kernel would keep what was written to an append-only file.
 * - Else the kernel keeps the pages that it has of the file: they are what is in the file, see
 *   data.c.  The exception is for the access time, which changes only when a read gets as far
 *   as to us: where it is due the kernel is told to forget, once.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <time.h>

#include "fuse/internal.h"

enum {
        DAY = 24 * 60 * 60,
};

static bool is_later(const struct timespec *a, const struct timespec *b)
{
        return a->tv_sec != b->tv_sec ? a->tv_sec > b->tv_sec : a->tv_nsec > b->tv_nsec;
}

/* Whether a read would change the access time, as the library decides it. */
static bool atime_is_due(const struct fuse_server *server, const struct uext4_stat *st,
                         int flags)
{
        if (server->atime == FUSE_ATIME_NEVER || (flags & O_ACCMODE) == O_WRONLY ||
            (flags & O_NOATIME) || (st->flags & FS_NOATIME_FL))
                return false;
        if (server->atime == FUSE_ATIME_STRICT)
                return true;
        return !is_later(&st->atime, &st->mtime) || !is_later(&st->atime, &st->ctime) ||
               time(NULL) - st->atime.tv_sec >= DAY;
}

/* What is append-only no file of ours can write to at any place. */
static bool cannot_write_back(const struct fuse_server *server, const struct srv_handle *h)
{
        return server->cache == FUSE_CACHE_WRITEBACK && (h->flags & O_APPEND);
}

static uint32_t open_flags(struct fuse_server *server, struct srv_handle *h, int flags)
{
        struct uext4_stat st;

        if (server->cache == FUSE_CACHE_NONE || (flags & O_DIRECT) ||
            cannot_write_back(server, h))
                return FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES | FOPEN_NOFLUSH;
        if (uext4_stat(h->node->inode, &st) == 0 && !atime_is_due(server, &st, flags))
                return FOPEN_KEEP_CACHE | FOPEN_NOFLUSH;
        return FOPEN_NOFLUSH;
}

/* What opening cuts off, also a file that is opened to read. */
static int cut(struct srv_request *rq, struct srv_handle *h, bool kill)
{
        struct uext4_file *file = (h->flags & O_ACCMODE) == O_RDONLY ? NULL : h->primary;

        atomic_store(&h->node->was_cut, true);
        return srv_truncate(rq, h->node, file, 0, kill);
}

int srv_op_open(struct srv_request *rq)
{
        const struct fuse_open_in *in = (const void *)rq->arg;
        const int flags = (int)in->flags & ~O_DIRECTORY;
        struct srv_node *node = srv_node_find(rq->server, rq->in->nodeid);
        struct fuse_open_out out = {0};
        struct srv_handle *h;
        int ret = node ? srv_handle_new(rq->server, node, flags, &h) : -ESTALE;

        if (ret < 0)
                return ret;
        if (flags & O_TRUNC)
                ret = cut(rq, h, in->open_flags & FUSE_OPEN_KILL_SUIDGID);
        out.fh = (uintptr_t)h;
        out.open_flags = open_flags(rq->server, h, flags);
        if (ret < 0 || srv_reply(rq, &out, sizeof(out)) < 0)
                srv_handle_free(rq->server, h);
        return ret;
}

int srv_op_release(struct srv_request *rq)
{
        const struct fuse_release_in *in = (const void *)rq->arg;

        srv_handle_free(rq->server, srv_handle_of(in->fh));
        return 0;
}

/* ---- making ---- */

struct created {
        struct fuse_entry_out entry;
        struct fuse_open_out open;
};

/* A new file is open as its maker wants it, whatever its mode is. */
static int open_new(struct srv_request *rq, struct uext4_inode *inode, int flags)
{
        const struct uext4_cred *before;
        struct created out = {0};
        struct srv_handle *h = NULL;
        int ret = srv_enter(rq, inode, &out.entry);

        if (ret < 0)
                return ret;
        before = uext4_cred_use(NULL);
        ret = srv_handle_new(rq->server, srv_node_find(rq->server, out.entry.nodeid), flags,
                             &h);
        uext4_cred_use(before);
        if (ret == 0) {
                out.open.fh = (uintptr_t)h;
                out.open.open_flags = open_flags(rq->server, h, flags);
                if (srv_reply(rq, &out, sizeof(out)) == 0)
                        return 0;
                srv_handle_free(rq->server, h);
        }
        srv_node_forget(rq->server, out.entry.nodeid, 1);
        return ret;
}

int srv_op_create(struct srv_request *rq)
{
        const struct fuse_create_in *in = (const void *)rq->arg;
        const int flags = (int)in->flags & ~O_DIRECTORY;
        struct uext4_inode *inode;
        struct srv_named at;
        int ret = srv_named(rq, sizeof(*in), &at);

        if (ret < 0)
                return ret;
        srv_cred_use(rq, in->umask);
        ret = uext4_create(at.node->inode, at.name, at.len, in->mode & 07777, &inode);
        return ret < 0 ? ret : open_new(rq, inode, flags);
}

int srv_op_tmpfile(struct srv_request *rq)
{
        const struct fuse_create_in *in = (const void *)rq->arg;
        struct srv_node *dir = srv_node_find(rq->server, rq->in->nodeid);
        const int flags = (int)in->flags & ~(O_DIRECTORY | O_TMPFILE);
        struct uext4_inode *inode;
        int ret;

        if (!dir)
                return -ESTALE;
        srv_cred_use(rq, in->umask);
        ret = uext4_tmpfile(dir->inode, in->mode & 07777, (int)in->flags & O_EXCL, &inode);
        return ret < 0 ? ret : open_new(rq, inode, flags);
}
