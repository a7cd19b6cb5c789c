/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* libFuzzer target: the input is a journal, or a part of an image (target.h). */

#include "target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        target_walk(data, size);
        return 0;
}

/* The fuzzer's own changes know what the code compares with; but they keep the size here, or
 * all that is behind them would be in another place. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
        if (seed % 3 == 0 && size > 1) {
                LLVMFuzzerMutate(data, size, size);
                return size;
        }
        return target_mutate(data, size, max_size, seed);
}
