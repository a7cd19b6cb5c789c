/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_XATTR_PLAN_H
#define EXT4_XATTR_PLAN_H

/*
 * What setting or removing an attribute will do: between xattr_plan.c, which decides that, and
 * xattr_change.c, which does it.
 */

#include "ext4/inode_store.h"
#include "ext4/xattr_edit.h"

/* A name is in the inode and in the block at most; more is damage. */
#define EXT4_XATTR_MAX_DROPS 2

/* What is to be done. */
struct ext4_setattr;
struct ext4_xattr_order {
        struct ext4_xattr_key key;
        const void *value; /* NULL: remove */
        size_t size;
        unsigned flags;
        bool absent_is_fine; /* of removing */
        bool sets_mode;
        uint16_t mode;                   /* the permissions, then */
        const struct ext4_setattr *also; /* changes with it, or NULL */
};

enum ext4_xattr_block_action {
        EXT4_XATTR_BLOCK_STAYS,
        EXT4_XATTR_BLOCK_EDIT,  /* it is this inode's own */
        EXT4_XATTR_BLOCK_FREE,  /* likewise, and empty now */
        EXT4_XATTR_BLOCK_LEAVE, /* others keep it; nothing is left for this inode */
        EXT4_XATTR_BLOCK_COPY,  /* others keep it; this inode has a new one */
        EXT4_XATTR_BLOCK_NEW,
};

struct ext4_xattr_plan {
        struct ext4_inode *inode;
        const struct ext4_xattr_order *order;

        /* load() */
        struct buf *old; /* the attribute block, or NULL */
        bool shared;     /* it has other owners */
        struct ext4_xattr_set ibody, block;

        /* plan() */
        bool ibody_changed;
        bool no_room; /* waiting for blocks to become free does not help */
        enum ext4_xattr_block_action action;
        uint8_t *new_ibody; /* the inode's space and the block as they are to be, or NULL */
        uint8_t *new_block;
        struct ext4_inode *fresh; /* the new value, or NULL */
        struct {
                struct ext4_inode *value; /* loses this inode's entry */
                bool loses_reference;     /* others have the same block: no */
        } drops[EXT4_XATTR_MAX_DROPS];
        size_t nr_drops;
        uint64_t more_sectors, less_sectors; /* values count as their owner's blocks */
        struct ext4_inode **shares;          /* values that another block names, too */
        size_t nr_shares;

        /* apply() */
        struct ext4_iloc loc;
        struct ext4_iloc *share_locs;
        bool has_shared; /* `shares` have their references */
        struct buf *new; /* a new block, or the old one to be changed */
        void *bytes;
        void *old_bytes;      /* of the shared one */
        ext4_fsblk_t new_blk; /* allocated */
};

/*
 * Fill in a plan of which inode and order are set.  The inode lock is held, with no handle
 * open: a value that is too large is written to an inode that no entry names yet.  Also after
 * an error ext4_xattr_plan_done() must follow, with no handle open: it deletes values that have
 * no entry.
 */
must_check int ext4_xattr_plan_make(struct ext4_xattr_plan *c);
void ext4_xattr_plan_done(struct ext4_xattr_plan *c);

/*
 * The sectors of the inode's i_blocks that are its attributes': their block, and their values.
 * The inode lock is held.
 */
must_check int ext4_xattr_sectors(struct ext4_inode *inode, uint64_t *ret_nr);

/*
 * Make the plan, and carry it out.  The inode lock is held exclusive, and what may be has been
 * asked.  The plan is to be given up, and if ext4_xattr_try_again() says so another is to be
 * made: -EAGAIN, or -ENOSPC where waiting helps.
 */
must_check int ext4_xattr_change_locked(struct ext4_xattr_plan *c);
must_check bool ext4_xattr_try_again(struct ext4_fs *fs, int ret, bool no_room, int *tries);

#endif
