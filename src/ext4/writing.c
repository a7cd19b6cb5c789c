/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A mount that writes, from its beginning to its end: which parts come to life in which order,
 * and go (docs/crash-model.md).
 */

#include <string.h>

#include "ext4/balloc.h"
#include "ext4/ialloc.h"
#include "ext4/journal.h"
#include "ext4/orphan.h"
#include "ext4/super_write.h"

/* ---- the journal ---- */

static uint32_t log_features(const struct ext4_fs *fs)
{
        uint32_t incompat = JBD2_INCOMPAT_REVOKE;

        if (ext4_has_incompat(fs, EXT4_INCOMPAT_64BIT))
                incompat |= JBD2_INCOMPAT_64BIT;
        if (fs->has_metadata_csum)
                incompat |= JBD2_INCOMPAT_CSUM_V3;
        return incompat;
}

static int load_journal(struct ext4_fs *fs)
{
        const struct jbd2_options opts = {
                .bufs = fs->bufs,
                .fs_dev = fs->vfs.dev,
                .log = fs->vfs.log,
                .set_incompat = log_features(fs),
                .commit_ms = fs->opts.commit_ms,
                .no_barrier = fs->opts.nobarrier,
                .no_timer = fs->opts.has_epoch,
                .blank_log = fs->opts.has_epoch,
                .aborted = ext4_journal_aborted,
                .arg = fs,
        };
        struct jbd2_journal log;
        int ret;

        if (!ext4_has_compat(fs, EXT4_COMPAT_HAS_JOURNAL))
                return jbd2_load(NULL, &opts, &fs->journal);
        ret = ext4_journal_open(fs, fs->opts.journal_dev, &log);
        if (ret < 0)
                return ret;
        ret = ext4_journal_tidy(fs, &log);
        if (ret == 0)
                ret = jbd2_load(&log, &opts, &fs->journal);
        if (ret < 0)
                jbd2_close(&log);
        return ret;
}

/* ---- the beginning ---- */

static void say_state(const struct ext4_fs *fs)
{
        uint16_t state = le16_get(fs->sb.s_state);

        if (state & EXT4_STATE_ERROR)
                log_say(&fs->vfs.log, LOG_WARNING,
                        "the file system has known errors; e2fsck should be run");
        else if (!(state & EXT4_STATE_VALID))
                log_say(&fs->vfs.log, LOG_WARNING,
                        "the file system was not unmounted; e2fsck should be run");
}

/* What works on the journal, which is there. */
static int start_parts(struct ext4_fs *fs)
{
        int ret = ext4_balloc_new(fs);

        if (ret == 0)
                ret = ext4_ialloc_new(fs);
        if (ret == 0)
                ret = ext4_orphan_new(fs);
        if (ret == 0)
                ret = ext4_orphan_pass(fs);
        return ret;
}

int ext4_start_writing(struct ext4_fs *fs)
{
        int ret = ext4_errors_new(fs);

        if (ret == 0)
                ret = load_journal(fs);
        if (ret < 0) /* nothing says yet that it is in use */
                return ret;
        say_state(fs);
        ret = ext4_super_begin_writing(fs);
        if (ret < 0) {
                jbd2_unload(fs->journal);
                fs->journal = NULL;
                return ret;
        }
        ret = ext4_errors_start(fs);
        if (ret == 0)
                ret = start_parts(fs);
        /* Damage has ended writing before it began: what the mount says is the damage. */
        if (ret == -EROFS && jbd2_error(fs->journal) < 0)
                ret = jbd2_error(fs->journal);
        if (ret < 0)
                ret = first_error(ret, ext4_stop_writing(fs));
        return ret;
}

/* ---- the end ---- */

int ext4_stop_writing(struct ext4_fs *fs)
{
        int ret;

        if (!fs->journal)
                return 0;
        ext4_errors_stop(fs);
        ret = jbd2_unload(fs->journal);
        fs->journal = NULL;
        if (ext4_is_down(fs))
                return 0;
        if (ext4_errors_finish(fs) || ret < 0)
                return first_error(ret, -EIO);
        return ext4_super_end_writing(fs);
}

void ext4_free_writing(struct ext4_fs *fs)
{
        ext4_orphan_free(fs);
        ext4_ialloc_free(fs);
        ext4_balloc_free(fs);
        ext4_errors_free(fs);
}
