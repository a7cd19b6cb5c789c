/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_WRITER_H
#define UEXT4_CLI_WRITER_H

/*
 * writer.h - the contents of files, written by many requests at once.
 *
 * Files are added one after the other; the writer keeps up to `depth` requests under way,
 * across the ends of files.  Holes of the source stay holes.  Each file ends once, in any
 * order, by the call of a function: then all of it is written, or its first error is known.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cli/content.h"

enum {
        WRITER_DEPTH = 32, /* good defaults */
        WRITER_REQUEST = 1 << 20,
};

struct writer_params {
        unsigned depth;
        size_t request_size; /* bytes; a power of two, 64 KiB at least */
        bool buffered;       /* files are opened without O_DIRECT */
        bool sync;           /* each is durable before it ends */

        /* A file's end.  `error` is 0, or -errno of what could not be written or, with
         * `reading`, not be read. */
        void (*ended)(void *arg, void *user, int error, bool reading);
        void *arg;
};

struct writer;

int writer_new(struct uext4_fs *fs, const struct writer_params *params,
               struct writer **ret_writer);
void writer_free(struct writer *w); /* after writer_drain(), or a broken queue; NULL is fine */

/*
 * Write the contents, `size` bytes, to a file that has none.  The inode is to live until the
 * end.  Returns when all has been read, and all requests of this file are under way; -errno
 * when the queue is broken: then no file ends any more.
 */
int writer_add(struct writer *w, struct uext4_inode *inode, struct content *content,
               uint64_t size, void *user);

/* Wait for the end of all. */
int writer_drain(struct writer *w);

#endif
