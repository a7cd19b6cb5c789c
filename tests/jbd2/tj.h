/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef TJ_H
#define TJ_H

/*
 * A journal at work on simulated devices, without a file system.
 *
 * The file system's device has `nr_homes` blocks that tests use as they like, and behind them
 * the journal, in two pieces that lie the wrong way round; or the journal has a device of its
 * own.  The journal's superblock is made here, for each format.
 *
 *      caller -> trace -> fault -> watch -> sim        (each of the filters if asked for)
 */

#include <stdatomic.h>

#include "../unit/t_journal.h"
#include "../unit/t_util.h"

#include "jbd2/jbd2.h"
#include "uext4_bdev.h"
#include "watch.h"

enum rig_dev {
        RIG_FS,
        RIG_LOG, /* with config.external only */
        RIG_NR_DEVS,
};

struct rig_config {
        const char *name;
        struct tj_format f;
        bool super_v1; /* a superblock of version 1: no features */
        bool external;
        bool no_log;
        bool no_fua; /* the device cannot do it: write and flush */
        bool no_barrier;
        bool no_sim; /* plain memory, which needs no more of it for each write */
        bool with_trace, with_fault;
        bool no_waits; /* for driver.h */
        uint32_t nr_homes;
        uint32_t commit_ms; /* with a timer; 0: without */
        uint32_t set_incompat;
        uint64_t seed;
        const struct watch_hook *hook;
};

struct rig {
        struct rig_config c;
        struct uext4_bdev *sims[RIG_NR_DEVS]; /* the lowest */
        struct uext4_bdev *devs[RIG_NR_DEVS]; /* the topmost; NULL: none */
        struct uext4_bdev *faults[RIG_NR_DEVS];
        struct uext4_bdev *traces[RIG_NR_DEVS];
        struct buf_cache *bufs;
        struct jbd2 *j;
        struct t_log log;
        atomic_int nr_aborted, abort_err; /* what the callback was told */
};

/* Formats to go through: checksums, block numbers, fast-commit area, place, tids. */
extern const struct rig_config rig_formats[];
extern const size_t rig_nr_formats;

/* 1 KiB blocks, checksums v3, a log of `nr_log` blocks. */
struct rig_config rig_plain(uint32_t nr_log, uint32_t nr_homes);

/* How many devices there are, and the size of each in bytes. */
unsigned rig_nr_devs(const struct rig_config *c);
size_t rig_size(const struct rig_config *c, enum rig_dev which);

/* A newly made image of a device: zeros and a journal's superblock. */
void *rig_make_image(const struct rig_config *c, enum rig_dev which);

/* Offset of the journal's superblock in the image of its device. */
size_t rig_super_pos(const struct rig_config *c);

/* Devices from images (NULL: new ones) and a journal at work on them. */
void rig_open(struct rig *r, const struct rig_config *c, void *const images[RIG_NR_DEVS]);

/* The journal alone, after rig_unload(). */
int rig_load(struct rig *r);
int rig_unload(struct rig *r);

/* Everything; the result of jbd2_unload(), 0 if that was done already. */
int rig_close(struct rig *r);

/* Scan, replay and empty the log. */
int rig_recover(const struct rig_config *c, struct uext4_bdev *const devs[RIG_NR_DEVS],
                struct t_log *log);

/* The journal's superblock on a device, as it is now. */
struct jbd2_super rig_super(const struct rig_config *c, struct uext4_bdev *dev);

/* The top device of the log. */
static inline struct uext4_bdev *rig_log_dev(struct rig *r)
{
        return r->devs[r->c.external ? RIG_LOG : RIG_FS];
}

/* ---- short forms for tests ---- */

/* The rig of most tests: rig_plain(), 128 blocks, a log that is used up soon. */
void rig_open_plain(struct rig *r);

struct jbd2_stats rig_stats(struct rig *r);

struct jbd2_handle *rig_start(struct rig *r, uint32_t blocks, uint32_t revokes);

/* Fill block `blk` with `byte` under the handle; the result of getting access. */
int rig_set(struct rig *r, struct jbd2_handle *h, uint64_t blk, uint8_t byte);

/* One handle of its own that sets `nr` blocks from `blk` on; its tid. */
uint32_t rig_set_many(struct rig *r, uint64_t blk, unsigned nr, uint8_t byte);

struct buf *rig_get_buf(struct rig *r, uint64_t blk);

/* A new block, filled with `byte`, which must be had as zeros. */
void rig_create(struct rig *r, struct jbd2_handle *h, uint64_t blk, uint8_t byte);

/* The first byte of a block as the device has it at this moment, durable or not. */
int rig_device_byte(struct rig *r, uint64_t blk);

/* The first byte of a block as the cache or the medium (after recovery) has it. */
int rig_cached_byte(struct rig *r, uint64_t blk);
int rig_recovered_byte(struct rig *r, enum uext4_bdev_sim_mode mode, uint64_t blk);

/* ... of which nothing is left that was not durable. */
int rig_durable_byte(struct rig *r, uint64_t blk);

#endif
