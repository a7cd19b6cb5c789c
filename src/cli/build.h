/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_BUILD_H
#define UEXT4_CLI_BUILD_H

/*
 * build.h - copies in an image: names, contents, attributes, hard links, of objects from
 * anywhere (object.h).
 *
 * Names are made one after the other; contents are written by the writer, which has requests of
 * several files under way.  Nothing that exists is written to: with `force` the old name is
 * removed first; only directories are used as they are.  A file whose contents could not all be
 * written is removed again, for half a file must not look whole.
 *
 * What fails is said, and the rest goes on.
 */

#include "cli/object.h"
#include "cli/override.h"
#include "cli/place.h"

struct build_options {
        bool force, no_clobber, buffered, sync;
        const struct override *override;
};

struct build;

/* False when it cannot be, and that is said.  `options` is looked at until build_free(). */
bool build_new(struct cli *cli, struct cli_image *image, const struct build_options *options,
               struct build **ret_build);

/* Waits for what is under way. */
void build_free(struct build *b);

/* Waits for what is under way: all is there, or said and removed. */
void build_flush(struct build *b);

/* Writing has come to an end for all: nothing more need be tried. */
bool build_is_broken(const struct build *b);

/* Anything but a directory.  `target` is for messages; the object is the caller's again. */
void build_file(struct build *b, struct uext4_inode *dir, const char *name,
                const struct object *o, const char *target);

/* Make a directory or use the one that is there: an inode to put; NULL: all is said. */
struct uext4_inode *build_enter(struct build *b, struct uext4_inode *dir, const char *name,
                                const struct object *o, const char *target);

/* The directory of that name: an inode to put; -ENOENT, -ENOTDIR. */
int build_find_directory(struct uext4_inode *dir, const char *name,
                         struct uext4_inode **ret_inode);

/* All that was to be in it is: its attributes. */
void build_leave(struct build *b, struct uext4_inode *inode, const struct object *o,
                 const char *target);

/* One more name for what has the key, if that was built: false when it was not. */
bool build_link(struct build *b, struct links_key key, struct uext4_inode *dir,
                const char *name, const char *target);

/* One more name for a file. */
void build_link_inode(struct build *b, struct uext4_inode *inode, struct uext4_inode *dir,
                      const char *name, const char *target);

/* ---- build_attributes.c ---- */

/* What the copy gets of a source. */
struct uext4_stat build_wanted(const struct build_options *options, const struct object *o);

/* Extended attributes as the source's. */
void build_set_xattrs(struct cli *cli, struct uext4_inode *inode, const struct object *o,
                      const char *target);

/* Owner, mode and times. */
void build_set_stat(struct cli *cli, struct uext4_inode *inode, const struct uext4_stat *want,
                    const char *target);

#endif
