/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Recovery as a call, and a look at the log. */

#include "ext4/journal.h"

#include <stdio.h>
#include <string.h>

#include "lib/lib.h"
#include "util/alloc.h"

/* ---- recovery ---- */

int uext4_recover(const char *uri, const struct uext4_mount_params *params,
                  struct uext4_recovery *ret_recovery)
{
        const struct log_sink log = sink_of(params);
        struct jbd2_recovery stats = {0};
        struct lib_options o;
        struct lib_devices d;
        bool needed;
        int ret = lib_parse_options(params ? params->options : NULL, &log, &o);

        if (ret == 0)
                ret = lib_open_devices(uri, 0, &o, &log, &d);
        if (ret < 0)
                return ret;
        needed = ext4_needs_recovery(d.dev, &o.ext4);
        ret = ext4_recover(d.dev, d.journal, &o.ext4, &log, &stats);
        lib_close_devices(&d);
        if (ret < 0)
                return ret;
        *ret_recovery = (struct uext4_recovery){
                .was_needed = needed,
                .first_tid = stats.first_tid,
                .nr_transactions = stats.nr_transactions,
                .nr_blocks = stats.nr_blocks,
                .nr_revokes = stats.nr_revokes,
                .nr_skipped = stats.nr_skipped,
        };
        return 0;
}

/* ---- a look ---- */

struct uext4_journal {
        struct lib_devices devices;
        struct ext4_fs *fs;
        struct jbd2_journal journal;
        struct jbd2_extent_of_log extent;
        int scan_error;

        struct jbd2_walk walk;
        bool in_block; /* the walk's block has more to tell */
        struct jbd2_tag_iter tags;
        struct jbd2_revoke_iter revokes;
        void *data;
};

static int look(struct uext4_journal *v, const struct lib_options *o,
                const struct log_sink *log)
{
        int ret = ext4_mount_for_recovery(v->devices.dev, &o->ext4, log, &v->fs);

        if (ret < 0)
                return ret;
        ret = ext4_journal_open(v->fs, v->devices.journal, &v->journal);
        if (ret < 0)
                return ret;
        v->scan_error = jbd2_scan(&v->journal, &v->extent);
        if (v->scan_error == -EBADMSG) /* nothing would be replayed, so nothing is complete */
                v->extent.end_tid = be32_get(v->journal.sb.s_sequence);
        else if (v->scan_error < 0)
                return v->scan_error;
        v->data = jbd2_block_alloc(&v->journal);
        return v->data ? jbd2_walk_init(&v->walk, &v->journal) : -ENOMEM;
}

int uext4_journal_open(const char *uri, const struct uext4_mount_params *params,
                       struct uext4_journal **ret_journal)
{
        const struct log_sink log = sink_of(params);
        struct uext4_journal *v;
        struct lib_options o;
        int ret = lib_parse_options(params ? params->options : NULL, &log, &o);

        if (ret < 0)
                return ret;
        v = mem_zalloc(sizeof(*v));
        if (!v)
                return -ENOMEM;
        ret = lib_open_devices(uri, UEXT4_BDEV_OPEN_READONLY, &o, &log, &v->devices);
        if (ret == 0)
                ret = look(v, &o, &log);
        if (ret < 0) {
                uext4_journal_close(v);
                return ret;
        }
        *ret_journal = v;
        return 0;
}

void uext4_journal_close(struct uext4_journal *v)
{
        if (!v)
                return;
        jbd2_walk_done(&v->walk);
        mem_free(v->data);
        jbd2_close(&v->journal);
        if (v->fs)
                ext4_unmount(v->fs);
        lib_close_devices(&v->devices);
        mem_free(v);
}

static void feature_names(const struct jbd2_journal *j, char *text, size_t size)
{
        static const struct {
                uint32_t compat, incompat;
                const char *name;
        } names[] = {
                {JBD2_COMPAT_CHECKSUM, 0, "journal_checksum"},
                {0, JBD2_INCOMPAT_REVOKE, "journal_incompat_revoke"},
                {0, JBD2_INCOMPAT_64BIT, "journal_64bit"},
                {0, JBD2_INCOMPAT_ASYNC_COMMIT, "journal_async_commit"},
                {0, JBD2_INCOMPAT_CSUM_V2, "journal_checksum_v2"},
                {0, JBD2_INCOMPAT_CSUM_V3, "journal_checksum_v3"},
                {0, JBD2_INCOMPAT_FAST_COMMIT, "fast_commit"},
        };
        size_t used = 0;

        text[0] = '\0';
        for (size_t i = 0; i < ARRAY_LEN(names) && used < size; i++) {
                if ((j->compat & names[i].compat) || (j->incompat & names[i].incompat))
                        used += (size_t)snprintf(text + used, size - used, "%s%s",
                                                 used ? " " : "", names[i].name);
        }
}

