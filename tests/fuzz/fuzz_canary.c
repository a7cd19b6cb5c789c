/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The target of fuzz_image.c with a crash planted in it: an inode whose owner needs more than
 * 16 bits, which no image of the corpus has.  A fuzzer that mounts, walks and mutates as it
 * should finds one within seconds; if it does not, its silence about the real target means
 * nothing.
 */

#include <stdio.h>
#include <stdlib.h>

#include "image_walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct image_walk_seen seen;

        image_walk(data, size, 0, &seen);
        if (seen.max_uid > UINT16_MAX) {
                fprintf(stderr, "the canary was found\n");
                abort();
        }
        return 0;
}
