/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Names: looking up, making, linking, removing, renaming; and forgetting.
 *
 * The kernel may keep names, and that there is no such name, for a day, if it asks for
 * permission itself: they change by requests of its own alone.
 */

#include <errno.h>
#include <string.h>

#include "fuse/internal.h"

/* ---- answers ---- */

/* Names that the kernel knows it hands to everybody: not where we are to ask who may search. */
static uint64_t names_valid(const struct fuse_server *server)
{
        return server->default_permissions ? SRV_VALID_SECONDS : 0;
}

int srv_enter(struct srv_request *rq, struct uext4_inode *inode,
              struct fuse_entry_out *ret_entry)
{
        struct uext4_stat st;
        struct srv_node *node;
        int ret = uext4_stat(inode, &st);

        if (ret < 0) {
                uext4_inode_put(inode);
                return ret;
        }
        ret = srv_node_enter(rq->server, inode, st.ino, &node);
        if (ret < 0)
                return ret;
        *ret_entry = (struct fuse_entry_out){
                .nodeid = node->nodeid,
                .generation = st.generation,
                .entry_valid = names_valid(rq->server),
                .attr_valid = SRV_VALID_SECONDS,
        };
        srv_attr_of(&st, &ret_entry->attr);
        return 0;
}

/* What the kernel has not heard it does not forget. */
int srv_reply_entry(struct srv_request *rq, struct uext4_inode *inode)
{
        struct fuse_entry_out entry;
        int ret = srv_enter(rq, inode, &entry);

        if (ret == 0 && srv_reply(rq, &entry, sizeof(entry)) < 0)
                srv_node_forget(rq->server, entry.nodeid, 1);
        return ret;
}

/* ---- looking up ---- */

/* "." of what the kernel may have forgotten: the node id is the number. */
static int get_by_number(struct srv_request *rq, struct uext4_inode **ret_inode)
{
        const uint64_t nodeid = rq->in->nodeid;

        return uext4_inode_get(rq->server->fs, nodeid == FUSE_ROOT_ID ? UEXT4_ROOT_INO : nodeid,
                               0, ret_inode);
}

static int look_up(struct srv_request *rq, const char *name, size_t len,
                   struct uext4_inode **ret_inode)
{
        struct srv_node *dir = srv_node_find(rq->server, rq->in->nodeid);
        struct uext4_inode *found;
        int ret;

        if (len == 1 && name[0] == '.')
                return get_by_number(rq, ret_inode);
        if (dir)
                return uext4_lookup(dir->inode, name, len, ret_inode);
        ret = get_by_number(rq, &found);
        if (ret < 0)
                return ret;
        ret = uext4_lookup(found, name, len, ret_inode);
        uext4_inode_put(found);
        return ret;
}

int srv_op_lookup(struct srv_request *rq)
{
        const struct fuse_entry_out none = {.entry_valid = names_valid(rq->server)};
        struct uext4_inode *inode;
        size_t len;
        const char *name = srv_string(rq, 0, &len);
        int ret = name ? look_up(rq, name, len, &inode) : -EINVAL;

        if (ret == -ENOENT)
                return srv_reply(rq, &none, sizeof(none));
        return ret < 0 ? ret : srv_reply_entry(rq, inode);
}

int srv_op_forget(struct srv_request *rq)
{
        const struct fuse_forget_in *in = (const void *)rq->arg;

        rq->answered = true; /* there is none */
        srv_node_forget(rq->server, rq->in->nodeid, in->nlookup);
        return 0;
}

int srv_op_batch_forget(struct srv_request *rq)
{
        const struct fuse_batch_forget_in *in = (const void *)rq->arg;
        const struct fuse_forget_one *one = (const void *)(rq->arg + sizeof(*in));
        const size_t max = (rq->arg_len - sizeof(*in)) / sizeof(*one);

        rq->answered = true;
        for (size_t i = 0; i < in->count && i < max; i++)
                srv_node_forget(rq->server, one[i].nodeid, one[i].nlookup);
        return 0;
}

/* ---- making ---- */

