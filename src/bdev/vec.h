/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef BDEV_VEC_H
#define BDEV_VEC_H

/* A vector of a request as a stream of bytes, for devices that copy. */

#include <string.h>
#include <sys/uio.h>

#include "util/base.h"

/* Where a copy stands: `skip` bytes into iov[0]. */
struct vec {
        const struct iovec *iov;
        size_t skip;
};

static inline uint64_t vec_sum(const struct iovec *iov, int nr_iov)
{
        uint64_t sum = 0;

        for (int i = 0; i < nr_iov; i++)
                sum += iov[i].iov_len;
        return sum;
}

/* The next piece of 1 to `max` bytes.  The vector has at least `max` > 0 left. */
static inline struct iovec vec_next(struct vec *v, uint64_t max)
{
        struct iovec piece;

        while (v->skip == v->iov->iov_len) {
                v->iov++;
                v->skip = 0;
        }
        piece.iov_base = (char *)v->iov->iov_base + v->skip;
        piece.iov_len = min_t(uint64_t, max, v->iov->iov_len - v->skip);
        v->skip += piece.iov_len;
        return piece;
}

/* From memory to the vector. */
static inline void vec_put(struct vec *v, const char *from, uint64_t len)
{
        while (len > 0) {
                struct iovec piece = vec_next(v, len);

                memcpy(piece.iov_base, from, piece.iov_len);
                from += piece.iov_len;
                len -= piece.iov_len;
        }
}

/* From the vector to memory. */
static inline void vec_get(struct vec *v, char *to, uint64_t len)
{
        while (len > 0) {
                struct iovec piece = vec_next(v, len);

                memcpy(to, piece.iov_base, piece.iov_len);
                to += piece.iov_len;
                len -= piece.iov_len;
        }
}

#endif
