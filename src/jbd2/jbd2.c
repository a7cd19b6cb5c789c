/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A journal's beginning and end, its timer, its superblock, and abort. */

#include <string.h>

#include "jbd2/txn.h"
#include "util/thread.h"

/* Transactions of a journal without a log take that many blocks. */
#define MAX_COST_WITHOUT_LOG 8192

/* A quarter of the log for one transaction: one runs, one commits, others are not yet home. */
#define LOG_SHARE 4

/* Below this one handle could not do a thing (J14). */
#define MIN_LOG 256

/* ---- devices ---- */

int jbd2_flush_fs(struct jbd2 *j)
{
        return j->opts.no_barrier ? 0 : uext4_bdev_flush(j->opts.fs_dev);
}

int jbd2_flush_log(struct jbd2 *j)
{
        return j->opts.no_barrier ? 0 : uext4_bdev_flush(j->log.place.dev);
}

int jbd2_super_write(struct jbd2 *j)
{
        struct jbd2_journal *log = &j->log;
        uint32_t nr;

        jbd2_super_seal(log);
        memset(j->super_block, 0, j->block_size);
        memcpy(j->super_block, &log->sb, sizeof(log->sb));
        return uext4_bdev_write(log->place.dev, j->super_block, j->block_size,
                                jbd2_position(log, log->place.super_blk, &nr),
                                j->opts.no_barrier ? 0 : UEXT4_BDEV_FUA); /* order: super */
}

/* ---- the timer ---- */

static bool is_half_full(const struct jbd2 *j)
{
        return j->has_log && j->free < jbd2_log_size(&j->log) / 2;
}

/* When a transaction is old enough; a log that fills is emptied a little. */
static void *timer_main(void *arg)
{
        struct jbd2 *j = arg;
        const uint64_t age_ns = j->opts.commit_ms * 1000000ull;

        mtx_lock(&j->lock);
        while (!j->stop_timer) {
                struct jbd2_transaction *t = j->running;

                if (is_half_full(j) && !jbd2_is_aborted(j) && j->want_checkpoint) {
                        j->want_checkpoint = false;
                        jbd2_checkpoint_some(j, jbd2_log_size(&j->log) / 4 * 3);
                } else if (!t || jbd2_is_aborted(j)) {
                        cond_wait(&j->timer_wake, &j->lock);
                } else if (clock_ns() >= t->started_ns + age_ns) {
                        jbd2_commit_locked(j, t->tid);
                } else {
                        cond_wait_until(&j->timer_wake, &j->lock, t->started_ns + age_ns);
                }
        }
        mtx_unlock(&j->lock);
        return NULL;
}

static int start_timer(struct jbd2 *j)
{
        int ret;

        if (j->opts.no_timer)
                return 0;
        ret = thread_start(&j->timer, timer_main, j);
        j->has_timer = ret == 0;
        return ret;
}

static void stop_timer(struct jbd2 *j)
{
        if (!j->has_timer)
                return;
        mtx_lock(&j->lock);
        j->stop_timer = true;
        cond_signal(&j->timer_wake);
        mtx_unlock(&j->lock);
        pthread_join(j->timer, NULL);
        j->has_timer = false;
}

/* ---- the beginning ---- */

static void set_features(struct jbd2_journal *log, uint32_t wanted)
{
        uint32_t old = log->incompat;

        log->incompat |= wanted;
        if (wanted & JBD2_INCOMPAT_CSUM_V3) {
                log->incompat &= ~(uint32_t)JBD2_INCOMPAT_CSUM_V2;
                log->compat &= ~(uint32_t)JBD2_COMPAT_CHECKSUM;
                log->sb.s_checksum_type = JBD2_CHECKSUM_CRC32C;
        }
        if (log->incompat == old)
                return;
        log->sb.s_feature_compat = be32_make(log->compat);
        log->sb.s_feature_incompat = be32_make(log->incompat);
        jbd2_features_changed(log);
}

static int check_log(const struct jbd2_journal *log, const struct jbd2_options *opts)
{
        const char *why = NULL;
        int ret = 0;

        if (!jbd2_is_empty(log)) {
                why = "it must be recovered first";
                ret = -EBUSY;
        } else if (be32_get(log->sb.s_header.h_blocktype) != JBD2_SUPER_V2) {
                why = "its superblock is of version 1: use e2fsck to make a new journal";
                ret = -EOPNOTSUPP;
        } else if (jbd2_log_size(log) < MIN_LOG) {
                why = "it is too short";
                ret = -EUCLEAN;
        }
        if (why)
                log_say(&opts->log, LOG_ERR, "the journal cannot be written: %s", why);
        return ret;
}

static void set_sizes(struct jbd2 *j)
{
        const struct jbd2_journal *log = &j->log;
        uint32_t usable = j->block_size - 32; /* header, UUID, tail */

        j->tags_per_block = 1;
        j->revokes_per_block = 1;
        j->max_cost = MAX_COST_WITHOUT_LOG;
        if (!j->has_log)
                return;
        j->tags_per_block = min_t(uint32_t, usable / log->tag_size, 250);
        j->revokes_per_block = usable / log->record_size;
        j->max_cost = jbd2_log_size(log) / LOG_SHARE;
        j->head = j->tail = log->first;
        j->free = jbd2_log_size(log) - 1;
        j->next_tid = j->first_tid = be32_get(log->sb.s_sequence);
}

static void journal_free(struct jbd2 *j)
{
        mem_free(j->spare[0]);
        mem_free(j->spare[1]);
        mem_free(j->super_block);
        mem_free(j->log_out);
        mtx_done(&j->super_lock);
        mtx_done(&j->lock);
        cond_done(&j->changed);
        cond_done(&j->timer_wake);
        mem_free(j);
}

