/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Recovery, in three passes over the log.
 *
 *   SCAN    find the last complete transaction
 *   REVOKE  collect which copies are void
 *   REPLAY  copy the others to their places
 *
 * The end of the log is where a block without the magic or the next tid stands.  A commit block
 * whose checksum is wrong is the end as well: its transaction was never acknowledged (J27).  A
 * descriptor or revoke block whose checksum is wrong is judged when the commit block of its
 * transaction turns up: older than the commit before, all of it is left over from an earlier
 * life of the log, which ends here; else the log is damaged in its middle, and nothing is
 * replayed (J26).
 *
 * Order: the copies are durable before the log is emptied (J31).  So a cut at any moment leaves
 * a log that is replayed again, with the same result (J35).
 */

#include <stdlib.h>
#include <string.h>

#include "jbd2/journal.h"
#include "util/alloc.h"

/* ---- SCAN ---- */

struct scan {
        struct jbd2_walk walk;
        struct jbd2_extent_of_log *found;
        bool doubtful;   /* a checksum of the current transaction was wrong */
        uint32_t v1_crc; /* of the current transaction so far */
        void *data;      /* a block of data, for v1 */
        bool ended;
};

static int end_scan(struct scan *s, enum jbd2_end why)
{
        s->found->end = why;
        s->ended = true;
        return 0;
}

static bool has_v1(const struct jbd2_journal *j)
{
        return j->compat & JBD2_COMPAT_CHECKSUM;
}

/* v1: descriptors and the data behind them. */
static int add_to_v1(struct scan *s)
{
        const struct jbd2_journal *j = s->walk.j;
        struct jbd2_tag_info tag;
        struct jbd2_tag_iter it;

        s->v1_crc = jbd2_crc32_be(s->v1_crc, s->walk.block, j->place.block_size);
        jbd2_tags(&s->walk, &it);
        while (jbd2_tag_next(&it, &tag)) {
                int ret = jbd2_read_block(j, tag.log_blk, s->data);

                if (ret < 0)
                        return ret;
                s->v1_crc = jbd2_crc32_be(s->v1_crc, s->data, j->place.block_size);
        }
        return 0;
}

static bool v1_csum_ok(const struct scan *s, const struct jbd2_commit_block *cb)
{
        uint32_t stored = be32_get(cb->h_chksum[0]);

        if (cb->h_chksum_type == 0 && cb->h_chksum_size == 0 && stored == 0)
                return true; /* made before the feature was switched on */
        return cb->h_chksum_type == JBD2_CHECKSUM_CRC32 && cb->h_chksum_size == sizeof(be32) &&
               stored == s->v1_crc;
}

static int scan_commit(struct scan *s)
{
        const struct jbd2_commit_block *cb = s->walk.block;
        uint64_t sec = be64_get(cb->h_commit_sec);
        const struct jbd2_journal *j = s->walk.j;

        if (s->doubtful) {
                if (sec < s->found->last_commit_sec)
                        return end_scan(s, JBD2_END_STALE);
                log_say(&j->log, LOG_ERR, "journal: transaction %u is damaged", s->walk.tid);
                return -EBADMSG;
        }
        if (!jbd2_commit_csum_ok(j, cb) || (has_v1(j) && !v1_csum_ok(s, cb))) {
                /* Blocks left over from an earlier life may look like a commit of this one. */
                bool stale = sec < s->found->last_commit_sec;

                return end_scan(s, stale ? JBD2_END_STALE : JBD2_END_TORN_COMMIT);
        }
        s->found->last_commit_sec = sec;
        s->found->end_tid = s->walk.tid + 1;
        s->found->nr_transactions++;
        s->v1_crc = ~0u;
        return 0;
}

static int scan_block(struct scan *s)
{
        const struct jbd2_journal *j = s->walk.j;

        switch (s->walk.type) {
        case JBD2_DESCRIPTOR:
                s->doubtful |= !jbd2_tail_csum_ok(j, s->walk.block);
                return has_v1(j) ? add_to_v1(s) : 0;
        case JBD2_REVOKE:
                s->doubtful |= !jbd2_tail_csum_ok(j, s->walk.block);
                return 0;
        default:
                return scan_commit(s);
        }
}

