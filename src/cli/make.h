/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_MAKE_H
#define UEXT4_CLI_MAKE_H

/*
 * make.h - new things in directories of an image, for those who know their owner and mode.
 * NUL-terminated names; negative errno; the inode is one to put, or `ret_inode` is NULL.
 */

#include "cli/cli.h"

/* Whom something new belongs to. */
struct make_owner {
        uint32_t uid, gid;
};

/* The caller of the command. */
struct make_owner make_own(void);

/* What is made: S_IFREG, S_IFDIR, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK in `mode`, with the
 * permissions as they shall be. */
int make_node(struct uext4_inode *dir, const char *name, uint32_t mode, uint32_t major,
              uint32_t minor, struct make_owner owner, struct uext4_inode **ret_inode);

int make_symlink(struct uext4_inode *dir, const char *name, const char *target,
                 struct make_owner owner, struct uext4_inode **ret_inode);

#endif