static struct jbd2 *journal_new(struct jbd2_journal *log, const struct jbd2_options *opts)
{
        struct jbd2 *j = mem_zalloc(sizeof(*j));

        if (!j)
                return NULL;
        j->opts = *opts;
        j->has_log = log != NULL;
        j->block_size = buf_cache_block_size(opts->bufs);
        if (log) {
                j->log = *log;
                j->same_device = log->place.dev == opts->fs_dev;
                j->empty_on_disk = true;
        }
        if (j->opts.commit_ms == 0)
                j->opts.commit_ms = JBD2_COMMIT_MS;
        mtx_init(&j->super_lock, RANK_JOURNAL_SUPER);
        mtx_init(&j->lock, RANK_JOURNAL);
        cond_init(&j->changed);
        cond_init(&j->timer_wake);
        TAILQ_INIT(&j->checkpoints);
        j->spare[0] = jbd2_block_new(j);
        j->spare[1] = jbd2_block_new(j);
        j->super_block = jbd2_block_new(j);
        j->log_out = jbd2_log_out_new();
        if (!j->spare[0] || !j->spare[1] || !j->super_block || !j->log_out) {
                journal_free(j);
                return NULL;
        }
        return j;
}

int jbd2_load(struct jbd2_journal *log, const struct jbd2_options *opts, struct jbd2 **ret_j)
{
        struct jbd2 *j;
        int ret = log ? check_log(log, opts) : 0;

        if (ret < 0)
                return ret;
        j = journal_new(log, opts);
        if (!j)
                return -ENOMEM;
        if (log)
                set_features(&j->log, opts->set_incompat);
        set_sizes(j);
        j->tail_tid = j->next_tid;
        atomic_store(&j->durable_tid, j->next_tid - 1);
        ret = start_timer(j);
        if (ret < 0) {
                journal_free(j);
                return ret;
        }
        if (log)
                log->place.runs = NULL; /* they are ours now */
        *ret_j = j;
        return 0;
}

/* ---- abort ---- */

/* For the next mount and for e2fsck.  If even that cannot be written nothing more can be done.
 */
static void store_error(struct jbd2 *j, int err)
{
        int ret;

        if (!j->has_log)
                return;
        mtx_lock(&j->super_lock);
        j->log.sb.s_errno = be32_make((uint32_t)err);
        ret = jbd2_super_write(j);
        mtx_unlock(&j->super_lock);
        if (ret < 0)
                log_say(&j->opts.log, LOG_ERR, "the journal's superblock cannot be written: %s",
                        strerror(-ret));
}

void jbd2_abort(struct jbd2 *j, int err)
{
        int none = 0;

        if (!atomic_compare_exchange_strong(&j->err, &none, err))
                return;
        log_say(&j->opts.log, LOG_ERR, "the journal is aborted: %s", strerror(-err));
        store_error(j, err);
        mtx_lock(&j->lock);
        cond_broadcast(&j->changed);
        mtx_unlock(&j->lock);
        if (j->opts.aborted)
                j->opts.aborted(j->opts.arg, err);
}

void jbd2_shut_down(struct jbd2 *j)
{
        int none = 0;

        atomic_store(&j->is_shut_down, true);
        if (!atomic_compare_exchange_strong(&j->err, &none, -EIO))
                return;
        mtx_lock(&j->lock);
        cond_broadcast(&j->changed);
        mtx_unlock(&j->lock);
}

int jbd2_error(const struct jbd2 *j)
{
        return atomic_load_explicit(&j->err, memory_order_acquire);
}

void jbd2_get_stats(struct jbd2 *j, struct jbd2_stats *ret_stats)
{
        mtx_lock(&j->lock);
        *ret_stats = j->stats;
        mtx_unlock(&j->lock);
}

/* ---- the end ---- */

/* After an abort: what is not home never will be. */
static void drop_all(struct jbd2 *j)
{
        struct jbd2_transaction *t;
        struct jbd2_buf *jb;

        mtx_lock(&j->lock);
        while ((t = TAILQ_FIRST(&j->checkpoints))) {
                while ((jb = TAILQ_FIRST(&t->homes))) {
                        jbd2_buf_uncheckpoint(jb);
                        jb->forgotten = true;
                        jbd2_buf_settle(jb);
                }
                TAILQ_REMOVE(&j->checkpoints, t, link);
                jbd2_txn_free(t);
        }
        mtx_unlock(&j->lock);
}

/*
 * The log is empty, and its superblock says so.  The zeros are durable before it takes back
 * the tid: no block of the log could be taken for one of a transaction to come.
 */
static int blank_log(struct jbd2 *j)
{
        struct jbd2_journal *log = &j->log;
        int ret;

        for (uint32_t blk = log->first; blk < log->last;) {
                uint32_t nr;
                uint64_t pos = jbd2_position(log, blk, &nr);

                nr = min_t(uint32_t, nr, log->last - blk);
                ret = uext4_bdev_write_zeroes(log->place.dev, pos, (uint64_t)nr * j->block_size,
                                              0);
                if (ret < 0)
                        return ret;
                blk += nr;
        }
        ret = jbd2_flush_log(j);
        if (ret < 0)
                return ret;
        log->sb.s_sequence = be32_make(j->first_tid);
        return jbd2_super_write(j);
}

int jbd2_unload(struct jbd2 *j)
{
        int ret = jbd2_flush(j);

        stop_timer(j);
        if (ret == 0 && j->opts.blank_log && j->has_log)
                ret = blank_log(j);
        drop_all(j);
        mem_free(j->log.place.runs);
        journal_free(j);
        return ret;
}
