/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* libFuzzer target: the input is a part of an image, and what is done with it (part.h). */

#include "part.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        part_walk(data, size);
        return 0;
}

/* The fuzzer's own changes know what the code compares with; but they keep the size here, or
 * all that is behind them would be in another place. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
        if (seed % 3 == 0 && size > PART_CHOICES) {
                LLVMFuzzerMutate(data, size, size);
                return size;
        }
        return part_mutate(data, size, max_size, seed);
}
