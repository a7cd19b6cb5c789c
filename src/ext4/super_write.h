/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_SUPER_WRITE_H
#define EXT4_SUPER_WRITE_H

/*
 * Changing the superblock, and what a mount that writes does to it (super_write.c), the parts
 * of such a mount (writing.c), and errors that end writing (abort.c).
 *
 * The bytes that count are those of the superblock's buffer, changed under a handle and
 * fs->super_lock.  fs->sb is a copy, taken when the superblock was checked: what it has of
 * features and geometry is [const] from the end of ext4_mount() on.  The free counts, which
 * change all the time, are written at unmount only: while a file system is mounted those of the
 * groups count.
 */

#include "ext4/ext4.h"
#include "jbd2/jbd2.h"

/* ---- under a handle ---- */

/* What ext4_super_store() dirties: the block with the superblock. */
#define EXT4_SUPER_CREDITS 1

struct ext4_super_loc {
        struct buf *buf;
        struct ext4_super_block *sb; /* the bytes, to be changed */
};

/*
 * Access to the superblock.  On success fs->super_lock (RANK_SUPER) is held until
 * ext4_super_store() or ext4_super_put(), one of which must follow.
 */
must_check int ext4_super_begin(struct jbd2_handle *h, struct ext4_fs *fs,
                                struct ext4_super_loc *ret_loc);

/* The bytes were changed: seal them and make them part of the transaction. */
void ext4_super_store(struct jbd2_handle *h, struct ext4_fs *fs, struct ext4_super_loc *loc);

/* They were not changed after all. */
void ext4_super_put(struct ext4_fs *fs, struct ext4_super_loc *loc);

/* ---- mount and unmount ---- */

/*
 * Why a file system whose features can be written must not be written all the same, in words;
 * NULL when nothing speaks against it.
 */
const char *ext4_super_write_obstacle(const struct ext4_fs *fs);

/*
 * The file system is in use: set what says so to the next who mounts it, durably, before the
 * first commit; counts the mount.  No transaction has begun.
 */
must_check int ext4_super_begin_writing(struct ext4_fs *fs);

/*
 * The file system was left in order: everything is home and the log is empty.  Writes the free
 * counts and marks it clean, durably.  The journal is unloaded.
 */
must_check int ext4_super_end_writing(struct ext4_fs *fs);

/* Free blocks and inodes into a superblock. */
void ext4_super_set_free(struct ext4_super_block *sb, const struct ext4_free_counts *n);

/*
 * The superblock on the device, outside of any transaction: `change` is called with its bytes,
 * and what it leaves is written, with FUA.  Only while no journal writes it home: before the
 * first transaction, after jbd2_unload() or an abort.
 */
must_check int ext4_super_write_home(struct ext4_fs *fs,
                                     void (*change)(struct ext4_super_block *sb, void *arg),
                                     void *arg);

/* ---- a mount that writes (writing.c) ---- */

/*
 * The image is recovered, its root is good.  On an error it is left in order, and the mount is
 * to be given up: ext4_free_writing() follows in any case.
 */
must_check int ext4_start_writing(struct ext4_fs *fs);

/* Everything home and marked clean.  No inode is referenced.  0 when it did not write. */
must_check int ext4_stop_writing(struct ext4_fs *fs);

/* After the inodes in memory are gone. */
void ext4_free_writing(struct ext4_fs *fs);

/* ---- errors (abort.c) ---- */

/* An error of the file system, as the superblock remembers it. */
struct ext4_error {
        int err;          /* negative errno */
        uint64_t ino;     /* 0: none */
        uint64_t blk;     /* 0: none */
        const char *func; /* where it was found */
        uint32_t line;
};

/*
 * Something that cannot be undone went wrong in the midst of a change: writing ends here.  The
 * journal aborts at once, so that nothing of it becomes durable; the superblock gets the error
 * soon, by another thread.  Locks may be held as when calling the journal.  On a file system
 * that does not write this does nothing.
 */
void ext4_abort_at(struct ext4_fs *fs, const struct ext4_error *e);
#define ext4_abort(fs, error) \
        ext4_abort_at((fs), &(const struct ext4_error){(error), 0, 0, __func__, __LINE__})

/*
 * Damage was found on disk: do what `errors=` says, soon and by another thread, so that any
 * locks may be held.  ext4_corrupt() and ext4_bad_csum() call it.
 */
void ext4_note_error(struct ext4_fs *fs, const struct ext4_error *e);

/*
 * The life of all this: new before jbd2_load(), whose `aborted` is ext4_journal_aborted() with
 * the file system; then the thread is started.  It is stopped before jbd2_unload(), and what
 * was noted since is written by ext4_errors_finish(), which is true when the journal was
 * aborted.
 */
must_check int ext4_errors_new(struct ext4_fs *fs);
must_check int ext4_errors_start(struct ext4_fs *fs);
void ext4_journal_aborted(void *fs, int err);
void ext4_errors_stop(struct ext4_fs *fs);
must_check bool ext4_errors_finish(struct ext4_fs *fs);
void ext4_errors_free(struct ext4_fs *fs); /* also when there is none */

/* 0, or -EROFS when this file system does not write, or no longer. */
must_check int ext4_writable(const struct ext4_fs *fs);

/* ---- shutting down (shutdown.c) ---- */

enum ext4_shutdown {
        EXT4_SHUTDOWN_SYNC, /* everything is durable first */
        EXT4_SHUTDOWN_LOG,  /* what the journal has so far is */
        EXT4_SHUTDOWN_NOW,
};

/*
 * From now on nothing is written, unmounting included.  The caller has no handle open.  An
 * error is that of making durable; with SYNC the file system goes on then.
 */
must_check int ext4_shut_down(struct ext4_fs *fs, enum ext4_shutdown how);

static inline bool ext4_is_down(const struct ext4_fs *fs)
{
        return atomic_load_explicit(&fs->vfs.is_down, memory_order_acquire);
}

#endif
