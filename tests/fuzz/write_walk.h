/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef FUZZ_WRITE_WALK_H
#define FUZZ_WRITE_WALK_H

/*
 * What a program can do to an image through the public API, within bounds, and what must hold
 * whatever is in the image: no call crashes or takes long, nothing leaks, errors are those of
 * include/uext4.h, and what is left can be walked (image_walk.h).  A broken promise is said on
 * stderr and aborts.
 *
 * The first 16 bytes of an image, which are no part of the file system, choose what is done.
 */

#include <stddef.h>
#include <stdint.h>

enum {
        /* The image is a good one, and so it must be afterwards: nothing may be damaged. */
        WRITE_WALK_GOOD = 1u << 0,
};

struct write_walk_seen {
        unsigned nr_mounts;  /* for writing, that succeeded */
        unsigned nr_changes; /* calls that succeeded */
        unsigned nr_refused; /* calls that did not */
        unsigned nr_damages; /* of these, -EUCLEAN and -EBADMSG */
};

/* The image itself is left as it is. */
void write_walk(const uint8_t *image, size_t size, unsigned flags,
                struct write_walk_seen *ret_seen);

#endif
