/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* libFuzzer target: the input is an image, which is written. */

#include "write_walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct write_walk_seen seen;

        write_walk(data, size, 0, &seen);
        return 0;
}
