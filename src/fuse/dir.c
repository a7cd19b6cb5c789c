/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Directories: opening and reading.
 *
 * Positions are the library's cookies, which stay good however the directory changes, so there
 * is no state between requests.  Entries with attributes (READDIRPLUS) count as look-ups.  They
 * are got by number: while the kernel reads a directory it lets nobody change it, so that the
 * number is that name's.
 */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "fuse/internal.h"

int srv_op_opendir(struct srv_request *rq)
{
        struct srv_node *node = srv_node_find(rq->server, rq->in->nodeid);
        struct fuse_open_out out = {0};
        struct srv_handle *h;
        int ret = node ? 0 : -ESTALE;

        if (ret == 0 && !rq->server->default_permissions)
                ret = uext4_access(node->inode, R_OK);
        if (ret == 0)
                ret = srv_handle_new(rq->server, node, O_RDONLY | O_DIRECTORY, &h);
        if (ret < 0)
                return ret;
        out.fh = (uintptr_t)h;
        if (srv_reply(rq, &out, sizeof(out)) < 0)
                srv_handle_free(rq->server, h);
        return 0;
}

static void put_dirent(char *to, const struct uext4_dirent *entry)
{
        const struct fuse_dirent out = {
                .ino = entry->ino,
                .off = entry->cookie,
                .namelen = entry->name_len,
                .type = entry->type,
        };
        const size_t used = FUSE_NAME_OFFSET + entry->name_len;

        memcpy(to, &out, FUSE_NAME_OFFSET);
        memcpy(to + FUSE_NAME_OFFSET, entry->name, entry->name_len);
        memset(to + used, 0, FUSE_REC_ALIGN(used) - used);
}

static bool is_dot(const struct uext4_dirent *entry)
{
        return entry->name[0] == '.' &&
               (entry->name_len == 1 || (entry->name_len == 2 && entry->name[1] == '.'));
}

/* What cannot be got is an entry without attributes: who looks it up hears why. */
static void put_attributes(struct srv_request *rq, char *to, const struct uext4_dirent *entry)
{
        struct fuse_entry_out out = {0};
        struct uext4_inode *inode;

        if (is_dot(entry) || uext4_inode_get(rq->server->fs, entry->ino, 0, &inode) < 0 ||
            srv_enter(rq, inode, &out) < 0)
                out = (struct fuse_entry_out){0};
        memcpy(to, &out, sizeof(out));
}

static void forget_all(struct srv_request *rq, const char *from, size_t len)
{
        const struct fuse_direntplus *entry;

        for (size_t pos = 0; pos < len; pos += FUSE_DIRENTPLUS_SIZE(entry)) {
                entry = (const void *)(from + pos);
                if (entry->entry_out.nodeid != 0)
                        srv_node_forget(rq->server, entry->entry_out.nodeid, 1);
        }
}

/* Fill the answer with what has room; the error of the first entry, else that may wait. */
static ssize_t fill(struct srv_request *rq, struct uext4_inode *dir, size_t size, bool plus)
{
        const struct fuse_read_in *in = (const void *)rq->arg;
        const size_t before = plus ? sizeof(struct fuse_entry_out) : 0;
        char *out = rq->worker->out;
        uint64_t cookie = in->offset;
        struct uext4_dirent entry;
        size_t used = 0;
        int ret;

        while ((ret = uext4_readdir(dir, &cookie, &entry)) > 0) {
                const size_t n = FUSE_REC_ALIGN(before + FUSE_NAME_OFFSET + entry.name_len);

                if (n > size - used)
                        break;
                if (plus)
                        put_attributes(rq, out + used, &entry);
                put_dirent(out + used + before, &entry);
                used += n;
        }
        if (used > 0)
                return (ssize_t)used;
        return ret > 0 ? -EINVAL : ret; /* no room for one is not the end */
}

static int read_dir(struct srv_request *rq, bool plus)
{
        const struct fuse_read_in *in = (const void *)rq->arg;
        struct srv_node *node = srv_node_find(rq->server, rq->in->nodeid);
        const size_t size = in->size < SRV_MAX_IO ? in->size : SRV_MAX_IO;
        ssize_t used;

        if (!node)
                return -ESTALE;
        uext4_cred_use(NULL); /* opening it was permission */
        used = fill(rq, node->inode, size, plus);
        if (used < 0)
                return (int)used;
        if (srv_reply(rq, rq->worker->out, (size_t)used) < 0 && plus)
                forget_all(rq, rq->worker->out, (size_t)used);
        return 0;
}

int srv_op_readdir(struct srv_request *rq)
{
        return read_dir(rq, false);
}

/* Attributes are for who may search the directory. */
int srv_op_readdirplus(struct srv_request *rq)
{
        struct srv_node *node = srv_node_find(rq->server, rq->in->nodeid);

        return read_dir(rq, rq->server->default_permissions ||
                                    (node && uext4_access(node->inode, X_OK) == 0));
}

int srv_op_fsyncdir(struct srv_request *rq)
{
        struct srv_node *node = srv_node_find(rq->server, rq->in->nodeid);

        return node ? uext4_fsync_inode(node->inode) : -ESTALE;
}
