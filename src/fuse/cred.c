/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Who asks.
 *
 * When the kernel has asked for permission (default_permissions) the identity says whom new
 * things belong to, and no more: the library is not to ask again, since it does not know of
 * capabilities and groups.  Else the library asks, and gets what there is to know.
 *
 * Supplementary groups are not part of a request.  They are read from /proc, of the thread that
 * waits for the answer, and so cannot change meanwhile; where it cannot be read there are none.
 */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuse/internal.h"

enum {
        STATUS_SIZE = 8192, /* of /proc/PID/status; what is behind that is not looked at */
};

static ssize_t read_status(uint32_t pid, char *text, size_t size)
{
        char path[64];
        ssize_t len;
        int fd;

        snprintf(path, sizeof(path), "/proc/%u/task/%u/status", pid, pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -1;
        len = read(fd, text, size - 1);
        close(fd);
        if (len >= 0)
                text[len] = '\0';
        return len;
}

static uint32_t groups_of(uint32_t pid, uint32_t *groups, uint32_t max)
{
        static const char key[] = "\nGroups:";
        char text[STATUS_SIZE];
        uint32_t nr = 0;
        char *at, *end;

        if (pid == 0 || read_status(pid, text, sizeof(text)) <= 0)
                return 0;
        at = strstr(text, key);
        if (!at)
                return 0;
        at += sizeof(key) - 1;
        while (nr < max && *at != '\n') {
                unsigned long group = strtoul(at, &end, 10);

                if (end == at)
                        break;
                groups[nr++] = (uint32_t)group;
                at = end + strspn(end, " \t");
        }
        return nr;
}

bool srv_is_in_group(struct srv_request *rq, uint32_t gid)
{
        const uint32_t nr = groups_of(rq->in->pid, rq->groups, SRV_MAX_GROUPS);

        if (rq->in->gid == gid)
                return true;
        for (uint32_t i = 0; i < nr; i++) {
                if (rq->groups[i] == gid)
                        return true;
        }
        return false;
}

bool srv_is_admin(const struct srv_request *rq)
{
        return rq->in->uid == 0 || rq->in->uid == rq->server->owner;
}

void srv_cred_use(struct srv_request *rq, uint32_t umask)
{
        rq->cred = (struct uext4_cred){
                .uid = rq->in->uid,
                .gid = rq->in->gid,
                .umask = umask,
                .caps = rq->in->uid == 0 ? ~0ull : 0,
                .flags = rq->server->default_permissions ? UEXT4_CRED_TRUSTED : 0,
        };
        if (!rq->server->default_permissions && rq->in->uid != 0) {
                rq->cred.groups = rq->groups;
                rq->cred.nr_groups = groups_of(rq->in->pid, rq->groups, SRV_MAX_GROUPS);
        }
        uext4_cred_use(&rq->cred);
}

void srv_cred_use_asked(struct srv_request *rq, uint64_t caps)
{
        rq->cred.caps = caps;
        rq->cred.flags &= ~(uint32_t)UEXT4_CRED_TRUSTED;
        uext4_cred_use(&rq->cred);
}
