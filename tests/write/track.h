/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef WRITE_TRACK_H
#define WRITE_TRACK_H

/*
 * The sectors of a file: what each holds now, and what may be found in it after a power cut.
 *
 * Every write has a version, and each sector of it bytes that tell file, sector and version; so
 * what is found says which write it comes from.  Version 0 is zeros.  An operation is begun
 * before the library is called, since from then on its outcome may be found, and ended when
 * the library has said that it is done.  Writes under way do not overlap each other.
 */

#include "../unit/t_util.h"

#define TRACK_SECTOR   512u
#define TRACK_VERSIONS 62
#define TRACK_SIZES    64

struct track_sector {
        uint32_t now;    /* version */
        uint32_t flying; /* of a write under way; 0: none */
        bool in_steps;   /* that write moves the size so */
        uint32_t nr;
        uint32_t may[TRACK_VERSIONS]; /* be found */
};

struct track {
        unsigned file;
        unsigned nr_sectors;
        uint32_t last; /* version */
        struct track_sector *sectors;
        uint64_t size; /* bytes; multiples of sectors, as all are */
        unsigned nr_sizes;
        struct {
                uint64_t from, to;
        } sizes[TRACK_SIZES]; /* that may be found */
};

struct track_range {
        unsigned first, nr; /* sectors */
};

/* An empty file. */
void track_init(struct track *t, unsigned file, unsigned nr_sectors);
void track_done(struct track *t);

/* The bytes of a write of some version. */
void track_fill(const struct track *t, uint32_t version, struct track_range r, uint8_t *buf);

/* ---- operations ---- */

/* In steps: the size may be found anywhere between.  Returns its version. */
uint32_t track_write(struct track *t, struct track_range r, bool in_steps);
void track_written(struct track *t, uint32_t version, struct track_range r);

/* What the write of this version has left is durable; with the size as it is now, too. */
void track_durable(struct track *t, uint32_t version, struct track_range r, bool with_size);

/* A range becomes zeros. */
void track_zero(struct track *t, struct track_range r);
void track_zeroed(struct track *t, struct track_range r);

void track_resize(struct track *t, uint64_t size);
void track_resized(struct track *t, uint64_t size);

/* All that had ended is durable. */
void track_synced(struct track *t);

bool track_is_flying(const struct track *t, struct track_range r);

/* Too many outcomes to remember more: it is time for a sync. */
bool track_is_full(const struct track *t);

/* ---- what is found: NULL, or what is wrong, until the next call ---- */

/* Now, in a file that is in use. */
const char *track_check_now(const struct track *t, struct track_range r, const uint8_t *bytes);

/* After a cut: these bytes; all of the file, with its size. */
const char *track_check_range_cut(const struct track *t, struct track_range r,
                                  const uint8_t *bytes);
const char *track_check_cut(const struct track *t, uint64_t size, const uint8_t *bytes);

#endif