int srv_op_mknod(struct srv_request *rq)
{
        const struct fuse_mknod_in *in = (const void *)rq->arg;
        const uint32_t major = in->rdev >> 8 & 0xfff;
        const uint32_t minor = (in->rdev & 0xff) | (in->rdev >> 12 & 0xfff00);
        struct uext4_inode *inode;
        struct srv_named at;
        int ret = srv_named(rq, sizeof(*in), &at);

        if (ret < 0)
                return ret;
        srv_cred_use(rq, in->umask);
        ret = uext4_mknod(at.node->inode, at.name, at.len, in->mode, major, minor, &inode);
        return ret < 0 ? ret : srv_reply_entry(rq, inode);
}

int srv_op_mkdir(struct srv_request *rq)
{
        const struct fuse_mkdir_in *in = (const void *)rq->arg;
        struct uext4_inode *inode;
        struct srv_named at;
        int ret = srv_named(rq, sizeof(*in), &at);

        if (ret < 0)
                return ret;
        srv_cred_use(rq, in->umask);
        ret = uext4_mkdir(at.node->inode, at.name, at.len, in->mode, &inode);
        return ret < 0 ? ret : srv_reply_entry(rq, inode);
}

int srv_op_symlink(struct srv_request *rq)
{
        struct uext4_inode *inode;
        struct srv_named at;
        size_t target_len = 0;
        int ret = srv_named(rq, 0, &at);
        const char *target = ret == 0 ? srv_string(rq, at.len + 1, &target_len) : NULL;

        if (!target)
                return ret < 0 ? ret : -EINVAL;
        ret = uext4_symlink(at.node->inode, at.name, at.len, target, target_len, &inode);
        return ret < 0 ? ret : srv_reply_entry(rq, inode);
}

int srv_op_link(struct srv_request *rq)
{
        const struct fuse_link_in *in = (const void *)rq->arg;
        struct srv_node *dir = srv_node_find(rq->server, rq->in->nodeid);
        struct srv_node *node = srv_node_find(rq->server, in->oldnodeid);
        struct uext4_inode *inode;
        struct uext4_stat st;
        size_t len;
        const char *name = srv_string(rq, sizeof(*in), &len);
        int ret = !dir || !node ? -ESTALE : name ? 0 : -EINVAL;

        if (ret == 0)
                ret = uext4_link(node->inode, dir->inode, name, len);
        if (ret == 0)
                ret = uext4_stat(node->inode, &st);
        if (ret == 0)
                ret = uext4_inode_get(rq->server->fs, st.ino, 0, &inode);
        return ret < 0 ? ret : srv_reply_entry(rq, inode);
}

/* ---- removing and renaming ---- */

static int removed(struct srv_request *rq, int ret)
{
        if (ret == 0)
                srv_space_removed(rq->server);
        return ret;
}

int srv_op_unlink(struct srv_request *rq)
{
        struct srv_named at;
        int ret = srv_named(rq, 0, &at);

        return ret < 0 ? ret : removed(rq, uext4_unlink(at.node->inode, at.name, at.len));
}

int srv_op_rmdir(struct srv_request *rq)
{
        struct srv_named at;
        int ret = srv_named(rq, 0, &at);

        return ret < 0 ? ret : removed(rq, uext4_rmdir(at.node->inode, at.name, at.len));
}

static int rename_to(struct srv_request *rq, uint64_t new_nodeid, size_t pos, uint32_t flags)
{
        struct srv_node *dir = srv_node_find(rq->server, rq->in->nodeid);
        struct srv_node *new_dir = srv_node_find(rq->server, new_nodeid);
        size_t len, new_len = 0;
        const char *name = srv_string(rq, pos, &len);
        const char *new_name = name ? srv_string(rq, pos + len + 1, &new_len) : NULL;

        if (!dir || !new_dir)
                return -ESTALE;
        if (!new_name)
                return -EINVAL;
        return removed(rq, uext4_rename(dir->inode, name, len, new_dir->inode, new_name,
                                        new_len, flags));
}

int srv_op_rename(struct srv_request *rq)
{
        const struct fuse_rename_in *in = (const void *)rq->arg;

        return rename_to(rq, in->newdir, sizeof(*in), 0);
}

int srv_op_rename2(struct srv_request *rq)
{
        const struct fuse_rename2_in *in = (const void *)rq->arg;

        return rename_to(rq, in->newdir, sizeof(*in), in->flags);
}
