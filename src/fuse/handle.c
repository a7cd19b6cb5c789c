/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Open files and directories, as the kernel has them.
 *
 * A program may turn O_DIRECT on and off while a file is open (fcntl(2)), and each request says
 * how it is; so a handle has two files, of which the second is opened when it is first asked
 * for.  The access mode is that of the handle for both.  O_APPEND, O_SYNC and O_DSYNC come with
 * each write; but what is append-only must be opened with O_APPEND, and stays so.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "fuse/internal.h"

enum {
        FLAGS_KEPT = O_ACCMODE | O_NOATIME,
};

/* Pages that the kernel writes back it must have been able to read, where they are written in
 * part; it uses any handle that is open to write. */
static bool needs_to_read(const struct fuse_server *server, int flags)
{
        return server->cache == FUSE_CACHE_WRITEBACK && (flags & O_ACCMODE) == O_WRONLY;
}

static int open_primary(struct fuse_server *server, struct srv_handle *h, int flags)
{
        const struct uext4_cred *before;
        int ret;

        h->flags = flags & FLAGS_KEPT;
        h->is_direct = flags & O_DIRECT;
        ret = uext4_open(h->node->inode, h->flags | (flags & O_DIRECT), &h->primary);
        if (ret == -EPERM && (flags & O_APPEND)) {
                h->flags |= O_APPEND;
                ret = uext4_open(h->node->inode, h->flags | (flags & O_DIRECT), &h->primary);
        }
        if (ret < 0 || !needs_to_read(server, flags))
                return ret;
        uext4_close(h->primary);
        h->flags = (h->flags & ~O_ACCMODE) | O_RDWR;
        before = uext4_cred_use(NULL);
        ret = uext4_open(h->node->inode, h->flags | (flags & O_DIRECT), &h->primary);
        uext4_cred_use(before);
        return ret;
}

int srv_handle_new(struct fuse_server *server, struct srv_node *node, int flags,
                   struct srv_handle **ret_handle)
{
        struct srv_handle *h = calloc(1, sizeof(*h));
        int ret = 0;

        if (!h)
                return -ENOMEM;
        h->node = node;
        if (!(flags & O_DIRECTORY))
                ret = open_primary(server, h, flags);
        if (ret < 0) {
                free(h);
                return ret;
        }
        srv_node_hold(server, node);
        pthread_mutex_lock(&server->handles_lock);
        TAILQ_INSERT_TAIL(&server->handles, h, link);
        pthread_mutex_unlock(&server->handles_lock);
        *ret_handle = h;
        return 0;
}

void srv_handle_free(struct fuse_server *server, struct srv_handle *h)
{
        pthread_mutex_lock(&server->handles_lock);
        TAILQ_REMOVE(&server->handles, h, link);
        pthread_mutex_unlock(&server->handles_lock);
        uext4_close(atomic_load(&h->other));
        uext4_close(h->primary);
        srv_node_release(server, h->node);
        free(h);
}

/* The kernel does not close what is open when it unmounts by force, or loses the server. */
void srv_handles_done(struct fuse_server *server)
{
        struct srv_handle *h;

        while ((h = TAILQ_FIRST(&server->handles)))
                srv_handle_free(server, h);
}

int srv_handle_file(struct srv_handle *h, bool direct, struct uext4_file **ret_file)
{
        struct uext4_file *expected = NULL;
        const struct uext4_cred *before;
        struct uext4_file *file;
        int ret;

        *ret_file = direct == h->is_direct ? h->primary : atomic_load(&h->other);
        if (*ret_file)
                return 0;
        before = uext4_cred_use(NULL); /* the handle is permission enough */
        ret = uext4_open(h->node->inode, h->flags | (direct ? O_DIRECT : 0), &file);
        uext4_cred_use(before);
        if (ret < 0)
                return ret;
        if (!atomic_compare_exchange_strong(&h->other, &expected, file)) {
                uext4_close(file);
                file = expected;
        }
        *ret_file = file;
        return 0;
}
