/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_ORPHAN_TRACK_H
#define EXT4_ORPHAN_TRACK_H

/* Between orphan.c and the two kinds of tracking. */

#include "ext4/orphan.h"

/* One orphan on disk.  Its fields: [orphans lock] */
struct ext4_orphan {
        TAILQ_ENTRY(ext4_orphan) link;
        uint32_t ino;
        bool in_file;
        uint32_t block, slot;     /* in the file */
        struct ext4_inode *inode; /* NULL: stayed behind, its object is gone */
};

TAILQ_HEAD(ext4_orphan_list, ext4_orphan);

/* A block of the orphan file. */
struct ext4_orphan_block {
        ext4_fsblk_t pblk;
        uint32_t nr_free; /* slots; 0 also when the block is damaged */
};

struct ext4_orphans {
        struct ext4_fs *fs;
        struct mtx lock; /* RANK_ORPHAN */

        /*
         * Those on the list on disk, in its order: the first is the superblock's, and the one
         * before another in memory is the one before it on disk.  While the pass is at work
         * there are more behind the last.
         */
        struct ext4_orphan_list list;
        struct ext4_orphan_list in_file;
        uint32_t nr_left; /* that stayed behind */

        /* The orphan file. */
        struct ext4_orphan_file {
                uint32_t ino;       /* [const] */
                uint32_t csum_seed; /* [const] */
                uint64_t owner;     /* [const] of its blocks, in the cache */
                struct ext4_orphan_block *blocks;
                uint32_t nr_blocks;  /* [const] 0: there is no orphan file */
                uint32_t next_block; /* where to look for a free slot first */
        } file;
};

/* ---- the list (orphan_list.c).  The caller holds the lock. ---- */

/* Put the orphan at the head, on disk and in memory.  On an error nothing has changed. */
must_check int ext4_orphan_list_add(struct jbd2_handle *h, struct ext4_orphans *os,
                                    struct ext4_orphan *o);
must_check int ext4_orphan_list_del(struct jbd2_handle *h, struct ext4_orphans *os,
                                    struct ext4_orphan *o);

/* Everything behind the last that is known in memory is no orphan any more. */
must_check int ext4_orphan_list_cut(struct jbd2_handle *h, struct ext4_orphans *os);

/* The first on disk, 0: none. */
must_check int ext4_orphan_list_head(struct ext4_orphans *os, uint32_t *ret_ino);
/* The one behind an inode of the list, as its raw inode has it. */
must_check int ext4_orphan_list_next(struct ext4_orphans *os, uint32_t ino, uint32_t *ret_ino);

/* ---- the file (orphan_file.c).  The caller holds the lock, but for open and close. ---- */

/* Look at the file, if there is one, and all of its blocks. */
must_check int ext4_orphan_file_open(struct ext4_orphans *os);
void ext4_orphan_file_close(struct ext4_orphans *os);

/* -ENOSPC: there is no free slot. */
must_check int ext4_orphan_file_add(struct jbd2_handle *h, struct ext4_orphans *os,
                                    struct ext4_orphan *o);
must_check int ext4_orphan_file_del(struct jbd2_handle *h, struct ext4_orphans *os,
                                    struct ext4_orphan *o);

/*
 * The next inode in the file from *block, *slot on, which move on to where it is: 1; 0 at the
 * end.
 */
must_check int ext4_orphan_file_next(struct ext4_orphans *os, uint32_t *block, uint32_t *slot,
                                     uint32_t *ret_ino);

#endif
