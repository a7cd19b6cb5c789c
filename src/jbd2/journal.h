/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef JBD2_JOURNAL_H
#define JBD2_JOURNAL_H

/*
 * The journal on a range of a device: its superblock, its format, a walk over what the log
 * holds, and recovery.  It knows nothing of files; who opens it says where its blocks are.
 * Writing to it is in jbd2.h.
 */

#include "bdev/bdev.h"
#include "jbd2/format.h"
#include "util/log.h"

/* A run of the journal's blocks that lie in one piece. */
struct jbd2_run {
        uint32_t first; /* block of the journal */
        uint32_t len;
        uint64_t pblk; /* block of the device */
};

/* Where a journal lies.  The runs are in order and cover blocks 0 .. nr_blocks - 1. */
struct jbd2_place {
        struct uext4_bdev *dev;
        uint32_t block_size; /* bytes */
        uint32_t nr_blocks;
        struct jbd2_run *runs; /* from mem_alloc; the journal takes them over */
        uint32_t nr_runs;
        uint32_t super_blk; /* the block with its superblock; 0 but on a device of its own */
};

struct jbd2_journal {
        struct jbd2_place place;
        struct log_sink log;
        struct jbd2_super sb;
        uint32_t compat, incompat;  /* 0 with a version 1 superblock */
        uint32_t first, last;       /* the log is the blocks first .. last - 1 (J30) */
        uint32_t fc_first, fc_last; /* the fast-commit area; empty without the feature */
        uint32_t tag_size;
        uint32_t record_size; /* of a revoked block */
        uint32_t csum_seed;
        bool has_csum; /* v2 or v3 */
};

/*
 * Read and check the superblock.  `place.runs` belongs to the journal from here on, also when
 * this fails.  -EUCLEAN, -EBADMSG, -EOPNOTSUPP, said to the log.
 */
int jbd2_open(const struct jbd2_place *place, const struct log_sink *log,
              struct jbd2_journal *ret_journal);
void jbd2_close(struct jbd2_journal *journal);

/* Blocks of the log. */
static inline uint32_t jbd2_log_size(const struct jbd2_journal *j)
{
        return j->last - j->first;
}

static inline bool jbd2_is_empty(const struct jbd2_journal *j)
{
        return be32_get(j->sb.s_start) == 0; /* J3 */
}

/* tids wrap (J3): whether a is later than b. */
static inline bool jbd2_tid_after(uint32_t a, uint32_t b)
{
        return (int32_t)(a - b) > 0;
}

/* Where block `blk` of the journal is, in bytes of its device, and how many follow in one
 * piece. */
uint64_t jbd2_position(const struct jbd2_journal *j, uint32_t blk, uint32_t *ret_nr);

/* Read one block of the journal into `data` (block_size bytes, aligned for the device). */
int jbd2_read_block(const struct jbd2_journal *j, uint32_t blk, void *data);

/* What the scan found has been replayed: make the log empty, durably, and forget its error. */
int jbd2_reset_log(struct jbd2_journal *j, uint32_t end_tid);

/* Set what follows from the features: called by jbd2_open(), and when they have changed. */
void jbd2_features_changed(struct jbd2_journal *j);

/* Memory for a block, for jbd2_read_block. */
void *jbd2_block_alloc(const struct jbd2_journal *j);

/* ---- checksums (csum.c) ---- */

bool jbd2_super_csum_ok(const struct jbd2_journal *j);
void jbd2_super_seal(struct jbd2_journal *j); /* set it (J11) */
/* Set that of a descriptor or revoke block, of a commit block; nothing without the feature. */
void jbd2_tail_seal(const struct jbd2_journal *j, void *block);
void jbd2_commit_seal(const struct jbd2_journal *j, void *block);
/* Of a data block, escaped, as a tag has it. */
uint32_t jbd2_data_csum(const struct jbd2_journal *j, const void *block, uint32_t tid);
/* Of a descriptor or revoke block; true without the feature. */
bool jbd2_tail_csum_ok(const struct jbd2_journal *j, const void *block);
bool jbd2_commit_csum_ok(const struct jbd2_journal *j, const void *block);
/* Of a data block as it lies in the log, escaped; true without the feature. */
bool jbd2_data_csum_ok(const struct jbd2_journal *j, const void *block, uint32_t tid,
                       uint32_t stored);
/* CRC-32, most significant bit first, for v1. */
uint32_t jbd2_crc32_be(uint32_t crc, const void *data, size_t len);

/* ---- the walk (walk.c) ---- */

/*
 * A walk goes from control block to control block (descriptor, revoke, commit) in the order of
 * the log, as long as each has the magic and the tid that comes next.  It believes nothing
 * else.
 */
struct jbd2_walk {
        const struct jbd2_journal *j;
        void *block;   /* the current control block */
        uint32_t blk;  /* its place in the log */
        uint32_t type; /* JBD2_DESCRIPTOR, _REVOKE, _COMMIT */
        uint32_t tid;  /* of the current block */
        uint32_t next_blk;
        uint32_t next_tid;
        uint32_t left; /* log blocks not yet seen: bounds a walk of a hostile log */
};

