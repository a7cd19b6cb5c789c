/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef T_JOURNAL_H
#define T_JOURNAL_H

/*
 * A writer of journals for tests: superblock, descriptors with their copies, revoke and commit
 * blocks, for each generation of checksums and both sizes of block numbers.  It is made from
 * the description of the format (behaviours J1 to J14) and shares nothing with what it
 * tests, the checksums included.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/check.h"

#define TJ_MAGIC 0xc03b3998u

enum tj_type {
        TJ_DESCRIPTOR = 1,
        TJ_COMMIT = 2,
        TJ_SUPER_V1 = 3,
        TJ_SUPER = 4,
        TJ_REVOKE = 5,
};

enum tj_csum {
        TJ_NONE,
        TJ_V1,
        TJ_V2,
        TJ_V3,
        TJ_NR_CSUM,
};

enum tj_flag {
        TJ_ESCAPED = 1,
        TJ_SAME_UUID = 2,
        TJ_LAST = 8,
};

struct tj_format {
        enum tj_csum csum;
        bool is64;
        uint32_t block_size;
        uint32_t nr_blocks; /* of the journal, with superblock and fast-commit area */
        uint32_t nr_fc;     /* of them for fast commits; 0: without the feature */
        uint32_t start;     /* where the log begins; 0: it is empty */
        uint32_t tid;       /* the first one */
};

/* Some blocks of the journal that lie in one piece. */
struct tj_run {
        uint32_t first, len;
        uint8_t *mem;
};

struct tj {
        struct tj_format f;
        uint8_t uuid[16];
        struct tj_run runs[2];
        uint32_t head; /* block to be written next */
        uint32_t tid;
        uint64_t sec;    /* of the next commit */
        uint32_t v1_crc; /* of the transaction so far */
};

/* One block for a descriptor. */
struct tj_copy {
        uint64_t fs_blk;
        const void *data;
        bool damaged; /* in the log, after all checksums were made */
};

/* ---- bytes and checksums ---- */

static inline void tj_put16(uint8_t *p, uint16_t v)
{
        p[0] = (uint8_t)(v >> 8);
        p[1] = (uint8_t)v;
}

static inline void tj_put32(uint8_t *p, uint32_t v)
{
        tj_put16(p, (uint16_t)(v >> 16));
        tj_put16(p + 2, (uint16_t)v);
}

static inline void tj_put64(uint8_t *p, uint64_t v)
{
        tj_put32(p, (uint32_t)(v >> 32));
        tj_put32(p + 4, (uint32_t)v);
}

