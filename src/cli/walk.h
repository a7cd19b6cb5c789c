/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_WALK_H
#define UEXT4_CLI_WALK_H

/*
 * walk.h - an iterator over a tree of an image, directories before and after what is in them.
 *
 * The tree is hostile.  The walk keeps its own stack, so that no depth overflows ours; it
 * enters each directory once at most, so that a directory that is linked into itself, or many
 * times, makes no endless or exponential walk; it refuses names that are no names ("", with '/'
 * or NUL).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "uext4.h"

/* ---- one directory -------------------------------------------------------- */

struct dirlist_entry {
        uint64_t ino;
        size_t name_len; /* as on disk: strlen(name) may be less, for a name with a NUL */
        char *name;
};

struct dirlist {
        struct dirlist_entry *entries; /* sorted by the bytes of their names */
        size_t nr, room;
};

enum dirlist_dots {
        DIRLIST_NO_DOTS,
        DIRLIST_DOTS
};

/*
 * Read and sort all of a directory.  Returns 0 or the first error; what could be read is in the
 * list in any case.  Owner: dirlist_done().
 */
int dirlist_read(struct uext4_inode *dir, enum dirlist_dots dots, struct dirlist *ret_list);
void dirlist_done(struct dirlist *list);

/* Can it be one component of a path? */
bool dirlist_name_is_valid(const struct dirlist_entry *entry);

/* ---- a tree --------------------------------------------------------------- */

enum walk_event {
        WALK_FILE,  /* anything that is no directory */
        WALK_ENTER, /* a directory; its list is complete or `error` says why not */
        WALK_LEAVE, /* the same directory after all that is in it */
        WALK_ERROR, /* this entry cannot be had: `error`, or `what` when it is no errno */
};

/* Valid until the next walk_next(). */
struct walk_item {
        enum walk_event event;
        const char *path;        /* from the root of the walk, "" for the root itself: "a/b" */
        const char *name;        /* its last component */
        struct uext4_inode *dir; /* that it was found in; NULL for the root of the walk */
        struct uext4_inode *inode;
        struct uext4_stat st;
        const struct dirlist *list; /* WALK_ENTER */
        int error;                  /* WALK_ENTER: of its list; WALK_ERROR */
        const char *what;           /* WALK_ERROR */
};

struct walk;

/* `root` stays the caller's and must live as long as the walk. */
struct walk *walk_new(struct uext4_fs *fs, struct uext4_inode *root);
void walk_free(struct walk *walk);

/* 1 and the next item, or 0 at the end. */
int walk_next(struct walk *walk, struct walk_item *ret_item);

/* How many files of all kinds there are in a tree, its root included: for a progress bar. */
uint64_t walk_count(struct uext4_fs *fs, struct uext4_inode *root);

/* After WALK_ENTER: leave out what is in this directory, and its WALK_LEAVE. */
void walk_skip(struct walk *walk);

#endif
