/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_H
#define UEXT4_H

/*
 * uext4.h - ext4 in user space.
 *
 * Conventions.  Every function that can fail returns a negative errno; 0 or a
 * positive count is success.  Results through `ret_` parameters are written
 * only on success.  Positions and lengths are bytes.  Functions may block on
 * device I/O unless their comment says otherwise.
 *
 * Threads.  Any thread may use any handle at any time, two threads the same
 * handle too; only a queue belongs to one thread at a time, and giving a
 * handle back (uext4_inode_put, uext4_close, uext4_unmount) must be the last use
 * of that handle.
 *
 * Errors of the file system.  A structure on disk that breaks its rules is
 * -EUCLEAN, one whose checksum does not match is -EBADMSG; both are said once
 * to the mount's log, with inode and block.  -EIO comes from the device.
 */

#include <linux/fiemap.h>
#include <stdint.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#include "uext4_bdev.h"

#ifdef __cplusplus
extern "C" {
#endif

struct uext4_fs;    /* a mounted file system */
struct uext4_inode; /* a referenced inode */
struct uext4_file;  /* an open file */
struct uext4_queue; /* many requests under way at once */

/* "MAJOR.MINOR.PATCH" of the library that is running. */
UEXT4_API const char *uext4_version(void);

/* ---- mount ----------------------------------------------------------- */

/*
 * Mount options are a comma-separated list in the spelling of ext4(5) and
 * mount(8), NULL for none.  An unknown option is -EINVAL, said to the log.
 *
 *   ro                 never write to the device; this is the default
 *   rw                 write; the last one of ro and rw counts
 *   noload, norecovery do not replay the journal: read the image as it is
 *                      (not with rw)
 *   sb=N               the superblock is in block N, counted in units of 1 KiB
 *                      (a backup is for reading only)
 *   offset=BYTES       the file system starts there on the device (mount(8)); K, M, G, T
 *   nocsum             check structures, not checksums: a rescue from a damaged
 *                      image (not with rw)
 *   journal_path=URI   the external journal of this file system
 *   meta_cache=BYTES   bound of the metadata cache's memory (default 32M); K, M, G
 *   page_cache=BYTES   bound of the memory for files' contents (default 256M, at least 1M); K,
 *                      M, G.  A quarter of it may be dirty before it is written back, a half
 *                      before writers wait
 *   dax[=always | inode | never]
 *                      files on a device that is memory (mem:, mmap:) are read and written by
 *                      copying, with O_DIRECT or not, at any alignment, and can be mapped
 *                      (uext4_map_lease): all of them, on another device -EOPNOTSUPP;
 *                      those whose inode has the flag for it, which is the default; none.
 *                      Not with data=journal, nor files with inline data or verity
 *
 * and with rw, where the superblock has the defaults of all but the first:
 *
 *   commit=SECONDS     a transaction becomes durable at this age (default 5)
 *   barrier[=0|1], nobarrier
 *                      flush the device's cache where order matters; without that only
 *                      a device that loses nothing is safe
 *   discard, nodiscard tell the device which blocks have become free
 *   errors=continue | remount-ro | panic
 *                      when damage is found: note it in the superblock and go on, or
 *                      stop writing, or end this process by abort(3)
 *   data=ordered | writeback | journal
 *                      needs a journal
 *   delalloc | nodelalloc
 *                      buffered writes have space promised, and get blocks when they are
 *                      written back, which is the default; or at once (of files with extents)
 *   relatime | strictatime | noatime
 *                      whether reading changes access times: when they are not later than
 *                      the file's other times or a day old, which is the default; always;
 *                      never.  Of files they are written with what else is written of the
 *                      inode, at fsync or when a handle is closed
 *   resuid=N, resgid=N who may use the reserved blocks, beside root
 *   epoch=SECONDS      for images that can be made again: all times that are now are this one,
 *                      what is random follows from it, the journal commits only when asked to,
 *                      and is left as if it had not been used.  The same calls of one thread,
 *                      with `nodelalloc` and one request under way, then make the same bytes
 *
 * A read-only mount replays a journal that is not empty in memory, into a private overlay; a
 * mount for writing does it in the image, as uext4_recover() does.  What must not be written
 * (features that uext4 does not write, such as quota and mmp; a device that is read-only) is
 * mounted read-only with rw, too: the log and uext4_info.readonly_reason say why.
 */
struct uext4_mount_params {
        const char *options;
        uext4_log_fn *log; /* NULL: warnings and errors go to stderr */
        void *log_arg;
};

/*
 * Mount the device that `uri` names (see uext4_bdev_open).  `params` may be NULL.
 * -EINVAL no ext4 there, or one with impossible geometry; -EOPNOTSUPP an unknown
 * incompatible feature, named to the log; -EUCLEAN/-EBADMSG damaged; -EBUSY
 * somebody has the device open for writing; what uext4_recover says of
 * the journal (`noload` reads the image without it).
 */
UEXT4_API int uext4_mount(const char *uri, const struct uext4_mount_params *params,
                          struct uext4_fs **ret_fs);

/*
 * As uext4_mount, on a device that the caller keeps open until after unmount.  The option
 * `offset` is -EINVAL here: cut the device with uext4_bdev_open_slice().
 */
UEXT4_API int uext4_mount_bdev(struct uext4_bdev *dev, const struct uext4_mount_params *params,
                               struct uext4_fs **ret_fs);

/*
 * Unmount and free.  -EBUSY, and nothing is changed, while an inode, file or
 * queue of this mount has not been given back.  Another error: it is unmounted, but what
 * it has written last is not all in place; the next mount recovers what was durable.  That is
 * also said of data which could not be written long before, if no uext4_fsync() has said so.
 */
UEXT4_API int uext4_unmount(struct uext4_fs *fs);

enum uext4_shutdown {
        UEXT4_SHUTDOWN_SYNC = 0, /* make everything durable first, as uext4_syncfs() */
        UEXT4_SHUTDOWN_LOG = 1, /* make durable what the journal has: all but cached contents */
        UEXT4_SHUTDOWN_NOW = 2, /* nothing */
};

/*
 * Stop writing for ever, as the kernel's ext4 does with its ioctl for that: for tests, and for
 * who must not touch a device any more.  From the return on nothing is written, but by requests
 * that were under way.  Files can neither be opened nor read or written, and nothing can be
 * changed: -EIO.  uext4_unmount() gives back what there is in memory and leaves the image as it
 * is, so that the next mount finds what a power cut would have left.  Not for leases: who has
 * one may go on storing.
 *
 * A second call does nothing.  -EINVAL; what has made it impossible to make durable, and then
 * with SYNC nothing has happened, with LOG it is shut down all the same.
 */
UEXT4_API int uext4_shutdown(struct uext4_fs *fs, enum uext4_shutdown how);

/*
 * As statvfs(3): f_bavail leaves out the blocks reserved for root.  Free blocks and inodes are
 * counted from the group descriptors, all of which are read.
 */
UEXT4_API int uext4_statfs(struct uext4_fs *fs, struct statvfs *ret_st);

/*
 * As the ioctl FITRIM of fstrim(8): tell the device which blocks are free of the bytes [start,
 * start + len), in free extents of at least minlen bytes; len UINT64_MAX: to the end.
 * *ret_trimmed: how many bytes the device was told of.  Group by group, while others go on: who
 * allocates is given none of the extent that the device is at, and waits for it if there is
 * nothing else.  What has been freed and is not durable yet is left out: uext4_syncfs() before.
 * What was trimmed before is trimmed again.
 *
 * -EINVAL: start behind the end, len less than a block, minlen more than a block group;
 * -EOPNOTSUPP: the device does not do it; -EROFS for a mount that does not write, -EIO,
 * -ENOMEM.
 */
UEXT4_API int uext4_trim(struct uext4_fs *fs, uint64_t start, uint64_t len, uint64_t minlen,
                         uint64_t *ret_trimmed);

/* What the superblock says, for people. */
struct uext4_info {
        uint32_t block_size;   /* bytes */
        uint32_t cluster_size; /* bytes; block_size without bigalloc */
        uint32_t inode_size;   /* bytes on disk */
        uint32_t nr_groups;
        uint32_t inodes_per_group;
        uint32_t blocks_per_group;
        uint64_t nr_blocks;
        uint64_t nr_blocks_free;
        uint64_t nr_blocks_reserved;
        uint64_t nr_inodes;
        uint64_t nr_inodes_free;
        uint32_t first_inode; /* the first one that is not reserved */
        uint32_t revision;
        uint16_t state; /* s_state: 1 clean, 2 errors, 4 orphans */
        uint16_t mount_count;
        int needs_recovery; /* the journal is not empty */
        int64_t mkfs_time;  /* seconds since the epoch, as the next two; 0 unknown */
        int64_t mount_time;
        int64_t write_time;
        uint8_t uuid[16];
        char label[17]; /* NUL-terminated, bytes as on disk */
        char last_mounted[65];
        char features[768];        /* names as in tune2fs(8), separated by blanks */
        char readonly_reason[256]; /* why this mount does not write */
};

UEXT4_API int uext4_get_info(struct uext4_fs *fs, struct uext4_info *ret_info);

/* Counters since mount. */
struct uext4_stats {
        uint64_t direct_reads; /* requests */
        uint64_t direct_read_bytes;
        uint64_t device_reads;    /* device requests that they became */
        uint64_t buffered_reads;  /* files opened without O_DIRECT */
        uint64_t fallback_inline; /* direct requests served buffered (B26), by reason */
        uint64_t fallback_data_journal;
        uint64_t fallback_verity;
        uint64_t nowait_again;  /* NOWAIT requests that would have slept */
        uint64_t direct_writes; /* requests */
        uint64_t direct_write_bytes;
        uint64_t device_writes;   /* device requests that they became */
        uint64_t fua_writes;      /* of these, written through */
        uint64_t buffered_writes; /* files opened without O_DIRECT, and fallbacks */
        uint64_t overwrites;      /* direct writes that changed nothing but bytes */
        uint64_t extends;         /* direct writes that moved the size */
        uint64_t allocations;     /* mappings that writes have allocated */
        uint64_t conversions;     /* requests whose blocks became written at their end */
        uint64_t fallback_hole;   /* holes of files without extents, written buffered */
        uint64_t lock_restarts;   /* writes that began anew with the exclusive lock */
        uint64_t finish_batches;  /* lists of requests that were finished together */
        uint64_t syncs;           /* fsync, fdatasync, and ends of O_DSYNC writes */
        uint64_t flushes;         /* of the device, beside those of commits */
        uint64_t commits;         /* of the journal */
        uint64_t dax_reads;       /* requests that were copies from the mapped device */
        uint64_t dax_writes;      /* and to it */
        uint64_t extent_cache_hits;
        uint64_t extent_cache_misses;
        uint64_t meta_reads;        /* metadata blocks read from the device */
        uint64_t meta_cached_bytes; /* now */
};

UEXT4_API void uext4_get_stats(struct uext4_fs *fs, struct uext4_stats *ret_stats);

/* ---- who asks -------------------------------------------------------- */

enum {
        /*
         * The caller has checked everything, as the kernel does for a FUSE file system with
         * default_permissions: the identity says whom new things belong to, and its umask is
         * applied.
         */
        UEXT4_CRED_TRUSTED = 1u << 0,
};

/*
 * An identity.  `caps` is a set of capabilities(7), 1 << CAP_x of linux/capability.h: of these
 * CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, LINUX_IMMUTABLE, MKNOD, SETFCAP,
 * SYS_ADMIN and SYS_RESOURCE mean something here.  uid 0 has none but these; ~0 is all.
 */
struct uext4_cred {
        uint32_t uid, gid;
        const uint32_t *groups; /* others that it is in */
        uint32_t nr_groups;
        uint32_t umask; /* permissions that new things do not get, but by a default ACL */
        uint64_t caps;
        uint32_t flags; /* UEXT4_CRED_* */
};

/*
 * The identity of the calling thread from now on, for all mounts, as setfsuid(2).  Returns the
 * one before.  The structure stays the caller's: it is looked at until another one is used, and
 * not to be changed meanwhile.  NULL, with which a thread begins: nobody is asked, everything
 * is allowed, and new things belong to root.
 *
 * An identity is asked for what it may by the permissions and POSIX ACLs of files and
 * directories (-EACCES), by ownership, sticky directories and capabilities (-EPERM):
 *
 *   looking up a name, paths                 to execute (search) the directory
 *   uext4_readdir                            to read it
 *   making, removing, renaming names         to write and search it; what S_ISVTX guards
 *   uext4_open, uext4_open_path              to read or write, as the flags say; the owner for
 *                                            O_NOATIME.  The handle is not asked again
 *   uext4_mknod of devices                   CAP_MKNOD
 *   uext4_setattr, flags                     the owner, and as said there
 *   extended attributes                      "user." to read or write the file; "trusted."
 *                                            CAP_SYS_ADMIN, without which they are not there;
 *                                            to set "security." CAP_SYS_ADMIN, or for
 *                                            "security.capability" CAP_SETFCAP; ACLs the owner
 *
 * A reference to an inode (uext4_inode_get()) is permission of nothing.  Writing, truncating
 * and uext4_fallocate() take S_ISUID and S_ISGID away unless it has CAP_FSETID.
 */
UEXT4_API const struct uext4_cred *uext4_cred_use(const struct uext4_cred *cred);

/* ---- inodes ---------------------------------------------------------- */

#define UEXT4_ROOT_INO 2

/*
 * Get inode `ino`; with an incarnation other than 0 only if it is that one: of the 64 bits of
 * uext4_stat.incarnation, or of the 32 of uext4_stat.generation.  -ESTALE when it is
 * free, another incarnation, or no inode at all.  What has been unlinked, and is referenced
 * still, can be got.
 */
UEXT4_API int uext4_inode_get(struct uext4_fs *fs, uint64_t ino, uint64_t incarnation,
                              struct uext4_inode **ret_inode);

/*
 * Give a reference back.  NULL is fine.  Does not block, but for the last one to an inode that
 * has no name any more: it frees that inode.
 */
UEXT4_API void uext4_inode_put(struct uext4_inode *inode);

/* Look up one name of `len` bytes in a directory.  -ENOENT, -ENOTDIR, -ENAMETOOLONG;
 * -ENOKEY when the directory is encrypted. */
UEXT4_API int uext4_lookup(struct uext4_inode *dir, const char *name, size_t len,
                           struct uext4_inode **ret_inode);

enum {
        UEXT4_NOFOLLOW = 1u << 0, /* a symlink at the end of the path is the result itself */
};

/*
 * Walk a path from the root.  Symlinks are followed inside the file system,
 * absolute ones from its root; more than 40 are -ELOOP.  A trailing slash
 * asks for a directory.
 */
UEXT4_API int uext4_resolve(struct uext4_fs *fs, const char *path, uint32_t flags,
                            struct uext4_inode **ret_inode);

struct uext4_stat {
        uint64_t ino;
        uint32_t generation;
        uint64_t incarnation; /* tells it from all that had or will have this number */
        uint32_t mode;        /* as st_mode */
        uint32_t nlink;
        uint32_t uid, gid, projid;
        uint32_t rdev_major, rdev_minor;
        uint32_t flags; /* FS_*_FL of linux/fs.h */
        uint32_t blksize;
        uint64_t size;                              /* bytes */
        uint64_t blocks;                            /* units of 512 bytes */
        struct timespec atime, mtime, ctime, btime; /* btime 0 where unknown */

        /*
         * Another number than the last time when anything has changed meanwhile that ctime
         * tells of, which may still be the same: contents, names in a directory, attributes.
         * It only grows, and is stored with the inode (i_version); what a crash undoes it
         * may count twice.
         */
        uint64_t version;

        /*
         * As statx(2) STATX_DIOALIGN: alignment, in bytes, of buffers and of
         * positions and lengths for direct I/O; both 0 when direct requests
         * of this file are served buffered (C51), both 1 when it is copied from and to
         * the device's memory (option dax).
         */
        uint32_t dio_mem_align;
        uint32_t dio_offset_align;

        /*
         * As statx(2) STATX_WRITE_ATOMIC: lengths, in bytes, that a direct write with
         * RWF_ATOMIC may have; both 0 where there is none.
         */
        uint32_t atomic_write_min;
        uint32_t atomic_write_max;

        /* As stx_attributes of statx(2): STATX_ATTR_* of linux/stat.h, and which of them this
         * file system knows. */
        uint64_t attributes, attributes_mask;
};

/* Does no I/O. */
UEXT4_API int uext4_stat(struct uext4_inode *inode, struct uext4_stat *ret_st);

/*
 * The target of a symlink, at most `size` bytes, no NUL behind it; returns its whole length.
 * -EINVAL when it is no symlink, -ENOKEY when it is encrypted.
 */
UEXT4_API ssize_t uext4_readlink(struct uext4_inode *inode, char *buf, size_t size);

/*
 * As access(2), for the thread's identity: `mask` is R_OK, W_OK, X_OK or F_OK.  -EACCES; to
 * write -EROFS, and -EPERM for what is immutable.
 */
UEXT4_API int uext4_access(struct uext4_inode *inode, int mask);

/*
 * As getxattr(2) and listxattr(2), with full names ("user.x", "security.y",
 * "system.posix_acl_access" in the form that getxattr(2) gives).  With size 0 they return
 * the size needed; -ERANGE when the buffer is too small, -ENODATA, -EOPNOTSUPP for a
 * namespace that ext4 does not have.
 */
UEXT4_API ssize_t uext4_getxattr(struct uext4_inode *inode, const char *name, void *buf,
                                 size_t size);
UEXT4_API ssize_t uext4_listxattr(struct uext4_inode *inode, char *buf, size_t size);

struct uext4_dirent {
        uint64_t ino;
        uint64_t cookie; /* hand it to uext4_readdir to go on behind this entry, at any time */
        uint8_t type;    /* DT_* of dirent.h; DT_UNKNOWN where the directory does not say */
        uint16_t name_len;
        char name[256]; /* NUL-terminated */
};

/*
 * One entry of a directory, "." and ".." first.  Start with *cookie 0; it is
 * moved on.  Returns 1, 0 at the end, or -errno.  On a damaged block the error comes
 * once and *cookie moves behind the block, so that a caller may go on.
 *
 * A cookie is good for as long as the directory is there, over mounts, too; it is positive as a
 * signed number and rises from entry to entry.  It does not matter what happens to the
 * directory in the course of a walk, whether entries come or go, or it grows from an inline
 * one to one with an index: a name that is there from the beginning to the end of the walk
 * comes exactly once.  One that is entered or removed meanwhile may come or not; renamed,
 * it is another name.  Directories that have an index, or may get one, are read in the order of
 * hashes, others in the order of their blocks.
 *
 * Two limits.  Of names that agree in all 57 bits that a cookie has of them (unless they were
 * made to, there are none) one may come twice or not at all when others of these are entered,
 * or removed without having come, in between; more than 31 of them are -EOVERFLOW, once.  And a
 * program that rewrites directories, such as e2fsck -D, makes cookies void.  Any other
 * number has an answer as well: an entry, or the end.
 */
UEXT4_API int uext4_readdir(struct uext4_inode *dir, uint64_t *cookie,
                            struct uext4_dirent *ret_entry);

/* ---- files ----------------------------------------------------------- */

/*
 * Open a regular file.  `flags`: O_RDONLY, O_WRONLY or O_RDWR, with O_DIRECT for direct I/O;
 * O_APPEND, O_DSYNC and O_SYNC for every write; O_CLOEXEC, O_NOATIME, O_LARGEFILE, O_NONBLOCK
 * are accepted.  -EISDIR, -EINVAL for other file
 * types and flags, -ENOKEY for an encrypted file.  To write: -EROFS when the mount does not
 * (uext4_info says why), -EPERM for an immutable file, one with verity, and the file
 * system's own.  The file holds its own reference to the inode.
 */
UEXT4_API int uext4_open(struct uext4_inode *inode, int flags, struct uext4_file **ret_file);
UEXT4_API int uext4_open_path(struct uext4_fs *fs, const char *path, int flags,
                              struct uext4_file **ret_file);

/* Waits for the requests of this file that are under way (their results stay on
 * their queues), then frees it.  NULL is fine. */
UEXT4_API void uext4_close(struct uext4_file *file);

/* The inode of an open file; no reference is taken. */
UEXT4_API struct uext4_inode *uext4_file_inode(struct uext4_file *file);

/*
 * As preadv2(2) at a position.  `flags`: RWF_NOWAIT (never sleeps for a lock or metadata:
 * -EAGAIN before anything was done; the data itself may be waited for), RWF_HIPRI (accepted, a
 * hint).  Other flags are -EOPNOTSUPP.  Without O_DIRECT, RWF_NOWAIT reads what is in the page
 * cache.
 *
 * With O_DIRECT, position, total length and each buffer must be aligned as
 * uext4_stat says, else -EINVAL (B27): never a silent fallback.  Returns the bytes read,
 * which end at the size that the file had at the start (B29), 0 at and past it.  What was
 * written buffered to the range is written back first; an error of that is the read's, as of
 * uext4_fsync.
 */
UEXT4_API ssize_t uext4_preadv2(struct uext4_file *file, const struct iovec *iov, int nr_iov,
                                uint64_t pos, int flags);
UEXT4_API ssize_t uext4_pread(struct uext4_file *file, void *buf, size_t len, uint64_t pos);

/*
 * As pwritev2(2) at a position, to a file that is open for writing (-EBADF).  `flags`:
 * RWF_DSYNC, RWF_SYNC, RWF_APPEND (as the O_ flags of open), RWF_HIPRI (a hint), RWF_NOWAIT:
 * -EAGAIN before anything was done, unless the range is one mapping inside the size;
 * RWF_ATOMIC: after a power cut all of it is there, or nothing.  Others are -EOPNOTSUPP.
 *
 * RWF_ATOMIC goes with O_DIRECT, where the device can do it and uext4_stat gives a length: else
 * -EOPNOTSUPP.  The request has such a length, and a position that is a multiple of it:
 * -EINVAL. -EAGAIN: memory that others hold is in the way.
 *
 * With O_DIRECT, alignment is as for reads, else -EINVAL.  Files that uext4_stat gives an
 * alignment of 0 are written buffered; so are holes of files without extents (ext2, ext3).
 * Without O_DIRECT any position and memory will do; RWF_NOWAIT is -EOPNOTSUPP then.
 *
 * Returns the bytes written; fewer than asked for when space ran out, or an error came,
 * behind them.  They can be read from now on, and those of direct requests are on the device;
 * they are durable after uext4_fdatasync(), or with O_DSYNC, also of the request.  What is
 * written buffered has its space then, so that ENOSPC comes from here and not later (but see
 * `nodelalloc`); an error of its writing back is told by uext4_fsync().  -ENOSPC, -EFBIG;
 * -EPERM, -EROFS.
 */
UEXT4_API ssize_t uext4_pwritev2(struct uext4_file *file, const struct iovec *iov, int nr_iov,
                                 uint64_t pos, int flags);
UEXT4_API ssize_t uext4_pwrite(struct uext4_file *file, const void *buf, size_t len,
                               uint64_t pos);

/*
 * As copy_file_range(2): copy `len` bytes of `in` from in_pos on to out_pos of `out`, which may
 * be the same file where the ranges do not overlap (-EINVAL).  Through the page cache, also of
 * files that are open with O_DIRECT; holes become zeros.  Returns the bytes copied, which end
 * where `in` ends, or behind which an error came; 0 at the end of `in`.  -EBADF: not open for
 * that, or `out` with O_APPEND; -EXDEV: of two mounts; and as reads and writes.
 */
UEXT4_API ssize_t uext4_copy_range(struct uext4_file *in, uint64_t in_pos,
                                   struct uext4_file *out, uint64_t out_pos, size_t len);

/*
 * Make durable what was written, with what it takes to find it (fdatasync), and the times
 * (fsync): from whichever open file.  The file may be open read-only.  On a mount that does
 * not write it does nothing.  -EROFS when an error has ended writing.
 *
 * An error of writing back what was written buffered is told to each file that was open then,
 * once, whoever met it; the data it was about is lost.  -EIO and others; -ENOSPC when the free
 * space that the write had been promised is found damaged.
 */
UEXT4_API int uext4_fsync(struct uext4_file *file);
UEXT4_API int uext4_fdatasync(struct uext4_file *file);

/* fsync of what cannot be opened: a directory. */
UEXT4_API int uext4_fsync_inode(struct uext4_inode *inode);

/* lseek(2) with SEEK_DATA or SEEK_HOLE: the new position, or -ENXIO at or past the end. */
UEXT4_API int64_t uext4_seek(struct uext4_file *file, uint64_t pos, int whence);

/*
 * The extents that touch [pos, pos + len), as FS_IOC_FIEMAP gives them: at most `max` of them,
 * FIEMAP_EXTENT_LAST on the file's last.  With max 0 they are counted.  Returns how many.
 * -EFBIG when pos is beyond what the file can have.
 */
UEXT4_API int uext4_fiemap(struct uext4_file *file, uint64_t pos, uint64_t len,
                           struct fiemap_extent *extents, unsigned max);

/* ---- changes --------------------------------------------------------- */

/*
 * All of these may block, on the device and for a commit of the journal; they take the inode
 * lock, exclusive, and wait for requests of the file that are under way (C11).  Each is a
 * transaction, or more where it says so: after a power cut a transaction is there wholly or not
 * at all, in their order.  It is there for certain when uext4_syncfs() or uext4_unmount() has
 * returned after it.
 *
 * -EROFS when the mount does not write, or an error has ended its writing; -EUCLEAN, -EBADMSG,
 * -EIO when what is on disk is damaged, or the device fails.  Whether the caller may is asked
 * for an identity only (uext4_cred_use()): -EACCES, -EPERM.  What the inode's flags forbid is
 * -EPERM for everybody.
 */

/*
 * Set the size, in bytes, of a file that is open for writing (-EBADF).  What is cut off is
 * freed; bytes that are added read as zeros (C23).  -EFBIG beyond what the file can have,
 * -EINVAL beyond INT64_MAX, -EPERM for an append-only file.
 *
 * The new size is one transaction.  The space behind it is freed in that and further ones: a
 * power cut between them is made good at the next mount (J48).  A size that cuts
 * through a block with data in it waits until it is durable.
 */
UEXT4_API int uext4_truncate(struct uext4_file *file, uint64_t size);

/*
 * As fallocate(2), on a file that is open for writing (-EBADF): `mode` is one of the
 * FALLOC_FL_* of linux/falloc.h or 0, pos and len are bytes, len > 0 (-EINVAL).
 *
 * - 0: allocate what is not; the size grows to pos + len
 * - FALLOC_FL_ZERO_RANGE: the range becomes zeros that need no room on the device
 * - FALLOC_FL_KEEP_SIZE, with either of these: the size stays, space behind it too
 * - FALLOC_FL_PUNCH_HOLE with KEEP_SIZE: free what is whole blocks, zero the rest; nothing is
 *   done behind the end of the file
 * - FALLOC_FL_WRITE_ZEROES: allocate, and write zeros to the device
 * - FALLOC_FL_COLLAPSE_RANGE: take the range out, what is behind it moves down
 * - FALLOC_FL_INSERT_RANGE: insert a hole, what is behind pos moves up
 *
 * Collapse and insert need whole clusters and a range, or pos, before the end of the file:
 * -EINVAL.  Other modes, FALLOC_FL_UNSHARE_RANGE among them, and all but punching for
 * a file with an indirect map (ext2, ext3), are -EOPNOTSUPP.  -EFBIG; -EPERM for an append-only
 * file, but for allocating; -ENOSPC, after waiting for space that the journal gives back (B16):
 * what was allocated stays, and the size covers it.  What of the file is in the page cache only
 * is written back first: when that fails, its error, and nothing else has been done.
 *
 * New space is unwritten: whatever was on the device there is never seen.  A large range takes
 * more than one transaction; a power cut leaves the first part done (of collapse and insert in
 * a file of very many extents, a part moved).  Zeros that replace bytes within blocks go to the
 * device at once, as data do.
 */
UEXT4_API int uext4_fallocate(struct uext4_file *file, int mode, uint64_t pos, uint64_t len);

/*
 * Remove the name of `len` bytes, of anything but a directory, from a directory.  -ENOENT,
 * -ENOTDIR, -EISDIR, -ENAMETOOLONG, -ENOKEY (encrypted); -EPERM when the directory or what the
 * name leads to is immutable or append-only.  One transaction.
 *
 * What has no name any more lives until the last reference to it is given back, in this
 * process: that frees its space, in transactions of its own, and may block.  A power cut before
 * leaves that to the next mount (J45).
 */
UEXT4_API int uext4_unlink(struct uext4_inode *dir, const char *name, size_t len);

/*
 * Make something new, with a name of `len` bytes in a directory.  `mode` has the permissions,
 * of which an identity's umask, or the directory's default ACL, may take some; of uext4_mknod
 * also the type: S_IFREG, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK, with the numbers of a device.  A
 * symlink's target is target_len bytes, at most 4095 and less than a block.  It belongs to the
 * thread's identity, or to root; in a directory with S_ISGID the group is the directory's.
 * *ret_inode is a reference to put; ret_inode may be NULL.
 *
 * -EEXIST, -ENOSPC (no space, or no inode), -ENAMETOOLONG, -EINVAL; -EMLINK for more
 * directories in one than it can count; -ENOENT in a directory that has been removed; -ENOKEY
 * in an encrypted one, -EOPNOTSUPP in one that ignores case (said to the log), -EPERM in an
 * immutable one.  One transaction each.
 */
UEXT4_API int uext4_create(struct uext4_inode *dir, const char *name, size_t len, uint32_t mode,
                           struct uext4_inode **ret_inode);
UEXT4_API int uext4_mknod(struct uext4_inode *dir, const char *name, size_t len, uint32_t mode,
                          uint32_t rdev_major, uint32_t rdev_minor,
                          struct uext4_inode **ret_inode);
UEXT4_API int uext4_mkdir(struct uext4_inode *dir, const char *name, size_t len, uint32_t mode,
                          struct uext4_inode **ret_inode);
UEXT4_API int uext4_symlink(struct uext4_inode *dir, const char *name, size_t len,
                            const char *target, size_t target_len,
                            struct uext4_inode **ret_inode);

/*
 * A file without a name, as open(2) with O_TMPFILE: as if it were made in `dir`.  `flags`: 0,
 * or O_EXCL, with which it never gets a name.  It goes, with what was written to it, when the
 * last reference is given back, and at the next mount after a power cut, unless uext4_link()
 * has given it a name; that is one transaction: the file has a name, or is gone.
 *
 * Errors as of uext4_create; -EINVAL for other flags.
 */
UEXT4_API int uext4_tmpfile(struct uext4_inode *dir, uint32_t mode, int flags,
                            struct uext4_inode **ret_inode);

/*
 * One more name for what is no directory (-EPERM).  -ENOENT for what has no name, but see
 * uext4_tmpfile(); -EMLINK, -EXDEV (of another file system, or
 * another project than the directory hands on); -EPERM for what is immutable or append-only;
 * and as for uext4_create.  One transaction.
 */
UEXT4_API int uext4_link(struct uext4_inode *inode, struct uext4_inode *dir, const char *name,
                         size_t len);

/* Remove an empty directory: -ENOTEMPTY, -ENOTDIR, -EINVAL for "."; as uext4_unlink. */
UEXT4_API int uext4_rmdir(struct uext4_inode *dir, const char *name, size_t len);

/*
 * As renameat2(2).  `flags`: RENAME_NOREPLACE (-EEXIST when the new name is there) and
 * RENAME_WHITEOUT (the old name then leads to a character device 0, 0 without permissions, in
 * the same transaction), or RENAME_EXCHANGE alone; others are -EINVAL.  What the new name led
 * to loses that name: -EISDIR, -ENOTDIR, -ENOTEMPTY.  Two names of the same file stay as they
 * are.  -EINVAL for a directory into itself or what is in it, -EBUSY for "." and "..", -EXDEV
 * as uext4_link; and as for uext4_create and uext4_unlink.  One transaction: after a power cut
 * everything is as before, or all of it is done.
 */
UEXT4_API int uext4_rename(struct uext4_inode *old_dir, const char *old_name, size_t old_len,
                           struct uext4_inode *new_dir, const char *new_name, size_t new_len,
                           unsigned flags);

/*
 * As setxattr(2) and removexattr(2), on an inode, with full names; `flags`: 0, XATTR_CREATE or
 * XATTR_REPLACE.  One transaction: after a power cut the old value is there, or all of the new
 * one; durable with uext4_syncfs() or an fsync of the file.
 *
 * A value lies in the inode, in an attribute block, or, if the file system has the feature
 * ea_inode, in an inode of its own: -ENOSPC for what has no room in these, -E2BIG for more
 * than 64 KiB.  POSIX ACLs have the form that uext4_getxattr() gives: -EINVAL if they are
 * not valid, -EOPNOTSUPP for symlinks, -EACCES for a default ACL of what is no directory; an
 * access ACL sets the permissions of the mode, too.  What is made in a directory with a default
 * ACL inherits it.
 *
 * -EEXIST, -ENODATA; -EPERM for "user." attributes of what is neither file nor directory, and
 * for what is immutable or append-only; -EOPNOTSUPP, -EINVAL, -ERANGE for names; -EINVAL for a
 * "security.capability" that is none; -EROFS, -EIO, -EUCLEAN, -ENOMEM.
 */
UEXT4_API int uext4_setxattr(struct uext4_inode *inode, const char *name, const void *value,
                             size_t size, int flags);
UEXT4_API int uext4_removexattr(struct uext4_inode *inode, const char *name);

enum {
        UEXT4_SET_MODE = 1u << 0,
        UEXT4_SET_UID = 1u << 1,
        UEXT4_SET_GID = 1u << 2,
        UEXT4_SET_ATIME = 1u << 3,
        UEXT4_SET_MTIME = 1u << 4,
};

struct uext4_setattr {
        uint32_t mask; /* UEXT4_SET_*: which of the following */
        uint32_t mode; /* the permissions, 07777; other bits are not looked at */
        uint32_t uid, gid;
        struct timespec atime, mtime; /* tv_nsec UTIME_NOW: the time of day */
};

/*
 * Change what is in the mask, as chmod(2), chown(2) and utimensat(2), all in one transaction.
 * The change time becomes now.  (The size has uext4_truncate().)
 *
 * Changing the owner or the group of what is no directory takes S_ISUID from the mode, and
 * S_ISGID where the group may execute, unless a mode is given, too, which is then the mode; and
 * the attribute "security.capability", in a transaction before.  Changing the mode changes the
 * access ACL, if there is one.
 *
 * Times are kept as fine as the inode can: nanoseconds until the year 2446, or, in inodes of
 * 128 bytes, seconds until 2038.  What is outside becomes the nearest that is inside.
 *
 * -EINVAL for an unknown bit or tv_nsec, -EPERM for what is immutable or append-only (but for
 * setting both times to now, for the latter), -EOPNOTSUPP for the mode of a symlink.  An
 * identity: -EPERM, and -EACCES for setting both times to now.
 */
UEXT4_API int uext4_setattr(struct uext4_inode *inode, const struct uext4_setattr *attr);

/*
 * As the ioctls FS_IOC_GETFLAGS and FS_IOC_SETFLAGS: FS_*_FL of linux/fs.h, of a file or a
 * directory (-ENOTTY for others).  What the caller cannot set, such as FS_INDEX_FL, must be as
 * it is, or is left alone, as there.
 *
 *   FS_IMMUTABLE_FL, FS_APPEND_FL   enforced by all calls, for handles that are open as well
 *   FS_NOATIME_FL, FS_NODUMP_FL     no access time; for programs
 *   FS_SYNC_FL, FS_DIRSYNC_FL       changes are durable when the call returns: all of it; of a
 *                                   directory's names
 *   FS_JOURNAL_DATA_FL              the file's data goes through the journal: a transaction of
 *                                   its own before, which waits for requests under way
 *   FS_EXTENT_FL                    -EOPNOTSUPP to change
 *   FS_PROJINHERIT_FL               what is made in the directory is of its project
 *   FS_DAX_FL                       how a mount with `dax` uses the file, from the next time
 *                                   that it is read from disk on
 *   FS_CASEFOLD_FL                  -EOPNOTSUPP to change
 *
 * One transaction.  -EPERM for an identity that is not the owner, without CAP_LINUX_IMMUTABLE
 * for the first two, without CAP_SYS_RESOURCE for data journalling; -EROFS, -EOPNOTSUPP;
 * -EDEADLK as uext4_truncate() has it with leases.
 */
UEXT4_API int uext4_get_flags(struct uext4_inode *inode, uint32_t *ret_flags);
UEXT4_API int uext4_set_flags(struct uext4_inode *inode, uint32_t flags);

/*
 * As FS_IOC_FSGETXATTR and FS_IOC_FSSETXATTR, with struct fsxattr of linux/fs.h: FS_XFLAG_*
 * and the project.  Setting looks at fsx_xflags and fsx_projid.  -EOPNOTSUPP for another
 * project where the file system has none (the feature `project`, inodes of 256 bytes).
 */
struct fsxattr;
UEXT4_API int uext4_get_fsxattr(struct uext4_inode *inode, struct fsxattr *ret_attr);
UEXT4_API int uext4_set_fsxattr(struct uext4_inode *inode, const struct fsxattr *attr);

/* As FS_IOC_GETVERSION: the generation, which tells this inode from others of its number.  It
 * has nothing to do with uext4_stat.version. */
UEXT4_API int uext4_get_version(struct uext4_inode *inode, uint32_t *ret_version);

/* Make everything durable that was changed before this call, as syncfs(2). */
UEXT4_API int uext4_syncfs(struct uext4_fs *fs);

/* ---- pages on loan --------------------------------------------------- */

struct uext4_loan;

/*
 * Bytes of a file from pos on where they are in the page cache, without a copy: returns how
 * many, at most len, in iov[0 .. max_iov - 1], which are filled from the front; fewer where the
 * file or the vector ends, 0 (and no loan) at and behind the end of the file.  What is not in
 * memory is read first; reading ahead makes the pieces longer.
 *
 * The memory is to be read only, until uext4_loan_end().  It has what the file had, or has been
 * given since by writes that were not direct: who wants it not to change keeps writers away.
 * Truncating, removing or writing directly leaves it as it is.  Lent memory counts in the
 * bound `page_cache`, and cannot be reclaimed.  The mount stays busy.
 *
 * -EBADF, -EINVAL; -EOPNOTSUPP for files that do not use the page cache: inline data, data
 * journalling, dax; and as a read.
 */
UEXT4_API ssize_t uext4_lend(struct uext4_file *file, uint64_t pos, size_t len,
                             struct iovec *iov, int max_iov, struct uext4_loan **ret_loan);

/* The memory is used no more.  Any thread; NULL is fine. */
UEXT4_API void uext4_loan_end(struct uext4_loan *loan);

/* ---- files as memory ------------------------------------------------- */

struct uext4_lease; /* a range of a file that is used in place */

enum {
        UEXT4_LEASE_WRITE = 1u << 0, /* the bytes will be changed, too */
};

struct uext4_lease_params {
        uint64_t pos, len; /* bytes of the file */
        uint32_t flags;    /* UEXT4_LEASE_* */

        /*
         * Somebody waits for the end of this lease: asked once, by the thread that waits, which
         * holds no lock.  The function may end the lease itself, or see to it that it ends
         * soon.  It is not running any more when uext4_unmap_lease() returns (unless that was
         * called from inside).  NULL: who waits just does.
         */
        void (*recall)(void *arg);
        void *arg;
};

/*
 * The bytes of a file from pos on as memory, on a mount with `dax`: returns how many, 0 < n <=
 * len, and where in *ret_addr.  They end at the end of the file, and where the next byte lies
 * elsewhere on the device.  The memory is the device's: what is stored there is in the file at
 * once, what is written to the file can be seen there, and fsync makes both durable.  It is
 * not to be stored to without UEXT4_LEASE_WRITE, nor beyond the n bytes.
 *
 * The pointer is good until uext4_unmap_lease(), whatever is done with the file.  What would
 * give these bytes another place or none waits until then: truncating before their end, and of
 * the modes of uext4_fallocate() those that zero or free any of them, and to collapse or insert
 * before their end.  They first ask by way of `recall`; and are -EDEADLK, with nothing
 * done, in a thread that took such a lease itself and has not ended it then.  The file
 * can be closed, and unlinked; it cannot be unmounted (-EBUSY).
 *
 * For writing, holes and unwritten space become blocks of zeros; the file must be open for that
 * (-EBADF); -ENOSPC and others as a write.  For reading they are -ENXIO (uext4_seek() finds
 * data), and so is a position at or behind the end.  -EOPNOTSUPP for a file that is not
 * read and written by copying; -EINVAL.
 */
UEXT4_API ssize_t uext4_map_lease(struct uext4_file *file,
                                  const struct uext4_lease_params *params, void **ret_addr,
                                  struct uext4_lease **ret_lease);

/* The memory is not used any more.  Any thread; NULL is fine. */
UEXT4_API void uext4_unmap_lease(struct uext4_lease *lease);

/* ---- queues ---------------------------------------------------------- */

enum uext4_req_op {
        UEXT4_READ,
        UEXT4_WRITE,
};

/* Of a request. */
enum {
        UEXT4_REQ_FIXED = 1u << 0, /* all of its memory is in the registered buffer `buffer` */
};

struct uext4_request {
        enum uext4_req_op op;
        int flags;               /* RWF_*, as for uext4_preadv2 and uext4_pwritev2 */
        struct uext4_file *file; /* of the queue's mount: -EXDEV */
        const struct iovec *iov; /* vector and buffers stay until the completion is fetched */
        int nr_iov;
        uint64_t pos;
        void *user_data;  /* comes back with the completion */
        uint32_t options; /* UEXT4_REQ_* */
        uint32_t buffer;  /* with UEXT4_REQ_FIXED: its number */
};

struct uext4_completion {
        void *user_data;
        int64_t result; /* bytes, or -errno */
};

/* A queue for `depth` requests (1 .. 65536) under way or finished and not yet fetched. */
UEXT4_API int uext4_queue_new(struct uext4_fs *fs, unsigned depth,
                              struct uext4_queue **ret_queue);

/* Cancels and waits for what is under way, drops unfetched completions, frees.  NULL is fine.
 */
UEXT4_API void uext4_queue_free(struct uext4_queue *queue);

/*
 * Register memory that will be used for many requests of this queue, so that the host need not
 * look at it for each: 1 .. UEXT4_MAX_BUFFERS buffers, numbered from 0.  They stay the
 * caller's, and in place, until they are unregistered or the queue is freed; the vector is
 * copied.  Where the device has no use for it nothing becomes faster.
 *
 * A request says with UEXT4_REQ_FIXED in which of them it lies, and is -EINVAL if it does not.
 * One element of its vector that becomes one request of the device is what it is good for;
 * others are served as ever.
 *
 * -EBUSY while requests of the queue are under way, or when there are buffers already; -EINVAL
 * for none, too many, or an empty one; -ENOMEM, also when the host does not lock so much memory
 * (RLIMIT_MEMLOCK).
 */
UEXT4_API int uext4_queue_register(struct uext4_queue *queue, const struct iovec *buffers,
                                   unsigned nr);
UEXT4_API int uext4_queue_unregister(struct uext4_queue *queue); /* none: 0 */

/*
 * Submit up to `nr` requests; returns how many were taken, fewer when the depth is reached
 * (-EAGAIN when none could be).  An error of a request itself comes as its
 * completion.  When this returns all taken requests are started.
 */
UEXT4_API int uext4_queue_submit(struct uext4_queue *queue, const struct uext4_request *reqs,
                                 unsigned nr);

/*
 * Fetch up to `max` completions.  Waits until there are `min` of them, or nothing
 * is under way any more, or timeout_ns nanoseconds have passed (negative: for ever, 0: do not
 * wait).  Returns how many; -errno when the queue of the device is broken, and there is none to
 * fetch.
 */
UEXT4_API int uext4_queue_wait(struct uext4_queue *queue, struct uext4_completion *completions,
                               unsigned min, unsigned max, int64_t timeout_ns);

/*
 * A descriptor (eventfd) to poll for reading; when it is readable, read it and
 * call uext4_queue_wait with min 0.  Owned by the queue.  -errno on failure.
 */
UEXT4_API int uext4_queue_eventfd(struct uext4_queue *queue);

/* ---- the journal ---- */

struct uext4_recovery {
        int was_needed;           /* 0: the journal was empty, nothing was changed */
        uint32_t first_tid;       /* of the log */
        uint32_t nr_transactions; /* replayed */
        uint64_t nr_blocks;       /* copied to their places */
        uint64_t nr_revokes;      /* revoke records read */
        uint64_t nr_skipped;      /* copies that a revoke record made void */
};

/*
 * Replay the journal of the image in its place and mark the image clean of it, durably.  Opens
 * the device for writing.  Can be cut at any moment and begun anew (J35).  Mount options that
 * matter: sb, offset, journal_path.  -EBADMSG, -EUCLEAN the journal is damaged; -EOPNOTSUPP it
 * needs something that this library does not have (fast commits): both are said to the log, and
 * nothing was changed, except that copies with a wrong checksum are found while others are
 * written (J29).
 */
UEXT4_API int uext4_recover(const char *uri, const struct uext4_mount_params *params,
                            struct uext4_recovery *ret_recovery);

struct uext4_journal; /* a look at the log; one thread at a time */

struct uext4_journal_info {
        uint32_t block_size;  /* bytes */
        uint32_t nr_blocks;   /* of the journal, its superblock included */
        uint32_t first, last; /* the log is the blocks first .. last - 1 */
        uint32_t nr_fast_commit_blocks;
        uint32_t start;           /* block where the log begins; 0: it is empty */
        uint32_t sequence;        /* first tid expected there */
        uint32_t error;           /* errno that an aborted journal left; 0 none */
        uint32_t nr_transactions; /* complete ones in the log */
        uint8_t uuid[16];
        char features[160]; /* names as in dumpe2fs(8), separated by blanks */
        char end[80];       /* why the log ends where it ends */
};

enum uext4_journal_kind {
        UEXT4_JOURNAL_BLOCK,  /* a copy of a block */
        UEXT4_JOURNAL_REVOKE, /* copies of a block up to this tid are void */
        UEXT4_JOURNAL_COMMIT, /* the end of a transaction */
};

struct uext4_journal_entry {
        enum uext4_journal_kind kind;
        uint32_t tid;
        uint32_t log_block; /* where in the journal: the copy, or the block with the record */
        uint64_t fs_block;  /* BLOCK, REVOKE: of the file system */
        int escaped;        /* BLOCK: it began like a block of the journal (J9) */
        int csum_ok;        /* 0: its checksum does not match */
        int complete;       /* 0: its transaction has no valid commit, recovery ignores it */
        int64_t sec;        /* COMMIT: when */
        uint32_t nsec;
};

/*
 * Open the journal of an image for looking; nothing is changed.  Mount options as for
 * uext4_recover.  -ENODATA when the file system has none.
 */
UEXT4_API int uext4_journal_open(const char *uri, const struct uext4_mount_params *params,
                                 struct uext4_journal **ret_journal);
UEXT4_API void uext4_journal_get_info(const struct uext4_journal *journal,
                                      struct uext4_journal_info *ret_info);

/* The next entry in the order of the log: 1, 0 at the end, -errno. */
UEXT4_API int uext4_journal_next(struct uext4_journal *journal,
                                 struct uext4_journal_entry *ret_entry);
UEXT4_API void uext4_journal_close(struct uext4_journal *journal); /* NULL is fine */

#ifdef __cplusplus
}
#endif
#endif
