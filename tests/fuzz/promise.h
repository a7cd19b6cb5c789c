/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef FUZZ_PROMISE_H
#define FUZZ_PROMISE_H

/*
 * What the walks of the fuzz targets have in common: the check of a promise, and numbers and
 * modes that the input chooses.
 */

#include <fcntl.h>
#include <linux/falloc.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#ifndef FALLOC_FL_WRITE_ZEROES
#define FALLOC_FL_WRITE_ZEROES 0x80 /* Linux 6.17 */
#endif

#define promise(cond) ((cond) ? (void)0 : broken_promise(__FILE__, __LINE__, #cond))

_Noreturn static inline void broken_promise(const char *file, int line, const char *cond)
{
        fprintf(stderr, "%s:%d: the library broke a promise: %s\n", file, line, cond);
        abort();
}

static inline void *must_alloc(size_t size)
{
        void *ptr = malloc(size ? size : 1);

        if (!ptr) {
                fprintf(stderr, "no memory for the test itself\n");
                _exit(2);
        }
        return ptr;
}

/* A number below `limit` (0 for 0); *state goes on. */
static inline uint64_t choose_number(uint64_t *state, uint64_t limit)
{
        uint64_t x;

        *state += 0x9e3779b97f4a7c15u;
        x = *state;
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
        x ^= x >> 31;
        return limit ? x % limit : 0;
}

/* For fallocate; what changes the tree most comes more often. */
static inline int choose_fallocate_mode(uint64_t *state)
{
        static const int modes[] = {0,
                                    FALLOC_FL_KEEP_SIZE,
                                    FALLOC_FL_ZERO_RANGE,
                                    FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
                                    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                    FALLOC_FL_WRITE_ZEROES,
                                    FALLOC_FL_COLLAPSE_RANGE,
                                    FALLOC_FL_COLLAPSE_RANGE,
                                    FALLOC_FL_INSERT_RANGE,
                                    FALLOC_FL_INSERT_RANGE,
                                    FALLOC_FL_UNSHARE_RANGE};

        return modes[choose_number(state, sizeof(modes) / sizeof(modes[0]))];
}

#endif
