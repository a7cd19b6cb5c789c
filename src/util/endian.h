/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UTIL_ENDIAN_H
#define UTIL_ENDIAN_H

/*
 * Integers as they lie on disk.  Each byte order has its own structure types,
 * so that a forgotten conversion does not compile.
 */

#include <endian.h>
#include <stdint.h>

typedef struct {
        uint16_t v;
} le16;
typedef struct {
        uint32_t v;
} le32;
typedef struct {
        uint64_t v;
} le64;
typedef struct {
        uint16_t v;
} be16;
typedef struct {
        uint32_t v;
} be32;
typedef struct {
        uint64_t v;
} be64;

#define ENDIAN_PAIR(type, base, from, to)      \
        static inline base type##_get(type x)  \
        {                                      \
                return from(x.v);              \
        }                                      \
        static inline type type##_make(base x) \
        {                                      \
                return (type){to(x)};          \
        }

ENDIAN_PAIR(le16, uint16_t, le16toh, htole16)
ENDIAN_PAIR(le32, uint32_t, le32toh, htole32)
ENDIAN_PAIR(le64, uint64_t, le64toh, htole64)
ENDIAN_PAIR(be16, uint16_t, be16toh, htobe16)
ENDIAN_PAIR(be32, uint32_t, be32toh, htobe32)
ENDIAN_PAIR(be64, uint64_t, be64toh, htobe64)

#undef ENDIAN_PAIR

/* A value that the format keeps in two halves. */
static inline uint64_t le64_join(le32 lo, le32 hi)
{
        return (uint64_t)le32_get(hi) << 32 | le32_get(lo);
}

static inline uint64_t le48_join(le32 lo, le16 hi)
{
        return (uint64_t)le16_get(hi) << 32 | le32_get(lo);
}

static inline uint32_t le32_join(le16 lo, le16 hi)
{
        return (uint32_t)le16_get(hi) << 16 | le16_get(lo);
}

#endif
