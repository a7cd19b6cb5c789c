/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_MOUNT_OPTIONS_H
#define UEXT4_CLI_MOUNT_OPTIONS_H

/*
 * mount_options.h - the options of `uext4 mount`, in the spelling of mount(8), ext4(5) and
 * mount.fuse3(8), told apart by who reads them: the library, the kernel, the server, us.
 */

#include <stdbool.h>
#include <stdint.h>

enum mount_sandbox {
        MOUNT_SANDBOX_IF_POSSIBLE,
        MOUNT_SANDBOX_ALWAYS,
        MOUNT_SANDBOX_NEVER,
};

struct mount_options {
        /* for the library */
        char *library;   /* without `offset`, which the device is cut by */
        char *journal;   /* the value of journal_path, NULL for none */
        uint64_t offset; /* bytes */
        bool is_read_only;

        /* for the kernel */
        unsigned long flags; /* MS_* */
        char *fsname;        /* NULL: the image */
        char *subtype;       /* NULL: uext4 */
        bool allow_other;
        bool default_permissions;

        /* for the server */
        bool allow_root; /* the kernel lets all in, the server only root and us */
        char *cache;     /* NULL: its default */
        unsigned nr_threads;
        bool debug;

        enum mount_sandbox sandbox;
};

/* As `uext4 mount` begins: to write, without set-user-ID programs and devices. */
void mount_options_init(struct mount_options *o);

/*
 * Read a list.  The first option that is wrong is returned, to be freed, with the reason in
 * *ret_why, and ends it; NULL: all are right, as far as can be told without the library, which
 * judges the values of its own.
 */
char *mount_options_parse(struct mount_options *o, const char *list, const char **ret_why);

void mount_options_free(struct mount_options *o);

/* The flags as words for fusermount3(1), to be freed: "ro,noexec". */
char *mount_options_flag_words(unsigned long flags);

#endif
