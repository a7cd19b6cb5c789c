/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef VFS_IOV_ITER_H
#define VFS_IOV_ITER_H

/*
 * A place in a caller's vector.  It only moves forward; it is a value, so that
 * going back is keeping a copy.
 */

#include <sys/uio.h>

#include "util/base.h"

struct iov_iter {
        const struct iovec *iov; /* the current element */
        int nr;                  /* elements left, the current one included */
        size_t skip;             /* bytes of the current element already consumed */
        uint64_t count;          /* bytes left */
};

/* -EINVAL when the vector is longer than IOV_MAX or its sum than INT64_MAX. */
must_check int iov_iter_init(struct iov_iter *it, const struct iovec *iov, int nr);

/* n <= count */
void iov_iter_advance(struct iov_iter *it, uint64_t n);

/* Forget what lies behind the next n bytes. */
static inline void iov_iter_truncate(struct iov_iter *it, uint64_t n)
{
        if (n < it->count)
                it->count = n;
}

/* Each of these moves the iterator on by n; n <= count. */
void iov_iter_zero(struct iov_iter *it, uint64_t n);
void iov_iter_copy_to(struct iov_iter *it, const void *src, uint64_t n);
void iov_iter_copy_from(struct iov_iter *it, void *dst, uint64_t n);

/* How many elements the next n bytes touch; 0 for n == 0. */
int iov_iter_nr_segments(const struct iov_iter *it, uint64_t n);

/* The next n bytes as a vector of iov_iter_nr_segments() elements. */
void iov_iter_slice(const struct iov_iter *it, uint64_t n, struct iovec *iov);

/* True when every element that is left begins and ends at multiples of `align`. */
bool iov_iter_is_aligned(const struct iov_iter *it, uint32_t align);

#endif
