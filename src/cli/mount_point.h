/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_MOUNT_POINT_H
#define UEXT4_CLI_MOUNT_POINT_H

/*
 * mount_point.h - what is mounted where, as the kernel tells.
 *
 * Nothing here asks the mounted file system itself: its server may be dead, or not answer.
 */

#include <stdbool.h>
#include <sys/types.h>

struct mount_point {
        char *dir;           /* absolute */
        char *source, *type; /* "fuse.uext4" */
        char *device;        /* "0:53": its number, as long as it is mounted anywhere */
        uid_t owner;         /* who mounted it */
};

/*
 * The absolute name of a directory, to be freed, without a look at what is mounted on it; NULL
 * with errno when what leads to it is not there.
 */
char *mount_point_name(const char *arg);

/* What was mounted last on the directory of that absolute name; false: nothing. */
bool mount_point_find(const char *dir, struct mount_point *ret_mount);

/* Mounted by a FUSE server. */
bool mount_point_is_fuse(const struct mount_point *mount);

void mount_point_free(struct mount_point *mount);

#endif
