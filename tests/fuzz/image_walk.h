/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef FUZZ_IMAGE_WALK_H
#define FUZZ_IMAGE_WALK_H

/*
 * Everything that a program can do with an image through the public API, within bounds, and
 * the promises of that API that hold for any image, however damaged.  A broken promise is said
 * on stderr and aborts.
 *
 * The first 16 bytes of an image are no part of the file system.  Here they choose among what
 * the walk does (positions, the size of the metadata cache), so that a fuzzer can vary that
 * too.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
        /* The image is a good one: no call may report damage, and each name is found. */
        IMAGE_WALK_GOOD = 1u << 0,
};

struct image_walk_seen {
        unsigned nr_mounts;  /* that succeeded */
        unsigned nr_inodes;  /* visited */
        unsigned nr_damages; /* -EUCLEAN and -EBADMSG */
        uint64_t nr_bytes;   /* of files, read */
        uint32_t max_uid;    /* of any inode */
};

void image_walk(const uint8_t *image, size_t size, unsigned flags,
                struct image_walk_seen *ret_seen);

#endif
