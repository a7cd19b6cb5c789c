/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Extended attributes, POSIX ACLs among them: the kernel reads and writes these as attributes,
 * and asks them itself with default_permissions. */

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "fuse/internal.h"

/* With size 0 they ask how much there is. */
static int reply_value(struct srv_request *rq, uint32_t size, ssize_t n)
{
        struct fuse_getxattr_out out = {0};

        if (n < 0)
                return (int)n;
        if (size > 0)
                return srv_reply(rq, rq->worker->out, (size_t)n);
        out.size = (uint32_t)n;
        return srv_reply(rq, &out, sizeof(out));
}

int srv_op_getxattr(struct srv_request *rq)
{
        const struct fuse_getxattr_in *in = (const void *)rq->arg;
        const size_t room = in->size < SRV_MAX_IO ? in->size : SRV_MAX_IO;
        struct srv_named at;
        int ret = srv_named(rq, sizeof(*in), &at);

        if (ret < 0)
                return ret;
        return reply_value(rq, in->size,
                           uext4_getxattr(at.node->inode, at.name, rq->worker->out, room));
}

/* "trusted." is not shown to everybody; that the kernel leaves to us. */
int srv_op_listxattr(struct srv_request *rq)
{
        const struct fuse_getxattr_in *in = (const void *)rq->arg;
        struct srv_node *node = srv_node_find(rq->server, rq->in->nodeid);
        const size_t room = in->size < SRV_MAX_IO ? in->size : SRV_MAX_IO;

        if (!node)
                return -ESTALE;
        srv_cred_use_asked(rq, rq->cred.caps);
        return reply_value(rq, in->size, uext4_listxattr(node->inode, rq->worker->out, room));
}

/* An ACL that was set by somebody who is not in the file's group. */
static int take_sgid(struct srv_node *node)
{
        struct uext4_setattr attr = {.mask = UEXT4_SET_MODE};
        struct uext4_stat st;
        int ret = uext4_stat(node->inode, &st);

        if (ret < 0 || !(st.mode & S_ISGID))
                return ret;
        attr.mode = st.mode & 07777 & ~(uint32_t)S_ISGID;
        return uext4_setattr(node->inode, &attr);
}

int srv_op_setxattr(struct srv_request *rq)
{
        const struct fuse_setxattr_in *in = (const void *)rq->arg;
        struct srv_named at;
        int ret = srv_named(rq, sizeof(*in), &at);

        if (ret < 0)
                return ret;
        if (rq->arg_len - sizeof(*in) - at.len - 1 < in->size)
                return -EINVAL;
        ret = uext4_setxattr(at.node->inode, at.name, at.name + at.len + 1, in->size,
                             (int)in->flags);
        if (ret == 0 && (in->setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID))
                ret = take_sgid(at.node);
        return ret;
}

int srv_op_removexattr(struct srv_request *rq)
{
        struct srv_named at;
        int ret = srv_named(rq, 0, &at);

        return ret < 0 ? ret : uext4_removexattr(at.node->inode, at.name);
}
