/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* libFuzzer target: the input is an image. */

#include "image_walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct image_walk_seen seen;

        image_walk(data, size, 0, &seen);
        return 0;
}