static inline uint32_t tj_get32(const uint8_t *p)
{
        return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Bit by bit, least significant first. */
static inline uint32_t tj_crc32c(uint32_t crc, const void *data, size_t len)
{
        const uint8_t *p = data;

        while (len--) {
                crc ^= *p++;
                for (int bit = 0; bit < 8; bit++)
                        crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
        }
        return crc;
}

/* Most significant bit first, as v1 has it. */
static inline uint32_t tj_crc32_be(uint32_t crc, const void *data, size_t len)
{
        const uint8_t *p = data;

        while (len--) {
                crc ^= (uint32_t)*p++ << 24;
                for (int bit = 0; bit < 8; bit++)
                        crc = crc << 1 ^ (crc >> 31 ? 0x04c11db7u : 0);
        }
        return crc;
}

/* ---- places ---- */

static inline bool tj_has_csum(const struct tj_format *f)
{
        return f->csum >= TJ_V2;
}

static inline uint32_t tj_tag_size(const struct tj_format *f)
{
        if (f->csum == TJ_V3)
                return 16;
        return 8 + (f->csum == TJ_V2 ? 2 : 0) + (f->is64 ? 4 : 0);
}

/* The log ends before the fast-commit area. */
static inline uint32_t tj_log_end(const struct tj_format *f)
{
        return f->nr_blocks - f->nr_fc;
}

static inline uint8_t *tj_at(const struct tj *j, uint32_t blk)
{
        for (size_t r = 0; r < 2; r++) {
                const struct tj_run *run = &j->runs[r];

                if (blk >= run->first && blk - run->first < run->len)
                        return run->mem + (size_t)(blk - run->first) * j->f.block_size;
        }
        T_CHECK(!"a block of the journal");
        return NULL;
}

/* The next block of the log, zeroed. */
static inline uint8_t *tj_next(struct tj *j)
{
        uint8_t *block = tj_at(j, j->head);

        j->head = j->head + 1 == tj_log_end(&j->f) ? 1 : j->head + 1;
        memset(block, 0, j->f.block_size);
        return block;
}

static inline void tj_header(const struct tj *j, uint8_t *block, uint32_t type)
{
        tj_put32(block, TJ_MAGIC);
        tj_put32(block + 4, type);
        tj_put32(block + 8, j->tid);
}

static inline uint32_t tj_seed(const struct tj *j)
{
        return tj_crc32c(~0u, j->uuid, sizeof(j->uuid));
}

/* The tail of descriptors and revoke blocks. */
static inline void tj_seal_tail(const struct tj *j, uint8_t *block)
{
        uint8_t *tail = block + j->f.block_size - 4;

        if (!tj_has_csum(&j->f))
                return;
        tj_put32(tail, 0);
        tj_put32(tail, tj_crc32c(tj_seed(j), block, j->f.block_size));
}

/* ---- the superblock ---- */

static inline void tj_seal_super(uint8_t *sb)
{
        tj_put32(sb + 0xfc, 0);
        tj_put32(sb + 0xfc, tj_crc32c(~0u, sb, 1024));
}

static inline void tj_write_super(const struct tj *j)
{
        static const uint32_t incompat[TJ_NR_CSUM] = {0, 0, 0x08, 0x10};
        uint8_t *sb = tj_at(j, 0);

        memset(sb, 0, j->f.block_size);
        tj_put32(sb, TJ_MAGIC);
        tj_put32(sb + 0x04, TJ_SUPER);
        tj_put32(sb + 0x0c, j->f.block_size);
        tj_put32(sb + 0x10, j->f.nr_blocks);
        tj_put32(sb + 0x14, 1);
        tj_put32(sb + 0x18, j->f.tid);
        tj_put32(sb + 0x1c, j->f.start);
        tj_put32(sb + 0x24, j->f.csum == TJ_V1 ? 1 : 0);
        tj_put32(sb + 0x28,
                 1u | (j->f.is64 ? 2u : 0) | incompat[j->f.csum] | (j->f.nr_fc ? 0x20u : 0));
        memcpy(sb + 0x30, j->uuid, sizeof(j->uuid));
        tj_put32(sb + 0x40, 1);
        tj_put32(sb + 0x54, j->f.nr_fc);
        if (tj_has_csum(&j->f)) {
                sb[0x50] = 4;
                tj_seal_super(sb);
        }
}

/* The journal's blocks are the runs'; its superblock is written at once. */
static inline void tj_init(struct tj *j, const struct tj_format *f, const struct tj_run runs[2])
{
        *j = (struct tj){
                .f = *f,
                .uuid = "journal of tests",
                .runs = {runs[0], runs[1]},
                .head = f->start,
                .tid = f->tid,
                .sec = 1700000000,
                .v1_crc = ~0u,
        };
        tj_write_super(j);
}

/* ---- the log ---- */

/* What one descriptor can hold. */
static inline uint32_t tj_max_copies(const struct tj_format *f)
{
        return (f->block_size - 12 - 16 - (tj_has_csum(f) ? 4 : 0)) / tj_tag_size(f);
}

static inline void tj_tag(const struct tj *j, uint8_t *tag, uint64_t fs_blk, uint32_t flags,
                          uint32_t crc)
{
        tj_put32(tag, (uint32_t)fs_blk);
        if (j->f.csum == TJ_V3) {
                tj_put32(tag + 4, flags);
                tj_put32(tag + 8, (uint32_t)(fs_blk >> 32));
                tj_put32(tag + 12, crc);
                return;
        }
        tj_put16(tag + 4, j->f.csum == TJ_V2 ? (uint16_t)crc : 0);
        tj_put16(tag + 6, (uint16_t)flags);
        if (j->f.is64)
                tj_put32(tag + 8, (uint32_t)(fs_blk >> 32));
}

/* The checksum is that of the escaped copy (J9). */
static inline uint32_t tj_copy_crc(const struct tj *j, const uint8_t *block)
{
        uint8_t seq[4];

        tj_put32(seq, j->tid);
        return tj_crc32c(tj_crc32c(tj_seed(j), seq, sizeof(seq)), block, j->f.block_size);
}

/* A descriptor and its copies; returns the descriptor. */
static inline uint8_t *tj_write_copies(struct tj *j, const struct tj_copy *copies, size_t nr)
{
        uint8_t *desc = tj_next(j);
        uint32_t first = j->head;
        uint8_t *tag = desc + 12;

        T_CHECK(nr > 0 && nr <= tj_max_copies(&j->f));
        tj_header(j, desc, TJ_DESCRIPTOR);
        for (size_t i = 0; i < nr; i++) {
                uint32_t flags = (i > 0 ? TJ_SAME_UUID : 0) | (i == nr - 1 ? TJ_LAST : 0);
                uint8_t *block = tj_next(j);

                memcpy(block, copies[i].data, j->f.block_size);
                if (tj_get32(block) == TJ_MAGIC) {
                        tj_put32(block, 0);
                        flags |= TJ_ESCAPED;
                }
                tj_tag(j, tag, copies[i].fs_blk, flags, tj_copy_crc(j, block));
                tag += tj_tag_size(&j->f);
                if (i == 0) {
                        memcpy(tag, j->uuid, sizeof(j->uuid));
                        tag += sizeof(j->uuid);
                }
        }
        tj_seal_tail(j, desc);
        j->v1_crc = tj_crc32_be(j->v1_crc, desc, j->f.block_size);
        for (size_t i = 0; i < nr; i++) {
                uint8_t *block = tj_at(j, first);

                j->v1_crc = tj_crc32_be(j->v1_crc, block, j->f.block_size);
                if (copies[i].damaged)
                        block[j->f.block_size / 2] ^= 0x10;
                first = first + 1 == tj_log_end(&j->f) ? 1 : first + 1;
        }
        return desc;
}

static inline uint8_t *tj_write_revokes(struct tj *j, const uint64_t *blks, size_t nr)
{
        size_t size = j->f.is64 ? 8 : 4;
        uint8_t *block = tj_next(j);

        tj_header(j, block, TJ_REVOKE);
        T_CHECK(16 + nr * size <= j->f.block_size - 4);
        tj_put32(block + 12, (uint32_t)(16 + nr * size));
        for (size_t i = 0; i < nr; i++) {
                if (j->f.is64)
                        tj_put64(block + 16 + i * size, blks[i]);
                else
                        tj_put32(block + 16 + i * size, (uint32_t)blks[i]);
        }
        tj_seal_tail(j, block);
        return block;
}

/* Ends the transaction; returns the commit block. */
static inline uint8_t *tj_write_commit(struct tj *j)
{
        uint8_t *block = tj_next(j);

        tj_header(j, block, TJ_COMMIT);
        tj_put64(block + 0x30, j->sec);
        tj_put32(block + 0x38, 123456789);
        if (j->f.csum == TJ_V1) {
                block[12] = 1;
                block[13] = 4;
                tj_put32(block + 0x10, j->v1_crc);
        } else if (tj_has_csum(&j->f)) {
                tj_put32(block + 0x10, tj_crc32c(tj_seed(j), block, j->f.block_size));
        }
        j->tid++;
        j->sec++;
        j->v1_crc = ~0u;
        return block;
}

#endif