int jbd2_scan(const struct jbd2_journal *j, struct jbd2_extent_of_log *ret_extent)
{
        struct jbd2_extent_of_log found = {
                .first_tid = be32_get(j->sb.s_sequence),
                .end_tid = be32_get(j->sb.s_sequence),
        };
        struct scan s = {.found = &found, .v1_crc = ~0u};
        int ret = jbd2_walk_init(&s.walk, j);

        s.data = jbd2_block_alloc(j);
        if (!s.data)
                ret = -ENOMEM;
        while (ret == 0 && !s.ended) {
                ret = jbd2_walk_next(&s.walk);
                if (ret <= 0)
                        break;
                ret = scan_block(&s);
        }
        mem_free(s.data);
        jbd2_walk_done(&s.walk);
        if (ret == 0)
                *ret_extent = found;
        return ret;
}

/* ---- REVOKE and REPLAY ---- */

/* Blocks of the device that the journal has. */
struct span {
        uint64_t first;
        uint64_t end; /* the furthest of those up to this one: on hostile images they overlap */
};

struct replay {
        struct jbd2_journal *j;
        struct uext4_bdev *fs_dev;
        uint64_t nr_fs_blocks;
        uint32_t end_tid;
        struct jbd2_revoke_table *revoked;
        struct span *own; /* the journal's own blocks, rising; none on a device of its own */
        uint32_t nr_own;
        void *data;
        uint64_t wanted; /* by find_copy() */
        bool found;
        int err; /* the first copy that could not be used (J29) */
        struct jbd2_recovery stats;
};

static int collect_revokes(struct replay *r, const struct jbd2_walk *w)
{
        struct jbd2_revoke_iter it;
        uint64_t fs_blk;
        int ret = jbd2_revokes(w, &it);

        if (ret < 0) {
                log_say(&r->j->log, LOG_ERR, "journal: the revoke block at %u is damaged",
                        w->blk);
                return ret;
        }
        while (ret == 0 && jbd2_revoke_next(&it, &fs_blk)) {
                ret = jbd2_revoke_add(r->revoked, fs_blk, w->tid);
                r->stats.nr_revokes++;
        }
        return ret;
}

static int compare_spans(const void *a, const void *b)
{
        const uint64_t x = ((const struct span *)a)->first, y = ((const struct span *)b)->first;

        return x < y ? -1 : x > y;
}

static int find_own(struct replay *r)
{
        const struct jbd2_place *place = &r->j->place;
        uint64_t end = 0;

        if (place->dev != r->fs_dev)
                return 0;
        r->own = mem_array(place->nr_runs, sizeof(*r->own));
        if (!r->own)
                return -ENOMEM;
        r->nr_own = place->nr_runs;
        for (uint32_t i = 0; i < r->nr_own; i++) {
                const struct jbd2_run *run = &place->runs[i];

                r->own[i] = (struct span){run->pblk, run->pblk + run->len};
        }
        qsort(r->own, r->nr_own, sizeof(*r->own), compare_spans);
        for (uint32_t i = 0; i < r->nr_own; i++)
                r->own[i].end = end = max_t(uint64_t, end, r->own[i].end);
        return 0;
}

/* A copy of a block of the journal itself would change the log while it is read. */
static bool is_in_journal(const struct replay *r, uint64_t fs_blk)
{
        uint32_t lo = 0, hi = r->nr_own;

        while (lo < hi) { /* how many begin at fs_blk or before it */
                const uint32_t mid = lo + (hi - lo) / 2;

                if (r->own[mid].first <= fs_blk)
                        lo = mid + 1;
                else
                        hi = mid;
        }
        return lo > 0 && fs_blk < r->own[lo - 1].end;
}

/* Before anything is written: every copy has a place to go to. */
static int check_tags(struct replay *r, const struct jbd2_walk *w)
{
        struct jbd2_tag_info tag;
        struct jbd2_tag_iter it;

        jbd2_tags(w, &it);
        while (jbd2_tag_next(&it, &tag)) {
                if (jbd2_is_revoked(r->revoked, tag.fs_blk, w->tid))
                        continue;
                if (tag.fs_blk < r->nr_fs_blocks && !is_in_journal(r, tag.fs_blk))
                        continue;
                log_say(&r->j->log, LOG_ERR,
                        "journal: transaction %u has a copy of block %llu, which is %s", w->tid,
                        (unsigned long long)tag.fs_blk,
                        tag.fs_blk < r->nr_fs_blocks ? "in the journal" : "outside");
                return -EUCLEAN;
        }
        return 0;
}

static void unescape(void *data)
{
        const be32 magic = be32_make(JBD2_MAGIC);

        memcpy(data, &magic, sizeof(magic));
}

