/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_SPEED_H
#define UEXT4_CLI_SPEED_H

/*
 * speed.h - how fast some files are read, and how fast the bare device gives the same bytes.
 *
 * A plan collects requests: each is a range of a file and, beside it, the pieces of the device
 * where it lies.  Then both sides read their list from front to back with the same depth, and
 * nothing is done with what they read.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "uext4.h"

#include "cli/filemap.h"

struct speed_plan;

/* The plan is full when its requests have `limit` bytes on the device. */
struct speed_plan *speed_plan_new(size_t request_size, uint64_t limit);
void speed_plan_free(struct speed_plan *plan);

bool speed_plan_is_full(const struct speed_plan *plan);

/*
 * Add as much of a file as fits.  The plan opens the file for itself.  Ranges without any
 * block on the device are left out, on both sides.
 */
int speed_plan_add(struct speed_plan *plan, struct uext4_inode *inode,
                   const struct filemap *map);

struct speed_result {
        uint64_t bytes;   /* on the device; the same for both sides */
        double file_rate; /* bytes per second */
        double raw_rate;
};

/* Read both.  The file system must begin where the device does. */
int speed_measure(struct speed_plan *plan, struct uext4_fs *fs, struct uext4_bdev *dev,
                  unsigned depth, struct speed_result *ret_result);

#endif
