/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_FUSE_SERVER_H
#define UEXT4_FUSE_SERVER_H

/*
 * server.h - a mounted file system, served to the kernel by FUSE.
 *
 * The order of calls: uext4_mount(), fuse_server_new(), fuse_server_run(), fuse_server_free(),
 * uext4_unmount().  Between new and run the process may fork into the background (new starts no
 * thread), give up privileges, and enter a sandbox: everything that must be opened is open by
 * then.  docs/mount.md says how it works.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "uext4.h"

struct fuse_server;

/* How the kernel caches the contents of files that are opened without O_DIRECT. */
enum fuse_cache {
        FUSE_CACHE_AUTO,      /* what was read stays, what is written goes through at once */
        FUSE_CACHE_NONE,      /* nothing: each read and write is a request */
        FUSE_CACHE_WRITEBACK, /* as AUTO, but written pages may stay in the kernel for a while
                               */
};

/* What reading does to access times: as the file system has been mounted. */
enum fuse_atime {
        FUSE_ATIME_RELATIVE,
        FUSE_ATIME_NEVER, /* also of a read-only mount */
        FUSE_ATIME_STRICT,
};

struct fuse_server_options {
        const char *mountpoint; /* or "/dev/fd/N": the channel, open and mounted already */
        const char *source;     /* as /proc/self/mountinfo shows it; NULL: "uext4" */
        const char *subtype;    /* the type is "fuse.SUBTYPE"; NULL: "uext4" */
        const char
                *fuse_options; /* a list as mount.fuse3(8) has it, of allow_other, ro, nosuid,
                                * ...; not what has a field here */
        enum fuse_cache cache;
        enum fuse_atime atime;

        /* Requests served at the same time; 0: a number that suits the machine. */
        unsigned nr_threads;

        /*
         * The kernel asks whether callers may, with capabilities and ACLs; this is what one
         * wants.  Without: the library asks, by user, group and the supplementary groups that
         * /proc/PID/status of the caller shows; only uid 0 has capabilities.
         */
        bool default_permissions;

        /* Of those whom allow_other lets in only root may do anything, beside our own user. */
        bool allow_root;

        bool debug; /* each request on stderr */
};

/*
 * Open the channel, mount, and make ready to serve; no thread is started.  -EINVAL for options
 * that libfuse does not know, and whatever mounting says; libfuse says more to stderr.
 */
int fuse_server_new(struct uext4_fs *fs, const struct fuse_server_options *options,
                    struct fuse_server **ret_server);

/*
 * Serve until the file system is unmounted, or until fuse_server_stop().  0, or -errno when the
 * channel has failed.  Its threads have all signals blocked; they have ended when it returns.
 * Once only.
 */
int fuse_server_run(struct fuse_server *server);

/*
 * Make fuse_server_run() return when the requests that are being served have been.  Others get
 * an error; pages that the kernel has not written back yet (FUSE_CACHE_WRITEBACK) are lost, so
 * it is better to unmount.  For signal handlers, too; may be called before run.
 */
void fuse_server_stop(struct fuse_server *server);

/*
 * Unmount, if it is still mounted, and free.  All inodes and files are given back, so that
 * uext4_unmount() succeeds.  NULL is fine.
 */
void fuse_server_free(struct fuse_server *server);

/* Counters since fuse_server_new(), of one kind of request each. */
struct fuse_server_stat {
        const char *name;  /* "lookup", "read", ...; static */
        uint64_t requests; /* that have been answered */
        uint64_t errors;   /* of these, with an error */
        uint64_t bytes;    /* of contents read or written */
};

/*
 * Write at most `max` counters, those that are not 0 alone, to `ret_stats`; returns how many.
 * Any thread, while it serves.  Slightly old numbers are all that can happen.
 */
size_t fuse_server_stats(const struct fuse_server *server, struct fuse_server_stat *ret_stats,
                         size_t max);

#endif