int jbd2_walk_init(struct jbd2_walk *w, const struct jbd2_journal *j);
void jbd2_walk_done(struct jbd2_walk *w);

/* The next control block: 1, 0 where the log ends, -errno from the device. */
must_check int jbd2_walk_next(struct jbd2_walk *w);

/* The block behind `blk` in the log, by n. */
uint32_t jbd2_log_after(const struct jbd2_journal *j, uint32_t blk, uint32_t n);

/* One tag of a descriptor block. */
struct jbd2_tag_info {
        uint64_t fs_blk;  /* where the block belongs */
        uint32_t log_blk; /* where its copy is */
        uint32_t flags;   /* JBD2_TAG_* */
        uint32_t checksum;
};

/* The tags of the current block, which is a descriptor. */
struct jbd2_tag_iter {
        const struct jbd2_walk *w;
        uint32_t pos; /* in the block */
        uint32_t log_blk;
        bool last;
};

void jbd2_tags(const struct jbd2_walk *w, struct jbd2_tag_iter *it);
bool jbd2_tag_next(struct jbd2_tag_iter *it, struct jbd2_tag_info *ret_tag);

/* The records of the current block, which is a revoke block.  -EUCLEAN: its count is wrong. */
struct jbd2_revoke_iter {
        const struct jbd2_walk *w;
        uint32_t pos, end;
};

int jbd2_revokes(const struct jbd2_walk *w, struct jbd2_revoke_iter *it);
bool jbd2_revoke_next(struct jbd2_revoke_iter *it, uint64_t *ret_fs_blk);

/* ---- scan and recovery (recovery.c) ---- */

enum jbd2_end {
        JBD2_END_CLEAN,       /* what follows is no part of the log */
        JBD2_END_TORN_COMMIT, /* a commit block whose checksum is wrong: never finished (J27) */
        JBD2_END_STALE,       /* blocks of an earlier life of the log (J26) */
};

/* What a scan found. */
struct jbd2_extent_of_log {
        uint32_t first_tid;
        uint32_t end_tid; /* the tid behind the last complete transaction */
        uint32_t nr_transactions;
        uint64_t last_commit_sec; /* 0: none */
        enum jbd2_end end;
};

/* Find where the log ends.  -EBADMSG: damage in the middle of it, said to the log. */
int jbd2_scan(const struct jbd2_journal *j, struct jbd2_extent_of_log *ret_extent);

/* Whether the transactions that a scan found have a copy of the block: 1, 0, -errno. */
must_check int jbd2_has_copy(struct jbd2_journal *j, const struct jbd2_extent_of_log *extent,
                             uint64_t fs_blk);

struct jbd2_recovery {
        uint32_t first_tid;
        uint32_t nr_transactions;
        uint64_t nr_blocks;  /* copied to their places */
        uint64_t nr_revokes; /* records read */
        uint64_t nr_skipped; /* copies that a revoke record made void */
};

/*
 * Copy what a scan found to the file system's device, and flush it.  The device has
 * `nr_fs_blocks` blocks of the journal's block size.  Idempotent: cut anywhere, it can be begun
 * anew (J35).  When a copy's checksum is wrong the others are still copied, and the result is
 * -EBADMSG (J29).  The log stays as it is: jbd2_reset_log() empties it.
 */
int jbd2_replay(struct jbd2_journal *j, const struct jbd2_extent_of_log *extent,
                struct uext4_bdev *fs_dev, uint64_t nr_fs_blocks,
                struct jbd2_recovery *ret_recovery);

/* ---- revocations (revoke.c) ---- */

struct jbd2_revoke_table;

int jbd2_revoke_table_new(struct jbd2_revoke_table **ret_table);
void jbd2_revoke_table_free(struct jbd2_revoke_table *t); /* NULL is fine */

/* Remember that the copies of fs_blk up to `tid` are void; the latest tid counts (J28). */
int jbd2_revoke_add(struct jbd2_revoke_table *t, uint64_t fs_blk, uint32_t tid);
bool jbd2_is_revoked(const struct jbd2_revoke_table *t, uint64_t fs_blk, uint32_t tid);

/* Make sure that `nr` more records can be added without memory. */
int jbd2_revoke_reserve(struct jbd2_revoke_table *t, size_t nr);

/* As if fs_blk had never been added; false when it was not. */
bool jbd2_revoke_cancel(struct jbd2_revoke_table *t, uint64_t fs_blk);

/* The records in no order; *pos is 0 to begin with.  False at the end. */
bool jbd2_revoke_each(const struct jbd2_revoke_table *t, size_t *pos, uint64_t *ret_fs_blk);

/* How many there are at most. */
size_t jbd2_revoke_count(const struct jbd2_revoke_table *t);

#endif
