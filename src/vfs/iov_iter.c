/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vfs/iov_iter.h"

#include <limits.h>
#include <string.h>

int iov_iter_init(struct iov_iter *it, const struct iovec *iov, int nr)
{
        uint64_t sum = 0;

        if (nr < 0 || nr > IOV_MAX)
                return -EINVAL;
        for (int i = 0; i < nr; i++) {
                if (iov[i].iov_len > (uint64_t)INT64_MAX - sum)
                        return -EINVAL;
                sum += iov[i].iov_len;
        }
        *it = (struct iov_iter){.iov = iov, .nr = nr, .count = sum};
        return 0;
}

/* Bytes left in the current element; elements of length 0 are skipped. */
static size_t current_left(struct iov_iter *it)
{
        while (it->skip == it->iov->iov_len) {
                it->iov++;
                it->nr--;
                it->skip = 0;
        }
        return it->iov->iov_len - it->skip;
}

/* The next contiguous piece of at most *n bytes; moves over it. */
static char *take(struct iov_iter *it, uint64_t *n)
{
        size_t left = current_left(it);
        char *p = (char *)it->iov->iov_base + it->skip;

        *n = min_t(uint64_t, *n, left);
        it->skip += *n;
        it->count -= *n;
        return p;
}

void iov_iter_advance(struct iov_iter *it, uint64_t n)
{
        assert(n <= it->count);
        while (n > 0) {
                uint64_t piece = n;

                (void)take(it, &piece);
                n -= piece;
        }
}

void iov_iter_zero(struct iov_iter *it, uint64_t n)
{
        assert(n <= it->count);
        while (n > 0) {
                uint64_t piece = n;
                char *p = take(it, &piece);

                memset(p, 0, piece);
                n -= piece;
        }
}

void iov_iter_copy_to(struct iov_iter *it, const void *src, uint64_t n)
{
        const char *from = src;

        assert(n <= it->count);
        while (n > 0) {
                uint64_t piece = n;
                char *p = take(it, &piece);

                memcpy(p, from, piece);
                from += piece;
                n -= piece;
        }
}

void iov_iter_copy_from(struct iov_iter *it, void *dst, uint64_t n)
{
        char *to = dst;

        assert(n <= it->count);
        while (n > 0) {
                uint64_t piece = n;
                const char *p = take(it, &piece);

                memcpy(to, p, piece);
                to += piece;
                n -= piece;
        }
}

int iov_iter_nr_segments(const struct iov_iter *it, uint64_t n)
{
        struct iov_iter at = *it;
        int nr = 0;

        assert(n <= it->count);
        while (n > 0) {
                uint64_t piece = n;

                (void)take(&at, &piece);
                n -= piece;
                nr++;
        }
        return nr;
}

void iov_iter_slice(const struct iov_iter *it, uint64_t n, struct iovec *iov)
{
        struct iov_iter at = *it;

        assert(n <= it->count);
        for (; n > 0; iov++) {
                uint64_t piece = n;

                iov->iov_base = take(&at, &piece);
                iov->iov_len = piece;
                n -= piece;
        }
}

bool iov_iter_is_aligned(const struct iov_iter *it, uint32_t align)
{
        size_t skip = it->skip;
        uintptr_t bits = 0;

        for (int i = 0; i < it->nr; i++) {
                if (it->iov[i].iov_len == skip) {
                        skip = 0;
                        continue; /* nothing is transferred there */
                }
                bits |= (uintptr_t)it->iov[i].iov_base + skip;
                bits |= it->iov[i].iov_len - skip;
                skip = 0;
        }
        return (bits & (align - 1)) == 0;
}
