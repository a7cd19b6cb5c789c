/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_FILEMAP_H
#define UEXT4_CLI_FILEMAP_H

/*
 * filemap.h - where a file lies: all its extents, and the pieces of the device
 * that one read of it touches.
 */

#include <stddef.h>
#include <stdint.h>

#include "uext4.h"

/* All extents in logical order, without gaps in what was asked.  Owner: filemap_done(). */
struct filemap {
        struct fiemap_extent *extents;
        size_t nr;
};

int filemap_read(struct uext4_file *file, struct filemap *ret_map);
void filemap_done(struct filemap *map);

/* Bytes of the device, counted from the start of the file system. */
struct filemap_piece {
        uint64_t file_pos;
        uint64_t pos;
        uint64_t len;
};

/*
 * Iterate over the written pieces of [pos, end): what must come from the device.  Zeroed at the
 * start; calls with falling positions need it zeroed again.
 */
struct filemap_iter {
        size_t next; /* index of the first extent that may matter */
};

/* 1: *ret_piece is the first piece at or behind `pos`; 0: there is none before `end`. */
int filemap_next(const struct filemap *map, struct filemap_iter *at, uint64_t pos, uint64_t end,
                 struct filemap_piece *ret_piece);

/* Does reading this extent need the device at a place that is known? */
int filemap_is_on_device(const struct fiemap_extent *extent);

#endif
