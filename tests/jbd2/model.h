/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef MODEL_H
#define MODEL_H

/*
 * What a power cut may leave of blocks that a journal guards.
 *
 * Each block has a history: from transaction T on it holds version V, or is free and may hold
 * anything, or holds file data.  A version fills its block with words that tell block, version
 * and place, so that nothing can pass for another thing.
 *
 * After recovery there must be one transaction T, not older than the last one reported
 * durable, such that every block is as after T: this says at once that each transaction is
 * there wholly or not at all, that they are there in order, and that none is lost.
 *
 * Transactions are counted from the first one of the journal: age 1, 2, ...; 0 is what was
 * there before.  So tids may wrap.
 */

#include "tj.h"

enum model_kind {
        MODEL_META, /* a version, by way of the journal */
        MODEL_ANY,  /* free, or data that is not durable */
        MODEL_DATA, /* a version, written without the journal */
};

struct model_entry {
        uint32_t age;
        enum model_kind kind;
        uint64_t version;
};

/* Where a block is in its life, for who drives the test. */
enum model_life {
        MODEL_USED,
        MODEL_PENDING, /* freed by a transaction that is not durable */
        MODEL_FREE,
        MODEL_HAS_DATA,
};

struct model_block {
        struct model_entry *entries; /* ages rise */
        size_t nr, room;
        enum model_life life;
        uint32_t life_age; /* of the transaction that brought it about */
        bool no_copies;    /* the log has no copy of it that is not revoked */
        uint32_t copy_age; /* else: since this transaction */

        /* Data that shall be there if transaction need_age is (J25c). */
        bool is_ordered;
        uint32_t need_age;
        uint64_t need_version;
};

struct model {
        pthread_mutex_t lock; /* all of this; a leaf */
        struct model_block *blocks;
        uint32_t nr_meta, nr_blocks; /* ordered data lies behind the metadata */
        uint32_t block_size;
        uint32_t first_tid; /* has age 1 */
        uint32_t durable;   /* age */
        uint32_t newest;    /* age */
        uint64_t next_version;
        bool no_log;
};

/* All blocks hold version 0, zeros. */
void model_init(struct model *m, uint32_t nr_meta, uint32_t nr_data, uint32_t block_size);
void model_done(struct model *m);

/* The lock is held for all of these. */
void model_append(struct model *m, uint32_t blk, uint32_t tid, enum model_kind kind,
                  uint64_t version);
const struct model_entry *model_last(const struct model *m, uint32_t blk);
uint32_t model_age(const struct model *m, uint32_t tid);

/* Take note of what the journal says is durable. */
void model_update_durable(struct model *m, const struct jbd2 *j);

void model_fill(const struct model *m, uint32_t blk, uint64_t version, void *bytes);
bool model_is(const struct model *m, uint32_t blk, uint64_t version, const void *bytes);

/* A block's history on stderr, and which of it `bytes` are. */
void model_tell_block(const struct model *m, const void *bytes, uint32_t blk);

/*
 * Look at an image after recovery.  The age of the transaction that it shows, the newest one
 * if several are the same to it; -1, and said on stderr, when it is none.
 */
int64_t model_check(struct model *m, const void *image);

/* What was found after `age` is the beginning of a new life of the journal. */
void model_rebase(struct model *m, const void *image, uint32_t age, uint32_t first_tid);

#endif
