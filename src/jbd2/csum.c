/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Checksums of the journal (J10).  Three generations: v1 is a CRC-32 over a whole transaction
 * in its commit block; v2 and v3 give each block a crc32c of its own and differ in the size of
 * a tag's. */

#include <isa-l/crc.h>
#include <string.h>

#include "jbd2/journal.h"
#include "util/crc.h"

static const be32 zero;

/* `block` with the four bytes at `at` taken as zeros. */
static uint32_t csum_around(const struct jbd2_journal *j, const void *block, size_t size,
                            size_t at)
{
        uint32_t crc = crc32c(j->csum_seed, block, at);

        crc = crc32c(crc, &zero, sizeof(zero));
        return crc32c(crc, (const char *)block + at + sizeof(zero), size - at - sizeof(zero));
}

static uint32_t super_csum(const struct jbd2_journal *j)
{
        const size_t at = offsetof(struct jbd2_super, s_checksum);
        uint32_t crc = crc32c(~0u, &j->sb, at);

        crc = crc32c(crc, &zero, sizeof(zero));
        return crc32c(crc, (const char *)&j->sb + at + sizeof(zero),
                      sizeof(j->sb) - at - sizeof(zero));
}

bool jbd2_super_csum_ok(const struct jbd2_journal *j)
{
        return !j->has_csum || super_csum(j) == be32_get(j->sb.s_checksum);
}

void jbd2_super_seal(struct jbd2_journal *j)
{
        if (j->has_csum)
                j->sb.s_checksum = be32_make(super_csum(j));
}

bool jbd2_tail_csum_ok(const struct jbd2_journal *j, const void *block)
{
        const size_t at = j->place.block_size - sizeof(struct jbd2_block_tail);
        const struct jbd2_block_tail *tail = (const void *)((const char *)block + at);

        return !j->has_csum ||
               csum_around(j, block, j->place.block_size, at) == be32_get(tail->t_checksum);
}

/*
 * A commit block is used in its first bytes only, which one sector holds.  When the write was
 * torn behind them the block is good all the same: then the checksum is that of the header and
 * zeros (J27).
 */
static bool torn_commit_csum_ok(const struct jbd2_journal *j,
                                const struct jbd2_commit_block *cb)
{
        static const char zeros[512];
        const size_t at = offsetof(struct jbd2_commit_block, h_chksum);
        uint32_t crc = csum_around(j, cb, sizeof(*cb), at);
        size_t left = j->place.block_size - sizeof(*cb);

        for (; left > 0; left -= min_t(size_t, left, sizeof(zeros)))
                crc = crc32c(crc, zeros, min_t(size_t, left, sizeof(zeros)));
        return crc == be32_get(cb->h_chksum[0]);
}

bool jbd2_commit_csum_ok(const struct jbd2_journal *j, const void *block)
{
        const struct jbd2_commit_block *cb = block;
        const size_t at = offsetof(struct jbd2_commit_block, h_chksum);

        if (!j->has_csum)
                return true;
        return csum_around(j, block, j->place.block_size, at) == be32_get(cb->h_chksum[0]) ||
               torn_commit_csum_ok(j, cb);
}

void jbd2_tail_seal(const struct jbd2_journal *j, void *block)
{
        const size_t at = j->place.block_size - sizeof(struct jbd2_block_tail);
        struct jbd2_block_tail *tail = (void *)((char *)block + at);

        if (j->has_csum)
                tail->t_checksum = be32_make(csum_around(j, block, j->place.block_size, at));
}

void jbd2_commit_seal(const struct jbd2_journal *j, void *block)
{
        const size_t at = offsetof(struct jbd2_commit_block, h_chksum);
        struct jbd2_commit_block *cb = block;

        if (j->has_csum)
                cb->h_chksum[0] = be32_make(csum_around(j, block, j->place.block_size, at));
}

uint32_t jbd2_data_csum(const struct jbd2_journal *j, const void *block, uint32_t tid)
{
        const be32 seq = be32_make(tid);

        return crc32c(crc32c(j->csum_seed, &seq, sizeof(seq)), block, j->place.block_size);
}

bool jbd2_data_csum_ok(const struct jbd2_journal *j, const void *block, uint32_t tid,
                       uint32_t stored)
{
        uint32_t crc;

        if (!j->has_csum)
                return true;
        crc = jbd2_data_csum(j, block, tid);
        return j->incompat & JBD2_INCOMPAT_CSUM_V3 ? crc == stored : (crc & 0xffff) == stored;
}

uint32_t jbd2_crc32_be(uint32_t crc, const void *data, size_t len)
{
        /* ISA-L's inverts before and after, and does not write through its pointer. */
        return ~crc32_ieee(~crc, (unsigned char *)(uintptr_t)data, len);
}
