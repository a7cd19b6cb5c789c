/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_JOURNAL_H
#define EXT4_JOURNAL_H

/* Where a file system keeps its journal, and bringing the file system up to date from it. */

#include "ext4/ext4.h"
#include "jbd2/journal.h"

/*
 * Open the journal of a file system: in its inode or, if the superblock says so, on
 * `journal_dev` (NULL: none was given, then that is -EINVAL).  jbd2_close() it.
 */
int ext4_journal_open(struct ext4_fs *fs, struct uext4_bdev *journal_dev,
                      struct jbd2_journal *ret_journal);

/*
 * Before writing: the log of an image that needs no recovery is emptied, should something be in
 * it, and an error that it remembers is moved to the superblock.
 */
int ext4_journal_tidy(struct ext4_fs *fs, struct jbd2_journal *j);

/*
 * -EOPNOTSUPP, said to the log, when the fast-commit area holds changes that belong behind
 * transaction end_tid - 1: this library cannot replay those (J30, J50).
 */
int ext4_fast_commit_check(const struct jbd2_journal *j, uint32_t end_tid);

/* Whether the image on `dev` says that its journal must be replayed; false when it is no ext4.
 */
bool ext4_needs_recovery(struct uext4_bdev *dev, const struct ext4_mount_options *opts);

/*
 * Replay the journal on `dev`, empty it, and say so in the superblock.  Nothing is changed when
 * that is not needed, or when the log cannot be replayed whole (but J29).  Idempotent.
 */
int ext4_recover(struct uext4_bdev *dev, struct uext4_bdev *journal_dev,
                 const struct ext4_mount_options *opts, const struct log_sink *log,
                 struct jbd2_recovery *ret_recovery);

#endif