static int replay_tag(struct replay *r, uint32_t tid, const struct jbd2_tag_info *tag)
{
        const uint32_t block_size = r->j->place.block_size;
        int ret;

        if (jbd2_is_revoked(r->revoked, tag->fs_blk, tid)) {
                r->stats.nr_skipped++;
                return 0;
        }
        ret = jbd2_read_block(r->j, tag->log_blk, r->data);
        if (ret < 0)
                return ret;
        if (!jbd2_data_csum_ok(r->j, r->data, tid, tag->checksum)) {
                log_say(&r->j->log, LOG_ERR,
                        "journal: the copy of block %llu in transaction %u is damaged",
                        (unsigned long long)tag->fs_blk, tid);
                r->err = first_error(r->err, -EBADMSG);
                return 0;
        }
        if (tag->flags & JBD2_TAG_ESCAPED)
                unescape(r->data);
        r->stats.nr_blocks++;
        return uext4_bdev_write(r->fs_dev, r->data, block_size, tag->fs_blk * block_size, 0);
}

static int replay_tags(struct replay *r, const struct jbd2_walk *w)
{
        struct jbd2_tag_info tag;
        struct jbd2_tag_iter it;
        int ret = 0;

        jbd2_tags(w, &it);
        while (ret == 0 && jbd2_tag_next(&it, &tag))
                ret = replay_tag(r, w->tid, &tag);
        return ret;
}

/* Walk the complete transactions and hand each block of `type` to `use`. */
static int pass(struct replay *r, uint32_t type,
                int (*use)(struct replay *r, const struct jbd2_walk *w))
{
        struct jbd2_walk walk;
        int ret = jbd2_walk_init(&walk, r->j);

        while (ret == 0 && walk.next_tid != r->end_tid) {
                ret = jbd2_walk_next(&walk);
                if (ret == 0) {
                        /* The scan saw more: the device gave something else (J29). */
                        log_say(&r->j->log, LOG_ERR, "journal: it changed while being read");
                        ret = -EIO;
                }
                if (ret < 0)
                        break;
                ret = walk.type == type ? use(r, &walk) : 0;
        }
        jbd2_walk_done(&walk);
        return ret;
}

static int find_copy(struct replay *r, const struct jbd2_walk *w)
{
        struct jbd2_tag_info tag;
        struct jbd2_tag_iter it;

        jbd2_tags(w, &it);
        while (jbd2_tag_next(&it, &tag))
                r->found |= tag.fs_blk == r->wanted;
        return 0;
}

int jbd2_has_copy(struct jbd2_journal *j, const struct jbd2_extent_of_log *extent,
                  uint64_t fs_blk)
{
        struct replay r = {.j = j, .end_tid = extent->end_tid, .wanted = fs_blk};
        int ret = pass(&r, JBD2_DESCRIPTOR, find_copy);

        return ret < 0 ? ret : r.found;
}

static int replay_all(struct replay *r)
{
        int ret = jbd2_revoke_table_new(&r->revoked);

        if (ret < 0)
                return ret;
        r->data = jbd2_block_alloc(r->j);
        if (!r->data)
                ret = -ENOMEM;
        if (ret == 0)
                ret = find_own(r);
        if (ret == 0)
                ret = pass(r, JBD2_REVOKE, collect_revokes);
        if (ret == 0)
                ret = pass(r, JBD2_DESCRIPTOR, check_tags);
        if (ret == 0)
                ret = pass(r, JBD2_DESCRIPTOR, replay_tags);
        mem_free(r->data);
        mem_free(r->own);
        jbd2_revoke_table_free(r->revoked);
        return first_error(ret, r->err);
}

int jbd2_replay(struct jbd2_journal *j, const struct jbd2_extent_of_log *extent,
                struct uext4_bdev *fs_dev, uint64_t nr_fs_blocks,
                struct jbd2_recovery *ret_recovery)
{
        struct replay r = {
                .j = j,
                .fs_dev = fs_dev,
                .nr_fs_blocks = nr_fs_blocks,
                .end_tid = extent->end_tid,
                .stats = {.first_tid = extent->first_tid,
                          .nr_transactions = extent->nr_transactions},
        };
        int ret = replay_all(&r);

        /* The copies must be durable before the log that holds them may go (J31). */
        if (ret == 0)
                ret = uext4_bdev_flush(fs_dev);
        if (ret == 0)
                *ret_recovery = r.stats;
        return ret;
}