static const char *end_text(const struct uext4_journal *v)
{
        static const char *const texts[] = {
                [JBD2_END_CLEAN] = "no further transaction",
                [JBD2_END_TORN_COMMIT] = "a commit block that was not written whole",
                [JBD2_END_STALE] = "blocks of an earlier log",
        };

        if (v->scan_error < 0)
                return "damage in the middle of the log";
        return jbd2_is_empty(&v->journal) ? "the log is empty" : texts[v->extent.end];
}

/* The kernel and we store -errno; that others store it as it is does no harm. */
static uint32_t error_of(const struct jbd2_super *sb)
{
        const uint32_t stored = be32_get(sb->s_errno);

        return stored > INT32_MAX ? -stored : stored;
}

void uext4_journal_get_info(const struct uext4_journal *v, struct uext4_journal_info *ret_info)
{
        const struct jbd2_journal *j = &v->journal;

        *ret_info = (struct uext4_journal_info){
                .block_size = j->place.block_size,
                .nr_blocks = be32_get(j->sb.s_maxlen),
                .first = j->first,
                .last = j->last,
                .nr_fast_commit_blocks = be32_get(j->sb.s_maxlen) - j->last,
                .start = be32_get(j->sb.s_start),
                .sequence = be32_get(j->sb.s_sequence),
                .error = error_of(&j->sb),
                .nr_transactions = v->extent.nr_transactions,
        };
        memcpy(ret_info->uuid, j->sb.s_uuid, sizeof(ret_info->uuid));
        feature_names(j, ret_info->features, sizeof(ret_info->features));
        snprintf(ret_info->end, sizeof(ret_info->end), "%s", end_text(v));
}

/* True when it told of one. */
static int tell_tag(struct uext4_journal *v, struct uext4_journal_entry *e)
{
        struct jbd2_tag_info tag;
        int ret;

        if (!jbd2_tag_next(&v->tags, &tag))
                return 0;
        ret = jbd2_read_block(&v->journal, tag.log_blk, v->data);
        if (ret < 0)
                return ret;
        e->kind = UEXT4_JOURNAL_BLOCK;
        e->log_block = tag.log_blk;
        e->fs_block = tag.fs_blk;
        e->escaped = !!(tag.flags & JBD2_TAG_ESCAPED);
        e->csum_ok = jbd2_tail_csum_ok(&v->journal, v->walk.block) &&
                     jbd2_data_csum_ok(&v->journal, v->data, v->walk.tid, tag.checksum);
        return 1;
}

static int tell_revoke(struct uext4_journal *v, struct uext4_journal_entry *e)
{
        if (!jbd2_revoke_next(&v->revokes, &e->fs_block))
                return 0;
        e->kind = UEXT4_JOURNAL_REVOKE;
        e->csum_ok = jbd2_tail_csum_ok(&v->journal, v->walk.block);
        return 1;
}

static int tell_commit(struct uext4_journal *v, struct uext4_journal_entry *e)
{
        const struct jbd2_commit_block *cb = v->walk.block;

        e->kind = UEXT4_JOURNAL_COMMIT;
        e->csum_ok = jbd2_commit_csum_ok(&v->journal, cb);
        e->sec = (int64_t)be64_get(cb->h_commit_sec);
        e->nsec = be32_get(cb->h_commit_nsec);
        return 1;
}

/* Begin with the next control block: 1, 0 at the end of the log, -errno. */
static int next_block(struct uext4_journal *v)
{
        int ret = jbd2_walk_next(&v->walk);

        if (ret <= 0)
                return ret;
        if (v->walk.type == JBD2_DESCRIPTOR)
                jbd2_tags(&v->walk, &v->tags);
        else if (v->walk.type == JBD2_REVOKE && jbd2_revokes(&v->walk, &v->revokes) < 0)
                return -EUCLEAN; /* there is nothing in it to tell */
        v->in_block = true;
        return 1;
}

/* What the current control block has left to tell: 1, 0 nothing, -errno. */
static int tell(struct uext4_journal *v, struct uext4_journal_entry *e)
{
        *e = (struct uext4_journal_entry){
                .tid = v->walk.tid,
                .log_block = v->walk.blk,
                .complete = jbd2_tid_after(v->extent.end_tid, v->walk.tid),
        };
        switch (v->walk.type) {
        case JBD2_DESCRIPTOR:
                return tell_tag(v, e);
        case JBD2_REVOKE:
                return tell_revoke(v, e);
        default:
                v->in_block = false;
                return tell_commit(v, e);
        }
}

int uext4_journal_next(struct uext4_journal *v, struct uext4_journal_entry *ret_entry)
{
        for (;;) {
                int ret = v->in_block ? tell(v, ret_entry) : 0;

                if (ret != 0)
                        return ret;
                v->in_block = false;
                ret = next_block(v);
                if (ret <= 0)
                        return ret;
        }
}
