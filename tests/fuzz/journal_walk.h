/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef FUZZ_JOURNAL_WALK_H
#define FUZZ_JOURNAL_WALK_H

/*
 * What the fuzz target of the journal does with one input, and the mutations that know the
 * format of a journal.
 *
 * The input is the contents of a journal: its superblock, then the first blocks of the log.
 */

#include <stddef.h>
#include <stdint.h>

/*
 * Put the input into the journal of an image, which says that it must be replayed; list the
 * log, mount the image with the journal replayed in memory, and recover it in its place.  A
 * broken promise is said on stderr and aborts.
 */
void journal_walk(const uint8_t *input, size_t size);

/* Change something; an input that is no journal becomes one.  Returns the new size. */
size_t journal_mutate(uint8_t *data, size_t size, size_t max_size, uint64_t seed);

#endif
