/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* libFuzzer target: the input is what a journal contains. */

#include "journal_walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        journal_walk(data, size);
        return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
        return journal_mutate(data, size, max_size, seed);
}
