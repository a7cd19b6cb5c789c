/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_READER_H
#define UEXT4_CLI_READER_H

/*
 * reader.h - files read by many direct requests at once, handed over in order.
 *
 * Files are added one after the other; the reader keeps up to `depth` requests under way,
 * across the ends of files, so that small ones keep the device as busy as big ones; chunks come
 * out in the order of files and positions.
 *
 *      while (there is a file) {
 *              reader_add(reader, file, READER_ALL, mine);
 *              while (reader_make_room(reader, &chunk) > 0)
 *                      handle(&chunk);
 *      }
 *      while (reader_next(reader, &chunk) > 0)
 *              handle(&chunk);
 *
 * Each file gives at least one chunk, and its last one says so.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "uext4.h"

enum {
        READER_DEPTH = 32,        /* good defaults */
        READER_REQUEST = 1 << 20, /* bytes */
        READER_REQUEST_MIN = 4096,
        READER_REQUEST_MAX = 64 << 20,
};

enum reader_mode {
        READER_ALL,  /* every byte; holes are zeros */
        READER_DATA, /* only what SEEK_DATA finds */
};

/* Data and `user` are valid until the next reader_next(). */
struct reader_chunk {
        void *user;          /* of the file */
        const uint8_t *data; /* NULL when error */
        uint64_t pos, len;   /* bytes; len may be 0 in a last chunk */
        int error;           /* negative errno: these bytes could not be read */
        bool last;           /* of this file */
};

struct reader_stats {
        uint64_t requests;
        uint64_t bytes; /* read without error */
        unsigned max_in_flight;
};

struct reader;

int reader_new(struct uext4_fs *fs, unsigned depth, size_t request_size,
               struct reader **ret_reader);

/* Closes the files that are left.  NULL is fine. */
void reader_free(struct reader *reader);

/* Takes the file over: it is closed after its last chunk. */
void reader_add(struct reader *reader, struct uext4_file *file, enum reader_mode mode,
                void *user);

/* Open an inode as reader_add() likes it best. */
int reader_open(struct uext4_inode *inode, struct uext4_file **ret_file);

/* 1 and a chunk, 0 when all files are done, or -errno when the queue is broken. */
int reader_next(struct reader *reader, struct reader_chunk *ret_chunk);

/* The same, but 0 as soon as the next file may be added. */
int reader_make_room(struct reader *reader, struct reader_chunk *ret_chunk);

const struct reader_stats *reader_stats(const struct reader *reader);

#endif
