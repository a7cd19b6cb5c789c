/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef LIB_LIB_H
#define LIB_LIB_H

/* The public objects from inside.  An uext4_inode is an ext4_inode by another name. */

#include <limits.h>
#include <uext4.h>

#include "ext4/ext4.h"
#include "ext4/super_write.h"

struct uext4_fs {
        struct ext4_fs *ext4;
        struct uext4_bdev *own_dev; /* closed at unmount; NULL: the caller's */
        struct uext4_bdev *journal; /* likewise; NULL: none, or no longer needed */
};

static inline struct log_sink sink_of(const struct uext4_mount_params *params)
{
        return params ? (struct log_sink){params->log, params->log_arg} : (struct log_sink){0};
}

struct uext4_file {
        struct ext4_inode *inode;  /* a reference */
        bool direct;               /* O_DIRECT */
        bool reads, writes;        /* the access mode */
        uint32_t read_flags;       /* VFS_* that every read has: O_NOATIME */
        uint32_t write_flags;      /* and every write: O_APPEND, O_DSYNC, O_SYNC */
        struct vfs_pending queued; /* requests on queues */
        struct vfs_readahead readahead;
        _Atomic uint64_t error_seen; /* of writing back: vfs_pages_tell_error() */
};

static inline struct ext4_inode *inode_in(struct uext4_inode *inode)
{
        return (struct ext4_inode *)(void *)inode;
}

static inline struct uext4_inode *inode_out(struct ext4_inode *inode)
{
        return (struct uext4_inode *)(void *)inode;
}

/* ---- options.c ---- */

struct lib_options {
        struct ext4_mount_options ext4;
        uint64_t offset;
        char journal_path[PATH_MAX]; /* empty: none */
};

/* -EINVAL, said to the log, for an unknown or malformed option. */
int lib_parse_options(const char *text, const struct log_sink *log,
                      struct lib_options *ret_options);

/* ---- device.c ---- */

/* What a mount stands on. */
struct lib_devices {
        struct uext4_bdev *dev;
        struct uext4_bdev *journal; /* an external one, or NULL */
};

/* Open what the URI and the options name.  flags: UEXT4_BDEV_OPEN_*. */
int lib_open_devices(const char *uri, uint32_t flags, const struct lib_options *o,
                     const struct log_sink *log, struct lib_devices *ret_devices);
void lib_close_devices(struct lib_devices *devices);

/* The external journal that the options name, or NULL when they name none. */
int lib_open_journal(uint32_t flags, const struct lib_options *o, const struct log_sink *log,
                     struct uext4_bdev **ret_dev);

/* Files of a mount that was shut down are not used any more: -EIO. */
static inline int lib_check_up(const struct ext4_inode *inode)
{
        return ext4_is_down(inode->fs) ? -EIO : 0;
}

/* ---- inode.c ---- */

/* One name of a directory that may be searched. */
must_check int lib_lookup(struct ext4_inode *dir, const char *name, size_t len,
                          struct ext4_inode **ret_inode);

/* ---- file.c ---- */

/* RWF_* and what the file was opened with, to VFS_*; -EOPNOTSUPP for what a read does not have.
 */
int lib_read_flags(const struct uext4_file *file, int rwf, uint32_t *ret_flags);

/* ---- write.c ---- */

/* RWF_* and what the file was opened with, to VFS_*; -EOPNOTSUPP for what a write does not
 * have. */
int lib_write_flags(const struct uext4_file *file, int rwf, uint32_t *ret_flags);

#endif
