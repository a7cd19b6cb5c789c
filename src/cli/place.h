/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_PLACE_H
#define UEXT4_CLI_PLACE_H

/*
 * place.h - a name in a directory of an image, whether it exists or not: what the commands that
 * make, move and remove names work on.
 */

#include "cli/cli.h"

struct place {
        char *arg; /* IMAGE:/PATH, for messages */
        struct cli_image *image;
        struct uext4_inode *dir;
        char *name; /* in the directory; NULL: the directory itself is meant */
        bool slash; /* one stands behind the name: only a directory can be meant */
};

/*
 * Where the last component of the operand is, or would be; all before it must exist.  The root,
 * and what ends in "." or "..", has no name: `dir` is it then.  On failure it is said.
 */
bool place_open(struct cli *cli, const char *arg, struct place *ret_place);

/*
 * Where cp(1) would put something: in DST when that is a directory, else DST is the new name.
 * In a directory `name` is NULL, until place_set_name().  `single`: one source, so that it can
 * be a name.  A slash behind what does not exist yet is for directories only.
 */
bool place_open_target(struct cli *cli, const char *arg, bool single, struct place *ret_place);

/* The same, but DST is always the name. */
bool place_open_name(struct cli *cli, const char *arg, struct place *ret_place);

void place_close(struct place *place);

/* What lies there, a symlink itself: 1 with an inode to put and its attributes, 0 nothing,
 * -errno. */
int place_find(const struct place *place, struct uext4_inode **ret_inode,
               struct uext4_stat *ret_st);

/* For messages; to be freed. `name` NULL: the place's own. */
char *place_text(const struct place *place, const char *name);

/*
 * Is the directory `dir` the inode `ino`, or below it?  Goes up by "..": 1, 0, -errno.
 */
int place_is_below(struct uext4_fs *fs, struct uext4_inode *dir, uint64_t ino);

#endif
