/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UTIL_BASE_H
#define UTIL_BASE_H

/* Small things that every file may need. */

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#define must_check              __attribute__((warn_unused_result))
#define printf_like(fmt, first) __attribute__((format(printf, fmt, first)))
#define likely(x)               __builtin_expect(!!(x), 1)
#define unlikely(x)             __builtin_expect(!!(x), 0)
#define CACHE_LINE              64

#define min_t(type, a, b) ((type)(a) < (type)(b) ? (type)(a) : (type)(b))
#define max_t(type, a, b) ((type)(a) > (type)(b) ? (type)(a) : (type)(b))

static inline bool is_pow2(uint64_t x)
{
        return x != 0 && (x & (x - 1)) == 0;
}

static inline uint64_t round_down_pow2(uint64_t x, uint64_t unit)
{
        return x & ~(unit - 1);
}

/* The caller knows that the result fits. */
static inline uint64_t round_up_pow2(uint64_t x, uint64_t unit)
{
        return (x + unit - 1) & ~(unit - 1);
}

static inline uint64_t div_round_up(uint64_t x, uint64_t unit)
{
        return x / unit + (x % unit != 0);
}

/* The first error of a sequence wins. */
static inline int first_error(int a, int b)
{
        return a < 0 ? a : b;
}

#endif
