/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef FUZZ_PART_H
#define FUZZ_PART_H

/*
 * Fuzz targets for one part of an image: the blocks of a directory, the attributes of an inode,
 * the extent tree of a file.
 *
 * An input is a few bytes that choose (PART_CHOICES of them: which of the images, and what is
 * done), and then the bytes of the part.  These go to their places in a copy of a good image of
 * the corpus, their checksums are set, and the inode that they belong to is put to work by a
 * mount that writes.  All else in the image is right, so that every input gets as far as the
 * part lets it, and an image is small, so that there are many of them in a second.
 *
 *      part.c          the image, the checksums, the mutations (target.h)
 *      part_dir.c part_xattr.c part_extent.c    a part each: where it is, and the work
 */

#include <stdatomic.h>
#include <stdbool.h>

#include "lib/lib.h"
#include "promise.h"
#include "target.h"

#define PART_CHOICES    8u
#define PART_MAX_PIECES 16u

/* Where the part is in one of the images. */
struct part_place {
        struct ext4_fs fs; /* what checksums need to know of it, and nothing else */
        uint32_t ino;
        uint64_t inode_pos;
        uint32_t csum_seed;
        unsigned nr_pieces;
        struct {
                uint64_t pos; /* on the device, in bytes */
                uint32_t size;
        } pieces[PART_MAX_PIECES];
};

/* One input at work. */
struct part_run {
        struct uext4_fs *fs;
        struct uext4_inode *inode; /* whose part it is */
        const struct part_place *place;
        uint64_t choice;
        atomic_bool was_said; /* an error, to the log */
        bool is_damaged;      /* a call has failed for damage */
};

/* What a target says of itself. */
struct part {
        struct {
                const char *file; /* in the corpus */
                const char *path; /* of the inode */
        } images[3];              /* until a file is NULL */
        /* Say which bytes of the image belong to the part. */
        void (*find)(struct part_place *place, struct ext4_inode *inode);
        /* Set the checksum of a piece, whatever it has in it; `piece` is its number. */
        void (*seal)(const struct part_place *place, unsigned piece, uint8_t *bytes);
        void (*work)(struct part_run *run);
};

extern const struct part part;

void part_add_piece(struct part_place *place, uint64_t pos, uint32_t size);

/* The block at `lblk` of a file. */
bool part_block_of(struct ext4_inode *inode, ext4_lblk_t lblk, uint64_t *ret_blk);

static inline uint64_t part_choose(struct part_run *run, uint64_t limit)
{
        return choose_number(&run->choice, limit);
}

/*
 * The result of a call: success, damage, or one of the errors that follow (a device in memory
 * has no others).
 */
int64_t part_expect(struct part_run *run, int64_t ret, const int *others, int line);

#define PART_EXPECT(run, ret, ...) \
        part_expect((run), (ret), (const int[]){0, ##__VA_ARGS__, 0} + 1, __LINE__)

#endif
