/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_RANDOM_H
#define UEXT4_CLI_RANDOM_H

/* random.h - random numbers that a seed repeats (xorshift64*). */

#include <stdint.h>

/* The state to begin with: never 0. */
static inline uint64_t random_start(uint64_t seed)
{
        return seed * 2 + 1;
}

static inline uint64_t random_next(uint64_t *state)
{
        uint64_t x = *state;

        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        *state = x;
        return x * 0x2545f4914f6cdd1du;
}

/* A random number made one of [0, n), by its upper bits. */
static inline uint64_t random_scale(uint64_t x, uint64_t n)
{
        return (uint64_t)(((unsigned __int128)x * n) >> 64);
}

#endif
