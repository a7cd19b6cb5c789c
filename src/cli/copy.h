/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_COPY_H
#define UEXT4_CLI_COPY_H

/*
 * copy.h - trees, from anywhere into an image.
 *
 * A source is walked once, in the order of walk.h: directories before and after what is in
 * them, names sorted.
 */

#include "cli/build.h"
#include "cli/walk.h"

/* Valid until the next one.  The object's `source` is freed by copy_tree(). */
struct copy_item {
        enum walk_event event;
        const char *path; /* from the root of the walk, "" for the root itself */
        const char *name; /* its last component */
        struct object object;
        int error; /* WALK_ENTER: what is in it could not all be read; WALK_ERROR */
        const char *what;
};

struct copy_source {
        /* 1 and an item, or 0 at the end. */
        int (*next)(void *arg, struct copy_item *ret_item);
        void (*skip)(void *arg); /* after WALK_ENTER: leave out what is in it, and WALK_LEAVE */
        void *arg;
};

/*
 * Copy all that the source gives to `name` in the directory `dir`, or, with NULL, what is in
 * the source's directory to `dir`.  `target` is that place, for messages.  Writing may be under
 * way when it returns.
 */
void copy_tree(struct cli *cli, struct build *b, const struct copy_source *source,
               struct uext4_inode *dir, const char *name, const char *target);

/* ---- sources ---- */

/* A tree of an image; `op` stays the caller's. */
struct copy_image {
        const struct cli_operand *op;
        struct walk *walk;
};

struct copy_source copy_from_image(struct copy_image *state, const struct cli_operand *op);
void copy_image_done(struct copy_image *state);

/* The bytes of regular files in it, holes left out, for a progress bar. */
uint64_t copy_image_size(const struct cli_operand *op);

/* A tree of the host (copy_host.c). */
struct copy_host;

/* `follow`: the root may be a symlink.  -errno. */
int copy_host_new(const char *path, bool follow, struct copy_host **ret_host);
void copy_host_free(struct copy_host *host);
struct copy_source copy_from_host(struct copy_host *host);

/* As copy_image_size(). */
uint64_t copy_host_size(const char *path, bool follow);

#endif
