/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_CONTENT_H
#define UEXT4_CLI_CONTENT_H

/*
 * content.h - where the bytes of a file come from: the host, an image, an archive.
 *
 * It is read from the front to the back, each byte once at most, so that a stream will do.
 */

#include <stddef.h>
#include <stdint.h>

#include "uext4.h"

struct content;

struct content_ops {
        /* The next data of [pos, end): 1 and where, 0 none, -errno.  What is between is a hole.
         */
        int (*next_data)(struct content *c, uint64_t pos, uint64_t end, uint64_t *ret_pos,
                         uint64_t *ret_end);
        /* All of [pos, pos + len); what is not there are zeros.  0 or -errno. */
        int (*read)(struct content *c, void *buf, size_t len, uint64_t pos);
        void (*close)(struct content *c);
};

struct content {
        const struct content_ops *ops;
        int fd;                  /* of the host */
        struct uext4_file *file; /* of an image */
        void *stream;            /* another one's */
};

/* A file of the host, open for reading; the descriptor is taken over. */
struct content content_of_host(int fd);

/* A file of an image, open for reading; it is taken over. */
struct content content_of_image(struct uext4_file *file);

void content_close(struct content *c);

#endif
