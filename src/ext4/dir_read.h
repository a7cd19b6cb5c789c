/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_DIR_READ_H
#define EXT4_DIR_READ_H

/*
 * Reading a directory from a cookie on.
 *
 *      dir_read.c   what a cookie is, and reading in the order of positions
 *      dir_order.c  reading in the order of hashes
 *
 * A cookie is where a walk goes on.  It has 63 bits, so that it is positive as a signed number,
 * and says itself which of the two orders its walk has:
 *
 *      0                       nothing has been read
 *      < EXT4_COOKIE_HASHED    a byte position in the blocks of the directory
 *      < EXT4_COOKIE_END       1, a key of 57 bits, a count of 5 bits
 *      else                    the end
 *
 * The key of a name is made of the 31 bits of the hash by which an index is sorted and of 26
 * bits of a second hash, never all zeros.  The count tells names apart whose keys are the
 * same: how many of these are still to come, as 31 less that number, so that cookies rise.
 * With the key 0, which no name has, it is 0 before ".", 1 before "..", and 2 behind these.
 *
 * The key depends on the name alone, not on where its entry is: a walk in the order of hashes
 * has every name once that is there all the time, whatever happens to the directory meanwhile:
 * a leaf is split, a linear directory becomes a hashed one, an inline one gets a block.  In
 * a linear directory an entry stays where it is as long as it is there, so that positions do as
 * well.  Which order a walk has is decided at its beginning:
 *
 *      hashes      inline directories; hashed ones; those of one block that may become hashed
 *      positions   all others: linear ones that stay so, casefolded ones (whose hashes are of
 *                  other names), and those whose index is damaged
 */

#include "ext4/dir.h"

#define EXT4_COOKIE_HASHED (1ull << 62)
#define EXT4_COOKIE_END    ((1ull << 63) - 1)

/* Behind "..". */
#define EXT4_COOKIE_FIRST (EXT4_COOKIE_HASHED | 2)

/* Fill in what is returned of an entry. */
void ext4_dirent_fill(const struct ext4_inode *dir, const struct ext4_dir_entry *entry,
                      struct ext4_dirent *ret_entry);

/*
 * The next entry in the order of hashes behind *cookie, which is EXT4_COOKIE_FIRST or more: 1;
 * 0 at the end, where *cookie stays; or -errno.  After damage, and -EOVERFLOW, *cookie is
 * behind what cannot be read.  The caller holds the inode lock shared.
 */
int ext4_dir_read_ordered(struct ext4_inode *dir, uint64_t *cookie,
                          struct ext4_dirent *ret_entry);

/* Forget what is kept of the directory for the next who goes on reading it. */
void ext4_dir_forget_batch(struct ext4_inode *dir);

#endif
