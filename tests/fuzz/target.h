/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef FUZZ_TARGET_H
#define FUZZ_TARGET_H

/*
 * A fuzz target whose inputs are not whole images, and which has mutations of its own: the
 * journal (journal_walk.c), the parts of an image (part.c).  Both programs are made of it:
 *
 *      fuzz_target.c    the libFuzzer target
 *      target_replay.c  the same without a fuzzer
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An input that is too short becomes a good one of a size between 1 and this. */
#define TARGET_MAX_INPUT (64u << 10)

/* Put one input to work, and say whether it met damage.  A broken promise is said on stderr and
 * aborts. */
bool target_walk(const uint8_t *input, size_t size);

/* Change something; what is too short, and now and then another, becomes a good one.  Returns
 * the new size.  With less room than TARGET_MAX_INPUT nothing is changed. */
size_t target_mutate(uint8_t *data, size_t size, size_t max_size, uint64_t seed);

#endif
