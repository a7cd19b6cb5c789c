/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef BDEV_HOST_H
#define BDEV_HOST_H

/* A file or block device of the host, opened and locked. */

#include "util/base.h"

struct host_file {
        int fd;
        bool is_block_device;
        bool is_direct;        /* opened with O_DIRECT */
        uint64_t size;         /* bytes, not cut to anything */
        uint32_t major, minor; /* of a block device */
};

enum host_cache {
        HOST_CACHED,
        HOST_DIRECT, /* O_DIRECT if the file system lets us; see is_direct */
};

/*
 * Open what is a regular file or a block device, `flags` being
 * UEXT4_BDEV_OPEN_READONLY or 0, and lock it.  -EBUSY: somebody has it;
 * -EISDIR, -ENOTBLK: not something to open as a device.
 */
must_check int host_open(const char *path, uint32_t flags, enum host_cache cache,
                         struct host_file *ret_file);

/* From direct to cached. */
must_check int host_give_up_direct(struct host_file *file);

void host_close(struct host_file *file);

#endif
