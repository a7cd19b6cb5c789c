/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_FUSE_PROTO_H
#define UEXT4_FUSE_PROTO_H

/*
 * proto.h - the protocol that the kernel speaks, of which linux/fuse.h has most.  What is here
 * came after the headers of the oldest distribution that we build on, and has names of its own,
 * so that newer headers do no harm.
 */

#include <linux/fuse.h>
#include <stdint.h>
#include <sys/ioctl.h>

enum {
        PROTO_MINOR = 39,          /* what we know of: up to FUSE_STATX */
        PROTO_STATX = 52,          /* opcode */
        PROTO_INIT_MMAP_SHIFT = 4, /* bit of fuse_init_out.flags2 */
        PROTO_MAX_OPCODE = 64,
};

/* Files opened with FOPEN_DIRECT_IO may be mapped, shared as well. */
#define PROTO_INIT2_DIRECT_IO_MMAP (1u << PROTO_INIT_MMAP_SHIFT)

/* Of file systems, in no header of the kernel's. */
#define PROTO_IOC_SHUTDOWN         _IOR('X', 125, uint32_t)
#define PROTO_IOC_SHUTDOWN_AS_TOLD _IOW('X', 125, uint32_t) /* ours */

struct proto_statx_in {
        uint32_t getattr_flags;
        uint32_t reserved;
        uint64_t fh;
        uint32_t sx_flags;
        uint32_t sx_mask;
};

struct proto_sx_time {
        int64_t sec;
        uint32_t nsec;
        int32_t reserved;
};

struct proto_statx {
        uint32_t mask;
        uint32_t blksize;
        uint64_t attributes;
        uint32_t nlink;
        uint32_t uid;
        uint32_t gid;
        uint16_t mode;
        uint16_t spare0;
        uint64_t ino;
        uint64_t size;
        uint64_t blocks;
        uint64_t attributes_mask;
        struct proto_sx_time atime, btime, ctime, mtime;
        uint32_t rdev_major;
        uint32_t rdev_minor;
        uint32_t dev_major;
        uint32_t dev_minor;
        uint64_t spare2[14];
};

struct proto_statx_out {
        uint64_t attr_valid;
        uint32_t attr_valid_nsec;
        uint32_t flags;
        uint64_t spare[2];
        struct proto_statx stat;
};

#endif
