/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef CHANGE_RIG_H
#define CHANGE_RIG_H

/*
 * Images whose free space holds a pattern, mounts of them, and what e2fsck says.
 *
 * The pattern is on the device before mke2fs runs, so that every block that nobody has written
 * since still holds it.  Found in a file, it is what somebody else may have deleted.
 */

#include "../unit/t_fs.h"
#include "lib/lib.h"

/* Write the pattern over memory that begins at a multiple of 16 bytes of the device. */
void rig_fill_pattern(void *mem, size_t len);

/* Whether it is somewhere in what was read from a multiple of 16 bytes on. */
bool rig_has_pattern(const void *mem, size_t len);

/*
 * An image from `mke2fs OPTIONS`, with the host directory `tree` in it unless that is NULL, and
 * then what the script tells debugfs -w unless that is NULL.
 */
struct t_image rig_make(uint64_t size, const char *options, const char *tree,
                        const char *script);

/* A host directory that goes away with rig_tree_done(). */
struct rig_tree {
        char path[256];
};

void rig_tree_init(struct rig_tree *tree);
void rig_tree_file(struct rig_tree *tree, const char *name, const void *data, size_t size);
void rig_tree_link(struct rig_tree *tree, const char *old, const char *name);
void rig_tree_dir(struct rig_tree *tree, const char *name);
void rig_tree_done(struct rig_tree *tree);

/* What e2fsck -fn says: NULL when it is content, else a text to be freed. */
char *rig_fsck(const void *image, size_t size);

/* It is content, or the process ends. */
void rig_must_be_clean(const void *image, size_t size);

/*
 * Whether the superblock of what survived is one that can be read: it counts on sectors that
 * are written together (docs/crash-model.md).  Where no checksum says so, it must be the one
 * that is safe, or the newest.
 */
bool rig_super_is_whole(struct uext4_bdev *sim, const void *image, size_t size);

/* Where the journal's superblock is, the only block that looks like one; 0: nowhere. */
size_t rig_find_log_super(const struct t_image *img);

/* Keep an image for looking at; its name is said.  Only with UEXT4_KEEP=DIRECTORY. */
void rig_keep(const char *what, const void *image, size_t size);

/* ---- mounts ---- */

struct rig_mount {
        struct uext4_fs *fs; /* NULL: none */
        struct t_log log;
};

/* Nothing is committed by a timer: a run depends on nothing but the calls. */
#define RIG_OPTIONS "rw,commit=100000"

int rig_mount(struct rig_mount *m, struct uext4_bdev *dev, const char *options);
int rig_unmount(struct rig_mount *m);

static inline struct ext4_fs *rig_fs(struct rig_mount *m)
{
        return m->fs->ext4;
}

/* A device on the memory of the image. */
struct uext4_bdev *rig_open_image(const struct t_image *img);

/* Unmount, close the device, and have e2fsck look at the image, which is given back. */
void rig_end(struct rig_mount *m, struct uext4_bdev *dev, struct t_image *img);

/* ---- simulated devices ---- */

/* Close `dev`, which is `sim` or on top of it; e2fsck looks at what was written. */
void rig_close_sim(struct uext4_bdev *sim, struct uext4_bdev *dev);

typedef void rig_survivor_fn(void *arg, const char *how, void *image, size_t size);

/*
 * Tell of images that a power cut now may leave: nothing of what is not durable survives, all,
 * or some of it, this in `nr_random` ways.  Those without a whole superblock are left out.
 */
void rig_survivors(struct uext4_bdev *sim, uint64_t seed, unsigned nr_random,
                   rig_survivor_fn *fn, void *arg);

/* ---- switches ---- */

uint64_t rig_number(const char *variable, uint64_t otherwise);

#endif
